package rollout_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
)

// FuzzNote: whatever a node sends, the Monitor takes it in, with numbers that
// are numbers, and bounded memory.
func FuzzNote(f *testing.F) {
	for _, b := range []*event.Batch{
		info(1, 1, 2, "a"), says(1, 1, "Scheduled query may have failed: q"), ran(1, "q", 1, 2, 3, 4), denied(2),
		row(1, "pack_muster-health_schedule", event.Snapshot, `{"name":"q","interval":"-1","executions":"99999999999999999999","user_time":"-5","output_size":"1e9"}`),
		row(1, "pack_muster-health_worker", event.Added, `[]`),
		row(1, "pack_muster-health_worker", event.Added, `{"pid":1,"pid":"2","config_hash":{}}`),
	} {
		e := b.Events[0]
		f.Add(e.Query, e.Action, []byte(e.Columns), int64(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, query, action string, columns []byte, seconds int64, times uint8) {
		m := newMonitor()
		for i := range int64(times) {
			when := at(int(seconds%math.MaxInt32) * int(i%3))
			logType := osquery.LogTypeResult
			if action == event.Status {
				logType = osquery.LogTypeStatus
			}
			m.Note(&event.Batch{NodeID: "n", Received: when, LogType: logType, Events: []event.Event{
				{Time: when, Query: query, Action: action, Columns: json.RawMessage(columns)},
				{Time: at(int(i)), Query: query, Action: action, Columns: json.RawMessage(columns)},
			}})
			if i == 1 {
				m.Watch(2, at(0))
			}
		}
		e := m.Evidence("n")
		if e.Rows < 0 || e.Lines < 0 || e.Bytes < 0 || e.FirstRows < 0 || len(e.Queries) > 64 {
			t.Errorf("%+v", e)
		}
		for _, v := range []float64{e.Day.CPUSeconds, e.Day.Rows, e.Day.Bytes} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Errorf("a day costs %+v", e.Day)
			}
		}
		if c, ok := m.Cost("q", "h"); ok && (math.IsNaN(c.CPUMillis) || c.Nodes != 1) {
			t.Errorf("%+v", c)
		}
	})
}
