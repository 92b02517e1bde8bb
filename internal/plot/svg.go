package plot

import (
	"fmt"
	"html"
	"html/template"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns text as it can be shown anywhere: without control characters and those that turn the direction of
// writing, and with valid UTF-8 alone.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfffe, r == 0xffff:
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// Clip shortens text to so many letters, the last of which then is an ellipsis.
func Clip(s string, letters int) string {
	n := 0
	for i := range s {
		if n++; n == letters {
			if _, size := utf8.DecodeRuneInString(s[i:]); i+size < len(s) {
				return s[:i] + "…"
			}
		}
	}
	return s
}

// A drawing is markup in the making. Its methods escape what they are given.
type drawing struct{ strings.Builder }

// raw writes markup. Arguments must be numbers, names of classes, or what text made.
func (d *drawing) raw(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func text(s string) string { return html.EscapeString(Clean(s)) }

// open begins the picture, with what it is called and what it says in words.
func (d *drawing) open(id, class, attributes, name, desc string) {
	d.raw(`<svg class="%s" role="img" aria-labelledby="%s-name %s-desc"%s>`, class, id, id, attributes)
	d.raw(`<title id="%s-name">%s</title><desc id="%s-desc">%s</desc>`, id, text(name), id, text(desc))
}

func (d *drawing) html() template.HTML { return template.HTML(d.String()) }

// nothing says that there is nothing to draw.
func nothing(name string) template.HTML {
	return template.HTML(`<p class="plot-nothing">` + text(name) + `: nothing was measured.</p>`)
}

// percent writes a place of 0 to 1.
func percent(at float64) string { return short(100*at, 2) + "%" }

// short writes a number with so many decimals, without zeros at its end.
func short(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// style is the class of the n-th colour and dash.
func style(n int) string { return "plot-" + strconv.Itoa(n%MaxLines+1) }
