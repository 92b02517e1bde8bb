package workeradapter

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/radixbus/radixbus/internal/wire"
)

// models are the names that the worker answers to: the engine's own, the base model first, then the adapters that it can
// load, then aliases.
func (c *Config) models(engine []wire.Model, log *slog.Logger) []wire.Model {
	models := slices.Clone(engine)
	find := func(name string) *wire.Model {
		at := slices.IndexFunc(models, func(m wire.Model) bool { return m.Name == name })
		if at < 0 {
			return nil
		}
		return &models[at]
	}
	for _, lora := range c.LoRAs {
		if find(lora.Name) == nil {
			models = append(models, wire.Model{Name: lora.Name, Kind: wire.LoRAModel, OwnedBy: models[0].OwnedBy, Created: models[0].Created})
		}
	}
	for _, alias := range c.Aliases {
		of := find(alias.Model)
		switch {
		case of == nil:
			log.Warn("alias of a model that the engine does not serve", "alias", alias.Name, "model", alias.Model)
		case find(alias.Name) != nil:
			log.Warn("alias that is a model's name already", "alias", alias.Name)
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
