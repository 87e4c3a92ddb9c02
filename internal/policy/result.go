package policy

import (
	"strings"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// ColumnType is what the values of a result's column are.
type ColumnType string

// The types. osquery sends every value as text; the type says how to read it.
const (
	Text    ColumnType = "text"
	Integer ColumnType = "integer"
	Double  ColumnType = "double"
	// Unknown is that of an expression, which SQLite gives none: its values tell.
	Unknown ColumnType = ""
)

// ResultColumn is one column of what a SELECT returns.
type ResultColumn struct {
	Name string     `json:"name"` // as agents call it in a row
	Type ColumnType `json:"type"`
	// Table and Column are where its values come from; "" for an expression. Of a
	// UNION they and the type are those of one part.
	Table  string `json:"table,omitempty"`
	Column string `json:"column,omitempty"`
}

// Result returns the columns that a text yields, in their order; nil if the
// text is not understood. The names of two may be the same: agents send one of
// them. With SELECT * they are those of all platforms, of which a node has some.
func (e *Engine) Result(sql string) []ResultColumn {
	a := e.analysis(Query{SQL: sql, Use: Live})
	if a.readable() {
		a.prepare()
	}
	if a.broken {
		return nil
	}
	return a.result
}

func columnNames(columns []ResultColumn) []string {
	names := make([]string, 0, len(columns))
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return names
}

// resultColumn asks a prepared statement for one of its columns.
func (s *session) resultColumn(statement uintptr, i int32) ResultColumn {
	c := ResultColumn{
		Name:   libc.GoString(lib.Xsqlite3_column_name(s.tls, statement, i)),
		Type:   columnType(goString(lib.Xsqlite3_column_decltype(s.tls, statement, i))),
		Column: goString(lib.Xsqlite3_column_origin_name(s.tls, statement, i)),
	}
	if t := s.catalog.table(goString(lib.Xsqlite3_column_table_name(s.tls, statement, i))); t != nil {
		c.Table = t.name
	}
	return c
}

// columnType reads a declared type: those of osquery's schema, as declaration
// writes them.
func columnType(declared string) ColumnType {
	switch strings.ToUpper(declared) {
	case "":
		return Unknown
	case "INTEGER", "BIGINT", "UNSIGNED BIGINT":
		return Integer
	case "DOUBLE":
		return Double
	default: // TEXT, DATETIME, BLOB
		return Text
	}
}
