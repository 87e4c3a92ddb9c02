package store

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// onlineUntil is until when a node that is silent from now on is online, as
// [node.Node.Online] sees it.
func onlineUntil(seen time.Time, patience time.Duration) int64 {
	if seen.IsZero() {
		return 0
	}
	return micros(seen.Add(cmp.Or(patience, node.OfflineAfter)))
}

// patienceOf is what onlineUntil was told.
func patienceOf(seen, until int64) time.Duration {
	patience := time.Duration(until-seen) * time.Microsecond
	if seen == 0 || patience == node.OfflineAfter {
		return 0
	}
	return patience
}

// Times in texts of one length, so that SQL takes them apart by place.
const (
	timeDigits = 16 // of a decimal number, which SQL reads
	seenDigits = 11 // in base 36, which only parseSeen reads
	seenLength = seenDigits * len(node.Seen{})
)

// appendTime appends a number with zeros before it.
func appendTime(b []byte, us int64, base, digits int) []byte {
	var buf [64]byte
	number := strconv.AppendInt(buf[:0], us, base)
	for range digits - len(number) {
		b = append(b, '0')
	}
	return append(b, number...)
}

// appendSeen appends the times of all endpoints.
func appendSeen(b []byte, seen node.Seen) []byte {
	for _, at := range seen {
		b = appendTime(b, micros(at), 36, seenDigits)
	}
	return b
}

// parseSeen reads what appendSeen wrote; "" is never.
func parseSeen(text string) (seen node.Seen, err error) {
	for i := 0; i < len(seen) && text != ""; i++ {
		us, err := strconv.ParseInt(text[:min(seenDigits, len(text))], 36, 64)
		if err != nil {
			return seen, err
		}
		seen[i], text = moment(us), text[min(seenDigits, len(text)):]
	}
	return seen, nil
}

// touchChunk bounds the rows of one statement that keeps touches.
const touchChunk = 5000

// TouchNodes implements [node.RegistryStore]. It moves no time backwards, but
// for one that a wrong clock left over node.MaxAhead in the future, and changes the version only of
// nodes with a clash. Each chunk is a transaction,
// so that enrolments need not wait for all.
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
		if err := s.tx(ctx, func(t *tx) error { return t.touch(ctx, chunk) }); err != nil {
			return fail("keep presence", err)
		}
	}
	return nil
}

func (t *tx) touch(ctx context.Context, touches []node.Touch) error {
	// First what takes the counter: who enrols takes it before presence too.
	if err := t.touchClashes(ctx, touches); err != nil {
		return err
	}
	if err := t.touchAddresses(ctx, touches); err != nil {
		return err
	}
	// An object of texts, in which each value has its place: arrays, taken apart
	// with ->>, cost more than all the rest of the statement.
	list := make([]byte, 0, len(touches)*(2*timeDigits+seenLength+64))
	for i, x := range touches {
		list = append(list, "{,"[min(i, 1)], '"')
		list = appendEscaped(list, text(x.ID))
		list = append(list, `":"`...)
		list = appendTime(list, micros(x.Seen), 10, timeDigits)
		list = appendTime(list, onlineUntil(x.Seen, x.Patience), 10, timeDigits)
		list = appendSeen(list, x.At)
		list = appendEscaped(list, text(x.Address))
		list = append(list, '"')
	}
	_, err := t.exec(ctx, `
		UPDATE presence SET last_seen = t.last_at, online_until = t.until_at, seen = t.seen,
			address_since = CASE WHEN t.address IN ('', presence.address) THEN presence.address_since ELSE t.last_at END,
			address = CASE t.address WHEN '' THEN presence.address ELSE t.address END
		FROM (SELECT key AS id, CAST(substr(value, 1, 16) AS BIGINT) AS last_at, CAST(substr(value, 17, 16) AS BIGINT) AS until_at,
			substr(value, 33, 55) AS seen, substr(value, 88) AS address FROM `+t.dialect.each(1)+`) AS t
		WHERE presence.node_id = t.id AND (t.last_at >= presence.last_seen OR presence.last_seen > t.last_at + $2)`,
		string(append(list, '}')), node.MaxAhead.Microseconds())
	if err != nil {
		return err
	}
	return t.touchAttributes(ctx, touches)
}

// appendEscaped appends what stands between the quotes of a JSON string.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // cannot fail: a string
			return append(b, quoted[1:len(quoted)-1]...)
		}
	}
	return append(b, s...)
}

func (t *tx) touchClashes(ctx context.Context, touches []node.Touch) error {
	var version int64
	for _, x := range touches {
		if x.Clash == "" {
			continue
		}
		if version == 0 {
			var err error
			if version, err = t.next(ctx, counterNode, 1); err != nil {
				return err
			}
		}
		if err := t.clash(ctx, x.ID, x.Clash, x.Seen, version); err != nil {
			return err
		}
	}
	return nil
}

// touchAddresses makes history of the addresses that nodes moved from: those
// that are kept, which another server may have written.
func (t *tx) touchAddresses(ctx context.Context, touches []node.Touch) error {
	var rows [][]any
	for _, x := range touches {
		if x.Moved != "" {
			rows = append(rows, []any{text(x.ID), text(x.Address), micros(x.Seen)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	moved, err := all(ctx, t, func(row scanner) (past, error) {
		p := past{attribute: node.AttributeAddress}
		var enrolled int64
		err := row.Scan(&p.node, &p.value, &p.since, &p.last, &p.until, &enrolled)
		p.since = cmp.Or(p.since, enrolled)
		return p, err
	}, `
		SELECT p.node_id, p.address, p.address_since, p.last_seen, t.seen, n.enrolled_at
		FROM `+t.dialect.bulk(1, "id text", "address text", "seen bigint")+`
		JOIN presence p ON p.node_id = t.id JOIN node n ON n.id = t.id
		WHERE p.address <> '' AND p.address <> t.address AND t.address <> '' AND t.seen >= p.last_seen`, list)
	if err != nil {
		return err
	}
	return t.supersede(ctx, moved)
}

// touchAttributes keeps what decorators say, if it is something else.
func (t *tx) touchAttributes(ctx context.Context, touches []node.Touch) error {
	said := map[string]node.Touch{}
	for _, x := range touches {
		if x.Attributes != nil {
			said[text(x.ID)] = x
		}
	}
	if len(said) == 0 {
		return nil
	}
	had, err := t.attributesOf(ctx, slices.Sorted(maps.Keys(said)))
	if err != nil {
		return err
	}
	var added, dropped [][]any
	var history []past
	for _, id := range slices.Sorted(maps.Keys(had)) { // only those that are not gone
		x, before := said[id], had[id]
		after := make(map[string]string, len(x.Attributes))
		for name, v := range x.Attributes {
			after[text(name)] = text(v)
		}
		for _, p := range before {
			v, still := after[p.attribute]
			if still && v == p.value {
				delete(after, p.attribute)
				continue
			}
			p.until = micros(x.Seen)
			history = append(history, p)
			if !still {
				dropped = append(dropped, []any{id, p.attribute})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(after)) {
			added = append(added, []any{id, name, after[name], micros(x.Seen)})
		}
	}
	if err := t.setAttributes(ctx, added, dropped); err != nil {
		return err
	}
	return t.supersede(ctx, history)
}

// attributesOf returns what decorators of nodes said, by the ids of those that
// are there.
func (t *tx) attributesOf(ctx context.Context, ids []string) (map[string][]past, error) {
	list, err := idList(ids)
	if err != nil {
		return nil, err
	}
	rows, err := all(ctx, t, func(row scanner) (p past, err error) {
		err = row.Scan(&p.node, &p.last, &p.attribute, &p.value, &p.since)
		return p, err
	}, `
		SELECT p.node_id, p.last_seen, COALESCE(a.attribute, ''), COALESCE(a.value, ''), COALESCE(a.since, 0)
		FROM `+t.dialect.bulk(1, "id text")+`
		JOIN presence p ON p.node_id = t.id LEFT JOIN node_attribute a ON a.node_id = t.id`, list)
	if err != nil {
		return nil, err
	}
	had := map[string][]past{}
	for _, p := range rows {
		had[p.node] = append(had[p.node], p)
		if p.since == 0 { // a node without any
			had[p.node] = nil
		}
	}
	return had, nil
}

func (t *tx) setAttributes(ctx context.Context, added, dropped [][]any) error {
	for _, change := range []struct {
		rows  [][]any
		query string
	}{
		{dropped, `DELETE FROM node_attribute WHERE (node_id, attribute) IN (SELECT t.id, t.name FROM ` +
			t.dialect.bulk(1, "id text", "name text") + `)`},
		{added, `INSERT INTO node_attribute (node_id, attribute, value, since) SELECT t.id, t.name, t.value, t.since FROM ` +
			t.dialect.bulk(1, "id text", "name text", "value text", "since bigint") + `
			WHERE true ON CONFLICT (node_id, attribute) DO UPDATE SET value = excluded.value, since = excluded.since`},
	} {
		if len(change.rows) == 0 {
			continue
		}
		list, err := document(change.rows)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, change.query, list); err != nil {
			return err
		}
	}
	return nil
}

// idList is a parameter of bulk with one column.
func idList(ids []string) (string, error) {
	rows := make([][]any, 0, len(ids))
	for _, id := range ids {
		rows = append(rows, []any{text(id)})
	}
	return document(rows)
}
