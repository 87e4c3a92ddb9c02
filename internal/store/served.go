package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/change"
)

var _ change.ServedStore = (*Store)(nil)

const counterServed = "served" // only to be one at a time

const (
	// servedChunk bounds the rows of one statement.
	servedChunk = 5000
	// servedMax bounds what is kept of one node besides its newest: tags follow
	// from what agents say, so one can have its config change at each request.
	servedMax = 200
)

// SaveServed implements [change.ServedStore]. What another server told later
// and the node asked for earlier goes where it belongs, not to the front. It is
// several transactions, so that others need not wait for all.
func (s *Store) SaveServed(ctx context.Context, served []change.Served) error {
	for len(served) > 0 {
		var once []change.Served
		once, served = firsts(served)
		for chunk := range slices.Chunk(once, servedChunk) {
			if err := s.tx(ctx, func(t *tx) error { return t.saveServed(ctx, chunk) }); err != nil {
				return fail("keep what nodes were served", err)
			}
		}
	}
	return nil
}

// firsts returns the first row of each node, in the order of their ids, and the
// other rows: a statement has each node once.
func firsts(served []change.Served) (once, rest []change.Served) {
	seen := make(map[string]bool, len(served))
	for _, v := range served {
		if id := text(v.NodeID); seen[id] {
			rest = append(rest, v)
		} else {
			seen[id] = true
			once = append(once, v)
		}
	}
	slices.SortFunc(once, func(a, b change.Served) int { return strings.Compare(a.NodeID, b.NodeID) })
	return once, rest
}

func (t *tx) saveServed(ctx context.Context, served []change.Served) error {
	if _, err := t.next(ctx, counterServed, 0); err != nil {
		return err
	}
	// An object of texts, in which each value has its place, as in touch.
	list := make([]byte, 0, len(served)*(2*timeDigits+revisionDigits+len(`"":"",`)+100))
	for i, v := range served {
		list = append(list, "{,"[min(i, 1)], '"')
		list = appendEscaped(list, text(v.NodeID))
		list = append(list, `":"`...)
		list = appendTime(list, micros(v.First), 10, timeDigits)
		list = appendTime(list, max(micros(v.First), micros(v.Last)), 10, timeDigits)
		list = appendTime(list, v.Revision, 10, revisionDigits)
		list = appendEscaped(list, text(v.Hash))
		list = append(list, '"')
	}
	return t.addServed(ctx, string(append(list, '}')))
}

// revisionDigits is the length of the largest number of a revision.
const revisionDigits = 19

// addServed adds the rows of an object that saveServed made.
func (t *tx) addServed(ctx context.Context, list string) error {
	from := `(SELECT key AS node_id, CAST(substr(value, 1, 16) AS BIGINT) AS first_at, CAST(substr(value, 17, 16) AS BIGINT) AS last_at,
		CAST(substr(value, 33, 19) AS BIGINT) AS revision, substr(value, 52) AS hash FROM ` + t.dialect.each(1) + `) AS t`
	// Of two that differ the earlier one is past.
	added, err := t.exec(ctx, `
		INSERT INTO served_past (node_id, revision, hash, first_at, last_at)
		SELECT s.node_id,
			CASE WHEN t.first_at < s.first_at THEN t.revision ELSE s.revision END, CASE WHEN t.first_at < s.first_at THEN t.hash ELSE s.hash END,
			CASE WHEN t.first_at < s.first_at THEN t.first_at ELSE s.first_at END, CASE WHEN t.first_at < s.first_at THEN t.last_at ELSE s.last_at END
		FROM `+from+` CROSS JOIN served s WHERE s.node_id = t.node_id AND s.hash <> t.hash
		ON CONFLICT (node_id, first_at, revision, hash) DO UPDATE SET last_at = excluded.last_at WHERE excluded.last_at > served_past.last_at`, list)
	if err != nil {
		return err
	}
	const same = `served.hash = excluded.hash`
	if _, err := t.exec(ctx, `
		INSERT INTO served (node_id, revision, hash, first_at, last_at)
		SELECT t.node_id, t.revision, t.hash, t.first_at, t.last_at FROM `+from+` WHERE true
		ON CONFLICT (node_id) DO UPDATE SET hash = excluded.hash,
			revision = CASE WHEN `+same+` AND served.first_at <= excluded.first_at THEN served.revision ELSE excluded.revision END,
			first_at = CASE WHEN `+same+` AND served.first_at < excluded.first_at THEN served.first_at ELSE excluded.first_at END,
			last_at = CASE WHEN `+same+` AND served.last_at > excluded.last_at THEN served.last_at ELSE excluded.last_at END
		WHERE `+same+` OR excluded.first_at >= served.first_at`, list); err != nil || added == 0 {
		return err
	}
	return t.capServed(ctx, from, list)
}

// capServed drops the oldest of nodes that have too many.
func (t *tx) capServed(ctx context.Context, from, list string) error {
	full, err := all(ctx, t, scanText, `
		SELECT t.node_id FROM `+from+` CROSS JOIN served_past s WHERE s.node_id = t.node_id
		GROUP BY t.node_id HAVING count(*) > `+strconv.Itoa(servedMax), list)
	if err != nil {
		return err
	}
	for _, id := range full {
		if _, err := t.exec(ctx, `
			DELETE FROM served_past WHERE node_id = $1 AND first_at <= (
				SELECT first_at FROM served_past WHERE node_id = $1
				ORDER BY first_at DESC LIMIT 1 OFFSET `+strconv.Itoa(servedMax)+`)`, id); err != nil {
			return err
		}
	}
	return nil
}

// ServedTo implements [change.ServedStore].
func (s *Store) ServedTo(ctx context.Context, nodeID string, limit int) ([]change.Served, error) {
	list, err := all(ctx, s.read, scanServed, `
		SELECT node_id, revision, hash, first_at, last_at FROM (
			SELECT 0 AS age, node_id, revision, hash, first_at, last_at FROM served WHERE node_id = $1
			UNION ALL SELECT 1, node_id, revision, hash, first_at, last_at FROM served_past WHERE node_id = $1
		) AS s ORDER BY age, first_at DESC, last_at DESC, revision DESC LIMIT `+strconv.Itoa(limited(limit)), text(nodeID))
	return list, fail("read what a node was served", err)
}

func scanServed(row scanner) (v change.Served, err error) {
	var first, last int64
	err = row.Scan(&v.NodeID, &v.Revision, &v.Hash, &first, &last)
	v.First, v.Last = moment(first), moment(last)
	return v, err
}

// PruneServed drops what no node asked for since a time. It is several
// transactions, so that others need not wait for all.
func (s *Store) PruneServed(ctx context.Context, before time.Time) error {
	for _, statement := range []string{
		`DELETE FROM served_past WHERE (node_id, first_at, revision, hash) IN (
			SELECT node_id, first_at, revision, hash FROM served_past WHERE last_at < $1 LIMIT ` + strconv.Itoa(historyChunk) + `)`,
		// Without an index, which each request of a node would move; there is one
		// row of each node.
		`DELETE FROM served WHERE node_id IN (SELECT node_id FROM served WHERE last_at < $1 LIMIT ` + strconv.Itoa(historyChunk) + `)`,
	} {
		if err := s.prune(ctx, statement, before); err != nil {
			return fail("prune what nodes were served", err)
		}
	}
	return nil
}
