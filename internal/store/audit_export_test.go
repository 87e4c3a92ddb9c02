package store

import (
	"context"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

// VerifyAudit returns how many entries are whole; a Conflict says what is wrong
// with the next.
func (s *Store) VerifyAudit(ctx context.Context) (int64, error) {
	r, err := audit.Verify(ctx, s)
	if err == nil && !r.OK() {
		err = errs.New(errs.Conflict, "%+v", r.Findings)
	}
	return r.Whole, err
}

// OverwriteAudit replaces entries as somebody could who writes to the database.
func (s *Store) OverwriteAudit(ctx context.Context, entries ...audit.Entry) error {
	return s.tx(ctx, func(t *tx) error {
		for _, e := range entries {
			_, err := t.exec(ctx, `UPDATE audit SET actor = $1, reason = $2, prev = $3, hash = $4 WHERE seq = $5`, e.Actor, e.Reason, e.Prev, e.Hash, e.Seq)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
