package store

import (
	"context"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

// BeginOnce keeps that a call begins. If one with its key did within
// [account.OnceFor], it returns that, and begun is false. Limited if the caller has
// [account.MaxOnce] of them.
func (s *Store) BeginOnce(ctx context.Context, c account.Once) (first account.Once, begun bool, err error) {
	who, key := text(c.Account), text(c.Key)
	err = s.tx(ctx, func(t *tx) error {
		first, begun = c, false
		if _, err := t.exec(ctx, `DELETE FROM once WHERE account = $1 AND key = $2 AND at < $3`, who, key, micros(c.At.Add(-account.OnceFor))); err != nil {
			return err
		}
		n, err := t.exec(ctx, `INSERT INTO once (account, key, hash, at, done, answer) VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (account, key) DO NOTHING`,
			who, key, c.Hash, micros(c.At), []byte{})
		if err != nil {
			return err
		}
		if n == 0 {
			var at int64
			row := t.QueryRowContext(ctx, `SELECT hash, at, done, answer FROM once WHERE account = $1 AND key = $2`, who, key)
			err := row.Scan(&first.Hash, &at, &first.Done, &first.Answer)
			first.At = moment(at)
			return err
		}
		begun = true
		var all int
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM once WHERE account = $1`, who).Scan(&all); err != nil {
			return err
		}
		if all > account.MaxOnce {
			return errs.New(errs.Limited, "%d calls with a key within %s; come again later", account.MaxOnce, account.OnceFor)
		}
		return nil
	})
	return first, begun, fail("begin a call", err)
}

// EndOnce keeps the answer to a call that began.
func (s *Store) EndOnce(ctx context.Context, c account.Once) error {
	answer := c.Answer
	if answer == nil {
		answer = []byte{}
	}
	_, err := s.write.ExecContext(ctx, `UPDATE once SET done = 1, answer = $1 WHERE account = $2 AND key = $3`, answer, text(c.Account), text(c.Key))
	return fail("keep an answer", err)
}

// ForgetOnce lets a call that failed be sent again.
func (s *Store) ForgetOnce(ctx context.Context, c account.Once) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM once WHERE account = $1 AND key = $2`, text(c.Account), text(c.Key))
	return fail("forget a call", err)
}

// PruneOnce drops calls from before a time, and reports whether there are more.
func (s *Store) PruneOnce(ctx context.Context, before time.Time) (more bool, err error) {
	return false, fail("prune calls", s.prune(ctx, `DELETE FROM once WHERE (account, key) IN (SELECT account, key FROM once WHERE at < $1 LIMIT `+strconv.Itoa(historyChunk)+`)`, before))
}
