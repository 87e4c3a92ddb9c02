package search

import (
	"cmp"
	"context"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/musterhq/muster/internal/event"
)

// The fixed columns of a segment. An osquery column never has such a name,
// see columnName.
const (
	timeColumn        = "_time"     // microseconds, when it happened
	receivedColumn    = "_received" // microseconds, when it arrived
	seqColumn         = "_seq"
	indexColumn       = "_index"
	nodeColumn        = "_node_id"
	hostColumn        = "_host_identifier"
	queryColumn       = "_query" // for other readers; the manifest has the exact bytes
	actionColumn      = "_action"
	epochColumn       = "_epoch"
	counterColumn     = "_counter"
	lineColumn        = "_line"
	decorationsColumn = "_decorations" // a JSON object, or null
	tagsColumn        = "_tags"        // a JSON array, or null
	revisionColumn    = "_revision"    // 0 if not known
	agentTimeColumn   = "_agent_time"  // seconds, where it differs from _time; else 0
	// restColumn is a JSON object of the columns that have none of their own,
	// or, of a row whose columns were not an object of strings, what they were.
	restColumn = "_rest"
)

const (
	// maxColumns bounds the osquery columns of a segment that have a column
	// of their own; the rarer ones share restColumn.
	maxColumns = 256
	// maxCounted bounds the names that are counted to choose from. A query has
	// some dozens; a hostile node can make up millions.
	maxCounted = 16 * maxColumns
	// groupRows and groupBytes bound a row group, which is what the writer
	// has in memory and what a reader can leave out.
	groupRows  = 64 << 10
	groupBytes = 16 << 20
	// pageBytes is small, so that a few rows can be read without the rest.
	pageBytes = 64 << 10
	// bloomBits per distinct value give about one false answer in a hundred.
	bloomBits = 10
	// writeRows is how many rows are handed to the column writers at a time.
	writeRows = 1024
)

// A segment says which layout it has, so that a later one can be told from it.
// Those of layout 1 have no tags, revision and agent's time.
const (
	layoutKey     = "muster.layout"
	layoutVersion = "2"
	oldestLayout  = "1"
)

// missing is the place of a fixed column that a segment of an older layout does
// not have.
const missing = -1

// fixed is where the fixed columns are in a schema.
type fixed struct {
	time, received, seq, index, node, host, query, action, epoch, counter, line, decorations, rest, tags, revision, agentTime int
}

// layout is the columns of one segment. Names are sorted, as Parquet groups
// have them here; dynamic[i] is the place of the i-th osquery column.
type layout struct {
	schema  *parquet.Schema
	names   []string // all columns, sorted
	fixed   fixed
	columns []string // original names of the osquery columns
	dynamic []int
}

func newLayout(columns []string) *layout {
	text := parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	delta := func(n parquet.Node) parquet.Node { return parquet.Encoded(n, &parquet.DeltaBinaryPacked) }
	group := parquet.Group{
		timeColumn:        delta(parquet.Timestamp(parquet.Microsecond)),
		receivedColumn:    delta(parquet.Timestamp(parquet.Microsecond)),
		seqColumn:         delta(parquet.Uint(64)),
		indexColumn:       delta(parquet.Uint(32)),
		nodeColumn:        text,
		hostColumn:        text,
		queryColumn:       text,
		actionColumn:      text,
		epochColumn:       delta(parquet.Int(64)),
		counterColumn:     delta(parquet.Int(64)),
		lineColumn:        parquet.Encoded(parquet.Uint(64), &parquet.Plain),
		decorationsColumn: parquet.Optional(text),
		tagsColumn:        parquet.Optional(text),
		revisionColumn:    delta(parquet.Int(64)),
		agentTimeColumn:   delta(parquet.Int(64)),
		restColumn:        parquet.Optional(text),
	}
	l := &layout{columns: columns}
	for _, name := range columns {
		escaped, _ := columnName(name) // names that cannot be kept are not chosen
		group[escaped] = parquet.Optional(text)
	}
	for name := range group {
		l.names = append(l.names, name)
	}
	slices.Sort(l.names)
	place := func(name string) int {
		i, _ := slices.BinarySearch(l.names, name)
		return i
	}
	l.fixed = fixed{
		time: place(timeColumn), received: place(receivedColumn), seq: place(seqColumn), index: place(indexColumn),
		node: place(nodeColumn), host: place(hostColumn), query: place(queryColumn), action: place(actionColumn),
		epoch: place(epochColumn), counter: place(counterColumn), line: place(lineColumn),
		decorations: place(decorationsColumn), rest: place(restColumn),
		tags: place(tagsColumn), revision: place(revisionColumn), agentTime: place(agentTimeColumn),
	}
	for _, name := range columns {
		escaped, _ := columnName(name)
		l.dynamic = append(l.dynamic, place(escaped))
	}
	l.schema = parquet.NewSchema("events", group)
	return l
}

// chooseColumns returns the names that get a column of their own, sorted: the
// most frequent ones. It takes the names' numbers of rows.
func chooseColumns(counts map[string]int64) []string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		if _, ok := columnName(name); ok {
			names = append(names, name)
		}
	}
	if len(names) > maxColumns {
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
		})
		names = names[:maxColumns]
	}
	slices.Sort(names)
	return names
}

// segmentWriter writes one segment. The caller hands in the rows of one row
// group column by column and ends it with endGroup.
type segmentWriter struct {
	*layout
	meta    meta
	path    string
	file    *os.File
	sum     hash.Hash32
	parquet *parquet.GenericWriter[any]
	columns []*parquet.ColumnWriter
}

// codec compresses pages. They are small, so that its encoders have a window
// to match instead of the usual 8 MiB; they are kept for use again until the
// garbage collector wants them.
type codec struct {
	parquetzstd.Codec // decodes
	encoders          sync.Pool
}

// Encode implements compress.Codec.
func (c *codec) Encode(dst, src []byte) ([]byte, error) {
	e, ok := c.encoders.Get().(*zstd.Encoder)
	if !ok {
		var err error
		e, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true),
			zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, fmt.Errorf("make compressor: %w", err)
		}
	}
	defer c.encoders.Put(e)
	return e.EncodeAll(src, dst[:0]), nil
}

// create starts a segment of the columns chosen. Rows, times and sequences
// of the meta are filled in by the caller, the rest by finish.
func (e *Engine) create(m meta, l *layout) (*segmentWriter, error) {
	w := &segmentWriter{layout: l, meta: m, path: filepath.Join(e.dir, filepath.FromSlash(m.File)), sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	if err := os.MkdirAll(filepath.Dir(w.path), 0o750); err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640) //nolint:gosec // group may read: other tools do
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	w.file = f
	blooms := make([]parquet.BloomFilterColumn, 0, len(l.dynamic)+1)
	for _, i := range append([]int{l.fixed.node}, l.dynamic...) {
		blooms = append(blooms, parquet.SplitBlockFilter(bloomBits, l.names[i]))
	}
	w.parquet = parquet.NewGenericWriter[any](io.MultiWriter(f, w.sum), &parquet.WriterConfig{Schema: l.schema},
		parquet.Compression(&e.codec),
		parquet.PageBufferSize(pageBytes),
		parquet.DataPageStatistics(false),
		parquet.BloomFilters(blooms...),
		parquet.CreatedBy("muster", "1", ""),
		parquet.KeyValueMetadata("muster.query", event.ValidText(string(m.Query))),
		parquet.KeyValueMetadata("muster.day", m.Day),
		parquet.KeyValueMetadata(layoutKey, layoutVersion),
		parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Descending(timeColumn), parquet.Descending(seqColumn), parquet.Descending(indexColumn))),
	)
	w.columns = w.parquet.ColumnWriters()
	return w, nil
}

// put appends values to a column.
func (w *segmentWriter) put(column int, values []parquet.Value) error {
	if _, err := w.columns[column].WriteRowValues(values); err != nil {
		return fmt.Errorf("write column %s: %w", w.names[column], err)
	}
	return nil
}

// endGroup ends a row group.
func (w *segmentWriter) endGroup() error {
	if err := w.parquet.Flush(); err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	return nil
}

// finish makes the file durable, but not its name.
func (w *segmentWriter) finish() (meta, error) {
	if err := w.parquet.Close(); err != nil {
		return meta{}, fmt.Errorf("write segment: %w", err)
	}
	info, err := w.file.Stat()
	if err != nil {
		return meta{}, fmt.Errorf("write segment: %w", err)
	}
	if err := w.file.Sync(); err != nil {
		return meta{}, fmt.Errorf("sync segment: %w", err)
	}
	if err := w.file.Close(); err != nil {
		return meta{}, fmt.Errorf("close segment: %w", err)
	}
	w.meta.Bytes = info.Size()
	w.meta.CRC = w.sum.Sum32()
	return w.meta, nil
}

// abort removes what was written.
func (w *segmentWriter) abort() {
	_ = w.file.Close()
	_ = os.Remove(w.path)
}

// writePart writes the events of one partition as a segment.
func (e *Engine) writePart(ctx context.Context, p *part, number uint64) (_ meta, err error) {
	order := p.order()
	m := meta{Day: p.day, Query: rawText(p.query), Rows: int64(len(order)), MinTime: math.MaxInt64, MaxTime: math.MinInt64, MinReceived: math.MaxInt64, MaxReceived: math.MinInt64, MinSeq: math.MaxUint64}
	for i := range p.entries {
		en := &p.entries[i]
		m.MinTime, m.MaxTime = min(m.MinTime, en.time), max(m.MaxTime, en.time)
		m.MinReceived, m.MaxReceived = min(m.MinReceived, en.received), max(m.MaxReceived, en.received)
		m.MinSeq, m.MaxSeq = min(m.MinSeq, en.seq), max(m.MaxSeq, en.seq)
		m.RawBytes += int64(len(en.columns))
	}
	m.File = fileName(p.day, p.query, m.MinSeq, m.MaxSeq, number)
	w, err := e.create(m, newLayout(p.columns()))
	if err != nil {
		return meta{}, err
	}
	defer func() {
		if err != nil {
			w.abort()
		}
	}()
	rows := newRowWriter(w)
	var groupN int
	var groupSize int64
	for from := 0; from < len(order); from += writeRows {
		if err := ctx.Err(); err != nil {
			return meta{}, err
		}
		batch := order[from:min(from+writeRows, len(order))]
		if err := rows.write(p, batch); err != nil {
			return meta{}, err
		}
		groupN += len(batch)
		for _, i := range batch {
			groupSize += int64(len(p.entries[i].columns))
		}
		if groupN >= groupRows || groupSize >= groupBytes {
			if err := w.endGroup(); err != nil {
				return meta{}, err
			}
			groupN, groupSize = 0, 0
		}
	}
	return w.finish()
}

// columns returns the osquery columns that get one of their own.
func (p *part) columns() []string {
	var o event.Object
	counts := map[string]*int64{}
	var others int64
	var shape []*int64 // the counts of the row before, since most rows are alike
	var names []string
	for i := range p.entries {
		o.Reset()
		pairs, _ := o.Read(p.entries[i].columns)
		for j, pair := range pairs {
			if j < len(names) && string(pair.Name) == names[j] {
				*shape[j]++
				continue
			}
			n := counts[string(pair.Name)]
			switch {
			case n != nil:
			case len(counts) < maxCounted:
				n = new(int64)
				counts[string(pair.Name)] = n
			default:
				n = &others
			}
			*n++
			names, shape = append(names[:min(j, len(names))], string(pair.Name)), append(shape[:min(j, len(shape))], n)
		}
	}
	totals := make(map[string]int64, len(counts))
	for name, n := range counts {
		totals[name] = *n
	}
	return chooseColumns(totals)
}

// rowWriter turns rows into columns, a batch at a time.
type rowWriter struct {
	w      *segmentWriter
	values [][]parquet.Value // by place
	where  map[string]int    // osquery column → place
	names  []string          // of the row before, and their places
	places []int
	object event.Object
	rest   []event.Pair
	texts  []byte // the rest objects of a batch
}

func newRowWriter(w *segmentWriter) *rowWriter {
	r := &rowWriter{w: w, values: make([][]parquet.Value, len(w.names)), where: make(map[string]int, len(w.dynamic))}
	buffer := make([]parquet.Value, len(w.names)*writeRows)
	for i := range r.values {
		r.values[i] = buffer[i*writeRows : (i+1)*writeRows]
	}
	for i, name := range w.layout.columns {
		r.where[name] = w.dynamic[i]
	}
	return r
}

// write appends the batch's entries, at most writeRows, to the row group.
func (r *rowWriter) write(p *part, batch []int32) error {
	f := &r.w.fixed
	null := parquet.NullValue()
	for _, place := range append([]int{f.rest, f.decorations, f.tags}, r.w.dynamic...) {
		column := r.values[place][:len(batch)]
		for i := range column {
			column[i] = null
		}
	}
	r.object.Reset()
	r.texts = r.texts[:0]
	query := parquet.ByteArrayValue([]byte(event.ValidText(p.query)))
	for i, n := range batch {
		en := &p.entries[n]
		r.values[f.time][i] = parquet.Int64Value(en.time)
		r.values[f.received][i] = parquet.Int64Value(en.received)
		r.values[f.seq][i] = parquet.Int64Value(int64(en.seq))     //nolint:gosec // the bits are what counts
		r.values[f.index][i] = parquet.Int32Value(int32(en.index)) //nolint:gosec // the bits are what counts
		r.values[f.line][i] = parquet.Int64Value(int64(en.line))   //nolint:gosec // the bits are what counts
		r.values[f.epoch][i] = parquet.Int64Value(en.epoch)
		r.values[f.counter][i] = parquet.Int64Value(en.counter)
		r.values[f.revision][i] = parquet.Int64Value(en.revision)
		r.values[f.agentTime][i] = parquet.Int64Value(en.agentTime)
		r.values[f.node][i] = parquet.ByteArrayValue(en.nodeID)
		r.values[f.host][i] = parquet.ByteArrayValue(en.host)
		r.values[f.action][i] = parquet.ByteArrayValue(en.action)
		r.values[f.query][i] = query
		if en.decorations != nil {
			r.values[f.decorations][i] = parquet.ByteArrayValue(en.decorations).Level(0, 1, f.decorations)
		}
		if en.tags != nil {
			r.values[f.tags][i] = parquet.ByteArrayValue(en.tags.array).Level(0, 1, f.tags)
		}
		r.row(i, en.columns)
	}
	for place := range r.values {
		if err := r.w.put(place, r.values[place][:len(batch)]); err != nil {
			return err
		}
	}
	return nil
}

// row puts the osquery columns of the batch's i-th row in their places.
func (r *rowWriter) row(i int, columns []byte) {
	rest := r.w.fixed.rest
	pairs, ok := r.object.Read(columns)
	if !ok {
		if len(columns) > 0 {
			r.values[rest][i] = parquet.ByteArrayValue([]byte(event.ValidText(string(columns)))).Level(0, 1, rest)
		}
		return
	}
	r.rest = r.rest[:0]
	for j, p := range pairs {
		place := -1
		if j < len(r.names) && string(p.Name) == r.names[j] {
			place = r.places[j]
		} else {
			if known, ok := r.where[string(p.Name)]; ok {
				place = known
			}
			r.names, r.places = append(r.names[:min(j, len(r.names))], string(p.Name)), append(r.places[:min(j, len(r.places))], place)
		}
		if place < 0 {
			r.rest = append(r.rest, p)
			continue
		}
		r.values[place][i] = parquet.ByteArrayValue(p.Value).Level(0, 1, place)
	}
	if len(r.rest) > 0 {
		from := len(r.texts)
		r.texts = event.AppendObject(r.texts, r.rest)
		r.values[rest][i] = parquet.ByteArrayValue(r.texts[from:]).Level(0, 1, rest)
	}
}
