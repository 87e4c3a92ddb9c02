package policy

import (
	"maps"
	"slices"
	"strings"
)

// Option judges one flag in a config's options, with a value as a YAML or JSON
// decoder makes it.
func (e *Engine) Option(name string, value any) Verdict { return e.checker().option(name, value) }

// Flag explains a flag; false if osquery has none of that name.
func (e *Engine) Flag(name string) (FlagInfo, bool) { return e.checker().flag(name) }

// Flags explains all flags, sorted by name.
func (e *Engine) Flags() []FlagInfo { return e.checker().flags() }

// Config judges everything in an agent's config but its packs, one item for
// each option, path, text or name, in the order of osquery's keys. Its texts
// may use its views and automatic tables.
func (e *Engine) Config(config Config) []Item {
	if len(config.Views) > 0 || len(config.AutoTables) > 0 {
		// If there is no such engine, the names are unknown to the texts that use
		// them, and what is wrong with them is said where they are.
		if own, err := e.With(e.ownNames(config)); err == nil {
			defer func() { _ = own.Close() }() // in memory: nothing can be lost
			return own.named(e).check(config)
		}
	}
	return e.checker().check(config)
}

func (e *Engine) checker() checker { return e.named(e) }

// named returns a checker that asks e about texts, and names about which names
// are taken: e's own ones are there only because the config has them.
func (e *Engine) named(names *Engine) checker {
	return checker{sql: e, rules: e.rules, table: func(name string) (known, evented bool) {
		t := names.catalog.table(name)
		return t != nil, t != nil && t.evented
	}}
}

// ownNames returns the engine's rules with what the config adds to them, as far
// as it is well formed. SQL does not tell upper from lower case, and of two
// names that are one, the first counts.
func (e *Engine) ownNames(config Config) Rules {
	rules := e.rules
	views, tables := lowerKeys(rules.Views), lowerKeys(rules.Extensions)
	added := map[string]bool{}
	free := func(name string) bool {
		lower := strings.ToLower(name)
		ok := identifier(name) && e.catalog.table(name) == nil && !added[lower] && len(added) < maxNames
		added[lower] = true
		return ok
	}
	for _, name := range slices.Sorted(maps.Keys(config.AutoTables)) {
		columns := slices.Clone(config.AutoTables[name].Columns)
		columns = slices.DeleteFunc(columns, func(c string) bool { return strings.EqualFold(c, "path") })
		if len(columns) <= maxColumnsOf && free(name) {
			tables[strings.ToLower(name)] = append(columns, "path") // which agents add
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.Views)) {
		if free(name) {
			views[strings.ToLower(name)] = config.Views[name]
		}
	}
	rules.Views, rules.Extensions = views, tables
	return rules
}

func lowerKeys[V any](m map[string]V) map[string]V {
	lower := map[string]V{}
	for key, value := range m {
		lower[strings.ToLower(key)] = value
	}
	return lower
}
