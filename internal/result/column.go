package result

import (
	"slices"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/policy"
)

// Bounds of what is noted of columns: their names come from agents.
const (
	maxColumns    = 2000 // SQLite's, for one SELECT
	maxColumnName = 1024
)

// columns gathers which columns rows have, and of what type they are.
type columns struct {
	declared map[string]policy.ColumnType
	order    []string // of the SELECT
	seen     map[string]*kind
	names    []string // of seen, as they came
	last     []*kind  // those of the row before: the next one has mostly the same
}

// kind is what the values of a column are.
type kind struct {
	name     string
	declared policy.ColumnType
	values   bool // there was one that is not empty
	text     bool // there was one that is no number
	fraction bool // there was one that is no whole number
}

func newColumns(declared []policy.ResultColumn) *columns {
	c := &columns{declared: map[string]policy.ColumnType{}, seen: map[string]*kind{}}
	for _, d := range declared {
		had, twice := c.declared[d.Name]
		if !twice {
			c.order = append(c.order, d.Name)
		}
		if twice && had != d.Type {
			d.Type = policy.Unknown // a row has one of the two
		}
		c.declared[d.Name] = d.Type
	}
	return c
}

// add notes the columns of a row.
func (c *columns) add(v *view) {
	i := 0
	v.row.Visit(func(key []byte, value *fastjson.Value) {
		k := c.kind(i, key)
		i++
		if k != nil && k.declared == policy.Unknown && !k.text {
			k.note(text(value))
		}
	})
}

// kind returns what is known of the column at a place of a row; nil if there are
// too many to know.
func (c *columns) kind(i int, key []byte) *kind {
	if i < len(c.last) && c.last[i].name == string(key) {
		return c.last[i]
	}
	c.last = c.last[:min(i, len(c.last))]
	k := c.seen[string(key)]
	if k == nil {
		if len(c.seen) >= maxColumns || len(key) > maxColumnName {
			return nil
		}
		name := string(key)
		k = &kind{name: name, declared: c.declared[name]}
		c.seen[name] = k
		c.names = append(c.names, name)
	}
	if i == len(c.last) {
		c.last = append(c.last, k)
	}
	return k
}

func (k *kind) note(value string) {
	if value == "" {
		return // NULL is sent so
	}
	n, ok := parseNumber(value)
	k.values = true
	k.text = !ok
	k.fraction = k.fraction || ok && !n.whole()
}

func (k *kind) kind() policy.ColumnType {
	switch {
	case k.declared != policy.Unknown:
		return k.declared
	case k.text || !k.values:
		return policy.Text
	case k.fraction:
		return policy.Double
	}
	return policy.Integer
}

// has reports whether a column is in the SELECT or in a row.
func (c *columns) has(name string) bool {
	_, declared := c.declared[name]
	return declared || c.seen[name] != nil
}

// list returns the columns that rows have, in the order of the SELECT, and then
// those that it does not tell. If there are no rows, it tells them.
func (c *columns) list() []Column {
	list := make([]Column, 0, len(c.seen))
	for _, name := range c.order {
		if k := c.seen[name]; k != nil {
			list = append(list, Column{name, k.kind()})
		} else if len(c.seen) == 0 {
			k := kind{declared: c.declared[name]}
			list = append(list, Column{name, k.kind()})
		}
	}
	for _, name := range c.names {
		if !slices.Contains(c.order, name) {
			list = append(list, Column{name, c.seen[name].kind()})
		}
	}
	return list
}
