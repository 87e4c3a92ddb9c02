package search

import (
	"container/list"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/parquet-go/parquet-go"
)

// segment is one Parquet file. The engine holds one reference while the
// manifest names it, each search one while it runs; with the last one the file
// is closed and, if it is unwanted, removed.
type segment struct {
	meta
	path  string
	files *files
	refs  atomic.Int32
	// unwanted is set before the engine's reference is released; it takes the file
	// away.
	unwanted atomic.Pointer[func(path string, bytes int64)]
	// checked says that the file is known to be what was written.
	checked atomic.Bool
}

func (e *Engine) newSegment(m meta) *segment {
	s := &segment{meta: m, path: filepath.Join(e.dir, filepath.FromSlash(m.File)), files: e.files}
	s.refs.Store(1)
	return s
}

func (s *segment) retain() { s.refs.Add(1) }

func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		s.files.forget(s)
		if remove := s.unwanted.Load(); remove != nil {
			(*remove)(s.path, s.Bytes)
		}
	}
}

// drop gives up the engine's reference and the file, which remove takes away when
// nobody reads it anymore.
func (s *segment) drop(remove func(path string, bytes int64)) {
	s.unwanted.Store(&remove)
	s.release()
}

// removeFile is for a segment whose events nobody wants anymore.
func removeFile(path string, _ int64) {
	_ = os.Remove(path) // what stays is removed by the next Open
}

// check reports whether the file is the one that was written, reading all of
// it. It returns ErrCorrupt if not, and other errors if it cannot tell.
func (s *segment) check() error {
	err := s.meta.check(s.path)
	s.checked.Store(err == nil)
	return err
}

func (m *meta) check(path string) error {
	f, err := os.Open(path) //nolint:gosec // the engine's own file
	if err != nil {
		return fmt.Errorf("check segment: %w", err)
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(sum, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("check segment: %w", err)
	}
	if n != m.Bytes || sum.Sum32() != m.CRC {
		return fmt.Errorf("%w: %s: its checksum does not match", ErrCorrupt, m.File)
	}
	return nil
}

// openFile is a segment opened and its footer parsed.
type openFile struct {
	segment *segment
	file    *os.File
	groups  []rowGroup
	fixed   fixed
	columns []string // names of the osquery columns, as agents gave them, and their places
	places  []int
	cost    int
	refs    int
	element *list.Element // nil once it is not kept anymore
}

// place returns where an osquery column is.
func (o *openFile) place(name string) (int, bool) {
	for i, c := range o.columns {
		if c == name {
			return o.places[i], true
		}
	}
	return 0, false
}

type rowGroup struct {
	rows   int
	first  int // the number of its first row in the segment
	chunks []*parquet.FileColumnChunk
}

// files keeps segments open that were read lately, so that a person paging
// does not parse the same footers again, and no more than that.
type files struct {
	mu     sync.Mutex
	open   map[*segment]*openFile
	recent *list.List // of *openFile, the latest first
	cost   int
	limit  int // of the cost: column chunks, each of which takes about half a KiB
	used   bool
}

// maxOpenChunks makes files hold at most about 8 MiB.
const maxOpenChunks = 16 << 10

func newFiles(limit int) *files {
	return &files{open: map[*segment]*openFile{}, recent: list.New(), limit: limit}
}

// get opens the segment, which the caller holds a reference of. The caller
// hands the file back with put.
func (fs *files) get(s *segment) (*openFile, error) {
	fs.mu.Lock()
	fs.used = true
	if o := fs.open[s]; o != nil {
		o.refs++
		fs.recent.MoveToFront(o.element)
		fs.mu.Unlock()
		return o, nil
	}
	fs.mu.Unlock()
	o, err := openSegment(s)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if other := fs.open[s]; other != nil { // somebody was faster
		_ = o.file.Close()
		other.refs++
		return other, nil
	}
	o.refs = 1
	o.element = fs.recent.PushFront(o)
	fs.open[s] = o
	fs.cost += o.cost
	for fs.cost > fs.limit && fs.recent.Len() > 1 {
		fs.evict(fs.recent.Back())
	}
	return o, nil
}

func (fs *files) put(o *openFile) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	o.refs--
	if o.refs == 0 && o.element == nil {
		_ = o.file.Close() // only read
	}
}

// forget closes the segment's file.
func (fs *files) forget(s *segment) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if o := fs.open[s]; o != nil {
		fs.evict(o.element)
	}
}

// forgetAll closes all files that are not being read.
func (fs *files) forgetAll() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for fs.recent.Len() > 0 {
		fs.evict(fs.recent.Back())
	}
}

// closeIdle is forgetAll unless a file was asked for since the last call.
func (fs *files) closeIdle() {
	fs.mu.Lock()
	used := fs.used
	fs.used = false
	fs.mu.Unlock()
	if !used {
		fs.forgetAll()
	}
}

func (fs *files) evict(element *list.Element) {
	o, ok := fs.recent.Remove(element).(*openFile)
	if !ok {
		return
	}
	o.element = nil
	delete(fs.open, o.segment)
	fs.cost -= o.cost
	if o.refs == 0 {
		_ = o.file.Close() // only read
	}
}

// guard turns a panic of the Parquet reader, which a corrupt file can cause,
// into an error.
func guard(err *error, s *segment) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("read segment %s: reader panicked: %v", s.File, p)
	}
}

// openSegment opens a segment, whose file is checked as a whole the first time in
// the life of the process: a changed bit in a bloom filter, say, would hide rows.
func openSegment(s *segment) (_ *openFile, err error) {
	defer guard(&err, s)
	if !s.checked.Load() {
		if err := s.check(); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	file, err := parquet.OpenFile(f, s.Bytes, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(16<<10))
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.File, err)
	}
	o := &openFile{segment: s, file: f}
	if err := o.readLayout(file); err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.File, err)
	}
	first := 0
	for _, g := range file.RowGroups() {
		group := rowGroup{rows: int(g.NumRows()), first: first}
		for _, c := range g.ColumnChunks() {
			chunk, ok := c.(*parquet.FileColumnChunk)
			if !ok {
				return nil, fmt.Errorf("open segment %s: unexpected reader %T", s.File, c)
			}
			group.chunks = append(group.chunks, chunk)
		}
		first += group.rows
		o.cost += len(group.chunks)
		o.groups = append(o.groups, group)
	}
	if int64(first) != s.Rows {
		return nil, fmt.Errorf("open segment %s: %d rows, expected %d", s.File, first, s.Rows)
	}
	return o, nil
}

// readLayout finds the columns.
func (o *openFile) readLayout(file *parquet.File) error {
	version, _ := file.Lookup(layoutKey)
	if version != layoutVersion && version != oldestLayout {
		return fmt.Errorf("layout %q is not known to this Muster, which reads up to %q; start the version that wrote it", version, layoutVersion)
	}
	places := map[string]int{}
	for i, path := range file.Schema().Columns() {
		if len(path) != 1 {
			return fmt.Errorf("unexpected nested column %q", path)
		}
		places[path[0]] = i
		if name, ok := originalName(path[0]); ok {
			o.columns, o.places = append(o.columns, name), append(o.places, i)
		}
	}
	for name, place := range map[string]*int{
		timeColumn: &o.fixed.time, receivedColumn: &o.fixed.received, seqColumn: &o.fixed.seq, indexColumn: &o.fixed.index,
		nodeColumn: &o.fixed.node, hostColumn: &o.fixed.host, queryColumn: &o.fixed.query, actionColumn: &o.fixed.action,
		epochColumn: &o.fixed.epoch, counterColumn: &o.fixed.counter, lineColumn: &o.fixed.line,
		decorationsColumn: &o.fixed.decorations, restColumn: &o.fixed.rest,
		tagsColumn: &o.fixed.tags, revisionColumn: &o.fixed.revision, agentTimeColumn: &o.fixed.agentTime,
	} {
		i, ok := places[name]
		switch {
		case ok:
			*place = i
		case version == oldestLayout && (place == &o.fixed.tags || place == &o.fixed.revision || place == &o.fixed.agentTime):
			*place = missing
		default:
			return fmt.Errorf("column %s is missing", name)
		}
	}
	return nil
}
