package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/carve"
)

var (
	_ carve.Keeper = (*Store)(nil)
	_ carve.Ledger = (*Store)(nil)
)

const noCarve = "there is no carve with that id"

func scanCarve(row scanner) (*carve.Carve, error) {
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return nil, err
	}
	c := new(carve.Carve)
	return c, json.Unmarshal(doc, c)
}

// SaveCarves implements [carve.Keeper].
func (s *Store) SaveCarves(ctx context.Context, carves ...*carve.Carve) error {
	return fail("keep carve", s.tx(ctx, func(t *tx) error { return t.saveCarves(ctx, carves) }))
}

// saveCarves removes all archives first: they move from one carve to another.
func (t *tx) saveCarves(ctx context.Context, carves []*carve.Carve) error {
	for _, c := range carves {
		if _, err := t.exec(ctx, `DELETE FROM carve_archive WHERE carve_id = $1`, text(c.ID)); err != nil {
			return err
		}
	}
	for _, c := range carves {
		doc, err := document(c)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `
			INSERT INTO carve (id, node_id, state, created_at, kept_until, settled, document) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (id) DO UPDATE SET state = excluded.state, kept_until = excluded.kept_until,
				settled = excluded.settled, document = excluded.document`,
			text(c.ID), text(c.NodeID), string(c.State), micros(c.CreatedAt), micros(c.KeptUntil), number(c.Settled), doc)
		if err != nil {
			return err
		}
		for _, a := range c.Archives {
			_, err = t.exec(ctx, `INSERT INTO carve_archive (id, carve_id, node_id, guid, state, bytes) VALUES ($1, $2, $3, $4, $5, $6)`,
				text(a.ID), text(c.ID), text(c.NodeID), text(a.GUID), string(a.State), a.Room())
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// number is how a truth is kept.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SaveListing implements [carve.Keeper].
func (s *Store) SaveListing(ctx context.Context, c *carve.Carve, archiveID string, files []carve.File) error {
	list, err := document(slices.Concat([]carve.File{}, files))
	if err != nil {
		return fail("keep the files of a carve", err)
	}
	return fail("keep the files of a carve", s.tx(ctx, func(t *tx) error {
		if err := t.saveCarves(ctx, []*carve.Carve{c}); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO carve_listing (archive_id, carve_id, files) VALUES ($1, $2, $3)
			ON CONFLICT (archive_id) DO UPDATE SET carve_id = excluded.carve_id, files = excluded.files`,
			text(archiveID), text(c.ID), list)
		return err
	}))
}

// Carve implements [carve.Keeper].
func (s *Store) Carve(ctx context.Context, id string) (*carve.Carve, error) {
	c, err := scanCarve(s.read.QueryRowContext(ctx, `SELECT document FROM carve WHERE id = $1`, text(id)))
	if err != nil {
		return nil, fail("read carve", missing(err, noCarve))
	}
	return c, nil
}

// CarveByGUID returns the carve with the archive that its node calls so;
// NotFound without one.
func (s *Store) CarveByGUID(ctx context.Context, guid string) (*carve.Carve, error) {
	if guid == "" {
		return nil, fail("find carve", missing(sql.ErrNoRows, noCarve))
	}
	c, err := scanCarve(s.read.QueryRowContext(ctx, `
		SELECT c.document FROM carve_archive a JOIN carve c ON c.id = a.carve_id
		WHERE a.guid = $1 ORDER BY c.created_at DESC, c.id LIMIT 1`, text(guid)))
	if err != nil {
		return nil, fail("find carve", missing(err, noCarve))
	}
	return c, nil
}

// CarveFiles returns the files of an archive, none if it has not been listed.
func (s *Store) CarveFiles(ctx context.Context, archiveID string) ([]carve.File, error) {
	var list []byte
	err := s.read.QueryRowContext(ctx, `SELECT files FROM carve_listing WHERE archive_id = $1`, text(archiveID)).Scan(&list)
	if errors.Is(err, sql.ErrNoRows) {
		return []carve.File{}, nil
	}
	files := []carve.File{}
	if err == nil {
		err = json.Unmarshal(list, &files)
	}
	return files, fail("read the files of a carve", err)
}

// DeleteCarve implements [carve.Keeper].
func (s *Store) DeleteCarve(ctx context.Context, id string) error {
	return fail("remove carve", s.tx(ctx, func(t *tx) error {
		for _, table := range []string{`carve_listing WHERE carve_id`, `carve_archive WHERE carve_id`, `carve WHERE id`} {
			if _, err := t.exec(ctx, `DELETE FROM `+table+` = $1`, text(id)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// UnsettledCarves implements [carve.Ledger].
func (s *Store) UnsettledCarves(ctx context.Context) ([]*carve.Carve, error) {
	list, err := all(ctx, s.read, scanCarve, `SELECT document FROM carve WHERE settled = 0 ORDER BY created_at, id`)
	return list, fail("read the carves that are awaited", err)
}

// CarvesDue implements [carve.Ledger].
func (s *Store) CarvesDue(ctx context.Context, now time.Time, limit int) ([]*carve.Carve, error) {
	list, err := all(ctx, s.read, scanCarve, `
		SELECT document FROM carve WHERE kept_until > 0 AND kept_until <= $1 AND state <> $2
		ORDER BY kept_until, id LIMIT $3`, micros(now), string(carve.Expired), limit)
	return list, fail("read the carves whose time is over", err)
}

// CarveUsage implements [carve.Ledger].
func (s *Store) CarveUsage(ctx context.Context) (map[string]int64, error) {
	type use struct {
		node  string
		bytes int64
	}
	list, err := all(ctx, s.read, func(row scanner) (u use, err error) {
		err = row.Scan(&u.node, &u.bytes)
		return u, err
	}, `SELECT node_id, CAST(sum(bytes) AS BIGINT) FROM carve_archive WHERE bytes > 0 GROUP BY node_id`)
	if err != nil {
		return nil, fail("add up carves", err)
	}
	used := make(map[string]int64, len(list))
	for _, u := range list {
		used[u.node] = u.bytes
	}
	return used, nil
}

// KnowsGUID implements [carve.Ledger].
func (s *Store) KnowsGUID(ctx context.Context, nodeID, guid string) (bool, error) {
	return s.knows(ctx, `SELECT 1 FROM carve_archive WHERE guid = $1 AND node_id = $2 LIMIT 1`, text(guid), text(nodeID))
}

// KnowsArchive implements [carve.Ledger].
func (s *Store) KnowsArchive(ctx context.Context, id string) (bool, error) {
	return s.knows(ctx, `SELECT 1 FROM carve_archive WHERE id = $1 AND bytes > 0`, text(id))
}

func (s *Store) knows(ctx context.Context, query string, args ...any) (bool, error) {
	var one int
	err := s.read.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, fail("look for an archive", err)
}

// Carves returns a page of carves, the newest first, and the cursor of the next
// page, "" on the last.
func (s *Store) Carves(ctx context.Context, f carve.Filter) (carves []*carve.Carve, next string, err error) {
	w := &where{}
	w.add(`1 = 1`)
	if f.NodeID != "" {
		w.add(`node_id = ?`, text(f.NodeID))
	}
	if err := w.among(s.dialect, `node_id`, f.Nodes); err != nil {
		return nil, "", fail("list carves", err)
	}
	if f.State != "" {
		w.add(`state = ?`, text(string(f.State)))
	}
	if f.Cursor != "" {
		var c liveCursor
		if err := openCursor(f.Cursor, &c); err != nil {
			return nil, "", err
		}
		w.add(`(created_at, id) < (?, ?)`, c.Created, text(c.ID))
	}
	limit := limited(f.Limit)
	carves, err = all(ctx, s.read, scanCarve, `
		SELECT document FROM carve WHERE `+w.String()+`
		ORDER BY created_at DESC, id DESC LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil {
		return nil, "", fail("list carves", err)
	}
	if len(carves) > limit {
		carves = carves[:limit]
		last := carves[limit-1]
		next, err = sealCursor(liveCursor{Created: micros(last.CreatedAt), ID: last.ID})
	}
	return carves, next, fail("list carves", err)
}

// CountCarves returns how many carves are in each state.
func (s *Store) CountCarves(ctx context.Context) (map[carve.State]int, error) {
	counts, err := all(ctx, s.read, scanCount, `SELECT state, count(*) FROM carve GROUP BY state`)
	if err != nil {
		return nil, fail("count carves", err)
	}
	byState := map[carve.State]int{}
	for _, c := range counts {
		byState[carve.State(c.Value)] = c.Count
	}
	return byState, nil
}
