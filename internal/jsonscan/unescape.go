package jsonscan

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// UnescapeMin is the least room in dst with which [Unescape] makes progress.
const UnescapeMin = utf8.UTFMax

// Unescape decodes from src, the inside of a scanned string, into dst until src is used up or dst has less
// than [UnescapeMin] bytes left, and returns how far it got in both. It stops between characters of
// escapes, but anywhere in a plain run. Decoding is encoding/json's: a surrogate without its partner
// becomes U+FFFD. An src that no scan has accepted decodes to something, within bounds.
func Unescape(dst, src []byte) (written, read int) {
	d, s := 0, 0
	for s < len(src) && len(dst)-d >= UnescapeMin {
		run := src[s : s+min(len(src)-s, len(dst)-d)]
		if n := bytes.IndexByte(run, '\\'); n >= 0 {
			run = run[:n]
		}
		d, s = d+copy(dst[d:], run), s+len(run)
		if s == len(src) || len(dst)-d < utf8.UTFMax {
			break
		}
		n, m := unescapeOne(dst[d:], src[s:])
		d, s = d+n, s+m
	}
	return d, s
}

// unescapeOne decodes the escape at the start of src into dst, which has room for any character.
func unescapeOne(dst, src []byte) (written, read int) {
	if len(src) < 2 {
		dst[0] = src[0]
		return 1, 1
	}
	c := src[1]
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, n := hex4(src), 6
		if utf16.IsSurrogate(r) {
			var low rune = -1
			if len(src) > 6 {
				low = hex4(src[6:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				n = 12
			}
		}
		return utf8.EncodeRune(dst, r), min(n, len(src))
	}
	dst[0] = c
	return 1, 2
}

// hex4 returns the code unit of the \u escape (four hexadecimal digits) at the start of src, or -1 if there is none.
func hex4(src []byte) rune {
	if len(src) < 6 || src[0] != '\\' || src[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range src[2:6] {
		h := unhex(c)
		if h < 0 {
			return -1
		}
		r = r<<4 | h
	}
	return r
}

func unhex(c byte) rune {
	switch {
	case c-'0' <= 9:
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// AppendUnescaped appends the decoded src, the inside of a scanned string, to dst.
func AppendUnescaped(dst, src []byte) []byte {
	// Decoding never lengthens: the shortest escape of the longest character is as long as it.
	for len(src) > 0 {
		if cap(dst)-len(dst) < len(src)+UnescapeMin {
			dst = append(make([]byte, 0, len(dst)+len(src)+UnescapeMin), dst...)
		}
		n, m := Unescape(dst[len(dst):cap(dst)], src)
		dst, src = dst[:len(dst)+n], src[m:]
	}
	return dst
}

// AppendString appends s as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == 0x7F:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
