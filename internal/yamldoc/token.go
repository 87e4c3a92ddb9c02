package yamldoc

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/token"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of tokens, before they are parsed. The parser takes a microsecond for
// each, and besides time by the square of the keys of one object (0.05 s for
// 4,000), of what has no value in one document (0.1 s for 50,000), and of the
// tokens of one line outside of braces (0.1 s for 16,000). It calls itself for
// each level.
const (
	MaxDepth      = 32 // levels; agents read as many of a config
	maxTokens     = 1_000_000
	maxDocTokens  = 100_000       // in one document
	maxLineTokens = 4000          // outside of braces
	maxKeys       = 4000          // in one object
	maxKeyWork    = 50e6          // half of the squares of all objects' keys: 100 of 1,000
	maxIndent     = 16 * MaxDepth // columns; each level of a block has at least one
)

// tokenScan looks for what the parser reads wrongly or too slowly, and counts
// what is in one line, one object, one level and the whole file.
type tokenScan struct {
	all, keyWork         int // of the file
	line, tokens, dashes int
	flow                 []int // keys of the braces that are open
	columns              []int // of the blocks that are open
	keys                 []int // of each
	entry                bool  // a dash came before
	block                bool  // the next is the text of a block
}

// document checks the tokens of a document, before it is parsed.
func (s *tokenScan) document(tokens token.Tokens) error {
	*s = tokenScan{all: s.all + len(tokens), keyWork: s.keyWork}
	if len(tokens) > maxDocTokens {
		return errs.New(errs.TooLarge, "has over %d parts in one document at line %d; make it several", maxDocTokens, tokens[0].Position.Line)
	}
	if s.all > maxTokens {
		return errs.New(errs.TooLarge, "has over %d parts up to line %d; make it several files", maxTokens, tokens[0].Position.Line)
	}
	for _, t := range tokens {
		if t.Position == nil {
			continue
		}
		if err := s.next(t); err != nil {
			return err
		}
	}
	return nil
}

func (s *tokenScan) next(t *token.Token) error {
	if t.Position.Line != s.line {
		s.line, s.tokens, s.dashes = t.Position.Line, 0, 0
		s.open(t.Position.Column)
	} else if s.entry {
		s.open(t.Position.Column)
	}
	s.entry = t.Type == token.SequenceEntryType
	if problem := refused(t.Type); problem != "" {
		return errs.New(errs.Invalid, "has %s at line %d, which is not taken; write the value out", problem, s.line)
	}
	if !s.block && plain(t) && strings.Contains(strings.TrimSpace(t.Origin), "\t") {
		return errs.New(errs.Invalid, "[%d:%d] has a tab in a text without quotes; quote it", s.line, t.Position.Column)
	}
	s.block = t.Type == token.LiteralType || t.Type == token.FoldedType || s.block && t.Type == token.CommentType
	s.count(t.Type)
	if problem := s.over(t); problem != "" {
		return errs.New(errs.TooLarge, "has %s at line %d", problem, s.line)
	}
	return nil
}

// refused names what is never taken; "" for what is.
func refused(t token.Type) string {
	switch t {
	case token.AnchorType:
		return "an anchor (&)"
	case token.AliasType:
		return "an alias (*)"
	case token.MergeKeyType:
		return "a merge key (<<)"
	case token.TagType:
		return "a tag (!)"
	case token.DirectiveType:
		return "a directive (%)"
	default:
		return ""
	}
}

// plain reports whether a token is text without quotes, if it is not that of a
// block.
func plain(t *token.Token) bool {
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType, token.CommentType, token.InvalidType:
		return false
	default:
		return t.CharacterType != token.CharacterTypeIndicator
	}
}

// count counts a token in its line and its object.
func (s *tokenScan) count(t token.Type) {
	switch t {
	case token.MappingStartType, token.SequenceStartType:
		s.flow = append(s.flow, 0)
	case token.MappingEndType, token.SequenceEndType:
		s.flow = s.flow[:max(0, len(s.flow)-1)]
	case token.MappingValueType:
		if n := len(s.flow); n > 0 {
			s.flow[n-1]++
		} else if n := len(s.keys); n > 0 {
			s.keys[n-1]++
			s.keyWork += s.keys[n-1]
		}
	case token.SequenceEntryType, token.MappingKeyType:
		s.dashes++
	case token.DocumentHeaderType:
		s.columns, s.keys = nil, nil
	default:
	}
	if s.tokens++; len(s.flow) > 0 && t == token.CollectEntryType {
		s.tokens = 0
	}
}

// open begins a block at a column, or goes on with it; those that are deeper end.
func (s *tokenScan) open(column int) {
	for n := len(s.columns); n > 0 && s.columns[n-1] > column; n-- {
		s.columns, s.keys = s.columns[:n-1], s.keys[:n-1]
	}
	if n := len(s.columns); n == 0 || s.columns[n-1] < column {
		s.columns, s.keys = append(s.columns, column), append(s.keys, 0)
	}
}

// over says which limit is passed, "" for none.
func (s *tokenScan) over(t *token.Token) string {
	switch {
	case len(s.flow) > MaxDepth || s.dashes > MaxDepth || t.Position.IndentNum > maxIndent:
		return fmt.Sprintf("over %d levels", MaxDepth)
	case s.tokens > maxLineTokens:
		return fmt.Sprintf("over %d parts in one line", maxLineTokens)
	case last(s.flow) > maxKeys || last(s.keys) > maxKeys:
		return fmt.Sprintf("over %d keys in one object", maxKeys)
	case s.keyWork > maxKeyWork:
		return "too many objects with over a thousand keys; make it several files. The first that is too many ends"
	}
	return ""
}

func last(counts []int) int {
	if len(counts) == 0 {
		return 0
	}
	return counts[len(counts)-1]
}
