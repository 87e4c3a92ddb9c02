// Package yamldoc reads and writes YAML documents in which no text is ever
// changed. It stands between the YAML library (goccy/go-yaml v1.19.2) and what
// people send: it refuses what the library reads wrongly or takes too long for,
// and writes only what the library, and any other reader, reads back as it was.
package yamldoc

import (
	"bytes"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of one file. All together keep the worst that we know at a few
// seconds (BenchmarkParse); what a fleet says is far below.
const (
	maxBytes     = 8 << 20
	maxDocuments = 5000
)

// Parse returns the bodies of a file's documents, without empty ones, whose
// tokens stand where they stand in the file. Errors are [errs.Invalid] or
// [errs.TooLarge], begin with "is" or "has", and say where.
//
// Anchors, aliases, merge keys, tags and directives are refused: a few lines of
// them make gigabytes, and nothing that is kept here needs them. So is unquoted
// text with a tab, which the library would drop. A key that is there twice in
// one object is an error; what keys there may be is the caller's.
func Parse(file []byte) ([]ast.Node, error) {
	file = bytes.TrimPrefix(file, []byte("\ufeff"))
	if len(file) > maxBytes {
		return nil, errs.New(errs.TooLarge, "has over %d bytes", maxBytes)
	}
	parts, err := split(file)
	if err != nil {
		return nil, err
	}
	var s tokenScan
	var bodies []ast.Node
	for _, p := range parts {
		docs, err := p.parse(&s)
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			if doc.Body != nil && doc.Body.Type() != ast.NullType && doc.Body.Type() != ast.CommentType {
				bodies = append(bodies, doc.Body)
			}
		}
	}
	if len(bodies) > maxDocuments {
		return nil, errs.New(errs.TooLarge, "has over %d documents", maxDocuments)
	}
	return bodies, nil
}

// parse reads one part, so that no object is larger than a document and the
// library's tables are thrown away after each.
func (p part) parse(s *tokenScan) ([]*ast.DocumentNode, error) {
	tokens := lexer.Tokenize(string(p.text))
	for _, t := range tokens {
		if t.Position != nil {
			t.Position.Line += p.lines
		}
	}
	if err := s.document(tokens); err != nil {
		return nil, err
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, errs.New(errs.Invalid, "is no YAML: %s", FirstLine(err))
	}
	return f.Docs, nil
}

// FirstLine returns what an error of the YAML library says, without the picture
// of the source that follows: its place as [line:column], and what is wrong.
func FirstLine(err error) string {
	const most = 300 // a key can be the whole file
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	if runes := []rune(line); len(runes) > most {
		line = string(runes[:most]) + "…"
	}
	return line
}
