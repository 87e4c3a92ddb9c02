package redact

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// gram is how many bytes of a keyword the filter compares: they fit one
// register, and are rare in what agents send.
const gram = 4

// keyword is a text at which a detector looks closer.
type keyword struct {
	text  string
	exact bool // else letters are of either case, and text has small ones
	// before or after is what stands beside a text that is one shorter than a
	// gram; see filter.add.
	before, after uint16
	weight        int8
	find          finder
}

// finder looks closer: the keyword stands at v[start:end].
type finder func(sc *scanner, v []byte, start, end int)

// filter finds keywords in one pass.
type filter struct {
	// bits says by hash of four bytes, folded, whether a keyword may be here.
	bits  [1 << (hashBits - 6)]uint64
	heads map[uint32][]int32 // folded gram to indexes in words
	words []keyword
}

// hashBits make the table 4 KiB, which stays in the processor's nearest cache.
// Some 1,500 grams leave one of 20 places to be looked up in vain.
const hashBits = 15

// fold makes letters small, and some other bytes others: what matters is that
// equal ones stay equal.
const fold = 0x20202020

func hashOf(g uint32) uint32 { return (g * 0x9e3779b1) >> (32 - hashBits) }

func newFilter(words []keyword) *filter {
	f := &filter{heads: map[uint32][]int32{}}
	for _, w := range words {
		f.add(w)
	}
	return f
}

// add adds a keyword. One that is shorter than a gram is found by all grams that
// it makes with a byte before or after it.
func (f *filter) add(w keyword) {
	i := int32(len(f.words)) //nolint:gosec // some hundred
	f.words = append(f.words, w)
	if len(w.text) >= gram {
		f.mark([]byte(w.text[:gram]), i)
		return
	}
	for c := range 256 {
		switch has := class(byte(c)); {
		case has&w.before != 0:
			f.mark(append([]byte{byte(c)}, w.text...), i)
		case has&w.after != 0:
			f.mark(append([]byte(w.text), byte(c)), i)
		}
	}
}

func (f *filter) mark(b []byte, word int32) {
	g := binary.LittleEndian.Uint32(b) | fold
	if slices.Contains(f.heads[g], word) {
		return
	}
	f.heads[g] = append(f.heads[g], word)
	h := hashOf(g)
	f.bits[h>>6] |= 1 << (h & 63)
}

// each lets the detectors look at a text.
func (f *filter) each(sc *scanner, v []byte) {
	for i := 0; i+gram <= len(v); i++ {
		g := binary.LittleEndian.Uint32(v[i:]) | fold
		h := hashOf(g)
		if f.bits[h>>6]&(1<<(h&63)) != 0 {
			f.closer(sc, v, i, g)
		}
	}
}

func (f *filter) closer(sc *scanner, v []byte, i int, g uint32) {
	for _, n := range f.heads[g] {
		w := &f.words[n]
		start := i
		if w.before != 0 {
			start++
		}
		end := start + len(w.text)
		if end > len(v) || !w.is(v[start:end]) || sc.covered(start, w.weight) {
			continue
		}
		w.find(sc, v, start, end)
	}
}

func (w *keyword) is(b []byte) bool {
	if w.exact {
		return string(b) == w.text
	}
	return bytes.EqualFold(b, []byte(w.text))
}
