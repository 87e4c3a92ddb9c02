package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/osquery"
)

// completer completes SQL by osquery's schema.
type completer struct {
	tables map[string][]string // columns by name of the table
	names  []string            // of the tables, sorted
}

// newCompleter returns a completer of the tables of a platform; all of them if
// it is empty.
func newCompleter(schema []osquery.SchemaTable, platform string) *completer {
	c := &completer{tables: map[string][]string{}}
	for _, t := range schema {
		if platform != "" && !t.On(platform) {
			continue
		}
		var columns []string
		for _, col := range t.Columns {
			columns = append(columns, col.Name)
		}
		c.tables[t.Name] = columns
	}
	c.names = slices.Sorted(maps.Keys(c.tables))
	return c
}

// sqlToken is a word, a quoted text or one sign.
type sqlToken struct {
	text  string
	start int  // in bytes
	word  bool // an identifier or keyword, also a quoted one
	open  bool // a quoted text or comment that does not end
}

// sqlTokens splits a text, which may be unfinished. Comments are left out,
// except one that does not end: nothing can be completed in it.
func sqlTokens(s string) []sqlToken {
	var list []sqlToken
	for i := 0; i < len(s); {
		start := i
		switch b := s[i]; {
		case strings.HasPrefix(s[i:], "--"):
			n := strings.IndexByte(s[i:], '\n')
			if n < 0 {
				return append(list, sqlToken{s[i:], i, false, true})
			}
			i += n
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i+2:], "*/")
			if n < 0 {
				return append(list, sqlToken{s[i:], i, false, true})
			}
			i += n + 4 //nolint:mnd // both ends
		case b == ' ' || b == '\t' || b == '\n' || b == '\r':
			i++
		case b == '\'' || b == '"' || b == '`' || b == '[':
			n, ended := quotedLen(s[i:])
			i += n
			list = append(list, sqlToken{unquoted(s[start:i]), start, b != '\'', !ended})
		case isWordByte(b):
			for i < len(s) && isWordByte(s[i]) {
				i++
			}
			list = append(list, sqlToken{s[start:i], start, true, false})
		default:
			i++
			list = append(list, sqlToken{s[start:i], start, false, false})
		}
	}
	return list
}

// isWordByte takes bytes of other scripts for letters, as SQLite does.
func isWordByte(b byte) bool {
	return b == '_' || b == '$' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// quotedLen returns the length of the quoted text that s begins with, and
// whether it ends. A doubled quote is one within.
func quotedLen(s string) (n int, ended bool) {
	end := s[0]
	if end == '[' {
		end = ']'
	}
	for i := 1; i < len(s); i++ {
		if s[i] != end {
			continue
		}
		if end != ']' && i+1 < len(s) && s[i+1] == end {
			i++
			continue
		}
		return i + 1, true
	}
	return len(s), false
}

func unquoted(s string) string {
	return strings.Trim(s, "'\"`[]")
}

// finished reports whether a text ends a statement: its last sign is a
// semicolon outside of quotes and comments.
func finished(s string) bool {
	list := sqlTokens(s)
	return len(list) > 0 && list[len(list)-1].text == ";" && !list[len(list)-1].word
}

// statements splits a text at its semicolons; what is left unfinished is rest.
func statements(s string) (done []string, rest string) {
	from := 0
	for _, t := range sqlTokens(s) {
		if t.text != ";" || t.word || t.open || s[t.start] != ';' {
			continue
		}
		if text := strings.TrimSpace(s[from:t.start]); text != "" {
			done = append(done, text)
		}
		from = t.start + 1
	}
	return done, s[from:]
}

// complete returns what may stand for the word that ends at pos, sorted, and
// where that word begins. before is what was typed in lines before this one.
func (c *completer) complete(before, line string, pos int) (start int, words []string) {
	head := before + "\n" + line[:pos]
	tokens := sqlTokens(head)
	prefix, at := "", len(head)
	if n := len(tokens); n > 0 {
		last := tokens[n-1]
		if last.open || last.start+len(last.text) == len(head) && last.word && head[last.start] != last.text[0] {
			return pos, nil // within quotes or a comment
		}
		if last.word && last.start+len(last.text) == len(head) {
			prefix, at, tokens = last.text, last.start, tokens[:n-1]
		}
	}
	whole := slices.DeleteFunc(current(sqlTokens(before+"\n"+line), at), func(t sqlToken) bool {
		return t.start == at // the word itself is no alias
	})
	words = c.candidates(currentBefore(tokens), whole)
	words = slices.DeleteFunc(words, func(w string) bool {
		return len(w) < len(prefix) || !strings.EqualFold(w[:len(prefix)], prefix)
	})
	if prefix != "" && prefix == strings.ToUpper(prefix) && strings.ContainsFunc(prefix, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
		for i, w := range words {
			if slices.Contains(keywords(), w) {
				words[i] = strings.ToUpper(w)
			}
		}
	}
	slices.Sort(words)
	return max(0, at-len(before)-1), slices.Compact(words)
}

// currentBefore returns the tokens after the last semicolon.
func currentBefore(tokens []sqlToken) []sqlToken {
	for i, t := range slices.Backward(tokens) {
		if t.text == ";" && !t.word {
			return tokens[i+1:]
		}
	}
	return tokens
}

// current returns the tokens of the statement that holds a place.
func current(tokens []sqlToken, at int) []sqlToken {
	first, end := 0, len(tokens)
	for i, t := range tokens {
		if t.text != ";" || t.word {
			continue
		}
		if t.start < at {
			first = i + 1
		} else {
			end = i
			break
		}
	}
	return tokens[min(first, end):end]
}

// candidates returns what may come after the tokens before, in a statement.
func (c *completer) candidates(before, whole []sqlToken) []string {
	if len(before) == 0 {
		return []string{"select", "with", "values"}
	}
	last := before[len(before)-1]
	if last.text == "." && len(before) > 1 {
		return slices.Clone(c.columnsOf(whole, before[len(before)-2].text))
	}
	switch strings.ToLower(last.text) {
	case "from", "join":
		return slices.Clone(c.names)
	case ",":
		if inFrom(before) {
			return slices.Clone(c.names)
		}
	case "as", "'":
		return nil
	}
	words := keywords()
	for alias, table := range c.sources(whole) {
		words = append(words, alias)
		words = append(words, c.tables[table]...)
	}
	if len(c.sources(whole)) == 0 {
		words = append(words, functions()...)
	}
	return words
}

// inFrom reports whether a comma at the end goes on with a list of tables.
func inFrom(tokens []sqlToken) bool {
	depth := 0
	for _, t := range slices.Backward(tokens) {
		switch {
		case t.text == ")" && !t.word:
			depth++
		case t.text == "(" && !t.word:
			if depth--; depth < 0 {
				return false
			}
		case depth > 0:
		case strings.EqualFold(t.text, "from"):
			return true
		case slices.Contains([]string{"select", "where", "on", "by", "using", "having", "limit", "set", "values"}, strings.ToLower(t.text)):
			return false
		}
	}
	return false
}

// columnsOf returns the columns of a table or of the table that an alias means.
func (c *completer) columnsOf(tokens []sqlToken, name string) []string {
	for alias, table := range c.sources(tokens) {
		if strings.EqualFold(alias, name) {
			return c.tables[table]
		}
	}
	return c.tables[strings.ToLower(name)]
}

// sources returns the tables that a statement names, by alias or name.
func (c *completer) sources(tokens []sqlToken) map[string]string {
	found := map[string]string{}
	for i := range tokens {
		table := strings.ToLower(tokens[i].text)
		if _, ok := c.tables[table]; !ok || !tokens[i].word || i == 0 || !c.isSource(tokens[:i]) {
			continue
		}
		alias := table
		next := tokens[i+1:]
		if len(next) > 1 && strings.EqualFold(next[0].text, "as") {
			next = next[1:]
		}
		if len(next) > 0 && next[0].word && !slices.Contains(keywords(), strings.ToLower(next[0].text)) {
			alias = next[0].text
		}
		found[alias] = table
	}
	return found
}

func (c *completer) isSource(before []sqlToken) bool {
	switch strings.ToLower(before[len(before)-1].text) {
	case "from", "join":
		return true
	case ",":
		return inFrom(before)
	}
	return false
}

// keywords are SQLite's that a SELECT may need.
func keywords() []string {
	return []string{
		"and", "as", "asc", "between", "by", "case", "cast", "collate", "cross", "desc", "distinct", "else", "end",
		"except", "exists", "from", "glob", "group", "having", "in", "inner", "intersect", "is", "join", "left", "like",
		"limit", "natural", "not", "null", "offset", "on", "or", "order", "outer", "regexp", "select", "then", "union",
		"using", "values", "when", "where", "with", "count", "datetime", "max", "min", "sum",
	}
}

// functions are those that people use without a table.
func functions() []string {
	return []string{"coalesce", "concat", "length", "lower", "replace", "round", "split", "substr", "upper"}
}

// common returns the longest beginning that all words share.
func common(words []string) string {
	if len(words) == 0 {
		return ""
	}
	prefix := words[0]
	for _, w := range words[1:] {
		n := 0
		for n < len(prefix) && n < len(w) && prefix[n] == w[n] {
			n++
		}
		prefix = prefix[:n]
	}
	return prefix
}
