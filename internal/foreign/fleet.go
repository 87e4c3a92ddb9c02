package foreign

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/resource"
)

// isFleet reports whether a document is one of Fleet: a kind with its spec, a
// file of GitOps, or a list that such a file refers to.
func isFleet(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if v["apiVersion"] != nil {
			return v["apiVersion"] == "v1" && v["kind"] != nil
		}
		return slices.ContainsFunc(gitopsKeys(), func(k string) bool { _, ok := v[k]; return ok }) || isAgentOptions(v)
	case []any:
		return len(v) > 0 && listKind("", v) != ""
	}
	return false
}

// gitopsKeys are keys of GitOps files that no other format has at its top.
func gitopsKeys() []string {
	return []string{"agent_options", "policies", "labels", "reports", "controls", "org_settings", "team_settings"}
}

func isAgentOptions(m map[string]any) bool {
	return isObject(m["config"]) || isObject(m["overrides"]) || isObject(m["command_line_flags"])
}

// fleetDoc is one document of a file.
type fleetDoc struct {
	file File
	body any
}

// fleet gathers what Fleet's files say together: labels, saved queries that
// packs refer to, and queries that are scheduled on their own.
type fleet struct {
	*collector

	base    string
	docs    []fleetDoc
	named   map[string]bool    // files that others refer to
	saved   map[string]*fields // queries by name
	used    map[string]bool    // saved queries that packs run
	defined map[string]bool    // labels
	asked   map[string]string  // labels in selectors, with the file
	drafts  map[string]*draft
	order   []string // of drafts
	entries int      // of lists
	looks   int      // for files that others refer to
}

// draft is a pack in the making.
type draft struct {
	source, name string
	pack         *resource.Pack
}

// team is whom a file of GitOps is for.
type team struct {
	name     string
	selector string
}

func (c *collector) fleet(name string, files []File) {
	f := &fleet{
		collector: c, base: cmp.Or(name, "fleet"), named: map[string]bool{}, saved: map[string]*fields{}, used: map[string]bool{},
		defined: map[string]bool{}, asked: map[string]string{}, drafts: map[string]*draft{},
	}
	for _, file := range files {
		docs, err := readYAML(file.Bytes)
		if err != nil {
			c.fail(file.Name, "%v", err)
		}
		for _, body := range docs {
			f.docs = append(f.docs, fleetDoc{file, body})
		}
	}
	if len(f.docs) > maxDocs {
		c.fail(files[0].Name, "the files have over %d documents together; import some of them at a time", maxDocs)
		return
	}
	f.gather()
	for _, doc := range f.docs {
		f.document(doc)
	}
	f.finish()
}

// gather finds what other documents refer to: saved queries, and files.
func (f *fleet) gather() {
	for _, doc := range f.docs {
		m, ok := doc.body.(map[string]any)
		if !ok {
			continue
		}
		if m["kind"] == nil {
			f.references(m)
			continue
		}
		if spec, isSpec := m["spec"].(map[string]any); isSpec && (m["kind"] == "query" || m["kind"] == "report") {
			q := f.fields(doc.file.Name, "", spec)
			if name, _ := spec["name"].(string); f.claim(doc.file.Name, "query", name) {
				f.saved[name] = q
			}
		}
	}
}

// references notes the files that a file of GitOps refers to.
func (f *fleet) references(m map[string]any) {
	for _, key := range []string{"agent_options", "queries", "reports", "labels", "policies"} {
		list, ok := m[key].([]any)
		if !ok {
			list = []any{m[key]}
		}
		for _, item := range list {
			for _, doc := range f.referred(item) {
				f.named[doc.file.Name] = true
			}
		}
	}
}

// referred returns the documents of the files that path or paths names.
func (f *fleet) referred(item any) []fleetDoc {
	m, _ := item.(map[string]any)
	one, _ := m["path"].(string)
	pattern, _ := m["paths"].(string)
	if one == "" && pattern == "" {
		return nil
	}
	if f.looks++; f.looks > 2*maxReferences { // once to know, once to read
		return nil
	}
	var docs []fleetDoc
	for _, doc := range f.docs {
		base := doc.file.base()
		matched, err := path.Match(path.Base(pattern), base)
		if one != "" && path.Base(one) == base || pattern != "" && err == nil && matched {
			docs = append(docs, doc)
		}
	}
	return docs
}

// document reads one document, unless another refers to it.
func (f *fleet) document(doc fleetDoc) {
	if f.named[doc.file.Name] {
		return
	}
	switch body := doc.body.(type) {
	case []any:
		f.list(doc.file.Name, "", listKind(doc.file.Name, body), body, team{name: f.base})
	case map[string]any:
		o := f.fields(doc.file.Name, "", body)
		switch {
		case body["kind"] != nil:
			f.kind(o)
		case isAgentOptions(body):
			f.agentOptions(o, team{name: f.base})
		default:
			f.gitops(o)
		}
	default:
		f.fail(doc.file.Name, "holds %s; Fleet's files hold objects and lists", typeName(body))
	}
}

// kind reads a document of fleetctl.
func (f *fleet) kind(o *fields) {
	kind := o.text("kind")
	o.take("apiVersion")
	spec := o.object("spec")
	o.done("it is no part of what agents run")
	if spec == nil {
		f.note(o.source, "", "a %s without spec is left out", clip(kind))
		return
	}
	spec.path = ""
	switch kind {
	case "query", "report": // scheduled ones at the end, when it is known which are in packs
	case "label":
		f.label(spec)
	case "pack":
		f.pack(spec)
	case "options":
		f.agentOptions(spec, team{name: f.base})
	case "config", "app_config":
		if options := spec.object("agent_options"); options != nil {
			f.agentOptions(options, team{name: f.base})
		}
		spec.done("it is a setting of Fleet itself")
	case "team", "fleet":
		t := spec
		if inner := spec.object(kind); inner != nil {
			t = inner
		}
		who := f.team(t)
		if options := t.object("agent_options"); options != nil {
			f.agentOptions(options, who)
		}
		t.done("it is a setting of Fleet itself")
	case "policy":
		f.policies(o.source, []*fields{spec})
	default:
		f.note(o.source, "", "the %s is left out: it is no part of what agents run", clip(kind))
	}
}

// team reads the name of a team, whose nodes have it as a tag.
func (f *fleet) team(o *fields) team {
	name := o.text("name")
	if name == "" {
		return team{name: f.base}
	}
	tag := f.tag(o.source, name)
	f.note(o.source, "", "the team %s is nodes with the tag %s; create an enroll secret that confers it", clip(name), tag)
	return team{name, in("tag", tag)}
}

// gitops reads a file of GitOps.
func (f *fleet) gitops(o *fields) {
	who := f.team(o)
	for _, key := range []string{"labels", "queries", "reports", "policies"} {
		v := o.take(key)
		if list, ok := v.([]any); ok {
			f.list(o.source, key, key, list, who)
		} else if v != nil {
			o.wrong(key, v, "a list")
		}
	}
	if options := o.object("agent_options"); options != nil {
		docs := f.referred(options.values)
		if len(docs) == 0 {
			f.missing(options)
			f.agentOptions(options, who)
		}
		for _, doc := range docs {
			if body, ok := doc.body.(map[string]any); ok {
				f.agentOptions(f.fields(doc.file.Name, "", body), who)
			}
		}
	}
	o.done("it is no part of what agents run")
}

// missing notes a file that is referred to and not here.
func (f *fleet) missing(o *fields) {
	for _, key := range []string{"path", "paths"} {
		if name := o.text(key); name != "" {
			f.note(o.source, o.path, "left out: the file %s is not here; import it with this one", clip(name))
		}
	}
}

// listKind says what a list holds, by its file's name or its first entry; "" if
// it is nothing of Fleet.
func listKind(file string, list []any) string {
	first, ok := list[0].(map[string]any)
	if !ok || first["name"] == nil {
		return ""
	}
	for _, kind := range []string{"labels", "policies", "queries", "reports"} {
		if strings.Contains(file, kind) {
			return kind
		}
	}
	switch {
	case first["label_membership_type"] != nil || first["hosts"] != nil || first["criteria"] != nil:
		return "labels"
	case first["resolution"] != nil || first["critical"] != nil:
		return "policies"
	case first["query"] != nil:
		return "queries"
	}
	return ""
}

// Limits of what files say of others. Each reference is looked up among all
// documents, and a list is read for each that refers to it.
const (
	maxEntries    = 50_000
	maxReferences = 5000
	maxDocs       = 5000
)

// list reads the entries of a list, and of the files that they refer to.
func (f *fleet) list(source, at, kind string, list []any, who team) {
	var policies []*fields
	for _, o := range f.fields(source, "", nil).items(at, list) {
		if o.values["path"] == nil && o.values["paths"] == nil {
			if kind == "policies" {
				policies = append(policies, o)
			} else {
				f.entry(kind, o, who)
			}
			continue
		}
		docs := f.referred(o.values)
		if len(docs) == 0 {
			f.missing(o)
		}
		for _, doc := range docs {
			inner, ok := doc.body.([]any)
			if !ok || slices.ContainsFunc(inner, refers) { // files refer no further, and never to themselves
				f.note(doc.file.Name, "", "left out: %s refers to it, and it is no list of %s", clip(o.source), kind)
				continue
			}
			f.list(doc.file.Name, "", kind, inner, who)
		}
	}
	f.policies(source, policies)
}

func refers(item any) bool {
	m, ok := item.(map[string]any)
	return ok && (m["path"] != nil || m["paths"] != nil)
}

func (f *fleet) entry(kind string, o *fields, who team) {
	if f.entries++; f.entries > maxEntries {
		if f.entries == maxEntries+1 {
			f.fail(o.source, "the files refer to over %d entries together", maxEntries)
		}
		return
	}
	switch kind {
	case "labels":
		f.label(o)
	case "queries", "reports":
		f.scheduled(o, who)
	default:
		f.note(o.source, o.path, "left out: it is no label, query or policy")
	}
}

func (f *fleet) policies(source string, list []*fields) {
	for _, o := range list {
		f.note(source, "policy "+clip(o.text("name")), "left out: policies of Fleet are rules over results, which cannot be imported yet; schedule the query and write a rule")
	}
}

// agentOptions reads osquery's config as Fleet keeps it. There, an override for
// a platform replaces the whole config, so that the others' is not for it.
func (f *fleet) agentOptions(o *fields, who team) {
	var others []string
	if overrides := o.object("overrides"); overrides != nil {
		platforms := overrides.object("platforms")
		for name := range platforms.keys() {
			test, config := fleetPlatform(name), platforms.object(name)
			if config == nil {
				continue
			}
			if test == "" {
				f.note(o.source, config.path, "left out: osquery knows no such platform")
				continue
			}
			others = append(others, test)
			called := who.name + "-" + name
			f.config(config, place{name: called, prefix: called + "-", selector: both(who.selector, test)})
		}
		overrides.done("it is no part of what agents run")
	}
	if config := o.object("config"); config != nil {
		at := place{name: who.name, selector: who.selector}
		if who.selector != "" {
			at.prefix = who.name + "-"
		}
		if len(others) > 0 {
			at.selector = both(who.selector, "not ("+strings.Join(others, " or ")+")")
		}
		f.config(config, at)
	}
	o.drop("these are flags for the flagfile of hosts", "command_line_flags")
	o.done("it is a setting of Fleet's own agent")
}

// fleetPlatform returns the test for a platform of Fleet, which has Linux
// distributions by their names; "" if osquery does not run there.
func fleetPlatform(name string) string {
	switch name {
	case "darwin", "windows", "linux":
		return in("platform", name)
	case "ubuntu", "debian", "centos", "rhel", "fedora", "amzn", "arch", "gentoo", "opensuse", "sles", "kali", "pop":
		return in("os_version.platform", name)
	}
	return ""
}

// finish adds the packs of single queries, and tells of what is missing.
func (f *fleet) finish() {
	if f.looks > 2*maxReferences {
		f.fail(f.docs[0].file.Name, "the files refer to others over %d times", maxReferences)
	}
	for _, name := range slices.Sorted(maps.Keys(f.saved)) {
		q := f.saved[name]
		if f.used[name] && q.values["interval"] == nil {
			continue
		}
		who := team{name: f.base}
		if t, _ := q.values["team"].(string); t != "" {
			who = team{t, in("tag", f.tag(q.source, t))}
		}
		f.scheduled(q, who)
	}
	for _, key := range f.order {
		d := f.drafts[key]
		if len(d.pack.Queries) == 0 {
			continue
		}
		name := f.add(d.source, d.name, "", "Pack", d.pack)
		if d.name == f.labelPack() {
			f.note(d.source, "", "labels with a query became the pack %s: a node has the tag while its query returns rows", name)
			continue
		}
		f.note(d.source, "", "single queries became the pack %s: they are called pack_%s_NAME in logs, and their differential state starts anew", name, name)
	}
	for _, label := range slices.Sorted(maps.Keys(f.asked)) {
		if !f.defined[label] {
			f.note(f.asked[label], "", "the label %s is in none of the files; give nodes the tag %s", clip(label), f.tags[label])
		}
	}
}
