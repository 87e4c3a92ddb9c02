package foreign

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/musterhq/muster/internal/resource"
)

// isDoorman reports whether an object is tables of Doorman, or a pack with its
// tags.
func isDoorman(m map[string]any) bool {
	if m["apiVersion"] != nil || m["agent_options"] != nil || m["policies"] != nil {
		return false // Fleet's have lists of queries, too
	}
	if isList(m["file_paths"]) || isList(m["queries"]) || isList(m["packs"]) || isList(m["tags"]) {
		return true
	}
	queries, _ := m["queries"].(map[string]any)
	for _, q := range queries {
		if q, ok := q.(map[string]any); ok && isList(q["tags"]) {
			return true
		}
	}
	return false
}

// doorman reads tables of Doorman as JSON (queries, packs and file_paths as
// lists of rows), its packs with tags, and configs as it served them.
func (c *collector) doorman(name string, files []File) {
	for _, file := range files {
		f := c.conf(file)
		if f == nil {
			continue
		}
		base := cmp.Or(name, file.stem())
		f.take("node_invalid")
		switch {
		case isObject(f.values["queries"]):
			if c.claim(f.source, "Pack", base) {
				c.doormanPack(f, base)
			}
		case isList(f.values["file_paths"]) || isList(f.values["queries"]) || isList(f.values["packs"]) || isList(f.values["tags"]):
			c.doormanTables(f, base)
		default:
			c.config(f, place{name: base})
		}
	}
}

// doormanTables reads rows. Doorman gives a row to the nodes that have one of
// its tags.
func (c *collector) doormanTables(f *fields, base string) {
	c.doormanQueries(f, base)
	for _, row := range f.objects("packs") {
		if name := row.text("name"); c.claim(f.source, "Pack", name) {
			c.doormanPack(row, cmp.Or(name, base))
		}
	}
	for _, row := range f.objects("file_paths") {
		c.doormanPaths(row)
	}
	if f.take("tags") != nil {
		c.note(f.source, "tags", "left out: give nodes their tags by enroll secrets, tag rules or by hand")
	}
	f.drop("alert rules are taken over by muster import rules --from doorman", "rules")
	f.drop("alerters cannot be imported; write them as notifiers", "alerters")
	f.drop("nodes are imported by their own command", "nodes")
	f.done("it is no table of what agents run")
}

// doormanSelector reads tags; a row without any is for nobody.
func (c *collector) doormanSelector(f *fields, what string) string {
	tags := f.doormanTags()
	if len(tags) == 0 {
		c.note(f.source, what, "has no tags, so that Doorman gives it to no node; its selector is none. Write another")
		return nobody
	}
	for i, tag := range tags {
		tags[i] = c.tag(f.source, tag)
	}
	return c.selector(f.source, what, in("tag", tags...))
}

// doormanTags reads tags, as words or as rows with a value; sorted.
func (f *fields) doormanTags() []string {
	if list, ok := f.values["tags"].([]any); ok {
		list = slices.Clone(list)
		for i, item := range list {
			if row, isRow := item.(map[string]any); isRow {
				list[i] = row["value"]
			}
		}
		f.values["tags"] = list
	}
	tags := slices.DeleteFunc(f.texts("tags"), func(s string) bool { return s == "" })
	slices.Sort(tags)
	return slices.Compact(tags)
}

// doormanPack reads a pack whose queries are an object or rows. Those tagged
// discovery decide whether a host runs the pack.
func (c *collector) doormanPack(f *fields, name string) {
	selector := ""
	if isList(f.values["queries"]) || f.values["tags"] != nil {
		selector = c.doormanSelector(f, name)
	}
	f.take("id")
	f.take("name")
	queries := map[string]any{}
	discovery, _ := f.values["discovery"].([]any)
	for _, row := range f.doormanRows() {
		key, tags := row.text("name"), row.doormanTags()
		if slices.Contains(tags, "discovery") {
			discovery = append(slices.Clip(discovery), row.values["query"])
			continue
		}
		if len(tags) > 0 {
			c.note(f.source, row.path, "its tags are left out here: they schedule it besides the pack; import the query itself for that")
		}
		if _, ok := queries[key]; ok {
			c.fail(f.source, "the query %s is twice in the pack %s; rename or remove one", clip(key), clip(name))
		}
		queries[key] = row.values
	}
	f.values["queries"], f.values["discovery"] = queries, discovery
	c.pack(f, name, selector)
}

// doormanRows returns the queries with their names, and the SQL as query.
func (f *fields) doormanRows() []*fields {
	var rows []*fields
	if isObject(f.values["queries"]) {
		o := f.object("queries")
		for name := range o.keys() {
			if row := o.object(name); row != nil {
				row.values["name"] = name
				rows = append(rows, row)
			}
		}
	} else {
		rows = f.objects("queries")
	}
	for _, row := range rows {
		row.take("id")
		if sql := row.take("sql"); sql != nil && row.values["query"] == nil {
			row.values["query"] = sql
		}
	}
	return rows
}

// doormanQueries makes packs of the queries that are scheduled by their own
// tags, one for each set of tags.
func (c *collector) doormanQueries(f *fields, base string) {
	packs := map[string]*resource.Pack{}
	var order []string
	for _, row := range f.doormanRows() {
		name, tags := row.text("name"), row.doormanTags()
		if len(tags) == 0 || slices.Contains(tags, "discovery") {
			c.note(f.source, row.path, "%s is left out: it has no tags by which Doorman would schedule it on its own", clip(name))
			continue
		}
		pack := base + "-" + strings.Join(tags, "-")
		if packs[pack] == nil {
			row.values["tags"] = asAny(tags)
			packs[pack] = &resource.Pack{Selector: c.doormanSelector(row, pack), Queries: map[string]resource.Query{}}
			order = append(order, pack)
		}
		if q, ok := c.query(row, stockInterval); ok && c.claim(f.source, "query", pack+"/"+name) {
			c.put(row, packs[pack], name, q)
		}
	}
	for _, pack := range order {
		if len(packs[pack].Queries) == 0 {
			continue
		}
		name := c.add(f.source, pack, "", "Pack", packs[pack])
		c.note(f.source, "", "queries with these tags became the pack %s, so that they are called pack_%s_NAME in logs, and their differential state starts anew", name, name)
	}
}

func asAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// doormanPaths makes a profile of monitored paths.
func (c *collector) doormanPaths(f *fields) {
	category := f.text("category")
	paths, ok := f.values["target_paths"].(string)
	list := strings.Split(paths, "!!")
	if ok {
		f.take("target_paths")
	} else {
		list = f.texts("target_paths")
	}
	list = slices.DeleteFunc(list, func(s string) bool { return s == "" })
	selector := c.doormanSelector(f, category)
	f.drop("rows have other numbers here", "id")
	f.done("Doorman does not send it to agents")
	if category == "" || strings.ContainsFunc(category, unicode.IsControl) || len(list) == 0 {
		c.note(f.source, f.path, "left out: it has no category that can be a name, or no paths")
		return
	}
	sections := map[string]any{"file_paths": map[string][]string{category: list}, "selector": selector}
	c.addProfile(f.source, "files-"+category, sections)
}
