package event

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/musterhq/muster/internal/errs"
)

// Filter says which events are wanted. Zero fields do not restrict.
type Filter struct {
	Query  string // exact name, or a prefix when it ends with *
	NodeID string
	Action string
	Since  time.Time // inclusive, by Event.Time
	Until  time.Time // exclusive
	Where  []Condition
	// Limit is the most events returned; the newest come first.
	Limit int
	// Before continues a search: only events older than this position.
	Before Position
}

// Position is where a page of a search ended: newest first, by time, then by
// place in the stream. The zero value is before everything.
type Position struct {
	Time  time.Time
	Seq   uint64
	Index uint32
}

// IsZero reports whether p is the start of a search.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the form that ParsePosition reads, for use as a cursor.
func (p Position) String() string {
	return fmt.Sprintf("%d-%d-%d", p.Time.UnixMicro(), p.Seq, p.Index)
}

// ParsePosition reads what String wrote; "" is the zero position.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	var micros int64
	var p Position
	if n, err := fmt.Sscanf(s, "%d-%d-%d", &micros, &p.Seq, &p.Index); n != 3 || err != nil {
		return Position{}, errs.Field("cursor", "is not one that a search returned")
	}
	p.Time = time.UnixMicro(micros).UTC()
	if p.String() != s {
		return Position{}, errs.Field("cursor", "is not one that a search returned")
	}
	return p, nil
}

// Position returns where the record stands in a search.
func (r Record) Position() Position {
	return Position{Time: r.Time, Seq: r.Seq, Index: r.Index}
}

// After reports whether p comes after q in a search, which is newest first.
func (p Position) After(q Position) bool {
	if !p.Time.Equal(q.Time) {
		return p.Time.Before(q.Time)
	}
	if p.Seq != q.Seq {
		return p.Seq < q.Seq
	}
	return p.Index < q.Index
}

// Op compares a column with a value.
type Op string

// The operators. All but the last take a value. Less and its like compare as
// numbers when both sides are numbers, else as text.
const (
	Equal        Op = "="
	NotEqual     Op = "!="
	Less         Op = "<"
	LessEqual    Op = "<="
	Greater      Op = ">"
	GreaterEqual Op = ">="
	Contains     Op = "contains"
	Prefix       Op = "prefix"
	Exists       Op = "exists"
)

// Condition is one test of a column. An event without the column passes none,
// not even NotEqual.
type Condition struct {
	Column string
	Op     Op
	Value  string
}

// Match reports whether a column's value passes; found says whether the event
// has the column.
func (c Condition) Match(value string, found bool) bool {
	if !found {
		return false
	}
	switch c.Op {
	case Equal:
		return value == c.Value
	case NotEqual:
		return value != c.Value
	case Contains:
		return strings.Contains(value, c.Value)
	case Prefix:
		return strings.HasPrefix(value, c.Value)
	case Exists:
		return true
	case Less:
		return compare(value, c.Value) < 0
	case LessEqual:
		return compare(value, c.Value) <= 0
	case Greater:
		return compare(value, c.Value) > 0
	case GreaterEqual:
		return compare(value, c.Value) >= 0
	}
	return false
}

func compare(a, b string) int {
	m, errA := strconv.ParseInt(a, 10, 64)
	n, errB := strconv.ParseInt(b, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Compare(m, n) // exact, also beyond 2^53
	}
	x, okA := number(a)
	y, okB := number(b)
	if !okA || !okB {
		return strings.Compare(a, b)
	}
	return cmp.Compare(x, y)
}

// number reads a decimal number. A word that Go takes for one, as nan, inf or
// 0x1p4, is text.
func number(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// maxConditions bounds what one search has to evaluate per event.
const maxConditions = 16

// ParseWhere reads conditions joined by "and":
//
//	path = "/usr/bin/ssh" and pid > 100 and cmdline contains 'curl http'
//	sha256 exists
//
// Values may be bare words or quoted with ' or "; a quote inside is doubled.
// The empty text has no conditions.
func ParseWhere(text string) ([]Condition, error) {
	words, err := lex(text)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	var conditions []Condition
	for {
		var c Condition
		if c, words, err = parseCondition(words); err != nil {
			return nil, err
		}
		conditions = append(conditions, c)
		if len(words) == 0 {
			return conditions, nil
		}
		if len(conditions) == maxConditions {
			return nil, errs.Field("where", "has more than %d conditions", maxConditions)
		}
		if words[0].quoted || !strings.EqualFold(words[0].text, "and") {
			return nil, errs.Field("where", "expected \"and\" before %q; conditions are joined by and", words[0].text)
		}
		words = words[1:]
	}
}

func parseCondition(words []word) (Condition, []word, error) {
	if len(words) < 2 {
		return Condition{}, nil, errs.Field("where", "is incomplete; write a column, an operator and a value, as in path = \"/bin/sh\"")
	}
	if w := words[0]; w.text == "" || (!w.quoted && strings.Trim(w.text, "=!<>") == "") {
		return Condition{}, nil, errs.Field("where", "%q is no column; write a column, an operator and a value", w.text)
	}
	c := Condition{Column: words[0].text, Op: Op(strings.ToLower(words[1].text))}
	switch {
	case words[1].quoted:
		c.Op = "" // a text is none
	case c.Op == "==":
		c.Op = Equal
	}
	switch c.Op {
	case Exists:
		return c, words[2:], nil
	case Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, Contains, Prefix:
	default:
		return c, nil, errs.Field("where", "%q is no operator; use = != < <= > >= contains prefix exists", words[1].text)
	}
	if len(words) < 3 {
		return c, nil, errs.Field("where", "%s %s needs a value", c.Column, c.Op)
	}
	c.Value = words[2].text
	return c, words[3:], nil
}

type word struct {
	text   string
	quoted bool
}

// lex splits into words, quoted texts and operators.
func lex(s string) ([]word, error) {
	var words []word
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		switch {
		case s == "":
			return words, nil
		case s[0] == '"' || s[0] == '\'':
			text, rest, ok := unquote(s)
			if !ok {
				return nil, errs.Field("where", "a %c is not closed", s[0])
			}
			words, s = append(words, word{text, true}), rest
		case strings.IndexByte("=!<>", s[0]) >= 0:
			n := 1
			if len(s) > 1 && s[1] == '=' {
				n = 2
			}
			words, s = append(words, word{s[:n], false}), s[n:]
		default:
			n := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("=!<>\"'", r) })
			if n < 0 {
				n = len(s)
			}
			words, s = append(words, word{s[:n], false}), s[n:]
		}
	}
}

func unquote(s string) (text, rest string, ok bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}

// Summary sums up the events of one query.
type Summary struct {
	Query string
	Count int64
	Last  time.Time
}

// Bucket counts events that began within a span of time.
type Bucket struct {
	Start time.Time
	Count int64
}

// Stats is what a search engine holds.
type Stats struct {
	Events   int64
	Bytes    int64 // on disk
	Segments int
	Oldest   time.Time // by arrival; zero when there is nothing
}
