package search

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/durable"
)

const (
	// tick is how often Run looks for something to do.
	tick = time.Second
	// retryAfter is how long Run waits after it failed, on a full disk say.
	retryAfter = 15 * time.Second
	// idleAfter is how long after the last search files are closed.
	idleAfter = time.Minute
)

// quarantineDir has segments that are not what was written.
const quarantineDir = "quarantine"

// Run flushes by size and age, merges small segments, drops expired days and
// closes idle files until ctx ends; then it flushes once more. What fails is
// logged and tried again; it returns the error of the last flush only.
func (e *Engine) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var retry, retain, idle time.Time
	for {
		select {
		case <-ctx.Done():
			return e.Flush(context.WithoutCancel(ctx))
		case <-e.full:
		case <-ticker.C:
		}
		now := time.Now()
		if now.Before(retry) {
			continue
		}
		if !now.Before(idle) {
			e.files.closeIdle()
			idle = now.Add(idleAfter)
		}
		e.removed.purge(e.steady() - keepRemovedFor)
		err := e.flushIfDue(ctx)
		if err == nil {
			err = e.compact(ctx)
		}
		if err == nil && !now.Before(retain) {
			retain = now.Add(retainEvery)
			err = e.retain(ctx)
		}
		if err == nil {
			err = e.checkSome(ctx)
		}
		if err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "cannot maintain event segments, trying again", "error", err)
			retry = now.Add(retryAfter)
		}
	}
}

func (e *Engine) flushIfDue(ctx context.Context) error {
	e.mu.RLock()
	m := e.mem
	due := e.frozen != nil || m.rows >= e.flushRows || m.bytes >= e.flushBytes || m.last != 0 && e.now().Sub(m.since) >= e.flushAge
	e.mu.RUnlock()
	if !due {
		return nil
	}
	return e.Flush(ctx)
}

// acquire takes the right to change files.
func (e *Engine) acquire(ctx context.Context) error {
	select {
	case e.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) yield() { <-e.writing }

// Flush writes what is in memory to segments and returns when they are durable;
// Position is then at least what Seen was. If it fails, the events stay in
// memory and the next flush writes them.
func (e *Engine) Flush(ctx context.Context) error {
	if err := e.acquire(ctx); err != nil {
		return fmt.Errorf("flush events: %w", err)
	}
	defer e.yield()
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return fmt.Errorf("flush events: %w", errClosed)
		}
		again := e.frozen != nil // a flush that failed
		if !again {
			if e.mem.last == 0 {
				e.mu.Unlock()
				return nil
			}
			e.frozen, e.mem = e.mem, newMemtable()
		}
		m := e.frozen
		e.mu.Unlock()
		if err := e.write(ctx, m); err != nil {
			return fmt.Errorf("flush events: %w", err)
		}
		if !again {
			return nil
		}
	}
}

// write makes segments of the frozen memtable.
func (e *Engine) write(ctx context.Context, m *memtable) error {
	started := time.Now()
	var added []meta
	for _, p := range m.sorted() {
		s, err := e.writePart(ctx, p, e.number())
		if err != nil {
			e.discard(added)
			return err
		}
		added = append(added, s)
	}
	c := change{add: added, position: m.last, flushed: true}
	if err := e.commit(c); err != nil {
		return err
	}
	e.log.DebugContext(ctx, "flushed events", "rows", m.rows, "segments", len(added), "position", m.last, "duration", time.Since(started))
	return nil
}

// number returns the number of a new segment. Numbers of attempts that failed
// are not used again, so that a file is never another's.
func (e *Engine) number() uint64 {
	e.next++
	return e.next - 1
}

// discard removes files that no manifest names.
func (e *Engine) discard(written []meta) {
	for _, m := range written {
		_ = os.Remove(filepath.Join(e.dir, filepath.FromSlash(m.File))) // what stays is removed by the next Open
	}
}

// change is what one manifest has different from the one before.
type change struct {
	add      []meta
	remove   map[*segment]bool
	position uint64 // 0 to keep it
	flushed  bool   // the frozen memtable is in the segments added
	expired  bool   // what is removed is not in what is added
	lost     []loss
	forget   func(loss) bool // which losses are no news anymore; nil for none
}

// commit makes a change durable and then, at one moment, visible to searches.
// The caller holds writing.
func (e *Engine) commit(c change) error {
	if err := e.syncNames(c.add); err != nil {
		e.discard(c.add)
		return err
	}
	e.watchClock() // so that stamps of a clock that jumped come with the doubt of it
	doubted := e.clock.doubt(e.steady())
	e.mu.RLock()
	m := manifest{Position: max(e.position, c.position), Next: e.next, Lost: slices.Concat(e.lost, c.lost), Doubt: doubted}
	if c.forget != nil {
		m.Lost = slices.DeleteFunc(m.Lost, c.forget)
	}
	segments := make([]*segment, 0, len(e.segments)+len(c.add))
	for _, s := range e.segments {
		if !c.remove[s] {
			segments = append(segments, s)
		}
	}
	e.mu.RUnlock()
	for _, a := range c.add {
		s := e.newSegment(a)
		s.checked.Store(true) // its checksum is of what was just written
		segments = append(segments, s)
	}
	for _, s := range segments {
		m.Segments = append(m.Segments, s.meta)
	}
	if replaced, err := writeManifest(e.dir, &m); err != nil {
		if !replaced {
			e.discard(c.add)
		} // else the manifest on disk may name them: the next Open judges
		return err
	}
	e.mu.Lock()
	e.segments, e.lost = segments, m.Lost
	e.position = m.Position
	if c.flushed {
		e.frozen = nil
	}
	e.mu.Unlock()
	remove := e.keepRemoved // for who is copying the directory, in which what was merged is still named
	if c.expired {
		remove = removeFile
	}
	for s := range c.remove {
		s.drop(remove)
	}
	return nil
}

// syncNames makes the names of new segments durable.
func (e *Engine) syncNames(added []meta) error {
	if len(added) == 0 {
		return nil
	}
	days := map[string]bool{}
	for _, m := range added {
		days[path.Dir(m.File)] = true
	}
	for day := range days {
		if err := durable.SyncDir(filepath.Join(e.dir, day)); err != nil {
			return err
		}
	}
	return durable.SyncDir(e.dir)
}

// quarantine takes segments that are not what was written, with the reasons,
// out of service. The caller holds writing, or nobody else has the engine yet.
func (e *Engine) quarantine(ctx context.Context, bad map[*segment]string) error {
	if len(bad) == 0 {
		return nil
	}
	dir := filepath.Join(e.dir, quarantineDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("quarantine segment: %w", err)
	}
	c := change{remove: map[*segment]bool{}}
	for s, reason := range bad {
		// The file is moved first: once no manifest names it, Open deletes it.
		if err := os.Rename(s.path, filepath.Join(dir, filepath.Base(s.path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("quarantine segment: %w", err)
		}
		e.log.ErrorContext(ctx, "events are lost: a segment is damaged; if the file can be recovered from a backup, restore the whole directory",
			"file", s.File, "reason", reason, "query", string(s.Query), "day", s.Day, "rows", s.Rows, "first_seq", s.MinSeq, "last_seq", s.MaxSeq)
		c.remove[s] = true
		c.lost = append(c.lost, loss{s.meta, reason})
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	return e.commit(c)
}

// failed is called when a segment could not be read. If its file is damaged,
// it is taken out of service, so that the next search works without it; this
// one fails, so that nobody takes what is left for all there is.
func (e *Engine) failed(ctx context.Context, s *segment, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	damage := s.check()
	if !isDamage(damage) {
		return err
	}
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.yield()
	e.mu.RLock()
	held := slices.Contains(e.segments, s)
	e.mu.RUnlock()
	if held {
		if err := e.quarantine(ctx, map[*segment]string{s: damage.Error()}); err != nil {
			return err
		}
	}
	return fmt.Errorf("segment %s was taken out of service: %w", s.File, errors.Join(ErrCorrupt, damage, err))
}

// isDamage reports whether what check returned is about the file, rather than
// about reading it.
func isDamage(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) }
