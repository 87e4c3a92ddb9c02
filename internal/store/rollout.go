package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/rollout"
)

var _ rollout.Store = (*Store)(nil)

const (
	noRollout = "there is no rollout of that revision"
	// firstVersion is the version of a rollout that was opened.
	firstVersion = 1
)

// rolloutQuery selects what scanRollout reads, up to the condition.
const rolloutQuery = `SELECT document, version FROM rollout WHERE `

// openStates is the condition for rollouts that are open, as the index on them
// has it.
const openStates = `state IN ('running', 'paused')`

func scanRollout(row scanner) (rollout.Rollout, error) {
	var r rollout.Rollout
	var doc []byte
	var version int64
	if err := row.Scan(&doc, &version); err != nil {
		return r, err
	}
	err := json.Unmarshal(doc, &r)
	r.Version = version
	return r, err
}

// OpenRollout implements [rollout.Store].
func (s *Store) OpenRollout(ctx context.Context) (*rollout.Rollout, error) {
	r, err := openRollout(ctx, s.read)
	return r, fail("read the open rollout", err)
}

func openRollout(ctx context.Context, q querier) (*rollout.Rollout, error) {
	r, err := scanRollout(q.QueryRowContext(ctx, rolloutQuery+openStates))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	return &r, err
}

// Rollout implements [rollout.Store].
func (s *Store) Rollout(ctx context.Context, revision int64) (*rollout.Rollout, error) {
	r, err := scanRollout(s.read.QueryRowContext(ctx, rolloutQuery+`revision = $1`, revision))
	if err != nil {
		return nil, fail("read rollout", missing(err, noRollout))
	}
	return &r, nil
}

// Rollouts implements [rollout.Store].
func (s *Store) Rollouts(ctx context.Context, before int64, limit int) ([]rollout.Rollout, error) {
	list, err := all(ctx, s.read, scanRollout,
		rolloutQuery+`revision < $1 ORDER BY revision DESC LIMIT `+strconv.Itoa(limited(limit)), cmp.Or(before, math.MaxInt64))
	return list, fail("list rollouts", err)
}

// SaveRollout implements [rollout.Store]; NotFound if the revision had none.
// It raises the serving version.
func (s *Store) SaveRollout(ctx context.Context, r *rollout.Rollout) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterServing, 1); err != nil {
			return err
		}
		return t.saveRollout(ctx, *r)
	})
	if taken(err) {
		return errs.New(errs.Conflict, "another rollout is open by now")
	}
	if err == nil {
		r.Version++
	}
	return fail("keep rollout", err)
}

func (t *tx) saveRollout(ctx context.Context, r rollout.Rollout) error {
	had := r.Version
	r.Version++
	doc, err := document(r)
	if err != nil {
		return err
	}
	kept, err := t.exec(ctx, `UPDATE rollout SET state = $1, document = $2, version = $3 WHERE revision = $4 AND version = $5`,
		string(r.State), doc, r.Version, r.Revision, had)
	if err != nil || kept > 0 {
		return err
	}
	var version int64
	if err := t.QueryRowContext(ctx, `SELECT version FROM rollout WHERE revision = $1`, r.Revision).Scan(&version); err != nil {
		return missing(err, noRollout)
	}
	return errs.New(errs.Conflict, "the rollout of revision %d went on meanwhile; look at it again", r.Revision)
}

// turnRollouts ends one rollout and begins another; either may be nil. Conflict
// if one is open that it does not end.
func (t *tx) turnRollouts(ctx context.Context, closes, opens *rollout.Rollout) error {
	if closes != nil {
		if err := t.saveRollout(ctx, *closes); err != nil {
			return err
		}
	}
	open, err := openRollout(ctx, t)
	if err != nil {
		return err
	}
	if open != nil {
		return errs.New(errs.Conflict, "the rollout of revision %d is open; wait until it is done, or end it", open.Revision)
	}
	if opens == nil {
		return nil
	}
	r := *opens
	r.Version = firstVersion
	doc, err := document(r)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO rollout (revision, state, document, version) VALUES ($1, $2, $3, $4)`, r.Revision, string(r.State), doc, r.Version)
	return err
}
