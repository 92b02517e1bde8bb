package workeradapter_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/testkit"
	"github.com/radixbus/radixbus/internal/wire"
	"github.com/radixbus/radixbus/workeradapter"
)

// A transcription under an alias reached the engine under the alias. All bytes but the name's are the client's.
func TestFormsNameTheModelAsTheEngineDoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(e *testkit.Engine, c *workeradapter.Config) {
		e.AddModel(`{"id":"law","parent":"m"}`)
		c.Aliases = []workeradapter.Alias{{Name: "whisper-1", Model: "m"}, {Name: "lawyer", Model: "law"}}
	})
	s.engine.Answer(func(x *testkit.Exchange) { x.Reply(200, "application/json", `{}`) })
	const (
		multi = "multipart/form-data; boundary=\"b x\""
		file  = "--b x \t\r\ncontent-disposition: form-data; filename=\"model\"; name=file\r\nContent-Type: audio/wav\r\n\r\n" +
			"RIFF\x00\xff\r\n--b\r\n\r\nname=\"model\"\r\n--b xy\r\nwhisper-1\r\n\r\n"
		field = "--b x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
		other = "--b x\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nwhisper-1\r\n"
		end   = "--b x--\r\n"
	)
	big := strings.Repeat("\r\n--b \r\n", 1<<16)
	for _, tt := range []struct{ name, model, kind, body, want string }{
		{"an alias", "whisper-1", multi, file + field + "whisper-1\r\n" + other + end, file + field + "m\r\n" + other + end},
		{"in front of the file", "whisper-1", multi, field + "whisper-1\r\n" + file + end, field + "m\r\n" + file + end},
		{"behind a preamble", "whisper-1", multi, "hello\r\n" + field + "whisper-1\r\n" + end + "bye", "hello\r\n" + field + "m\r\n" + end + "bye"},
		{"an alias of an adapter", "lawyer", multi, file + field + "lawyer\r\n" + end, file + field + "m:law\r\n" + end},
		{"an adapter that a header names", "law", multi, file + end, field + "m:law\r\n" + file + end},
		{"two names", "whisper-1", multi, field + "whisper-1\r\n" + field + "gpt\r\n" + end, field + "m\r\n" + field + "m\r\n" + end},
		{"an empty name", "m", multi, field + "\r\n" + end, field + "m\r\n" + end},
		{"a large file", "whisper-1", multi, field + "whisper-1\r\n" + file + big + "\r\n" + end, field + "m\r\n" + file + big + "\r\n" + end},
		{"the engine's name", "m", multi, file + field + "m\r\n" + end, ""},
		{"no name", "m", multi, file + end, ""},
		{"an unknown model", "gone", multi, file + field + "gone\r\n" + end, ""},
		{"a form that is cut off", "whisper-1", multi, file + field + "whisper-1", ""},
		{"another boundary", "whisper-1", "multipart/form-data; boundary=c", file + field + "whisper-1\r\n" + end, ""},
		{"no form", "whisper-1", "audio/wav", file + field + "whisper-1\r\n" + end, ""},
	} {
		n := len(s.engine.Requests())
		st := s.gateway.NewPath("w", s.now, "/v1/audio/transcriptions", tt.body)
		st.Model, st.Headers = tt.model, []wire.Header{{Name: "Content-Type", Value: tt.kind}}
		st.Send()
		if got := st.Wait(); got.End.Code != wire.CodeOK {
			t.Fatalf("%s: %+v", tt.name, got.End)
		}
		want := tt.want
		if want == "" {
			want = tt.body
		}
		if x := s.engine.Requests()[n]; string(x.Body) != want || x.R.ContentLength != int64(len(want)) {
			t.Errorf("%s: the engine got %d bytes, announced as %d: %.400q\nwant %.400q", tt.name, len(x.Body), x.R.ContentLength, x.Body, want)
		}
	}
	s.idle()
}
