package alert

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns s as one line of at most n bytes (0 is any) that commands nothing
// that shows it: control characters, those that turn the direction of text or
// cannot be seen, and separators of lines are written as their code. Bytes that
// are no UTF-8 become U+FFFD. What is cut ends with an ellipsis.
func Line(s string, n int) string { return tame(s, n, false) }

// Text is Line for several lines: line feeds and tabs stay.
func Text(s string, n int) string { return tame(s, n, true) }

const ellipsis = "…"

func tame(s string, n int, lines bool) string {
	if n > 0 && len(s) > maxRaw*n {
		s = s[:maxRaw*n] // what follows is cut anyway
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	s = strings.TrimSpace(s)
	if lines {
		s = strings.ReplaceAll(s, "\r\n", "\n")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return commands(r, lines) }) {
		var b strings.Builder
		for _, r := range s {
			if commands(r, lines) {
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteRune(r)
			}
		}
		s = b.String()
	}
	return cut(s, n)
}

// maxRaw is how many bytes of a text can become one byte of its tamed form: spaces
// around it are left out, but not without end.
const maxRaw = 2

func commands(r rune, lines bool) bool {
	switch r {
	case '\n', '\t':
		return !lines
	case '\u2028', '\u2029', '\u115f', '\u1160', '\u3164', '\uffa0': // separators; letters that are blank
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r)
}

// cut shortens a valid text to n bytes, between letters.
func cut(s string, n int) string {
	if n <= 0 || len(s) <= n {
		return s
	}
	end := max(n-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
