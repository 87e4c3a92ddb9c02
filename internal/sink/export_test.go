package sink

import "github.com/musterhq/muster/internal/event"

// Line returns an event in a format.
func Line(r *event.Record, format string) []byte {
	var w row
	w.read(r)
	return w.line(nil, format, idOf(r))
}

// AppendText is for the tests.
func AppendText(s string) []byte { return appendText(nil, s) }

// BulkAnswer is for the tests.
func BulkAnswer(body []byte, sent int) ([]Refusal, error) { return bulkAnswer(body, sent) }
