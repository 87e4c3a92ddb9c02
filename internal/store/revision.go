package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

const noRevision = "there is no revision with that number"

const revisionColumns = `number, hash, parent, change_id, author, message, created_at, restores`

// scanRevision reads revisionColumns, then whatever columns come after them.
func scanRevision(row scanner, more ...any) (r change.Revision, err error) {
	var created int64
	dest := []any{&r.Number, &r.Hash, &r.Parent, &r.ChangeID, &r.Author, &r.Message, &created, &r.Restores}
	err = row.Scan(append(dest, more...)...)
	r.CreatedAt = moment(created)
	return r, err
}

// scanWhole reads a revision with its objects.
func scanWhole(row scanner) (change.Revision, error) {
	var list []byte
	r, err := scanRevision(row, &list)
	if err != nil {
		return r, err
	}
	var refs [][3]string
	if err := json.Unmarshal(list, &refs); err != nil {
		return r, fmt.Errorf("objects of revision %d: %w", r.Number, err)
	}
	for _, ref := range refs {
		r.Objects = append(r.Objects, change.Ref{Key: resource.Key{Kind: ref[0], Name: ref[1]}, Hash: ref[2]})
	}
	return r, nil
}

// Head implements [change.Revisions].
func (s *Store) Head(ctx context.Context) (change.Revision, error) {
	r, err := head(ctx, s.read)
	if err != nil {
		return change.Revision{}, fail("read the newest revision", missing(err, "there is no revision yet"))
	}
	return r, nil
}

func head(ctx context.Context, q querier) (change.Revision, error) {
	return scanRevision(q.QueryRowContext(ctx, `SELECT `+revisionColumns+` FROM revision ORDER BY number DESC LIMIT 1`))
}

// Revision implements [change.Revisions].
func (s *Store) Revision(ctx context.Context, number int64) (change.Revision, error) {
	r, err := revision(ctx, s.read, number)
	if err != nil {
		return change.Revision{}, fail("read revision", missing(err, noRevision))
	}
	return r, nil
}

func revision(ctx context.Context, q querier, number int64) (change.Revision, error) {
	return scanWhole(q.QueryRowContext(ctx, `SELECT `+revisionColumns+`, objects FROM revision WHERE number = $1`, number))
}

// ListRevisions implements [change.Revisions].
func (s *Store) ListRevisions(ctx context.Context, before int64, limit int) ([]change.Revision, error) {
	list, err := all(ctx, s.read, func(row scanner) (change.Revision, error) { return scanRevision(row) }, `
		SELECT `+revisionColumns+` FROM revision WHERE number < $1
		ORDER BY number DESC LIMIT `+strconv.Itoa(limited(limit)), cmp.Or(before, math.MaxInt64))
	return list, fail("list revisions", err)
}

// object is the content of a resource.
type object struct{ hash, body string }

func scanObject(row scanner) (o object, err error) {
	err = row.Scan(&o.hash, &o.body)
	return o, err
}

// Objects implements [change.Revisions]. A hash that nothing has is left out.
func (s *Store) Objects(ctx context.Context, hashes []string) (map[string][]byte, error) {
	list, err := idList(hashes)
	if err != nil {
		return nil, fail("read objects", err)
	}
	objects, err := all(ctx, s.read, scanObject,
		`SELECT o.hash, o.body FROM `+s.dialect.bulk(1, "hash text")+` CROSS JOIN object o WHERE o.hash = t.hash`, list)
	if err != nil {
		return nil, fail("read objects", err)
	}
	bodies := make(map[string][]byte, len(objects))
	for _, o := range objects {
		bodies[o.hash] = []byte(o.body)
	}
	return bodies, nil
}

// Commit implements [change.Revisions]. After it, the rollouts have the versions
// that they are kept with. Objects that the revision does not name are left out.
func (s *Store) Commit(ctx context.Context, c change.Commit) error {
	err := s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterServing, 1)
		if err != nil {
			return err
		}
		if c.Version != 0 && version != c.Version+1 {
			return errs.New(errs.Conflict, "what is to be served, or a freeze, changed just now; try again")
		}
		if err := t.checkParent(ctx, c.Revision); err != nil {
			return err
		}
		if err := t.addObjects(ctx, c.Revision.Objects, c.Objects); err != nil {
			return err
		}
		if err := t.addRevision(ctx, c.Revision); err != nil {
			return err
		}
		if c.Change != nil {
			if err := t.saveChange(ctx, *c.Change, c.Was); err != nil {
				return err
			}
		}
		return t.turnRollouts(ctx, c.Closes, c.Opens)
	})
	if err != nil {
		return fail("commit revision", err)
	}
	if c.Closes != nil {
		c.Closes.Version++
	}
	if c.Opens != nil {
		c.Opens.Version = firstVersion
	}
	return nil
}

func (t *tx) checkParent(ctx context.Context, r change.Revision) error {
	newest, err := head(ctx, t)
	if err != nil && !errors.Is(err, sql.ErrNoRows) { // without one it is revision 0
		return err
	}
	if newest.Number != r.Parent {
		return errs.New(errs.Conflict, "revision %d is the newest by now, and this was made upon %d; look at what changed, then try again", newest.Number, r.Parent)
	}
	if r.Number <= r.Parent {
		return fmt.Errorf("revision %d does not follow %d", r.Number, r.Parent)
	}
	return nil
}

// objectChunk bounds the objects of one statement, of which each may be half a
// megabyte.
const objectChunk = 100

// addObjects keeps the objects that refs name and that are not kept yet. It is
// an error if there is no content for one, or its content has another hash.
func (t *tx) addObjects(ctx context.Context, refs []change.Ref, bodies map[string][]byte) error {
	fresh, err := t.freshObjects(ctx, refs)
	if err != nil {
		return err
	}
	rows := make([][]any, 0, len(fresh))
	for _, r := range fresh {
		body := string(bodies[r.Hash])
		if resource.Hash([]byte(body)) != r.Hash || text(body) != body {
			return fmt.Errorf("object %s: there is no content with the hash %s", r.Key, r.Hash)
		}
		rows = append(rows, []any{r.Hash, r.Kind, r.Name, body})
	}
	for chunk := range slices.Chunk(rows, objectChunk) {
		list, err := document(chunk)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO object (hash, kind, name, body) SELECT t.hash, t.kind, t.name, t.body FROM `+
			t.dialect.bulk(1, "hash text", "kind text", "name text", "body text"), list); err != nil {
			return err
		}
	}
	return nil
}

// freshObjects returns the refs whose content is not kept, each content once.
func (t *tx) freshObjects(ctx context.Context, refs []change.Ref) ([]change.Ref, error) {
	hashes := make([]string, 0, len(refs))
	for _, r := range refs {
		hashes = append(hashes, r.Hash)
	}
	list, err := idList(hashes)
	if err != nil {
		return nil, err
	}
	found, err := all(ctx, t, scanText, `SELECT o.hash FROM `+t.dialect.bulk(1, "hash text")+` CROSS JOIN object o WHERE o.hash = t.hash`, list)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(refs))
	for _, h := range found {
		known[h] = true
	}
	var fresh []change.Ref
	for _, r := range refs {
		if !known[r.Hash] {
			known[r.Hash] = true
			fresh = append(fresh, r)
		}
	}
	return fresh, nil
}

func (t *tx) addRevision(ctx context.Context, r change.Revision) error {
	refs := make([][3]string, 0, len(r.Objects))
	for _, o := range r.Objects {
		refs = append(refs, [3]string{o.Kind, o.Name, o.Hash})
	}
	list, err := document(refs)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO revision (`+revisionColumns+`, objects) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		r.Number, text(r.Hash), r.Parent, text(r.ChangeID), text(r.Author), text(r.Message), micros(r.CreatedAt), r.Restores, list)
	return err
}

// Serving implements [change.Revisions]; NotFound if there is no revision.
func (s *Store) Serving(ctx context.Context) (v change.Serving, err error) {
	err = s.view(ctx, func(q querier) error {
		newest, err := head(ctx, q)
		if err != nil {
			return missing(err, "there is no revision yet")
		}
		if v.Head, err = revision(ctx, q, newest.Number); err != nil {
			return err
		}
		if v.Version, err = servingVersion(ctx, q); err != nil {
			return err
		}
		if v.Rollout, err = openRollout(ctx, q); err != nil {
			return err
		}
		if v.Safe, err = setting(ctx, q, change.SafeSetting); err != nil {
			return err
		}
		v.Freeze, err = setting(ctx, q, change.FreezeSetting)
		return err
	})
	if err != nil {
		return change.Serving{}, fail("read what is to be served", err)
	}
	return v, nil
}

// view runs f on the state of one moment.
func (s *Store) view(ctx context.Context, f func(querier) error) error {
	// SQLite's readers see one moment anyhow.
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = t.Rollback() }() // there is nothing to commit
	return f(t)
}
