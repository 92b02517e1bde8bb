package gateway

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/radixbus/radixbus/internal/roster"
	"github.com/radixbus/radixbus/internal/wire"
)

// modelCard is OpenAI's model object, with what SGLang adds to it.
type modelCard struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	OwnedBy     string  `json:"owned_by"`
	Root        string  `json:"root"`
	Parent      *string `json:"parent"`
	MaxModelLen *int    `json:"max_model_len"`
}

func (g *Gateway) card(s *roster.Served) modelCard {
	c := modelCard{
		ID: s.Model.Name, Object: "model", Created: cmp.Or(s.Model.Created, g.started.Unix()), OwnedBy: cmp.Or(s.Model.OwnedBy, "radixbus"),
		Root: cmp.Or(s.Model.Root, s.Pool),
	}
	if s.Model.Kind == wire.LoRAModel {
		c.Root = cmp.Or(s.Model.Root, s.Model.Name)
	}
	if s.Model.Name != s.Pool {
		c.Parent = &s.Pool
	}
	if s.Model.ContextLength > 0 {
		c.MaxModelLen = &s.Model.ContextLength
	}
	return c
}

func (g *Gateway) models(w http.ResponseWriter, r *http.Request, _ who) {
	g.settle(r.Context())
	cards := []modelCard{}
	for _, s := range g.roster.View().Models {
		cards = append(cards, g.card(s))
	}
	writeJSON(w, map[string]any{"object": "list", "data": cards})
}

func (g *Gateway) model(w http.ResponseWriter, r *http.Request, _ who) {
	g.settle(r.Context())
	name, view := strings.Trim(r.PathValue("model"), "/"), g.roster.View()
	if s := find(view, name); s != nil {
		writeJSON(w, g.card(s))
		return
	}
	unknownModel(name, view.Names(namesTold), len(view.Models)).write(w, r.URL.Path)
}

// settle waits out the first roll call: just after the start, an unknown worker may only be an unheard one.
func (g *Gateway) settle(ctx context.Context) {
	select {
	case <-g.roster.Settled():
	case <-ctx.Done():
	}
}

// find looks a model name up; an adapter may be named as base:adapter, as SGLang has it.
func find(view *roster.View, name string) *roster.Served {
	if s := view.Lookup(name); s != nil {
		return s
	}
	at := strings.LastIndexByte(name, ':')
	if at < 0 {
		return nil
	}
	if base := view.Lookup(name[:at]); base != nil {
		return adapterOf(view, base.Pool, name[at+1:])
	}
	return nil
}

// adapterOf finds an adapter of a pool, whatever else has its name elsewhere; nil when the pool has none.
func adapterOf(view *roster.View, pool, name string) *roster.Served {
	if s := view.LookupIn(pool, name); s != nil && s.Model.Kind == wire.LoRAModel {
		return s
	}
	return nil
}

// meant finds the model that a request means: by its name, or the only one there is.
func (g *Gateway) meant(ctx context.Context, model string) (*roster.Served, error) {
	view := g.roster.View()
	if model == "" && len(view.Models) != 1 || model != "" && find(view, model) == nil {
		g.settle(ctx)
		view = g.roster.View()
	}
	switch s := find(view, model); {
	case model == "" && onePool(view) != nil:
		return onePool(view), nil
	case len(view.Models) == 0: // nothing is here yet: the name may be right
		return nil, noWorkerYet()
	case model == "":
		return nil, badRequest("model", "Several models are served here: name one in the field model, or in the header x-radixbus-model.")
	case s == nil:
		return nil, unknownModel(model, view.Names(namesTold), len(view.Models))
	default:
		return s, nil
	}
}

// onePool is the base model when there is only one; nil otherwise.
func onePool(view *roster.View) (one *roster.Served) {
	for _, s := range view.Models {
		switch {
		case one == nil || s.Pool == one.Pool && s.Model.Kind == wire.BaseModel:
			one = s
		case s.Pool != one.Pool:
			return nil
		}
	}
	return one
}
