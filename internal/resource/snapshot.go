package resource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Snapshot is a Set compiled to serve nodes. Safe for concurrent use.
type Snapshot struct {
	revision int64
	set      *Set
	packs    []chosen[map[string]any]
	profiles []chosen[[]entry] // the winning ones first
	rules    []chosen[[]string]
	onDisk   []chosen[struct{}]
	tagging  map[string]string // agents' query names to the tags that their rows give

	enrollments []*Enrollment
	triggers    []*TriggerPlan
	eventRules  []*RulePlan
	notifiers   []*NotifierPlan
	roles       []*account.Role
	sinks       []*SinkPlan

	mu       sync.RWMutex
	variants map[string]variant // by who is chosen, see choice
}

// chosen is what the nodes of a selector get.
type chosen[T any] struct {
	key  Key
	all  bool
	who  node.Where
	what T
}

func (c chosen[T]) means(n *node.Identity) bool { return c.all || c.who.Match(n) }

func choose[T any](o Object, selector string, what T) (chosen[T], error) {
	c := chosen[T]{key: o.Key, all: selector == "", what: what}
	if c.all {
		return c, nil
	}
	var err error
	c.who, err = node.ParseWhere("selector", selector)
	if err != nil {
		err = fmt.Errorf("%s: %w", o.Key, err)
	}
	return c, err
}

// variant is the config of all nodes for which the same objects are chosen.
type variant struct {
	config *Config
	// files is what nodes that take their config from files have: those get an
	// empty config.
	files   *Config
	sources []Entry
}

// Compile compiles the set of a revision. A set that passed Check compiles.
func Compile(revision int64, set *Set) (*Snapshot, error) {
	s := &Snapshot{revision: revision, set: set, tagging: map[string]string{}, variants: map[string]variant{}, roles: account.Builtin()}
	for o := range set.All() {
		var err error
		switch spec := o.Spec.(type) {
		case *Pack:
			err = s.addPack(o, spec)
		case *Profile:
			err = add(&s.profiles, o, spec.Selector, profileEntries(o.Key, spec))
		case *TagRule:
			err = add(&s.rules, o, spec.Selector, spec.Tags)
		case *OnDisk:
			err = add(&s.onDisk, o, spec.Selector, struct{}{})
		case *EnrollmentQuery:
			err = s.addEnrollment(o, spec)
		case *Trigger:
			err = s.addTrigger(o, spec)
		case *Rule:
			err = s.addEventRule(o, spec)
		case *Notifier:
			err = s.addNotifier(o, spec)
		case *Sink:
			err = s.addSink(o, spec)
		case *Role:
			err = s.addRole(o, spec)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(s.profiles, func(a, b chosen[[]entry]) int { // of equal ones the first by name, as set.All has them
		return cmp.Compare(priority(b.what), priority(a.what))
	})
	return s, nil
}

func priority(entries []entry) int {
	if len(entries) == 0 {
		return 0
	}
	return entries[0].priority
}

func add[T any](to *[]chosen[T], o Object, selector string, what T) error {
	c, err := choose(o, selector, what)
	*to = append(*to, c)
	return err
}

func (s *Snapshot) addPack(o Object, p *Pack) error {
	for name, q := range p.Queries {
		if q.TagIfRows != "" {
			s.tagging[AgentName(o.Name, name)] = q.TagIfRows
		}
	}
	doc, _ := generic(p).(map[string]any)
	delete(doc, "selector")
	queries, _ := doc["queries"].(map[string]any)
	for _, q := range queries {
		if m, ok := q.(map[string]any); ok {
			for _, word := range []string{"description", "value", "tag_if_rows"} { // for people and for the server
				delete(m, word)
			}
		}
	}
	return add(&s.packs, o, p.Selector, doc)
}

// Revision returns the number of the revision that it was compiled from.
func (s *Snapshot) Revision() int64 { return s.revision }

// Set returns the objects.
func (s *Snapshot) Set() *Set { return s.set }

// TagOf returns the tag that a query's rows give, by its name on agents; "" if
// they give none.
func (s *Snapshot) TagOf(agentName string) string { return s.tagging[agentName] }

// RuleTags implements [node.Tagger]: the tags that rules give a node.
func (s *Snapshot) RuleTags(n *node.Identity) []node.RuleTag {
	var tags []node.RuleTag
	for _, r := range s.rules {
		if r.means(n) {
			for _, t := range r.what {
				tags = append(tags, node.RuleTag{Rule: r.key.Name, Tag: t})
			}
		}
	}
	return tags
}

// As returns the node as the Set's tag rules make it: with the tags that they
// give instead of those that other rules gave it. Those that nodes have follow
// the rules that are served, with which a Set that is only planned must not be
// judged.
func (s *Snapshot) As(n *node.Identity) *node.Identity {
	tags := slices.Clone(n.Given())
	for _, t := range s.RuleTags(n) {
		tags = append(tags, t.Tag)
	}
	slices.Sort(tags)
	if tags = slices.Compact(tags); slices.Equal(tags, n.Tags) {
		return n
	}
	return n.WithTags(tags)
}

// Config returns what a node is to run. Equal configs are the same *Config. An
// error means that the config is larger than osquery takes.
func (s *Snapshot) Config(n *node.Identity) (*Config, error) {
	v, err := s.variant(n)
	return v.config, err
}

// Files returns the config that a node's files should hold, if it takes its
// config from files; else nil.
func (s *Snapshot) Files(n *node.Identity) (*Config, error) {
	v, err := s.variant(n)
	return v.files, err
}

// Bare returns the settings by which a node talks to the server, and nothing to
// run: for nodes under quarantine and in an emergency.
func (s *Snapshot) Bare(n *node.Identity) (*Config, error) {
	v, err := s.lookup("bare"+s.chooseProfiles(n), func() (variant, error) {
		m := s.merge(n)
		for section := range m.doc {
			if section != "options" {
				delete(m.doc, section)
			}
		}
		m.doc["packs"] = map[string]any{}
		c, err := newConfig(s.revision, m.doc)
		return variant{config: c}, err
	})
	return v.config, err
}

// Entry says where one part of a node's config comes from.
type Entry struct {
	Path   string `json:"path"`
	Source Key    `json:"source"`
	// Lost are the objects that say something else at this place, and do not
	// win.
	Lost []Key `json:"lost,omitempty"`
}

// Sources says of each part of a node's config which object it comes from.
func (s *Snapshot) Sources(n *node.Identity) ([]Entry, error) {
	v, err := s.variant(n)
	return v.sources, err
}

func (s *Snapshot) variant(n *node.Identity) (variant, error) {
	return s.lookup(s.choice(n), func() (variant, error) { return s.render(n) })
}

// lookup returns a variant, and makes it once.
func (s *Snapshot) lookup(key string, render func() (variant, error)) (variant, error) {
	s.mu.RLock()
	v, ok := s.variants[key]
	s.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := render()
	if err != nil {
		return variant{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if had, ok := s.variants[key]; ok {
		return had, nil // another request was faster; one config has one address
	}
	s.variants[key] = v
	return v, nil
}

// choice names the objects that are chosen for a node.
func (s *Snapshot) choice(n *node.Identity) string {
	var b strings.Builder
	for _, p := range s.packs {
		mark(&b, p.means(n))
	}
	b.WriteString(s.chooseProfiles(n))
	mark(&b, slices.ContainsFunc(s.onDisk, func(c chosen[struct{}]) bool { return c.means(n) }))
	return b.String()
}

func (s *Snapshot) chooseProfiles(n *node.Identity) string {
	var b strings.Builder
	for _, p := range s.profiles {
		mark(&b, p.means(n))
	}
	return b.String()
}

func mark(b *strings.Builder, yes bool) {
	if yes {
		b.WriteByte('1')
	} else {
		b.WriteByte('0')
	}
}

func (s *Snapshot) render(n *node.Identity) (variant, error) {
	m := s.merge(n)
	packs := map[string]any{}
	for _, p := range s.packs {
		if p.means(n) {
			packs[p.key.Name] = p.what
			m.sources = append(m.sources, Entry{Path: "packs." + p.key.Name, Source: p.key})
		}
	}
	m.doc["packs"] = packs
	slices.SortFunc(m.sources, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	c, err := newConfig(s.revision, m.doc)
	if err != nil {
		return variant{}, err
	}
	v := variant{config: c, sources: m.sources}
	if slices.ContainsFunc(s.onDisk, func(c chosen[struct{}]) bool { return c.means(n) }) {
		v.files = c
		v.config, err = newConfig(s.revision, map[string]any{})
	}
	return v, err
}

// merged is a config in the making.
type merged struct {
	doc     map[string]any
	sources []Entry
	at      map[string]int // index in sources by path
}

// merge joins the profiles of a node, the winning ones first.
func (s *Snapshot) merge(n *node.Identity) *merged {
	m := &merged{doc: map[string]any{}, at: map[string]int{}}
	for _, p := range s.profiles {
		if p.means(n) {
			for _, e := range p.what {
				m.add(e)
			}
		}
	}
	return m
}

func (m *merged) add(e entry) {
	parent := m.doc
	for _, k := range e.path[:len(e.path)-1] {
		child, ok := parent[k].(map[string]any)
		if !ok {
			child = map[string]any{}
			parent[k] = child
		}
		parent = child
	}
	last, path := e.path[len(e.path)-1], strings.Join(e.path, ".")
	if e.list {
		m.addList(parent, last, path, e)
		return
	}
	if i, ok := m.at[path]; ok {
		m.sources[i].Lost = append(m.sources[i].Lost, e.source)
		return
	}
	m.at[path] = len(m.sources)
	m.sources = append(m.sources, Entry{Path: path, Source: e.source})
	parent[last] = e.value
}

// addList adds what a list does not have yet.
func (m *merged) addList(parent map[string]any, last, path string, e entry) {
	had, _ := parent[last].([]any)
	given, _ := e.value.([]any)
	list := slices.Clone(had)
	for _, v := range given {
		if !slices.Contains(list, v) {
			m.sources = append(m.sources, Entry{Path: indexed(path, len(list)), Source: e.source})
			list = append(list, v)
		}
	}
	parent[last] = list
}

// Scheduled is a query in a node's config.
type Scheduled struct {
	Name     string // on agents
	Hash     string // of its text
	Interval int    // seconds
	Snapshot bool
	// Conditional says that the agent may leave it out: its platform, version or
	// shard, or the pack's discovery, decide there.
	Conditional bool
}

// Schedule returns the queries in a node's config, by name.
func (s *Snapshot) Schedule(n *node.Identity) []Scheduled {
	var list []Scheduled
	for _, p := range s.packs {
		if o, ok := s.set.Get(p.key); ok && p.means(n) {
			if spec, ok := o.Spec.(*Pack); ok {
				for name, q := range spec.Queries {
					list = append(list, Scheduled{
						Name: AgentName(p.key.Name, name), Hash: policy.Hash(q.Query), Interval: q.Interval, Snapshot: q.Snapshot,
						Conditional: q.conditional() || spec.conditional(),
					})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Scheduled) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
