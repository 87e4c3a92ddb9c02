package main

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/osquery"
)

// tableStream prints rows while more come. The first rows decide how wide the
// columns are. On a terminal nothing is wider than it; elsewhere nothing is cut.
type tableStream struct {
	w      io.Writer
	width  int      // of the terminal; 0 for none
	lead   []string // heads of columns before those of the row
	names  []string // columns of the rows
	widths []int
	first  [][]string // rows that wait until the widths are known
	begun  bool       // the head is printed
	Rows   int
}

const (
	// tableFirst rows say well enough how wide columns are.
	tableFirst = 100
	tableGap   = 2
	// minCut is the least that is left of a cell.
	minCut = 6
)

// row takes one row. One with other columns than those before begins another
// head.
func (t *tableStream) row(lead []string, columns osquery.Row) error {
	t.Rows++
	unknown := slices.ContainsFunc(columns, func(c osquery.Column) bool { return !slices.Contains(t.names, c.Name) })
	if unknown {
		if t.begun {
			if _, err := io.WriteString(t.w, "\n"); err != nil {
				return err
			}
			t.begun, t.names = false, nil
		}
		for _, c := range columns {
			if !slices.Contains(t.names, c.Name) {
				t.names = append(t.names, c.Name)
			}
		}
	}
	cells := make([]string, 0, len(lead)+len(t.names))
	for _, s := range lead {
		cells = append(cells, printable(s))
	}
	for _, name := range t.names {
		value, _ := columns.Get(name)
		cells = append(cells, printable(value))
	}
	if t.begun {
		return t.print(cells)
	}
	t.first = append(t.first, cells)
	if len(t.first) >= tableFirst {
		return t.flush()
	}
	return nil
}

// flush prints the rows that wait.
func (t *tableStream) flush() error {
	if len(t.first) == 0 {
		return nil
	}
	head := slices.Concat(t.lead, t.names)
	for i, name := range head {
		head[i] = printable(name)
	}
	t.widths = make([]int, len(head))
	for _, cells := range append([][]string{head}, t.first...) {
		for i, s := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(s))
		}
	}
	if t.width > 0 {
		fit(t.widths, t.width)
	}
	t.begun = true
	if err := t.print(head); err != nil {
		return err
	}
	for _, cells := range t.first {
		if err := t.print(cells); err != nil {
			return err
		}
	}
	t.first = nil
	return nil
}

// print prints one line. A cell that is wider than its column widens it for
// good if the terminal has room.
func (t *tableStream) print(cells []string) error {
	var b strings.Builder
	for i, s := range cells {
		n := utf8.RuneCountInString(s)
		if n > t.widths[i] {
			n = t.widen(i, n)
			s = cutTo(s, n)
		}
		b.WriteString(s)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", t.widths[i]-n+tableGap))
		}
	}
	_, err := io.WriteString(t.w, strings.TrimRight(b.String(), " ")+"\n")
	return err
}

func (t *tableStream) widen(i, n int) int {
	if t.width > 0 {
		n = min(n, t.widths[i]+max(0, t.width-lineWidth(t.widths)))
	}
	t.widths[i] = max(t.widths[i], n)
	return t.widths[i]
}

func lineWidth(widths []int) int {
	sum := tableGap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// fit takes from the widest columns until a line fits.
func fit(widths []int, limit int) {
	for over := lineWidth(widths) - limit; over > 0; over = lineWidth(widths) - limit {
		widest := slices.Max(widths)
		if widest <= minCut {
			return
		}
		next, n := minCut, 0 // the widest but these, and how many these are
		for _, w := range widths {
			if w == widest {
				n++
			} else {
				next = max(next, w)
			}
		}
		less := min(widest-next, max(1, over/n))
		for i, w := range widths {
			if w == widest && over > 0 {
				widths[i] -= less
				over -= less
			}
		}
	}
}

// cutTo shortens s to n characters and shows that.
func cutTo(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	if n < 1 {
		return ""
	}
	return string(r[:n-1]) + "…"
}
