package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sourced reads "tag source" pairs, parted by commas.
func sourced(text string) (list []TagSource) {
	for pair := range strings.SplitSeq(text, ", ") {
		if tag, source, ok := strings.Cut(pair, " "); ok {
			list = append(list, TagSource{tag, source})
		}
	}
	return list
}

func sourcesText(list []TagSource) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, s.Tag+" "+s.Source)
	}
	return strings.Join(parts, ", ")
}

func TestTagByHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ had, tags, want string }{
		{"", "", ""},
		{"", "b a", "a hand, b hand"},
		{"a hand", "", ""},
		{"a hand", "a", "a hand"},
		{"a secret:s", "a b", "a secret:s, b hand"},
		{"a secret:s, b hand", "b", "b hand"},
		{"a rule:r, b query:q", "", "a rule:r, b query:q"},
		{"a rule:r, b query:q", "a b", "a rule:r, b query:q"}, // it had them already
		{"a hand, a rule:r, a secret:s", "", "a rule:r"},
		{"a hand, a rule:r, a secret:s", "a", "a hand, a rule:r, a secret:s"},
	} {
		had := sourced(tt.had)
		if got := sourcesText(TagByHand(had, strings.Fields(tt.tags))); got != tt.want || sourcesText(had) != tt.had {
			t.Errorf("%s, set to %s: %s, want %s", tt.had, tt.tags, got, tt.want)
		}
	}
}

func TestTagging_Apply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ had, source, tags, want string }{
		{"", "rule:r", "", ""},
		{"", "rule:r", "b a b", "a rule:r, b rule:r"},
		{"a hand, a rule:r, c rule:r", "rule:r", "b a", "a hand, a rule:r, b rule:r"},
		{"a hand, a rule:r, c rule:r, c rule:s", "rule:r", "", "a hand, c rule:s"},
	} {
		had := sourced(tt.had)
		got := Tagging{"n", tt.source, strings.Fields(tt.tags)}.Apply(had)
		if sourcesText(got) != tt.want || sourcesText(had) != tt.had {
			t.Errorf("%s, %s gives %q: %s, want %s", tt.had, tt.source, tt.tags, sourcesText(got), tt.want)
		}
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, TagsOf(sourced("a hand, a rule:r, b hand, c query:q, c secret:s"))); d != "" {
		t.Error(d)
	}
}

// TestNode_grant: a node loses what another secret gave, and keeps the rest.
func TestNode_grant(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range MaxTags - 1 {
		many = append(many, fmt.Sprintf("t%02d", i))
	}
	full := sourcesText(TaggedBy(SourceHand, many))
	for _, tt := range []struct{ had, given, want string }{
		{"", "", ""},
		{"", "eu prod", "eu secret:new, prod secret:new"},
		{"eu secret:old, us secret:old, x rule:r, y hand, z query:q", "eu", "eu secret:new, x rule:r, y hand, z query:q"},
		{"eu hand, eu secret:new, us secret:new", "eu", "eu hand, eu secret:new"},
		{"eu hand", "", "eu hand"},
		{full, "a b t07", "a secret:new, " + strings.Replace(full, "t07 hand", "t07 hand, t07 secret:new", 1)},
		{full + ", z secret:old, zz secret:old", "z zz", full + ", z secret:new"},
	} {
		n := Node{Tags: strings.Fields(tt.given), TagSources: TaggedBy("secret:new", strings.Fields(tt.given))}
		n.grant(sourced(tt.had))
		if got := sourcesText(n.TagSources); got != tt.want {
			t.Errorf("had %s, given %s: %s", tt.had, tt.given, got)
		}
		if d := cmp.Diff(TagsOf(n.TagSources), append([]string{}, n.Tags...)); d != "" {
			t.Error("the tags are not those of the sources:", d)
		}
	}
}

// rules is a Tagger of expressions: a rule gives the tags that are its name's
// parts.
type rules map[string]Where

func (r rules) RuleTags(n *Identity) (list []RuleTag) {
	for rule, w := range r {
		if w.Match(n) {
			for tag := range strings.SplitSeq(rule, "+") {
				list = append(list, RuleTag{rule, tag})
			}
		}
	}
	return list
}

func newRules(tb testing.TB, texts map[string]string) rules {
	tb.Helper()
	r := rules{}
	for rule, text := range texts {
		w, err := ParseWhere("where", text)
		if err != nil {
			tb.Fatal(err)
		}
		r[rule] = w
	}
	return r
}

// TestEnroller_rules: who enrols has the tags of its rules at once, and no rule
// sees what another gives.
func TestEnroller_rules(t *testing.T) {
	t.Parallel()
	s := &enrolStore{secrets: map[string]*Secret{"s": {Name: "s", Tags: []string{"base"}}, "other": {Name: "other"}}}
	given := newRules(t, map[string]string{
		"web": `hostname = "web*" and tag = base`, "chained": "tag = web", "base+debian": `os_version.platform = debian`, "mac": "platform = darwin",
	})
	e, r := newEnroller(t, s, func(o *EnrollerOptions) { o.Rules = given })
	_, n, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{})
	if got := sourcesText(n.TagSources); err != nil || got != "base rule:base+debian, base secret:s, debian rule:base+debian, web rule:web" {
		t.Errorf("%s, %v", got, err)
	}
	i := r.Lookup(n.ID)
	if d := cmp.Diff([]string{"base", "debian", "web"}, i.Tags); d != "" || !slices.Equal(i.TagSources, n.TagSources) {
		t.Errorf("%v %s", i.TagSources, d)
	}
	delete(given, "base+debian")
	_, n, err = e.Enrol(t.Context(), request("other", "i"), home, Certificate{})
	if err != nil || len(n.TagSources) != 0 || n.Enrolments != 2 {
		t.Errorf("with another secret and rule: %v, %v", n.TagSources, err)
	}
}

// tagStore is a store that keeps tags, too.
type tagStore struct {
	*store

	calls    int
	taggings []Tagging // of all calls that did not fail
}

func (s *tagStore) SetTags(_ context.Context, taggings []Tagging, _ time.Time) (changed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return nil, s.err
	}
	s.taggings = append(s.taggings, taggings...)
	version := s.next()
	for _, t := range taggings {
		for i := range s.changes {
			n := &s.changes[i].Node
			if n.ID != t.NodeID {
				continue
			}
			if after := t.Apply(n.TagSources); !slices.Equal(after, n.TagSources) {
				n.TagSources, n.Tags, n.Version = after, TagsOf(after), version
				changed = append(changed, n.ID)
			}
		}
	}
	return changed, nil
}

// next returns the next version.
func (s *tagStore) next() (version int64) {
	for _, c := range s.changes {
		version = max(version, c.Node.Version)
	}
	return version + 1
}

// set makes a node's sources others, as another writer would.
func (s *tagStore) set(i int, sources string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &s.changes[i].Node
	n.TagSources, n.Version = sourced(sources), s.next()
	n.Tags = TagsOf(n.TagSources)
}

func (s *tagStore) sources() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, c := range s.changes {
		parts = append(parts, c.Node.ID+": "+sourcesText(c.Node.TagSources))
	}
	return strings.Join(parts, "; ")
}

// retagging runs a test with a registry and a Retagger that work.
func retagging(t *testing.T, s *tagStore, o RetaggerOptions, test func(r *Retagger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		registry := newRegistry(t, s.store)
		if err := registry.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Registry, o.Store, o.Log, o.Now = registry, s, slog.New(slog.NewTextHandler(t.Output(), nil)), time.Now
		r := NewRetagger(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- registry.Run(ctx) }()
		go func() { done <- r.Run(ctx) }()
		test(r)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// heard waits until the registry and the Retagger heard of everything.
func heard() {
	time.Sleep(3 * syncEvery) //nolint:forbidigo // synctest's clock
	synctest.Wait()
}

func TestRetagger(t *testing.T) {
	t.Parallel()
	s := &tagStore{store: &store{changes: []Change{change("1", 1, "a"), change("2", 2, "b"), change("3", 3, "c")}}}
	s.set(0, "old rule:gone, web rule:web")
	s.set(1, "base hand, p query:kept, q query:lost, r query:lost2, z rule:web")
	given := newRules(t, map[string]string{"web": "hostname = host1", "based+b": "tag = base", "chained": "tag = web"})
	o := RetaggerOptions{Rules: given, Query: func(name, tag string) bool { return name == "kept" && tag == "p" || name == "lost2" && tag != "r" }}
	retagging(t, s, o, func(r *Retagger) {
		heard()
		want(t, s.sources(), "1: web rule:web; 2: b rule:based+b, base hand, based rule:based+b, p query:kept; 3: ")
		for _, tagging := range s.taggings {
			if tagging.NodeID == "1" && tagging.Source == "rule:web" {
				t.Errorf("it was told what it has: %+v", tagging)
			}
		}
		calls := s.calls
		heard()
		want(t, fmt.Sprint(s.calls), fmt.Sprint(calls))

		// A node changes.
		s.set(2, "base secret:s")
		heard()
		want(t, s.sources(), "1: web rule:web; 2: b rule:based+b, base hand, based rule:based+b, p query:kept; 3: b rule:based+b, base secret:s, based rule:based+b")
		want(t, fmt.Sprint(s.calls), fmt.Sprint(calls+1))

		// The rules change, while the store fails.
		s.mu.Lock()
		s.err = errStore
		s.mu.Unlock()
		delete(given, "based+b")
		r.Changed()
		r.Changed()
		heard()
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		heard()
		want(t, s.sources(), "1: web rule:web; 2: base hand, p query:kept; 3: base secret:s")
	})
}

// TestRetagger_changed: rules that changed need not wait for a tick.
func TestRetagger_changed(t *testing.T) {
	t.Parallel()
	s := &tagStore{store: &store{changes: []Change{change("1", 1, "a")}}}
	given := rules{}
	retagging(t, s, RetaggerOptions{Rules: given}, func(r *Retagger) {
		synctest.Wait()
		start := time.Now()
		given["x"] = newRules(t, map[string]string{"x": "all"})["x"]
		r.Changed()
		synctest.Wait()
		want(t, s.sources(), "1: x rule:x")
		if !time.Now().Equal(start) {
			t.Error("it waited")
		}
	})
}

// TestRetagger_many: what waits for the store is bounded.
func TestRetagger_many(t *testing.T) {
	t.Parallel()
	s := &tagStore{store: &store{}}
	const nodes = 2*retagChunk + 1
	for i := range nodes {
		s.changes = append(s.changes, change(fmt.Sprint(i), int64(i+1), fmt.Sprint(i)))
	}
	retagging(t, s, RetaggerOptions{Rules: newRules(t, map[string]string{"x": "all"})}, func(*Retagger) {
		heard()
		if s.calls != 3 || len(s.taggings) != nodes || strings.Count(s.sources(), "x rule:x") != nodes {
			t.Errorf("%d calls, %d taggings", s.calls, len(s.taggings))
		}
	})
}

func TestQueryTagger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &tagStore{store: &store{changes: []Change{change("1", 1, "a"), change("2", 2, "b")}}}
		s.set(1, "t query:q, mine hand")
		q := NewQueryTagger(QueryTaggerOptions{Store: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		wait := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // synctest's clock
			synctest.Wait()
		}
		q.Note("1", "q", "t", 3)
		q.Note("2", "q", "t", 0)
		q.Note("2", "other", "u", 0)
		q.Note("2", "other", "u", 1) // the last counts
		want(t, s.sources(), "1: ; 2: t query:q, mine hand")
		wait(tellEvery)
		want(t, s.sources(), "1: t query:q; 2: mine hand, u query:other")
		q.Note("1", "q", "t", 7)
		q.Note("2", "q", "t", 0)
		wait(tellEvery)
		if s.calls != 1 {
			t.Errorf("%d calls: it was told what it knows", s.calls)
		}

		// Another tag replaces the first.
		q.Note("1", "q", "new", 1)
		wait(tellEvery)
		want(t, s.sources(), "1: new query:q; 2: mine hand, u query:other")

		// The store fails, and hears of the newest.
		s.mu.Lock()
		s.err = errStore
		s.mu.Unlock()
		q.Note("1", "q", "new", 0)
		q.Note("2", "other", "u", 0)
		wait(tellEvery)
		q.Note("2", "other", "u", 1)
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		wait(tellEvery)
		want(t, s.sources(), "1: ; 2: mine hand, u query:other")

		// Somebody else took a tag away: it is told again after a while.
		s.set(1, "mine hand")
		q.Note("2", "other", "u", 1)
		wait(tellEvery)
		want(t, s.sources(), "1: ; 2: mine hand")
		wait(factsFor)
		q.Note("2", "other", "u", 1)
		wait(tellEvery)
		want(t, s.sources(), "1: ; 2: mine hand, u query:other")

		// The last facts are kept when it ends.
		q.Note("1", "q", "t", 1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want(t, s.sources(), "1: t query:q; 2: mine hand, u query:other")
	})
}

// TestQueryTagger_full: a store that does not answer costs only so much memory.
func TestQueryTagger_full(t *testing.T) {
	t.Parallel()
	s := &tagStore{store: &store{err: errStore}}
	q := NewQueryTagger(QueryTaggerOptions{Store: s, Now: time.Now})
	for i := range maxFacts + 10 {
		q.Note(fmt.Sprint(i), "q", "t", 1)
	}
	if err := q.Flush(t.Context()); err == nil || len(q.news) != maxFacts || len(q.facts) > maxFacts {
		t.Errorf("%v, %d facts, %d to be told", err, len(q.facts), len(q.news))
	}
	s.err = nil
	if err := q.Flush(t.Context()); err != nil || len(q.news) != 0 || len(s.taggings) != maxFacts {
		t.Errorf("%v, %d to be told, %d told", err, len(q.news), len(s.taggings))
	}
	q.Note(fmt.Sprint(maxFacts), "q", "t", 1)
	if len(q.news) != 1 {
		t.Error("what it had no room for is not noted when it comes again")
	}
}

// benchRegistry is a registry of nodes that say as much as real ones.
func benchRegistry(b *testing.B, nodes int) *Registry {
	b.Helper()
	r := newRegistry(b, &store{})
	for i := range nodes {
		n := benchNode(i)
		details := PackDetails(n.Details)
		c := Change{Node: n, Details: func() Details { return details }, Key: hash(n.ID)}
		c.Node.Details = nil
		r.apply(c)
	}
	return r
}

// BenchmarkRetagger judges 100,000 nodes by 20 rules when nothing changes.
func BenchmarkRetagger(b *testing.B) {
	texts := map[string]string{}
	for i := range 20 {
		texts[fmt.Sprintf("tag-%d", i)] = []string{
			fmt.Sprintf("hostname = 'srv-*%d.example.com'", i), fmt.Sprintf("platform = linux and osquery_version >= 5.%d", i),
			"system_info.hardware_vendor = 'Dell*' and not tag = web", fmt.Sprintf("tag in (web, db) or os_version.version > %d", i), "platform = darwin",
		}[i%5]
	}
	s := &tagStore{store: &store{}}
	r := NewRetagger(RetaggerOptions{Rules: newRules(b, texts), Registry: benchRegistry(b, 100_000), Store: s, Now: time.Now})
	for _, i := range r.Registry.nodes() { // they have the tags that they should have
		i.TagSources = r.want(i.TagSources, r.Rules.RuleTags(i))
		i.Tags = TagsOf(i.TagSources)
	}
	version := int64(0)
	b.Run("rules changed", func(b *testing.B) {
		for b.Loop() {
			version++
			if err := r.judge(b.Context(), version); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one node changed", func(b *testing.B) {
		i := r.Registry.nodes()[0]
		for b.Loop() {
			i.judged.Store(0)
			if err := r.judge(b.Context(), version); err != nil {
				b.Fatal(err)
			}
		}
	})
	if s.calls != 0 {
		b.Errorf("something changed: %d taggings", len(s.taggings))
	}
}

func BenchmarkQueryTagger_Note(b *testing.B) {
	q := NewQueryTagger(QueryTaggerOptions{Store: &tagStore{store: &store{}}, Now: time.Now})
	b.ReportAllocs()
	for b.Loop() {
		q.Note("0123456789abcdef", "pack_query", "tag", 1)
	}
}
