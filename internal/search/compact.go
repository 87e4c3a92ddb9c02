package search

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/musterhq/muster/internal/event"
)

const (
	// segmentRows and segmentBytes, of columns as JSON, bound a merged segment.
	segmentRows  = 512 << 10
	segmentBytes = 512 << 20
	// mergeAt is how many segments of like size are merged while more are
	// coming; a day that is over is merged at two.
	mergeAt = 8
	// mergeMost bounds the files that one merge has open.
	mergeMost = 32
)

// compact merges small segments until there are none worth it. Others write in
// between.
func (e *Engine) compact(ctx context.Context) error {
	for {
		if merged, err := e.compactOnce(ctx); err != nil || !merged {
			return err
		}
	}
}

func (e *Engine) compactOnce(ctx context.Context) (merged bool, err error) {
	if err := e.acquire(ctx); err != nil {
		return false, err
	}
	defer e.yield()
	e.mu.RLock()
	groups := map[partition][]*segment{}
	for _, s := range e.segments {
		p := partition{s.Day, string(s.Query)}
		groups[p] = append(groups[p], s)
	}
	e.mu.RUnlock()
	// The stream may lag behind: a day is over some time after midnight.
	today := dayOf(e.now().Add(-time.Hour).UnixMicro())
	for p, segments := range groups {
		if chosen := chooseMerge(segments, p.day < today); chosen != nil {
			return true, e.merge(ctx, chosen)
		}
	}
	return false, nil
}

// chooseMerge returns the segments of one partition to be merged next, nil for
// none. Segments are merged with those of like size, so that an event is
// written again only a few times.
func chooseMerge(segments []*segment, over bool) []*segment {
	var small []*segment
	for _, s := range segments {
		if s.Rows < segmentRows/2 && s.RawBytes < segmentBytes/2 {
			small = append(small, s)
		}
	}
	slices.SortFunc(small, func(a, b *segment) int { return cmp.Compare(a.Rows, b.Rows) })
	var rows, raw int64
	fits := 0
	for fits < len(small) && fits < mergeMost && rows+small[fits].Rows <= segmentRows && raw+small[fits].RawBytes <= segmentBytes {
		rows += small[fits].Rows
		raw += small[fits].RawBytes
		fits++
	}
	small = small[:fits]
	if over {
		if len(small) < 2 {
			return nil
		}
		return small
	}
	tier := func(s *segment) int { return bits.Len64(uint64(max(s.Rows, 1))) / 3 }
	same := 0
	for i, s := range small {
		if i > 0 && tier(s) != tier(small[i-1]) {
			same = 0
		}
		same++
		if same >= mergeAt && (i+1 == len(small) || tier(small[i+1]) != tier(s)) {
			return small[:i+1]
		}
	}
	return nil
}

// merge replaces segments of one partition by one. The caller holds writing.
func (e *Engine) merge(ctx context.Context, segments []*segment) (err error) {
	m := &merger{ctx: ctx}
	defer func() {
		for _, in := range m.inputs {
			e.files.put(in.openFile)
		}
	}()
	for _, s := range segments {
		o, err := e.files.get(s)
		if err != nil {
			return e.spoiled(ctx, s, err)
		}
		in := &input{openFile: o}
		m.inputs = append(m.inputs, in)
		if err := in.readPlaces(); err != nil {
			return e.spoiled(ctx, s, err)
		}
	}
	w, err := e.create(m.plan(segments, e.number()), m.layout)
	if err != nil {
		return err
	}
	if err := m.write(w); err != nil {
		w.abort()
		if m.reading != nil {
			return e.spoiled(ctx, m.reading, err)
		}
		return fmt.Errorf("merge segments: %w", err)
	}
	merged, err := w.finish()
	if err != nil {
		w.abort()
		return err
	}
	remove := map[*segment]bool{}
	for _, s := range segments {
		remove[s] = true
	}
	return e.commit(change{add: []meta{merged}, remove: remove})
}

// spoiled is failed for the one who holds writing.
func (e *Engine) spoiled(ctx context.Context, s *segment, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	damage := s.check()
	if !isDamage(damage) {
		return fmt.Errorf("merge segments: %w", err)
	}
	return e.quarantine(ctx, map[*segment]string{s: damage.Error()})
}

// input is a segment being merged.
type input struct {
	*openFile
	times, seqs, indexes []int64
	// from and to are the rows that the current row group takes.
	from, to int
}

func (in *input) readPlaces() (err error) {
	defer guard(&err, in.segment)
	for i := range in.groups {
		g := &in.groups[i]
		rows := allRows(0, g.rows)
		if in.times, err = readInts(g.chunks[in.fixed.time], rows, in.times); err != nil {
			return err
		}
		if in.seqs, err = readInts(g.chunks[in.fixed.seq], rows, in.seqs); err != nil {
			return err
		}
		if in.indexes, err = readInts(g.chunks[in.fixed.index], rows, in.indexes); err != nil {
			return err
		}
	}
	return nil
}

func (in *input) place(i int) place {
	return place{in.times[i], uint64(in.seqs[i]), uint32(in.indexes[i])} //nolint:gosec // the bits are what counts
}

// merger writes one segment from several. It has in memory the places of all
// rows, and else one column of one row group.
type merger struct {
	ctx     context.Context //nolint:containedctx // of the one call that it is made for
	inputs  []*input
	layout  *layout
	demoted []string // columns that lose their own and go to the rest
	group   int      // rows of a row group
	reading *segment // while it is read
	values  []parquet.Value
}

// plan chooses the columns and returns what is known of the segment to be.
func (m *merger) plan(segments []*segment, number uint64) meta {
	out := meta{Day: segments[0].Day, Query: segments[0].Query, MinTime: math.MaxInt64, MaxTime: math.MinInt64, MinReceived: math.MaxInt64, MaxReceived: math.MinInt64, MinSeq: math.MaxUint64}
	for _, s := range segments {
		out.Rows += s.Rows
		out.RawBytes += s.RawBytes
		out.MinTime, out.MaxTime = min(out.MinTime, s.MinTime), max(out.MaxTime, s.MaxTime)
		out.MinReceived, out.MaxReceived = min(out.MinReceived, s.MinReceived), max(out.MaxReceived, s.MaxReceived)
		out.MinSeq, out.MaxSeq = min(out.MinSeq, s.MinSeq), max(out.MaxSeq, s.MaxSeq)
	}
	out.File = fileName(out.Day, string(out.Query), out.MinSeq, out.MaxSeq, number)
	counts := map[string]int64{}
	for _, in := range m.inputs {
		for i, name := range in.columns {
			for _, g := range in.groups {
				counts[name] += g.chunks[in.places[i]].NumValues() - g.chunks[in.places[i]].NullCount()
			}
		}
	}
	chosen := chooseColumns(counts)
	for name := range counts {
		if _, ok := slices.BinarySearch(chosen, name); !ok {
			m.demoted = append(m.demoted, name)
		}
	}
	m.layout = newLayout(chosen)
	m.group = groupRows
	if average := out.RawBytes / max(out.Rows, 1); average > 0 {
		m.group = int(min(groupRows, max(groupBytes/average, 1)))
	}
	return out
}

func (m *merger) write(w *segmentWriter) (err error) {
	m.values = make([]parquet.Value, 0, writeRows)
	for {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		order := m.next()
		if len(order) == 0 {
			return nil
		}
		if err := m.writeGroup(w, order); err != nil {
			return err
		}
		if err := w.endGroup(); err != nil {
			return err
		}
	}
}

// next chooses the rows of the next row group; order has the number of the
// input that each comes from.
func (m *merger) next() (order []uint8) {
	for _, in := range m.inputs {
		in.from = in.to
	}
	for len(order) < m.group {
		best := -1
		for i, in := range m.inputs {
			if in.to < len(in.times) && (best < 0 || in.place(in.to).compare(m.inputs[best].place(m.inputs[best].to)) < 0) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		order = append(order, uint8(best))
		m.inputs[best].to++
	}
	return order
}

func (m *merger) writeGroup(w *segmentWriter, order []uint8) error {
	f := &w.fixed
	type column struct {
		to   int
		from func(in *input) int
	}
	for _, c := range []column{
		{f.time, func(in *input) int { return in.fixed.time }},
		{f.received, func(in *input) int { return in.fixed.received }},
		{f.seq, func(in *input) int { return in.fixed.seq }},
		{f.index, func(in *input) int { return in.fixed.index }},
		{f.epoch, func(in *input) int { return in.fixed.epoch }},
		{f.counter, func(in *input) int { return in.fixed.counter }},
		{f.line, func(in *input) int { return in.fixed.line }},
		{f.revision, func(in *input) int { return in.fixed.revision }},
		{f.agentTime, func(in *input) int { return in.fixed.agentTime }},
	} {
		if err := m.writeInts(w, order, c.to, c.from); err != nil {
			return err
		}
	}
	for _, c := range []column{
		{f.node, func(in *input) int { return in.fixed.node }},
		{f.host, func(in *input) int { return in.fixed.host }},
		{f.query, func(in *input) int { return in.fixed.query }},
		{f.action, func(in *input) int { return in.fixed.action }},
	} {
		if err := m.writeTexts(w, order, c.to, false, c.from); err != nil {
			return err
		}
	}
	for _, c := range []column{
		{f.decorations, func(in *input) int { return in.fixed.decorations }},
		{f.tags, func(in *input) int { return in.fixed.tags }},
	} {
		if err := m.writeTexts(w, order, c.to, true, c.from); err != nil {
			return err
		}
	}
	for i, name := range w.layout.columns {
		err := m.writeTexts(w, order, w.dynamic[i], true, func(in *input) int {
			if place, ok := in.openFile.place(name); ok {
				return place
			}
			return missing
		})
		if err != nil {
			return err
		}
	}
	return m.writeRest(w, order)
}

func (m *merger) writeInts(w *segmentWriter, order []uint8, to int, from func(in *input) int) error {
	columns := make([][]int64, len(m.inputs))
	for i, in := range m.inputs {
		if from(in) == missing {
			columns[i] = make([]int64, in.to-in.from)
			continue
		}
		err := m.each(in, from(in), func(chunk *parquet.FileColumnChunk, rows []int32, _ int) (err error) {
			columns[i], err = readInts(chunk, rows, columns[i])
			return err
		})
		if err != nil {
			return err
		}
	}
	narrow := to == w.fixed.index
	at := make([]int, len(m.inputs))
	return m.put(w, to, order, func(in uint8) parquet.Value {
		v := columns[in][at[in]]
		at[in]++
		if narrow {
			return parquet.Int32Value(int32(v)) //nolint:gosec // the bits are what counts
		}
		return parquet.Int64Value(v)
	})
}

func (m *merger) writeTexts(w *segmentWriter, order []uint8, to int, optional bool, from func(in *input) int) error {
	columns := make([]*texts, len(m.inputs))
	for i, in := range m.inputs {
		t, err := m.readTexts(in, from(in))
		if err != nil {
			return err
		}
		columns[i] = t
	}
	at := make([]int, len(m.inputs))
	level := 0
	if optional {
		level = 1
	}
	return m.put(w, to, order, func(in uint8) parquet.Value {
		v := columns[in].at(at[in])
		at[in]++
		if v == nil {
			return parquet.NullValue()
		}
		return parquet.ByteArrayValue(v).Level(0, level, to)
	})
}

// readTexts reads the rows that the row group takes of an input's column, which
// may be missing.
func (m *merger) readTexts(in *input, place int) (*texts, error) {
	t := &texts{codes: make([]int32, in.to-in.from), data: []byte{}, offsets: []uint32{0}}
	for i := range t.codes {
		t.codes[i] = absent
	}
	if place == missing {
		return t, nil
	}
	return t, m.each(in, place, func(chunk *parquet.FileColumnChunk, rows []int32, first int) error {
		if !hasValues(chunk) {
			return nil
		}
		return t.read(chunk, rows, first)
	})
}

// each visits the chunks of a column that have rows which the row group takes:
// the rows within the chunk, and the number of the first among those taken.
func (m *merger) each(in *input, place int, visit func(chunk *parquet.FileColumnChunk, rows []int32, first int) error) (err error) {
	m.reading = in.segment
	defer func() {
		if err == nil {
			m.reading = nil
		}
	}()
	defer guard(&err, in.segment)
	for i := range in.groups {
		g := &in.groups[i]
		from, to := max(in.from, g.first), min(in.to, g.first+g.rows)
		if from >= to {
			continue
		}
		if err := visit(g.chunks[place], allRows(from-g.first, to-g.first), from-in.from); err != nil {
			return err
		}
	}
	return nil
}

// put writes a column of the row group; value returns the next value of an
// input.
func (m *merger) put(w *segmentWriter, to int, order []uint8, value func(in uint8) parquet.Value) error {
	for len(order) > 0 {
		n := min(len(order), writeRows)
		m.values = m.values[:0]
		for _, in := range order[:n] {
			m.values = append(m.values, value(in))
		}
		if err := w.put(to, m.values); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// writeRest writes the column of the rest, with the columns that lose theirs.
func (m *merger) writeRest(w *segmentWriter, order []uint8) error {
	columns := make([]*texts, len(m.inputs))
	more := make([]map[int][]event.Pair, len(m.inputs))
	for i, in := range m.inputs {
		t, err := m.readTexts(in, in.fixed.rest)
		if err != nil {
			return err
		}
		columns[i] = t
		more[i] = map[int][]event.Pair{}
		for _, name := range m.demoted {
			place, ok := in.openFile.place(name)
			if !ok {
				continue
			}
			values, err := m.readTexts(in, place)
			if err != nil {
				return err
			}
			for row := range values.codes {
				if v := values.at(row); v != nil {
					more[i][row] = append(more[i][row], event.Pair{Name: []byte(name), Value: v})
				}
			}
		}
	}
	var o event.Object
	at := make([]int, len(m.inputs))
	return m.put(w, w.fixed.rest, order, func(in uint8) parquet.Value {
		row := at[in]
		at[in]++
		v := columns[in].at(row)
		if pairs := more[in][row]; len(pairs) > 0 {
			o.Reset()
			kept, _ := o.Read(v)
			v = event.AppendObject(nil, append(pairs, kept...))
		}
		if v == nil {
			return parquet.NullValue()
		}
		return parquet.ByteArrayValue(v).Level(0, 1, w.fixed.rest)
	})
}
