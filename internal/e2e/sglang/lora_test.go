package sglang

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An adapter is a model of its own: it is listed, answers under each of the names that the engine has for it, and shares
// no cache with its base.
func TestAdaptersAreModels(t *testing.T) {
	h := up(t, engines(t, plain, plain))
	_, list := h.Get(t, "/v1/models")
	for _, name := range []string{tiny, "red", "blue"} {
		if !strings.Contains(list, `"id":"`+name+`"`) {
			t.Errorf("no %s in %s", name, list)
		}
	}
	const question = "Question: which adapter answers this?"
	e := direct(t, h.engines[0])
	said := func(more object) string {
		t.Helper()
		return e.Ask(t.Context(), chatRoute, chat(question, long(16), more)).Text
	}
	base, red, blue := said(nil), said(object{"model": tiny + ":red"}), said(object{"model": tiny + ":blue"})
	if base == "" || base == red || red == blue || red == "" || blue == "" {
		t.Fatalf("the engine itself: base %q, red %q, blue %q", base, red, blue)
	}
	for _, tt := range []struct {
		name string
		body object
		want string
	}{
		{"lora_path", object{"lora_path": "red"}, red},
		{"the name that the engine takes", object{"model": tiny + ":red"}, red},
		{"the name that the engine lists", object{"model": "red"}, red}, // which the engine itself takes for its base
		{"the other one", object{"model": "blue"}, blue},
		{"the base", nil, base},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := h.Ask(t.Context(), chatRoute, chat(question, long(16), tt.body))
			if !r.OK() || r.Text != tt.want {
				t.Errorf("asked for %v: %v says %q, want %q; the base says %q", tt.body, r, r.Text, tt.want, base)
			}
		})
	}
	t.Run("generate without a model", func(t *testing.T) { // one base model, so there is no question which is meant
		body := generate(question, 16, false)
		delete(body, "model")
		if r := h.Ask(t.Context(), generateRoute, body); !r.OK() {
			t.Error(r)
		}
	})
	t.Run("caches apart", func(t *testing.T) {
		document := prose(77, 150)
		for _, adapter := range []string{"", "red", "blue"} {
			var found []int
			got := h.asking(t, func() (prompt int) {
				for range 2 {
					body := chat(document)
					if adapter != "" {
						body["lora_path"] = adapter
					}
					r := h.ask(t, chatRoute, body)
					prompt, found = prompt+r.Prompt, append(found, r.Cached)
				}
				return prompt
			})
			if found[0] > 20 || found[1] < 300 { // the template's first tokens may be known
				t.Errorf("adapter %q finds %v tokens cached the first and the second time", adapter, found)
			}
			if got.wrong > got.prompt/10 {
				t.Errorf("adapter %q: of %.0f prompt tokens %.0f were believed cached, %.0f were", adapter, got.prompt, got.predicted, got.actual)
			}
		}
	})
	for _, w := range h.roster(t).View().Workers {
		var names []string
		for _, m := range w.Info.Models {
			names = append(names, m.Name)
		}
		if !slices.Contains(names, "red") || w.Info.Pool != tiny {
			t.Errorf("%s registers the models %v in the pool %s", w.Info.Worker, names, w.Info.Pool)
		}
	}
}

// An adapter that operators name is loaded by the engine that first needs it, and one that made room for it comes back.
func TestAdaptersAreLoadedWhenAskedFor(t *testing.T) {
	h := up(t, engines(t, plain, plain), "--lora", "green="+home(t)+"/lora/red", "--lora", "lost="+home(t)+"/lora/no-such-folder", "--alias", "gpt-4o="+tiny)
	said := func(model string) string {
		t.Helper()
		return h.ask(t, chatRoute, chat("Question: which adapter answers this?", long(16), object{"model": model})).Text
	}
	for _, e := range h.engines {
		e.spent = true // it has other adapters then
	}
	base, red := said(tiny), said("red")
	if got := said("green"); got != red || got == base {
		t.Errorf("what was loaded on demand says %q, the same adapter %q, the base %q", got, red, base)
	}
	if got := said("gpt-4o"); got != base {
		t.Errorf("the alias says %q, its model %q", got, base)
	}
	for range 2 { // three are loaded at most: what was used least recently goes
		for _, model := range []string{"blue", "green", "red"} {
			said(model)
		}
	}
	if r := h.Ask(t.Context(), chatRoute, chat("Why?", object{"model": "lost"})); r.Status != http.StatusBadRequest && r.Status != http.StatusBadGateway {
		t.Errorf("an adapter that is not where it is said to be: %v", r)
	}
	_, list := h.Get(t, "/v1/models")
	for _, name := range []string{tiny, "red", "blue", "green", "gpt-4o"} {
		if !strings.Contains(list, `"id":"`+name+`"`) {
			t.Errorf("no %s in %s", name, list)
		}
	}
	h.idle(t)
}
