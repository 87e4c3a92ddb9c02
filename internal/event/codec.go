package event

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// The form of a batch in the stream. It is read only by the Muster that wrote
// it or a later one, so a version leads. After it come the stamps, then each
// event, with a byte of flags that says what equals the event before, since
// rows of one query come together. Version 1 has no revision and no agent's time.
const (
	CodecVersion  = 2 // that Append writes
	OldestVersion = 1 // that DecodeBatch reads
)

const (
	sameTime = 1 << iota
	sameQuery
	sameDecorations
	continues
	hasAgentTime // since version 2
)

// ErrCorrupt means that bytes are not a batch of a known version.
var ErrCorrupt = errors.New("event: not a batch of a known version")

// Append appends the batch's stream form to dst.
func (b *Batch) Append(dst []byte) []byte {
	dst = slices.Grow(dst, b.roughSize())
	dst = append(dst, CodecVersion)
	dst = appendText(dst, b.NodeID)
	dst = appendText(dst, b.HostIdentifier)
	dst = binary.AppendVarint(dst, b.Received.UnixMicro())
	dst = binary.AppendUvarint(dst, uint64(len(b.Tags)))
	for _, t := range b.Tags {
		dst = appendText(dst, t)
	}
	dst = binary.AppendVarint(dst, b.Revision)
	dst = appendText(dst, b.LogType)
	if b.Joins {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.Events)))
	var last Event
	for i := range b.Events {
		dst = b.Events[i].append(dst, &last, i == 0)
		last = b.Events[i]
	}
	return dst
}

// roughSize returns about how many bytes the stream form takes, and rarely less.
func (b *Batch) roughSize() int {
	const head, each = 256, 24 // the node's names and tags; an event's times and lengths
	size := head
	for i := range b.Events {
		size += each + len(b.Events[i].Query) + len(b.Events[i].Columns)
	}
	return size
}

func (e *Event) append(dst []byte, last *Event, first bool) []byte {
	var flags byte
	if !first { // the first has nothing to equal
		flags = e.same(last)
	}
	if e.Continues {
		flags |= continues
	}
	if e.AgentTime != 0 {
		flags |= hasAgentTime
	}
	dst = append(dst, flags)
	if flags&sameTime == 0 {
		dst = binary.AppendVarint(dst, e.Time.UnixMicro())
	}
	if flags&hasAgentTime != 0 {
		dst = binary.AppendVarint(dst, e.AgentTime)
	}
	if flags&sameQuery == 0 {
		dst = appendText(dst, e.Query)
		dst = appendText(dst, e.Action)
		dst = binary.AppendVarint(dst, e.Epoch)
		dst = binary.AppendVarint(dst, e.Counter)
	}
	if flags&sameDecorations == 0 {
		dst = appendText(dst, e.Decorations)
	}
	if first || !e.Continues {
		dst = binary.BigEndian.AppendUint64(dst, e.Line)
	}
	return appendText(dst, e.Columns)
}

func (e *Event) same(last *Event) (flags byte) {
	if e.Time.Equal(last.Time) {
		flags |= sameTime
	}
	if e.Query == last.Query && e.Action == last.Action && e.Epoch == last.Epoch && e.Counter == last.Counter {
		flags |= sameQuery
	}
	if string(e.Decorations) == string(last.Decorations) {
		flags |= sameDecorations
	}
	return flags
}

// usualEvent is what an event of a batch takes at least, but for odd ones.
const usualEvent = 16

// DecodeBatch reads what Append wrote, of this version or one before. The events' texts alias b.
func DecodeBatch(b []byte) (Batch, error) {
	r := reader{b: b}
	var batch Batch
	version := r.byte()
	if version < OldestVersion || version > CodecVersion {
		return batch, ErrCorrupt
	}
	batch.NodeID = string(r.text())
	batch.HostIdentifier = string(r.text())
	batch.Received = time.UnixMicro(r.varint()).UTC()
	for n := r.count(); n > 0 && !r.bad; n-- {
		batch.Tags = append(batch.Tags, string(r.text()))
	}
	if version >= 2 {
		batch.Revision = r.varint()
	}
	batch.LogType = string(r.text())
	batch.Joins = r.byte() == 1
	n := r.count()
	batch.Events = make([]Event, 0, min(n, len(r.b)/usualEvent+1))
	var e Event
	for i := 0; i < n && !r.bad; i++ {
		r.event(&e, i == 0)
		batch.Events = append(batch.Events, e)
	}
	if r.bad || len(r.b) != 0 {
		return Batch{}, ErrCorrupt
	}
	return batch, nil
}

// event reads the next event over the one before.
func (r *reader) event(e *Event, first bool) {
	flags := r.byte()
	if flags&sameTime == 0 {
		e.Time = time.UnixMicro(r.varint()).UTC()
	}
	e.AgentTime = 0
	if flags&hasAgentTime != 0 { // never set in version 1
		e.AgentTime = r.varint()
	}
	if flags&sameQuery == 0 {
		e.Query, e.Action = string(r.text()), string(r.text())
		e.Epoch, e.Counter = r.varint(), r.varint()
	}
	if flags&sameDecorations == 0 {
		e.Decorations = r.text()
		if len(e.Decorations) == 0 {
			e.Decorations = nil
		}
	}
	e.Continues = flags&continues != 0
	if first || !e.Continues {
		e.Line = r.uint64()
	}
	e.Columns = r.text()
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// reader takes values from b; after the first that is not there it is bad and
// gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return v * r.advance(n)
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return v * uint64(r.advance(n)) //nolint:gosec // 0 or 1
}

func (r *reader) advance(n int) int64 {
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return 1
}

// count reads a number of things that take at least a byte each, so that a
// corrupt number cannot ask for memory.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n) //nolint:gosec // at most len(r.b)
}

func (r *reader) text() []byte {
	n := r.count()
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}
