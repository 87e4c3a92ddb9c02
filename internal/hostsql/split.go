package hostsql

import "strings"

// SplitStatements returns the statements of a SQL text without their
// semicolons, leaving out those that are empty or comments alone.
func SplitStatements(sql string) []string {
	var statements []string
	start, content := 0, false
	flush := func(end int) {
		if content {
			statements = append(statements, strings.TrimSpace(sql[start:end]))
		}
		content = false
	}
	for i := 0; i < len(sql); {
		n, kind := token(sql[i:])
		switch kind {
		case tokenEnd:
			flush(i)
			start = i + n
		case tokenText:
			content = true
		case tokenSpace:
		}
		i += n
	}
	flush(len(sql))
	return statements
}

type tokenKind uint8

const (
	tokenText tokenKind = iota
	tokenSpace
	tokenEnd // a semicolon
)

// token returns the length and kind of the token at the start of s, which is
// not empty. Only what can hide a semicolon matters: quotes and comments.
func token(s string) (int, tokenKind) {
	switch {
	case s[0] == ';':
		return 1, tokenEnd
	case strings.HasPrefix(s, "--"):
		return through(s, 2, "\n"), tokenSpace
	case strings.HasPrefix(s, "/*"):
		return through(s, 2, "*/"), tokenSpace
	case s[0] == '\'' || s[0] == '"' || s[0] == '`':
		return through(s, 1, s[:1]), tokenText // a doubled quote is two literals side by side
	case s[0] == '[':
		return through(s, 1, "]"), tokenText
	case strings.ContainsRune(" \t\r\n\f\v", rune(s[0])):
		return 1, tokenSpace
	}
	return 1, tokenText
}

// through returns the length of s up to and with end, looked for from start.
func through(s string, start int, end string) int {
	if i := strings.Index(s[start:], end); i >= 0 {
		return start + i + len(end)
	}
	return len(s)
}
