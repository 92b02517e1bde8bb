package replay_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/radixbus/radixbus/internal/replay"
)

func gsp(t testing.TB, cfg replay.SharedPrefixConfig) *replay.SharedPrefix {
	t.Helper()
	w, err := replay.NewSharedPrefix(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// opening is the text of a conversation's first turn.
func opening(t testing.TB, w replay.Workload, n int, seed uint64) []byte {
	t.Helper()
	c, ok := w.Conversation(n, seed, replay.Generate)
	if !ok {
		t.Fatalf("no conversation %d", n)
	}
	turn, ok := c.Next(replay.Reply{})
	if !ok {
		t.Fatalf("conversation %d says nothing", n)
	}
	return bytes.Clone(turn.Text)
}

// TestSharedPrefixesHitAnInfiniteCacheAsArithmeticSays: of p prompts a group all but the first find the system prompt, in
// whatever order they come: (p−1)/p × system/(system + question), 88.2 % at the defaults' lengths. A question may begin with
// the word that another one of its group began with (there are 256), hence the tolerance.
func TestSharedPrefixesHitAnInfiniteCacheAsArithmeticSays(t *testing.T) {
	for _, order := range replay.Orders() {
		t.Run(string(order), func(t *testing.T) {
			got := run(t, t.Context(), replay.Config{
				URL: serve(t, &engine{}), Concurrency: 1, API: replay.Generate,
				Workload: gsp(t, replay.SharedPrefixConfig{Groups: 3, SystemTokens: 512, QuestionTokens: 32, OutputTokens: 1, Order: order}),
			})
			want := 15.0 / 16 * 512 / (512 + 32)
			if got.Requests != 48 || got.Errors != 0 || math.Abs(*got.HitRate-want) > 0.002 {
				t.Errorf("%d requests, %d errors, hit rate %v, want 48, 0, %v", got.Requests, got.Errors, *got.HitRate, want)
			}
		})
	}
}

// groupsOf counts conversations by what they share.
func groupsOf(t testing.TB, w replay.Workload, conversations, prefix int) map[string]int {
	t.Helper()
	groups := make(map[string]int)
	for n := range conversations {
		groups[string(opening(t, w, n, 1)[:prefix])]++
	}
	return groups
}

func TestEveryGroupHasItsPrompts(t *testing.T) {
	for _, order := range replay.Orders() {
		w := gsp(t, replay.SharedPrefixConfig{Groups: 7, Prompts: 5, SystemTokens: 50, QuestionTokens: 8, Order: order})
		groups := groupsOf(t, w, 35, 4*50-1)
		if len(groups) != 7 {
			t.Errorf("%s: %d groups, want 7", order, len(groups))
		}
		for _, n := range groups {
			if n != 5 {
				t.Errorf("%s: a group of %d, want 5", order, n)
			}
		}
		if conversations, requests := w.Size(); conversations != 35 || requests != 35 {
			t.Errorf("size %d, %d", conversations, requests)
		}
		seen := make(map[string]bool)
		for n := range 105 { // beyond its size the groups are asked new questions
			seen[string(opening(t, w, n, 1))] = true
		}
		if len(seen) != 105 {
			t.Errorf("%s: %d different prompts, want 105", order, len(seen))
		}
	}
}

// TestSomeGroupsArePopular: the first of four groups has 1/(1+1/2+1/3+1/4) = 48 % at a Zipf exponent of 1, and 0.3 + 0.7 × 25 %
// with a hot share of 0.3 and no exponent. 2,000 draws are within 4 % of it, which is more than three deviations.
func TestSomeGroupsArePopular(t *testing.T) {
	for _, tt := range []struct {
		cfg  replay.SharedPrefixConfig
		most float64
	}{
		{replay.SharedPrefixConfig{Zipf: 1}, 0.48},
		{replay.SharedPrefixConfig{HotGroup: 0.3}, 0.475},
		{replay.SharedPrefixConfig{HotGroup: 1}, 1},
	} {
		tt.cfg.Groups, tt.cfg.SystemTokens, tt.cfg.QuestionTokens = 4, 20, 4
		most := 0
		for _, n := range groupsOf(t, gsp(t, tt.cfg), 2000, 4*20-1) {
			most = max(most, n)
		}
		if share := float64(most) / 2000; math.Abs(share-tt.most) > 0.04 {
			t.Errorf("%+v: the first group has %v, want %v", tt.cfg, share, tt.most)
		}
	}
}

func TestGroupsCanBeNamed(t *testing.T) {
	e := &engine{}
	run(t, t.Context(), replay.Config{
		URL: serve(t, e), Concurrency: 1,
		Workload: gsp(t, replay.SharedPrefixConfig{Groups: 2, Prompts: 2, SystemTokens: 9, QuestionTokens: 3, OutputTokens: 1, RoutingKey: true, Order: replay.Rounds}),
	})
	for i, r := range e.requests() {
		if got, want := r.header.Get("x-smg-routing-key"), fmt.Sprintf("group-%d", i%2); got != want {
			t.Errorf("request %d has the key %q, want %q", i, got, want)
		}
	}
}

func TestUniquePromptsShareNothing(t *testing.T) {
	w := unique(t, replay.UniqueConfig{PromptBytes: 1000})
	beginnings := make(map[string]bool)
	for seed := range uint64(5) {
		for n := range 200 {
			text := opening(t, w, n, seed)
			if len(text) != 1000 {
				t.Fatalf("%d bytes, want 1000", len(text))
			}
			beginnings[string(text[:40])] = true
		}
	}
	if len(beginnings) != 1000 {
		t.Errorf("%d beginnings of 1000 prompts", len(beginnings))
	}
}

func TestShapesThatCannotBeAreRefused(t *testing.T) {
	for _, cfg := range []replay.SharedPrefixConfig{
		{Groups: -1}, {RangeRatio: 1.1}, {Zipf: -1}, {HotGroup: 2}, {Order: "sorted"}, {Order: replay.Grouped, Zipf: 1}, {SystemTokens: 1 << 40}, {Zipf: math.NaN()},
	} {
		if _, err := replay.NewSharedPrefix(cfg); !errors.Is(err, replay.ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	for _, cfg := range []replay.UniqueConfig{{PromptBytes: 5, InputTokens: 5}, {PromptBytes: -1}, {OutputTokens: -1}} {
		if _, err := replay.NewUnique(cfg); !errors.Is(err, replay.ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
