package simengine_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/simengine"
)

func TestEmbeddings(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", Embedding: true})
	type answer struct {
		Data []struct {
			Embedding []float64
			Index     int
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
		}
	}
	_, body := r.post("/v1/embeddings", `{"input":["one two","one three","four"],"model":"m"}`)
	a := parse[answer](t, body)
	if len(a.Data) != 3 || a.Usage.Prompt != 5 || a.Data[2].Index != 2 {
		t.Fatalf("%.300s", body)
	}
	dot := func(i, k int) (sum float64) {
		for n, x := range a.Data[i].Embedding {
			sum += x * a.Data[k].Embedding[n]
		}
		return sum
	}
	if math.Abs(dot(0, 0)-1) > 1e-9 || dot(0, 1) < dot(0, 2) {
		t.Errorf("lengths %v, likeness %v and %v: want units, and texts with a common word alike", dot(0, 0), dot(0, 1), dot(0, 2))
	}
	_, short := r.post("/v1/embeddings", `{"input":"one two","dimensions":8,"encoding_format":"base64"}`)
	encoded := parse[struct{ Data []struct{ Embedding string } }](t, short).Data[0].Embedding
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 32 {
		t.Fatalf("%v, %d bytes, want eight floats", err, len(raw))
	}
	norm := 0.0
	for i := range 8 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
		norm += x * x
	}
	if math.Abs(norm-1) > 1e-5 {
		t.Errorf("a short vector's length is %v", norm)
	}
	if s := r.Stats(); s.Finished != 4 || s.Output != 0 || s.Totals.Cached == 0 {
		t.Errorf("%+v: want four prompts read, the last from the cache", s)
	}
	for _, tt := range []struct{ path, body, want string }{
		{"/encode", `{"text":"a"}`, `"finish_reason":{"length":0,"type":"length"},"prompt_tokens":1`},
		{"/classify", `{"text":["a","b"]}`, `[{"embedding":[`},
		{"/v1/classify", `{"input":"a"}`, `"label":"Default","probs":[1.0],"num_classes":1`},
		{"/v1/rerank", `{"query":"one","documents":["two","one"],"top_n":1}`, `"document":"one","index":1`},
	} {
		if code, body := r.post(tt.path, tt.body); code != 200 || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %.200s, want %s", tt.path, tt.body, code, body, tt.want)
		}
	}
	for _, tt := range []struct{ path, body, want string }{
		{"/generate", `{"text":"a"}`, "cannot generate"},
		{"/v1/embeddings", `{"input":["a"," "]}`, "Input at index 1 cannot be empty or whitespace only"},
		{"/v1/embeddings", `{"input":"a","encoding_format":"zip"}`, "got 'zip'"},
		{"/v1/embeddings", `{"input":"a","dimensions":1000}`, "greater than max"},
	} {
		if code, body := r.post(tt.path, tt.body); code != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %.200s, want %s", tt.path, tt.body, code, body, tt.want)
		}
	}
}

func TestModelsThatGenerateDoNotEmbed(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	for _, tt := range []struct{ path, body string }{
		{"/v1/embeddings", `{"input":"a"}`}, {"/v1/classify", `{"input":"a"}`}, {"/encode", `{"text":"a"}`}, {"/classify", `{"text":"a"}`},
		{"/v1/rerank", `{"query":"a","documents":["b"]}`},
	} {
		if code, body := r.post(tt.path, tt.body); code != 400 || !strings.Contains(body, "Please add `--is-embedding`") {
			t.Errorf("%s: %d %s", tt.path, code, body)
		}
	}
}

func TestScores(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	ask := func(more string) (float64, int) {
		_, body := r.post("/v1/score", `{"query":"is it ","items":["yes","no it is not"],"label_token_ids":[300,301]`+more+`}`)
		a := parse[struct {
			Scores [][]float64
			Usage  struct {
				Prompt int `json:"prompt_tokens"`
			}
		}](t, body)
		if len(a.Scores) != 2 || len(a.Scores[0]) != 2 {
			t.Fatalf("%s", body)
		}
		return a.Scores[0][0] + a.Scores[0][1], a.Usage.Prompt
	}
	if sum, prompt := ask(""); sum > 1 || prompt != 9 {
		t.Errorf("probabilities %v of two labels, %d prompt tokens", sum, prompt)
	}
	if sum, _ := ask(`,"apply_softmax":true`); math.Abs(sum-1) > 1e-9 {
		t.Errorf("softmax sums to %v", sum)
	}
	for body, want := range map[string]string{
		`{"query":"a","items":["b"]}`:                              "label_token_ids is required",
		`{"query":"a","items":["b"],"label_token_ids":[99999999]}`: "out of vocabulary",
	} {
		if code, got := r.post("/v1/score", body); code != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}
}

func TestTokensThereAndBack(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant"})
	const text = "Straße 12, \"quoted\"\n\tend"
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	_, body := r.post("/tokenize", `{"prompt":`+string(raw)+`}`)
	tokens := body[strings.Index(body, "["):strings.Index(body, "]")] + "]"
	if _, back := r.post("/v1/detokenize", `{"tokens":`+tokens+`}`); parse[struct{ Text string }](t, back).Text != text {
		t.Errorf("%s came back as %s", tokens, back)
	}
	chat := `{"messages":[{"role":"user","content":"hi"}]}`
	want, err := r.ChatTokens([]byte(chat))
	if err != nil {
		t.Fatal(err)
	}
	if got := parse[struct{ Tokens []int32 }](t, second(r.post("/v1/tokenize", chat))).Tokens; len(got) != len(want) {
		t.Errorf("a chat's tokens %v, want %v", got, want)
	}
	for _, bad := range []string{`{}`, `{"prompt":"a","messages":[]}`} {
		if code, body := r.post("/tokenize", bad); code != 400 || !strings.Contains(body, "Exactly one of") {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
}

func transcribe(t *testing.T, r *rig, file []byte, fields ...string) (int, string) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := form.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if file != nil {
		part, err := form.CreateFormFile("file", "a.wav")
		if err == nil {
			_, err = part.Write(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	form.Close()
	res, err := http.Post(r.url+"/v1/audio/transcriptions", form.FormDataContentType(), &b)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func TestTranscriptions(t *testing.T) {
	r := start(t, simengine.Config{Profile: "instant", Audio: true})
	file := bytes.Repeat([]byte("sound"), 20_000) // three seconds and a bit
	code, whole := transcribe(t, r, file)
	text := parse[struct{ Text string }](t, whole).Text
	if code != 200 || len(strings.Fields(text)) != 7 || !strings.Contains(whole, `"usage":{"type":"duration","seconds":4}`) {
		t.Errorf("%d %s", code, whole)
	}
	if _, plain := transcribe(t, r, file, "response_format", "text"); plain != text {
		t.Errorf("as text %q, want %q", plain, text)
	}
	_, stream := transcribe(t, r, file, "stream", "true")
	streamed, reason, _ := gather(t, stream)
	if streamed != text || reason != "length" {
		t.Errorf("streamed %q (%s), want %q", streamed, reason, text)
	}
	if code, body := transcribe(t, r, nil); code != 400 || !strings.Contains(body, "Field required") {
		t.Errorf("no file: %d %s", code, body)
	}
	if code, body := transcribe(t, r, file, "response_format", "srt"); code != 400 || !strings.Contains(body, "formats supported") {
		t.Errorf("srt: %d %s", code, body)
	}
	deaf := start(t, simengine.Config{Profile: "instant"})
	if code, body := transcribe(t, deaf, file); code != 500 || !strings.Contains(body, `"type":"InternalServerError"`) {
		t.Errorf("a model of texts: %d %s", code, body)
	}
}
