package adminapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
)

// send makes a call with headers, and returns the answer and its body.
func (w *world) send(token, method, path string, in any, head ...string) (*http.Response, string) {
	w.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+"/api/v1"+path, bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer, string(text)
}

// TestOnce: what is sent again under its key is done once, by each caller.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("h1")
	alarm := w.raise(alert.Firing{Rule: "r", Key: "k", Title: "t"})
	token, bob := w.token(), w.tokenOf("bob", "admin")
	calls := map[string]any{
		"/live":                            adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}},
		"/carves":                          adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/hosts"}},
		"/changes":                         adminapi.ChangeInput{Message: "x", Files: []adminapi.File{{Name: "f", Content: packDocument("once", "900")}}},
		"/silences":                        adminapi.SilenceInput{Match: []string{"rule = r"}, Comment: "c", ExpiresAt: time.Now().Add(time.Hour)},
		"/alerts/" + alarm.ID + "/comment": adminapi.AlertComment{Comment: "x"},
	}
	n := 0
	for path, in := range calls {
		n++
		key := "key-" + strconv.Itoa(n)
		before := len(w.audited())
		first, text := w.send(token, "POST", path, in, "Idempotency-Key", key)
		again, same := w.send(token, "POST", path, in, "Idempotency-Key", key)
		if first.StatusCode != 200 || again.StatusCode != 200 || text != same {
			t.Errorf("%s: %d %s, then %d %s", path, first.StatusCode, text, again.StatusCode, same)
		}
		if got := len(w.audited()) - before; got != 1 {
			t.Errorf("%s: %d entries in the audit log; want 1", path, got)
		}
		if other, text := w.send(token, "POST", path, object{}, "Idempotency-Key", key); other.StatusCode != 422 {
			t.Errorf("%s with nothing: %d %s", path, other.StatusCode, text)
		}
	}
	other := adminapi.LiveInput{SQL: "SELECT 2", Selector: adminapi.Selector{All: true}}
	if answer, text := w.send(token, "POST", "/live", other, "Idempotency-Key", "key-1"); answer.StatusCode != 422 || !strings.Contains(text, "header.Idempotency-Key") {
		t.Errorf("another input: %d %s", answer.StatusCode, text)
	}
	// Somebody else's key is another one, and a call that failed may be sent again.
	var mine, theirs adminapi.Live
	for who, out := range map[string]*adminapi.Live{token: &mine, bob: &theirs} {
		answer, text := w.send(who, "POST", "/live", other, "Idempotency-Key", "shared")
		if err := json.Unmarshal([]byte(text), out); err != nil || answer.StatusCode != 200 {
			t.Fatal(answer.StatusCode, text, err)
		}
	}
	if mine.ID == theirs.ID {
		t.Error("one person got another's answer")
	}
	w.mute.Store(true)
	if answer, text := w.send(token, "POST", "/live", other, "Idempotency-Key", "later"); answer.StatusCode != 500 {
		t.Errorf("without an audit log: %d %s", answer.StatusCode, text)
	}
	w.mute.Store(false)
	if answer, text := w.send(token, "POST", "/live", other, "Idempotency-Key", "later"); answer.StatusCode != 200 {
		t.Errorf("after it failed: %d %s", answer.StatusCode, text)
	}
	if answer, text := w.send(token, "POST", "/live", other, "Idempotency-Key", strings.Repeat("k", 256)); answer.StatusCode != 400 {
		t.Errorf("a long key: %d %s", answer.StatusCode, text)
	}
}

// TestIfMatch: who edits what changed meanwhile is told, and nothing is done.
func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	token := w.token()
	w.tokenOf("zoe", "auditor")
	auditor := w.tokenOf("ann", "auditor")
	alarm := w.raise(alert.Firing{Rule: "r", Key: "k", Title: "t"})
	saved := func(sql string) any { return adminapi.SavedQueryInput{SQL: sql} }
	if answer, text := w.send(token, "PUT", "/saved-queries/q", saved("SELECT 1"), "If-Match", "*"); answer.StatusCode != 412 {
		t.Errorf("an edit of nothing: %d %s", answer.StatusCode, text)
	}
	if answer, text := w.send(token, "PUT", "/saved-queries/q", saved("SELECT 1")); answer.StatusCode != 200 {
		t.Fatal(answer.StatusCode, text)
	}
	w.enrol("h1") // whom a change needs an approval for
	pending := w.pending()
	for _, c := range []struct {
		shown, method, edit string
		in, other           any
	}{
		{"/saved-queries/q", "PUT", "/saved-queries/q", saved("SELECT 2"), saved("SELECT 3")},
		{"/users/zoe", "PUT", "/users/zoe/roles", adminapi.UserRolesInput{Roles: []string{"analyst"}, Own: password}, adminapi.UserRolesInput{Roles: []string{"admin"}, Own: password}},
		{"/alerts/" + alarm.ID, "POST", "/alerts/" + alarm.ID + "/comment", adminapi.AlertComment{Comment: "a"}, adminapi.AlertComment{Comment: "b"}},
		{"/changes/" + pending.ID, "POST", "/changes/" + pending.ID + "/reject", adminapi.ReasonInput{Reason: "x"}, adminapi.ReasonInput{Reason: "y"}},
	} {
		shown, _ := w.send(token, "GET", c.shown, nil)
		same, _ := w.send(token, "GET", c.shown, nil)
		tag := shown.Header.Get("ETag")
		if len(tag) < 10 || tag != same.Header.Get("ETag") {
			t.Errorf("%s: tags %s and %s", c.shown, tag, same.Header.Get("ETag"))
		}
		if answer, text := w.send(token, c.method, c.edit, c.in, "If-Match", `"older", `+tag); answer.StatusCode != 200 {
			t.Errorf("%s: %d %s", c.edit, answer.StatusCode, text)
		}
		changed, before := w.send(token, "GET", c.shown, nil)
		if changed.Header.Get("ETag") == tag {
			t.Errorf("%s: the tag is as before the edit", c.shown)
		}
		answer, text := w.send(token, c.method, c.edit, c.other, "If-Match", tag)
		if answer.StatusCode != 412 || answer.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, "header.If-Match") {
			t.Errorf("%s of what changed: %d %s", c.edit, answer.StatusCode, text)
		}
		if _, after := w.send(token, "GET", c.shown, nil); after != before {
			t.Errorf("%s was edited all the same: %s", c.shown, after)
		}
	}
	if answer, _ := w.send(auditor, "PUT", "/saved-queries/q", saved("SELECT 4"), "If-Match", "*"); answer.StatusCode != 403 {
		t.Errorf("somebody who may not edit: %d", answer.StatusCode)
	}
	if answer, text := w.send(token, "DELETE", "/saved-queries/q", nil, "If-Match", `"older"`); answer.StatusCode != 412 {
		t.Errorf("removing what changed: %d %s", answer.StatusCode, text)
	}
}

// TestCallLimit: who calls without a pause is told to wait, and others are not.
func TestCallLimit(t *testing.T) {
	w := newWorld(t, func(w *world) { w.calls = 60 })
	w.setUp()
	token, bob := w.token(), w.tokenOf("bob", "auditor")
	answer, _ := w.send(token, "GET", "/session", nil)
	if answer.Header.Get("RateLimit-Limit") != "60" || answer.Header.Get("RateLimit-Remaining") == "" {
		t.Errorf("%v", answer.Header)
	}
	for range 1000 {
		if answer, _ = w.send(token, "GET", "/session", nil); answer.StatusCode != 200 {
			break
		}
	}
	if after, err := strconv.Atoi(answer.Header.Get("Retry-After")); answer.StatusCode != 429 || err != nil || after < 1 ||
		answer.Header.Get("RateLimit-Remaining") != "0" || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	if answer, text := w.send(bob, "GET", "/session", nil); answer.StatusCode != 200 {
		t.Errorf("somebody else: %d %s", answer.StatusCode, text)
	}
}
