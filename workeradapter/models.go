package workeradapter

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/radixbus/radixbus/internal/wire"
)

// models are the names that the worker answers to: the engine's own, the base model first, then the adapters that it can
// load, then aliases.
func (a *Adapter) models(d *description) []wire.Model {
	c, engine := &a.cfg, d.info.Models
	models := slices.Clone(engine)
	find := func(name string) *wire.Model {
		at := slices.IndexFunc(models, func(m wire.Model) bool { return m.Name == name })
		if at < 0 {
			return nil
		}
		return &models[at]
	}
	for _, lora := range c.LoRAs {
		if d.info.DPSize > 1 {
			a.warnOnce("an engine of several data-parallel ranks loads no adapters: name them at its start", "lora", lora.Name)
		} else if find(lora.Name) == nil {
			models = append(models, wire.Model{Name: lora.Name, Kind: wire.LoRAModel, OwnedBy: models[0].OwnedBy, Created: models[0].Created})
		}
	}
	for _, alias := range c.Aliases {
		of := find(alias.Model)
		switch {
		case of == nil:
			a.warnOnce("alias of a model that the engine does not serve", "alias", alias.Name, "model", alias.Model)
		case find(alias.Name) != nil:
			a.warnOnce("alias that is a model's name already", "alias", alias.Name)
		default:
			m := *of
			m.Name, m.Root = alias.Name, cmp.Or(of.Root, of.Name)
			if m.Kind == wire.BaseModel {
				m.Kind = wire.AliasModel
			}
			models = append(models, m)
		}
	}
	return models
}

// warnOnce says what is the same at each description of the engine once. It belongs to the watch's goroutine.
func (a *Adapter) warnOnce(message string, args ...any) {
	key := fmt.Sprint(append([]any{message}, args...)...)
	if !a.warned[key] {
		a.warned[key] = true
		a.cfg.Log.Warn(message, append([]any{"worker", a.cfg.Name}, args...)...)
	}
}

// remember keeps the adapters that the engine had before and has dropped for others: it loads them again by itself when they
// are asked for. One that went although there was room was taken away by somebody.
func (d *description) remember(before *description) {
	loaded := 0
	for _, m := range d.info.Models {
		if m.Kind == wire.LoRAModel && m.Loaded {
			loaded++
		}
	}
	if d.maxLoaded == 0 || loaded < d.maxLoaded {
		return
	}
	for _, m := range before.info.Models {
		if m.Kind == wire.LoRAModel && m.Root == "" && !slices.ContainsFunc(d.info.Models, func(n wire.Model) bool { return n.Name == m.Name }) {
			m.Loaded = false
			d.info.Models = append(d.info.Models, m)
		}
	}
}

// modelOf finds the model that a name stands for; nil when the worker does not answer to it.
func (l *life) modelOf(name string) *wire.Model {
	at := slices.IndexFunc(l.info.Models, func(m wire.Model) bool { return m.Name == name })
	if at < 0 {
		return nil
	}
	return &l.info.Models[at]
}

// lora is the name of the adapter that a request to the model needs; "" for none.
func lora(m *wire.Model) string {
	if m == nil || m.Kind != wire.LoRAModel {
		return ""
	}
	return cmp.Or(m.Root, m.Name)
}
