package condition

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// Template is a text with values of an event in it, as
//
//	{{columns.name}} listens on {{columns.port}} of {{node.hostname}}
//
// Between the braces is an expression that gives a text or a number; there is
// nothing else, as loops or code. It never changes: safe for concurrent use.
type Template struct {
	parts   []part
	columns []string
}

// part is a text as it is, then a value, or nil.
type part struct {
	text  string
	value *Value
}

// Limits of a template and of what comes out.
const (
	maxTemplate = 8 << 10
	maxParts    = 64
)

// missing stands for what an event does not have.
const missing = "-"

// ParseTemplate reads a template. The error is about the given field.
func ParseTemplate(field, text string) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, errs.Field(field, "has over %d bytes", maxTemplate)
	}
	t := &Template{}
	for {
		before, rest, ok := strings.Cut(text, "{{")
		if !ok {
			t.parts = append(t.parts, part{text: before})
			return t, nil
		}
		expression, rest, ok := strings.Cut(rest, "}}")
		if !ok {
			return nil, errs.Field(field, "has {{ without }}")
		}
		v, err := CompileValue(field, expression)
		if err != nil {
			return nil, err
		}
		if t.parts = append(t.parts, part{before, v}); len(t.parts) > maxParts {
			return nil, errs.Field(field, "has over %d values", maxParts)
		}
		t.columns = append(t.columns, v.columns...)
		text = rest
	}
}

// Columns returns the names of the columns that it looks at.
func (t *Template) Columns() []string { return t.columns }

// Render fills in the values of an event, each cut after so many characters, and
// the whole after another number. What a host wrote comes out as one line that
// commands neither a terminal nor the direction of text; what is missing as "-".
func (t *Template) Render(e *Event, each, whole int) string {
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.text)
		if p.value == nil {
			continue
		}
		s, ok := p.value.Of(e)
		if !ok {
			s = missing
		}
		b.WriteString(Clean(s, each))
	}
	return cut(b.String(), whole)
}

// Clean returns a text of a host for people to read: at most so many characters,
// with control characters, and those that turn the direction of text or are not
// seen, each shown as U+FFFD; breaks of lines and tabs are spaces.
func Clean(s string, most int) string {
	s = cut(s, most)
	if !strings.ContainsFunc(s, commands) && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case commands(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

func commands(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// cut shortens a text to so many characters, the last of them an ellipsis.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := 0
	end := 0
	for i := range s {
		if n == most-1 {
			end = i
		}
		if n++; n > most {
			return s[:end] + "…"
		}
	}
	return s
}
