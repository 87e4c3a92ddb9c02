package store

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
)

// counterSaved is taken by who saves a query, so that their number is bounded
// also when many do at once.
const counterSaved = "saved_query"

const noSaved = "there is no saved query of that name"

const savedColumns = `name, description, sql, selector, created_by, created_at, updated_by, updated_at`

func scanSaved(row scanner) (q live.Saved, err error) {
	var selector string
	var created, updated int64
	if err = row.Scan(&q.Name, &q.Description, &q.SQL, &selector, &q.CreatedBy, &created, &q.UpdatedBy, &updated); err != nil {
		return q, err
	}
	q.CreatedAt, q.UpdatedAt = moment(created), moment(updated)
	return q, json.Unmarshal([]byte(selector), &q.Selector)
}

// SavedQueries returns all saved queries, by name.
func (s *Store) SavedQueries(ctx context.Context) ([]live.Saved, error) {
	list, err := all(ctx, s.read, scanSaved, `SELECT `+savedColumns+` FROM saved_query ORDER BY name LIMIT `+strconv.Itoa(live.MaxSaved))
	return list, fail("list saved queries", err)
}

// SavedQuery returns a saved query; NotFound without one.
func (s *Store) SavedQuery(ctx context.Context, name string) (live.Saved, error) {
	q, err := scanSaved(s.read.QueryRowContext(ctx, `SELECT `+savedColumns+` FROM saved_query WHERE name = $1`, text(name)))
	return q, fail("read saved query", missing(err, noSaved))
}

// SaveQuery keeps a query under its name. One that is there is replaced, and
// keeps who made it. It returns what is kept; TooLarge when there are
// [live.MaxSaved].
func (s *Store) SaveQuery(ctx context.Context, q live.Saved) (kept live.Saved, err error) {
	selector, err := document(q.Selector)
	if err != nil {
		return live.Saved{}, fail("save query", err)
	}
	err = s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterSaved, 1); err != nil {
			return err
		}
		var others int
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM saved_query WHERE name <> $1`, text(q.Name)).Scan(&others); err != nil {
			return err
		}
		if others >= live.MaxSaved {
			return errs.New(errs.TooLarge, "there are %d saved queries; delete some that nobody needs", others)
		}
		kept, err = scanSaved(t.QueryRowContext(ctx, `
			INSERT INTO saved_query (`+savedColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (name) DO UPDATE SET description = excluded.description, sql = excluded.sql, selector = excluded.selector,
				updated_by = excluded.updated_by, updated_at = excluded.updated_at
			RETURNING `+savedColumns,
			text(q.Name), text(q.Description), text(q.SQL), selector, text(q.CreatedBy), micros(q.CreatedAt), text(q.UpdatedBy), micros(q.UpdatedAt)))
		return err
	})
	return kept, fail("save query", err)
}

// DeleteSavedQuery removes a saved query; NotFound without one.
func (s *Store) DeleteSavedQuery(ctx context.Context, name string) error {
	return fail("delete saved query", s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, noSaved), `DELETE FROM saved_query WHERE name = $1`, text(name))
	}))
}
