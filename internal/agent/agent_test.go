package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pass lets virtual time pass.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	wait(t.Context(), d)
	synctest.Wait()
}

// brief shows result lines as "name action counter columns|rows".
func brief(lines []map[string]any) []string {
	out := []string{}
	for _, l := range lines {
		what := l["columns"]
		if l["action"] == "snapshot" {
			what = l["snapshot"]
		}
		text, err := json.Marshal(what)
		if err != nil {
			text = []byte(err.Error())
		}
		out = append(out, fmt.Sprintf("%v %v %v %s", l["name"], l["action"], l["counter"], text))
	}
	return out
}

func TestRun_schedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		touch := func(name string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sc := &script{config: `{
			"schedule": {
				"files": {"query": "SELECT filename FROM file WHERE directory = '` + dir + `'", "interval": 10},
				"kept": {"query": "SELECT filename FROM file WHERE directory = '` + dir + `'", "interval": "10", "removed": false},
				"state": {"query": "SELECT 1 AS b, 'x' AS a WHERE 0", "interval": 60, "snapshot": true},
				"broken": {"query": "SELECT * FROM nope", "interval": 60}
			},
			"packs": {"p": {"discovery": ["SELECT 1 FROM users WHERE uid = 0"], "queries": {"q": {"query": "SELECT 2 AS two", "interval": 30}}},
				"off": {"discovery": ["SELECT 1 WHERE 0"], "queries": {"q": {"query": "SELECT 3", "interval": 5}}}},
			"decorators": {"load": ["SELECT 'dc1' AS site"], "always": ["SELECT 'yes' AS always"]},
			"options": {"logger_tls_period": 2, "nonsense": 1, "database_path": "/x"}
		}`}
		s := newServer(t, sc.answer)
		touch("one")
		a, _ := start(t, s, testFlags(t, ""))
		// Virtual time begins at a full minute: everything is due at once.
		pass(t, 5*time.Second)
		touch("two")
		if err := os.Remove(filepath.Join(dir, "one")); err != nil {
			t.Fatal(err)
		}
		pass(t, 10*time.Second)
		if err := os.Remove(filepath.Join(dir, "two")); err != nil {
			t.Fatal(err)
		}
		pass(t, 30*time.Second)
		got := brief(s.lines(t, "result"))
		want := []string{
			`files added 0 {"filename":"one"}`,
			`kept added 0 {"filename":"one"}`,
			`state snapshot 0 []`,
			`pack_p_q added 0 {"two":"2"}`,
			`files removed 1 {"filename":"one"}`,
			`files added 1 {"filename":"two"}`,
			`kept added 1 {"filename":"two"}`,
			`files removed 2 {"filename":"two"}`,
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		for _, l := range s.lines(t, "result") {
			if diff := cmp.Diff(map[string]any{"site": "dc1", "always": "yes"}, l["decorations"]); diff != "" {
				t.Errorf("decorations: %s", diff)
			}
		}
		var messages []string
		for _, l := range s.lines(t, "status") {
			messages = append(messages, l["message"].(string))
		}
		for _, m := range []string{
			"Error executing scheduled query broken: no such table: nope",
			"Cannot set unknown or invalid flag: nonsense",
			"The CLI only flag --database_path set via config file will be ignored, please use a flagfile or pass it to the process at startup",
		} {
			if !slices.Contains(messages, m) {
				t.Errorf("no status %q in %q", m, messages)
			}
		}
		rows, _, err := a.Query(t.Context(), "SELECT name, executions, interval FROM osquery_schedule ORDER BY name")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rows); got != "[[{name broken} {executions 0} {interval 60}] [{name files} {executions 5} {interval 10}] [{name kept} {executions 5} {interval 10}] [{name pack_p_q} {executions 2} {interval 30}] [{name state} {executions 1} {interval 60}]]" {
			t.Errorf("osquery_schedule: %s", got)
		}
		rows, _, err = a.Query(t.Context(), "SELECT config_valid, length(config_hash), build_distro FROM osquery_info")
		if err != nil || fmt.Sprint(rows) != "[[{config_valid 1} {length(config_hash) 40} {build_distro muster}]]" {
			t.Errorf("osquery_info: %v, %v", rows, err)
		}
		rows, _, err = a.Query(t.Context(), "SELECT value FROM osquery_flags WHERE name = 'logger_tls_period'")
		if err != nil || fmt.Sprint(rows) != "[[{value 2}]]" {
			t.Errorf("osquery_flags: %v, %v", rows, err)
		}
		if n := len(s.to("/enroll")); n != 1 {
			t.Errorf("%d enrolments, want 1", n)
		}
		conns := map[int]bool{}
		for _, r := range s.requests {
			if conns[r.conn] {
				t.Error("a connection carried two requests")
			}
			conns[r.conn] = true
		}
	})
}

// TestRun_restart stops an agent and runs another over its database: no new
// enrolment, no repeated rows, counters go on, unsent lines are sent.
func TestRun_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		sc := &script{
			config: `{"schedule":{"files":{"query":"SELECT filename FROM file WHERE directory = '` + dir + `'","interval":1}}}`,
			log:    func(request) (int, string) { return 503, `{"error":"busy"}` },
		}
		s := newServer(t, sc.answer)
		f := testFlags(t, "")
		name := filepath.Join(dir, "one")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, stop := start(t, s, f)
		pass(t, 10*time.Second)
		stop()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		sc.set(func(s *script) { s.log = nil })
		before := len(s.to("/log"))
		_, stop = start(t, s, f)
		pass(t, 10*time.Second)
		stop()
		var lines []map[string]any
		for _, r := range s.to("/log")[before:] {
			lines = append(lines, r.lines(t)...)
		}
		lines = slices.DeleteFunc(lines, func(l map[string]any) bool { return l["name"] == nil })
		if diff := cmp.Diff([]string{`files added 0 {"filename":"one"}`, `files removed 1 {"filename":"one"}`}, brief(lines)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n := len(s.to("/enroll")); n != 1 {
			t.Errorf("%d enrolments, want 1", n)
		}
	})
}

func TestRun_distributed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{}`, read: []string{
			`{"queries":{"b":"SELECT 'x' AS z, 1 AS a","a":"SELECT * FROM nope","c":"SELECT 1; SELECT 2","d":"SELECT 1","e":"SELECT 1 WHERE 0"},
			  "discovery":{"d":"SELECT 1 WHERE 0","e":"SELECT 1"},"accelerate":20}`,
			`{"queries":{"f":"SELECT 1","g":7,"h":"SELECT 2"}}`,
			`{"queries":{"i":"SELECT 1"},"discovery":{"i":"nonsense"}}`,
			`{"accelerate":"60"}`,
		}}
		s := newServer(t, sc.answer)
		f := testFlags(t, "")
		// What a former run left: one query that ended it, one not yet begun.
		db, err := openDatabase(f.String("database_path"))
		if err != nil {
			t.Fatal(err)
		}
		fatal := sha256.Sum256([]byte("SELECT 'fatal'"))
		err = db.update(func(s *saved) {
			s.Running[hex.EncodeToString(fatal[:])] = time.Now().Unix() - 60
			s.Pending["left"] = "SELECT 'left' AS l"
			s.Pending["again"] = "SELECT 'fatal'"
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.close(); err != nil {
			t.Fatal(err)
		}
		start(t, s, f)
		pass(t, 100*time.Second)
		writes := s.to("/write")
		if len(writes) != 2 {
			t.Fatalf("%d writes, want 2", len(writes))
		}
		var body struct {
			Queries  map[string][]map[string]string
			Statuses map[string]int
			Messages map[string]string
			Stats    map[string]map[string]int
		}
		if err := json.Unmarshal(writes[0].body, &body); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]map[string]string{
			"a": {}, "b": {{"z": "x", "a": "1"}}, "c": {}, "e": {}, "left": {{"l": "left"}}, "again": {},
		}, body.Queries); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 0, "c": 1, "e": 0, "left": 0, "again": 1}, body.Statuses); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		if body.Messages["a"] != "no such table: nope" || body.Messages["again"] != "distributed query is denylisted" || len(body.Stats["again"]) != 0 {
			t.Errorf("messages %q, stats %v", body.Messages, body.Stats)
		}
		if !strings.Contains(string(writes[0].body), `[{"z":"x","a":"1"}]`) {
			t.Error("the columns are not in the order of the SELECT")
		}
		body.Statuses = nil
		if err := json.Unmarshal(writes[1].body, &body); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{"f": 0}, body.Statuses); diff != "" {
			t.Errorf("after a bad entry (-want +got):\n%s", diff)
		}
		var gaps []string
		reads := s.to("/read")
		for i := 1; i < len(reads) && i < 7; i++ {
			gaps = append(gaps, reads[i].at.Sub(reads[i-1].at).Round(time.Second).String())
		}
		// 20 s of a read every 5 s; the refused discovery is tried once.
		if diff := cmp.Diff([]string{"5s", "5s", "5s", "5s", "10s", "10s"}, gaps); diff != "" {
			t.Errorf("between reads (-want +got):\n%s", diff)
		}
	})
}

// TestRun_writeFails keeps answers until the server takes them.
func TestRun_writeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{}`, read: []string{`{"queries":{"a":"SELECT 1 AS x"}}`}}
		refuse := true
		s := newServer(t, func(r request) (int, string) {
			if r.path == "/write" && refuse {
				return 500, "not JSON"
			}
			return sc.answer(r)
		})
		start(t, s, testFlags(t, ""))
		pass(t, 12*time.Second)
		if n := len(s.to("/write")); n != 3 {
			t.Errorf("%d writes, want 3 attempts", n)
		}
		sc.set(func(*script) { refuse = false })
		pass(t, 30*time.Second)
		writes := s.to("/write")
		if len(writes) != 4 {
			t.Fatalf("%d writes, want one more", len(writes))
		}
		if string(writes[3].body) == "" || !strings.Contains(string(writes[3].body), `{"a":[{"x":"1"}]}`) {
			t.Errorf("got %s", writes[3].body)
		}
	})
}

func TestRun_nodeInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{"schedule":{"s":{"query":"SELECT 1 AS x","interval":60}}}`, invalid: map[string]bool{}}
		s := newServer(t, sc.answer)
		start(t, s, testFlags(t, ""))
		pass(t, 3*time.Second)
		sc.set(func(s *script) { s.invalid["nk-1"] = true })
		pass(t, 30*time.Second)
		if n := len(s.to("/enroll")); n != 2 {
			t.Errorf("%d enrolments, want 2", n)
		}
		var lines []map[string]any
		for _, r := range s.to("/log") {
			if r.key == "nk-2" {
				lines = append(lines, r.lines(t)...)
			}
			if want := "NodeKey " + r.key; r.header("Authorization") != want {
				t.Errorf("Authorization %q, want %q", r.header("Authorization"), want)
			}
		}
		if len(lines) == 0 || lines[0]["name"] != "s" {
			t.Errorf("the line is not sent again under the new key: %v", lines)
		}
	})
}

// TestRun_emptyAnswers shows the real agent's dangerous rules: an empty body
// is success whatever the status, and a config at that.
func TestRun_emptyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{
			config: `{"schedule":{"s":{"query":"SELECT unix_time FROM time","interval":1}}}`,
			log:    func(request) (int, string) { return 500, "" },
		}
		s := newServer(t, sc.answer)
		a, _ := start(t, s, testFlags(t, ""))
		pass(t, 61*time.Second)
		seen := map[any]bool{}
		for _, l := range s.lines(t, "result") {
			if l["action"] == "added" {
				if seen[l["counter"]] {
					t.Fatalf("line %v came twice", l["counter"])
				}
				seen[l["counter"]] = true
			}
		}
		const atLeast = 50
		if len(seen) < atLeast {
			t.Errorf("%d lines, want at least %d", len(seen), atLeast)
		}
		sc.set(func(s *script) { s.config = "" })
		pass(t, 70*time.Second)
		n := len(s.lines(t, "result"))
		pass(t, 60*time.Second)
		if more := len(s.lines(t, "result")) - n; more != 0 {
			t.Errorf("%d lines after an empty config", more)
		}
		if a.results.Len() != 0 {
			t.Errorf("%d lines still wait", a.results.Len())
		}
	})
}

func TestRun_configKept(t *testing.T) {
	for name, bad := range map[string]string{
		"error":    `{"error":"busy"}`,
		"not JSON": `<html>`,
		"too big":  `{"x":"` + strings.Repeat("x", maxConfig) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sc := &script{config: `{"schedule":{"s":{"query":"SELECT 1","interval":600}}}`}
				s := newServer(t, sc.answer)
				a, stop := start(t, s, testFlags(t, "--config_accelerated_refresh=7\n--disable_distributed=true"))
				pass(t, time.Second)
				sc.set(func(s *script) { s.config = bad })
				pass(t, 80*time.Second)
				if rows, _, err := a.Query(t.Context(), "SELECT name FROM osquery_schedule"); err != nil || len(rows) != 1 {
					t.Errorf("the schedule is gone: %v, %v", rows, err)
				}
				stop()
				// First load, the refresh with its attempts, and the next 7 s later.
				if n := len(s.to("/config")); n < 3 {
					t.Errorf("%d config requests", n)
				}
			})
		})
	}
}

func TestRun_logBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{
			config: `{"schedule":{"s":{"query":"SELECT 1","interval":600}}}`,
			log:    func(request) (int, string) { return 200, `{"error":"full"}` },
		}
		s := newServer(t, sc.answer)
		start(t, s, testFlags(t, "--logger_tls_backoff_max=50\n--tls_disable_status_log=true\n--logger_tls_period=2"))
		pass(t, 200*time.Second)
		var gaps []string
		requests := s.to("/log")
		for i := 1; i < len(requests); i++ {
			gaps = append(gaps, requests[i].at.Sub(requests[i-1].at).Round(time.Second).String())
		}
		if diff := cmp.Diff([]string{"2s", "8s", "18s", "32s", "50s", "50s"}, gaps); diff != "" {
			t.Errorf("between tries (-want +got):\n%s", diff)
		}
	})
}

func TestRun_longLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{"schedule":{"s":{"query":"SELECT hex(zeroblob(600000)) AS x","interval":600}}}`}
		s := newServer(t, sc.answer)
		start(t, s, testFlags(t, ""))
		pass(t, 20*time.Second)
		if requests := s.to("/log"); len(requests) == 0 || !strings.HasPrefix(string(requests[0].body), `{"data":[],"log_type":"result"`) {
			t.Fatalf("got %.100s", requests[0].body)
		}
		status := s.lines(t, "status")
		if len(status) == 0 || !strings.HasPrefix(status[0]["message"].(string), "Linesize exceeds TLS logger maximum: 12") {
			t.Errorf("status %v", status)
		}
	})
}

// TestRun_enrollRefused follows the rounds of n² and the empty key between.
func TestRun_enrollRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{}
		s := newServer(t, func(r request) (int, string) {
			if r.path == "/enroll" {
				return 200, `{"node_invalid":true}`
			}
			return sc.answer(r)
		})
		sc.config = `{}`
		start(t, s, testFlags(t, "--tls_enroll_max_attempts=3\n--disable_distributed=true\n--logger_plugin=filesystem"))
		pass(t, 10*time.Second)
		enrols := s.to("/enroll")
		if len(enrols) != 3 || enrols[1].at.Sub(enrols[0].at) != time.Second || enrols[2].at.Sub(enrols[1].at) != 4*time.Second {
			t.Errorf("%d enrolments", len(enrols))
		}
		configs := s.to("/config")
		if len(configs) != 1 || string(configs[0].body) != `{"node_key":""}` || configs[0].header("Authorization") != "" {
			t.Errorf("config requests %v", configs)
		}
	})
}

func TestRun_tls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{}`}
		s := newServer(t, sc.answer)
		f := testFlags(t, "--disable_distributed=true")
		dir := t.TempDir()
		write := func(name, kind string, der []byte) string {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		client := s.ca.issue(t, "agent-7")
		key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		f.Set("tls_client_cert", write("client.pem", "CERTIFICATE", client.Certificate[0]))
		f.Set("tls_client_key", write("client.key", "PRIVATE KEY", key))
		f.Set("tls_server_certs", write("ca.pem", "CERTIFICATE", s.ca.cert.Raw))
		_, stop := start(t, &server{dialer: s}, f)
		pass(t, time.Second)
		stop()
		if r := s.to("/config"); len(r) != 1 || r[0].client != "agent-7" {
			t.Errorf("config requests %v, want one with the client certificate", r)
		}
		// Another authority's server gets nothing.
		other := newServer(t, sc.answer)
		_, stop = start(t, &server{dialer: other}, f)
		pass(t, 30*time.Second)
		stop()
		if len(other.requests) != 0 {
			t.Errorf("a server of another authority got %d requests", len(other.requests))
		}
	})
}

// TestRun_startup runs queries with startup_priority when first seen, lower
// first, and decorators of an interval at full minutes.
func TestRun_startup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(t, 7*time.Second) // away from the full minute at which virtual time begins
		sc := &script{config: `{
			"schedule":{
				"late":{"query":"SELECT 1 AS x","interval":600,"snapshot":true,"startup_priority":2},
				"early":{"query":"SELECT 1 AS x","interval":600,"snapshot":true,"startup_priority":1},
				"never":{"query":"SELECT 1 AS x","interval":600,"snapshot":true},
				"often":{"query":"SELECT 1 AS x","interval":50,"snapshot":true}},
			"decorators":{"interval":{"60":["SELECT 'm' AS minute"],"120":["SELECT 'two' AS minutes"]}}}`}
		s := newServer(t, sc.answer)
		start(t, s, testFlags(t, ""))
		pass(t, 110*time.Second)
		var got []string
		for _, l := range s.lines(t, "result") {
			decorations, err := json.Marshal(l["decorations"])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%v %s", l["name"], decorations))
		}
		// Virtual time is a multiple of 50 at its begin, too: often runs at 50 and 100.
		want := []string{"early null", "late null", "often null", `often {"minute":"m"}`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestRun_backup starts without the server on the last good config.
func TestRun_backup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{"schedule":{"s":{"query":"SELECT 1","interval":600}}}`}
		s := newServer(t, sc.answer)
		f := testFlags(t, "--config_enable_backup=true")
		_, stop := start(t, s, f)
		pass(t, time.Second)
		stop()
		sc.set(func(s *script) { s.config = "down" })
		a, _ := start(t, s, f)
		pass(t, 10*time.Second)
		if rows, _, err := a.Query(t.Context(), "SELECT name, executions FROM osquery_schedule"); err != nil || fmt.Sprint(rows) != "[[{name s} {executions 1}]]" {
			t.Errorf("the schedule is not the backup's: %v, %v", rows, err)
		}
	})
}

func TestSplayed(t *testing.T) {
	f := testFlags(t, "--tls_hostname=\n--schedule_splay_percent=20")
	a, err := New(Options{Flags: f})
	if err != nil {
		t.Fatal(err)
	}
	differ := false
	kept := map[string]int64{}
	for i := range 50 {
		q := Query{Name: fmt.Sprint("q", i), Interval: 100}
		n := a.splayed(t.Context(), q)
		if n < 80 || n > 120 {
			t.Errorf("%d is over 20%% from 100", n)
		}
		differ = differ || n != 100
		kept[q.Name] = n
	}
	if !differ {
		t.Error("no interval varies")
	}
	if n := a.splayed(t.Context(), Query{Name: "short", Interval: 9}); n != 9 {
		t.Errorf("a short interval varies: %d", n)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = New(Options{Flags: f}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for name, n := range kept {
		if again := a.splayed(t.Context(), Query{Name: name, Interval: 100}); again != n {
			t.Errorf("%s: %d after a restart, was %d", name, again, n)
		}
	}
	f.Set("schedule_splay_percent", "101")
	if n := a.splayed(t.Context(), Query{Name: "q0", Interval: 100}); n != 100 {
		t.Errorf("over 100 percent: %d", n)
	}
}

// TestRun_tcp is one run over real sockets in real time.
func TestRun_tcp(t *testing.T) {
	configs := make(chan string, 10)
	sc := &script{config: `{}`}
	s := newServer(t, func(r request) (int, string) {
		if r.path == "/config" {
			configs <- r.key
		}
		return sc.answer(r)
	})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(tls.Server(c, s.tls), 0)
		}
	}()
	f := testFlags(t, "--tls_hostname="+l.Addr().String())
	a, err := New(Options{Flags: f, RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	select {
	case key := <-configs:
		if key != "nk-1" {
			t.Errorf("node key %q", key)
		}
	case <-ctx.Done():
		t.Error("no config request in a minute")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNew_errors(t *testing.T) {
	for _, test := range []struct{ flags, want string }{
		{"--database_path=", "--database_path is required"},
		{"--host_identifier=nonsense", "must be hostname, uuid"},
		{"--host_identifier=specified\n--specified_identifier=", "needs --specified_identifier"},
		{"--tls_server_certs=", "--tls_server_certs is required"},
		{"--tls_server_certs=/nonexistent", "no such file"},
	} {
		f := testFlags(t, test.flags)
		if _, err := New(Options{Flags: f}); err == nil || !strings.Contains(err.Error(), test.want) {
			if strings.Contains(test.flags, "identifier") {
				f.Set("tls_hostname", "")
				_, err = New(Options{Flags: f})
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %s", test.flags, err, test.want)
			}
		}
	}
	f := testFlags(t, "--tls_hostname=")
	a, err := New(Options{Flags: f})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := New(Options{Flags: f}); err == nil || !strings.Contains(err.Error(), "in use by another agent") {
		t.Errorf("two agents share a database: %v", err)
	}
}
