package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind says what is wrong with entries.
type Kind string

// The kinds.
const (
	Edited    Kind = "edited"    // they are not what was sealed
	Missing   Kind = "missing"   // they were removed
	Moved     Kind = "moved"     // they stand at another's place
	Inserted  Kind = "inserted"  // the server did not write them
	Truncated Kind = "truncated" // they were removed from the end
	Rewritten Kind = "rewritten" // one of them or more is not what was signed; the chain was made anew
	Tree      Kind = "tree"      // the tree that is kept does not fit them
)

// Finding is something that is wrong with the log.
type Finding struct {
	Kind        Kind
	First, Last int64 // numbers of the entries
	Message     string
}

// Report tells what became of a check.
type Report struct {
	Entries  int64 // that were read
	Whole    int64 // so many, from the first, are what was written
	Root     tlog.Hash
	Signed   int64     // entries that the newest checkpoint which fits covers
	SignedAt time.Time // of that checkpoint
	Findings []Finding // the first of them, by number
	More     int       // findings that are left out
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Bounds of a check.
const (
	maxFindings = 100
	// maxSearches bounds for how many entries, and maxDistance how far from its
	// place, the number is looked for under which an entry was sealed.
	maxSearches = 100
	maxDistance = 1000
)

// Checker follows a log entry by entry. It needs no more memory for a long one.
type Checker struct {
	prev        Entry  // the newest
	own         string // what its content gives, which may not be its hash
	known       bool   // something is wrong with it, and was found
	tree        Frontier
	checkpoints []Checkpoint // that are not reached, the smallest first
	moved       []run
	searches    int
	report      Report
}

// run is a stretch of entries that all stand as far from their places.
type run struct{ first, last, shift int64 }

// NewChecker returns a Checker that compares the log with checkpoints, whose
// signatures were checked.
func NewChecker(checkpoints ...Checkpoint) *Checker {
	sorted := slices.SortedFunc(slices.Values(checkpoints), func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	c := &Checker{checkpoints: sorted}
	c.compare()
	return c
}

// Add takes the next entry, and the hashes of the tree that were kept with it:
// nil if they are not known.
func (c *Checker) Add(e Entry, stored []tlog.Hash) {
	c.report.Entries++
	want := c.prev.Seq + 1
	if e.Seq < want {
		c.late(e)
		return
	}
	if e.Seq > want {
		c.find(Missing, want, e.Seq-1, "removed")
	}
	leaf := e.Leaf()
	own, whole := hashOf(leaf), e.whole()
	switch {
	case !whole:
		c.broken(e)
	case e.Seq == want && e.Prev != c.prev.Hash && e.Prev != c.own:
		c.unlinked(e)
	case e.Version < c.prev.Version && !c.known:
		c.find(Edited, e.Seq, e.Seq, "in an older form than the entry before")
	}
	c.prev, c.own, c.known = e, own, !whole || e.Seq == 1 && e.Prev != ""
	hashes := c.tree.Add(tlog.RecordHash(leaf))
	if whole && stored != nil {
		c.kept(e, hashes, stored)
	}
	c.compare()
}

// late is for an entry that comes after one with a higher number, as they may
// in a file.
func (c *Checker) late(e Entry) {
	for i, f := range c.report.Findings {
		if f.Kind == Missing && f.First <= e.Seq && e.Seq <= f.Last {
			c.report.Findings = slices.Delete(c.report.Findings, i, i+1)
			if f.First < e.Seq {
				c.find(Missing, f.First, e.Seq-1, f.Message)
			}
			if e.Seq < f.Last {
				c.find(Missing, e.Seq+1, f.Last, f.Message)
			}
			c.find(Moved, e.Seq, e.Seq, fmt.Sprintf("comes after entry %d", c.prev.Seq))
			return
		}
	}
	c.find(Inserted, e.Seq, e.Seq, "is a second one with that number, or one that cannot be")
}

// broken is for an entry whose content is not what was sealed. If it was sealed
// with another number, it was moved.
func (c *Checker) broken(e Entry) {
	shift, ok := c.shift(e)
	if !ok {
		c.find(Edited, e.Seq, e.Seq, "not what was written")
		return
	}
	if n := len(c.moved); n > 0 && c.moved[n-1].shift == shift && c.moved[n-1].last == e.Seq-1 {
		c.moved[n-1].last = e.Seq
	} else if n < maxFindings {
		c.moved = append(c.moved, run{e.Seq, e.Seq, shift})
	} else {
		c.report.More++
	}
}

// shift returns by how much an entry's number was raised since it was sealed.
func (c *Checker) shift(e Entry) (shift int64, ok bool) {
	sealedAs := func(shift int64) bool {
		e := e
		e.Seq -= shift
		return e.Seq > 0 && e.whole()
	}
	if n := len(c.moved); n > 0 && sealedAs(c.moved[n-1].shift) {
		return c.moved[n-1].shift, true
	}
	if c.searches++; c.searches > maxSearches {
		return 0, false
	}
	for d := int64(1); d <= maxDistance; d++ {
		if sealedAs(d) {
			return d, true
		}
		if sealedAs(-d) {
			return -d, true
		}
	}
	return 0, false
}

// unlinked is for a whole entry that holds another hash than that of the one
// before: that one was replaced, or something between was taken out.
func (c *Checker) unlinked(e Entry) {
	if c.known {
		return
	}
	if c.prev.Seq == 0 {
		c.find(Edited, e.Seq, e.Seq, "not the first that was written")
		return
	}
	c.find(Edited, c.prev.Seq, c.prev.Seq, "replaced: the next entry holds the hash of another")
}

// kept compares a whole entry with the part of the tree that was kept with it.
func (c *Checker) kept(e Entry, hashes, stored []tlog.Hash) {
	switch {
	case len(stored) == 0:
		c.find(Tree, e.Seq, e.Seq, "not in the tree: the server did not write it, or its tree was changed")
	case stored[0] != hashes[0]:
		c.known = true
		c.find(Edited, e.Seq, e.Seq, "not what is in the tree")
	case !c.report.OK() || len(c.moved) > 0: // then the rest of the tree does not fit, either
	case !slices.Equal(hashes, stored):
		c.find(Tree, e.Seq, e.Seq, "whole, but the tree above it was changed")
	}
}

// compare compares the tree with the checkpoints of its size.
func (c *Checker) compare() {
	for len(c.checkpoints) > 0 && c.checkpoints[0].Size == c.tree.size {
		signed := c.checkpoints[0]
		c.checkpoints = c.checkpoints[1:]
		if !c.report.OK() || len(c.moved) > 0 {
			continue // it cannot fit
		}
		if signed.Root != c.tree.Root() {
			c.find(Rewritten, c.report.Signed+1, signed.Size, "not all what was signed on "+signed.Time.Format(time.RFC3339))
			continue
		}
		c.report.Signed, c.report.SignedAt = signed.Size, signed.Time
	}
}

// End returns the report. The log must have at least size entries; of a file,
// of which that is not known, give 0.
func (c *Checker) End(size int64) Report {
	c.settle()
	if last := c.prev.Seq; last < size {
		c.find(Truncated, last+1, size, "removed from the end")
	}
	if n := len(c.checkpoints); n > 0 {
		newest := c.checkpoints[n-1]
		if from := max(c.prev.Seq, size); from < newest.Size {
			c.find(Truncated, from+1, newest.Size, "removed from the end, though signed on "+newest.Time.Format(time.RFC3339))
		}
	}
	r := c.report
	r.Root = c.tree.Root()
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.First, b.First) })
	r.Whole = c.prev.Seq
	if !r.OK() {
		r.Whole = min(r.Whole, max(r.Findings[0].First-1, 0))
	}
	return r
}

// settle says what moved entries mean: those that changed places among
// themselves were reordered; else something was put in or taken out before
// them.
func (c *Checker) settle() {
	if len(c.moved) == 0 {
		return
	}
	if c.permuted() {
		for _, r := range c.moved {
			c.find(Moved, r.first, r.last, fmt.Sprintf("written as %s", numbers(r.first-r.shift, r.last-r.shift)))
		}
		return
	}
	shift := int64(0)
	for _, r := range c.moved {
		switch {
		case r.shift > shift:
			c.find(Inserted, r.first-(r.shift-shift), r.first-1, fmt.Sprintf("put in: those from %d on were renumbered", r.first))
		case r.shift < shift:
			c.find(Missing, r.first-shift, r.first-r.shift-1, fmt.Sprintf("removed: those from %d on were renumbered", r.first))
		default:
			c.find(Moved, r.first, r.last, fmt.Sprintf("written as %s", numbers(r.first-r.shift, r.last-r.shift)))
		}
		shift = r.shift
	}
}

// permuted reports whether the moved entries only changed places.
func (c *Checker) permuted() bool {
	places, origins := make([]run, 0, len(c.moved)), make([]run, 0, len(c.moved))
	for _, r := range c.moved {
		places = append(places, run{first: r.first, last: r.last})
		origins = append(origins, run{first: r.first - r.shift, last: r.last - r.shift})
	}
	return slices.Equal(joined(places), joined(origins))
}

// joined returns stretches sorted, and those that touch as one.
func joined(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	var all []run
	for _, r := range runs {
		if n := len(all); n > 0 && all[n-1].last+1 >= r.first {
			all[n-1].last = max(all[n-1].last, r.last)
		} else {
			all = append(all, r)
		}
	}
	return all
}

func numbers(first, last int64) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d to %d", first, last)
}

// find notes a finding, as one with the one before if it goes on from there.
func (c *Checker) find(kind Kind, first, last int64, message string) {
	f := c.report.Findings
	if n := len(f); n > 0 && f[n-1].Kind == kind && f[n-1].Message == message && f[n-1].Last+1 >= first && f[n-1].First <= first {
		f[n-1].Last = max(f[n-1].Last, last)
		return
	}
	if len(f) >= maxFindings {
		c.report.More++
		return
	}
	c.report.Findings = append(f, Finding{kind, first, last, message})
}
