package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/node"
)

var _ node.TagStore = (*Store)(nil)

const (
	// taggingChunk bounds the taggings of one transaction, for which all others that
	// write wait.
	taggingChunk = 500
	// tagHistoryMax bounds what one node's history of tags holds: a query may give
	// rows every other time.
	tagHistoryMax = 200
)

// tagSources returns an expression for the sources of node n's tags, in no order,
// for parseTagSources. Differs because the engines build JSON differently.
func (d dialect) tagSources() string {
	pairs := `json_group_array(json_array(s.tag, s.source))`
	if d == onPostgres {
		pairs = `CAST(COALESCE(json_agg(json_build_array(s.tag, s.source)), '[]') AS TEXT)`
	}
	return `CASE WHEN n.tags = '[]' THEN '[]' ELSE (SELECT ` + pairs + ` FROM node_tag_source s WHERE s.node_id = n.id AND s.until = 0) END`
}

// parseTagSources reads tagSources; nil for none.
func parseTagSources(pairs string) ([]node.TagSource, error) {
	if pairs == `[]` {
		return nil, nil
	}
	var list [][2]string
	if err := json.Unmarshal([]byte(pairs), &list); err != nil {
		return nil, err
	}
	sources := make([]node.TagSource, 0, len(list))
	for _, p := range list {
		sources = append(sources, node.TagSource{Tag: p[0], Source: p[1]})
	}
	return node.SortTagSources(sources), nil
}

// scanTagged reads nodeColumns and tagSources, then whatever columns come after
// them.
func scanTagged(row scanner, more ...any) (node.Node, error) {
	var sources string
	n, err := scanNode(row, append([]any{&sources}, more...)...)
	if err != nil {
		return node.Node{}, err
	}
	n.TagSources, err = parseTagSources(sources)
	return n, err
}

// cleanTags makes the sources of a node's tags fit for both engines, and its
// tags those that they give.
func cleanTags(n *node.Node) {
	var sources []node.TagSource
	for _, s := range n.TagSources {
		sources = append(sources, node.TagSource{Tag: text(s.Tag), Source: text(s.Source)})
	}
	n.TagSources = node.SortTagSources(sources)
	n.Tags = node.TagsOf(n.TagSources)
}

// SetNodeTags sets all tags of a node by hand, as [node.TagByHand] does, and
// returns the node without details. The tags must be clean. NotFound without
// one.
func (s *Store) SetNodeTags(ctx context.Context, id string, tags []string) (node.Node, error) {
	n, err := s.changeNode(ctx, id, func(t *tx, id string) error {
		had, err := t.tagged(ctx, []string{id})
		if err != nil {
			return err
		}
		c := tagChange{id, had[id], node.TagByHand(had[id], tags)}
		list, err := tagList(node.TagsOf(c.has))
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE node SET tags = $1 WHERE id = $2`, list, id); err != nil {
			return err
		}
		return t.keepTags(ctx, []tagChange{c}, micros(s.now()))
	})
	return n, fail("set tags", err)
}

// SetTags implements [node.TagStore]. What changes nothing writes nothing. Each
// chunk is a transaction.
func (s *Store) SetTags(ctx context.Context, taggings []node.Tagging, now time.Time) (changed []string, err error) {
	for chunk := range slices.Chunk(taggings, taggingChunk) {
		var ids []string
		err := s.tx(ctx, func(t *tx) (err error) {
			ids, err = t.setTags(ctx, chunk, micros(now))
			return err
		})
		if err != nil && !errors.Is(err, errUnchanged) {
			return changed, fail("set tags", err)
		}
		changed = append(changed, ids...)
	}
	return changed, nil
}

// errUnchanged undoes a transaction that changes nothing, with the version that
// it took.
var errUnchanged = errors.New("nothing changed")

func (t *tx) setTags(ctx context.Context, taggings []node.Tagging, now int64) (changed []string, err error) {
	version, err := t.next(ctx, counterNode, 1)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(taggings))
	for _, tagging := range taggings {
		ids = append(ids, tagging.NodeID)
	}
	had, err := t.tagged(ctx, ids)
	if err != nil {
		return nil, err
	}
	changes := changesOf(taggings, had)
	if len(changes) == 0 {
		return nil, errUnchanged
	}
	rows := make([][]any, 0, len(changes))
	for _, c := range changes {
		changed = append(changed, c.id)
		list, err := tagList(node.TagsOf(c.has))
		if err != nil {
			return nil, err
		}
		rows = append(rows, []any{c.id, list})
	}
	list, err := document(rows)
	if err != nil {
		return nil, err
	}
	if _, err := t.exec(ctx, `
		UPDATE node SET tags = t.list, version = $2 FROM `+t.dialect.bulk(1, "id text", "list text")+` WHERE node.id = t.id`,
		list, version); err != nil {
		return nil, err
	}
	return changed, t.keepTags(ctx, changes, now)
}

// tagged returns the sources of the tags of those nodes that are there, by id.
func (t *tx) tagged(ctx context.Context, ids []string) (map[string][]node.TagSource, error) {
	list, err := idList(ids)
	if err != nil {
		return nil, err
	}
	had := make(map[string][]node.TagSource, len(ids))
	_, err = all(ctx, t, func(row scanner) (id string, err error) {
		var pairs string
		if err := row.Scan(&id, &pairs); err != nil {
			return id, err
		}
		had[id], err = parseTagSources(pairs)
		return id, err
	}, `SELECT n.id, `+t.dialect.tagSources()+` FROM node n
		WHERE n.gone_at = 0 AND n.id IN (SELECT t.id FROM `+t.dialect.bulk(1, "id text")+`)`, list)
	return had, err
}

// tagChange is what gave a node its tags, and what does now, both sorted.
type tagChange struct {
	id       string
	had, has []node.TagSource
}

// changesOf returns what taggings change, in the order in which the nodes are
// named first.
func changesOf(taggings []node.Tagging, had map[string][]node.TagSource) []tagChange {
	has := make(map[string][]node.TagSource, len(had))
	var order []string
	for _, tagging := range taggings {
		id := text(tagging.NodeID)
		if _, there := had[id]; !there {
			continue
		}
		sources, begun := has[id]
		if !begun {
			sources, order = had[id], append(order, id)
		}
		clean := node.Tagging{Source: text(tagging.Source)}
		for _, tag := range tagging.Tags {
			clean.Tags = append(clean.Tags, text(tag))
		}
		has[id] = clean.Apply(sources)
	}
	var changes []tagChange
	for _, id := range order {
		if !slices.Equal(had[id], has[id]) {
			changes = append(changes, tagChange{id, had[id], has[id]})
		}
	}
	return changes
}

// less returns the elements of a that are not in b; both are sorted.
func less[T any](a, b []T, compare func(T, T) int) []T {
	var rest []T
	for _, v := range a {
		if _, in := slices.BinarySearchFunc(b, v, compare); !in {
			rest = append(rest, v)
		}
	}
	return rest
}

// keepTags keeps what changed, but for the list in the node's own row. Nothing is
// written where nothing changed. No other transaction may change tags meanwhile:
// it comes after a next of counterNode.
func (t *tx) keepTags(ctx context.Context, changes []tagChange, now int64) error {
	var ended, begun, lost, got [][]any
	for _, c := range changes {
		before, after := node.TagsOf(c.had), node.TagsOf(c.has)
		ended = append(ended, c.rows(less(c.had, c.has, node.TagSource.Compare))...)
		begun = append(begun, c.rows(less(c.has, c.had, node.TagSource.Compare))...)
		lost = append(lost, c.tags(less(before, after, cmp.Compare[string]))...)
		got = append(got, c.tags(less(after, before, cmp.Compare[string]))...)
	}
	triple, pair := t.dialect.bulk(1, "id text", "tag text", "source text"), t.dialect.bulk(1, "id text", "tag text")
	for _, step := range []struct {
		rows [][]any
		do   func(list string) error
	}{
		{ended, func(list string) error {
			return t.endTags(ctx, `(node_id, tag, source) IN (SELECT t.id, t.tag, t.source FROM `+triple+`)`, list, now)
		}},
		{begun, func(list string) error {
			_, err := t.exec(ctx, `
				INSERT INTO node_tag_source (node_id, tag, source, since, until)
				SELECT t.id, t.tag, t.source, CAST($2 AS BIGINT), 0 FROM `+triple, list, now)
			return err
		}},
		{lost, func(list string) error {
			_, err := t.exec(ctx, `DELETE FROM node_tag WHERE (tag, node_id) IN (SELECT t.tag, t.id FROM `+pair+`)`, list)
			return err
		}},
		{got, func(list string) error {
			_, err := t.exec(ctx, `INSERT INTO node_tag (tag, node_id) SELECT t.tag, t.id FROM `+pair, list)
			return err
		}},
	} {
		if len(step.rows) == 0 {
			continue
		}
		list, err := document(step.rows)
		if err == nil {
			err = step.do(list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rows are of sources of the node's tags, for bulk.
func (c tagChange) rows(sources []node.TagSource) (rows [][]any) {
	for _, s := range sources {
		rows = append(rows, []any{c.id, s.Tag, s.Source})
	}
	return rows
}

// tags are of tags of the node, for bulk.
func (c tagChange) tags(tags []string) (rows [][]any) {
	for _, tag := range tags {
		rows = append(rows, []any{c.id, tag})
	}
	return rows
}

// endTags makes history of sources that no longer give a tag. One that gave it
// for no time, by a clock that was set back maybe, leaves none.
func (t *tx) endTags(ctx context.Context, which, list string, now int64) error {
	kept, err := t.exec(ctx, `
		INSERT INTO node_tag_source (node_id, tag, source, since, until)
		SELECT node_id, tag, source, since, CAST($2 AS BIGINT) FROM node_tag_source
		WHERE until = 0 AND since < $2 AND `+which+` ON CONFLICT (node_id, until, tag, source, since) DO NOTHING`, list, now)
	if err != nil {
		return err
	}
	if _, err := t.exec(ctx, `DELETE FROM node_tag_source WHERE until = 0 AND `+which, list); err != nil || kept == 0 {
		return err
	}
	return t.capTagHistory(ctx, list)
}

// capTagHistory drops the oldest of what nodes have too much of. The list is for
// bulk, ids first.
func (t *tx) capTagHistory(ctx context.Context, list string) error {
	full, err := all(ctx, t, scanText, `
		SELECT node_id FROM node_tag_source WHERE until <> 0 AND node_id IN (SELECT t.id FROM `+t.dialect.bulk(1, "id text")+`)
		GROUP BY node_id HAVING count(*) > `+strconv.Itoa(tagHistoryMax), list)
	if err != nil {
		return err
	}
	for _, id := range full {
		if _, err := t.exec(ctx, `
			DELETE FROM node_tag_source WHERE node_id = $1 AND until <> 0 AND until <= (
				SELECT until FROM node_tag_source WHERE node_id = $1 AND until <> 0
				ORDER BY until DESC LIMIT 1 OFFSET `+strconv.Itoa(tagHistoryMax)+`)`, id); err != nil {
			return err
		}
	}
	return nil
}

// TagHistory returns what gives a node its tags and gave them, what does first,
// then what ended last. NotFound if there never was such a node.
func (s *Store) TagHistory(ctx context.Context, id string) ([]node.TagSpan, error) {
	id = text(id)
	if _, err := s.node(ctx, id); err != nil {
		return nil, err
	}
	spans, err := all(ctx, s.read, func(row scanner) (h node.TagSpan, err error) {
		var since, until int64
		err = row.Scan(&h.Tag, &h.Source, &since, &until)
		h.Since, h.Until = moment(since), moment(until)
		return h, err
	}, `SELECT tag, source, since, until FROM node_tag_source WHERE node_id = $1
		ORDER BY (until = 0) DESC, until DESC, since DESC, tag, source`, id)
	return spans, fail("read a node's tags", err)
}
