// Package search keeps events on one machine and finds them: a table in memory
// that is fed from the stream, and segments, which are Parquet files, one per
// UTC day of arrival and query. It knows nothing of the stream but the
// sequences of its messages.
//
// # Durability
//
// The stream is the write-ahead log. What is in memory is lost with the
// process, and is there again after the messages from Position()+1 on have been
// added once more. A flush writes segments, syncs them and their directories,
// and then replaces the manifest by a rename; only what the manifest names is
// there, and it says which sequence it covers. So a crash at any moment neither
// loses an event nor keeps one twice.
//
// # Layout of a segment
//
// Rows are sorted as a search returns them: by time, then by place in the
// stream, newest first. So the first rows that pass are the ones wanted, a
// row group is a short span of time, which statistics leave out, segments are
// merged by reading each once, and the rows that one node sent together, which
// are alike, stay together and compress well. Each osquery column is an
// optional text column with dictionary and bloom filter, so that most tests
// are of a few distinct values.
package search

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// Defaults of the Options.
const (
	DefaultFlushRows  = 100_000
	DefaultFlushBytes = 32 << 20
	DefaultFlushAge   = 5 * time.Minute
)

// Options say where and how an engine keeps events. Dir and Log are required.
type Options struct {
	// Dir is the engine's own directory; it is made if it is not there.
	Dir string
	// Retention is how long events are kept after they arrived, in whole UTC
	// days; 0 keeps them. A wall clock that jumped ahead does not shorten it for
	// a day, nor one that at Open is far ahead of the last event.
	Retention time.Duration
	// QueryRetention goes before Retention for the queries that it names; the first
	// that fits counts.
	QueryRetention []QueryRetention
	// MaxBytes is the size of all segments from which the oldest are dropped; 0 for
	// any.
	MaxBytes int64
	// FlushRows, FlushBytes and FlushAge say when the table in memory is written
	// to segments. Memory may hold up to two and a half times the first two, if
	// events come faster than they are written; then Add waits.
	FlushRows  int
	FlushBytes int64
	FlushAge   time.Duration
	Log        *slog.Logger
	Now        func() time.Time // time.Now if nil
}

// QueryRetention is how long the events of queries are kept.
type QueryRetention struct {
	Query string // exact name, or a prefix when it ends with *
	Keep  time.Duration
}

// Engine keeps events and finds them. Its methods may be called at the same
// time, but Add by one goroutine only.
type Engine struct {
	dir        string
	retention  time.Duration
	queries    []QueryRetention
	maxBytes   int64
	flushRows  int
	flushBytes int64
	flushAge   time.Duration
	log        *slog.Logger
	now        func() time.Time
	steady     func() time.Duration // since Open; goes on evenly when now jumps
	lock       *os.File
	files      *files
	codec      codec
	full       chan struct{} // asks Run for a flush
	heavy      chan struct{} // held by who counts or joins
	removed    removed

	// writing is held by who changes files: flush, compaction, retention,
	// quarantine. It guards the two below.
	writing chan struct{}
	next    uint64
	clock   clock

	// mu guards what follows. It is held for moments only.
	mu       sync.RWMutex
	closed   bool
	seen     uint64
	position uint64
	mem      *memtable
	frozen   *memtable // being flushed; events are in it or in segments, never in both
	segments []*segment
	lost     []loss // changed by who holds writing, too
}

// maxHeavy is how many counts and states may be in memory at once, each of which may
// take some 200 MB at its limits.
const maxHeavy = 4

// admit waits for a place among them, which leave gives back.
func (e *Engine) admit(ctx context.Context) (leave func(), err error) {
	select {
	case e.heavy <- struct{}{}:
		return func() { <-e.heavy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errClosed = errors.New("search: engine is closed")

// Open opens the engine in a directory, which no other process may have open,
// and makes it if it is new. It deletes segments that the manifest does not
// name, which a crash left. Segments that the manifest names but that are
// missing or of another size are logged as errors, put away in the directory
// "quarantine", and stay listed in the manifest as lost; the rest is served.
// A manifest that is corrupt, or missing though there are segments, is an
// error, and nothing is touched.
func Open(o Options) (*Engine, error) {
	switch {
	case o.Dir == "":
		return nil, errors.New("search: no directory given")
	case o.Log == nil:
		return nil, errors.New("search: no log given")
	}
	e := &Engine{
		dir: o.Dir, retention: o.Retention, queries: o.QueryRetention, maxBytes: o.MaxBytes, flushRows: o.FlushRows, flushBytes: o.FlushBytes, flushAge: o.FlushAge,
		log: o.Log, now: o.Now, files: newFiles(maxOpenChunks), full: make(chan struct{}, 1), heavy: make(chan struct{}, maxHeavy), writing: make(chan struct{}, 1), mem: newMemtable(),
	}
	if e.flushRows <= 0 {
		e.flushRows = DefaultFlushRows
	}
	if e.flushBytes <= 0 {
		e.flushBytes = DefaultFlushBytes
	}
	if e.flushAge <= 0 {
		e.flushAge = DefaultFlushAge
	}
	if e.now == nil {
		e.now = time.Now
	}
	opened := time.Now()
	e.steady = func() time.Duration { return time.Since(opened) }
	if err := os.MkdirAll(e.dir, 0o750); err != nil {
		return nil, fmt.Errorf("open search engine: %w", err)
	}
	lock, err := lockDir(e.dir)
	if err != nil {
		return nil, fmt.Errorf("open search engine: %w", err)
	}
	e.lock = lock
	if err := e.load(context.Background()); err != nil {
		_ = unlockDir(lock)
		return nil, fmt.Errorf("open search engine: %w", err)
	}
	return e, nil
}

// load reads the manifest and makes the directory what it says.
func (e *Engine) load(ctx context.Context) error {
	m, err := readManifest(e.dir)
	if err != nil {
		return fmt.Errorf("%w; restore %s from a backup, or move the directory away to start anew", err, filepath.Join(e.dir, manifestName))
	}
	found, err := e.segmentFiles()
	if err != nil {
		return err
	}
	if m == nil {
		// The first Open writes a manifest before there is any segment.
		if len(found) > 0 {
			return fmt.Errorf("%s is missing but there are segments; restore it from a backup, or move the directory away to start anew", filepath.Join(e.dir, manifestName))
		}
		m = &manifest{Next: 1}
		if _, err := writeManifest(e.dir, m); err != nil {
			return err
		}
	}
	e.seen, e.position, e.next, e.lost = m.Position, m.Position, m.Next, m.Lost
	e.startClock(ctx, m)
	named := map[string]bool{}
	bad := map[*segment]string{}
	for _, s := range m.Segments {
		seg := e.newSegment(s)
		e.segments = append(e.segments, seg)
		named[s.File] = true
		switch info, err := os.Stat(seg.path); {
		case errors.Is(err, fs.ErrNotExist):
			bad[seg] = "file is missing"
		case err != nil:
			return fmt.Errorf("look at segment: %w", err)
		case info.Size() != s.Bytes:
			bad[seg] = fmt.Sprintf("file has %d bytes, expected %d", info.Size(), s.Bytes)
		}
	}
	for _, file := range found {
		if named[file] {
			continue
		}
		e.log.InfoContext(ctx, "deleting segment that an interrupted write left", "file", file)
		if err := os.Remove(filepath.Join(e.dir, filepath.FromSlash(file))); err != nil {
			return fmt.Errorf("delete leftover: %w", err)
		}
	}
	if err := e.quarantine(ctx, bad); err != nil {
		return err
	}
	e.removeEmptyDays()
	return nil
}

// segmentFiles lists the segments in the directory, named by a manifest or not.
func (e *Engine) segmentFiles() ([]string, error) {
	days, err := os.ReadDir(e.dir)
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	var found []string
	for _, d := range days {
		if !d.IsDir() || !isDay(d.Name()) {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(e.dir, d.Name()))
		if err != nil {
			return nil, fmt.Errorf("list directory: %w", err)
		}
		for _, f := range entries {
			if strings.HasSuffix(f.Name(), segmentSuffix) {
				found = append(found, d.Name()+"/"+f.Name())
			}
		}
	}
	return found, nil
}

// removeEmptyDays removes the directories of days that have no file left. The
// caller holds writing, or nobody else has the engine yet.
func (e *Engine) removeEmptyDays() {
	days, err := os.ReadDir(e.dir)
	if err != nil {
		return // they do no harm
	}
	for _, d := range days {
		if d.IsDir() && isDay(d.Name()) {
			_ = os.Remove(filepath.Join(e.dir, d.Name())) // fails unless empty
		}
	}
}

// Position returns the last stream sequence that segments cover, 0 for none.
// After a crash the stream is read again from the one after it.
func (e *Engine) Position() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.position
}

// Seen returns the last stream sequence added, be it only in memory.
func (e *Engine) Seen() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.seen
}

// Stats returns what the engine holds.
func (e *Engine) Stats() event.Stats {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var s event.Stats
	var oldest int64
	count := func(rows, minReceived int64) {
		if s.Events == 0 || minReceived < oldest {
			oldest = minReceived
		}
		s.Events += rows
	}
	for _, seg := range e.segments {
		count(seg.Rows, seg.MinReceived)
		s.Bytes += seg.Bytes
		s.Segments++
	}
	for _, m := range []*memtable{e.mem, e.frozen} {
		if m != nil && m.rows > 0 {
			count(int64(m.rows), m.minReceived)
		}
	}
	if s.Events > 0 {
		s.Oldest = time.UnixMicro(oldest).UTC()
	}
	for _, l := range e.lost {
		s.Lost++
		s.LostEvents += l.Segment.Rows
	}
	return s
}

// QueryStats returns what the engine holds of each query, in no order.
func (e *Engine) QueryStats() []event.QueryStats {
	e.mu.RLock()
	defer e.mu.RUnlock()
	queries := map[string]*event.QueryStats{}
	count := func(query string, rows, oldest, newest int64) *event.QueryStats {
		from, to := time.UnixMicro(oldest).UTC(), time.UnixMicro(newest).UTC()
		q := queries[query]
		if q == nil {
			q = &event.QueryStats{Query: query, Oldest: from, Newest: to}
			queries[query] = q
		}
		q.Events += rows
		if from.Before(q.Oldest) {
			q.Oldest = from
		}
		if to.After(q.Newest) {
			q.Newest = to
		}
		return q
	}
	for _, s := range e.segments {
		q := count(string(s.Query), s.Rows, s.MinReceived, s.MaxReceived)
		q.Bytes += s.Bytes
		q.Segments++
	}
	for _, m := range []*memtable{e.mem, e.frozen} {
		if m == nil {
			continue
		}
		for _, p := range m.parts {
			if n := len(p.entries); n > 0 { // messages come in the order of their arrival, nearly
				count(p.query, int64(n), p.entries[0].received, p.entries[n-1].received)
			}
		}
	}
	all := make([]event.QueryStats, 0, len(queries))
	for _, q := range queries {
		all = append(all, *q)
	}
	return all
}

// Add takes the events of one stream message, of which it copies what it keeps.
// Sequences ascend; one that was added before is ignored, so that the stream
// may deliver it again. The events are found at once, but durable only when
// Position has reached the sequence. Add waits for a flush when memory is full;
// if that fails, the message was not added and is to be added again.
func (e *Engine) Add(seq uint64, batches []event.Batch) error {
	if seq <= e.Seen() {
		return nil
	}
	rows, size := e.buffered()
	if rows >= e.flushRows+e.flushRows/4 || size >= e.flushBytes+e.flushBytes/4 {
		if err := e.Flush(context.Background()); err != nil {
			return fmt.Errorf("add events: %w", err)
		}
	} else if rows >= e.flushRows || size >= e.flushBytes {
		select {
		case e.full <- struct{}{}:
		default:
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errClosed
	}
	e.mem.add(seq, batches, e.now())
	e.seen = seq
	return nil
}

// buffered returns what is in the table that is being filled.
func (e *Engine) buffered() (rows int, size int64) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.mem.rows, e.mem.bytes
}

// Close ends the use of the engine. It does not flush: what is only in memory
// is in the stream. Searches that run are finished by their callers first.
func (e *Engine) Close() error {
	e.writing <- struct{}{} // what is being written is finished
	defer func() { <-e.writing }()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	segments := e.segments
	e.segments = nil
	e.mem, e.frozen = newMemtable(), nil
	e.mu.Unlock()
	for _, s := range segments {
		s.release()
	}
	e.files.forgetAll()
	e.removed.purge(math.MaxInt64)
	if err := unlockDir(e.lock); err != nil {
		return fmt.Errorf("close search engine: %w", err)
	}
	return nil
}
