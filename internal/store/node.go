package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

var (
	_ node.EnrolStore    = (*Store)(nil)
	_ node.RegistryStore = (*Store)(nil)
)

// nodeColumns are of node n and its presence p, for scanNode. A node that is
// gone has no presence.
const nodeColumns = `n.id, n.host_identifier, n.hostname, n.platform, n.os, n.osquery_version, n.tags, n.secret,
	n.enrolments, n.enrolled_at, n.version, COALESCE(p.last_seen, 0), COALESCE(p.address, '')`

// scanNode reads nodeColumns, then whatever columns come after them.
func scanNode(row scanner, more ...any) (node.Node, error) {
	var n node.Node
	var tags string
	var enrolled, seen int64
	dest := []any{
		&n.ID, &n.HostIdentifier, &n.Hostname, &n.Platform, &n.OS, &n.OsqueryVersion, &tags, &n.Secret,
		&n.Enrolments, &enrolled, &n.Version, &seen, &n.Address,
	}
	if err := row.Scan(append(dest, more...)...); err != nil {
		return node.Node{}, err
	}
	n.EnrolledAt, n.LastSeen = moment(enrolled), moment(seen)
	err := json.Unmarshal([]byte(tags), &n.Tags)
	return n, err
}

// Enrol implements [node.EnrolStore]. Who shows a secret that is not known
// costs one read and never waits for a writer.
func (s *Store) Enrol(ctx context.Context, e node.Enrolment, admit func(*node.Secret) error) (node.Node, error) {
	var known int
	err := s.read.QueryRowContext(ctx, `SELECT 1 FROM secret WHERE hash = $1`, e.SecretHash[:]).Scan(&known)
	if errors.Is(err, sql.ErrNoRows) {
		if err := admit(nil); err != nil {
			return node.Node{}, err
		}
		return node.Node{}, errs.New(errs.Unauthenticated, "enroll secret is not known")
	}
	if err != nil {
		return node.Node{}, fail("enrol node", err)
	}
	var n node.Node
	err = s.tx(ctx, func(t *tx) error {
		secret, err := t.use(ctx, e.SecretHash, e.Now)
		if err != nil {
			return err
		}
		if err := admit(secret); err != nil {
			return err
		}
		if secret == nil {
			return errs.New(errs.Unauthenticated, "enroll secret is not known")
		}
		n, err = t.enrol(ctx, e, *secret)
		return err
	})
	if err != nil {
		return node.Node{}, fail("enrol node", err)
	}
	return n, nil
}

// enrol keeps the node of an admitted enrolment.
func (t *tx) enrol(ctx context.Context, e node.Enrolment, secret node.Secret) (node.Node, error) {
	n := e.Node
	for _, field := range []*string{&n.ID, &n.HostIdentifier, &n.Hostname, &n.Platform, &n.OS, &n.OsqueryVersion, &n.Address} {
		*field = text(*field)
	}
	n.Secret = secret.Name
	version, err := t.next(ctx, counterNode, 1)
	if err != nil {
		return n, err
	}
	had, err := all(ctx, t, scanTags, `SELECT tags FROM node WHERE host_identifier = $1 AND gone_at = 0`, n.HostIdentifier)
	if err != nil {
		return n, err
	}
	n.Tags = node.MergeTags(slices.Concat(had...), secret.Tags)
	tags, err := tagList(n.Tags)
	if err != nil {
		return n, err
	}
	n.Version = version
	var enrolled int64
	err = t.QueryRowContext(ctx, `
		INSERT INTO node (id, host_identifier, hostname, platform, os, osquery_version, tags, secret,
			enrolments, enrolled_at, version, key_hash, old_key_hash, old_until, search, gone_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11, NULL, 0, $12, 0)
		ON CONFLICT (host_identifier) WHERE gone_at = 0 DO UPDATE SET
			hostname = excluded.hostname, platform = excluded.platform, os = excluded.os,
			osquery_version = excluded.osquery_version, tags = excluded.tags, secret = excluded.secret,
			enrolments = node.enrolments + 1, version = excluded.version,
			old_key_hash = node.key_hash, old_until = $13, key_hash = excluded.key_hash, 
			search = replace(excluded.search, excluded.id, node.id)
		RETURNING id, enrolments, enrolled_at`,
		n.ID, n.HostIdentifier, n.Hostname, n.Platform, n.OS, n.OsqueryVersion, tags, n.Secret,
		micros(n.EnrolledAt), version, e.KeyHash[:], searchText(n), micros(e.Now.Add(node.KeyGrace)),
	).Scan(&n.ID, &n.Enrolments, &enrolled)
	if err != nil {
		return n, err
	}
	n.EnrolledAt = moment(enrolled)
	if err := t.setDetails(ctx, n); err != nil {
		return n, err
	}
	if len(had) > 0 || len(n.Tags) > 0 {
		return n, t.setTags(ctx, n.ID, n.Tags)
	}
	return n, nil
}

// searchText is what a node is found by, besides its address.
func searchText(n node.Node) string {
	return strings.ToLower(n.ID + "\n" + n.Hostname + "\n" + n.HostIdentifier)
}

func scanTags(row scanner) ([]string, error) {
	var list string
	if err := row.Scan(&list); err != nil {
		return nil, err
	}
	var tags []string
	err := json.Unmarshal([]byte(list), &tags)
	return tags, err
}

// setDetails keeps what a node said at enrolment, and that it was there.
func (t *tx) setDetails(ctx context.Context, n node.Node) error {
	details, err := document(n.Details)
	if err != nil {
		return err
	}
	if _, err := t.exec(ctx, `
		INSERT INTO node_detail (node_id, details) VALUES ($1, $2)
		ON CONFLICT (node_id) DO UPDATE SET details = excluded.details`, n.ID, details); err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO presence (node_id, last_seen, address) VALUES ($1, $2, $3)
		ON CONFLICT (node_id) DO UPDATE SET last_seen = excluded.last_seen,
			address = CASE excluded.address WHEN '' THEN presence.address ELSE excluded.address END
		WHERE excluded.last_seen >= presence.last_seen`, n.ID, micros(n.LastSeen), n.Address)
	return err
}

// setTags makes the rows of node_tag the same as the node's tags.
func (t *tx) setTags(ctx context.Context, id string, tags []string) error {
	if _, err := t.exec(ctx, `DELETE FROM node_tag WHERE node_id = $1`, id); err != nil {
		return err
	}
	if len(tags) == 0 {
		return nil
	}
	rows := make([][]any, 0, len(tags))
	for _, tag := range tags {
		rows = append(rows, []any{text(tag)})
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO node_tag (tag, node_id) SELECT t.tag, CAST($1 AS TEXT) FROM `+t.dialect.bulk(2, "tag text"), id, list)
	return err
}

// NodesSince implements [node.RegistryStore]. Version 0 leaves out the nodes
// that are gone. When nothing changed it costs one look at one row.
func (s *Store) NodesSince(ctx context.Context, version int64, yield func(node.Change)) (int64, error) {
	// The counter is read first: all up to it is committed then, see next. What
	// is committed meanwhile is given now and once more the next time.
	var newest int64
	if err := s.read.QueryRowContext(ctx, `SELECT value FROM counter WHERE name = $1`, counterNode).Scan(&newest); err != nil {
		return version, fail("look for changed nodes", err)
	}
	if newest == version {
		return version, nil
	}
	changed := `n.version > $1`
	if version == 0 {
		changed += ` AND n.gone_at = 0`
	}
	rows, err := s.read.QueryContext(ctx, `
		SELECT `+nodeColumns+`, n.key_hash, n.old_key_hash, n.old_until, n.gone_at
		FROM node n LEFT JOIN presence p ON p.node_id = n.id WHERE `+changed+` ORDER BY n.version`, version)
	if err != nil {
		return version, fail("read changed nodes", err)
	}
	defer func() { _ = rows.Close() }() // Err tells
	for rows.Next() {
		c, err := scanChange(rows)
		if err != nil {
			return version, fail("read changed nodes", err)
		}
		yield(c)
	}
	if err := rows.Err(); err != nil {
		return version, fail("read changed nodes", err)
	}
	return newest, nil
}

func scanChange(row scanner) (node.Change, error) {
	var c node.Change
	var key, oldKey []byte
	var until, gone int64
	var err error
	if c.Node, err = scanNode(row, &key, &oldKey, &until, &gone); err != nil {
		return c, err
	}
	c.Key, c.OldKey, c.OldUntil, c.Gone = hash(key), hash(oldKey), moment(until), gone != 0
	return c, nil
}

// touchChunk bounds the rows of one statement that keeps touches.
const touchChunk = 5000

// TouchNodes implements [node.RegistryStore]. It moves no time backwards and
// changes no version. Each chunk is a transaction, so that enrolments need not
// wait for all.
func (s *Store) TouchNodes(ctx context.Context, touches []node.Touch) error {
	// In the order of the key, so that two servers take rows in the same order,
	// and each node once, because which of two rows UPDATE takes is not defined.
	touches = slices.Clone(touches)
	slices.SortFunc(touches, func(a, b node.Touch) int {
		if c := strings.Compare(a.ID, b.ID); c != 0 {
			return c
		}
		return b.Seen.Compare(a.Seen)
	})
	touches = slices.CompactFunc(touches, func(a, b node.Touch) bool { return a.ID == b.ID })
	for chunk := range slices.Chunk(touches, touchChunk) {
		rows := make([][]any, 0, len(chunk))
		for _, t := range chunk {
			rows = append(rows, []any{text(t.ID), micros(t.Seen), text(t.Address)})
		}
		list, err := document(rows)
		if err != nil {
			return fail("keep presence", err)
		}
		err = s.tx(ctx, func(t *tx) error {
			_, err := t.exec(ctx, `
				UPDATE presence SET last_seen = t.seen,
					address = CASE t.address WHEN '' THEN presence.address ELSE t.address END
				FROM `+s.dialect.bulk(1, "id text", "seen bigint", "address text")+`
				WHERE presence.node_id = t.id AND t.seen >= presence.last_seen`, list)
			return err
		})
		if err != nil {
			return fail("keep presence", err)
		}
	}
	return nil
}

const noNode = "there is no node with that id"

// SetNodeTags replaces a node's tags, which must be clean, and returns the node
// without details. NotFound without one.
func (s *Store) SetNodeTags(ctx context.Context, id string, tags []string) (node.Node, error) {
	list, err := tagList(tags)
	if err != nil {
		return node.Node{}, fail("set tags", err)
	}
	var n node.Node
	err = s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterNode, 1)
		if err != nil {
			return err
		}
		changed, err := t.exec(ctx, `UPDATE node SET tags = $1, version = $2 WHERE id = $3 AND gone_at = 0`, list, version, text(id))
		if err != nil {
			return err
		}
		if changed == 0 {
			return errs.New(errs.NotFound, noNode)
		}
		if err := t.setTags(ctx, text(id), tags); err != nil {
			return err
		}
		n, err = scanNode(t.QueryRowContext(ctx, `
			SELECT `+nodeColumns+` FROM node n JOIN presence p ON p.node_id = n.id WHERE n.id = $1`, text(id)))
		return err
	})
	return n, fail("set tags", err)
}

// DeleteNode forgets a node's keys, tags and details. Its row stays, so that
// the registries of all servers learn that it is gone and old events keep a
// name; an agent with its host identifier enrols as a new node. NotFound
// without one.
func (s *Store) DeleteNode(ctx context.Context, id string) error {
	id = text(id)
	err := s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterNode, 1)
		if err != nil {
			return err
		}
		changed, err := t.exec(ctx, `
			UPDATE node SET key_hash = NULL, old_key_hash = NULL, old_until = 0, tags = '[]', version = $1, gone_at = $2
			WHERE id = $3 AND gone_at = 0`, version, micros(s.now()), id)
		if err != nil {
			return err
		}
		if changed == 0 {
			return errs.New(errs.NotFound, noNode)
		}
		for _, query := range []string{
			`DELETE FROM node_tag WHERE node_id = $1`,
			`DELETE FROM node_detail WHERE node_id = $1`,
			`DELETE FROM presence WHERE node_id = $1`,
		} {
			if _, err := t.exec(ctx, query, id); err != nil {
				return err
			}
		}
		return nil
	})
	return fail("delete node", err)
}
