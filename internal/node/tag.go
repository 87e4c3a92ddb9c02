package node

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// SourceHand is the source of the tags that people set.
const SourceHand = "hand"

// What the other sources begin with; the name of the secret, rule or query
// follows.
const (
	secretSource = "secret:"
	ruleSource   = "rule:"
	querySource  = "query:"
	matchSource  = "match:"
)

// SecretSource is the source of the tags that an enroll secret confers, or lets
// an agent choose.
func SecretSource(name string) string { return secretSource + name }

// RuleSource is the source of the tags that a tag rule gives.
func RuleSource(name string) string { return ruleSource + name }

// QuerySource is the source of the tag that the rows of a query give.
func QuerySource(name string) string { return querySource + name }

// MatchSource is the source of the tags that a node got because a Rule matched an
// event of it. They stay until a Rule or somebody takes them.
func MatchSource(rule string) string { return matchSource + rule }

// TagSource is a tag of a node and one of the sources that give it. The node has
// the tag as long as any source gives it.
type TagSource struct{ Tag, Source string }

func (s TagSource) byHand() bool   { return s.Source == SourceHand }
func (s TagSource) bySecret() bool { return strings.HasPrefix(s.Source, secretSource) }
func (s TagSource) byMatch() bool  { return strings.HasPrefix(s.Source, matchSource) }
func (s TagSource) byRule() bool   { return strings.HasPrefix(s.Source, ruleSource) }

// query returns the name of the query that gives the tag.
func (s TagSource) query() (name string, ok bool) { return strings.CutPrefix(s.Source, querySource) }

// Compare orders by tag, then by source.
func (s TagSource) Compare(t TagSource) int {
	return cmp.Or(cmp.Compare(s.Tag, t.Tag), cmp.Compare(s.Source, t.Source))
}

// SortTagSources returns them sorted and each once; the slice is reused.
func SortTagSources(list []TagSource) []TagSource {
	slices.SortFunc(list, TagSource.Compare)
	return slices.Compact(list)
}

// TagsOf returns the tags of sorted sources, sorted and each once; never nil.
func TagsOf(sources []TagSource) []string {
	tags := make([]string, 0, len(sources))
	for _, s := range sources {
		if len(tags) == 0 || tags[len(tags)-1] != s.Tag {
			tags = append(tags, s.Tag)
		}
	}
	return tags
}

// TaggedBy returns tags that all have one source.
func TaggedBy(source string, tags []string) []TagSource {
	list := make([]TagSource, 0, len(tags))
	for _, tag := range tags {
		list = append(list, TagSource{tag, source})
	}
	return list
}

// Tagging is all tags that a source gives a node. None takes away what it gave.
type Tagging struct {
	NodeID string
	Source string
	Tags   []string
}

// Apply returns the sources of a node's tags after a tagging, sorted. The slice
// that it is given stays as it is.
func (t Tagging) Apply(sources []TagSource) []TagSource {
	rest := slices.DeleteFunc(slices.Clone(sources), func(s TagSource) bool { return s.Source == t.Source })
	return SortTagSources(append(rest, TaggedBy(t.Source, t.Tags)...))
}

// TagByHand returns the sources of a node's tags after somebody set all of its
// tags, sorted. A tag that is not among them goes with its sources, unless a tag
// rule or a query gives it: it stays until that lets it go. One that the node
// had already keeps its sources, and others are given by hand.
func TagByHand(sources []TagSource, tags []string) []TagSource {
	kept := slices.DeleteFunc(slices.Clone(sources), func(s TagSource) bool {
		return (s.byHand() || s.bySecret() || s.byMatch()) && !slices.Contains(tags, s.Tag)
	})
	for _, tag := range tags {
		if !slices.ContainsFunc(sources, func(s TagSource) bool { return s.Tag == tag }) {
			kept = append(kept, TagSource{tag, SourceHand})
		}
	}
	return SortTagSources(kept)
}

// Untag returns the taggings that take tags away from a node that matches of Rules
// gave it. What other sources give stays.
func Untag(id string, sources []TagSource, tags []string) []Tagging {
	left := slices.DeleteFunc(slices.Clone(sources), func(s TagSource) bool { return s.byMatch() && slices.Contains(tags, s.Tag) })
	var list []Tagging
	for _, s := range sources {
		if s.byMatch() && slices.Contains(tags, s.Tag) {
			list = tagged(list, id, s.Source, left)
		}
	}
	return list
}

// TagSpan is a time in which a source gave a node a tag.
type TagSpan struct {
	TagSource

	Since time.Time
	Until time.Time // zero as long as it does
}

// RuleTag is a tag and the rule that gives it.
type RuleTag struct{ Rule, Tag string }

// Tagger says which tags rules give a node. The node has the tags that other
// sources give it, and none of rules, so that no rule depends on another. It is
// called for many nodes, from several goroutines at once.
type Tagger interface {
	RuleTags(n *Identity) []RuleTag
}

// given returns the sources that are no rules.
func given(sources []TagSource) []TagSource {
	if !slices.ContainsFunc(sources, TagSource.byRule) {
		return sources
	}
	return slices.DeleteFunc(slices.Clone(sources), TagSource.byRule)
}

// retag gives a node the tags of its rules instead of those that rules gave it
// before.
func (n *Node) retag(rules Tagger, details Details) {
	rest := given(n.TagSources)
	n.TagSources, n.Tags = rest, TagsOf(rest)
	tags := rules.RuleTags(identityOf(*n, details))
	if len(tags) == 0 {
		return
	}
	all := slices.Clone(rest)
	for _, t := range tags {
		all = append(all, TagSource{t.Tag, RuleSource(t.Rule)})
	}
	n.TagSources = SortTagSources(all)
	n.Tags = TagsOf(n.TagSources)
}

// grant gives a node the tags that its enroll secret confers instead of those of
// the secrets that it used before. What other sources gave it stays. It gets as
// many as it may have, because what an agent chooses itself must not be without
// end.
func (n *Node) grant(had []TagSource) {
	kept := slices.DeleteFunc(slices.Clone(had), TagSource.bySecret)
	n.Tags = MergeTags(TagsOf(kept), n.Tags)
	for _, s := range n.TagSources {
		if _, ok := slices.BinarySearch(n.Tags, s.Tag); ok {
			kept = append(kept, s)
		}
	}
	n.TagSources = SortTagSources(kept)
}
