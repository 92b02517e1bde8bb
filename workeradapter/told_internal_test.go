package workeradapter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// compareReads holds the quick reading of a document equal to decoding it, from a state that says something already.
func compareReads(t interface{ Fatalf(string, ...any) }, doc string) (plain bool) {
	before := told{prompt: 3, completion: 2, cached: 1, finish: "before", weights: "v0", usages: 1}
	quick, slow := before, before
	plain = quick.readPlain([]byte(doc))
	fault := slow.readAny([]byte(doc))
	switch {
	case !plain && quick != before:
		t.Fatalf("%s: it is not plain, but %+v has been taken in", doc, quick)
	case plain && fault != nil:
		t.Fatalf("%s: it is an error: %+v", doc, fault)
	case plain:
		if d := cmp.Diff(slow, quick, cmp.AllowUnexported(told{})); d != "" {
			t.Fatalf("%s: (-decoded +read)\n%s", doc, d)
		}
	}
	return plain
}

func TestPlainDocumentsAreReadAsDecoded(t *testing.T) {
	for doc, plain := range map[string]bool{
		`{"id":"a","object":"chat.completion","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":5},"reasoning_tokens":0},"metadata":{"weight_version":"v1"}}`: true,
		`{"choices":[{"finish_reason":null}],"usage":null}`:                                             true,
		`{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}`: true,
		`{"choices":[{"finish_reason":"length"},{"finish_reason":"st\u006fp"}]}`:                        true,
		`{"choices":null,"metadata":null,"error":null}`:                                                 true,
		`{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0}}}`:                     true,
		`{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":null}}}`:                  true,
		`{"metadata":{"weight_version":""}}`:                                                            true,
		`{}`:                                                                                            true,
		`{"choices":[{"finish_reason":{"type":"stop"}}]}`:                                               false,
		`{"object":"error","message":"m","code":400}`:                                                   false,
		`{"object":"response","status":"completed","usage":{"input_tokens":1}}`:                         false,
		`{"error":{"message":"m"}}`:                                                                     false,
		`{"usage":{"input_tokens":9,"output_tokens":2}}`:                                                false,
		`{"usage":{"prompt_tokens":"9"}}`:                                                               false,
		`{"usage":{"prompt_tokens":1.5}}`:                                                               false,
		`{"text":"x","meta_info":{"prompt_tokens":1}}`:                                                  false,
		`{"choices":[],"sglext":{"cached_tokens_details":{"device":1}}}`:                                false,
		`{"timings":{"cache_n":3}}`:                                                                     false,
		`{"type":"message_start","message":{"usage":{"input_tokens":1}}}`:                               false,
		`{"choices":[],"choices":[{"finish_reason":"stop"}]}`:                                           false,
		`[{"meta_info":{"prompt_tokens":1}}]`:                                                           false,
		`"x"`:                                                                                           false,
		`{"choices":[`:                                                                                  false,
		"{\"choices\":[{\"text\":\"\xff\"}]}":                                                           false,
	} {
		if got := compareReads(t, doc); got != plain {
			t.Errorf("%s: plain %t, want %t", doc, got, plain)
		}
	}
}

func TestDocumentsOfAnyShapeAreReadAsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.SampledFrom([]string{"null", "0", "7", "-1", "1e2", "true", `"stop"`, `""`, `"error"`, "[]", "{}", "[null]", "[{}]", `[{"finish_reason":"stop"},{"finish_reason":null}]`}),
			rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
				`"prompt_tokens":5`, `"completion_tokens":2`, `"completion_tokens":null`, `"prompt_tokens_details":{"cached_tokens":4}`, `"prompt_tokens_details":{}`,
				`"cached_tokens":1`, `"input_tokens":3`, `"weight_version":"v"`, `"weight_version":null`, `"message":"m"`, `"x":[1]`, `"prompt_tokens":6`,
			}), 0, 4), func(members []string) string { return "{" + strings.Join(members, ",") + "}" }),
		)
		var members []string
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{
			"choices", "usage", "metadata", "object", "error", "type", "status", "message", "code", "sglext", "meta_info", "delta", "response", "timings", "stop_reason", "id",
		}), 0, 5).Draw(t, "keys") {
			members = append(members, fmt.Sprintf("%q:%s", key, value.Draw(t, key)))
		}
		compareReads(t, "{"+strings.Join(members, ",")+"}")
	})
}
