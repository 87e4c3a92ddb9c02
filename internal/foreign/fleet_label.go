package foreign

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/resource"
)

// label makes a label a tag: of hosts that it lists, or of those where its query
// returns rows.
func (f *fleet) label(o *fields) {
	name := o.text("name")
	builtin := o.text("label_type") == "builtin"
	if _, ok := builtinLabel(name); ok || builtin {
		return
	}
	if !f.claim(o.source, "label", name) {
		return
	}
	f.defined[name] = true
	tag := f.tag(o.source, name)
	description := o.text("description")
	sql := o.text("query")
	if hosts := f.hosts(o); len(hosts) > 0 {
		f.tagRules(o.source, tag, description, hosts)
	}
	manual := o.text("label_membership_type") == "manual"
	o.take("id")
	o.take("team")
	if strings.TrimSpace(sql) == "" || manual {
		if o.values["criteria"] != nil {
			f.note(o.source, o.at("criteria"), "left out: these come from an identity provider; give %s another rule", tag)
			o.take("criteria")
		}
		o.take("platform")
		o.done("it is no part of a tag")
		return
	}
	platform, ok := f.platform(o)
	o.done("it is no part of a tag")
	if !ok {
		return
	}
	f.put(o, f.draft(o.source, f.labelPack(), ""), tag, resource.Query{
		Query: sql, Interval: stockInterval, Description: description, Platform: platform, Snapshot: true, TagIfRows: tag,
	})
}

// hosts reads the hosts of a label, by hostname, UUID or serial number.
func (f *fleet) hosts(o *fields) []string {
	list, _ := o.values["hosts"].([]any)
	names := []any{}
	for _, item := range list {
		s, isText := item.(string)
		if !isText || s == "" || strings.ContainsAny(s, "*?\n\r") {
			f.note(o.source, o.at("hosts"), "%s is left out: it is no host's name, UUID or serial number", clip(jsonText(item)))
			continue
		}
		names = append(names, s)
	}
	if isList(o.values["hosts"]) {
		o.values["hosts"] = names
	}
	return o.texts("hosts")
}

// What fits into a selector, which has at most 4 KiB: each host is in it three
// times.
const (
	maxHosts     = 50
	maxHostBytes = 1000
)

// tagRules gives a tag to hosts, in as many rules as it takes.
func (f *fleet) tagRules(source, tag, description string, hosts []string) {
	for len(hosts) > 0 {
		n, size := 0, 0
		for n < len(hosts) && n < maxHosts && (n == 0 || size+len(hosts[n]) <= maxHostBytes) {
			size += len(hosts[n]) + len(`"", `)
			n++
		}
		some := hosts[:n]
		hosts = hosts[n:]
		text := strings.Join([]string{in("host_identifier", some...), in("hostname", some...), in("system_info.hardware_serial", some...)}, " or ")
		if text = f.selector(source, "label "+tag, text); text == nobody {
			continue
		}
		key := cleanName("TagRule", tag)
		f.add(source, f.free("TagRule", key), description, "TagRule", &resource.TagRule{Selector: text, Tags: []string{tag}})
	}
}

// builtinLabel returns the test for a label that Fleet has by itself.
func builtinLabel(name string) (string, bool) {
	test, ok := map[string]string{
		"All Hosts": "all", "macOS": "platform = darwin", "MS Windows": "platform = windows", "All Linux": "platform = linux",
		"Ubuntu Linux": "os_version.platform = ubuntu", "CentOS Linux": "os_version.platform = centos",
		"Red Hat Linux": "os_version.platform = rhel", "Fedora Linux": "os_version.platform = fedora", "chrome": nobody,
		"iOS": nobody, "iPadOS": nobody, "Android": nobody,
	}[name]
	return test, ok
}

// labels returns the test that a node has one of some labels.
func (f *fleet) labels(source string, names []string) string {
	var tests, tags []string
	for _, name := range names {
		if test, ok := builtinLabel(name); ok {
			tests = append(tests, test)
			continue
		}
		if _, ok := f.asked[name]; !ok {
			f.asked[name] = source
		}
		tags = append(tags, f.tag(source, name))
	}
	if slices.Contains(tests, "all") {
		return ""
	}
	if len(tags) > 0 {
		tests = append(tests, in("tag", tags...))
	}
	return strings.Join(tests, " or ")
}

// targets reads the labels that a query is for, and returns them with their
// selector.
func (f *fleet) targets(o *fields) (labels []string, selector string) {
	include, all, exclude := o.texts("labels_include_any"), o.texts("labels_include_all"), o.texts("labels_exclude_any")
	tests := []string{f.labels(o.source, include)}
	for _, label := range all {
		tests = append(tests, f.labels(o.source, []string{label}))
	}
	labels = slices.Concat(include, all)
	if len(exclude) > 0 {
		test := f.labels(o.source, exclude)
		if test == "" {
			tests = append(tests, nobody)
		} else {
			tests = append(tests, "not ("+test+")")
		}
		labels = append(append(labels, "not"), exclude...)
	}
	return labels, both(tests...)
}
