package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/adminapi"
)

// nodeFile is what a file of nodes holds.
type nodeFile struct {
	nodes   []lineNode
	bad     []badLine
	ignored []string // columns that are not read
}

// lineNode is a node and the line that it begins at.
type lineNode struct {
	adminapi.ImportNode

	line int
}

// badLine is a line without a node. Its message holds nothing of the line,
// where a key may be.
type badLine struct {
	line    int
	message string
}

// maxNodeFile bounds what is read: about a million nodes.
const maxNodeFile = 256 << 20

// parseNodes reads a file of nodes, whichever of the three forms it has. Lines
// that cannot be read do not keep it from the others; the error is about the
// file as a whole.
func parseNodes(r io.Reader) (nodeFile, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxNodeFile+1))
	if err != nil {
		return nodeFile{}, err
	}
	if len(b) > maxNodeFile {
		return nodeFile{}, fmt.Errorf("it is over %d MiB; import it in parts", maxNodeFile>>20)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // spreadsheets put it there
	p := nodeParser{ignored: map[string]bool{}}
	switch begin := bytes.TrimLeft(b, " \t\r\n"); {
	case len(begin) == 0:
		err = errors.New("it is empty")
	case begin[0] == '[':
		p.array(b)
	case begin[0] == '{':
		p.lines(b)
	default:
		err = p.csv(b)
	}
	p.file.ignored = slices.Sorted(maps.Keys(p.ignored))
	return p.file, err
}

type nodeParser struct {
	file    nodeFile
	ignored map[string]bool
}

func (p *nodeParser) refuse(line int, format string, args ...any) {
	p.file.bad = append(p.file.bad, badLine{line, fmt.Sprintf(format, args...)})
}

// array reads a JSON array of objects.
func (p *nodeParser) array(b []byte) {
	d := json.NewDecoder(bytes.NewReader(b))
	_, _ = d.Token() // its beginning, which is there
	lines := lineCounter{b: b, line: 1}
	for d.More() {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			p.refuse(lines.next(d.InputOffset()), "is not JSON; what comes after it was not read")
			return
		}
		p.object(lines.at(d.InputOffset()-int64(len(raw))), raw)
	}
	if end, _ := d.Token(); end != json.Delim(']') {
		p.refuse(lines.next(d.InputOffset()), "the array has no end; a part of the file may be missing")
		return
	}
	if rest := bytes.TrimSpace(b[d.InputOffset():]); len(rest) > 0 {
		p.refuse(lines.next(d.InputOffset()), "something comes after the array; it was not read")
	}
}

// lineCounter finds lines of offsets that grow.
type lineCounter struct {
	b    []byte
	upTo int64
	line int
}

func (c *lineCounter) at(offset int64) int {
	offset = min(max(offset, c.upTo), int64(len(c.b)))
	c.line += bytes.Count(c.b[c.upTo:offset], []byte("\n"))
	c.upTo = offset
	return c.line
}

// next is at of what comes after the offset.
func (c *lineCounter) next(offset int64) int {
	rest := c.b[offset:]
	return c.at(offset + int64(len(rest)-len(bytes.TrimLeft(rest, " \t\r\n,"))))
}

// lines reads one JSON object per line.
func (p *nodeParser) lines(b []byte) {
	line := 0
	for text := range bytes.Lines(b) {
		line++
		if text = bytes.TrimSpace(text); len(text) > 0 {
			p.object(line, text)
		}
	}
}

func (p *nodeParser) object(line int, raw []byte) {
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // as it is written: an identifier may be a long number
	if err := d.Decode(&members); err != nil || members == nil {
		p.refuse(line, "is no JSON object")
		return
	}
	if d.More() {
		p.refuse(line, "holds more than one JSON object; write each on a line of its own")
		return
	}
	row := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(members)) { // in order, so that of Tags and tags always the same counts
		row[column(name)] = words(column(name), members[name])
	}
	p.add(line, row)
}

// words returns the text of a column's JSON value, or the texts of an array.
func words(name string, value any) []string {
	switch v := value.(type) {
	case string:
		return cell(name, v)
	case json.Number:
		return []string{v.String()}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// csv reads a table with a header line. Exports have commas, semicolons or
// tabs between their columns; whichever the header has most of it is.
func (p *nodeParser) csv(b []byte) error {
	r := csv.NewReader(bytes.NewReader(b))
	header, _, _ := bytes.Cut(bytes.TrimLeft(b, "\r\n"), []byte("\n"))
	for _, comma := range ";\t" {
		if bytes.Count(header, []byte(string(comma))) > bytes.Count(header, []byte(string(r.Comma))) {
			r.Comma = comma
		}
	}
	r.FieldsPerRecord = -1
	names, err := r.Read()
	if err != nil {
		return fmt.Errorf("the header line cannot be read: %w", err)
	}
	for i := range names {
		names[i] = column(names[i])
	}
	if !slices.ContainsFunc(names, isOneOf(identifierColumns())) || !slices.ContainsFunc(names, isOneOf(keyColumns())) {
		return fmt.Errorf("the first line names no columns for the host identifier (%s) and the key (%s); write them over the nodes",
			strings.Join(identifierColumns(), ", "), strings.Join(keyColumns(), " or "))
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if e, ok := errors.AsType[*csv.ParseError](err); ok {
			p.refuse(e.StartLine, "%s", csvProblem(e))
			continue
		}
		if err != nil {
			return err
		}
		line, _ := r.FieldPos(0)
		if len(fields) != len(names) {
			p.refuse(line, "has %d columns, and the header has %d", len(fields), len(names))
			continue
		}
		row := map[string][]string{}
		for i, name := range names {
			row[name] = cell(name, fields[i])
		}
		p.add(line, row)
	}
}

func csvProblem(e *csv.ParseError) string {
	if e.Line > e.StartLine {
		return fmt.Sprintf("has a quote that does not end; the lines up to %d were not read", e.Line)
	}
	return "has a quote in a field; put the field in quotes, and write the one inside twice"
}

// cell returns what a column's text holds: several words if it is tags, with
// commas, semicolons or spaces between them, or as an array of PostgreSQL.
func cell(name, text string) []string {
	text = known(text)
	if name != "tags" {
		return []string{text}
	}
	tags := strings.FieldsFunc(strings.Trim(text, "{}[]"), func(r rune) bool { return strings.ContainsRune(",; \t", r) })
	for i := range tags {
		tags[i] = strings.Trim(tags[i], `"`)
	}
	return tags
}

// column returns a column's name in the one form in which it is looked for.
func column(name string) string {
	return strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// identifierColumns are what managers call the identifier that agents enrol
// with, the surest first: beside osquery_host_id, uuid is the hardware's.
func identifierColumns() []string { return []string{"host_identifier", "osquery_host_id", "uuid"} }

func keyColumns() []string      { return []string{"node_key", "key"} }
func hostnameColumns() []string { return []string{"hostname", "computer_name"} }

func isOneOf(names []string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

// add makes a node of a row, and notes what was not read of it.
func (p *nodeParser) add(line int, row map[string][]string) {
	take := func(names ...string) string {
		text := ""
		for _, name := range names {
			if values := row[name]; text == "" && len(values) == 1 {
				text = values[0]
			}
		}
		return text
	}
	n := lineNode{line: line}
	n.HostIdentifier = take(identifierColumns()...)
	n.NodeKey = take(keyColumns()...)
	n.Hostname = take(hostnameColumns()...)
	n.Platform = take("platform")
	n.OsqueryVersion = take("osquery_version")
	n.Tags = row["tags"]
	p.file.nodes = append(p.file.nodes, n)
	read := slices.Concat(identifierColumns(), keyColumns(), hostnameColumns(), []string{"platform", "osquery_version", "tags"})
	for name := range row {
		if !slices.Contains(read, name) {
			p.ignored[name] = true
		}
	}
}

// known returns a text without the white space around it, and nothing for what
// databases write where nothing is.
func known(text string) string {
	text = strings.TrimSpace(text)
	if text == "NULL" || text == `\N` {
		return ""
	}
	return text
}
