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

	"github.com/musterhq/muster/internal/rollout"
)

var _ rollout.CostStore = (*Store)(nil)

const (
	// costChunk bounds the rows of one statement.
	costChunk = 1000
	// costsMax bounds what is loaded: names of queries are told by agents.
	costsMax = 20_000
)

// SaveCosts implements [rollout.CostStore]. Of two costs of one query the later
// holds. It is several transactions, so that others need not wait for all.
func (s *Store) SaveCosts(ctx context.Context, costs []rollout.QueryCost) error {
	for chunk := range slices.Chunk(latest(costs), costChunk) {
		if err := s.tx(ctx, func(t *tx) error { return t.saveCosts(ctx, chunk) }); err != nil {
			return fail("keep what queries cost", err)
		}
	}
	return nil
}

// costKey is what costs are kept by.
type costKey struct{ name, hash string }

// latest returns the last one of each query: a statement has a row once. It is
// in the order of the key, so that two servers take rows in the same order.
func latest(costs []rollout.QueryCost) []rollout.QueryCost {
	byKey := map[costKey]rollout.QueryCost{}
	for _, c := range costs {
		key := costKey{text(c.Name), text(c.SQLHash)}
		if had, ok := byKey[key]; !ok || !c.At.Before(had.At) {
			byKey[key] = c
		}
	}
	return slices.SortedFunc(maps.Values(byKey), func(a, b rollout.QueryCost) int {
		return cmp.Or(strings.Compare(text(a.Name), text(b.Name)), strings.Compare(text(a.SQLHash), text(b.SQLHash)))
	})
}

func (t *tx) saveCosts(ctx context.Context, costs []rollout.QueryCost) error {
	rows := make([][]any, 0, len(costs))
	for _, c := range costs {
		doc, err := document(c.Cost)
		if err != nil {
			return err
		}
		rows = append(rows, []any{text(c.Name), text(c.SQLHash), micros(c.At), doc})
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO query_cost (name, sql_hash, at, document)
		SELECT t.name, t.sql_hash, t.at, t.document FROM `+t.dialect.bulk(1, "name text", "sql_hash text", "at bigint", "document text")+`
		WHERE true ON CONFLICT (name, sql_hash) DO UPDATE SET at = excluded.at, document = excluded.document
		WHERE excluded.at >= query_cost.at`, list)
	return err
}

// LoadCosts implements [rollout.CostStore]: the latest first, up to costsMax.
func (s *Store) LoadCosts(ctx context.Context) ([]rollout.QueryCost, error) {
	list, err := all(ctx, s.read, func(row scanner) (c rollout.QueryCost, err error) {
		var doc []byte
		if err = row.Scan(&c.Name, &c.SQLHash, &doc); err != nil {
			return c, err
		}
		return c, json.Unmarshal(doc, &c.Cost)
	}, `SELECT name, sql_hash, document FROM query_cost ORDER BY at DESC, name, sql_hash LIMIT `+strconv.Itoa(costsMax))
	return list, fail("read what queries cost", err)
}

// PruneCosts drops what was not seen since a time.
func (s *Store) PruneCosts(ctx context.Context, before time.Time) error {
	return fail("prune what queries cost", s.prune(ctx, `DELETE FROM query_cost WHERE (name, sql_hash) IN (
		SELECT name, sql_hash FROM query_cost WHERE at < $1 LIMIT `+strconv.Itoa(historyChunk)+`)`, before))
}
