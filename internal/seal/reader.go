package seal

import (
	"errors"
	"fmt"
	"io"
)

// Source returns n sealed bytes from offset on. It is asked once, for the
// records that hold the wanted bytes, and once more for the header if one of
// them does not open, to tell why.
type Source func(offset, n int64) (io.ReadCloser, error)

// At is the source of a file.
func At(r io.ReaderAt) Source {
	return func(offset, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(r, offset, n)), nil
	}
}

// reader keeps one record in memory.
type reader struct {
	archive Archive
	source  Source

	next int64 // record to be read
	skip int64 // bytes of the next block before the first wanted one
	left int64 // bytes still wanted

	in     io.ReadCloser
	record []byte
	block  []byte // what is not handed out, in record's memory
	err    error
}

// NewReader returns the n bytes of the archive from that byte on, to its end
// if n is negative or there are fewer. Each byte was authenticated before it
// is handed out; but only who reads to the end without an error knows that
// nothing is missing. Whoever closes it closes the source.
func NewReader(a Archive, source Source, from, n int64) (io.ReadCloser, error) {
	if from < 0 || from > a.size {
		return nil, fmt.Errorf("seal: byte %d of %d", from, a.size)
	}
	if n < 0 || n > a.size-from {
		n = a.size - from
	}
	return &reader{archive: a, source: source, next: from / a.blockSize, skip: from % a.blockSize, left: n}, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.err == nil && len(r.block) == 0 {
		if r.err = r.open(); r.err == nil {
			r.err = r.fill()
		}
	}
	if len(r.block) == 0 {
		return 0, r.err
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
}

// open asks for the records, with the header if the first one is among them.
func (r *reader) open() error {
	if r.in != nil {
		return nil
	}
	a := r.archive
	first, end := a.Offset(r.next), a.Offset(r.next)
	if r.left > 0 {
		last := (r.next*a.blockSize + r.skip + r.left - 1) / a.blockSize
		end = min(a.SealedSize(), a.Offset(last+1))
	}
	whole := r.next == 0 && r.skip == 0
	if whole {
		first = 0
	}
	if first >= end {
		return io.EOF
	}
	in, err := r.source(first, end-first)
	if err != nil {
		return err
	}
	r.in = in
	if !whole {
		return nil
	}
	var header [HeaderSize]byte
	if err := r.full(header[:]); err != nil {
		return err
	}
	return a.CheckHeader(header[:])
}

// fill reads and opens the next record.
func (r *reader) fill() error {
	if r.left == 0 {
		return io.EOF
	}
	if r.record == nil {
		r.record = make([]byte, r.archive.BlockLen(r.next)+Overhead)
	}
	record := r.record[:r.archive.BlockLen(r.next)+Overhead]
	if err := r.full(record); err != nil {
		return err
	}
	block, err := r.archive.Open(record[:0], record, r.next)
	if err != nil {
		return errors.Join(r.why(), err)
	}
	block = block[r.skip:]
	block = block[:min(int64(len(block)), r.left)]
	r.block, r.skip, r.next, r.left = block, 0, r.next+1, r.left-int64(len(block))
	return nil
}

func (r *reader) full(p []byte) error {
	_, err := io.ReadFull(r.in, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive ends too early, at record %d: it %w", r.next, ErrDamaged)
	}
	return err
}

// why looks at the header of an archive one of whose records does not open.
func (r *reader) why() error {
	in, err := r.source(0, HeaderSize)
	if err != nil {
		return nil // that the record does not open is said already
	}
	defer func() { _ = in.Close() }()
	var header [HeaderSize]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return nil
	}
	return r.archive.CheckHeader(header[:])
}

func (r *reader) Close() error {
	r.err, r.block, r.record = errors.New("seal: read after close"), nil, nil
	if r.in == nil {
		return nil
	}
	return r.in.Close()
}
