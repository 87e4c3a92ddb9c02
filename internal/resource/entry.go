package resource

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// entry is one thing that a profile says: an option, a decorator's list, a
// category of files. path is where it stands in the config.
type entry struct {
	source   Key
	priority int
	path     []string
	value    any
	list     bool // lists of several profiles are joined; anything else has one winner
}

// entryDepth says how many keys lead to an entry of a section, where it is not
// one.
func entryDepth(section []string) int {
	switch {
	case section[0] == "yara":
		return 3
	case section[0] == "decorators" && len(section) > 1 && section[1] == "interval":
		return 3
	case section[0] == "file_accesses":
		return 1
	}
	return 2
}

// isList reports whether an entry is a list that several profiles add to.
func isList(path []string) bool {
	switch path[0] {
	case "decorators", "file_accesses", "events":
		return true
	case "yara":
		return path[1] == "signature_urls"
	case "prometheus_targets":
		return path[1] == "urls"
	}
	return false
}

// profileEntries returns what a profile says, by path. A profile that cannot be
// written as JSON, which no parsed one is, says nothing.
func profileEntries(source Key, p *Profile) []entry {
	sections, _ := generic(p.Config).(map[string]any)
	var entries []entry
	var descend func(path []string, v any)
	descend = func(path []string, v any) {
		m, ok := v.(map[string]any)
		if !ok || len(path) >= entryDepth(path) {
			_, many := v.([]any)
			entries = append(entries, entry{source, p.Priority, path, v, many && isList(path)})
			return
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			descend(append(slices.Clone(path), k), m[k])
		}
	}
	for _, section := range slices.Sorted(maps.Keys(sections)) {
		descend([]string{section}, sections[section])
	}
	return entries
}

// generic returns v as JSON has it, numbers with their digits.
func generic(v any) any {
	b, err := encode(v)
	if err != nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	if d.Decode(&out) != nil {
		return nil
	}
	return out
}

// valueAt returns what a spec has at a path of a [Item].
func valueAt(spec Spec, path string) (any, bool) {
	var found any
	ok := false
	var look func(at string, v any)
	look = func(at string, v any) {
		if at == path {
			found, ok = v, true
		}
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				look(joinPath(at, k), child)
			}
		case []any:
			for i, child := range v {
				look(indexed(at, i), child)
			}
		}
	}
	look("", generic(spec))
	return found, ok
}
