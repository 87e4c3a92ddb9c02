package yamldoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/token"
)

// Marshal writes a value as one document, in the order and under the names that
// it has as JSON. Texts that are UTF-8 read back as they are, in Parse and in
// other readers: those of several lines as blocks where blocks can hold them.
func Marshal(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	w := writer{in: json.NewDecoder(&text)}
	w.in.UseNumber()
	if err := w.value(0, false); err != nil {
		return nil, err
	}
	return w.out.Bytes()[1:], nil // without what parts a value from its key
}

// writer turns JSON that is well-formed into YAML.
type writer struct {
	in  *json.Decoder
	out bytes.Buffer
}

// value writes the next value, with the break or space before it and the break
// at its end. What it holds has an indent of so many columns; an item is behind
// a dash, and begins in its line.
func (w *writer) value(indent int, item bool) error {
	t, err := w.in.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case json.Delim:
		return w.members(t, indent, item)
	case string:
		w.text(t, indent)
	case json.Number:
		w.out.WriteString(" " + number(t) + "\n")
	default: // true, false, null
		if t == nil {
			t = "null"
		}
		fmt.Fprintf(&w.out, " %v\n", t)
	}
	return nil
}

// members writes what is in an object or a list.
func (w *writer) members(open json.Delim, indent int, item bool) error {
	switch {
	case !w.in.More() && open == '{':
		w.out.WriteString(" {}\n")
	case !w.in.More():
		w.out.WriteString(" []\n")
	case item:
		w.out.WriteString(" ")
	default:
		w.out.WriteString("\n")
	}
	for first := true; w.in.More(); first = false {
		if !first || !item {
			w.out.WriteString(strings.Repeat(" ", indent))
		}
		if open == '[' {
			w.out.WriteString("-")
		} else {
			key, err := w.in.Token()
			if err != nil {
				return err
			}
			w.out.WriteString(scalar(fmt.Sprint(key)) + ":")
		}
		if err := w.value(indent+2, open == '['); err != nil {
			return err
		}
	}
	_, err := w.in.Token()
	return err
}

func (w *writer) text(s string, indent int) {
	if !fitsBlock(s) {
		w.out.WriteString(" " + scalar(s) + "\n")
		return
	}
	header := " |-\n"
	if strings.HasSuffix(s, "\n") {
		header = " |\n"
	}
	w.out.WriteString(header)
	for line := range strings.Lines(s) {
		if line != "\n" {
			w.out.WriteString(strings.Repeat(" ", indent))
		}
		w.out.WriteString(line)
	}
	if header == " |-\n" {
		w.out.WriteString("\n")
	}
}

// fitsBlock reports whether a text has several lines that are the same between
// the margins of a block: none of whose ends would be cut, and whose first shows
// where the margin is.
func fitsBlock(s string) bool {
	const longLine, manyTabs = 1000, 100 // lines in which tabs cost; see maxTabWork
	if !strings.Contains(s, "\n") || strings.HasSuffix(s, "\n\n") || strings.ContainsAny(s[:1], " \t\n") || crowded(s) {
		return false
	}
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		tabs := strings.Count(line, "\t")
		if line != strings.TrimRight(line, " \t") || strings.ContainsFunc(line, hidden) || tabs > manyTabs || tabs > 0 && len(line) > longLine {
			return false
		}
	}
	return true
}

// crowded reports whether a text has what Parse refuses outside of quotes.
func crowded(s string) bool {
	return strings.Contains(s, strings.Repeat("<", maxRun)) || strings.Contains(s, strings.Repeat("\n", maxBlank))
}

// hidden reports whether a character cannot be seen, or could be taken for
// another; a tab in a block is neither.
func hidden(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }

// scalar writes a text in one line, without quotes if nobody can misread it.
func scalar(s string) string {
	if isPlain(s) {
		return s
	}
	return quote(s)
}

func isPlain(s string) bool {
	if token.IsNeedQuoted(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return false
	}
	first := []rune(s)[0]
	digit := '0' <= first && first <= '9'
	if !digit && !unicode.IsLetter(first) && !strings.ContainsRune("_/($^", first) {
		return false
	}
	if strings.Contains(s, "<<") || digit && strings.ContainsAny(s, ":_") { // 12:30 and 1_000 are numbers to some
		return false
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return false
	}
	return token.New(s, s, &token.Position{}).Type == token.StringType
}

// quote writes a text between double quotes, with the escapes of YAML 1.2
// (section 5.7).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	crowd := crowded(s)
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r) && (r != '<' || !crowd):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// number writes a fraction with a point, without which Parse has 1e9 for a text;
// and a whole number that no integer holds as the fraction that it is.
func number(n json.Number) string {
	whole, exponent, found := strings.Cut(n.String(), "e")
	if found {
		exponent = "e" + exponent
	}
	_, signed := strconv.ParseInt(n.String(), 10, 64)
	_, unsigned := strconv.ParseUint(n.String(), 10, 64)
	if !strings.Contains(whole, ".") && signed != nil && unsigned != nil {
		whole += ".0"
	}
	return whole + exponent
}
