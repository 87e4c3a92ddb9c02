package node

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// TagStore keeps what sources give nodes.
type TagStore interface {
	// SetTags makes the tags that each source gives each node exactly those of
	// its tagging, and returns the ids of the nodes that it changed, also with an
	// error. A node that is not there is left out.
	SetTags(ctx context.Context, taggings []Tagging, now time.Time) (changed []string, err error)
}

// RetaggerOptions are what a Retagger needs.
type RetaggerOptions struct {
	Rules    Tagger
	Registry *Registry
	Store    TagStore
	// Query reports whether a query still gives a tag, by the name in its source.
	// Tags of queries that do not are taken away. nil leaves them all.
	Query func(name, tag string) bool
	Log   *slog.Logger
	Now   func() time.Time
}

// Retagger keeps the tags that rules give nodes as the rules are, and the nodes.
type Retagger struct {
	RetaggerOptions
	rules atomic.Int64 // grows when rules changed
	wake  chan struct{}
}

// NewRetagger returns a Retagger; Run makes it work.
func NewRetagger(o RetaggerOptions) *Retagger {
	r := &Retagger{RetaggerOptions: o, wake: make(chan struct{}, 1)}
	r.rules.Store(1) // Identities begin with 0, which is judged by no rules
	return r
}

// Changed says that the rules, or the queries that give tags, are others now.
// Run then judges all nodes.
func (r *Retagger) Changed() {
	r.rules.Add(1)
	select {
	case r.wake <- struct{}{}:
	default: // it wakes anyway
	}
}

// retagEvery is how often changed nodes are judged: as often as the registry
// hears of them.
const retagEvery = syncEvery

// Run judges all nodes, then those that change, until ctx ends. What fails is
// logged and tried again.
func (r *Retagger) Run(ctx context.Context) error {
	tick := time.NewTicker(retagEvery)
	defer tick.Stop()
	done := [2]int64{}
	for {
		// Both are read first: what changes meanwhile is judged the next time.
		if state := [2]int64{r.rules.Load(), r.Registry.changed()}; state != done {
			if err := r.judge(ctx, state[0]); err == nil {
				done = state
			} else if ctx.Err() == nil {
				r.Log.WarnContext(ctx, "tags of rules were not kept; retrying", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-tick.C:
		}
	}
}

// retagChunk bounds the taggings that wait in memory for the store.
const retagChunk = 1000

// judge keeps the tags of all nodes that were not judged by these rules yet.
func (r *Retagger) judge(ctx context.Context, rules int64) error {
	var judged []*Identity
	var taggings []Tagging
	keep := func() error {
		if len(taggings) > 0 {
			if _, err := r.Store.SetTags(ctx, taggings, r.Now()); err != nil {
				return err
			}
		}
		for _, i := range judged {
			i.judged.Store(rules)
		}
		judged, taggings = judged[:0], taggings[:0]
		return nil
	}
	for _, i := range r.Registry.nodes() {
		if i.judged.Load() == rules {
			continue
		}
		judged, taggings = append(judged, i), append(taggings, r.differences(i)...)
		if len(taggings) >= retagChunk {
			if err := keep(); err != nil {
				return err
			}
		}
	}
	return keep()
}

// differences returns what is to change in the tags that rules and queries give
// a node.
func (r *Retagger) differences(i *Identity) []Tagging {
	tags := r.Rules.RuleTags(i.withoutRules())
	if r.fits(i.TagSources, tags) {
		return nil
	}
	want := r.want(i.TagSources, tags)
	var list []Tagging
	for _, pair := range [][2][]TagSource{{i.TagSources, want}, {want, i.TagSources}} {
		for _, s := range pair[0] {
			if _, both := slices.BinarySearchFunc(pair[1], s, TagSource.Compare); !both {
				list = tagged(list, i.ID, s.Source, want)
			}
		}
	}
	return list
}

// fits reports whether a node has what its rules give, and nothing of rules and
// queries besides. It makes no garbage, as most nodes most often fit.
func (r *Retagger) fits(sources []TagSource, tags []RuleTag) bool {
	byRule := 0
	for _, s := range sources {
		if r.lost(s) {
			return false
		}
		if s.byRule() {
			byRule++
		}
	}
	return byRule == len(tags) && !slices.ContainsFunc(tags, func(t RuleTag) bool {
		return !slices.ContainsFunc(sources, func(s TagSource) bool {
			return s.Tag == t.Tag && s.byRule() && s.Source[len(ruleSource):] == t.Rule
		})
	})
}

// lost reports whether a query no longer gives its tag.
func (r *Retagger) lost(s TagSource) bool {
	query, ok := s.query()
	return ok && r.Query != nil && !r.Query(query, s.Tag)
}

// want returns the sources that a node's tags should have, sorted.
func (r *Retagger) want(sources []TagSource, tags []RuleTag) []TagSource {
	list := make([]TagSource, 0, len(sources)+len(tags))
	for _, s := range sources {
		if !s.byRule() && !r.lost(s) {
			list = append(list, s)
		}
	}
	for _, t := range tags {
		list = append(list, TagSource{t.Tag, RuleSource(t.Rule)})
	}
	return SortTagSources(list)
}

// tagged adds what a source should give a node, unless it is in the list already.
func tagged(list []Tagging, id, source string, want []TagSource) []Tagging {
	if slices.ContainsFunc(list, func(t Tagging) bool { return t.Source == source }) {
		return list
	}
	t := Tagging{NodeID: id, Source: source}
	for _, s := range want {
		if s.Source == source {
			t.Tags = append(t.Tags, s.Tag)
		}
	}
	return append(list, t)
}

// withoutRules returns the node with the tags that other sources than rules give
// it.
func (i *Identity) withoutRules() *Identity {
	rest := given(i.TagSources)
	if len(rest) == len(i.TagSources) {
		return i
	}
	n := i.WithTags(TagsOf(rest))
	n.TagSources = rest
	return n
}
