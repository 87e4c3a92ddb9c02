package foreign

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// configKeys are the keys of a config that agents read.
func configKeys() []string {
	return slices.Concat([]string{"schedule", "packs"}, profileKeys(), unusedKeys())
}

// confSet is osquery's files of one import: configs may name packs by the path
// that they have on hosts.
type confSet struct {
	*collector

	configs []*fields
	packs   []*fields
	used    map[string]bool // packs that a config names
}

// osquery reads configs and packs.
func (c *collector) osquery(name string, files []File) {
	set := &confSet{collector: c, used: map[string]bool{}}
	stems := map[string]string{}
	for _, file := range files {
		f := c.conf(file)
		if f == nil {
			continue
		}
		stems[file.Name] = file.stem()
		if isObject(f.values["queries"]) {
			set.packs = append(set.packs, f)
		} else {
			set.configs = append(set.configs, f)
		}
	}
	for _, f := range set.configs {
		base := cmp.Or(name, stems[f.source])
		c.config(f, place{name: base, local: set.local})
	}
	for _, f := range set.packs {
		if set.used[f.source] {
			continue
		}
		base := stems[f.source]
		if len(set.packs) == 1 && len(set.configs) == 0 {
			base = cmp.Or(name, base)
		}
		if c.claim(f.source, "Pack", base) {
			c.pack(f, base, "")
		}
	}
}

// conf reads one file; nil if it is none.
func (c *collector) conf(file File) *fields {
	v, err := readJSON(file.Bytes)
	if err != nil {
		c.fail(file.Name, "%v", err)
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		c.fail(file.Name, "is %s; a pack or config of osquery is an object", typeName(v))
		return nil
	}
	return c.fields(file.Name, "", m)
}

// local returns the file of a pack by its path on hosts; nil without one.
func (s *confSet) local(onHost string) *fields {
	base := path.Base(strings.ReplaceAll(onHost, `\`, "/"))
	for _, f := range s.packs {
		if (File{Name: f.source}).base() == base {
			s.used[f.source] = true
			return s.fields(f.source, "", f.values)
		}
	}
	return nil
}

// place says what a config becomes.
type place struct {
	name     string // of the profile; and of the schedule, if it is telling
	prefix   string // before the names of packs
	selector string // whose it is
	priority int
	// local finds a pack that is in a file of its own; nil if there are none.
	local func(onHost string) *fields
}

// config reads a whole config: schedule, packs, and the rest as a profile.
func (c *collector) config(f *fields, at place) {
	interval := defaultInterval(f)
	c.packs(f, at)
	if schedule := f.object("schedule"); schedule != nil {
		c.schedule(schedule, at, interval)
	}
	c.profile(f, at.name, at.selector, at.priority)
	f.done("agents do not know it")
}

// defaultInterval is that of queries without one, in seconds.
func defaultInterval(f *fields) int {
	options, _ := f.values["options"].(map[string]any)
	o := newCollector().fields("", "", options)
	if n, ok := o.integer("schedule_default_interval"); ok && policy.Interval(n) == nil {
		return n
	}
	return stockInterval
}

// stockInterval is osquery's schedule_default_interval.
const stockInterval = 3600

// schedule makes a pack of the queries that are in none.
func (c *collector) schedule(f *fields, at place, interval int) {
	name := at.name
	if name == "osquery" || name == "main" || name == "" {
		name = "schedule"
	}
	p := &resource.Pack{Selector: at.selector, Queries: map[string]resource.Query{}}
	c.queries(f, p, interval)
	if len(p.Queries) == 0 {
		return
	}
	name = c.add(f.source, name, "", "Pack", p)
	c.note(f.source, f.path, "became the pack %s, so that its queries are called pack_%s_NAME on agents and in logs, not NAME. "+
		"Their differential state starts anew: each logs all its rows as added once. Change rules and searches that look at the names", name, name)
}

// packs reads the packs of a config.
func (c *collector) packs(f *fields, at place) {
	packs := f.object("packs")
	for name := range packs.keys() {
		v := packs.values[name]
		switch {
		case name == "*" && isObject(v):
			all := packs.object(name)
			for inner := range all.keys() {
				c.inlinePack(all, inner, at)
			}
		case isObject(v):
			c.inlinePack(packs, name, at)
		case at.local != nil && c.localPack(packs, name, at):
		default:
			s, _ := scalarText(packs.take(name))
			c.note(f.source, packs.at(name), "left out: it names files on hosts (%s). Import those files with this one", clip(s))
		}
	}
}

func (c *collector) inlinePack(packs *fields, name string, at place) {
	if f := packs.object(name); f != nil && c.claim(packs.source, "Pack", at.prefix+name) {
		c.pack(f, at.prefix+name, at.selector)
	}
}

// localPack reads a pack that the config names by its path on hosts, if its file
// is here.
func (c *collector) localPack(packs *fields, name string, at place) bool {
	onHost, ok := packs.values[name].(string)
	if !ok {
		return false
	}
	f := at.local(onHost)
	if f == nil {
		return false
	}
	packs.take(name)
	if c.claim(f.source, "Pack", at.prefix+name) {
		c.pack(f, at.prefix+name, at.selector)
	}
	return true
}

// pack reads a pack of osquery. What else it carries takes effect in agents, and
// becomes a profile.
func (c *collector) pack(f *fields, name, selector string) {
	p := &resource.Pack{Selector: selector, Platform: f.text("platform"), Version: f.text("version"), Shard: f.shard(), Queries: map[string]resource.Query{}}
	p.Discovery = f.texts("discovery")
	description := f.text("description")
	if queries := f.object("queries"); queries != nil {
		c.queries(queries, p, defaultInterval(f))
	}
	made := c.profile(f, name, both(selector, platformSelector(p.Platform)), 0)
	if made && (p.Version != "" || p.Shard != 0 || len(p.Discovery) > 0) {
		c.note(f.source, f.path, "the profile %s, which the pack carried, does not look at the pack's version, shard and discovery; write a selector", clip(name))
	}
	f.done("agents do not read it")
	if len(p.Queries) == 0 {
		c.note(f.source, f.path, "the pack %s is left out: it has no queries", clip(name))
		return
	}
	c.add(f.source, name, description, "Pack", p)
}

// platformSelector returns the selector for a platform key, "" for all nodes. To
// agents the key is a text in which they look for words (checkPlatform).
func platformSelector(key string) string {
	if key == "" || key == "null" || strings.Contains(key, "any") || strings.Contains(key, "all") {
		return ""
	}
	var platforms []string
	posix := strings.Contains(key, "posix")
	for _, p := range []struct{ name, words string }{{"darwin", "darwin"}, {"linux", "linux ubuntu centos"}, {"windows", "windows"}} {
		has := func(word string) bool { return strings.Contains(key, word) }
		if posix && p.name != "windows" || slices.ContainsFunc(strings.Fields(p.words), has) {
			platforms = append(platforms, p.name)
		}
	}
	if platforms == nil {
		return nobody
	}
	return in("platform", platforms...)
}

// queries reads an object of queries into a pack.
func (c *collector) queries(f *fields, p *resource.Pack, interval int) {
	for name := range f.keys() {
		q := f.object(name)
		if q == nil {
			continue
		}
		if query, ok := c.query(q, interval); ok {
			c.put(q, p, name, query)
		}
	}
}

// put adds a query under a name that agents take.
func (c *collector) put(f *fields, p *resource.Pack, name string, q resource.Query) {
	free := c.queryName(name, p.Queries)
	if free != name {
		c.note(f.source, f.path, "is called %s here, because agents or the pack cannot have it as %s; its differential state starts anew", clip(free), clip(name))
	}
	p.Queries[free] = q
}

// query reads what a query has in a pack or schedule; false if agents would skip
// it.
func (c *collector) query(f *fields, interval int) (resource.Query, bool) {
	q := resource.Query{
		Query: f.text("query"), Description: f.text("description"), Value: f.text("value"), Platform: f.text("platform"),
		Version: f.text("version"), Shard: f.shard(), Snapshot: f.on("snapshot"), Removed: f.unless("removed"), Denylist: f.unless("denylist"),
	}
	if off := f.unless("blacklist"); off != nil && q.Denylist == nil {
		q.Denylist = off
		c.note(f.source, f.at("blacklist"), "became denylist, its name since osquery 4.7")
	}
	q.StartupPriority = f.priority()
	var ok bool
	q.Interval, ok = f.interval(interval)
	f.done("agents do not read it")
	if strings.TrimSpace(q.Query) == "" {
		c.note(f.source, f.path, "left out: it has no query text")
		return q, false
	}
	return q, ok
}

// interval reads seconds; false if agents skip the query for it.
func (f *fields) interval(missing int) (int, bool) {
	if f.values["interval"] == nil {
		f.take("interval")
		f.note(f.source, f.path, "has no interval; it is %d seconds here, as on agents", missing)
		return missing, true
	}
	n, ok := f.integer("interval")
	if !ok || policy.Interval(n) != nil {
		f.note(f.source, f.path, "left out: agents skip it, because its interval is not 1 to 604800 seconds")
		return 0, false
	}
	return n, true
}

// shard reads a percentage; 0 is none.
func (f *fields) shard() int {
	n, ok := f.integer("shard")
	if ok && n < 0 || n > 100 {
		f.note(f.source, f.at("shard"), "left out: %d is not 1 to 100", n)
		return 0
	}
	return n
}

// priority reads startup_priority, for which 0 is no value here.
func (f *fields) priority() int {
	n, ok := f.integer("startup_priority")
	switch {
	case ok && n < 0:
		f.note(f.source, f.at("startup_priority"), "left out: it is negative")
		return 0
	case ok && n == 0:
		f.note(f.source, f.at("startup_priority"), "became 1, for 0 is none here")
		return 1
	}
	return n
}

// unless reads a flag that is true if it is left out; nil means true.
func (f *fields) unless(key string) *bool {
	b := f.flag(key)
	if b != nil && *b {
		return nil
	}
	return b
}
