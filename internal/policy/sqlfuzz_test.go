package policy

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	_ "modernc.org/sqlite"
)

// judgeWithin judges a text and checks what every verdict promises.
func judgeWithin(t *testing.T, e *Engine, text string) Verdict {
	t.Helper()
	// Generous: it is to find what hangs, on any machine. A prepared text takes
	// a tenth of a millisecond, the worst known one 50.
	const hangs = 20 * time.Second
	done := make(chan Verdict, 1)
	go func() { done <- e.Query(Query{SQL: text}) }()
	var v Verdict
	select {
	case v = <-done:
	case <-time.After(hangs):
		t.Fatalf("hangs: %q", text)
	}
	highest := Harmless
	for _, r := range v.Reasons {
		highest = max(highest, r.Tier)
		if r.Why == "" || r.Tier == Harmless {
			t.Errorf("%q: reason %+v", text, r)
		}
	}
	if v.Tier != highest {
		t.Errorf("%q: tier %v, reasons %+v", text, v.Tier, v.Reasons)
	}
	if !v.Provable() && v.Tier != Dangerous {
		t.Errorf("%q: not understood, and tier %v", text, v.Tier)
	}
	lines := strings.Count(text, "\n") + 1
	for _, f := range v.Findings {
		if f.Line > lines || f.Column > utf8.RuneCountInString(text)+1 || !utf8.ValidString(f.Message) || len(f.Message) > 4096 {
			t.Errorf("%q: finding %+v", text, f)
		}
	}
	for _, c := range v.Columns {
		name, _, _ := strings.Cut(c, ".")
		if !slices.Contains(v.Tables, name) {
			t.Errorf("%q: column %s without its table", text, c)
		}
	}
	return v
}

// harmlessOnly is another SQLite, through the driver and with plain tables,
// that has only the tables that are not dangerous. A text that is allowed can
// be compiled there, or fails for another reason than a missing table.
func harmlessOnly(tb testing.TB, e *Engine) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	tb.Cleanup(func() { _ = db.Close() })
	for _, t := range e.catalog.tables {
		if t.risk.Tier == Dangerous {
			continue
		}
		var columns []string
		for _, c := range t.columns {
			columns = append(columns, quoteName(c.Name)+" TEXT")
		}
		for _, name := range append([]string{t.name}, t.aliases...) {
			if _, err := db.Exec(fmt.Sprintf("CREATE TABLE %s (%s)", quoteName(name), strings.Join(columns, ","))); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return db
}

// missing returns the dangerous table that a text needs in the other SQLite;
// "" if it needs none.
func missing(db *sql.DB, e *Engine, text string) string {
	statement, err := db.Prepare("EXPLAIN " + strings.TrimPrefix(text, "\ufeff"))
	if err != nil {
		return ""
	}
	defer statement.Close()
	rows, err := statement.Query()
	if err == nil {
		defer rows.Close()
		err = rows.Err()
	}
	if err == nil {
		return ""
	}
	_, name, ok := strings.Cut(err.Error(), "no such table: ")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(name, " (")
	name = name[strings.LastIndexByte(name, '.')+1:]
	if t := e.catalog.table(name); t != nil {
		return t.name
	}
	return ""
}

func FuzzQuery(f *testing.F) {
	for _, file := range []string{"testdata/hostile.txt", "testdata/harmless.txt"} {
		for _, c := range readCorpus(f, file) {
			if len(c.sql) < 1000 {
				f.Add(c.sql)
			}
		}
	}
	e := newEngine(f, Rules{})
	db := harmlessOnly(f, e)
	f.Fuzz(func(t *testing.T, text string) {
		v := judgeWithin(t, e, text)
		if !v.Allowed(Sensitive) {
			return
		}
		if name := missing(db, e, text); name != "" {
			t.Errorf("%q is allowed and reads %s", text, name)
		}
	})
}

// writer makes SELECTs out of bytes, knowing what they use.
type writer struct {
	data   []byte
	used   map[string]bool // tables and functions that the text needs
	tables []string
	depth  int
	names  int
}

// pick returns a number below n from the data; 0 when there is no more.
func (w *writer) pick(n int) int {
	if len(w.data) == 0 {
		return 0
	}
	b := int(w.data[0])
	w.data = w.data[1:]
	return b % n
}

func (w *writer) one(of ...string) string { return of[w.pick(len(of))] }

func (w *writer) space() string {
	return w.one(" ", "\n", "\t", "/**/", "/* FROM users */ ", "--;\n", " \r\n", "\f")
}

func (w *writer) name() string {
	w.names++
	return fmt.Sprintf("n%d", w.names)
}

// table writes a table's name in one of its spellings.
func (w *writer) table() string {
	t := w.tables[w.pick(len(w.tables))]
	w.used[t] = true
	if w.pick(3) == 0 {
		t = strings.ToUpper(t)
	}
	t = w.one(t, `"`+t+`"`, "["+t+"]", "`"+t+"`", "main."+t, "temp.["+t+"]", "main"+w.space()+"."+w.space()+t)
	return t + " AS " + w.name()
}

// source writes one item of a FROM clause.
func (w *writer) source() string {
	w.depth++
	defer func() { w.depth-- }()
	kind := w.pick(5)
	if w.depth > 6 {
		kind = 0
	}
	switch kind {
	case 1:
		return "(" + w.query() + ") AS " + w.name()
	case 2:
		return "(" + w.from() + ")"
	}
	return w.table()
}

func (w *writer) from() string {
	text := w.source()
	for range w.pick(3) {
		text += w.one(" JOIN ", ",", " CROSS JOIN ", " LEFT JOIN ", " INNER JOIN ") + w.source()
	}
	if w.pick(4) == 1 {
		text += " JOIN " + w.source() + " ON " + w.expression()
	}
	return text
}

func (w *writer) expression() string {
	w.depth++
	defer func() { w.depth-- }()
	kind := w.pick(14)
	if w.depth > 6 {
		kind %= 2
	}
	switch kind {
	case 1:
		return w.one("1", "NULL", "'FROM curl'", "x'00'", "1.5", "'--'", "'/*'")
	case 2:
		return "(" + w.query() + ")"
	case 3:
		return w.one("EXISTS", "NOT EXISTS") + "(" + w.query() + ")"
	case 4:
		return "(" + w.expression() + ")" + w.one(" + ", " || ", " = ", " IS ", " < ", " OR ", " LIKE ") + "(" + w.expression() + ")"
	case 5:
		return "CASE WHEN " + w.expression() + " THEN " + w.expression() + " ELSE " + w.expression() + " END"
	case 6:
		return "(" + w.expression() + ") IN (" + w.expression() + "," + w.expression() + ")"
	case 7:
		return "(" + w.expression() + ") IN (" + w.query() + ")"
	case 8:
		w.used["sleep"] = true
		return w.one("sleep", "SLEEP", `"sleep"`, "[sleep]", "`Sleep`") + w.space() + "(" + w.expression() + ")"
	case 9:
		return "coalesce(" + w.expression() + "," + w.expression() + ")"
	case 10:
		return "CAST(" + w.expression() + " AS TEXT)"
	case 11:
		return "(" + w.expression() + ")"
	case 12:
		return "(" + w.expression() + ") COLLATE nocase"
	case 13:
		return "(" + w.expression() + ") BETWEEN (" + w.expression() + ") AND (" + w.expression() + ")"
	}
	return "2"
}

// query writes a SELECT of one column.
func (w *writer) query() string {
	w.depth++
	defer func() { w.depth-- }()
	if w.depth < 4 && w.pick(6) == 1 {
		name := w.name()
		return fmt.Sprintf("WITH %s(c) AS %s(%s) SELECT c FROM %s", name, w.one("", "MATERIALIZED ", "NOT MATERIALIZED "), w.query(), name)
	}
	text := w.selection()
	for w.depth < 5 && w.pick(5) == 1 {
		text += w.one(" UNION ", " UNION ALL ", " EXCEPT ", " INTERSECT ") + w.selection()
	}
	if w.pick(5) == 1 {
		text += " LIMIT (" + w.expression() + ")"
	}
	return text
}

func (w *writer) selection() string {
	text := w.one("SELECT", "select", "SeLeCt", "SELECT DISTINCT") + w.space() + w.expression() + w.space() + "FROM" + w.space() + w.from()
	if w.pick(2) == 1 {
		text += w.space() + "WHERE " + w.expression()
	}
	if w.pick(5) == 1 {
		text += " GROUP BY " + w.expression() + "+0 HAVING " + w.expression()
	}
	return text
}

// checkUses judges a text of which it is known what it uses, and reports
// whether the text was understood. It shares no code with the engine.
func checkUses(t *testing.T, e *Engine, tables []string, data []byte) bool {
	t.Helper()
	w := &writer{data: data, used: map[string]bool{}, tables: tables}
	text := w.query()
	v := judgeWithin(t, e, text)
	if !v.Provable() {
		if f := v.Findings[0]; f.Code != "too-complex" && f.Code != "too-long" {
			t.Errorf("%s: not understood: %+v", text, f)
		}
		return false
	}
	for name := range w.used {
		if !slices.Contains(v.Tables, name) && !slices.Contains(v.Functions, name) {
			t.Errorf("%s is not reported: %s\n%v %v", name, text, v.Tables, v.Functions)
		}
	}
	for _, name := range v.Tables {
		if !w.used[name] {
			t.Errorf("%s is reported and not used: %s", name, text)
		}
	}
	return true
}

func tableNames(e *Engine) []string {
	var names []string
	for _, t := range e.Tables() {
		names = append(names, t.Name)
	}
	return names
}

// TestUsesAreReported writes texts, always the same ones, and checks that all
// that they use is in the verdict.
func TestUsesAreReported(t *testing.T) {
	const texts, most = 5000, 120
	e := newEngine(t, Rules{})
	names := tableNames(e)
	random := rand.New(rand.NewPCG(1, 2))
	understood := 0
	for range texts {
		data := make([]byte, random.IntN(most))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if checkUses(t, e, names, data) {
			understood++
		}
		if t.Failed() {
			return // one is enough to read
		}
	}
	if understood < texts*9/10 {
		t.Errorf("only %d of %d texts were understood", understood, texts)
	}
}

func FuzzUsesAreReported(f *testing.F) {
	e := newEngine(f, Rules{})
	names := tableNames(e)
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkUses(t, e, names, data[:min(len(data), 400)])
	})
}

// FuzzLex checks that tokens and what is between them are the text again.
func FuzzLex(f *testing.F) {
	for _, file := range []string{"testdata/hostile.txt", "testdata/harmless.txt"} {
		for _, c := range readCorpus(f, file) {
			f.Add(c.sql)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, token := range lex(text) {
			if token.offset < end || token.raw == "" || text[token.offset:token.offset+len(token.raw)] != token.raw {
				t.Fatalf("%q: token %+v", text, token)
			}
			end = token.offset + len(token.raw)
		}
		if line, column := position(text, end); line < 1 || column < 1 {
			t.Fatalf("%q: %d:%d", text, line, column)
		}
		tokens := lex(text)
		sources(tokens)
		if n := expansion(tokens, ctes(tokens), nil, maxExpansion); n < 1 || n > maxExpansion {
			t.Fatalf("%q: expands to %d", text, n)
		}
		literals(tokens)
	})
}
