package agent

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// segmentSize is where a buffer begins a new file, so that what was
// acknowledged can be given back to the disk.
const segmentSize = 4 << 20

// recordHead is the length and checksum before each line.
const recordHead = 8

// maxRecord bounds a line on disk; a longer length is a torn write.
const maxRecord = 64 << 20

// A Buffer keeps log lines on disk, in order, until they are acknowledged. A
// line is in the kernel's hands when Append returns, so it outlives the
// process, also by kill -9; it is not synced, so the last ones may be lost
// with the machine, as with osquery's RocksDB. After a crash, lines that were
// sent just before may be sent again.
type Buffer struct {
	dir string

	mu    sync.Mutex
	head  place    // of the first line that is not acknowledged
	tail  place    // where the next line goes
	file  *os.File // of tail
	count int
}

// place is a position in the numbered segment files.
type place struct {
	segment uint64
	offset  int64
}

// OpenBuffer opens or creates the buffer in a directory. A line that a crash
// cut short is removed; it was never reported as buffered.
func OpenBuffer(dir string) (*Buffer, error) {
	const private = 0o700
	if err := os.MkdirAll(dir, private); err != nil {
		return nil, fmt.Errorf("log buffer: %w", err)
	}
	b := &Buffer{dir: dir}
	if text, err := os.ReadFile(b.headPath()); err == nil {
		// A head that cannot be read means that lines come twice, not never.
		if _, err := fmt.Sscanf(string(text), "%d %d", &b.head.segment, &b.head.offset); err != nil {
			b.head = place{}
		}
	}
	segments, err := b.segments()
	if err != nil {
		return nil, err
	}
	b.tail = b.head
	for _, s := range segments {
		if s < b.head.segment {
			_ = os.Remove(b.path(s)) // left by a crash; harmless
			continue
		}
		from := place{segment: s}
		if s == b.head.segment {
			from = b.head
		}
		lines, end, err := b.read(from, -1)
		if err != nil {
			return nil, err
		}
		b.count += len(lines)
		b.tail = end
	}
	if err := b.openTail(); err != nil {
		return nil, err
	}
	if err := b.file.Truncate(b.tail.offset); err != nil {
		return nil, fmt.Errorf("log buffer: %w", err)
	}
	return b, nil
}

func (b *Buffer) path(segment uint64) string {
	return filepath.Join(b.dir, fmt.Sprintf("%020d.log", segment))
}

func (b *Buffer) headPath() string { return filepath.Join(b.dir, "head") }

func (b *Buffer) segments() ([]uint64, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("log buffer: %w", err)
	}
	var all []uint64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".log"); ok {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

func (b *Buffer) openTail() error {
	const private = 0o600
	f, err := os.OpenFile(b.path(b.tail.segment), os.O_CREATE|os.O_RDWR, private)
	if err != nil {
		return fmt.Errorf("log buffer: %w", err)
	}
	b.file = f
	return nil
}

// Append adds lines. They are buffered, all of them, if it returns nil.
func (b *Buffer) Append(lines ...[]byte) error {
	if len(lines) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tail.offset >= segmentSize {
		if err := b.file.Close(); err != nil {
			return fmt.Errorf("log buffer: %w", err)
		}
		b.tail = place{segment: b.tail.segment + 1}
		if err := b.openTail(); err != nil {
			return err
		}
	}
	var out []byte
	for _, line := range lines {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(line))) //nolint:gosec // far below 4 GiB
		out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(line))
		out = append(out, line...)
	}
	if _, err := b.file.WriteAt(out, b.tail.offset); err != nil {
		return errors.Join(fmt.Errorf("log buffer: %w", err), b.file.Truncate(b.tail.offset))
	}
	b.tail.offset += int64(len(out))
	b.count += len(lines)
	return nil
}

// Len returns how many lines wait.
func (b *Buffer) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// A Batch is the oldest lines of a buffer.
type Batch struct {
	Lines [][]byte
	end   place
}

// Peek returns up to n of the oldest lines; they stay until Ack.
func (b *Buffer) Peek(n int) (Batch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := Batch{end: b.head}
	for len(batch.Lines) < n {
		lines, end, err := b.read(batch.end, n-len(batch.Lines))
		if err != nil {
			return Batch{}, err
		}
		batch.Lines = append(batch.Lines, lines...)
		batch.end = end
		if end.segment == b.tail.segment {
			break
		}
		if len(lines) == 0 {
			batch.end = place{segment: end.segment + 1}
		}
	}
	return batch, nil
}

// Ack forgets the lines of a batch. Batches are acknowledged in order.
func (b *Buffer) Ack(batch Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	temporary := b.headPath() + ".new"
	const private = 0o600
	if err := os.WriteFile(temporary, fmt.Appendf(nil, "%d %d\n", batch.end.segment, batch.end.offset), private); err != nil {
		return fmt.Errorf("log buffer: %w", err)
	}
	if err := os.Rename(temporary, b.headPath()); err != nil {
		return fmt.Errorf("log buffer: %w", err)
	}
	for s := b.head.segment; s < batch.end.segment; s++ {
		_ = os.Remove(b.path(s)) // the next start tries again
	}
	b.head = batch.end
	b.count -= len(batch.Lines)
	return nil
}

// read returns up to n lines (all if n < 0) of one segment from a place on,
// and the place after them. It stops at the first record that is not whole.
func (b *Buffer) read(from place, n int) ([][]byte, place, error) {
	f, err := os.Open(b.path(from.segment))
	if errors.Is(err, os.ErrNotExist) {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, fmt.Errorf("log buffer: %w", err)
	}
	defer f.Close() //nolint:errcheck // a reader
	if _, err := f.Seek(from.offset, io.SeekStart); err != nil {
		return nil, from, fmt.Errorf("log buffer: %w", err)
	}
	r := bufio.NewReader(f)
	var lines [][]byte
	head := make([]byte, recordHead)
	for n < 0 || len(lines) < n {
		if _, err := io.ReadFull(r, head); err != nil {
			break
		}
		size := binary.LittleEndian.Uint32(head)
		if size == 0 || size > maxRecord { // zeros are what a power cut leaves
			break
		}
		line := make([]byte, size)
		if _, err := io.ReadFull(r, line); err != nil || crc32.ChecksumIEEE(line) != binary.LittleEndian.Uint32(head[4:]) {
			break
		}
		lines = append(lines, line)
		from.offset += int64(recordHead + len(line))
	}
	return lines, from, nil
}

// Close ends the use of the buffer.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file.Close()
}
