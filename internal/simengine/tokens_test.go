package simengine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTokensAverageFourBytes(t *testing.T) {
	prose := `Radix caching keeps the keys and values of earlier prompts on the accelerator. When a new request
begins with the same words, the engine skips the computation for them and answers sooner. A conversation that
returns to the worker which served its last turn therefore starts almost immediately, even with 20,000 tokens of
history; anywhere else the whole history has to be processed again.`
	code := "func (s *Scheduler) Run(ctx context.Context) error {\n\tfor i := 0; i < len(s.items); i++ {\n\t\tif err := s.step(ctx, s.items[i]); err != nil {\n\t\t\treturn fmt.Errorf(\"step %d: %w\", i, err)\n\t\t}\n\t}\n\treturn nil\n}\n"
	for name, tt := range map[string]struct {
		text     string
		from, to float64
	}{"prose": {prose, 3.6, 4.4}, "code": {code, 2, 3.5}} {
		text := tt.text
		per := float64(len(text)) / float64(len(appendTokens(nil, text)))
		t.Logf("%s: %.2f bytes a token", name, per)
		if per < tt.from || per > tt.to {
			t.Errorf("%s: %.2f bytes a token, want %v to %v", name, per, tt.from, tt.to)
		}
	}
}

func TestPiecesCoverTheText(t *testing.T) {
	for text, want := range map[string]string{
		"Hello there": "Hello| there",
		"a  b   c":    "a| | b|  | c",
		"x\n\n  y":    "x|\n\n| | y",
		"12345 6":     "123|45| 6",
		"don't":       "don|'|t",
		"日本":          "日本",
		" \n":         " |\n",
		"   ":         "   ",
		"日本語":         "日本|語",
		"e\xff\xfe":   "e\xff\xfe",
	} {
		var got []string
		for rest := text; rest != ""; {
			n := pieceLen(rest)
			got, rest = append(got, rest[:n]), rest[n:]
		}
		if s := strings.Join(got, "|"); s != want && strings.Join(got, "") != text {
			t.Errorf("%q became %q, want %q", text, s, want)
		} else if s != want {
			t.Errorf("%q is cut as %q, want %q", text, s, want)
		}
	}
}

// FuzzTokensArePrefixStable: a longer text's tokens begin with the shorter one's, but for its last.
func FuzzTokensArePrefixStable(f *testing.F) {
	f.Add("Hello there, world", 7)
	f.Add("    \n\n\t  12345  日本語 don't", 9)
	f.Add(strings.Repeat(" ", 40)+"x", 30)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		short, long := appendTokens(nil, text[:cut]), appendTokens(nil, text)
		stable := max(len(short)-1, 0)
		// A rune cut in two is several pieces that become one.
		for i := 1; i <= 3 && cut-i >= 0 && text[cut-i] >= 0x80; i++ {
			stable = max(len(short)-1-i, 0)
		}
		if len(long) < stable || !slices.Equal(short[:stable], long[:stable]) {
			t.Fatalf("%q cut at %d: %v is no prefix of %v", text, cut, short, long)
		}
		for _, id := range long {
			if id < firstPiece || id >= vocabulary {
				t.Fatalf("token %d is outside the vocabulary", id)
			}
		}
	})
}

func TestAnswersReturnAsTheSameTokens(t *testing.T) {
	v := newVoice()
	for i := range 50 {
		head := append([]int32{tokenStart}, appendTokens(nil, "assistant\n")...)
		prompt := append(appendTokens(nil, fmt.Sprintf("question number %d", i)), head...)
		tokens, ans := v.speak(slices.Clone(prompt), speech{limit: 40})
		if got := appendTokens(nil, ans.text); !slices.Equal(got, tokens[len(prompt):]) {
			t.Fatalf("%q became %v, want %v", ans.text, got, tokens[len(prompt):])
		}
		// Part of the answer in the prompt is continued with the rest.
		for _, cut := range []int{1, 7, 39} {
			partial := appendTokens(slices.Clone(prompt), ans.text[:ans.ends[cut-1]])
			_, rest := v.speak(partial, speech{limit: 40 - cut})
			if got := ans.text[:ans.ends[cut-1]] + rest.text; got != ans.text {
				t.Fatalf("continued after %d: %q, want %q", cut, got, ans.text)
			}
		}
	}
}

func TestAnswersEndByThemselves(t *testing.T) {
	v := newVoice()
	total, stopped := 0, 0
	const n = 3000
	for i := range n {
		_, ans := v.speak(appendTokens(nil, fmt.Sprint("prompt ", i)), speech{limit: 512, mean: 128})
		total += len(ans.ends)
		if ans.reason == "stop" {
			stopped++
		}
	}
	// A geometric length of mean 128 cut at 512: 128 (1 - (127/128)^512) = 125.7, and 98.2 % end before.
	if mean := float64(total) / n; mean < 118 || mean > 133 {
		t.Errorf("mean length %.1f, want about 125.7", mean)
	}
	if share := float64(stopped) / n; share < 0.97 || share > 0.995 {
		t.Errorf("%.3f end by themselves, want about 0.982", share)
	}
}

func TestStops(t *testing.T) {
	v := newVoice()
	prompt := appendTokens(nil, "tell me")
	tokens, whole := v.speak(slices.Clone(prompt), speech{limit: 30})
	words := strings.Fields(whole.text)
	across := words[4] + " " + words[5]
	for _, tt := range []struct {
		name string
		s    speech
		text string
		n    int
		want string
	}{
		{"limit", speech{limit: 3}, whole.text[:whole.ends[2]], 3, "length"},
		{"across two tokens", speech{limit: 30, stops: []string{"nowhere", across}}, whole.text[:strings.Index(whole.text, across)], 6, "stop"},
		{"token id", speech{limit: 30, stopIDs: []int32{tokens[len(prompt)+2]}}, whole.text[:whole.ends[1]], 3, "stop"},
		{"none", speech{limit: 0}, "", 0, "length"},
	} {
		_, ans := v.speak(slices.Clone(prompt), tt.s)
		if ans.text != tt.text || len(ans.ends) != tt.n || ans.reason != tt.want {
			t.Errorf("%s: %q, %d tokens, %s; want %q, %d, %s", tt.name, ans.text, len(ans.ends), ans.reason, tt.text, tt.n, tt.want)
		}
	}
}

func BenchmarkTokens(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, again and again. ", 330)
	b.SetBytes(int64(len(text)))
	var dst []int32
	for b.Loop() {
		dst = appendTokens(dst[:0], text)
	}
}
