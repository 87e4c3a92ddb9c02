package node

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// Where is an expression over a node's tags and attributes, as
//
//	tag = web and platform = linux and not hostname = "db-*"
//	osquery_version >= 5.10 or system_info.hardware_vendor in (Dell, "HP*")
//
// Attributes are tag, id, host_identifier, hostname, platform, os,
// osquery_version, secret, and what the agent said when it enrolled, as
// table.column. Values are compared without case; * and ? in them match any
// text and any letter. <, <=, > and >= compare numbers and versions. An
// attribute that a node does not have equals nothing. "all" means every node,
// "none" no node.
//
// The zero Where means no node. It never changes: safe for concurrent use.
type Where struct {
	text string
	root test
	keys []string // attributes that it looks at, sorted
	tags []pattern
}

// Limits of an expression: it is evaluated for every node.
const (
	maxWhere      = 4 << 10
	maxWhereTests = 128
	maxWhereDepth = 32
)

// ParseWhere reads an expression. The empty text is an error: whom it means
// must be said.
func ParseWhere(field, text string) (Where, error) {
	if len(text) > maxWhere {
		return Where{}, errs.Field(field, "has over %d characters", maxWhere)
	}
	tokens, err := lexWhere(field, text)
	if err != nil {
		return Where{}, err
	}
	if len(tokens) == 0 {
		return Where{}, errs.Field(field, `is empty; write who is meant, as all, tag = web, or platform = linux and hostname = "db-*"`)
	}
	p := &whereParser{field: field, tokens: tokens}
	root, err := p.or(0)
	if err != nil {
		return Where{}, err
	}
	if len(p.tokens) > 0 {
		return Where{}, p.unexpected("and, or, or the end")
	}
	slices.Sort(p.keys)
	return Where{text: text, root: root, keys: slices.Compact(p.keys), tags: p.tags}, nil
}

// String returns the text that it was made from.
func (w Where) String() string { return w.text }

// Keys returns the attributes that it looks at, sorted. "all" has none.
func (w Where) Keys() []string { return w.keys }

// LooksAtTag reports whether it compares tags with that one.
func (w Where) LooksAtTag(tag string) bool {
	return slices.ContainsFunc(w.tags, func(p pattern) bool { return p.fits("=", tag) })
}

// Match reports whether a node is meant.
func (w Where) Match(n *Identity) bool { return w.root != nil && w.root.match(n) }

// test is a node of the parsed expression.
type test interface{ match(n *Identity) bool }

type (
	always  bool
	both    struct{ a, b test }
	either  struct{ a, b test }
	negated struct{ test }
	// compared passes if any of the attribute's values does; a tag has many.
	compared struct {
		key    string
		detail string // as detailKey gives it; "" for what is no table.column
		op     string
		values []pattern
	}
)

func (t always) match(*Identity) bool    { return bool(t) }
func (t both) match(n *Identity) bool    { return t.a.match(n) && t.b.match(n) }
func (t either) match(n *Identity) bool  { return t.a.match(n) || t.b.match(n) }
func (t negated) match(n *Identity) bool { return !t.test.match(n) }

func (t compared) match(n *Identity) bool {
	if t.key == "tag" {
		return slices.ContainsFunc(n.Tags, t.fits)
	}
	if t.detail != "" {
		v, ok := n.Details.get(t.detail)
		return ok && t.fits(v)
	}
	v, ok := n.Attribute(t.key)
	return ok && t.fits(v)
}

func (t compared) fits(v string) bool {
	v = strings.ToLower(v)
	return slices.ContainsFunc(t.values, func(p pattern) bool { return p.fits(t.op, v) })
}

// newCompared returns a test of an attribute.
func newCompared(key, op string, values ...string) compared {
	c := compared{key: key, op: op}
	if strings.Contains(key, ".") {
		c.detail = detailKey(key)
	}
	for _, v := range values {
		c.values = append(c.values, newPattern(v))
	}
	return c
}

// pattern is a value, folded to lower case.
type pattern struct {
	text    string
	glob    bool
	version []uint64 // nil if it is none
}

func newPattern(s string) pattern {
	version, _ := appendVersion(nil, s)
	return pattern{strings.ToLower(s), strings.ContainsAny(s, "*?"), version}
}

// fits compares with a value that is in lower case too.
func (p pattern) fits(op, v string) bool {
	if op == "=" {
		return p.text == v || p.glob && glob(p.text, v)
	}
	order, ok := compareVersion(v, p.version)
	if !ok {
		return false
	}
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// glob matches * and ?. It takes at most as many steps as the lengths multiplied:
// what the last star stands for is all that it tries again.
func glob(p, s string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(p) && p[j] == '*':
			star, mark = j, i
			j++
		case j < len(p) && p[j] == '?':
			i, j = i+letter(s[i:]), j+1
		case j < len(p) && p[j] == s[i]:
			i, j = i+1, j+1
		case star >= 0:
			mark += letter(s[mark:])
			i, j = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(p[j:], "*") == ""
}

// letter returns how many bytes the first letter has.
func letter(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// compareVersion compares dotted numbers; missing parts count as 0. What follows
// the numbers, as in 5.10.2-rc1, is left out.
func compareVersion(v string, with []uint64) (order int, ok bool) {
	var room [8]uint64 // on the stack
	parts, ok := appendVersion(room[:0], v)
	if !ok {
		return 0, false
	}
	for i := range max(len(parts), len(with)) {
		var a, b uint64
		if i < len(parts) {
			a = parts[i]
		}
		if i < len(with) {
			b = with[i]
		}
		if a != b {
			return cmp.Compare(a, b), true
		}
	}
	return 0, true
}

// CompareVersions orders two versions by the numbers at their beginning, a missing
// one being 0: 5.9 is before 5.10.1; false if one of them has none.
func CompareVersions(a, b string) (order int, ok bool) {
	with, ok := appendVersion(nil, b)
	if !ok {
		return 0, false
	}
	return compareVersion(a, with)
}

func appendVersion(parts []uint64, s string) ([]uint64, bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		s = s[:end]
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return nil, false
		}
		parts = append(parts, n)
	}
	return parts, true
}

type whereParser struct {
	field  string
	tokens []whereToken
	keys   []string
	tags   []pattern
	tests  int
}

// whereToken is a word, a quoted text, or a sign.
type whereToken struct {
	text   string
	quoted bool
	at     int // character, from 1
}

func (p *whereParser) peek() whereToken {
	if len(p.tokens) == 0 {
		return whereToken{}
	}
	return p.tokens[0]
}

// take takes the next token if it is that word or sign.
func (p *whereParser) take(words ...string) bool {
	t := p.peek()
	if !t.quoted && t.text != "" && slices.Contains(words, strings.ToLower(t.text)) {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *whereParser) unexpected(want string) error {
	t := p.peek()
	if t.at == 0 {
		return errs.Field(p.field, "ends where %s is expected", want)
	}
	return errs.Field(p.field, "has %q at character %d where %s is expected", t.text, t.at, want)
}

func (p *whereParser) or(depth int) (test, error) {
	left, err := p.and(depth)
	for err == nil && p.take("or") {
		var right test
		right, err = p.and(depth)
		left = either{left, right}
	}
	return left, err
}

func (p *whereParser) and(depth int) (test, error) {
	left, err := p.unary(depth)
	for err == nil && p.take("and") {
		var right test
		right, err = p.unary(depth)
		left = both{left, right}
	}
	return left, err
}

func (p *whereParser) unary(depth int) (test, error) {
	if p.tests++; depth > maxWhereDepth || p.tests > maxWhereTests {
		return nil, errs.Field(p.field, "has over %d tests or %d levels; use tags for large groups", maxWhereTests, maxWhereDepth)
	}
	switch {
	case p.take("not"):
		t, err := p.unary(depth + 1)
		return negated{t}, err
	case p.take("("):
		t, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = p.unexpected(")")
		}
		return t, err
	}
	return p.term()
}

func (p *whereParser) term() (test, error) {
	key := p.peek()
	if key.quoted || key.at == 0 || !isWhereWord(key.text) {
		return nil, p.unexpected("an attribute, as tag or platform")
	}
	p.tokens = p.tokens[1:]
	name := strings.ToLower(key.text)
	op := p.peek()
	if compares := !op.quoted && op.text != "" && strings.Contains("=!<>", op.text[:1]); !compares && (name == "all" || name == "none") {
		return always(name == "all"), nil
	}
	if !KnownAttribute(name) {
		return nil, errs.Field(p.field, "has %q at character %d, which is no attribute; there are %s, and table.column of the enrolment, as system_info.hardware_vendor", key.text, key.at, strings.Join(attributeNames(), ", "))
	}
	p.keys = append(p.keys, name)
	switch {
	case p.take("in"):
		return p.list(name)
	case p.take("not"):
		if !p.take("in") {
			return nil, p.unexpected("in")
		}
		t, err := p.list(name)
		return negated{t}, err
	}
	for _, sign := range []string{"=", "!=", "<=", "<", ">=", ">"} {
		if p.take(sign) {
			return p.comparison(name, sign)
		}
	}
	return nil, p.unexpected("=, !=, <, <=, >, >= or in")
}

func (p *whereParser) comparison(key, sign string) (test, error) {
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if sign == "!=" {
		return negated{newCompared(key, "=", v)}, nil
	}
	if _, ok := appendVersion(nil, v); !ok && sign != "=" {
		return nil, errs.Field(p.field, "compares %s with %q, which is no number and no version", key, v)
	}
	return newCompared(key, sign, v), nil
}

func (p *whereParser) list(key string) (test, error) {
	if !p.take("(") {
		return nil, p.unexpected("(")
	}
	var values []string
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.take(")") {
			return newCompared(key, "=", values...), nil
		}
		if !p.take(",") {
			return nil, p.unexpected(", or )")
		}
	}
}

func (p *whereParser) value() (string, error) {
	t := p.peek()
	if t.at == 0 || !t.quoted && !isWhereWord(t.text) {
		return "", p.unexpected("a value")
	}
	p.tokens = p.tokens[1:]
	if p.keys[len(p.keys)-1] == "tag" {
		p.tags = append(p.tags, newPattern(t.text))
	}
	return t.text, nil
}

const whereSigns = "=!<>(),"

func isWhereWord(s string) bool { return s != "" && !strings.ContainsAny(s[:1], whereSigns) }

func lexWhere(field, text string) ([]whereToken, error) {
	var tokens []whereToken
	runes := []rune(text)
	for i := 0; i < len(runes); {
		r := runes[i]
		switch {
		case unicode.IsSpace(r):
			i++
		case r == '"' || r == '\'':
			s, n := quotedText(runes[i:])
			if n == 0 {
				return nil, errs.Field(field, "has a quote at character %d that does not end", i+1)
			}
			tokens = append(tokens, whereToken{s, true, i + 1})
			i += n
		case strings.ContainsRune(whereSigns, r):
			n := 1
			if strings.ContainsRune("!<>", r) && i+1 < len(runes) && runes[i+1] == '=' {
				n = 2
			}
			tokens = append(tokens, whereToken{string(runes[i : i+n]), false, i + 1})
			i += n
		case unicode.IsControl(r):
			return nil, errs.Field(field, "has a control character at character %d", i+1)
		default:
			n := slices.IndexFunc(runes[i:], func(r rune) bool {
				return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(whereSigns+`"'`, r)
			})
			if n < 0 {
				n = len(runes) - i
			}
			tokens = append(tokens, whereToken{string(runes[i : i+n]), false, i + 1})
			i += n
		}
	}
	return tokens, nil
}

// quotedText reads a quoted text, in which a doubled quote is one, and returns
// its length with the quotes; 0 if it does not end.
func quotedText(runes []rune) (string, int) {
	var b strings.Builder
	for i := 1; i < len(runes); i++ {
		if runes[i] != runes[0] {
			b.WriteRune(runes[i])
			continue
		}
		if i+1 < len(runes) && runes[i+1] == runes[0] {
			b.WriteRune(runes[i])
			i++
			continue
		}
		return b.String(), i + 1
	}
	return "", 0
}

// attributeNames are those that are no columns of the enrolment.
func attributeNames() []string {
	return []string{"tag", "id", "host_identifier", "hostname", "platform", "os", "osquery_version", "secret"}
}

// The tables that an agent sends rows of when it enrols
// (osquery/remote/enroll/enroll.cpp).
func detailTables() []string {
	return []string{"os_version", "osquery_info", "platform_info", "system_info"}
}

// KnownAttribute reports whether nodes may have an attribute of that name; see Where.
func KnownAttribute(name string) bool {
	table, column, ok := strings.Cut(name, ".")
	return slices.Contains(attributeNames(), name) || ok && column != "" && slices.Contains(detailTables(), table)
}

// Attribute returns a value by its name in expressions; false if the node has
// none. Tags are not among them.
func (i *Identity) Attribute(name string) (string, bool) {
	switch name {
	case "id":
		return i.ID, true
	case "host_identifier":
		return i.HostIdentifier, true
	case "hostname":
		return i.Hostname, true
	case "platform":
		return i.Platform, i.Platform != ""
	case "os":
		return i.OS, i.OS != ""
	case "osquery_version":
		return i.OsqueryVersion, i.OsqueryVersion != ""
	case "secret":
		return i.Secret, i.Secret != ""
	}
	return i.Details.Get(name)
}

// Details are what an agent said of its host when it enrolled, packed: a node
// has some forty of them, and a server many nodes. The zero value is none.
type Details string

// Limits of Details, which are in memory for every node. An agent sends some
// 1,500 bytes; what is over is left out.
const (
	maxDetails     = 4 << 10
	maxDetailValue = 256
)

// PackDetails packs rows by table and column, in the order of their names. Long
// values are cut.
func PackDetails(tables map[string]map[string]string) Details {
	var b strings.Builder
	for _, table := range detailTables() {
		row := tables[table]
		columns := make([]string, 0, len(row))
		for column := range row {
			columns = append(columns, column)
		}
		slices.SortFunc(columns, cmp.Compare[string])
		for _, column := range columns {
			if strings.ContainsAny(column, "\x00\x01") {
				continue // no column of osquery's
			}
			value := strings.ReplaceAll(row[column], "\x00", " ")
			if len(value) > maxDetailValue {
				value = strings.ToValidUTF8(value[:maxDetailValue], "")
			}
			if entry := detailKey(table+"."+column) + value; b.Len()+len(entry) < maxDetails {
				b.WriteString(entry)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return Details(b.String() + "\x00")
}

// Get returns the value of table.column; false if there is none.
func (d Details) Get(name string) (string, bool) { return d.get(detailKey(name)) }

// detailKey is what stands before the value of table.column.
func detailKey(name string) string { return "\x00" + name + "\x01" }

func (d Details) get(key string) (string, bool) {
	_, rest, ok := strings.Cut(string(d), key)
	if !ok {
		return "", false
	}
	value, _, _ := strings.Cut(rest, "\x00")
	return value, true
}
