package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

var _ node.RegistryStore = (*Store)(nil)

// nodeColumns are of node n and its presence p, for scanNode. A node that is
// gone has no presence.
const nodeColumns = `n.id, n.host_identifier, n.hostname, n.platform, n.os, n.osquery_version, n.tags, n.secret,
	n.enrolments, n.enrolled_at, n.version, n.instance, n.machine, n.certificate, n.clashes, n.last_clash, n.clash_reason,
	n.clone_of, n.quarantined_at, n.quarantine_reason, n.gone_at,
	COALESCE(p.last_seen, 0), COALESCE(p.online_until, 0), COALESCE(p.seen, ''), COALESCE(p.address, '')`

// scanNode reads nodeColumns, then whatever columns come after them.
func scanNode(row scanner, more ...any) (node.Node, error) {
	var n node.Node
	var tags, endpoints string
	var enrolled, clash, quarantined, gone, seen, until int64
	dest := []any{
		&n.ID, &n.HostIdentifier, &n.Hostname, &n.Platform, &n.OS, &n.OsqueryVersion, &tags, &n.Secret,
		&n.Enrolments, &enrolled, &n.Version, &n.Instance, &n.Machine, &n.Certificate, &n.Clashes, &clash, &n.ClashReason,
		&n.CloneOf, &quarantined, &n.QuarantineReason, &gone,
		&seen, &until, &endpoints, &n.Address,
	}
	if err := row.Scan(append(dest, more...)...); err != nil {
		return node.Node{}, err
	}
	n.EnrolledAt, n.LastClash, n.QuarantinedAt, n.GoneAt = moment(enrolled), moment(clash), moment(quarantined), moment(gone)
	n.LastSeen, n.Patience = moment(seen), patienceOf(seen, until)
	var err error
	if n.Seen, err = parseSeen(endpoints); err != nil {
		return node.Node{}, err
	}
	err = json.Unmarshal([]byte(tags), &n.Tags)
	return n, err
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
	query := `SELECT ` + nodeColumns + //nolint:gosec // of the engine and one of two conditions
		`, n.key_hash, n.old_key_hash, n.old_until, ` + s.dialect.tagSources() + `, COALESCE(d.details, '')
		FROM node n LEFT JOIN presence p ON p.node_id = n.id LEFT JOIN node_detail d ON d.node_id = n.id
		WHERE ` + changed + ` ORDER BY n.version`
	rows, err := s.read.QueryContext(ctx, query, version)
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
	var until int64
	var sources, details string
	var err error
	if c.Node, err = scanNode(row, &key, &oldKey, &until, &sources, &details); err != nil {
		return c, err
	}
	c.Key, c.OldKey, c.OldUntil, c.Gone = hash(key), hash(oldKey), moment(until), !c.Node.GoneAt.IsZero()
	if c.Node.TagSources, err = parseTagSources(sources); err != nil {
		return c, err
	}
	c.Details = func() node.Details { return packDetails(details) }
	return c, nil
}

// packDetails reads what node_detail has of a node; "" is nothing. What cannot
// be read, which no server wrote, is nothing: a node without details is better
// than a registry without nodes.
func packDetails(details string) node.Details {
	var tables map[string]map[string]string
	if details == "" || json.Unmarshal([]byte(details), &tables) != nil {
		return ""
	}
	return node.PackDetails(tables)
}

const noNode = "there is no node with that id"

// SetQuarantine puts a node under quarantine since a time, or releases it with
// the zero time; then the reason is of no use. It returns the node without
// details. NotFound without one.
func (s *Store) SetQuarantine(ctx context.Context, id, reason string, at time.Time) (node.Node, error) {
	if at.IsZero() {
		reason = ""
	}
	n, err := s.changeNode(ctx, id, func(t *tx, id string) error {
		_, err := t.exec(ctx, `UPDATE node SET quarantined_at = $1, quarantine_reason = $2 WHERE id = $3`, micros(at), text(reason), id)
		return err
	})
	return n, fail("set quarantine", err)
}

// RevokeNode forgets a node's keys, the one before too. The node stays, and may
// enrol again. NotFound without one.
func (s *Store) RevokeNode(ctx context.Context, id string) error {
	_, err := s.changeNode(ctx, id, func(t *tx, id string) error {
		_, err := t.exec(ctx, `UPDATE node SET key_hash = NULL, old_key_hash = NULL, old_until = 0 WHERE id = $1`, id)
		return err
	})
	return fail("revoke a node's key", err)
}

// changeNode changes a node that is there, under a new version.
func (s *Store) changeNode(ctx context.Context, id string, change func(t *tx, id string) error) (node.Node, error) {
	id = text(id)
	var n node.Node
	err := s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterNode, 1)
		if err != nil {
			return err
		}
		changed, err := t.exec(ctx, `UPDATE node SET version = $1 WHERE id = $2 AND gone_at = 0`, version, id)
		if err != nil {
			return err
		}
		if changed == 0 {
			return errs.New(errs.NotFound, noNode)
		}
		if err := change(t, id); err != nil {
			return err
		}
		n, err = scanTagged(t.QueryRowContext(ctx, `
			SELECT `+nodeColumns+`, `+t.dialect.tagSources()+` FROM node n LEFT JOIN presence p ON p.node_id = n.id WHERE n.id = $1`, id))
		return err
	})
	return n, err
}

// DeleteNode forgets a node's keys, tags, attributes and details; its values
// become history. Its row stays, so that the registries of all servers learn
// that it is gone and old events keep a name; an agent with its host identifier
// enrols as a new node. NotFound without one.
func (s *Store) DeleteNode(ctx context.Context, id string) error {
	gone, err := s.ExpireNodes(ctx, []string{id})
	if err == nil && len(gone) == 0 {
		return errs.New(errs.NotFound, noNode)
	}
	return err
}

// expireChunk bounds the nodes that one transaction removes.
const expireChunk = 1000

// ExpireNodes deletes many nodes, as DeleteNode does one, and returns those that
// were there. Each chunk is a transaction; with an error, what it returns is
// gone all the same.
func (s *Store) ExpireNodes(ctx context.Context, ids []string) (gone []string, err error) {
	for chunk := range slices.Chunk(ids, expireChunk) {
		var removed []string
		err := s.tx(ctx, func(t *tx) (err error) {
			removed, err = t.remove(ctx, chunk, micros(s.now()))
			return err
		})
		if err != nil {
			return gone, fail("delete nodes", err)
		}
		gone = append(gone, removed...)
	}
	return gone, nil
}

func (t *tx) remove(ctx context.Context, ids []string, now int64) (gone []string, err error) {
	version, err := t.next(ctx, counterNode, 1)
	if err != nil {
		return nil, err
	}
	list, err := idList(ids)
	if err != nil {
		return nil, err
	}
	among := ` IN (SELECT t.id FROM ` + t.dialect.bulk(1, "id text") + `)`
	known, err := all(ctx, t, func(row scanner) (knownNode, error) { return scanKnown(row) }, `
		SELECT `+nodeColumns+`, `+sinceColumns+` FROM node n LEFT JOIN presence p ON p.node_id = n.id
		WHERE n.gone_at = 0 AND n.id`+among, list)
	if err != nil || len(known) == 0 {
		return nil, err
	}
	said, err := t.attributesOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	var history []past
	for _, k := range known {
		gone = append(gone, k.ID)
		values := valuesOf(k.Node)
		history = append(history, k.changes(node.Node{}, now)...)
		for _, p := range said[k.ID] {
			if !slices.Contains(values, value{p.attribute, p.value}) {
				p.until = now
				history = append(history, p)
			}
		}
	}
	if err := t.supersede(ctx, history); err != nil {
		return nil, err
	}
	if _, err := t.exec(ctx, `
		UPDATE node SET key_hash = NULL, old_key_hash = NULL, old_until = 0, tags = '[]', version = $2, gone_at = $3
		WHERE gone_at = 0 AND id`+among, list, version, now); err != nil {
		return nil, err
	}
	if err := t.endTags(ctx, `node_id`+among, list, now); err != nil {
		return nil, err
	}
	for _, table := range []string{"node_tag", "node_detail", "node_attribute", "presence"} {
		if _, err := t.exec(ctx, `DELETE FROM `+table+` WHERE node_id`+among, list); err != nil {
			return nil, err
		}
	}
	return gone, nil
}
