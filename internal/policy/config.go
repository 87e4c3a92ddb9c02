package policy

import (
	"fmt"
	"maps"
	"slices"
)

// Config is everything in an agent's config but its packs, with osquery's own
// keys (plugins/config/parsers), in their order. An absent key changes nothing
// on the agent, which is not the same as an empty one: an empty views removes
// all views, so that empty maps are written and absent ones are not.
type Config struct {
	AutoTables        map[string]AutoTable `yaml:"auto_table_construction,omitempty" json:"auto_table_construction,omitzero"`
	Decorators        Decorators           `yaml:"decorators,omitempty" json:"decorators,omitzero"`
	Events            Events               `yaml:"events,omitempty" json:"events,omitzero"`
	ExcludePaths      map[string][]string  `yaml:"exclude_paths,omitempty" json:"exclude_paths,omitzero"`
	FileAccesses      []string             `yaml:"file_accesses,omitempty" json:"file_accesses,omitzero"`
	FilePaths         map[string][]string  `yaml:"file_paths,omitempty" json:"file_paths,omitzero"`
	FilePathsQuery    map[string][]string  `yaml:"file_paths_query,omitempty" json:"file_paths_query,omitzero"`
	Options           map[string]any       `yaml:"options,omitempty" json:"options,omitzero"`
	PrometheusTargets PrometheusTargets    `yaml:"prometheus_targets,omitempty" json:"prometheus_targets,omitzero"`
	Views             map[string]string    `yaml:"views,omitempty" json:"views,omitzero"`
	Yara              Yara                 `yaml:"yara,omitempty" json:"yara,omitzero"`
}

// Decorators are texts whose first row is added to every log line.
type Decorators struct {
	Always   []string            `yaml:"always,omitempty" json:"always,omitempty"`     // before every query
	Interval map[string][]string `yaml:"interval,omitempty" json:"interval,omitempty"` // by seconds, multiples of 60
	Load     []string            `yaml:"load,omitempty" json:"load,omitempty"`         // when the config is applied
}

// AutoTable makes a table of the SQLite files that Path names.
type AutoTable struct {
	Columns  []string `yaml:"columns,omitempty" json:"columns,omitempty"`
	Path     string   `yaml:"path" json:"path"`
	Platform string   `yaml:"platform,omitempty" json:"platform,omitempty"`
	Query    string   `yaml:"query" json:"query"`
}

// Events turns event tables on and off, from an agent's next start on.
type Events struct {
	DisableSubscribers []string `yaml:"disable_subscribers,omitempty" json:"disable_subscribers,omitempty"`
	EnableSubscribers  []string `yaml:"enable_subscribers,omitempty" json:"enable_subscribers,omitempty"`
}

// PrometheusTargets are what the table prometheus_metrics fetches.
type PrometheusTargets struct {
	Timeout int      `yaml:"timeout,omitempty" json:"timeout,omitempty"` // seconds; 0 is osquery's default
	URLs    []string `yaml:"urls,omitempty" json:"urls,omitempty"`
}

// Yara says what rules scan which file events.
type Yara struct {
	FilePaths     map[string][]string `yaml:"file_paths,omitempty" json:"file_paths,omitempty"` // category → groups
	SignatureURLs []string            `yaml:"signature_urls,omitempty" json:"signature_urls,omitempty"`
	Signatures    map[string][]string `yaml:"signatures,omitempty" json:"signatures,omitempty"` // group → files
}

// Item is what the policy says of one part of a config.
type Item struct {
	Path string `json:"path"` // options.verbose, decorators.load[0], file_paths.etc[2]
	Verdict
}

// What a config may hold. osquery has no such limits; they bound the work of
// judging, and nobody's config comes near.
const (
	maxOptions    = 300 // there are fewer flags
	maxTexts      = 100 // SQL texts, together
	maxAlways     = 5   // more decorators before every query are worth a remark
	maxCategories = 200
	maxPatterns   = 500 // of one category
	maxNames      = 100 // views, automatic tables, subscribers, URLs
	maxItems      = 2000
)

// judge decides what a SQL text may do.
type judge interface {
	Query(q Query) Verdict
}

// checker judges everything but SQL, for which it asks sql.
type checker struct {
	sql judge
	// table says whether osquery has a table, and whether it is one of events.
	table func(name string) (known, evented bool)
	rules Rules
}

// report gathers the verdicts on one config.
type report struct {
	checker
	config Config
	texts  int             // SQL texts so far
	taken  map[string]bool // names of views and automatic tables, in lower case
	items  []Item
}

// check judges all parts of a config, in the order of its keys.
func (c checker) check(config Config) []Item {
	r := &report{checker: c, config: config, taken: map[string]bool{}}
	r.autoTables()
	r.decorators()
	r.events()
	r.files()
	r.options()
	r.prometheus()
	r.views()
	r.yara()
	return r.items
}

// options judges each option; two names of one flag are no way to set it.
func (r *report) options() {
	for _, name := range names(r, "options", r.config.Options, maxOptions) {
		v := r.option(name, r.config.Options[name])
		if f, ok := lookupFlag(name); ok && f.AliasOf != "" && v.Provable() {
			if _, both := r.config.Options[f.AliasOf]; both {
				v.refuse("option", name, "option-twice", "it is another name of "+f.AliasOf+", which is set too; leave one out")
			}
		}
		r.add("options."+clip(name), v.sorted())
	}
}

func (r *report) add(path string, v Verdict) {
	switch n := len(r.items); {
	case n == maxItems:
		v, path = newVerdict(), "config"
		v.refuse("config", path, "too-many", fmt.Sprintf("it has more than %d parts; the others are not judged; remove some", maxItems))
	case n > maxItems:
		return
	}
	r.items = append(r.items, Item{Path: path, Verdict: v})
}

// full reports whether there is no sense in judging more.
func (r *report) full() bool { return len(r.items) > maxItems }

// names returns a map's keys in order, and at most limit of them.
func names[V any](r *report, path string, m map[string]V, limit int) []string {
	return r.few(path, slices.Sorted(maps.Keys(m)), limit)
}

// few returns at most limit texts of a list; that there are more is refused.
func (r *report) few(path string, list []string, limit int) []string {
	if len(list) <= limit {
		return list
	}
	v := newVerdict()
	v.refuse("config", path, "too-many", fmt.Sprintf("it has %d entries; at most %d are allowed; remove some", len(list), limit))
	r.add(path, v)
	return list[:limit]
}

// each judges the entries of one list.
func (r *report) each(path string, list []string, limit int, judge func(string) Verdict) {
	for i, text := range r.few(path, list, limit) {
		if r.full() {
			return
		}
		r.add(fmt.Sprintf("%s[%d]", path, i), judge(text))
	}
}

func newVerdict() Verdict {
	return Verdict{
		Reasons: []Reason{}, Tables: []string{}, Columns: []string{}, Functions: []string{},
		Findings: []Finding{}, Platforms: allPlatforms(),
	}
}

// refuse says that no tier allows it.
func (v *Verdict) refuse(kind, name, code, why string) {
	v.add(Reason{Kind: kind, Name: name, Tier: Dangerous, Why: why})
	v.find(code, Refused, "%s", why)
}

// sorted returns the verdict with its highest reasons first.
func (v Verdict) sorted() Verdict {
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return int(b.Tier) - int(a.Tier) })
	return v
}
