package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// openPlain opens a SQLite store with a table t, in which a row named "bomb"
// makes SQLite undo the whole transaction.
func openPlain(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{
		URL: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, query := range []string{
		`CREATE TABLE t (name TEXT PRIMARY KEY)`,
		`CREATE TRIGGER bomb BEFORE INSERT ON t WHEN new.name LIKE 'bomb%' BEGIN SELECT RAISE(ROLLBACK, 'boom'); END`,
	} {
		if _, err := s.write.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func insert(ctx context.Context, name string) func(*tx) error {
	return func(t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO t (name) VALUES ($1)`, name)
		return err
	}
}

// hold keeps the writer busy until release is called, so that what comes
// meanwhile becomes one group.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.tx(t.Context(), func(*tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	return func() {
		close(free)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestGroup commits many transactions at once, of which some fail in each way
// that there is, and looks at what stays.
func TestGroup(t *testing.T) {
	s := openPlain(t)
	release := hold(t, s)
	const jobs = 40
	failed := errors.New("changed its mind")
	results := make([]error, jobs)
	var wg sync.WaitGroup
	for i := range jobs {
		wg.Go(func() {
			switch i % 10 {
			case 3: // undoes only itself
				results[i] = s.tx(t.Context(), func(x *tx) error {
					return errors.Join(insert(t.Context(), fmt.Sprintf("undone-%d", i))(x), failed)
				})
			case 7: // undoes everybody's
				results[i] = s.tx(t.Context(), insert(t.Context(), fmt.Sprintf("bomb-%d", i)))
			default:
				results[i] = s.tx(t.Context(), insert(t.Context(), fmt.Sprintf("row-%d", i)))
			}
		})
	}
	// All of them wait for the writer.
	for len(s.writer.work) < jobs {
		select {
		case <-t.Context().Done():
			t.Fatal("the jobs do not queue")
		case <-time.After(time.Millisecond):
		}
	}
	release()
	wg.Wait()
	names, err := all(t.Context(), s.read, scanText, `SELECT name FROM t ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, n := range names {
		kept[n] = true
	}
	for i, err := range results {
		name := fmt.Sprintf("row-%d", i)
		switch i % 10 {
		case 3:
			if !errors.Is(err, failed) || kept[fmt.Sprintf("undone-%d", i)] {
				t.Errorf("job %d: %v, kept %v", i, err, kept[fmt.Sprintf("undone-%d", i)])
			}
		case 7:
			if err == nil || !strings.Contains(err.Error(), "boom") {
				t.Errorf("job %d: %v", i, err)
			}
		default:
			if err != nil || !kept[name] {
				t.Errorf("job %d: %v, kept %v", i, err, kept[name])
			}
		}
	}
	if len(names) != jobs*8/10 {
		t.Errorf("%d rows; want %d", len(names), jobs*8/10)
	}
}

// TestGroupCancelled ends a caller's context while it waits and while it runs:
// the first is not run, the second does not disturb others.
func TestGroupCancelled(t *testing.T) {
	s := openPlain(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- s.tx(ctx, insert(ctx, "waiting")) }()
	for len(s.writer.work) == 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the job does not queue")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) { // it does not wait for the writer
		t.Errorf("a job whose caller went away: %v", err)
	}
	release()
	running, stop := context.WithCancel(t.Context())
	err := s.tx(running, func(x *tx) error {
		stop()
		return insert(running, "running")(x)
	})
	if err != nil {
		t.Errorf("a job whose caller went away while it ran: %v", err)
	}
	names, err := all(t.Context(), s.read, scanText, `SELECT name FROM t`)
	if err != nil || len(names) != 1 || names[0] != "running" {
		t.Errorf("%v %v", names, err)
	}
}

// TestClosed checks that a closed store refuses instead of waiting for ever.
func TestClosed(t *testing.T) {
	s := openPlain(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.tx(t.Context(), insert(t.Context(), "late")); err == nil {
		t.Error("a closed store took a row")
	}
}
