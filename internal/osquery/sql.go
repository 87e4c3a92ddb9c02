package osquery

import (
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// CheckSelect refuses a text that is not one SELECT. It looks at the first
// word and at semicolons outside of quotes and comments, which is what agents
// trip over; it does not say what the text reads, nor that it is safe.
func CheckSelect(sql string) error {
	rest := skipSpace(sql)
	if rest == "" {
		return errs.Field("sql", "is empty; write a SELECT")
	}
	if strings.IndexByte(sql, 0) >= 0 {
		return errs.Field("sql", "holds a NUL character")
	}
	word := strings.ToUpper(rest[:wordLen(rest)])
	if word != "SELECT" && word != "WITH" && word != "VALUES" {
		return errs.Field("sql", "begins with %q; only SELECT is sent to nodes", firstWord(rest))
	}
	ended := false
	for ; rest != ""; rest = skipSpace(rest) {
		n, semicolon := token(rest)
		rest = rest[n:]
		if ended && !semicolon {
			return errs.Field("sql", "holds more than one statement; agents run one")
		}
		ended = ended || semicolon
	}
	return nil
}

func firstWord(s string) string {
	if n := wordLen(s); n > 0 {
		return s[:n]
	}
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}

func wordLen(s string) int {
	n := strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if n < 0 {
		return len(s)
	}
	return n
}

// skipSpace drops white space and comments.
func skipSpace(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n\f\v\ufeff")
		n := comment(s)
		if n == 0 {
			return s
		}
		s = s[n:]
	}
}

// comment returns the length of the comment that s begins with, 0 for none.
func comment(s string) int {
	var end string
	switch {
	case strings.HasPrefix(s, "--"):
		end = "\n"
	case strings.HasPrefix(s, "/*"):
		end = "*/"
	default:
		return 0
	}
	if n := strings.Index(s[2:], end); n >= 0 {
		return 2 + n + len(end)
	}
	return len(s)
}

// token returns the length of what s begins with: a quoted text, a comment or
// one byte; and whether that is a semicolon.
func token(s string) (n int, semicolon bool) {
	if n := comment(s); n > 0 {
		return n, false
	}
	end := s[0]
	switch s[0] {
	case '\'', '"', '`':
	case '[':
		end = ']'
	default:
		return 1, s[0] == ';'
	}
	if n := strings.IndexByte(s[1:], end); n >= 0 {
		return n + 2, false // a doubled quote is two texts, which is as good here
	}
	return len(s), false
}
