package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/store/storetest"
)

// auditApp is an App with nothing but state and audit log, as openState leaves
// it.
func auditApp(t *testing.T, dir string, witnesses ...string) *App {
	t.Helper()
	a := &App{cfg: config.Server{DataDir: dir, AuditWitness: witnesses}, log: slog.New(slog.DiscardHandler), now: time.Now}
	a.store = storetest.Open(t, a.cfg.Path(stateFile))
	if err := a.openAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// signed lets the audit log be signed once, as a server that starts and stops.
func signed(t *testing.T, a *App) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.signAudit(ctx); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, a *App, target string) {
	t.Helper()
	if err := a.audit.Record(t.Context(), "ada", "live.start", target, nil); err != nil {
		t.Fatal(err)
	}
}

// TestAudit goes through the life of a log: made, signed, gone on with, broken.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := auditApp(t, dir)
	record(t, a, "q1")
	signed(t, a)
	for name, mode := range map[string]os.FileMode{auditKeyFile: 0o600, auditPublicFile: 0o644, checkpointFile: 0o600, checkpointsFile: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, auditPublicFile))
	if err != nil || strings.TrimSpace(string(public)) != a.notary.Key() || strings.Contains(string(public), "PRIVATE") {
		t.Errorf("%s %v", public, err)
	}
	first, err := a.store.AuditEntries(t.Context(), audit.Filter{Ascending: true, Limit: 1})
	if err != nil || first[0].Action != "audit.key" || !strings.Contains(first[0].Detail, a.notary.Key()) {
		t.Errorf("%+v %v", first, err)
	}
	again := auditApp(t, dir)
	if again.notary.Key() != a.notary.Key() || again.notary.Size() != 2 || again.notary.Broken() != "" {
		t.Errorf("after a start: %d, %q", again.notary.Size(), again.notary.Broken())
	}
	record(t, again, "q2")
	signed(t, again)
	dirOf := checkpointDir{newest: filepath.Join(dir, checkpointFile), all: filepath.Join(dir, checkpointsFile)}
	if all, err := dirOf.Checkpoints(); err != nil || len(all) != 2 {
		t.Errorf("%d checkpoints, %v", len(all), err)
	}
	if err := os.Remove(dirOf.newest); err != nil { // then the newest of all is
		t.Fatal(err)
	}
	if s := auditApp(t, dir).notary.Size(); s != 3 {
		t.Errorf("%d entries were signed", s)
	}
	// An older state, as who removes the newest entries leaves it.
	if err := os.Rename(filepath.Join(dir, stateFile), filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	broken := auditApp(t, dir, "file://"+filepath.Join(dir, "none", "f"))
	registry := prometheus.NewRegistry()
	broken.registerAuditMetrics(registry)
	if gauge(t, registry, "muster_audit_witness_lag_entries") != 3 {
		t.Error("the witness was told all")
	}
	if broken.notary.Broken() == "" || gauge(t, registry, "muster_audit_broken") != 1 || gauge(t, registry, "muster_audit_signed_entries") != 3 {
		t.Errorf("%q", broken.notary.Broken())
	}
	record(t, broken, "q3") // it goes on
	signed(t, broken)
	if broken.notary.Size() != 3 {
		t.Error("a broken log was signed")
	}
}

// TestAudit_otherKey: a log whose key was taken away is told of.
func TestAudit_otherKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	signed(t, auditApp(t, dir))
	if err := os.Remove(filepath.Join(dir, auditKeyFile)); err != nil {
		t.Fatal(err)
	}
	if auditApp(t, dir).notary.Broken() == "" {
		t.Error("nobody noticed")
	}
	if err := os.WriteFile(filepath.Join(dir, auditKeyFile), []byte("rubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &App{cfg: config.Server{DataDir: dir}, log: slog.New(slog.DiscardHandler), now: time.Now}
	a.store = storetest.Open(t, a.cfg.Path(stateFile))
	if err := a.openAudit(t.Context()); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Error(err)
	}
}

func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestAppendLine: a line that a crash cut harms no other.
func TestAppendLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, step := range []func() error{
		func() error { return appendLine(path, []byte("one")) },
		func() error { return appendLine(path, []byte("two")) },
		func() error { return os.WriteFile(path, []byte("one\ntwo\nthr"), 0o600) },
		func() error { return appendLine(path, []byte("four")) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "one\ntwo\nthr\nfour\n" {
		t.Errorf("%q %v", b, err)
	}
	if err := appendLine(filepath.Join(path, "x"), nil); err == nil {
		t.Error("appended to what is no file")
	}
}

// listen returns the URL of a listener and what comes in.
func listen(t *testing.T, network, address string) (at string, got <-chan string) {
	t.Helper()
	messages := make(chan string, 10)
	if network == "tcp" {
		l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				b, _ := io.ReadAll(conn)
				messages <- string(b)
				_ = conn.Close()
			}
		}()
		return l.Addr().String(), messages
	}
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	return conn.LocalAddr().String(), messages
}

// TestWitness tells one of each kind.
func TestWitness(t *testing.T) {
	t.Parallel()
	note := []byte("muster-audit-1\n7\nroot\n\n\u2014 muster-audit-1 sig\n")
	line := string(audit.Line(note))
	file := filepath.Join(t.TempDir(), "kept")
	socket := filepath.Join(t.TempDir(), "log")
	unix, unixGot := listen(t, "unixgram", socket)
	udp, udpGot := listen(t, "udp", "127.0.0.1:0")
	tcp, tcpGot := listen(t, "tcp", "127.0.0.1:0")
	httpGot := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		httpGot <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + user + ":" + password + "\n" + string(b)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	for _, u := range []string{
		"file://" + file, "syslog://" + unix, "syslog://" + udp, "syslog+tcp://" + tcp, strings.Replace(s.URL, "http://", "http://ada:secret@", 1) + "/log",
	} {
		w, err := newWitness(u)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.try(t.Context(), note); err != nil {
			t.Errorf("%s: %v", u, err)
		}
		if strings.Contains(w.name, "secret") {
			t.Errorf("%s shows a password", w.name)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != line+"\n" {
		t.Errorf("%q %v", b, err)
	}
	for name, got := range map[string]<-chan string{"unix": unixGot, "udp": udpGot, "tcp": tcpGot} {
		message := <-got
		if name == "tcp" {
			length, rest, _ := strings.Cut(message, " ")
			if length != strconv.Itoa(len(rest)) {
				t.Errorf("%s: %q", name, message)
			}
			message = rest
		}
		if !strings.HasPrefix(message, "<109>1 2") || !strings.HasSuffix(message, " audit - "+line) || strings.Contains(message, "\n") {
			t.Errorf("%s: %q", name, message)
		}
	}
	if got := <-httpGot; got != "POST /log text/plain; charset=utf-8 ada:secret\n"+string(note) {
		t.Errorf("http: %q", got)
	}
	for _, u := range []string{"ftp://x", "%", ""} {
		if _, err := newWitness(u); err == nil {
			t.Errorf("%q is a witness", u)
		}
	}
}

// TestWitness_fails: one that refuses, redirects or is not there is an error.
func TestWitness_fails(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/ok", http.StatusFound)
		}
		if r.URL.Path != "/ok" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer s.Close()
	for _, u := range []string{s.URL + "/moved", s.URL + "/no", "syslog://" + t.TempDir() + "/none", "file://" + t.TempDir() + "/none/f", "syslog+tcp://127.0.0.1:1"} {
		w, err := newWitness(u)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.try(t.Context(), []byte("x")); err == nil {
			t.Errorf("%s: no error", u)
		}
	}
}

// memoryLog is an audit log of empty entries, in memory: a database would not
// take part in the time of synctest.
type memoryLog struct{ size int64 }

func (*memoryLog) KeepCheckpoint([]byte) error { return nil }

func (*memoryLog) Checkpoints() ([][]byte, error) { return nil, nil }

func (l *memoryLog) AuditSize(context.Context) (int64, error) { return l.size, nil }

func (*memoryLog) AuditEntries(context.Context, audit.Filter) ([]audit.Entry, error) { return nil, nil }

func (l *memoryLog) AuditHashes(_ context.Context, indexes []int64) (map[int64]tlog.Hash, error) {
	var tree audit.Frontier
	var all []tlog.Hash
	for range l.size {
		all = append(all, tree.Add(tlog.RecordHash(nil))...)
	}
	found := map[int64]tlog.Hash{}
	for _, i := range indexes {
		found[i] = all[i]
	}
	return found, nil
}

// TestWitness_run: a witness that fails is told again, later and later, of the
// newest only, and lags meanwhile.
func TestWitness_run(t *testing.T) {
	t.Parallel()
	private, public, err := audit.NewKeys("muster-audit-1")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := audit.ReadKeys(private, public)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		entries := new(memoryLog)
		silent := slog.New(slog.DiscardHandler)
		n := audit.NewNotary(audit.NotaryOptions{Reader: entries, Shelf: entries, Keys: keys, Log: silent, Now: time.Now})
		start := time.Now()
		var told []string
		var away atomic.Bool
		w := &witness{name: "test", tell: func(_ context.Context, signed []byte) error {
			c, err := audit.OpenCheckpoint(signed, keys.Verifier)
			if err != nil {
				t.Error(err)
			}
			told = append(told, fmt.Sprintf("%d after %s", c.Size, time.Since(start).Round(time.Second)))
			if away.Load() {
				return errors.New("away")
			}
			return nil
		}}
		var alarms []string
		alarm := func(_ context.Context, _ string, err error) {
			alarms = append(alarms, fmt.Sprintf("%v after %s", err, time.Since(start).Round(time.Second)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.run(ctx, n, alarm, silent)
			close(ended)
		}()
		grow := func(size int64) {
			t.Helper()
			entries.size = size
			if _, err := n.Checkpoint(ctx); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		grow(3)
		away.Store(true)
		grow(5)
		if lag := n.Size() - w.told.Load(); lag != 2 {
			t.Errorf("lags by %d", lag)
		}
		grow(6)
		<-time.After(40 * time.Second)
		synctest.Wait()
		away.Store(false)
		grow(9)
		<-time.After(time.Hour)
		synctest.Wait()
		before := len(told)
		away.Store(true)
		grow(10)
		<-time.After(6 * time.Minute)
		synctest.Wait()
		away.Store(false)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		cancel()
		<-ended
		want := []string{"3 after 0s", "5 after 0s", "6 after 5s", "6 after 15s", "6 after 35s", "9 after 1m15s"}
		if diff := cmp.Diff(want, told[:before]); diff != "" || w.told.Load() != 10 {
			t.Error(diff)
		}
		// The first may be of an alert from before the start.
		if diff := cmp.Diff([]string{"<nil> after 0s", "away after 1h5m55s", "<nil> after 1h6m55s"}, alarms); diff != "" {
			t.Error(diff)
		}
	})
}
