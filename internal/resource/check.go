package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Item is one part of an object that has a tier or findings.
type Item struct {
	Key
	Path    string         `json:"path"` // queries.usb.query, options.verbose …
	Verdict policy.Verdict `json:"verdict"`
}

// Allowed reports whether the item may be in a Set.
func (i Item) Allowed(limit policy.Tier) bool { return i.Verdict.Allowed(limit) }

// Report is what the check of a Set found, by object.
type Report struct{ Items []Item }

// Refused returns the items that are above a tier without an exception, or that
// no tier allows.
func (r Report) Refused(limit policy.Tier) []Item {
	refused := []Item{}
	for _, i := range r.Items {
		if !i.Allowed(limit) {
			refused = append(refused, i)
		}
	}
	return refused
}

// Of returns the items of one object.
func (r Report) Of(k Key) []Item {
	items := []Item{}
	for _, i := range r.Items {
		if i.Key == k {
			items = append(items, i)
		}
	}
	return items
}

// Tier returns the highest tier of some objects' items.
func (r Report) Tier(keys []Key) policy.Tier {
	tier := policy.Harmless
	for _, i := range r.Items {
		if slices.Contains(keys, i.Key) {
			tier = max(tier, i.Verdict.Tier)
		}
	}
	return tier
}

// Check judges every object of a Set. The engine is the shipped policy; the
// Set's own table policies and exceptions are added to it.
func Check(s *Set, engine *policy.Engine, now time.Time) (Report, error) {
	return check(s, engine, now, false)
}

// CheckAll is Check whose report has harmless items too.
func CheckAll(s *Set, engine *policy.Engine, now time.Time) (Report, error) {
	return check(s, engine, now, true)
}

func check(s *Set, engine *policy.Engine, now time.Time, all bool) (Report, error) {
	c := &checker{set: s, engine: engine, now: now, all: all}
	own, err := engine.With(s.Rules(now))
	switch {
	case err == nil:
		defer own.Close() //nolint:errcheck // it holds memory only
		c.engine = own
	case errs.Is(err, errs.Invalid):
		c.refuse("", "bad-rules", "%v", err) // of whichever object; the rest is judged without
	default:
		return Report{}, err
	}
	for o := range s.All() {
		c.object = o
		o.Spec.check(c)
	}
	c.profiles()
	c.packNames()
	c.evidence()
	c.ownTables()
	return Report{c.items}, nil
}

// checker gathers what is found in the objects of one Set.
type checker struct {
	set    *Set
	engine *policy.Engine
	now    time.Time
	all    bool // harmless items too
	object Object
	items  []Item
}

// item notes a verdict, if it says anything.
func (c *checker) item(path string, v policy.Verdict) {
	if v.Tier == policy.Harmless && len(v.Findings) == 0 && !c.all {
		return
	}
	if v.Tier > policy.Sensitive && v.Exception == "" {
		v.Exception = c.exception(path)
	}
	c.items = append(c.items, Item{c.object.Key, path, v})
}

// exception returns the name of the exception for a path of the object, "" if
// there is none.
func (c *checker) exception(path string) string {
	if c.object.Kind != "Profile" {
		return ""
	}
	value, ok := valueAt(c.object.Spec, path)
	if !ok {
		return ""
	}
	for k, e := range Specs[*PolicyException](c.set) {
		if !e.expired(c.now) && e.allows(path, value) {
			return k.Name
		}
	}
	return ""
}

func (c *checker) query(path string, q policy.Query) { c.item(path, c.engine.Query(q)) }

func (c *checker) refuse(path, code, format string, args ...any) {
	c.found(path, code, policy.Refused, format, args...)
}

func (c *checker) warn(path, code, format string, args ...any) {
	c.found(path, code, policy.Warning, format, args...)
}

func (c *checker) found(path, code string, s policy.Severity, format string, args ...any) {
	c.item(path, policy.Verdict{Findings: []policy.Finding{{Code: code, Severity: s, Message: fmt.Sprintf(format, args...)}}})
}

func (c *checker) selector(path, text string) {
	if text == "" {
		return
	}
	if _, err := node.ParseWhere(path, text); err != nil {
		c.refuse(path, "bad-selector", "%v", err)
	}
}

func (c *checker) tags(path string, tags []string) {
	if _, err := node.CleanTags(path, tags); err != nil {
		c.refuse(path, "bad-tag", "%v", err)
	}
}

func (c *checker) tier(path string, tier int) {
	if tier < 0 || tier > int(policy.Dangerous) {
		c.refuse(path, "range", "must be 0 to 3")
	}
}

func (c *checker) shard(path string, shard int) {
	if shard < 0 || shard > 100 {
		c.refuse(path, "range", "must be 1 to 100, or left out")
	}
}

func (c *checker) platform(path, key string) {
	list := platforms(key)
	switch {
	case list != nil && len(list) == 0:
		c.warn(path, "no-such-platform", "%q means no platform to osquery; it knows linux, darwin, windows and posix", key)
	case list == nil && key != "" && key != "all" && key != "any" && key != "null":
		c.warn(path, "every-platform", "%q holds the letters any or all, so osquery runs it everywhere", key)
	}
}

// ruleTags returns the tags that tag rules and queries' results give.
func (c *checker) ruleTags() []string {
	var tags []string
	for _, r := range Specs[*TagRule](c.set) {
		tags = append(tags, r.Tags...)
	}
	return tags
}

// packNames refuses packs whose queries have the same name on agents.
func (c *checker) packNames() {
	packs := map[string][]string{}
	for k, p := range Specs[*Pack](c.set) {
		packs[k.Name] = slices.Sorted(maps.Keys(p.Queries))
	}
	for _, f := range policy.Collisions(packs, "_") {
		c.items = append(c.items, Item{Key{"Pack", ""}, "", policy.Verdict{Findings: []policy.Finding{f}}})
	}
}

// ownTables refuses views and automatic tables of one name that are not the same:
// the queries that use the name would be judged by one of them, and run on another.
func (c *checker) ownTables() {
	type said struct {
		by   Key
		text string
	}
	first := map[string]said{}
	for k, p := range Specs[*Profile](c.set) {
		c.object = c.set.objects[k]
		names := map[string]any{}
		for name, text := range p.Views {
			names[name] = text
		}
		for name, t := range p.AutoTables {
			names[name] = t
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			b, err := encode(names[name])
			if err != nil {
				continue // no parsed profile has what JSON cannot hold
			}
			folded := strings.ToLower(name)
			had, ok := first[folded]
			if !ok {
				first[folded] = said{k, string(b)}
			} else if had.text != string(b) {
				c.refuse(name, "name-twice", "%s has another view or automatic table of this name; choose two names", had.by)
			}
		}
	}
}

// HealthPack is the pack by which nodes tell how they fare. It comes with
// Muster; rollouts are judged by it.
const HealthPack = "muster-health"

// evidence warns of rollouts that nothing can be known of.
func (c *checker) evidence() {
	if _, ok := c.set.Get(Key{"Pack", HealthPack}); ok {
		return
	}
	for k := range Specs[*RolloutPolicy](c.set) {
		c.object = c.set.objects[k]
		c.warn("gates", "no-evidence", "there is no Pack/%s, by which nodes tell how they fare; without it every stage fails for missing evidence", HealthPack)
	}
}

// profiles finds what two profiles of equal priority say differently of one
// thing: which of them wins is decided by their names alone, which nobody means.
func (c *checker) profiles() {
	type said struct {
		by    Key
		value string
	}
	first := map[string]said{}
	for k, p := range Specs[*Profile](c.set) {
		c.object = c.set.objects[k]
		for _, e := range profileEntries(k, p) {
			value, err := encode(e.value)
			if err != nil || e.list {
				continue
			}
			id := fmt.Sprint(p.Priority, " ", strings.Join(e.path, "\x00"))
			had, ok := first[id]
			if !ok {
				first[id] = said{k, string(value)}
			} else if had.value != string(value) {
				c.warn(strings.Join(e.path, "."), "conflict", "%s, of the same priority, says %s; on nodes that have both, %s wins. Give one a higher priority", had.by, had.value, had.by)
			}
		}
	}
}
