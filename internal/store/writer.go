package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// writer commits the transactions that wait for SQLite's one writer together:
// each commit costs a sync, and hundreds of agents that enrol at once can share
// one. Each runs in a savepoint of its own, so that one which fails undoes only
// itself. Differs because PostgreSQL has many writers and groups their syncs
// itself.
type writer struct {
	db      *sql.DB // with one connection
	work    chan *job
	closed  chan struct{}
	done    chan struct{}
	once    sync.Once
	prepare statements
}

type job struct {
	run    func(*tx) error
	state  atomic.Int32
	ctx    func() error // of the caller, to see whether it still waits
	result chan error   // capacity 1
}

// The states of a job. One that is running cannot be left, one that was left is
// never run.
const (
	jobWaiting = iota
	jobRunning
	jobLeft
)

// maxGroup bounds how long the first of a group waits for the last.
const maxGroup = 64

var errClosed = errors.New("store: closed")

func newWriter(db *sql.DB) *writer {
	w := &writer{
		db: db, work: make(chan *job, maxGroup), closed: make(chan struct{}), done: make(chan struct{}),
		prepare: statements{db: db, known: map[string]*sql.Stmt{}, wanted: map[string]bool{}},
	}
	go w.loop()
	return w
}

// do runs f in a transaction that others may share and returns when it is on
// disk. A ctx that ends while f waits, for others or for a lock of another
// program, ends the waiting, and f never runs; one that ends later does not
// undo f.
func (w *writer) do(ctx context.Context, f func(*tx) error) error {
	j := &job{run: f, ctx: ctx.Err, result: make(chan error, 1)}
	select {
	case w.work <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closed:
		return errClosed
	}
	select {
	case err := <-j.result:
		return err
	case <-w.done:
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobWaiting, jobLeft) {
			return ctx.Err()
		}
	}
	select {
	case err := <-j.result:
		return err
	case <-w.done:
		select {
		case err := <-j.result:
			return err
		default:
			return errClosed
		}
	}
}

func (w *writer) close() {
	w.once.Do(func() { close(w.closed) })
	<-w.done
	w.prepare.close()
}

func (w *writer) loop() {
	defer close(w.done)
	for {
		var group []*job
		select {
		case j := <-w.work:
			group = append(group, j)
		case <-w.closed:
			return
		}
		for more := true; more && len(group) < maxGroup; {
			select {
			case j := <-w.work:
				group = append(group, j)
			default:
				more = false
			}
		}
		w.run(group)
		w.prepare.catchUp()
	}
}

// run runs a group and tells everybody how it ended. When SQLite undoes the
// whole transaction because of one job, that one fails, and the others run
// again one by one.
func (w *writer) run(group []*job) {
	results, broken := w.commit(group)
	for i, j := range group {
		if broken && len(group) > 1 && results[i] == nil {
			j.state.CompareAndSwap(jobRunning, jobWaiting)
			again, _ := w.commit([]*job{j})
			results[i] = again[0]
		}
		j.result <- results[i]
	}
}

// commit runs jobs in one transaction. Broken says that nothing of it is kept,
// also of jobs without an error.
func (w *writer) commit(group []*job) (results []error, broken bool) {
	results = make([]error, len(group))
	if len(group) == 1 {
		if results[0] = group[0].ctx(); results[0] != nil {
			return results, false // nor does it wait for a lock
		}
	}
	// The callers' contexts must not interrupt a statement: SQLite would undo the
	// whole transaction, of the others too.
	ctx := context.Background()
	t, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return fill(results, err), false
	}
	defer func() { _ = t.Rollback() }() // does nothing after Commit
	shared := &tx{Tx: t, dialect: onSQLite, statements: &w.prepare}
	for i, j := range group {
		if results[i] = j.ctx(); results[i] != nil {
			continue
		}
		if !j.state.CompareAndSwap(jobWaiting, jobRunning) {
			results[i] = context.Canceled // its caller left, and hears nothing of this
			continue
		}
		if len(group) == 1 {
			if results[i] = j.run(shared); results[i] != nil {
				return results, true
			}
			continue
		}
		if results[i], err = savepoint(ctx, shared, j); err != nil {
			return results, true
		}
	}
	if err := t.Commit(); err != nil {
		return fill(results, err), false
	}
	return results, false
}

// savepoint runs one job of a group; fatal is set when the whole transaction is
// gone.
func savepoint(ctx context.Context, t *tx, j *job) (failed, fatal error) {
	if _, err := t.exec(ctx, `SAVEPOINT job`); err != nil {
		return err, err
	}
	failed = j.run(t)
	if failed != nil {
		if _, err := t.exec(ctx, `ROLLBACK TO job`); err != nil {
			return failed, fmt.Errorf("undo one of a group: %w", err)
		}
	}
	if _, err := t.exec(ctx, `RELEASE job`); err != nil {
		return errors.Join(failed, err), err
	}
	return failed, nil
}

// fill gives every job without an error this one.
func fill(results []error, err error) []error {
	for i := range results {
		if results[i] == nil {
			results[i] = err
		}
	}
	return results
}

// statements keeps prepared statements of the writer's connection, as parsing
// is a third of what a small transaction costs. database/sql can prepare one
// for many transactions only while none is open, so a text is remembered when
// it is first seen and prepared after the commit. Used by the writer's loop
// alone.
type statements struct {
	db     *sql.DB
	known  map[string]*sql.Stmt
	wanted map[string]bool
}

// maxStatements bounds the cache; there are about forty texts.
const maxStatements = 200

// find returns the prepared statement of a text, or nil.
func (s *statements) find(query string) *sql.Stmt {
	stmt := s.known[query]
	if stmt == nil && len(s.known)+len(s.wanted) < maxStatements {
		s.wanted[query] = true
	}
	return stmt
}

// catchUp prepares what was seen. What cannot be prepared runs as text.
func (s *statements) catchUp() {
	for query := range s.wanted {
		if stmt, err := s.db.PrepareContext(context.Background(), query); err == nil { //nolint:sqlclosecheck // close does
			s.known[query] = stmt
		}
		delete(s.wanted, query)
	}
}

func (s *statements) close() {
	for _, stmt := range s.known {
		_ = stmt.Close()
	}
}
