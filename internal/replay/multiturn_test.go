package replay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radixbus/radixbus/internal/replay"
)

// TestContentDependsOnSeedAndNumberOnly, not on what was generated before.
func TestContentDependsOnSeedAndNumberOnly(t *testing.T) {
	m := multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 40, SystemPrompts: 3, SystemTokens: 20})
	text := func(n int, seed uint64) string {
		t.Helper()
		c, ok := m.Conversation(n, seed, replay.Chat)
		if !ok {
			t.Fatalf("no conversation %d", n)
		}
		c.Next(replay.Reply{})
		turn, _ := c.Next(replay.Reply{OK: true, Text: []byte("same")})
		return string(turn.Messages)
	}
	first := text(5, 1)
	seen := map[string]string{}
	for seed := range uint64(20) {
		for n := range 200 {
			c := text(n, seed)
			questions := c[strings.Index(c, `{"role":"user"`):]
			if other, twice := seen[questions]; twice {
				t.Fatalf("conversation %d of seed %d is that of %s", n, seed, other)
			}
			seen[questions] = fmt.Sprint(n, seed)
		}
	}
	if text(5, 1) != first {
		t.Error("conversation 5 of seed 1 changed")
	}
	system := func(s string) string { return s[:strings.Index(s, `{"role":"user"`)] }
	if system(text(0, 1)) != system(text(3, 1)) || system(text(0, 1)) == system(text(1, 1)) || system(text(0, 1)) == system(text(0, 2)) {
		t.Error("system prompts are not those of the groups n mod 3")
	}
}

// TestContentIsPinned: a report's seed is worth something only as long as the generator stays the same.
func TestContentIsPinned(t *testing.T) {
	m := multiturn(t, replay.MultiturnConfig{Rounds: 2, InputTokens: 6, OutputTokens: 2, SystemPrompts: 1, SystemTokens: 3})
	c, _ := m.Conversation(7, 42, replay.Chat)
	c.Next(replay.Reply{})
	turn, _ := c.Next(replay.Reply{OK: true, Text: []byte("said \"so\"\n")})
	const want = `{"role":"system","content":"sun off tap"},` +
		`{"role":"user","content":"bat pad fog ask own kid"},` +
		`{"role":"assistant","content":"said \"so\"\n"},` +
		`{"role":"user","content":"gum orb lay fur lab mob"}`
	if d := cmp.Diff(want, string(turn.Messages)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestTokensAreWordsOfFourBytes(t *testing.T) {
	m := multiturn(t, replay.MultiturnConfig{Rounds: 1, InputTokens: 1000})
	c, _ := m.Conversation(0, 1, replay.Generate)
	turn, _ := c.Next(replay.Reply{})
	words := strings.Fields(string(turn.Text))
	if len(turn.Text) != 4*1000-1 || len(words) != 1000 {
		t.Errorf("%d bytes, %d words, want 3999, 1000", len(turn.Text), len(words))
	}
	distinct := map[string]bool{}
	for _, w := range words {
		distinct[w] = len(w) == 3
	}
	// 1000 draws of 256 words leave about 256·e^(−1000/256) ≈ 5 unseen.
	if len(distinct) < 230 {
		t.Errorf("only %d distinct words", len(distinct))
	}
}
