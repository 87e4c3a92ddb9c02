package result

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/policy"
)

// Group is the rows that have one value of a column.
type Group struct {
	Value string
	Rows  int
	Nodes int // on how many nodes
}

// Groups is how many rows have which value.
type Groups struct {
	Groups []Group // those of most rows first
	// Distinct is how many values were told apart. More says that there were
	// others.
	Distinct int
	More     bool
	// Other is how many rows, of those that pass, are in none of Groups.
	Other   int
	Matched int
}

// Bounds of what is counted: which values there are is the agents' choice.
const (
	maxGroups     = 100_000
	maxGroupBytes = 16 << 20 // of their values
	// maxGroupValue is how much of a value is told; of a longer one its hash
	// besides.
	maxGroupValue = 1024
)

// Groups counts the rows by the values of a column. A row without the column is
// in no group.
func (r *Reader) Groups(ctx context.Context, id, by string, where []event.Condition, limit int, declared []policy.ResultColumn) (Groups, error) {
	type count struct{ rows, nodes, last int }
	counts := map[string]*count{}
	out, bytes, found := Groups{}, 0, false
	err := r.scan(ctx, id, "", func(v *view) error {
		value, ok := v.cell(by)
		found = found || ok
		if !v.match(where) {
			return nil
		}
		out.Matched++
		if !ok {
			return nil
		}
		value = short(value)
		c := counts[value]
		if c == nil {
			if len(counts) == maxGroups || bytes > maxGroupBytes {
				out.More = true
				return nil
			}
			bytes += len(value)
			c = &count{}
			counts[value] = c
		}
		c.rows++
		if c.last != v.number {
			c.nodes, c.last = c.nodes+1, v.number
		}
		return nil
	})
	if err != nil {
		return Groups{}, err
	}
	declares := slices.ContainsFunc(declared, func(c policy.ResultColumn) bool { return c.Name == by })
	if !found && !declares && out.Matched > 0 {
		return Groups{}, errs.Field("by", "no row has a column %s", clean(by))
	}
	out.Groups, out.Distinct, out.Other = make([]Group, 0, len(counts)), len(counts), out.Matched
	for value, c := range counts {
		out.Groups = append(out.Groups, Group{value, c.rows, c.nodes})
	}
	slices.SortFunc(out.Groups, func(a, b Group) int { return cmp.Or(b.Rows-a.Rows, strings.Compare(a.Value, b.Value)) })
	out.Groups = slices.Clip(out.Groups[:min(limit, len(out.Groups))])
	for _, g := range out.Groups {
		out.Other -= g.Rows
	}
	return out, nil
}

// short is a value by which rows are grouped: different ones stay different.
func short(value string) string {
	if len(value) <= maxGroupValue {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return fmt.Sprintf("%s… (%d bytes, sha256 %x)", strings.ToValidUTF8(value[:maxGroupValue], ""), len(value), sum)
}
