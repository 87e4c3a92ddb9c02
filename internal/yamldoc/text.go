package yamldoc

import (
	"bytes"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of the text, before it is cut into tokens. The library's lexer makes
// some 200 bytes of each mark, and takes time by the square of <<<<, by the tabs
// of a line times its length, and by blank lines times the text before them.
const (
	maxDocument = 2 << 20 // bytes; an agent's whole config has half
	maxMarks    = 400_000 // in one document; a text of SQL has one in six bytes
	maxRun      = 100     // of < in a row
	maxTabWork  = 1 << 30 // tabs times bytes, of all lines
	maxBlank    = 32      // lines in a row
)

// part is one document, or several that no line of --- parts.
type part struct {
	text  []byte
	lines int // before it in the file
}

// split cuts a file before each line that begins a document. Such a line ends
// whatever came before; no text can hold one.
func split(file []byte) ([]part, error) {
	if !utf8.Valid(file) {
		return nil, errs.New(errs.Invalid, "is no UTF-8")
	}
	var s textScan
	parts := []part{{}}
	begin, end := 0, 0
	for line := range bytes.Lines(file) {
		s.line++
		if beginsDocument(line) {
			parts[len(parts)-1].text = file[begin:end]
			parts = append(parts, part{lines: s.line - 1})
			begin, s.marks = end, 0
		}
		end += len(line)
		if err := s.check(line, end-begin); err != nil {
			return nil, err
		}
	}
	parts[len(parts)-1].text = file[begin:]
	if len(parts) > maxDocuments+1 {
		return nil, errs.New(errs.TooLarge, "has over %d documents", maxDocuments)
	}
	return parts, nil
}

func beginsDocument(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// textScan adds up what costs time and memory. The marks are of one document.
type textScan struct{ line, marks, blank, run, tabWork int }

// check looks at a line, the last of so many bytes of a document.
func (s *textScan) check(line []byte, bytesBefore int) error {
	tabs := 0
	for _, c := range line {
		switch {
		case c == '\t':
			tabs++
		case c < ' ' && c != '\n' && c != '\r', c == 0x7f:
			return errs.New(errs.Invalid, `has a control character at line %d; put the text between double quotes and write it as \x%02x`, s.line, c)
		case mark(c):
			s.marks++
		}
		if c != '<' {
			s.run = 0
		} else if s.run++; s.run > maxRun {
			return errs.New(errs.TooLarge, "has over %d < in a row at line %d", maxRun, s.line)
		}
	}
	s.tabWork += tabs * len(line)
	if s.blank++; len(bytes.TrimSpace(line)) > 0 {
		s.blank = 0
	}
	switch {
	case s.blank > maxBlank:
		return errs.New(errs.TooLarge, "has over %d blank lines in a row at line %d; remove some", maxBlank, s.line)
	case s.tabWork > maxTabWork:
		return errs.New(errs.TooLarge, `has too many tabs in long lines at line %d; use spaces, or \t between double quotes`, s.line)
	case s.marks > maxMarks:
		return errs.New(errs.TooLarge, "has over %d marks, as , and :, in one document at line %d; make it several", maxMarks, s.line)
	case bytesBefore > maxDocument:
		return errs.New(errs.TooLarge, "has a document of over %d bytes at line %d; make it several", maxDocument, s.line)
	}
	return nil
}

// mark reports whether a token can begin or end at a byte; of others, many make
// one token.
func mark(c byte) bool {
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	digit := '0' <= c && c <= '9'
	return c < utf8.RuneSelf && c > ' ' && !letter && !digit || c == '\n' || c == '\r'
}
