package search

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// dictionary is the values that codes of a column stand for. It is valid only
// while it is visited.
type dictionary struct {
	// generation differs between dictionaries of one read.
	generation int
	data       []byte
	offsets    []uint32
}

func (d *dictionary) len() int { return max(len(d.offsets)-1, 0) }

func (d *dictionary) at(code int32) []byte { return d.data[d.offsets[code]:d.offsets[code+1]] }

// absent is the code of a row that does not have the column.
const absent = -1

var errShort = errors.New("column has too few rows")

// eachPage visits the pages of a chunk that have listed rows, which ascend.
// It passes the rows of the page and the number of the page's first row.
func eachPage(chunk *parquet.FileColumnChunk, rows []int32, visit func(pages *parquet.FilePages, page parquet.Page, first int32, rows []int32) error) (err error) {
	if len(rows) == 0 {
		return nil
	}
	pages, ok := chunk.Pages().(*parquet.FilePages)
	if !ok {
		return errors.New("unexpected reader of pages")
	}
	defer func() { err = errors.Join(err, pages.Close()) }()
	if int(rows[len(rows)-1])+1 > len(rows) {
		// Not all rows: read the index of pages, to skip those without any.
		if _, err := chunk.OffsetIndex(); err != nil {
			return fmt.Errorf("read page index: %w", err)
		}
	}
	next := int32(0) // the row that the next page starts with
	for len(rows) > 0 {
		if rows[0] != next {
			if err := pages.SeekToRow(int64(rows[0])); err != nil {
				return fmt.Errorf("seek row: %w", err)
			}
			next = rows[0]
		}
		page, err := pages.ReadPage()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errShort
			}
			return fmt.Errorf("read page: %w", err)
		}
		first := next
		next += int32(page.NumRows()) //nolint:gosec // a row group has far fewer
		n := 0
		for n < len(rows) && rows[n] < next {
			n++
		}
		if n > 0 {
			err = visit(pages, page, first, rows[:n])
		}
		parquet.Release(page)
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// eachText visits the listed rows of a text column, with each row's place in
// rows and its code. The rows ascend.
func eachText(chunk *parquet.FileColumnChunk, rows []int32, visit func(i int, d *dictionary, code int32) error) error {
	var d dictionary
	var of parquet.Dictionary
	done := 0
	return eachPage(chunk, rows, func(_ *parquet.FilePages, page parquet.Page, first int32, rows []int32) error {
		var codes []int32 // of the values that are there
		if dict := page.Dictionary(); dict != nil {
			if d.generation == 0 || dict != of {
				values := dict.Page().Data()
				d.data, d.offsets = values.ByteArray()
				d.generation++
				of = dict
			}
			data := page.Data()
			codes = data.Int32()
		} else {
			values := page.Data()
			d.data, d.offsets = values.ByteArray()
			d.generation++
			of = nil
		}
		levels := page.DefinitionLevels()
		at, rank := int32(0), int32(0) // the next row of the page, and values before it
		for i, row := range rows {
			row -= first
			if levels == nil {
				rank = row
			} else {
				for ; at < row; at++ {
					rank += int32(levels[at])
				}
			}
			code := rank
			switch {
			case levels != nil && levels[row] == 0:
				code = absent
			case codes != nil:
				code = codes[rank]
			}
			if int(code) >= d.len() {
				return errors.New("value is not in the dictionary")
			}
			if err := visit(done+i, &d, code); err != nil {
				return err
			}
		}
		done += len(rows)
		return nil
	})
}

// texts is a text column of some rows, each value kept once.
type texts struct {
	codes   []int32
	data    []byte
	offsets []uint32
}

// at returns the i-th row's value; nil if it is absent.
func (t *texts) at(i int) []byte {
	code := t.codes[i]
	if code == absent {
		return nil
	}
	from, to := t.offsets[code], t.offsets[code+1]
	return t.data[from:to:to]
}

// readTexts reads the listed rows of a text column.
func readTexts(chunk *parquet.FileColumnChunk, rows []int32) (*texts, error) {
	// data is never nil, so that an empty value is not taken for an absent one.
	t := &texts{codes: make([]int32, len(rows)), data: []byte{}, offsets: []uint32{0}}
	if chunk.NullCount() == chunk.NumValues() {
		for i := range t.codes {
			t.codes[i] = absent
		}
		return t, nil
	}
	return t, t.read(chunk, rows, 0)
}

// read reads the listed rows as those from the given place on.
func (t *texts) read(chunk *parquet.FileColumnChunk, rows []int32, place int) error {
	var known []int32 // code in the file → code here + 1
	generation := 0
	return eachText(chunk, rows, func(i int, d *dictionary, code int32) error {
		if code == absent {
			t.codes[place+i] = absent
			return nil
		}
		if d.generation != generation {
			generation = d.generation
			known = make([]int32, d.len())
		}
		if known[code] == 0 {
			t.data = append(t.data, d.at(code)...)
			t.offsets = append(t.offsets, uint32(len(t.data))) //nolint:gosec // a row group is far smaller
			known[code] = int32(len(t.offsets) - 1)            //nolint:gosec // as many as rows at most
		}
		t.codes[place+i] = known[code] - 1
		return nil
	})
}

// readInts reads the listed rows of a column of 64-bit integers into dst.
func readInts(chunk *parquet.FileColumnChunk, rows []int32, dst []int64) ([]int64, error) {
	err := eachPage(chunk, rows, func(_ *parquet.FilePages, page parquet.Page, first int32, rows []int32) error {
		data := page.Data()
		if data.Size() == 0 {
			return errShort
		}
		switch page.Type().Kind() {
		case parquet.Int64:
			values := data.Int64()
			for _, row := range rows {
				dst = append(dst, values[row-first])
			}
		case parquet.Int32:
			values := data.Int32()
			for _, row := range rows {
				dst = append(dst, int64(values[row-first]))
			}
		default:
			return fmt.Errorf("unexpected type %s", page.Type())
		}
		return nil
	})
	return dst, err
}

// allRows returns the rows from from up to to.
func allRows(from, to int) []int32 {
	rows := make([]int32, 0, max(to-from, 0))
	for i := from; i < to; i++ {
		rows = append(rows, int32(i)) //nolint:gosec // within a row group
	}
	return rows
}
