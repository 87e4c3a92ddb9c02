package redact

import (
	"cmp"
	"slices"
)

// span is a part of a value that is to be replaced.
type span struct {
	start, end int
	kind       string
	weight     int8 // of two that overlap, the heavier gives the kind
}

// Weights: a token that its provider gave a form says more than the name beside
// it, and that more than its look.
const (
	byLook int8 = iota
	byName
	byForm
)

// maxFindings bounds the secrets of one value that are told apart. From there on
// the rest of the value is one: each is replaced by more bytes than it may have,
// and costs a hash.
const maxFindings = 64

func (sc *scanner) add(start, end int, kind string, weight int8) {
	sc.spans = append(sc.spans, span{start, end, kind, weight})
}

// covered reports whether a place is in the span that was found last, and that
// one says as much, so that what is long is not looked through again from each
// place within.
func (sc *scanner) covered(at int, weight int8) bool {
	n := len(sc.spans)
	return n > 0 && at < sc.spans[n-1].end && at >= sc.spans[n-1].start && weight <= sc.spans[n-1].weight
}

// settle puts the spans in order, joins those that overlap, and drops what is
// allowed.
func (sc *scanner) settle(v []byte) {
	if len(sc.spans) == 0 {
		return
	}
	slices.SortStableFunc(sc.spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	joined := sc.spans[:1]
	for _, s := range sc.spans[1:] {
		last := &joined[len(joined)-1]
		if s.start >= last.end {
			joined = append(joined, s)
			continue
		}
		last.end = max(last.end, s.end)
		if s.weight > last.weight {
			last.kind, last.weight = s.kind, s.weight
		}
	}
	if len(joined) > maxFindings {
		joined = joined[:maxFindings]
		last := &joined[maxFindings-1]
		last.end, last.kind = len(v), KindMany
	}
	sc.spans = slices.DeleteFunc(joined, func(s span) bool { return sc.allowed(s, v) })
}

func (sc *scanner) allowed(s span, v []byte) bool {
	if sc.rules.off[s.kind] {
		return true
	}
	if len(sc.rules.allowIDs) > 0 && sc.rules.allowIDs[id(sc.r.hash(string(v[s.start:s.end])))] {
		return true
	}
	for _, p := range sc.rules.allow {
		if p.Match(v[s.start:s.end]) {
			return true
		}
	}
	return false
}
