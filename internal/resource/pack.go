package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Pack is scheduled queries. Its keys are osquery's (osquery/config/packs.cpp),
// besides selector.
type Pack struct {
	// Selector says whose config it is in; all nodes if empty.
	Selector  string           `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that get the pack; all if it is left out"`
	Platform  string           `json:"platform,omitempty" yaml:"platform,omitempty" doc:"Platforms that run it, as linux,darwin; all if it is left out"`
	Version   string           `json:"version,omitempty" yaml:"version,omitempty" doc:"Oldest version of osquery that runs it"`
	Shard     int              `json:"shard,omitempty" yaml:"shard,omitempty" doc:"Percentage of hosts that run it, by osquery's own hash of the host name"`
	Discovery []string         `json:"discovery,omitempty" yaml:"discovery,omitempty" doc:"SELECTs that must all return a row, or the host leaves the pack out"`
	Queries   map[string]Query `json:"queries" yaml:"queries" doc:"The queries by name"`
}

// Query is one scheduled query.
type Query struct {
	Query           string `json:"query" yaml:"query" doc:"One SELECT"`
	Interval        int    `json:"interval" yaml:"interval" doc:"Seconds between runs, 1 to 604800"`
	Description     string `json:"description,omitempty" yaml:"description,omitempty" doc:"What it is for; agents do not get it"`
	Value           string `json:"value,omitempty" yaml:"value,omitempty" doc:"What its rows are good for; agents do not get it"`
	Platform        string `json:"platform,omitempty" yaml:"platform,omitempty" doc:"Platforms that run it, as linux,darwin"`
	Version         string `json:"version,omitempty" yaml:"version,omitempty" doc:"Oldest version of osquery that runs it"`
	Shard           int    `json:"shard,omitempty" yaml:"shard,omitempty" doc:"Percentage of hosts that run it"`
	Snapshot        bool   `json:"snapshot,omitempty" yaml:"snapshot,omitempty" doc:"Send all rows each time, not the difference"`
	Removed         *bool  `json:"removed,omitempty" yaml:"removed,omitempty" doc:"Log rows that went, too; true if it is left out"`
	Denylist        *bool  `json:"denylist,omitempty" yaml:"denylist,omitempty" doc:"Let the watchdog take it off the schedule; true if it is left out"`
	StartupPriority int    `json:"startup_priority,omitempty" yaml:"startup_priority,omitempty" doc:"Run once as soon as it appears (osquery 5.17), lower numbers first"`
	// TagIfRows is a tag that a node has as long as the query's last run
	// returned rows. It needs Snapshot.
	TagIfRows string `json:"tag_if_rows,omitempty" yaml:"tag_if_rows,omitempty" doc:"A tag that a node has while the query returns rows; needs snapshot"`
}

// AgentName is the name under which an agent logs a pack's query, with the
// delimiter that osquery has by default.
func AgentName(pack, query string) string { return "pack_" + pack + "_" + query }

// conditional reports whether agents may leave the pack out.
func (p *Pack) conditional() bool {
	return p.Platform != "" || p.Version != "" || p.Shard > 0 || len(p.Discovery) > 0
}

// conditional reports whether agents may leave the query out.
func (q Query) conditional() bool { return q.Platform != "" || q.Version != "" || q.Shard > 0 }

func (p *Pack) check(c *checker) {
	c.selector("selector", p.Selector)
	c.platform("platform", p.Platform)
	c.shard("shard", p.Shard)
	for i, sql := range p.Discovery {
		c.query(fmt.Sprintf("discovery[%d]", i), policy.Query{SQL: sql, Use: policy.Discovery, Platforms: platforms(p.Platform)})
	}
	if len(p.Queries) == 0 {
		c.refuse("queries", "empty-pack", "the pack has no queries")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Queries)) {
		p.checkQuery(c, "queries."+name, name, p.Queries[name])
	}
}

func (p *Pack) checkQuery(c *checker, path, name string, q Query) {
	if err := policy.QueryName(name); err != nil {
		c.refuse(path, "bad-name", "%v", err)
	}
	c.platform(path+".platform", q.Platform)
	c.shard(path+".shard", q.Shard)
	if q.Interval == 0 {
		c.refuse(path+".interval", "no-interval", "the query has no interval; write how many seconds lie between its runs")
	}
	if q.StartupPriority < 0 {
		c.refuse(path+".startup_priority", "negative", "must not be negative: agents would read a huge number")
	}
	if q.Denylist != nil && !*q.Denylist {
		c.item(path+".denylist", policy.Verdict{Tier: policy.Sensitive, Reasons: []policy.Reason{{
			Kind: "option", Name: "denylist", Tier: policy.Sensitive, Why: "the watchdog cannot take the query off the schedule when it hurts the host",
		}}})
	}
	if q.TagIfRows != "" {
		c.tags(path+".tag_if_rows", []string{q.TagIfRows})
		if !q.Snapshot {
			c.refuse(path+".tag_if_rows", "tag-needs-snapshot", "needs snapshot: true, so that a run without rows is told of")
		}
	}
	c.query(path+".query", policy.Query{
		SQL: q.Query, Use: policy.Scheduled, Interval: q.Interval, Snapshot: q.Snapshot,
		Removed: q.Removed == nil || *q.Removed, Platforms: both(platforms(p.Platform), platforms(q.Platform)),
	})
}

// platforms returns the platforms that a platform key means to an agent, nil
// for all. It is a substring test there (osquery/config/packs.cpp,
// checkPlatform).
func platforms(key string) []string {
	if key == "" || key == "null" || strings.Contains(key, "any") || strings.Contains(key, "all") {
		return nil
	}
	list := []string{}
	posix := strings.Contains(key, "posix")
	if posix || strings.Contains(key, "darwin") {
		list = append(list, "darwin")
	}
	if posix || strings.Contains(key, "linux") || strings.Contains(key, "ubuntu") || strings.Contains(key, "centos") {
		list = append(list, "linux")
	}
	if strings.Contains(key, "windows") {
		list = append(list, "windows")
	}
	return list
}

// both returns the platforms that are in a and in b; nil is all.
func both(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(p string) bool { return !slices.Contains(b, p) })
}

// Profile is the rest of a config. When several mean one node, the one with the
// higher priority wins each key; of equal ones, the first by name.
type Profile struct {
	Selector string `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that get the profile; all if it is left out"`
	Priority int    `json:"priority,omitempty" yaml:"priority,omitempty" doc:"The higher one wins where two profiles say different things; 0 if it is left out"`

	policy.Config `yaml:",inline"`
}

func (p *Profile) check(c *checker) {
	c.selector("selector", p.Selector)
	for _, item := range c.engine.Config(p.Config) {
		c.item(item.Path, item.Verdict)
	}
}

// TagRule gives tags to nodes by their attributes.
type TagRule struct {
	Selector string   `json:"selector" yaml:"selector" doc:"Nodes that get the tags; it must not look at tags that rules give"`
	Tags     []string `json:"tags" yaml:"tags" doc:"The tags"`
}

func (r *TagRule) check(c *checker) {
	if r.Selector == "" {
		c.refuse("selector", "no-selector", `is missing; write who gets the tags, as hostname = "db-*"`)
	} else {
		c.selector("selector", r.Selector)
	}
	if len(r.Tags) == 0 {
		c.refuse("tags", "no-tags", "are missing")
	}
	c.tags("tags", r.Tags)
	for _, given := range c.ruleTags() {
		if w, err := node.ParseWhere("selector", r.Selector); err == nil && w.LooksAtTag(given) {
			c.refuse("selector", "tag-of-rule", "looks at the tag %s, which a tag rule gives; rules see only tags that people, secrets and queries give", given)
		}
	}
}

// OnDisk says that nodes take their config from files.
type OnDisk struct {
	Selector string `json:"selector" yaml:"selector" doc:"Nodes that take no config from the server"`
}

func (o *OnDisk) check(c *checker) {
	if o.Selector == "" {
		c.refuse("selector", "no-selector", "is missing; write which nodes take no config from the server")
		return
	}
	c.selector("selector", o.Selector)
	c.warn("selector", "empties-config", "a node of these that still takes its config from the server gets an empty one and runs nothing; give it its files first, by muster export agent")
}
