// Package redact takes secrets out of what agents send, before any of it is
// kept or passed on. It decides on values and rows alone: who calls it, and what
// becomes of the result, is other packages' business.
//
// A secret is replaced by ‹redacted:kind:id›. The id is a keyed hash of the
// secret: equal secrets have equal ids, so that rows still join, and nobody
// without the server's key can try guesses against it.
//
// Detectors look only at places that a cheap filter marks: one pass over a value
// compares groups of four bytes with those that begin the detectors' keywords.
// What is no secret is not copied, and costs no allocation. Rules that people
// write (Rules) come before the detectors.
package redact

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"sync"
	"sync/atomic"

	"github.com/musterhq/muster/internal/osquery"
)

// Options of a Redactor. Hash is required.
type Options struct {
	// Hash is a keyed hash of a secret; the key must not be used for anything
	// else that callers may see.
	Hash func(secret string) [sha256.Size]byte
	// Counts hears of what was replaced; nil for nobody. It must not keep the
	// strings.
	Counts *Counts
}

// Redactor replaces secrets. Safe for concurrent use.
type Redactor struct {
	hash   func(secret string) [sha256.Size]byte
	shown  func(secret string) [sha256.Size]byte // of ids in placeholders
	counts *Counts
	rules  atomic.Pointer[compiled]
	pool   sync.Pool // of *scanner
}

// New returns a Redactor with the built-in detectors and no rules.
func New(o Options) *Redactor {
	r := &Redactor{hash: o.Hash, shown: o.Hash, counts: o.Counts}
	r.rules.Store(builtin())
	return r
}

// Source says where a row comes from. The zero value is one of which nothing is
// known.
type Source struct {
	// Query is the name of a scheduled query, as agents have it.
	Query string
	// Live is the id of a live query; "" for what was scheduled.
	Live string
	// Table is what the row is from, if it is certain; "" leaves it to
	// Rules.Describe.
	Table string
}

// counted is the name under which a source's redactions are counted.
func (s Source) counted() string {
	switch {
	case s.Live != "":
		return LiveQueries
	case s.Query == "":
		return Elsewhere
	}
	return s.Query
}

// Placeholders look so. They hold nothing that JSON escapes.
const (
	placeholderHead = "‹redacted:"
	placeholderTail = "›"
)

// placeholderSize is what one takes, about.
const placeholderSize = 48

// idBytes give an id of 60 bits in 12 letters and digits: among 10 million
// secrets two share one with a probability of 0.00004.
const (
	idBytes   = 8
	idLetters = 12
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding) //nolint:gochecknoglobals // read only

// id returns a hash as a placeholder has it.
func id(sum [sha256.Size]byte) string {
	var b [13]byte
	idEncoding.Encode(b[:], sum[:idBytes])
	return string(b[:idLetters])
}

// Preview returns a Redactor by the rules of now whose ids are of another key: who
// may try it could else find by trying what an id stands for.
func (r *Redactor) Preview(hash func(secret string) [sha256.Size]byte) *Redactor {
	p := New(Options{Hash: r.hash})
	p.shown = hash
	p.rules.Store(r.rules.Load())
	return p
}

// Finding is what was found in one value.
type Finding struct {
	Column string // "" for a text
	Kind   string
	ID     string // "" for a value that was replaced without one
	Secret string
}

// Row returns a row, a JSON object of strings, without secrets. If it has none
// the result is row itself; else all that is no secret is there byte by byte. What
// is no JSON object of scalars is looked at as one text.
func (r *Redactor) Row(src Source, row []byte) []byte {
	out, _ := r.row(src, row, nil)
	return out
}

// Explain is Row that tells what it found, and counts nothing.
func (r *Redactor) Explain(src Source, row []byte) ([]byte, []Finding) {
	found := []Finding{}
	return r.row(src, row, &found)
}

// ExplainText is Explain of one value: of a column, or a text if that is "".
func (r *Redactor) ExplainText(src Source, column, s string) (string, []Finding) {
	found := []Finding{}
	sc := r.scanner(src, &found)
	defer r.pool.Put(sc)
	do, name, v := detect, []byte(column), []byte(s)
	if column != "" {
		do = sc.action(name)
	}
	if !sc.look(name, v, do) {
		return s, found
	}
	return string(sc.write(name, v, v, do)), found
}

// Text returns a text without secrets, s itself if it has none.
func (r *Redactor) Text(src Source, s string) string {
	if len(s) < shortest {
		return s
	}
	sc := r.scanner(src, nil)
	defer r.pool.Put(sc)
	sc.plain = append(sc.plain[:0], s...)
	if !sc.look(nil, sc.plain, detect) {
		return s
	}
	return string(sc.write(nil, sc.plain, sc.plain, detect))
}

// Columns replaces the secrets of a row in its own memory.
func (r *Redactor) Columns(src Source, row osquery.Row) {
	sc := r.scanner(src, nil)
	defer r.pool.Put(sc)
	var p pair
	for i := range row {
		c := &row[i]
		sc.name = append(sc.name[:0], c.Name...)
		sc.plain = append(sc.plain[:0], c.Value...)
		do := sc.action(sc.name)
		if do == detect && p.note(sc.name, sc.plain, place{at: i}) {
			continue
		}
		if sc.look(sc.name, sc.plain, do) {
			c.Value = string(sc.write(sc.name, sc.plain, sc.plain, do))
		}
	}
	if p.valued {
		c := &row[p.value.at]
		sc.name = append(sc.name[:0], c.Name...)
		sc.plain = append(sc.plain[:0], c.Value...)
		if sc.lookPair(sc.plain, &p) {
			c.Value = string(sc.write(sc.name, sc.plain, sc.plain, detect))
		}
	}
}

// scanner looks at one row. It keeps its buffers.
type scanner struct {
	r     *Redactor
	rules *compiled
	src   Source
	scope []*Column  // the rules that may be about the source
	query *Query     // what is known of it
	found *[]Finding // nil counts instead
	marks bool       // the row may hold placeholders

	name, plain []byte // of Columns; a value without escapes
	spans       []span // of the value that was looked at
	tried       []bool // custom detectors that looked at this text
	skip        int    // names were looked at up to here
	budget      int    // bytes that tools' arguments may still be looked for in
}

func (r *Redactor) scanner(src Source, found *[]Finding) *scanner {
	sc, ok := r.pool.Get().(*scanner)
	if !ok {
		sc = new(scanner)
	}
	sc.r, sc.rules, sc.src, sc.found, sc.marks = r, r.rules.Load(), src, found, true
	sc.scope, sc.query = nil, nil
	if len(sc.rules.columns) > 0 {
		sc.scope, sc.query = sc.rules.scope(src)
	}
	return sc
}

// look finds what is to be replaced in a value; write does it.
func (sc *scanner) look(name, v []byte, do Action) bool {
	sc.spans = sc.spans[:0]
	switch {
	case do == detect:
		sc.detect(name, v)
		sc.settle(v)
	case do == keep || len(v) == 0 || isPlaceholder(v):
	case do == drop:
		sc.add(0, len(v), KindDropped, byName)
	default:
		sc.add(0, len(v), KindColumn, byName)
	}
	return len(sc.spans) > 0
}

// write returns a value with its spans replaced. Its plain bytes are v, and raw
// are those that stand in the row: what is between the spans keeps them.
func (sc *scanner) write(name, raw, v []byte, do Action) []byte {
	dst := make([]byte, 0, len(raw)+len(sc.spans)*placeholderSize)
	rawAt, at := 0, 0
	for _, s := range sc.spans {
		start, end := s.start, s.end
		if len(raw) != len(v) { // it has escapes
			start = rawAt + rawLen(raw[rawAt:], s.start-at)
			end = start + rawLen(raw[start:], s.end-s.start)
		}
		dst = append(dst, raw[rawAt:start]...)
		dst = sc.placeholder(dst, name, s.kind, v[s.start:s.end], do)
		rawAt, at = end, s.end
	}
	return append(dst, raw[rawAt:]...)
}

// placeholder appends what stands for a secret.
func (sc *scanner) placeholder(dst, name []byte, kind string, secret []byte, do Action) []byte {
	known := ""
	if do == detect || do == hash {
		known = id(sc.r.shown(string(secret)))
	}
	sc.tell(name, kind, known, secret)
	if do == drop {
		return dst
	}
	dst = append(append(dst, placeholderHead...), kind...)
	if known != "" {
		dst = append(append(dst, ':'), known...)
	}
	return append(dst, placeholderTail...)
}

func (sc *scanner) tell(name []byte, kind, id string, secret []byte) {
	if sc.found != nil {
		*sc.found = append(*sc.found, Finding{Column: string(name), Kind: kind, ID: id, Secret: string(secret)})
		return
	}
	if sc.r.counts != nil {
		sc.r.counts.add(sc.src.counted(), kind)
	}
}

// isPlaceholder reports whether a value is one placeholder and nothing else.
func isPlaceholder(v []byte) bool {
	start, end := nextPlaceholder(v, 0)
	return start == 0 && end == len(v)
}

// nextPlaceholder returns where the next placeholder stands; -1 without one. What
// only begins like one is none, so that nobody hides a secret in it.
func nextPlaceholder(v []byte, from int) (start, end int) {
	for {
		i := bytes.Index(v[from:], []byte(placeholderHead))
		if i < 0 {
			return -1, -1
		}
		start = from + i
		at := start + len(placeholderHead)
		n := run(v, at, at+maxKind, lower|digit|dash)
		if n > 0 {
			at += n
			if at < len(v) && v[at] == ':' && run(v, at+1, at+2+idLetters, lower|digit) == idLetters {
				at += 1 + idLetters
			}
			if bytes.HasPrefix(v[at:], []byte(placeholderTail)) {
				return start, at + len(placeholderTail)
			}
		}
		from = start + len(placeholderHead)
	}
}
