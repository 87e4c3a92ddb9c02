package store

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
)

var _ change.Store = (*Store)(nil)

const counterChange = "change" // numbers of changes, and their states: one writer at a time

const noChange = "there is no change with that id"

// CreateChange implements [change.Changes].
func (s *Store) CreateChange(ctx context.Context, c change.Change) (change.Change, error) {
	err := s.tx(ctx, func(t *tx) error {
		number, err := t.next(ctx, counterChange, 1)
		if err != nil {
			return err
		}
		c.ID = strconv.FormatInt(number, 10)
		doc, err := exact(c)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO change (number, state, author, created_at, document) VALUES ($1, $2, $3, $4, $5)`,
			number, text(string(c.State)), text(c.Author), micros(c.CreatedAt), doc)
		return err
	})
	if err != nil {
		return change.Change{}, fail("create change", err)
	}
	return c, nil
}

// SaveChange implements [change.Changes]. The approvals of c may be those that
// are kept, with or without one more.
func (s *Store) SaveChange(ctx context.Context, c change.Change, was change.State) error {
	return fail("keep change", s.tx(ctx, func(t *tx) error { return t.saveChange(ctx, c, was) }))
}

func (t *tx) saveChange(ctx context.Context, c change.Change, was change.State) error {
	number, err := changeNumber(c.ID)
	if err != nil {
		return err
	}
	if _, err := t.next(ctx, counterChange, 0); err != nil {
		return err
	}
	kept, _, err := scanProposal(t.QueryRowContext(ctx, proposalQuery+`number = $1`, number))
	if err != nil {
		return missing(err, noChange)
	}
	if kept.State != was {
		return errs.New(errs.Conflict, "change %s is %s by now; look at it again", c.ID, kept.State)
	}
	if !follows(kept.Approvals, c.Approvals) {
		return errs.New(errs.Conflict, "somebody else approved change %s meanwhile; try again", c.ID)
	}
	doc, err := exact(c)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `UPDATE change SET state = $1, document = $2 WHERE number = $3`, text(string(c.State)), doc, number)
	return err
}

// exact is document with <, > and & as they are: what a change edits is canonical
// JSON, known by the hash of its bytes.
func exact(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.String(), err
}

// follows reports whether next are the kept approvals with at most one more.
func follows(kept, next []change.Approval) bool {
	if len(next) == len(kept)+1 {
		next = next[:len(kept)]
	}
	return slices.EqualFunc(kept, next, func(a, b change.Approval) bool {
		return a.By == b.By && a.Hash == b.Hash && a.At.Equal(b.At)
	})
}

// changeNumber returns the number that an id writes; NotFound if it writes none.
func changeNumber(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != id {
		return 0, errs.New(errs.NotFound, noChange)
	}
	return n, nil
}

// proposalQuery selects what scanProposal reads, up to the condition.
const proposalQuery = `SELECT number, document FROM change WHERE `

// scanProposal reads a change and tells how long its document is.
func scanProposal(row scanner) (c change.Change, size int, err error) {
	var number int64
	var doc []byte
	if err := row.Scan(&number, &doc); err != nil {
		return c, 0, err
	}
	err = json.Unmarshal(doc, &c)
	c.ID = strconv.FormatInt(number, 10)
	return c, len(doc), err
}

// Change implements [change.Changes].
func (s *Store) Change(ctx context.Context, id string) (change.Change, error) {
	number, err := changeNumber(id)
	if err != nil {
		return change.Change{}, err
	}
	c, _, err := scanProposal(s.read.QueryRowContext(ctx, proposalQuery+`number = $1`, number))
	if err != nil {
		return change.Change{}, fail("read change", missing(err, noChange))
	}
	return c, nil
}

// changesBytes bounds the documents of one list: a change holds all that it
// edits, and the first import of somebody's packs is megabytes.
const changesBytes = 16 << 20

// ListChanges implements [change.Changes]. A list ends early if it becomes
// large; there are no more only when it is empty.
func (s *Store) ListChanges(ctx context.Context, state change.State, before string, limit int) ([]change.Change, error) {
	w := &where{}
	w.add(`number < ?`, int64(math.MaxInt64))
	if before != "" {
		number, err := changeNumber(before)
		if err != nil {
			return nil, errs.Field("before", "%q is no id of a change; they are numbers", before)
		}
		w.args[0] = number
	}
	if state != "" {
		w.add(`state = ?`, text(string(state)))
	}
	list, err := s.changes(ctx, proposalQuery+w.String()+` ORDER BY number DESC LIMIT `+strconv.Itoa(limited(limit)), w.args...)
	return list, fail("list changes", err)
}

// changes reads the rows of a query, up to changesBytes.
func (s *Store) changes(ctx context.Context, query string, args ...any) ([]change.Change, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	list := []change.Change{}
	for sum := 0; sum < changesBytes && rows.Next(); {
		c, size, err := scanProposal(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
		sum += size
	}
	return list, rows.Err()
}
