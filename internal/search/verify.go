package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// checkPace is how many bytes of segments are checked per tick after a start, the
// newest first, so that searches find them checked.
const checkPace = 64 << 20

// checkSome checks segments that nobody has read since the start.
func (e *Engine) checkSome(ctx context.Context) error {
	e.mu.RLock()
	var todo []*segment
	for _, s := range e.segments {
		if !s.checked.Load() {
			todo = append(todo, s)
		}
	}
	slices.SortFunc(todo, func(a, b *segment) int { return cmp.Compare(b.MaxReceived, a.MaxReceived) })
	var bytes int64
	for i, s := range todo {
		if bytes += s.Bytes; bytes > checkPace && i > 0 {
			todo = todo[:i]
			break
		}
	}
	for _, s := range todo {
		s.retain()
	}
	e.mu.RUnlock()
	var failed error
	for _, s := range todo {
		if err := s.check(); err != nil && failed == nil {
			failed = e.failed(ctx, s, err)
		}
		s.release()
	}
	return failed
}

// removed is files of segments that were merged. They stay for a while, as a copy
// of the directory that was begun with the manifest before needs them.
type removed struct {
	mu    sync.Mutex
	files []removedFile
	bytes int64
}

type removedFile struct {
	path  string
	bytes int64
	at    time.Duration // by the steady clock
}

const (
	// keepRemovedFor is how long a copy of the directory may take.
	keepRemovedFor = 15 * time.Minute
	// maxRemoved bounds their size, whatever a flood of events merges.
	maxRemoved = 1 << 30
)

// keepRemoved removes a file later.
func (e *Engine) keepRemoved(path string, bytes int64) {
	r := &e.removed
	r.mu.Lock()
	r.files = append(r.files, removedFile{path, bytes, e.steady()})
	r.bytes += bytes
	r.mu.Unlock()
	r.purge(0)
}

// purge removes the files that were kept since before a time, and more if there is
// too much.
func (r *removed) purge(before time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.files) > 0 && (r.files[0].at < before || r.bytes > maxRemoved) {
		removeFile(r.files[0].path, 0)
		r.bytes -= r.files[0].bytes
		r.files = r.files[1:]
	}
}

// Verification is what Verify found.
type Verification struct {
	Segments      int
	Events, Bytes int64
	// Damaged are the segments whose files are missing or not what was written.
	Damaged []Damage
	// Lost are those that the engine found so before and took out of service.
	Lost []Damage
}

// Damage is about one segment.
type Damage struct {
	File   string // within the directory
	Query  string
	Day    string // UTC, of arrival
	Events int64
	Reason string
}

// Verify reads all files of an engine's directory, or of a copy of one, and compares
// them with what was written. It changes nothing, and an engine may have the
// directory open. step is called before each file with how many were read of all.
func Verify(ctx context.Context, dir string, step func(done, total int)) (Verification, error) {
	var v Verification
	m, err := readManifest(dir)
	if err != nil {
		return v, fmt.Errorf("verify events: %w", err)
	}
	if m == nil {
		return v, fmt.Errorf("verify events: %s has no %s", dir, manifestName)
	}
	for _, l := range m.Lost {
		v.Lost = append(v.Lost, damageOf(l.Segment, l.Reason))
	}
	for i, s := range m.Segments {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		step(i, len(m.Segments))
		v.Segments++
		v.Events += s.Rows
		v.Bytes += s.Bytes
		err := s.check(filepath.Join(dir, filepath.FromSlash(s.File)))
		if errors.Is(err, fs.ErrNotExist) && expiredSince(dir, s.File) {
			continue
		}
		if isDamage(err) {
			v.Damaged = append(v.Damaged, damageOf(s, err.Error()))
		} else if err != nil {
			return v, err
		}
	}
	step(len(m.Segments), len(m.Segments))
	return v, nil
}

// expiredSince reports whether a running engine has dropped the segment meanwhile.
func expiredSince(dir, file string) bool {
	m, err := readManifest(dir)
	return err == nil && m != nil && !slices.ContainsFunc(m.Segments, func(s meta) bool { return s.File == file })
}

func damageOf(m meta, reason string) Damage {
	return Damage{File: m.File, Query: string(m.Query), Day: m.Day, Events: m.Rows, Reason: reason}
}
