package workeradapter

import (
	"bytes"
	"io"
	"mime/multipart"
	"slices"
	"testing"
)

// FuzzForm compares with the standard library's reader, which copies what it reads. What it understands to the end, written with
// the line ends that forms have, must be found; and an edit changes nothing else.
func FuzzForm(f *testing.F) {
	const field = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
	for _, seed := range []string{field + "x\r\n--b--\r\n", field + "\r\n" + field + "y\r\n--b--", "--b\r\n\r\n\r\n--b--\r\n", "--b\r\n--b--", "pre\r\n" + field + "--bb\r\n\r\n--b--\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := slowFields(body)
		form := readForm("multipart/form-data; boundary=b", body, "model")
		var got []string
		for _, v := range form.values {
			got = append(got, string(body[v.start:v.end]))
		}
		if ok && !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", body, got, want)
		}
		edited := bytes.Join(form.with(body, "other"), nil)
		if again, still := slowFields(edited); ok && len(got) > 0 && edited != nil && (!still || len(again) != len(got) || slices.ContainsFunc(again, func(s string) bool { return s != "other" })) {
			t.Fatalf("%q edited is %q: %q", body, edited, again)
		}
	})
}

func slowFields(body []byte) (values []string, ok bool) {
	if !bytes.Equal(bytes.ReplaceAll(body, []byte("\r\n"), nil), bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r"), nil), []byte("\n"), nil)) {
		return nil, false // a line end of another kind
	}
	if bytes.Contains(body, []byte("\r\n\r\n--b")) {
		return nil, false // a value without even the line end that belongs to what follows it
	}
	r := multipart.NewReader(bytes.NewReader(body), "b")
	for {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return values, true
		}
		if err != nil {
			return nil, false
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, false
		}
		if part.FormName() == "model" {
			values = append(values, string(value))
		}
	}
}
