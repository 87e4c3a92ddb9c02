package foreign

import (
	"cmp"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/resource"
)

// scheduled reads a query that Fleet schedules on its own: it goes into a pack
// for those who have its labels.
func (f *fleet) scheduled(o *fields, who team) {
	name := o.text("name")
	labels, selector := f.targets(o)
	if n, ok := o.values["interval"].(int64); o.values["interval"] == nil || ok && n == 0 {
		f.note(o.source, cmp.Or(o.path, "query "+clip(name)), "left out: it has no interval, so that nothing schedules it; run it as a live query")
		return
	}
	if !f.claim(o.source, "query", who.name+"/"+name) {
		return
	}
	q, ok := f.fleetQuery(o)
	if !ok {
		return
	}
	pack := strings.Join(append([]string{who.name}, labels...), "-")
	f.put(o, f.draft(o.source, pack, both(who.selector, selector)), name, q)
}

// fleetQuery reads a query, whose keys differ a little from osquery's.
func (f *fleet) fleetQuery(o *fields) (resource.Query, bool) {
	o.drop("it is a setting of Fleet itself", "observer_can_run", "automations_enabled", "discard_data", "team", "id", "author_name", "author_email", "saved")
	if v := o.take("min_osquery_version"); v != nil {
		o.values["version"] = v
	}
	switch logging := o.text("logging"); {
	case logging == "" && o.values["snapshot"] == nil && o.values["removed"] == nil, logging == "snapshot":
		o.values["snapshot"] = true
	case logging == "differential_ignore_removals":
		o.values["removed"] = false
	case logging != "" && logging != "differential":
		f.note(o.source, o.at("logging"), "left out: %s is not known", clip(logging))
	}
	platform, somewhere := f.platform(o)
	o.values["platform"] = platform
	q, ok := f.query(o, stockInterval)
	return q, ok && somewhere
}

// platform reads a platform key without those that osquery has no agent for;
// false if no other is left.
func (f *fleet) platform(o *fields) (string, bool) {
	var kept []string
	all := o.text("platform")
	for p := range strings.SplitSeq(all, ",") {
		p = strings.TrimSpace(p)
		if slices.Contains([]string{"chrome", "ios", "ipados", "android"}, p) {
			f.note(o.source, o.at("platform"), "%s is left out: osquery does not run there", p)
		} else if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ","), all == "" || len(kept) > 0
}

// labelPack is the name of the pack whose queries give tags.
func (f *fleet) labelPack() string { return f.base + "-labels" }

// draft returns the pack of a name for a selector, and begins it if it is new.
func (f *fleet) draft(source, name, selector string) *resource.Pack {
	key := name + "\x00" + selector
	if f.drafts[key] == nil {
		selector = f.selector(source, name, selector)
		f.drafts[key] = &draft{source, name, &resource.Pack{Selector: selector, Queries: map[string]resource.Query{}}}
		f.order = append(f.order, key)
	}
	return f.drafts[key].pack
}

// pack reads a pack of fleetctl, which names saved queries.
func (f *fleet) pack(o *fields) {
	name := o.text("name")
	if !f.claim(o.source, "Pack", name) {
		return
	}
	platform, anywhere := f.platform(o)
	p := &resource.Pack{Selector: f.packTargets(o, name), Platform: platform, Queries: map[string]resource.Query{}}
	if o.on("disabled") || !anywhere {
		p.Selector = nobody
		f.note(o.source, "", "the pack %s is for no node: it is disabled", clip(name))
	}
	for _, q := range o.objects("queries") {
		f.packQuery(q, p)
	}
	o.take("id")
	description := o.text("description")
	o.done("it is a setting of Fleet itself")
	if len(p.Queries) == 0 {
		f.note(o.source, "", "the pack %s is left out: it has no queries", clip(name))
		return
	}
	f.add(o.source, name, description, "Pack", p)
}

// packTargets returns the selector of a pack. One without targets is for nobody
// in Fleet.
func (f *fleet) packTargets(o *fields, name string) string {
	targets := o.object("targets")
	var labels, teams []string
	if targets != nil {
		labels, teams = targets.texts("labels"), targets.texts("teams")
		targets.done("write a selector instead")
	}
	if len(labels)+len(teams) == 0 {
		f.note(o.source, "", "the pack %s has no targets, so that Fleet gives it to no host; its selector is none. Write another", clip(name))
		return nobody
	}
	test := f.labels(o.source, labels)
	if len(labels) > 0 && test == "" {
		return ""
	}
	var tests []string
	if test != "" {
		tests = append(tests, test)
	}
	for i, t := range teams {
		teams[i] = f.tag(o.source, t)
	}
	if len(teams) > 0 {
		tests = append(tests, in("tag", teams...))
	}
	return f.selector(o.source, name, strings.Join(tests, " or "))
}

// packQuery reads an entry of a pack: the name of a saved query, and how it
// runs.
func (f *fleet) packQuery(o *fields, p *resource.Pack) {
	of, alias := o.text("query"), o.text("query_name")
	name := cmp.Or(o.text("name"), of, alias)
	saved := f.saved[of]
	if saved == nil {
		saved = f.saved[alias]
	}
	switch {
	case saved != nil:
		f.used[cmp.Or(of, alias)], f.used[alias] = true, true
		for _, key := range []string{"query", "description", "platform"} {
			if o.values[key] == nil && saved.values[key] != nil {
				o.values[key] = saved.values[key]
			}
		}
	case strings.ContainsAny(of, " \n\t"):
		o.values["query"] = of // its text, as some exports have it
	default:
		f.note(o.source, o.path, "left out: its query %s is in none of the files", clip(cmp.Or(of, alias)))
		return
	}
	if o.values["snapshot"] == nil && o.values["removed"] == nil {
		o.values["snapshot"] = false // a pack's queries log differences
	}
	if q, ok := f.fleetQuery(o); ok {
		f.put(o, p, name, q)
	}
}
