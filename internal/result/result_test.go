package result

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	sorted := []string{
		"-1e300", "-18446744073709551616", "-18446744073709551615", "-2", "-1.5", "-1", "-0.25", "0", "0.5", "1", "007", "8.5", "9",
		"10", "9007199254740992", "9007199254740993", "18446744073709551614", "18446744073709551615", "1e300",
	}
	for i, a := range sorted {
		for j, b := range sorted {
			m, okA := parseNumber(a)
			n, okB := parseNumber(b)
			if got, want := m.compare(n), i-j; !okA || !okB || got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Errorf("%s and %s compare as %d", a, b, got)
			}
		}
	}
	for _, s := range []string{"", " 1", "1 ", "nan", "inf", "0x10", "1_000", "--1", "1.2.3", "e", "-", ".", "1e999", strings.Repeat("1", 65), "१"} {
		if n, ok := parseNumber(s); ok {
			t.Errorf("%q is the number %+v", s, n)
		}
	}
}

// rowsOf makes views of rows.
func viewsOf(t *testing.T, rows ...string) []*view {
	t.Helper()
	var list []*view
	for _, r := range rows {
		var parser fastjson.Parser
		v := &view{node: Node{ID: "n"}}
		err := v.each(&parser, []byte("["+r+"]"), func(v *view) error { row := *v; list = append(list, &row); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func TestColumns(t *testing.T) {
	t.Parallel()
	declared := []policy.ResultColumn{{Name: "a", Type: policy.Integer}, {Name: "b", Type: policy.Unknown}, {Name: "a", Type: policy.Text}, {Name: "d", Type: policy.Double}}
	tests := []struct {
		rows []string
		want []Column
	}{
		{nil, []Column{{"a", policy.Text}, {"b", policy.Text}, {"d", policy.Double}}},
		{[]string{`{"b":"1","a":"2"}`, `{"b":"","a":"3"}`}, []Column{{"a", policy.Integer}, {"b", policy.Integer}}},
		{[]string{`{"a":"x","b":"1"}`, `{"b":"2.5"}`}, []Column{{"a", policy.Text}, {"b", policy.Double}}},
		{[]string{`{"b":"1"}`, `{"b":"one"}`, `{"b":"2"}`, `{"new":"5","x":"y"}`, `{"x":"1","new":"6"}`}, []Column{{"b", policy.Text}, {"new", policy.Integer}, {"x", policy.Text}}},
		{[]string{`{"b":""}`}, []Column{{"b", policy.Text}}},
		{[]string{`{"\u0061":"1","d":"no number"}`}, []Column{{"a", policy.Integer}, {"d", policy.Double}}},
		{[]string{`{"a":"1","a":"x"}`}, []Column{{"a", policy.Text}}},
	}
	for _, tt := range tests {
		c := newColumns(declared)
		for _, v := range viewsOf(t, tt.rows...) {
			c.add(v)
		}
		if d := cmp.Diff(tt.want, c.list()); d != "" {
			t.Errorf("%v (-want +got):\n%s", tt.rows, d)
		}
	}
}

// TestColumns_many: names come from agents, and are not kept without end.
func TestColumns_many(t *testing.T) {
	t.Parallel()
	c := newColumns(nil)
	var row strings.Builder
	row.WriteByte('{')
	for i := range 3 * maxColumns {
		if i > 0 {
			row.WriteByte(',')
		}
		row.WriteString(`"` + strings.Repeat("c", 1+i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + `":"1"`)
	}
	row.WriteString(`,"` + strings.Repeat("w", maxColumnName+1) + `":"1"}`)
	for range 2 {
		for _, v := range viewsOf(t, row.String(), `{"a":"1"}`) {
			c.add(v)
		}
	}
	if n := len(c.list()); n > maxColumns || n < 100 {
		t.Errorf("%d columns", n)
	}
}

// TestTop: the first of many are those that sorting all of them gives, however
// they come.
func TestTop(t *testing.T) {
	t.Parallel()
	values := []string{"", "x", "10", "9", "-1", "1e3", "y", "10", "zz", "0.5"}
	for _, desc := range []bool{false, true} {
		for _, numbers := range []bool{false, true} {
			a := Ask{Sort: "a", Desc: desc, Limit: 1000}
			offered := func(limit int, reverse bool) *top {
				a.Limit = limit
				var places []place
				for i := range 100 {
					value := values[(i*7)%len(values)]
					if _, ok := parseNumber(value); numbers && !ok {
						value = ""
					}
					places = append(places, place{value: value, found: i%11 != 0, node: Node{ID: string(rune('a' + i%5))}, index: i})
				}
				if reverse {
					slices.Reverse(places)
				}
				tops := a.tops(nil)
				for _, p := range places {
					tops.offer(p)
				}
				return tops.best()
			}
			all := offered(1000, false).sorted()
			for _, limit := range []int{1, 2, 17, 99, 100} {
				for _, reverse := range []bool{false, true} {
					got := offered(limit, reverse)
					if got.numeric != numbers || got.more != (limit < 100) || !slices.Equal(got.sorted(), all[:limit]) {
						t.Errorf("the first %d of %d, desc %v, numbers %v: numeric %v, more %v", limit, len(all), desc, numbers, got.numeric, got.more)
					}
				}
			}
		}
	}
}

// rows is a store of one node.
type rows string

func (r rows) LiveTargets(_ context.Context, _ string, _ []live.State, after string, _ int) ([]live.Target, error) {
	if after >= "n" {
		return nil, nil
	}
	return []live.Target{{NodeID: "n", State: live.Answered}}, nil
}

func (r rows) LiveRows(_ context.Context, _ string, nodes []string, yield func(int, []byte) error) error {
	if slices.Equal(nodes, []string{"n"}) {
		return yield(0, []byte(r))
	}
	return nil
}

// FuzzPage: whatever a cursor and rows hold, a page is one or an error of the
// caller's.
func FuzzPage(f *testing.F) {
	data := rows(`[{"a":"1","b":"x"},{"a":"2"},{"a":"","b":"y"},{"a":"2","b":"z"}]`)
	first := Ask{Sort: "a", Limit: 2, Total: 4}
	page, err := NewReader(data).Page(f.Context(), "q", first)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page.Next, "a", false)
	f.Add("", "b", true)
	f.Add("e30", "", false)
	f.Add("eyJpIjotNSwibyI6Im4ifQ", "", false)
	f.Fuzz(func(t *testing.T, cursor, sort string, desc bool) {
		page, err := NewReader(data).Page(t.Context(), "q", Ask{Sort: sort, Desc: desc, Limit: 2, Total: 4, Cursor: cursor})
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatal(err)
		}
		if len(page.Rows) > 2 {
			t.Errorf("%d rows", len(page.Rows))
		}
	})
}
