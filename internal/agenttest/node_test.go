package agenttest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

func TestEnroll(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	must(t, n.Enroll(t.Context()))
	must(t, n.Enroll(t.Context()))
	if n.Key() != "key-2" {
		t.Errorf("key is %q, want the second", n.Key())
	}
	got := s.enrolments()[0]
	if got.HostIdentifier != n.HostIdentifier() || got.EnrollSecret != secret {
		t.Errorf("enrolled as %q with %q", got.HostIdentifier, got.EnrollSecret)
	}
	if diff := cmp.Diff(n.Host().Details(), got.HostDetails); diff != "" {
		t.Errorf("details (-made +received):\n%s", diff)
	}
}

func TestEnrollRefused(t *testing.T) {
	s := newServer(t)
	n := agenttest.NewNodes(t, s.url(), s.pool, "wrong", 1)[0]
	if err := n.Enroll(t.Context()); !errors.Is(err, agentwire.ErrNodeInvalid) {
		t.Errorf("got %v, want ErrNodeInvalid", err)
	}
	if _, err := n.Config(t.Context()); err == nil || n.Key() != "" {
		t.Errorf("config without a key: %v, key %q", err, n.Key())
	}
}

func TestEnrollDetails(t *testing.T) {
	s := newServer(t)
	n, err := agenttest.New(agenttest.Options{
		URL: s.url(), RootCAs: s.pool, Secret: secret, HostIdentifier: "my-host", Platform: "windows", Number: 3,
		Conn:    agentwire.KeepAlive,
		Details: func(d map[string]map[string]string) { d["system_info"]["hardware_serial"] = "S-1" },
	})
	must(t, err)
	defer n.Close()
	must(t, n.Enroll(t.Context()))
	got := s.enrolments()[0]
	if got.HostIdentifier != "my-host" || got.PlatformType != "2" || got.HostDetails["system_info"]["hardware_serial"] != "S-1" {
		t.Errorf("enrolled as %+v", got)
	}
}

// TestNodeInvalid: a node whose key is refused enrols and goes on.
func TestNodeInvalid(t *testing.T) {
	for _, conn := range []agentwire.Conn{agentwire.Full, agentwire.Resume, agentwire.KeepAlive} {
		t.Run(string(conn), func(t *testing.T) {
			s := newServer(t)
			n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Conn: conn})
			must(t, err)
			defer n.Close()
			config, err := n.Config(t.Context())
			must(t, err)
			if string(config) != s.config {
				t.Errorf("config is %s", config)
			}
			s.forgetKeys()
			n.BufferNumbered(3, time.Now())
			must(t, n.Flush(t.Context()))
			if n.Key() != "key-2" || n.Pending() != 0 || len(s.requests()) != 1 {
				t.Errorf("key %q, %d lines wait, %d log requests", n.Key(), n.Pending(), len(s.requests()))
			}
		})
	}
}

// TestNodeInvalidAlways: a server that refuses every key is not asked forever.
func TestNodeInvalidAlways(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	s.setBefore(func(path string, w http.ResponseWriter) bool {
		if path == "config" {
			_, _ = io.WriteString(w, `{"node_invalid":true}`)
		}
		return path == "config"
	})
	if _, err := n.Config(t.Context()); !errors.Is(err, agentwire.ErrNodeInvalid) {
		t.Errorf("got %v, want ErrNodeInvalid", err)
	}
	if len(s.enrolments()) != 2 || n.Key() != "" {
		t.Errorf("%d enrolments, key %q; want 2 and none", len(s.enrolments()), n.Key())
	}
}

// TestBuffer: lines stay after a failure, whatever the status, and are sent
// again before newer ones; an empty body of any status is success.
func TestBuffer(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	tests := []struct {
		status int
		body   string
		kept   bool
	}{
		{500, `{"error":"disk full"}`, true},
		{200, `{"error":"disk full"}`, true},
		{200, `{"error":null}`, true},
		{503, "busy", true},
		{200, `{"status":"ok"}`, false},
		{500, "", false},
		{200, "", false},
	}
	for _, tt := range tests {
		s.setBefore(func(path string, w http.ResponseWriter) bool {
			if path == "log" {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}
			return path == "log"
		})
		before := n.Ledger()
		n.BufferNumbered(2, time.Now())
		err := n.Flush(t.Context())
		if (err != nil) != tt.kept || (n.Pending() > 0) != tt.kept {
			t.Errorf("%d %q: error %v, %d lines kept", tt.status, tt.body, err, n.Pending())
		}
		if l := n.Ledger(); tt.kept && l.Acked != before.Acked || !tt.kept && l.Acked != l.Made {
			t.Errorf("%d %q: ledger %+v", tt.status, tt.body, l)
		}
	}
	s.setBefore(func(_ string, w http.ResponseWriter) bool {
		_, _ = io.WriteString(w, `{"error":"later"}`)
		return true
	})
	n.BufferNumbered(3, time.Now())
	if err := n.Flush(t.Context()); err == nil {
		t.Error("no error for a failure")
	}
	s.setBefore(nil)
	n.BufferNumbered(2000, time.Now())
	for n.Pending() > 0 {
		must(t, n.Flush(t.Context()))
	}
	sizes := []int{}
	for _, l := range s.requests() {
		sizes = append(sizes, len(l.lines))
	}
	if !slices.Equal(sizes, []int{agenttest.MaxLines, 2003 - agenttest.MaxLines}) {
		t.Errorf("requests of %v lines", sizes)
	}
	numbers := s.numbers()[n.HostIdentifier()]
	if !slices.IsSorted(numbers) || len(numbers) != 2003 || numbers[0] != n.Ledger().Made-2002 {
		t.Errorf("%d numbers from %d on", len(numbers), numbers[0])
	}
}

// TestBroken: when the connection breaks after the server took the lines, the
// same lines arrive again, byte for byte.
func TestBroken(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	must(t, n.Enroll(t.Context()))
	var breaks atomic.Int32
	s.setBefore(func(_ string, w http.ResponseWriter) bool {
		if breaks.Add(1) <= 2 { // the request and the client's resend
			hijack(t, w)
			return true
		}
		return false
	})
	n.BufferRows(5, time.Now())
	if err := n.Flush(t.Context()); err == nil || n.Pending() != 5 {
		t.Errorf("broken twice: error %v, %d lines wait", err, n.Pending())
	}
	breaks.Store(1) // breaks once more, and the resend passes
	must(t, n.Flush(t.Context()))
	if n.Pending() != 0 || len(s.requests()) != 1 || breaks.Load() != 3 {
		t.Errorf("%d lines wait, %d requests stored, %d seen", n.Pending(), len(s.requests()), breaks.Load())
	}
}

// TestDuplicates: the server stored the lines but the answer was lost.
func TestDuplicates(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	must(t, n.Enroll(t.Context()))
	s.setBefore(func(_ string, w http.ResponseWriter) bool {
		s.before = nil
		host := s.keys[n.Key()]
		s.logs = append(s.logs, logged{host: host})
		hijack(t, w)
		return true
	})
	n.BufferNumbered(4, time.Now())
	must(t, n.Flush(t.Context()))
	if len(s.requests()) != 2 || n.Ledger().Acked != 4 {
		t.Errorf("%d requests, ledger %+v", len(s.requests()), n.Ledger())
	}
}

func TestBufferFull(t *testing.T) {
	s := newServer(t)
	n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, MaxBuffered: 10})
	must(t, err)
	for range 3 {
		n.BufferRows(6, time.Now())
	}
	if n.Pending() != 10 || n.Dropped() != 8 {
		t.Errorf("%d lines wait, %d dropped", n.Pending(), n.Dropped())
	}
	if made := n.BufferNumbered(5, time.Now()); made != 0 {
		t.Errorf("%d numbered lines made in a full buffer", made)
	}
	must(t, n.Flush(t.Context()))
	if made := n.BufferNumbered(15, time.Now()); made != 10 {
		t.Errorf("%d numbered lines made, want 10", made)
	}
	if n.BufferRows(1, time.Now()); n.Ledger().Made != 10 {
		t.Errorf("ledger %+v", n.Ledger())
	}
}

func TestLedgerCheck(t *testing.T) {
	l := agenttest.Ledger{HostIdentifier: "h", Made: 9, Sent: 7, Acked: 5}
	tests := []struct {
		stored []int64
		want   string // part of the error; "" for none
	}{
		{[]int64{1, 2, 3, 4, 5}, ""},
		{[]int64{7, 5, 4, 3, 2, 1}, ""},
		{[]int64{1, 2, 4, 5}, "1 (3 …) acknowledged but missing"},
		{[]int64{1, 2, 3, 4, 5, 5}, "1 (5 …) stored twice"},
		{[]int64{1, 2, 3, 4, 5, 8}, "1 (8 …) never sent"},
		{nil, "5 (1 …) acknowledged but missing"},
	}
	for _, tt := range tests {
		err := l.Check(tt.stored)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: got %v, want %q", tt.stored, err, tt.want)
		}
	}
}

// TestLogWire compares what arrives with osquery's own encoding.
func TestLogWire(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	now := time.Date(2026, 8, 5, 8, 45, 24, 0, time.UTC)
	n.BufferRows(40, now)
	must(t, n.Flush(t.Context()))
	must(t, n.Log(t.Context(), nil, osquery.LogTypeStatus))
	got := s.requests()
	for _, l := range got {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		must(t, e.Encode(osquery.LogRequest{Data: append([]json.RawMessage{}, l.lines...), LogType: l.logType, NodeKey: n.Key()}))
		if !bytes.Equal(l.body, bytes.TrimSpace(want.Bytes())) {
			t.Errorf("got %s\nwant %s", l.body, &want)
		}
	}
	if got[1].logType != osquery.LogTypeStatus || len(got[1].lines) != 0 {
		t.Errorf("second request is %+v", got[1])
	}
	seen := map[string]bool{}
	for i, line := range got[0].lines {
		var m map[string]json.RawMessage
		must(t, json.Unmarshal(line, &m))
		if !strings.Contains(string(line), `"calendarTime":"Wed Aug  5 08:45:24 2026 UTC","unixTime":1785919524,"epoch":0,"counter":0,"numerics":false,"columns":{`) ||
			string(m["hostIdentifier"]) != `"`+n.HostIdentifier()+`"` || string(m["action"]) != `"added"` {
			t.Errorf("line %d is %s", i, line)
		}
		var columns osquery.Row
		must(t, json.Unmarshal(m["columns"], &columns))
		if !slices.IsSortedFunc(columns, func(a, b osquery.Column) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("columns are not sorted: %s", line)
		}
		if seen[string(line)] {
			t.Errorf("line %d is there twice: %s", i, line)
		}
		seen[string(line)] = true
	}
}

func TestHosts(t *testing.T) {
	names, uuids, platforms := map[string]bool{}, map[string]bool{}, map[string]int{}
	for i := range 5000 {
		h := agenttest.NewHost(i, "")
		if h != agenttest.NewHost(i, "") {
			t.Fatalf("host %d changes", i)
		}
		names[h.Hostname], uuids[h.UUID] = true, true
		platforms[h.Platform]++
		if d := h.Details(); d["osquery_info"]["version"] != h.Version || d["system_info"]["uuid"] != h.UUID {
			t.Errorf("host %d: %v", i, d)
		}
	}
	if len(names) != 5000 || len(uuids) != 5000 {
		t.Errorf("%d names, %d uuids", len(names), len(uuids))
	}
	if platforms["linux"] < 3000 || platforms["darwin"] < 500 || platforms["windows"] < 250 {
		t.Errorf("platforms %v", platforms)
	}
}
