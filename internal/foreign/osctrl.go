package foreign

import (
	"cmp"
	"maps"
	"strings"
)

// osctrlParts are the parts of an environment that hold JSON, by osctrl's own
// names in lower case, and the config's keys that they are.
func osctrlParts() map[string]string {
	return map[string]string{
		"options": "options", "schedule": "schedule", "packs": "packs", "decorators": "decorators", "atc": "auto_table_construction",
		"auto_table_construction": "auto_table_construction",
	}
}

// isOsctrl reports whether a value is an environment: its parts are JSON within
// a text, or it has the name and the UUID of one.
func isOsctrl(v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	m = lowerKeys(m)
	parts := 0
	for part := range osctrlParts() {
		switch m[part].(type) {
		case string:
			return true
		case map[string]any:
			parts++
		}
	}
	_, whole := m["configuration"].(string)
	return whole || m["uuid"] != nil && m["name"] != nil && parts > 0
}

// lowerKeys returns the object with its keys in lower case, for osctrl's
// versions differ in that.
func lowerKeys(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[strings.ToLower(k)] = v
	}
	return out
}

// osctrl reads environments: one a file, or a list of them. Of several, each is
// for the nodes that have its name as a tag.
func (c *collector) osctrl(name string, files []File) {
	var all []*fields
	stems := map[*fields]string{}
	for _, file := range files {
		v, err := readJSON(file.Bytes)
		if err != nil {
			c.fail(file.Name, "%v", err)
			continue
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, f := range c.fields(file.Name, "", nil).items("environments", list) {
			f.values = lowerKeys(f.values)
			stems[f] = file.stem()
			all = append(all, f)
		}
	}
	for _, f := range all {
		env := f.text("name")
		at := place{name: cmp.Or(env, name, stems[f])}
		if len(all) > 1 {
			tag := c.tag(f.source, at.name)
			at.prefix, at.selector = at.name+"-", in("tag", tag)
			c.note(f.source, "", "the environment %s is for nodes with the tag %s; create an enroll secret that confers it", clip(at.name), tag)
		} else {
			at.name = cmp.Or(name, at.name)
		}
		if c.claim(f.source, "environment", at.name) {
			c.environment(f, at)
		}
	}
}

// environment reads the parts of an environment, or its whole configuration if
// it has no parts.
func (c *collector) environment(f *fields, at place) {
	config := map[string]any{}
	if v := f.part("configuration"); v != nil {
		maps.Copy(config, v)
	}
	for part, key := range osctrlParts() {
		if v := f.part(part); v != nil {
			config[key] = v
		}
	}
	if len(config) == 0 {
		c.note(f.source, f.path, "the environment %s has nothing that agents run", clip(at.name))
	}
	if f.take("flags") != nil {
		c.note(f.source, f.at("flags"), "left out: these belong in the flagfile of hosts")
	}
	if f.take("secret") != nil {
		c.note(f.source, f.at("secret"), "left out: create an enroll secret, and give hosts that one")
	}
	f.done("it is a setting of osctrl itself")
	c.config(c.fields(f.source, f.path, config), at)
}

// part returns a part, which is an object or JSON within a text; nil without
// one.
func (f *fields) part(key string) map[string]any {
	switch v := f.values[key].(type) {
	case map[string]any:
		f.take(key)
		return v
	case string:
		f.take(key)
		if strings.TrimSpace(v) == "" {
			return nil
		}
		inner, err := readJSON([]byte(v))
		m, ok := inner.(map[string]any)
		if err != nil || !ok {
			f.fail(f.source, "%s holds no JSON object; repair it", f.at(key))
		}
		return m
	}
	return nil
}
