package store

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/osquery"
)

// Reading all rows of a live query goes in pieces, so that whoever reads them
// slowly, as a download, holds neither a connection nor a snapshot meanwhile.
const (
	// rowsBytes is how much of the rows is in memory, beside one node's.
	rowsBytes = 4 << 20
	// rowsNodes bounds the nodes of one statement. PostgreSQL sends all that it
	// finds, whoever stops to read: it is asked for few until those are small.
	rowsNodes, rowsFirst = 256, 16
)

// LiveTargets returns up to limit nodes of a live query, without their rows, by
// id, those after an id, in one of some states; in any if none is given.
func (s *Store) LiveTargets(ctx context.Context, id string, states []live.State, after string, limit int) ([]live.Target, error) {
	w := &where{}
	w.add(`t.live_id = ?`, text(id))
	w.add(`t.node_id > ?`, text(after))
	if len(states) > 0 {
		names := make([]any, 0, len(states))
		for _, st := range states {
			names = append(names, text(string(st)))
		}
		w.add(`t.state IN (`+strings.TrimSuffix(strings.Repeat(`?, `, len(names)), `, `)+`)`, names...)
	}
	targets, err := all(ctx, s.read, func(row scanner) (live.Target, error) { return scanTarget(row) },
		`SELECT `+targetColumns+` FROM live_target t WHERE `+w.String()+` ORDER BY t.node_id LIMIT `+strconv.Itoa(limit), w.args...)
	return targets, fail("read the nodes of a live query", err)
}

// nodeRows is the rows of one node, as they are kept.
type nodeRows struct {
	node int // its place among those asked for
	rows []byte
}

// LiveRows calls yield with the rows of nodes, a JSON array of objects of texts
// as it is kept. The nodes must be sorted; one without rows is left out. No
// connection is held while yield runs.
func (s *Store) LiveRows(ctx context.Context, id string, nodes []string, yield func(node int, rows []byte) error) error {
	size := rowsFirst
	for first := 0; first < len(nodes); {
		chunk := nodes[first:min(first+size, len(nodes))]
		pieces, done, err := s.someRows(ctx, id, chunk)
		if err != nil {
			return fail("read the rows of a live query", err)
		}
		if size = min(2*size, rowsNodes); done < len(chunk) {
			size = done
		}
		for _, p := range pieces {
			if err := yield(first+p.node, p.rows); err != nil {
				return err
			}
		}
		first += done
	}
	return nil
}

// someRows returns the rows of nodes until there are rowsBytes, and how many
// nodes were dealt with. It goes by the order of the key, which needs no sorting
// of what may be large.
func (s *Store) someRows(ctx context.Context, id string, nodes []string) (pieces []nodeRows, done int, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT node_id, data FROM live_rows
		WHERE live_id = $1 AND node_id >= $2 AND node_id <= $3 ORDER BY node_id`, text(id), text(nodes[0]), text(nodes[len(nodes)-1]))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	bytes := 0
	for rows.Next() {
		var node string
		var data []byte
		if err := rows.Scan(&node, &data); err != nil {
			return nil, 0, err
		}
		i, found := slices.BinarySearch(nodes, node)
		if !found {
			continue
		}
		pieces = append(pieces, nodeRows{i, data})
		if bytes += len(data); bytes >= rowsBytes {
			return pieces, i + 1, nil
		}
	}
	return pieces, len(nodes), rows.Err()
}

// What an estimate looks at.
const (
	// costRecent is how many of the newest live queries are compared: texts have
	// no index, and what was asked long ago says little.
	costRecent = 1000
	// costQueries and costAnswers bound the sample.
	costQueries = 5
	costAnswers = 5000
)

// LiveCosts returns what answers to the newest live queries with exactly a text
// took, a sample of them, and how many rows those had per node on average.
func (s *Store) LiveCosts(ctx context.Context, sql string) (live.Costs, error) {
	var c live.Costs
	type asked struct {
		id   string
		rows int
		at   int64
	}
	queries, err := all(ctx, s.read, func(row scanner) (a asked, err error) {
		return a, row.Scan(&a.id, &a.rows, &a.at)
	}, `SELECT id, row_count, created_at FROM (
			SELECT id, sql, row_count, created_at FROM live ORDER BY created_at DESC, id DESC LIMIT `+strconv.Itoa(costRecent)+`) AS recent
		WHERE sql = $1 ORDER BY created_at DESC, id DESC LIMIT `+strconv.Itoa(costQueries), text(sql))
	if err != nil {
		return c, fail("read what a live query costs", err)
	}
	rows, answered := 0, 0
	for _, q := range queries {
		stats, err := all(ctx, s.read, func(row scanner) (st osquery.QueryStats, err error) {
			return st, row.Scan(&st.WallTimeMs, &st.UserTime, &st.SystemTime, &st.Memory)
		}, `SELECT wall_time_ms, user_time, system_time, memory FROM live_target
			WHERE live_id = $1 AND state IN ('answered', 'empty', 'over_limit') ORDER BY node_id LIMIT `+strconv.Itoa(costAnswers), q.id)
		if err != nil {
			return c, fail("read what a live query costs", err)
		}
		if len(stats) == 0 {
			continue
		}
		var count int
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM live_target
			WHERE live_id = $1 AND state IN ('answered', 'empty', 'over_limit')`, q.id).Scan(&count); err != nil {
			return c, fail("read what a live query costs", err)
		}
		if c.Queries++; c.Queries == 1 {
			c.At = moment(q.at)
		}
		c.Answers = append(c.Answers, stats...)
		rows, answered = rows+q.rows, answered+count
	}
	if answered > 0 {
		c.Nodes, c.Rows = answered, float64(rows)/float64(answered)
	}
	return c, nil
}
