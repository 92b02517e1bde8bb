package wire_test

import (
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/wire"
)

func TestReferences(t *testing.T) {
	rid := wire.RidOf(wire.NewRequestID(), 1, 0)
	for _, want := range []wire.Reference{{}, {Engine: wire.EngineHash("10.0.0.1:30000"), Rank: 3}, {Engine: 1<<64 - 1, Rank: 1<<16 - 1}} {
		for _, name := range []string{want.Name(rid), want.Response(rid)} {
			if got, ok := wire.ParseReference(name); got != want || !ok {
				t.Errorf("%s says %+v, %t, want %+v", name, got, ok, want)
			}
			if unique, ok := wire.UniqueIn(name); !ok || unique != wire.UniqueOf(rid) {
				t.Errorf("of %s, %q is the rid's, want %q", name, unique, wire.UniqueOf(rid))
			}
			for _, other := range []string{name[1:], name + "0", name[:len(name)-1], strings.ToUpper(name), strings.Replace(name, "rb1", "rb2", 1), name[:len(name)-1] + "g"} {
				if _, ok := wire.ParseReference(other); ok {
					t.Errorf("%s says something", other)
				}
			}
		}
	}
	if id := (wire.Reference{}).Response(rid); !strings.HasPrefix(id, "resp_") {
		t.Errorf("response id %s: engines take only those that begin with resp_", id)
	}
	for _, foreign := range []string{"", "resp_", "resp_0af7651916cd43dd8448eb211c80319c", "rb1", "é"} {
		if _, ok := wire.ParseReference(foreign); ok {
			t.Errorf("%q says something", foreign)
		}
	}
}

func TestClaims(t *testing.T) {
	a, b, c := &wire.Claim{Adapter: "a", Started: 2}, &wire.Claim{Adapter: "b", Started: 1}, &wire.Claim{Adapter: "c", Started: 2}
	if !b.Before(a) || a.Before(b) || !a.Before(c) || c.Before(a) || a.Before(a) {
		t.Error("the older claim comes first, of equal ones the smaller adapter")
	}
	late := &wire.Claim{Adapter: "late", Started: 3, Held: true}
	if !late.Before(b) || b.Before(late) || b.Before(&wire.Claim{Adapter: "old", Started: 0, Held: true}) {
		t.Error("one that serves comes before all that do not, whatever its clock says")
	}
}

func TestParseAbort(t *testing.T) {
	good, err := wire.ParseAbort([]byte(`{"gateway":"g","caller":"c","names":["a","b"]}`))
	if err != nil || good.Caller != "c" || len(good.Names) != 2 {
		t.Errorf("%+v, %v", good, err)
	}
	if all, err := wire.ParseAbort([]byte(`{"all":true}`)); err != nil || !all.All {
		t.Errorf("%+v, %v", all, err)
	}
	for _, doc := range []string{``, `{}`, `{"names":[]}`, `[]`, `{"names":"a"}`, `{"names":["` + strings.Repeat(`a","`, wire.MaxAborts) + `"]}`} {
		if _, err := wire.ParseAbort([]byte(doc)); err == nil {
			t.Errorf("%.40s: no error", doc)
		}
	}
}
