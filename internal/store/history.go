package store

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

const (
	// flapping is how soon a value must come back to be one sighting with the one
	// before: two addresses that take turns are two rows, not thousands.
	flapping = time.Hour
	// historyMax bounds the rows of one attribute of one node.
	historyMax = 200
	// historyChunk bounds the rows of one statement.
	historyChunk = 5000
)

// sinces says since when a node's values hold.
type sinces struct {
	enrolled int64 // what has no time of its own holds since then
	address  int64
	other    map[string]int64
}

// sinceColumns are of node n and its presence p, for sinces.
const sinceColumns = `n.since, COALESCE(p.address_since, 0)`

func (s *sinces) parse(since string) error { return json.Unmarshal([]byte(since), &s.other) }

func (s *sinces) document() (string, error) { return document(s.other) }

func (s *sinces) of(attribute string) int64 {
	if attribute == node.AttributeAddress {
		return cmp.Or(s.address, s.enrolled)
	}
	return cmp.Or(s.other[attribute], s.enrolled)
}

// value is one of a node's attributes.
type value struct{ attribute, value string }

// valuesOf returns what a node has a history of, but for its attributes.
func valuesOf(n node.Node) []value {
	return []value{
		{node.AttributeAddress, n.Address},
		{node.AttributeHostname, n.Hostname},
		{node.AttributeHostIdentifier, n.HostIdentifier},
		{node.AttributePlatform, n.Platform},
		{node.AttributeOS, n.OS},
		{node.AttributeOsqueryVersion, n.OsqueryVersion},
		{node.AttributeInstance, n.Instance},
		{node.AttributeCertificate, n.Certificate},
	}
}

// past is a value that holds no more.
type past struct {
	node               string
	attribute          string
	value              string
	since, last, until int64
}

// changes returns the values of k that n has others of, and notes since when
// those hold.
func (k *knownNode) changes(n node.Node, now int64) []past {
	var list []past
	after := valuesOf(n)
	for i, v := range valuesOf(k.Node) {
		if v == after[i] {
			continue
		}
		if v.value != "" {
			list = append(list, past{k.ID, v.attribute, v.value, k.of(v.attribute), micros(k.LastSeen), now})
		}
		if v.attribute == node.AttributeAddress {
			k.address = now
		} else {
			k.other[v.attribute] = now
		}
	}
	return list
}

// supersede makes history of values.
func (t *tx) supersede(ctx context.Context, list []past) error {
	for chunk := range slices.Chunk(list, historyChunk) {
		rows := make([][]any, 0, len(chunk))
		for _, p := range chunk {
			since := min(p.since, p.until) // the clock may have been set back
			rows = append(rows, []any{p.node, p.attribute, p.value, since, max(p.last, since), p.until, since - flapping.Microseconds()})
		}
		list, err := document(rows)
		if err != nil {
			return err
		}
		from := t.dialect.bulk(1, "node text", "attribute text", "value text", "since bigint", "last_at bigint", "until_at bigint", "back bigint")
		const same = `node_history.node_id = t.node AND node_history.attribute = t.attribute AND node_history.value = t.value AND node_history.superseded_at >= t.back`
		if _, err := t.exec(ctx, `
			UPDATE node_history SET superseded_at = t.until_at, last_seen = t.last_at
			FROM `+from+` WHERE `+same+` AND t.until_at > node_history.superseded_at`, list); err != nil {
			return err
		}
		added, err := t.exec(ctx, `
			INSERT INTO node_history (node_id, attribute, value, first_seen, last_seen, superseded_at)
			SELECT t.node, t.attribute, t.value, t.since, t.last_at, t.until_at
			FROM `+from+` WHERE NOT EXISTS (SELECT 1 FROM node_history WHERE `+same+`)
			ON CONFLICT (node_id, attribute, value, first_seen) DO NOTHING`, list)
		if err != nil {
			return err
		}
		if added > 0 {
			if err := t.capHistory(ctx, from, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// capHistory drops the oldest values of attributes that have too many.
func (t *tx) capHistory(ctx context.Context, from, list string) error {
	full, err := all(ctx, t, func(row scanner) (p past, err error) {
		err = row.Scan(&p.node, &p.attribute)
		return p, err
	}, `
		SELECT h.node_id, h.attribute FROM (SELECT DISTINCT t.node, t.attribute FROM `+from+`) c
		JOIN node_history h ON h.node_id = c.node AND h.attribute = c.attribute
		GROUP BY h.node_id, h.attribute HAVING count(*) > `+strconv.Itoa(historyMax), list)
	if err != nil {
		return err
	}
	for _, p := range full {
		if _, err := t.exec(ctx, `
			DELETE FROM node_history WHERE node_id = $1 AND attribute = $2 AND superseded_at <= (
				SELECT superseded_at FROM node_history WHERE node_id = $1 AND attribute = $2
				ORDER BY superseded_at DESC LIMIT 1 OFFSET `+strconv.Itoa(historyMax)+`)`, p.node, p.attribute); err != nil {
			return err
		}
	}
	return nil
}

// PruneHistory drops values that were superseded, and tags that ended, before a
// time. It is several transactions, so that others need not wait for all.
func (s *Store) PruneHistory(ctx context.Context, before time.Time) error {
	for _, statement := range []string{
		`DELETE FROM node_history WHERE (node_id, attribute, value, first_seen) IN (
			SELECT node_id, attribute, value, first_seen FROM node_history
			WHERE superseded_at < $1 LIMIT ` + strconv.Itoa(historyChunk) + `)`,
		`DELETE FROM node_tag_source WHERE (node_id, until, tag, source, since) IN (
			SELECT node_id, until, tag, source, since FROM node_tag_source
			WHERE until <> 0 AND until < $1 LIMIT ` + strconv.Itoa(historyChunk) + `)`,
	} {
		if err := s.prune(ctx, statement, before); err != nil {
			return fail("prune the nodes' history", err)
		}
	}
	return nil
}

// prune runs a statement that drops up to historyChunk rows until there are no
// more.
func (s *Store) prune(ctx context.Context, statement string, before time.Time) error {
	for {
		var dropped int64
		err := s.tx(ctx, func(t *tx) (err error) {
			dropped, err = t.exec(ctx, statement, micros(before))
			return err
		})
		if err != nil || dropped < historyChunk {
			return err
		}
	}
}

// historyColumns are of node_history h and its node n.
const historyColumns = `h.node_id, n.host_identifier, n.hostname, h.attribute, h.value, h.first_seen, h.last_seen, h.superseded_at`

func scanSighting(row scanner) (s node.Sighting, err error) {
	var first, last, until int64
	err = row.Scan(&s.NodeID, &s.HostIdentifier, &s.Hostname, &s.Attribute, &s.Value, &first, &last, &until)
	s.First, s.Last, s.Until = moment(first), moment(last), moment(until)
	return s, err
}

// NodeHistory returns the values that a node has and had, those that it has
// first, then the newest first. NotFound if there never was such a node.
func (s *Store) NodeHistory(ctx context.Context, id string) ([]node.Sighting, error) {
	id = text(id)
	k, err := scanKnown(s.read.QueryRowContext(ctx, `
		SELECT `+nodeColumns+`, `+sinceColumns+` FROM node n LEFT JOIN presence p ON p.node_id = n.id WHERE n.id = $1`, id))
	if err != nil {
		return nil, fail("read a node's history", missing(err, noNode))
	}
	had, err := all(ctx, s.read, scanSighting, `
		SELECT `+historyColumns+` FROM node_history h JOIN node n ON n.id = h.node_id
		WHERE h.node_id = $1 ORDER BY h.superseded_at DESC, h.attribute, h.value`, id)
	if err != nil {
		return nil, fail("read a node's history", err)
	}
	if !k.GoneAt.IsZero() {
		return had, nil
	}
	said, err := all(ctx, s.read, scanAttribute, `SELECT node_id, attribute, value, since FROM node_attribute WHERE node_id = $1 ORDER BY attribute`, id)
	if err != nil {
		return nil, fail("read a node's history", err)
	}
	values := valuesOf(k.Node)
	var has []node.Sighting
	for _, v := range values {
		if v.value != "" {
			has = append(has, k.sighting(v, k.of(v.attribute)))
		}
	}
	for _, a := range said {
		if v := (value{a.attribute, a.value}); !slices.Contains(values, v) {
			has = append(has, k.sighting(v, a.since))
		}
	}
	for i := range has {
		had = join(&has[i], had)
	}
	slices.SortStableFunc(has, func(a, b node.Sighting) int { return b.First.Compare(a.First) })
	return append(has, had...), nil
}

// sighting is a value that holds.
func (k *knownNode) sighting(v value, since int64) node.Sighting {
	return node.Sighting{
		NodeID: k.ID, HostIdentifier: k.HostIdentifier, Hostname: k.Hostname, Attribute: v.attribute, Value: v.value,
		First: moment(since), Last: k.LastSeen,
	}
}

// join makes one of a value that holds and its last sighting before, if it came
// back soon, as supersede would.
func join(has *node.Sighting, had []node.Sighting) []node.Sighting {
	i := slices.IndexFunc(had, func(h node.Sighting) bool {
		return h.Attribute == has.Attribute && h.Value == has.Value && has.First.Sub(h.Until) <= flapping
	})
	if i < 0 {
		return had
	}
	has.First = had[i].First
	return slices.Delete(had, i, i+1)
}

func scanAttribute(row scanner) (p past, err error) {
	err = row.Scan(&p.node, &p.attribute, &p.value, &p.since)
	return p, err
}

// Who returns the nodes that had a value at a time, those that have it still
// first, then those that had it last; nodes that are gone too. Without a time
// it is now. An address is found however it is written.
func (s *Store) Who(ctx context.Context, w node.Who) ([]node.Sighting, error) {
	w.Value = text(w.Value)
	if w.Attribute == node.AttributeAddress {
		a, err := netip.ParseAddr(w.Value)
		if err != nil {
			return nil, errs.Field("value", "%q is no address; write it as 192.0.2.1 or 2001:db8::1", w.Value)
		}
		w.Value = a.Unmap().String()
	}
	if w.At.IsZero() {
		w.At = s.now()
	}
	limit := limited(w.Limit)
	has, err := s.whoHas(ctx, w, limit)
	if err != nil {
		return nil, fail("look for who had a value", err)
	}
	had, err := all(ctx, s.read, scanSighting, `
		SELECT `+historyColumns+` FROM node_history h JOIN node n ON n.id = h.node_id
		WHERE h.attribute = $1 AND h.value = $2 AND h.superseded_at > $3 AND h.first_seen <= $3
		ORDER BY h.superseded_at DESC, h.node_id LIMIT `+strconv.Itoa(limit), text(w.Attribute), w.Value, micros(w.At))
	if err != nil {
		return nil, fail("look for who had a value", err)
	}
	list := append(has, had...)
	return list[:min(len(list), limit)], nil
}

// whoHas returns the nodes that have the value since the time or before.
func (s *Store) whoHas(ctx context.Context, w node.Who, limit int) ([]node.Sighting, error) {
	list := []node.Sighting{}
	if condition, ok := attributeCondition(w.Attribute); ok {
		// Since when is in no index, so what began later is left out here.
		query := `SELECT ` + nodeColumns + `, ` + sinceColumns + //nolint:gosec // the condition is one of those below
			` FROM node n LEFT JOIN presence p ON p.node_id = n.id WHERE n.gone_at = 0 AND ` + condition + ` ORDER BY n.id`
		rows, err := s.read.QueryContext(ctx, query, w.Value)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }() // Err tells
		for len(list) < limit && rows.Next() {
			k, err := scanKnown(rows)
			if err != nil {
				return nil, err
			}
			if since := k.of(w.Attribute); since <= micros(w.At) {
				list = append(list, k.sighting(value{w.Attribute, w.Value}, since))
			}
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	said, err := all(ctx, s.read, scanSighting, `
		SELECT n.id, n.host_identifier, n.hostname, a.attribute, a.value, a.since, p.last_seen, 0
		FROM node_attribute a JOIN node n ON n.id = a.node_id JOIN presence p ON p.node_id = n.id
		WHERE a.attribute = $1 AND a.value = $2 AND a.since <= $3 ORDER BY n.id LIMIT `+strconv.Itoa(limit), text(w.Attribute), w.Value, micros(w.At))
	if err != nil {
		return nil, err
	}
	for _, a := range said { // a decorator may say what enrolling said
		if !slices.ContainsFunc(list, func(h node.Sighting) bool { return h.NodeID == a.NodeID }) {
			list = append(list, a)
		}
	}
	return list, nil
}

// attributeCondition finds who has a value in a column of node n or its presence
// p; not ok for one that decorators say.
func attributeCondition(attribute string) (string, bool) {
	switch attribute {
	case node.AttributeAddress:
		return `p.address = $1`, true
	case node.AttributeHostname:
		return `lower(n.hostname) = lower($1) AND n.hostname = $1`, true // the first part has an index
	case node.AttributeHostIdentifier:
		return `n.host_identifier = $1`, true
	case node.AttributePlatform:
		return `n.platform = $1`, true
	case node.AttributeOS:
		return `n.os = $1`, true
	case node.AttributeOsqueryVersion:
		return `n.osquery_version = $1`, true
	case node.AttributeInstance:
		return `n.instance = $1`, true
	case node.AttributeCertificate:
		return `n.certificate = $1`, true
	}
	return "", false
}
