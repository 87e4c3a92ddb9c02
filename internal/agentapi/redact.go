package agentapi

import (
	"encoding/binary"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/redact"
)

// Redactor takes secrets out of what agents send; see redact.Redactor. Nothing
// that an agent said is kept, passed on or logged before it went through here,
// but for who the agent is and the names of queries and columns.
type Redactor interface {
	Row(src redact.Source, row []byte) []byte
	Columns(src redact.Source, row osquery.Row)
	Text(src redact.Source, s string) string
}

// redactEvents replaces what is secret in the events' rows.
func (a *API) redactEvents(events []event.Event) {
	for i := range events {
		e := &events[i]
		e.Columns = a.Redactor.Row(redact.Source{Query: e.Query}, e.Columns)
	}
}

// redactDecorations replaces what is secret in the events' decorations, which are
// one piece of memory as a rule.
func (a *API) redactDecorations(events []event.Event) {
	var raw, clean []byte
	for i := range events {
		e := &events[i]
		if len(e.Decorations) == 0 {
			continue
		}
		if len(raw) != len(e.Decorations) || &raw[0] != &e.Decorations[0] {
			raw = e.Decorations
			clean = a.Redactor.Row(redact.Source{}, raw)
		}
		e.Decorations = clean
	}
}

// hideLines replaces the events' hashes of their lines by keyed ones. They are
// kept, and those of the decoder are made of all that a line said: whoever reads
// the disk could try guesses of a secret against them.
func (a *API) hideLines(events []event.Event) {
	var buf [16]byte // escapes, once for all events
	b := buf[:]
	for i := range events {
		e := &events[i]
		if e.Continues && i > 0 {
			e.Line = events[i-1].Line
			continue
		}
		clear(b)
		binary.BigEndian.PutUint64(b, e.Line)
		a.Lines.Encrypt(b, b)
		e.Line = binary.BigEndian.Uint64(b)
	}
}

// redactAnswer replaces what is secret in an answer to a live query, before its
// limits are applied, as placeholders may be longer than what they stand for.
func (a *API) redactAnswer(answer *osquery.QueryAnswer) {
	src := redact.Source{Query: redact.LiveQuery, Live: answer.ID}
	for _, row := range answer.Rows {
		a.Redactor.Columns(src, row)
	}
	if !answer.Denylisted() {
		answer.Message = a.Redactor.Text(src, answer.Message)
	}
}

// redactDetails replaces what is secret in what an agent says of its host as it
// enrols.
func (a *API) redactDetails(details map[string]map[string]string) {
	for _, table := range details {
		for name, value := range table {
			table[name] = a.Redactor.Text(redact.Source{}, value)
		}
	}
}
