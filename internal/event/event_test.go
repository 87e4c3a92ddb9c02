package event_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// now is when the tests' requests arrive, shortly after the samples were made.
var now = time.Date(2026, 11, 21, 8, 50, 0, 0, time.UTC)

// logSamples returns the bodies of a real agent's log requests, inflated, by
// label and kind.
func logSamples(tb testing.TB) map[string][]byte {
	tb.Helper()
	b, err := os.ReadFile("../osquery/testdata/wire-samples.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Requests []struct {
			Label, Kind string
			Body        string `json:"body_base64"`
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		tb.Fatal(err)
	}
	bodies := map[string][]byte{}
	for _, r := range file.Requests {
		if !strings.HasPrefix(r.Kind, "/log") {
			continue
		}
		body, err := base64.StdEncoding.DecodeString(r.Body)
		if err != nil {
			tb.Fatal(err)
		}
		if strings.HasSuffix(r.Kind, ":gzip") {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				tb.Fatal(err)
			}
			if body, err = io.ReadAll(z); err != nil {
				tb.Fatal(err)
			}
		}
		bodies[r.Label+r.Kind] = body
	}
	if len(bodies) != 8 {
		tb.Fatalf("%d log samples, want 8", len(bodies))
	}
	return bodies
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

// ev is an event with the decorations of most samples.
func ev(unix int64, query, action string, counter int64, columns string) event.Event {
	return event.Event{
		Time: time.Unix(unix, 0).UTC(), Query: query, Action: action, Counter: counter,
		Columns: raw(columns), Decorations: raw(`{"mode":"always","site":"dc1"}`),
	}
}

func status(unix int64, columns string) event.Event {
	return ev(unix, event.StatusQuery, event.Status, 0, columns)
}

func with(e event.Event, epoch int64, decorations string) event.Event {
	e.Epoch, e.Decorations = epoch, raw(decorations)
	return e
}

const (
	migrate  = `{"severity":"0","filename":"database.cpp","line":"655","message":"Failed to obtain database version. Assume version '0' and migrate.","version":"5.23.0-38-ga5b14f63d"}`
	required = `Table file was queried without a required column in the WHERE clause`
)

func line(severity, file, number, message string) string {
	return fmt.Sprintf(`{"severity":%q,"filename":%q,"line":%q,"message":%q,"version":"5.23.0-38-ga5b14f63d"}`, severity, file, number, message)
}

func TestDecode_samples(t *testing.T) {
	t.Parallel()
	const site = `{"site":"dc1"}`
	tests := map[string]struct {
		key, logType string
		want         []event.Event
	}{
		"default-event-format/log:status": {"nk-1", "status", []event.Event{with(status(1795250701, migrate), 0, site)}},
		"default-event-format/log:result": {"nk-1", "result", []event.Event{
			ev(1795250703, "processes_like", event.Added, 0, `{"load":"1.5","name":"osqueryd","pid":"299208450"}`),
		}},
		"default-event-format/log:status:big": {"nk-1", "status", []event.Event{
			status(1795250707, line("0", "distributed.cpp", "352", "Accelerating distributed query checkins for 10 seconds")),
			status(1795250707, line("2", "distributed.cpp", "187", "Error executing distributed query: q-err: no such table: no_such_table")),
			status(1795250707, line("1", "virtual_table.cpp", "1012", required)),
			status(1795250707, line("2", "distributed.cpp", "187", "Error executing distributed query: q-req: "+required)),
			status(1795250709, line("2", "scheduler.cpp", "128", "Error executing scheduled query broken: no such table: no_such_table")),
		}},
		"default-event-format/log:result:big": {"nk-1", "result", []event.Event{
			ev(1795250724, "processes_like", event.Removed, 4, `{"load":"1.5","name":"osqueryd","pid":"299208453"}`),
			ev(1795250724, "processes_like", event.Added, 4, `{"load":"1.5","name":"osqueryd","pid":"299208454"}`),
			ev(1795250725, "empty_snapshot", event.Snapshot, 0, `{}`),
			ev(1795250725, "nonutf8_snapshot", event.Snapshot, 0, `{"ctl":"\u0001","id":"1","raw":"ab\\xFF"}`),
		}},
		"batch+numerics+snapshot-events+gzip/log:result:gzip": {"nk-2", "result", []event.Event{
			with(ev(1795250768, "pack_it_one", event.Added, 0, `{"one":"1"}`), 77, `{"mode":"always","site":"dc1"}`),
			with(ev(1795250769, "processes_like", event.Added, 0, `{"load":"1.5","name":"osqueryd","pid":"299208461"}`), 77, `{"mode":"always","site":"dc1"}`),
		}},
		"batch+numerics+snapshot-events+gzip/log:status:gzip": {"nk-2", "status", []event.Event{
			with(status(1795250768, migrate), 0, site),
			status(1795250768, line("0", "query.cpp", "119", "Storing initial results for new scheduled query: pack_it_one")),
			status(1795250769, line("0", "query.cpp", "119", "Storing initial results for new scheduled query: processes_like")),
		}},
		"decorations-top-level/log:status": {"nk-3", "status", []event.Event{with(status(1795250784, migrate), 0, site)}},
		"decorations-top-level/log:result:big": {"nk-3", "result", []event.Event{
			ev(1795250784, "processes_like", event.Added, 0, `{"load":"1.5","name":"osqueryd","pid":"299208464"}`),
			ev(1795250784, "pack_it_one", event.Added, 0, `{"one":"1"}`),
			ev(1795250785, "empty_snapshot", event.Snapshot, 0, `{}`),
			ev(1795250785, "nonutf8_snapshot", event.Snapshot, 0, `{"ctl":"\u0001","id":"1","raw":"ab\\xFF"}`),
		}},
	}
	var decoders event.Decoders // one for all: nothing of one request may show in the next
	for name, body := range logSamples(t) {
		tt, ok := tests[name]
		if !ok {
			t.Errorf("no test of %s", name)
			continue
		}
		d := decoders.Get()
		log, err := d.Decode(body, now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if log.NodeKey != tt.key || log.LogType != tt.logType || log.Skipped != 0 || log.Lines != len(tt.want) {
			t.Errorf("%s: key %q, type %q, %d lines, %d skipped", name, log.NodeKey, log.LogType, log.Lines, log.Skipped)
		}
		if diff := cmp.Diff(tt.want, log.Events, cmpopts.IgnoreFields(event.Event{}, "Line")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		lines := map[uint64]bool{}
		for _, e := range log.Events {
			lines[e.Line] = true
		}
		if len(lines) != len(tt.want) {
			t.Errorf("%s: %d lines have %d identities", name, len(tt.want), len(lines))
		}
		decoders.Put(d)
	}
}

// decode reads lines as one request of type result.
func decode(t *testing.T, lines string, received time.Time) *event.Log {
	t.Helper()
	var decoders event.Decoders
	log, err := decoders.Get().Decode([]byte(`{"data":[`+lines+`],"log_type":"result","node_key":"k"}`), received)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestDecode_odd(t *testing.T) {
	t.Parallel()
	at := func(e event.Event) event.Event {
		e.Time = now
		return e
	}
	tests := []struct {
		name, line string
		want       []event.Event
	}{
		{"numbers as texts", `{"name":"q","unixTime":"1795250703","epoch":"7","counter":"8","columns":{"a":"b"},"action":"added"}`, []event.Event{
			{Time: time.Unix(1795250703, 0).UTC(), Query: "q", Action: event.Added, Epoch: 7, Counter: 8, Columns: raw(`{"a":"b"}`)},
		}},
		{"batch with rows as text, as before 3.0", `{"name":"q","diffResults":{"removed":"","added":[{"a":"b"}]}}`, []event.Event{
			at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{"a":"b"}`)}),
		}},
		{"batch: removed rows first, all of one line", `{"name":"q","diffResults":{"added":[{"a":"3"}],"removed":[{"a":"1"},{"a":"2"}]}}`, []event.Event{
			at(event.Event{Query: "q", Action: event.Removed, Columns: raw(`{"a":"1"}`)}),
			at(event.Event{Query: "q", Action: event.Removed, Columns: raw(`{"a":"2"}`), Continues: true}),
			at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{"a":"3"}`), Continues: true}),
		}},
		{"empty batch", `{"name":"q","diffResults":{"removed":[],"added":[]}}`, nil},
		{"snapshot as text, as in 1.5", `{"name":"q","snapshot":""}`, []event.Event{at(event.Event{Query: "q", Action: event.Snapshot, Columns: raw(`{}`)})}},
		{"snapshot of two rows", `{"name":"q","snapshot":[{"a":"1"},{"a":"2"}]}`, []event.Event{
			at(event.Event{Query: "q", Action: event.Snapshot, Columns: raw(`{"a":"1"}`)}),
			at(event.Event{Query: "q", Action: event.Snapshot, Columns: raw(`{"a":"2"}`), Continues: true}),
		}},
		{"snapshot row by row", `{"name":"q","columns":{"a":"1"},"action":"snapshot"}`, []event.Event{at(event.Event{Query: "q", Action: event.Snapshot, Columns: raw(`{"a":"1"}`)})}},
		{"values that are no texts", `{"name":"q","action":"added","columns":{"i":-1,"f":1.50e3,"t":true,"n":null,"o":{"x":[1,"ä"]},"a":[]}}`, []event.Event{
			at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{"i":"-1","f":"1.50e3","t":"true","n":"","o":"{\"x\":[1,\"ä\"]}","a":"[]"}`)}),
		}},
		{"columns that are no object", `{"name":"q","action":"added","columns":"x"}`, []event.Event{at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{}`)})}},
		{"characters", "{\"name\":\"q\xff\",\"action\":\"added\",\"columns\":{\"k\\\"\\n\":\"\\\\ \\t\\r\\u0000\\u007f\\u2028 ä\xfe\"}}", []event.Event{
			at(event.Event{Query: `q\xFF`, Action: event.Added, Columns: raw(`{"k\"\n":"\\ \t\r\u0000\u007f` + "\u2028" + ` ä\\xFE"}`)}),
		}},
		{"decorations nested, empty", `{"name":"q","action":"added","columns":{},"decorations":{},"x":"no"}`, []event.Event{at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{}`)})}},
		{"decorations of numbers", `{"name":"q","action":"added","columns":{},"decorations":{"n":1}}`, []event.Event{
			at(event.Event{Query: "q", Action: event.Added, Columns: raw(`{}`), Decorations: raw(`{"n":"1"}`)}),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := decode(t, tt.line, now)
			if diff := cmp.Diff(tt.want, log.Events, cmpopts.IgnoreFields(event.Event{}, "Line"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for i, e := range log.Events {
				if !json.Valid(e.Columns) || e.Line != log.Events[0].Line || e.Continues != (i > 0) {
					t.Errorf("event %d: %+v", i, e)
				}
			}
		})
	}
	t.Run("lines that are no objects", func(t *testing.T) {
		t.Parallel()
		log := decode(t, `1,"x",null,[],{"name":"q","snapshot":[]}`, now)
		if log.Lines != 5 || log.Skipped != 4 || len(log.Events) != 1 {
			t.Errorf("%+v", log)
		}
	})
}

func TestDecode_errors(t *testing.T) {
	t.Parallel()
	tests := []struct{ body, problem string }{
		{``, "not JSON"},
		{`{"data":[`, "not JSON"},
		{`[]`, "array"},
		{`"x"`, "string"},
		{`{"data":{},"log_type":"result"}`, "data: is a JSON object"},
		{`{"data":"x","log_type":"result"}`, "data: is a JSON string"},
		{`{"data":[{}],"log_type":"other"}`, `log_type: is "other"`},
		{`{"data":[{}]}`, `log_type: is ""`},
	}
	for _, tt := range tests {
		var decoders event.Decoders
		_, err := decoders.Get().Decode([]byte(tt.body), now)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: %v, want %q", tt.body, err, tt.problem)
		}
	}
	for _, body := range []string{`{}`, `{"data":null,"log_type":"x"}`, `{"data":[],"log_type":"result","node_key":"k"}`} {
		var decoders event.Decoders
		if log, err := decoders.Get().Decode([]byte(body), now); err != nil || len(log.Events) != 0 {
			t.Errorf("%s: %+v, %v", body, log, err)
		}
	}
}

func TestDecode_time(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, unix string
		believed   bool
	}{
		{"now", fmt.Sprint(now.Unix()), true},
		{"text", fmt.Sprintf("%q", fmt.Sprint(now.Unix())), true},
		{"years of outage", "1500000000", true},
		{"the earliest", "1400000000", true},
		{"before osquery", "1399999999", false},
		{"a dead clock", "12", false},
		{"zero", "0", false},
		{"negative", "-5", false},
		{"a day ahead", fmt.Sprint(now.Unix() + 86400), true},
		{"over a day ahead", fmt.Sprint(now.Unix() + 86401), false},
		{"milliseconds", fmt.Sprint(now.UnixMilli()), false},
		{"the largest number", "9223372036854775807", false},
		{"beyond numbers", "99999999999999999999", false},
		{"no number", `"soon"`, false},
		{"null", "null", false},
	}
	for _, tt := range tests {
		log := decode(t, `{"name":"q","action":"added","columns":{},"unixTime":`+tt.unix+`}`, now)
		e := log.Events[0]
		if believed := !e.Time.Equal(now) || tt.unix == fmt.Sprint(now.Unix()); tt.name != "text" && believed != tt.believed {
			t.Errorf("%s: %v", tt.name, e.Time)
		}
		if said, err := strconv.ParseInt(tt.unix, 10, 64); !tt.believed && err == nil && e.AgentTime != said || tt.believed && e.AgentTime != 0 {
			t.Errorf("%s: the agent's time is %d", tt.name, e.AgentTime)
		}
		if e.Time.Location() != time.UTC || e.Time.Year() < 2014 || e.Time.Year() > 2026 {
			t.Errorf("%s: %v", tt.name, e.Time)
		}
	}
}

// TestDecode_line: a line has the same identity whenever it comes, also from a
// node with a mad clock, and any other line has another.
func TestDecode_line(t *testing.T) {
	t.Parallel()
	const base = `{"name":"q","unixTime":1795250703,"epoch":1,"counter":2,"decorations":{"d":"1"},"columns":{"a":"b"},"action":"added"}`
	identity := func(line string, received time.Time) uint64 { return decode(t, line, received).Events[0].Line }
	for _, unix := range []string{"1795250703", "12", "0", "4102444800"} {
		line := strings.Replace(base, "1795250703", unix, 1)
		if identity(line, now) != identity(line, now.Add(time.Hour)) {
			t.Errorf("a line of unixTime %s is another one an hour later", unix)
		}
	}
	lines := map[uint64]string{identity(base, now): base}
	for _, change := range [][2]string{
		{`"q"`, `"p"`},
		{`1795250703`, `1795250704`},
		{`1795250703`, `5`},
		{`1795250703`, `6`},
		{`"epoch":1`, `"epoch":2`},
		{`"counter":2`, `"counter":1`},
		{`"d":"1"`, `"d":"2"`},
		{`"a":"b"`, `"a":"c"`},
		{`"a":"b"`, `"a":"b","c":"d"`},
		{`"added"`, `"removed"`},
		{`"columns":{"a":"b"},"action":"added"`, `"snapshot":[{"a":"b"}]`},
		{`"columns":{"a":"b"},"action":"added"`, `"snapshot":[{"a":"b"},{"a":"b"}]`},
		{`"columns":{"a":"b"},"action":"added"`, `"diffResults":{"removed":[{"a":"b"}],"added":[{"a":"b"}]}`},
	} {
		line := strings.Replace(base, change[0], change[1], 1)
		id := identity(line, now)
		if other, ok := lines[id]; ok {
			t.Errorf("one identity:\n%s\n%s", line, other)
		}
		lines[id] = line
	}
}

// TestDecoders: what a large or hostile request took is not kept.
func TestDecoders(t *testing.T) {
	var decoders event.Decoders
	huge := []byte(`{"log_type":"result","data":[` + strings.Repeat("1,", 1<<20) + `1]}`)
	large := decoders.Get()
	if _, err := large.Decode(huge, now); err != nil {
		t.Fatal(err)
	}
	decoders.Put(large)
	for range 3 {
		if decoders.Get() == large {
			t.Fatal("a decoder with the memory of 2 MiB of numbers is used again")
		}
	}
}

func batch() event.Batch {
	day := time.Date(2026, 11, 21, 8, 45, 0, 123456000, time.UTC)
	e := func(query, action, columns, decorations string, line uint64, continues bool) event.Event {
		return event.Event{Time: day, Query: query, Action: action, Epoch: -1, Counter: 1 << 40, Columns: raw(columns), Decorations: raw(decorations), Line: line, Continues: continues}
	}
	b := event.Batch{
		NodeID: "n1", HostIdentifier: "höst", Received: day.Add(time.Second), Tags: []string{"a", "b"}, Revision: 7, LogType: "result", Joins: true,
		Events: []event.Event{
			e("q", event.Snapshot, `{"a":"1"}`, `{"d":"1"}`, 1, false),
			e("q", event.Snapshot, `{"a":"2"}`, `{"d":"1"}`, 1, true),
			e("q", event.Snapshot, `{"a":"2"}`, `{"d":"1"}`, 1, false),
			e("p", event.Added, `{}`, ``, 1<<64-1, false),
			e("p", event.Removed, `{}`, `{"d":"2"}`, 0, false),
			e("", "", `{}`, `{"d":"2"}`, 5, false),
		},
	}
	b.Events[2].AgentTime = -5
	b.Events[4].Time = time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)
	return b
}

func TestBatch(t *testing.T) {
	t.Parallel()
	continued := event.Batch{NodeID: "n", Received: now, Events: []event.Event{{Time: now, Columns: raw(`{}`), Line: 7, Continues: true}}}
	for name, b := range map[string]event.Batch{
		"all": batch(), "empty": {Received: now}, "begins within a line": continued,
		"zero times": {Events: []event.Event{{Columns: raw(`{}`)}, {Columns: raw(`{}`)}}},
	} {
		encoded := b.Append(nil)
		got, err := event.DecodeBatch(encoded)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(b, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for cut := range encoded {
			if _, err := event.DecodeBatch(encoded[:cut]); err == nil {
				t.Errorf("%s: the first %d of %d bytes are a batch", name, cut, len(encoded))
			}
		}
		if _, err := event.DecodeBatch(append(slices.Clone(encoded), 0)); err == nil {
			t.Errorf("%s: a byte too many is no error", name)
		}
	}
	b := batch()
	if got := b.Append([]byte("x")); !bytes.Equal(got[1:], b.Append(nil)) || got[0] != 'x' {
		t.Error("Append does not append")
	}
	future := b.Append(nil)
	future[0]++
	if _, err := event.DecodeBatch(future); err == nil {
		t.Error("a batch of a later version is read")
	}
}

// TestDecodeBatch_version1 reads what the version before wrote into a stream.
func TestDecodeBatch_version1(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString("01026e3102683180c9cabdffacb00601036f6c6406726573756c7400020080c9cabdffacb00601710561646465640202097b2264223a2231227d0000000000000001117b2270617468223a222f62696e2f31227d0f117b2270617468223a222f62696e2f78227d")
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.DecodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 12, 0, 1, 0, time.UTC)
	row := func(columns string, continues bool) event.Event {
		return event.Event{Time: at, Query: "q", Action: event.Added, Epoch: 1, Counter: 1, Columns: raw(columns), Decorations: raw(`{"d":"1"}`), Line: 1, Continues: continues}
	}
	want := event.Batch{
		NodeID: "n1", HostIdentifier: "h1", Received: at, Tags: []string{"old"}, LogType: "result",
		Events: []event.Event{row(`{"path":"/bin/1"}`, false), row(`{"path":"/bin/x"}`, true)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDecodeBatch_cost: a corrupt count must not ask for memory.
func TestDecodeBatch_cost(t *testing.T) {
	const size = 1 << 20
	b := (&event.Batch{Received: now}).Append(nil)
	b = append(b[:len(b)-1], 0x80, 0x80, 0x40) // 1 Mi events
	b = append(b, bytes.Repeat([]byte{0xff}, size)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := event.DecodeBatch(b)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("not corrupt")
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 20*size {
		t.Errorf("%d bytes for %d", n, len(b))
	}
}

// same compares in a way that a fuzzer can afford.
func same(a, b event.Batch) bool {
	return a.NodeID == b.NodeID && a.HostIdentifier == b.HostIdentifier && a.Received.Equal(b.Received) &&
		slices.Equal(a.Tags, b.Tags) && a.Revision == b.Revision && a.LogType == b.LogType && a.Joins == b.Joins &&
		slices.EqualFunc(a.Events, b.Events, func(x, y event.Event) bool {
			return x.Time.Equal(y.Time) && x.AgentTime == y.AgentTime && x.Query == y.Query && x.Action == y.Action && x.Epoch == y.Epoch && x.Counter == y.Counter &&
				bytes.Equal(x.Columns, y.Columns) && bytes.Equal(x.Decorations, y.Decorations) && x.Line == y.Line && x.Continues == y.Continues
		})
}

func FuzzDecodeBatch(f *testing.F) {
	b := batch()
	f.Add(b.Append(nil))
	f.Add((&event.Batch{}).Append(nil))
	f.Add([]byte{1})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := event.DecodeBatch(b)
		if err != nil {
			return
		}
		again, err := event.DecodeBatch(batch.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !same(batch, again) {
			t.Fatal(cmp.Diff(batch, again))
		}
	})
}

func FuzzDecodeLog(f *testing.F) {
	for _, body := range logSamples(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"log_type":"result","data":[{"name":"q","snapshot":[{"a":{"b":[1,nan]}}]},1]}`))
	f.Add([]byte(`{"log_type":"result","data":[{"unixTime":9223372036854775807,"columns":{"\ud800":"\u0000"}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var decoders event.Decoders
		d := decoders.Get()
		log, err := d.Decode(body, now)
		if err != nil {
			return
		}
		for _, e := range log.Events {
			for _, s := range []string{log.NodeKey, e.Query, e.Action, string(e.Columns), string(e.Decorations)} {
				if !utf8.ValidString(s) {
					t.Fatalf("%q is not UTF-8", s)
				}
			}
			var columns, decorations map[string]string
			if err := json.Unmarshal(e.Columns, &columns); err != nil || columns == nil {
				t.Fatalf("columns %s: %v", e.Columns, err)
			}
			if err := json.Unmarshal(e.Decorations, &decorations); e.Decorations != nil && (err != nil || len(decorations) == 0) {
				t.Fatalf("decorations %s: %v", e.Decorations, err)
			}
		}
		b := event.Batch{Received: now, LogType: log.LogType, Events: log.Events}
		again, err := event.DecodeBatch(b.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !same(b, again) {
			t.Fatal(cmp.Diff(b, again))
		}
	})
}

// body returns a log request as agents of a default config send it.
func body(lines int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"data":[`)
	for i := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"pack_base_listening_ports","hostIdentifier":"b3e68175-1323-402d-9372-360437bfd488",`+
			`"calendarTime":"Sat Nov 21 08:45:24 2026 UTC","unixTime":1795250724,"epoch":0,"counter":4,"numerics":false,`+
			`"decorations":{"host_uuid":"b3e68175-1323-402d-9372-360437bfd488"},`+
			`"columns":{"address":"127.0.0.1","family":"2","name":"osqueryd","path":"/opt/osquery/bin/osqueryd","pid":"%d","port":"%d","protocol":"6"},"action":"added"}`, 20000+i, i)
	}
	b.WriteString(`],"log_type":"result","node_key":"nk-1"}`)
	return b.Bytes()
}

func BenchmarkDecode(b *testing.B) {
	for _, lines := range []int{10, 1024} {
		b.Run(fmt.Sprintf("lines=%d", lines), func(b *testing.B) {
			body := body(lines)
			var decoders event.Decoders
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				d := decoders.Get()
				if log, err := d.Decode(body, now); err != nil || len(log.Events) != lines {
					b.Fatal(err)
				}
				decoders.Put(d)
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, lines := range []int{10, 1024} {
		var decoders event.Decoders
		log, err := decoders.Get().Decode(body(lines), now)
		if err != nil {
			b.Fatal(err)
		}
		batch := event.Batch{NodeID: "n", HostIdentifier: "h", Received: now, LogType: log.LogType, Events: log.Events}
		encoded := batch.Append(nil)
		b.Run(fmt.Sprintf("Append/lines=%d", lines), func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				encoded = batch.Append(encoded[:0])
			}
		})
		b.Run(fmt.Sprintf("DecodeBatch/lines=%d", lines), func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := event.DecodeBatch(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestDecode_wide: a row with more columns than SQLite can make is refused, and
// the decoder is as good as before.
func TestDecode_wide(t *testing.T) {
	t.Parallel()
	row := func(n int) []byte {
		b := []byte(`{"log_type":"result","data":[{"name":"q","action":"added","columns":{"c0":"x"`)
		for i := 1; i < n; i++ {
			b = fmt.Appendf(b, `,"c%d":"x"`, i)
		}
		return append(b, "}}]}"...)
	}
	var all event.Decoders
	d := all.Get()
	for n, ok := range map[int]bool{2000: true, 2001: false, 100_000: false, 1: true} {
		log, err := d.Decode(row(n), time.Now())
		if (err == nil) != ok || ok && len(log.Events) != 1 || !ok && !errs.Is(err, errs.Invalid) {
			t.Errorf("%d columns: %v", n, err)
		}
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": `{"m":"true"}`, "{}": `{"m":"true"}`, `{ }`: `{"m":"true"}`, `{"a":"b"}`: `{"m":"true","a":"b"}`,
		`{"m":"false"}`: `{"m":"true","m":"false"}`,
	} {
		if got := event.Mark(json.RawMessage(in), "m"); string(got) != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
