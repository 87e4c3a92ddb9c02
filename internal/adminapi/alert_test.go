package adminapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/notify"
)

// alerting makes what opens alerts and tells of them; this host may be told.
func (w *world) alerting(log *slog.Logger) {
	w.t.Helper()
	allow, err := egress.ParseNetworks([]string{"127.0.0.0/8"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = w.t.TempDir()
	catalog := w.publisher.Catalog()
	sender := notify.New(notify.Options{
		Notifiers: catalog, Secrets: &credential.Reader{Dir: w.secrets, Getenv: os.LookupEnv}, Guard: &egress.Guard{Allow: allow}, Version: "test",
	})
	w.alerts = alert.NewService(alert.Options{
		Store: w.store, Silences: w.store, Routes: catalog, Nodes: w.registry, Log: log, Now: time.Now, Wake: func(names []string) { w.courier.Wake(names) },
	})
	w.courier = alert.NewCourier(alert.CourierOptions{
		Outbox: w.store, Silences: w.store, Routes: catalog, Sender: sender, Raise: w.alerts.Raise, Log: log, Now: time.Now,
	})
}

// raise raises alerts and returns the newest.
func (w *world) raise(firings ...alert.Firing) adminapi.Alert {
	w.t.Helper()
	if err := w.alerts.Raise(w.t.Context(), firings); err != nil {
		w.t.Fatal(err)
	}
	var page adminapi.AlertPage
	if err := w.call("GET", "/alerts", nil, nil, &page); err != nil || len(page.Alerts) == 0 {
		w.t.Fatal(len(page.Alerts), err)
	}
	return page.Alerts[0]
}

func wantStatus(t *testing.T, err error, status int, say string) {
	t.Helper()
	if adminapi.Status(err) != status || !strings.Contains(err.Error(), say) {
		t.Errorf("got %v, want %d %s", err, status, say)
	}
}

func TestAlerts(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("web-1")
	a := w.raise(alert.Firing{Rule: "r", Key: "k", Severity: "high", Title: "found", NodeID: n.ID, HostIdentifier: "web-1", Columns: []byte(`{"a":"b"}`), Event: "1-0"})
	if a.State != "open" || a.Title != "found" || a.Count != 1 {
		t.Errorf("%+v", a)
	}
	path := "/alerts/" + a.ID
	for _, c := range []struct {
		query url.Values
		want  int
	}{
		{url.Values{"node": {"web-1"}}, 1},
		{url.Values{"node": {"gone"}}, 0},
		{url.Values{"state": {"unresolved"}, "min_severity": {"high"}}, 1},
		{url.Values{"min_severity": {"critical"}}, 0},
		{url.Values{"rule": {"r"}, "text": {"FOUND"}}, 1},
	} {
		var page adminapi.AlertPage
		if err := w.call("GET", "/alerts", c.query, nil, &page); err != nil || len(page.Alerts) != c.want || page.Counts["open"] != 1 || page.Open["high"] != 1 {
			t.Errorf("%v: %+v, %v", c.query, page, err)
		}
	}
	var out adminapi.Alert
	if err := w.call("POST", path+"/acknowledge", nil, adminapi.AlertComment{Comment: "mine"}, &out); err != nil || out.AcknowledgedBy != "admin" {
		t.Errorf("%+v, %v", out, err)
	}
	if err := w.call("POST", path+"/assign", nil, adminapi.AlertAssign{Assignee: "admin"}, &out); err != nil || out.Assignee != "admin" {
		t.Errorf("%+v, %v", out, err)
	}
	wantStatus(t, w.call("POST", path+"/assign", nil, adminapi.AlertAssign{Assignee: "nobody"}, nil), http.StatusBadRequest, "no user")
	wantStatus(t, w.call("POST", path+"/comment", nil, adminapi.AlertComment{}, nil), http.StatusBadRequest, "comment is empty")
	wantStatus(t, w.call("POST", "/alerts/none/resolve", nil, adminapi.AlertComment{}, nil), http.StatusNotFound, "no alert")
	if err := w.call("POST", path+"/resolve", nil, nil, &out); err != nil || out.State != "resolved" { // without a body
		t.Errorf("%+v, %v", out, err)
	}
	wantStatus(t, w.call("POST", path+"/acknowledge", nil, adminapi.AlertComment{}, nil), http.StatusConflict, "reopen it first")
	if err := w.call("POST", path+"/reopen", nil, adminapi.AlertComment{}, &out); err != nil || out.State != "open" || out.Episodes != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	var detail adminapi.AlertDetail
	if err := w.call("GET", path, nil, nil, &detail); err != nil {
		t.Fatal(err)
	}
	if len(detail.Samples) != 1 || string(detail.Samples[0].Columns) != `{"a":"b"}` || len(detail.History) != 5 || detail.History[1].Actor != "admin" || detail.History[1].Detail != "mine" {
		t.Errorf("%+v", detail)
	}

	w.mute.Store(true) // nothing is done that cannot be recorded
	for _, act := range []string{"acknowledge", "resolve"} {
		if err := w.call("POST", path+"/"+act, nil, adminapi.AlertComment{}, nil); adminapi.Status(err) != http.StatusInternalServerError {
			t.Errorf("%s without an audit log: %v", act, err)
		}
	}
	if err := w.call("POST", "/silences", nil, adminapi.SilenceInput{Match: []string{"rule = r"}, Comment: "c", ExpiresAt: time.Now().Add(time.Hour)}, nil); err == nil {
		t.Error("silenced without an audit log")
	}
	w.mute.Store(false)
	if err := w.call("GET", path, nil, nil, &detail); err != nil || detail.State != "open" {
		t.Errorf("%+v, %v", detail.Alert, err)
	}
}

func TestSilences(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.raise(alert.Firing{Rule: "ssh-root", Key: "k", Title: "root"})
	in := adminapi.SilenceInput{Match: []string{"rule = ssh-*"}, Comment: "planned", ExpiresAt: time.Now().Add(time.Hour)}
	var made adminapi.Silence
	if err := w.call("POST", "/silences", nil, in, &made); err != nil || !made.Active || made.CreatedBy != "admin" {
		t.Fatalf("%+v, %v", made, err)
	}
	var list []adminapi.Silence
	if err := w.call("GET", "/silences", nil, nil, &list); err != nil || len(list) != 1 || list[0].Alerts != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if a := w.raise(alert.Firing{Rule: "ssh-root", Key: "k", Title: "root"}); a.SilencedBy != made.ID {
		t.Errorf("%+v", a)
	}
	for say, bad := range map[string]adminapi.SilenceInput{
		"match":   {Match: []string{"rulez = a"}, Comment: "c", ExpiresAt: in.ExpiresAt},
		"comment": {Match: in.Match, ExpiresAt: in.ExpiresAt},
		"expires": {Match: in.Match, Comment: "c", ExpiresAt: time.Now().AddDate(1, 0, 0)},
	} {
		wantStatus(t, w.call("POST", "/silences", nil, bad, nil), http.StatusBadRequest, say)
	}
	var ended adminapi.Silence
	if err := w.call("DELETE", "/silences/"+made.ID, nil, nil, &ended); err != nil || ended.Active || ended.EndedBy != "admin" {
		t.Errorf("%+v, %v", ended, err)
	}
	wantStatus(t, w.call("DELETE", "/silences/"+made.ID, nil, nil, nil), http.StatusNotFound, "no silence")
}

// TestNotifiers: a notifier is applied, tested, fails, and its dead letters are told
// again.
func TestNotifiers(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	status := make(chan int, 10)
	got := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
		rw.WriteHeader(<-status)
		_, _ = io.WriteString(rw, "hello "+r.Header.Get("Authorization"))
	}))
	defer s.Close()
	w.apply(`
apiVersion: muster/v1
kind: Notifier
name: hook
description: Where it goes
spec:
  default: true
  min_severity: low
  group_wait: 1s
  webhook:
    url: ` + s.URL + `/very/secret/path
    headers: {Authorization: {file: token}}
`)
	var list []adminapi.Notifier
	if err := w.call("GET", "/notifiers", nil, nil, &list); err != nil || len(list) != 1 || list[0].Way != "webhook" || list[0].Target != strings.TrimPrefix(s.URL, "http://") ||
		list[0].MinSeverity != "low" || list[0].Description != "Where it goes" {
		t.Errorf("%+v, %v", list, err)
	}
	wantStatus(t, w.call("POST", "/notifiers/none/test", nil, struct{}{}, nil), http.StatusNotFound, "no notifier")
	wantStatus(t, w.call("POST", "/notifiers/hook/test", nil, struct{}{}, nil), http.StatusBadRequest, "no file token in secrets_dir")
	if err := os.WriteFile(filepath.Join(w.secrets, "token"), []byte("t0psecret"), 0o600); err != nil {
		t.Fatal(err)
	}
	status <- http.StatusOK
	var answer adminapi.NotifierAnswer
	if err := w.call("POST", "/notifiers/hook/test", nil, struct{}{}, &answer); err != nil || answer.Answer != "it answered 200 OK: hello ‹secret›" {
		t.Errorf("%+v, %v", answer, err)
	}
	if text := <-got; !strings.Contains(text, `"test":true`) || !strings.Contains(text, "admin") {
		t.Error(text)
	}
	status <- http.StatusTeapot
	wantStatus(t, w.call("POST", "/notifiers/hook/test", nil, struct{}{}, nil), http.StatusBadRequest, "418 I'm a teapot: hello ‹secret›")
	<-got

	w.raise(alert.Firing{Rule: "r", Key: "k", Severity: "info", Title: "not told"}, alert.Firing{Rule: "r", Key: "k2", Severity: "low", Title: "told"})
	if _, err := w.store.AbandonNotifications(t.Context(), nil, time.Now()); err != nil { // as if it had been given up
		t.Fatal(err)
	}
	var dead []adminapi.AlertNotification
	if err := w.call("GET", "/notifications", url.Values{"state": {"dead"}, "notifier": {"hook"}}, nil, &dead); err != nil || len(dead) != 1 || dead[0].AlertTitle != "told" {
		t.Errorf("%+v, %v", dead, err)
	}
	wantStatus(t, w.call("POST", "/notifications/retry", nil, adminapi.RetryInput{}, nil), http.StatusBadRequest, "notifier or seqs")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.courier.Run(ctx) }()
	var again adminapi.Retried
	status <- http.StatusOK
	if err := w.call("POST", "/notifications/retry", nil, adminapi.RetryInput{Notifier: "hook"}, &again); err != nil || again.Notifications != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	if text := <-got; !strings.Contains(text, `"title":"told"`) || strings.Contains(text, "not told") {
		t.Error(text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var spans []adminapi.AlertLatency
	if err := w.call("GET", "/alerts/latency", nil, nil, &spans); err != nil || len(spans) > 1 { // the courier may have stopped before it noted the answer
		t.Errorf("%+v, %v", spans, err)
	}
}

// TestAlertStream: what happens comes once, in order, also after a break.
func TestAlertStream(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.raise(alert.Firing{Rule: "r", Key: "before", Title: "before"})
	var seen []string
	follow := func(want int, begin func()) {
		t.Helper()
		errEnough := errors.New("enough")
		err := w.client.Stream(t.Context(), adminapi.AlertStream, func(e adminapi.StreamEvent) (bool, error) {
			if e.Name == adminapi.EventReady {
				begin()
				return false, nil
			}
			var u adminapi.AlertUpdate
			if err := json.Unmarshal(e.Data, &u); err != nil {
				return false, err
			}
			seen = append(seen, u.Alert.Title+" "+u.Entry.Action)
			if len(seen) == want {
				return false, errEnough
			}
			return false, nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
	}
	follow(3, func() {
		a := w.raise(alert.Firing{Rule: "r", Key: "after", Title: "after"})
		if err := w.call("POST", "/alerts/"+a.ID+"/acknowledge", nil, adminapi.AlertComment{}, nil); err != nil {
			t.Error(err)
		}
		w.raise(alert.Firing{Rule: "r", Key: "after", Title: "after", Resolved: true})
	})
	if got := strings.Join(seen, ", "); !strings.HasSuffix(got, "after resolved") || !strings.HasPrefix(got, "after") || strings.Contains(got, "before") {
		t.Error(got)
	}
}
