package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// Bounds of a page of any list.
const (
	pageLimit    = 50
	pageMaxLimit = 1000
)

func limited(limit int) int {
	if limit <= 0 {
		return pageLimit
	}
	return min(limit, pageMaxLimit)
}

// sortColumn is something that nodes are ordered by. Each has an index with
// the id behind it, but for address, which changes too often.
type sortColumn struct {
	expr   string
	number bool
	from   string // both tables, the one with the index first, up to the conditions
	id     string // as that index has it
}

// Not a plain JOIN: SQLite reads the tables of a CROSS JOIN in the order
// written. To PostgreSQL it makes no difference.
const (
	byNode     = `node n CROSS JOIN presence p WHERE p.node_id = n.id AND `
	byPresence = `presence p CROSS JOIN node n WHERE p.node_id = n.id AND `
	byGone     = `node n LEFT JOIN presence p ON p.node_id = n.id WHERE `
)

func sortColumnOf(name string, gone bool) (sortColumn, bool) {
	if gone {
		return goneColumnOf(name)
	}
	switch name {
	case "hostname":
		return sortColumn{`lower(n.hostname)`, false, byNode, `n.id`}, true
	case "platform":
		return sortColumn{`n.platform`, false, byNode, `n.id`}, true
	case "os":
		return sortColumn{`n.os`, false, byNode, `n.id`}, true
	case "osquery_version":
		return sortColumn{`n.osquery_version`, false, byNode, `n.id`}, true
	case "enrolled_at":
		return sortColumn{`n.enrolled_at`, true, byNode, `n.id`}, true
	case "status", "last_seen":
		return sortColumn{`p.last_seen`, true, byPresence, `p.node_id`}, true
	case "address":
		return sortColumn{`p.address`, false, byPresence, `p.node_id`}, true
	}
	return sortColumn{}, false
}

// goneColumnOf is sortColumnOf for nodes that are gone. They have no presence:
// the last that was seen of them is that they went.
func goneColumnOf(name string) (sortColumn, bool) {
	switch name {
	case "status", "last_seen":
		return sortColumn{`n.gone_at`, true, byGone, `n.id`}, true
	case "address":
		return sortColumn{`n.id`, false, byGone, `n.id`}, true
	}
	c, ok := sortColumnOf(name, false)
	c.from = byGone
	return c, ok
}

// nodeCursor is where a page of nodes ended.
type nodeCursor struct {
	Sort   string `json:"s"`
	Desc   bool   `json:"d"`
	Text   string `json:"t,omitempty"`
	Number int64  `json:"n,omitempty"`
	ID     string `json:"i"`
}

// where gathers conditions and their parameters.
type where struct {
	conditions []string
	args       []any
}

// add adds a condition in which each ? stands for the next of args.
func (w *where) add(condition string, args ...any) {
	for _, a := range args {
		w.args = append(w.args, a)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(w.args)), 1)
	}
	w.conditions = append(w.conditions, condition)
}

func (w *where) String() string { return strings.Join(w.conditions, " AND ") }

// among adds that a column is one of some ids; nothing for nil.
func (w *where) among(d dialect, column string, ids []string) error {
	if ids == nil {
		return nil
	}
	list, err := document(ids)
	if err != nil {
		return err
	}
	w.args = append(w.args, list)
	w.conditions = append(w.conditions, column+` IN (SELECT value FROM `+d.each(len(w.args))+`)`)
	return nil
}

// last returns the placeholder of the last argument.
func (w *where) last() string { return "$" + strconv.Itoa(len(w.args)) }

// nodeWhere turns the filter into conditions on node n and presence p.
func nodeWhere(f node.Filter) (*where, error) {
	w := &where{}
	if f.Status == node.StatusGone {
		w.add(`n.gone_at <> 0`)
	} else {
		w.add(`n.gone_at = 0`)
	}
	if len(f.Search) > maxSearch {
		return nil, errs.Field("search", "is longer than %d bytes", maxSearch)
	}
	if f.Search != "" {
		// Lower case in Go, not in SQL: both engines know only ASCII there.
		part := `%` + likeEscaper().Replace(strings.ToLower(text(f.Search))) + `%`
		w.add(`(n.search LIKE ? ESCAPE '!' OR n.id IN (SELECT a.node_id FROM presence a WHERE a.address LIKE ? ESCAPE '!'))`, part, part)
	}
	if f.Tag != "" {
		w.add(`n.id IN (SELECT t.node_id FROM node_tag t WHERE t.tag = ?)`, text(f.Tag))
	}
	if f.Platform != "" {
		w.add(`n.platform = ?`, text(f.Platform))
	}
	if f.Version != "" {
		w.add(`n.osquery_version = ?`, text(f.Version))
	}
	switch f.Status {
	case "", node.StatusGone:
	case node.StatusOnline:
		w.add(`p.online_until >= ? AND p.last_seen <= ?`, micros(f.Now), micros(f.Now.Add(node.MaxAhead)))
	case node.StatusOffline:
		w.add(`(p.online_until < ? OR p.last_seen > ?)`, micros(f.Now), micros(f.Now.Add(node.MaxAhead)))
	case node.StatusQuarantined:
		w.add(`n.quarantined_at <> 0`)
	default:
		return nil, errs.Field("status", "%q is no status; use online, offline, quarantined or gone", f.Status)
	}
	return w, nil
}

// maxSearch bounds what is searched for; nothing that it may match is longer.
const maxSearch = 1024

// likeEscaper makes text stand for itself in a LIKE pattern with ESCAPE '!'.
func likeEscaper() *strings.Replacer {
	return strings.NewReplacer(`!`, `!!`, `%`, `!%`, `_`, `!_`)
}

// Nodes returns one page of the nodes that a filter means. Pages continue
// after the last node of the one before, so that nodes which come and go
// meanwhile move no other node across a page's edge.
func (s *Store) Nodes(ctx context.Context, f node.Filter) (node.Page, error) {
	f.Sort = cmp.Or(f.Sort, "hostname")
	column, ok := sortColumnOf(f.Sort, f.Status == node.StatusGone)
	if !ok {
		return node.Page{}, errs.Field("sort", "%q is nothing to sort by; use hostname, platform, os, osquery_version, status, last_seen, enrolled_at or address", f.Sort)
	}
	w, err := nodeWhere(f)
	if err == nil {
		err = w.among(s.dialect, `n.id`, f.Nodes)
	}
	if err != nil {
		return node.Page{}, err
	}
	counted := *w // before the page is cut out
	if f.Cursor != "" {
		if err := w.after(f, column); err != nil {
			return node.Page{}, err
		}
	}
	limit := limited(f.Limit)
	order := ` ASC`
	if f.Desc {
		order = ` DESC`
	}
	type item struct {
		node.Node
		at nodeCursor
	}
	items, err := all(ctx, s.read, func(row scanner) (item, error) {
		at := nodeCursor{Sort: f.Sort, Desc: f.Desc}
		value := any(&at.Text)
		if column.number {
			value = &at.Number
		}
		n, err := scanNode(row, value)
		at.ID = n.ID
		return item{n, at}, err
	}, `SELECT `+nodeColumns+`, `+column.expr+` FROM `+column.from+w.String()+`
		ORDER BY `+column.expr+order+`, `+column.id+order+` LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil {
		return node.Page{}, fail("list nodes", err)
	}
	page := node.Page{Nodes: []node.Node{}}
	if len(items) > limit {
		items = items[:limit]
		if page.Next, err = sealCursor(items[limit-1].at); err != nil {
			return node.Page{}, fail("list nodes", err)
		}
	}
	for _, i := range items {
		page.Nodes = append(page.Nodes, i.Node)
	}
	if page.Total = len(items); page.Next != "" || f.Cursor != "" {
		page.Total, err = s.countNodes(ctx, f, &counted)
	}
	return page, fail("count nodes", err)
}

// countNodes counts all nodes that a filter means. Without a condition on
// presence an index of node is enough; with one, the index of presence says who
// is online.
func (s *Store) countNodes(ctx context.Context, f node.Filter, w *where) (total int, err error) {
	from := `node n WHERE `
	if f.Status == node.StatusOnline || f.Status == node.StatusOffline {
		from = byPresence
	}
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM `+from+w.String(), w.args...).Scan(&total)
	return total, err
}

// after lets through what comes after the filter's cursor.
func (w *where) after(f node.Filter, column sortColumn) error {
	var c nodeCursor
	if err := openCursor(f.Cursor, &c); err != nil {
		return err
	}
	if c.Sort != f.Sort || c.Desc != f.Desc {
		return badCursor()
	}
	value := any(text(c.Text))
	if column.number {
		value = c.Number
	}
	beyond := ` > `
	if f.Desc {
		beyond = ` < `
	}
	w.add(`(`+column.expr+`, `+column.id+`)`+beyond+`(?, ?)`, value, text(c.ID))
	return nil
}

// sealCursor makes a cursor, openCursor reads one that came back. What is in
// it is no secret, and changing it only begins at another place.
func sealCursor(v any) (string, error) {
	b, err := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func openCursor(cursor string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || json.Unmarshal(b, v) != nil {
		return badCursor()
	}
	return nil
}

func badCursor() error {
	return errs.Field("cursor", "does not belong to this list; begin with the first page")
}

// Node returns a node with its details, attributes and what gives it its tags. NotFound without one, or
// when it was deleted.
func (s *Store) Node(ctx context.Context, id string) (node.Node, error) {
	n, err := s.node(ctx, text(id))
	if err == nil && !n.GoneAt.IsZero() {
		return node.Node{}, errs.New(errs.NotFound, noNode)
	}
	return n, err
}

// node returns a node by a clean id, also one that is gone.
func (s *Store) node(ctx context.Context, id string) (node.Node, error) {
	var details string
	n, err := scanTagged(s.read.QueryRowContext(ctx, `
		SELECT `+nodeColumns+`, `+s.dialect.tagSources()+`, COALESCE(d.details, 'null') FROM node n
		LEFT JOIN presence p ON p.node_id = n.id LEFT JOIN node_detail d ON d.node_id = n.id WHERE n.id = $1`, id), &details)
	if err == nil {
		err = json.Unmarshal([]byte(details), &n.Details)
	}
	if err != nil {
		return node.Node{}, fail("read node", missing(err, noNode))
	}
	said, err := all(ctx, s.read, scanAttribute, `SELECT node_id, attribute, value, since FROM node_attribute WHERE node_id = $1`, id)
	if err != nil {
		return node.Node{}, fail("read node", err)
	}
	for _, a := range said {
		if n.Attributes == nil {
			n.Attributes = map[string]string{}
		}
		n.Attributes[a.attribute] = a.value
	}
	return n, nil
}

// FindNode returns the node with that id, which may be gone, or else with that
// host identifier, or else with that hostname, with its details and attributes.
// A clone has not the host identifier that it claims. NotFound without one;
// Conflict if several have the hostname.
func (s *Store) FindNode(ctx context.Context, name string) (node.Node, error) {
	name = text(name)
	n, err := s.node(ctx, name)
	if !errs.Is(err, errs.NotFound) {
		return n, err
	}
	for _, condition := range []string{
		`clone_of = '' AND host_identifier = $1`,
		`lower(hostname) = lower($1) AND hostname = $1`, // the first part has an index
	} {
		ids, err := all(ctx, s.read, scanText, `SELECT id FROM node WHERE gone_at = 0 AND `+condition+` LIMIT 2`, name)
		if err != nil {
			return node.Node{}, fail("find node", err)
		}
		switch len(ids) {
		case 0:
			continue
		case 1:
			return s.Node(ctx, ids[0])
		}
		return node.Node{}, errs.New(errs.Conflict, "several nodes have that hostname; use an id or host identifier")
	}
	return node.Node{}, errs.New(errs.NotFound, "there is no node with that id, host identifier or hostname")
}

func scanText(row scanner) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}

// facetLimit bounds the values of one facet; the most frequent are told.
const facetLimit = 500

// NodeFacets counts all nodes.
func (s *Store) NodeFacets(ctx context.Context, nodes []string, now time.Time) (node.Facets, error) {
	var f node.Facets
	day := micros(now.Add(-24 * time.Hour))
	for _, one := range []struct {
		count     *int
		from, id  string
		condition string
		args      []any
	}{
		{&f.Total, `node`, `id`, `gone_at = 0`, nil},
		{&f.Online, `presence`, `node_id`, `online_until >= ? AND last_seen <= ?`, []any{micros(now), micros(now.Add(node.MaxAhead))}},
		{&f.New24h, `node`, `id`, `gone_at = 0 AND enrolled_at >= ?`, []any{day}},
		{&f.Quarantined, `node`, `id`, `gone_at = 0 AND quarantined_at <> 0`, nil},
		{&f.Clashes24h, `node`, `id`, `gone_at = 0 AND last_clash <> 0 AND last_clash >= ?`, []any{day}},
	} {
		w := &where{}
		w.add(one.condition, one.args...)
		err := w.among(s.dialect, one.id, nodes)
		if err == nil {
			err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM `+one.from+` WHERE `+w.String(), w.args...).Scan(one.count)
		}
		if err != nil {
			return node.Facets{}, fail("count nodes", err)
		}
	}
	for _, by := range []struct {
		counts     *[]node.Count
		value      string
		from, id   string
		conditions string
	}{
		{&f.Platforms, `platform`, `node`, `id`, `gone_at = 0`},
		{&f.Tags, `tag`, `node_tag`, `node_id`, `1 = 1`},
		{&f.Versions, `osquery_version`, `node`, `id`, `gone_at = 0`},
	} {
		w := &where{}
		w.add(by.conditions)
		err := w.among(s.dialect, by.id, nodes)
		if err == nil {
			*by.counts, err = all(ctx, s.read, scanCount, `SELECT `+by.value+`, count(*) FROM `+by.from+` WHERE `+w.String()+`
				GROUP BY `+by.value+` ORDER BY 2 DESC, 1 LIMIT `+strconv.Itoa(facetLimit), w.args...)
		}
		if err != nil {
			return node.Facets{}, fail("count nodes", err)
		}
	}
	return f, nil
}

func scanCount(row scanner) (c node.Count, err error) {
	err = row.Scan(&c.Value, &c.Count)
	return c, err
}
