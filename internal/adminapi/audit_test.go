package adminapi_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/signon"
)

// shelf keeps checkpoints in memory.
type shelf struct{ signed [][]byte }

func (s *shelf) KeepCheckpoint(signed []byte) error {
	s.signed = append(s.signed, signed)
	return nil
}

func (s *shelf) Checkpoints() ([][]byte, error) { return s.signed, nil }

func newNotary(t *testing.T, w *world) *audit.Notary {
	t.Helper()
	private, public, err := audit.NewKeys("muster-audit-test")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := audit.ReadKeys(private, public)
	if err != nil {
		t.Fatal(err)
	}
	return audit.NewNotary(audit.NotaryOptions{Reader: w.store, Shelf: new(shelf), Keys: keys, Log: slog.New(slog.DiscardHandler), Now: time.Now})
}

// TestAuditCaller: entries tell who, from which session and address, what, and
// whether it was allowed.
func TestAuditCaller(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var q adminapi.Live
	w.enrol("h1")
	if err := w.call("POST", "/live", nil, adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}}, &q); err != nil {
		t.Fatal(err)
	}
	entries := w.audited()
	e := entries[0]
	detail := sha256.Sum256([]byte(e.Detail))
	if len(e.Session) != 16 || e.Address != "127.0.0.1" || e.Outcome != "done" || e.Actor != "admin" || e.Action != "live.start" || e.Target != q.ID ||
		e.ContentHash != hex.EncodeToString(detail[:]) || e.Prev != entries[1].Hash || e.Approvals == nil {
		t.Errorf("%+v", e)
	}
	if entries[1].Session != e.Session {
		t.Errorf("two sessions: %+v", entries[:2])
	}
	first := entries[len(entries)-1]
	if first.Action != "user.create" || first.Session != "" || first.Address != "127.0.0.1" {
		t.Errorf("%+v", first)
	}
}

// TestAuditRefused: refusals are in the log, and a flood of them is no flood
// there.
func TestAuditRefused(t *testing.T) {
	w := newWorld(t)
	anonymous := adminapi.NewClient(w.url, "", w.http)
	if err := anonymous.Call(t.Context(), "POST", "/setup", nil, adminapi.SetupInput{Token: "guess", Username: "eve", Password: password}, nil); adminapi.Status(err) != 403 {
		t.Fatal(err)
	}
	w.setUp()
	w.api.Forbid("/forbidden")
	for range 3 {
		if err := anonymous.Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "admin\x1b[31m", Password: "wrong wrong wrong"}, nil); adminapi.Status(err) != 401 {
			t.Fatal(err)
		}
		if err := w.call("POST", "/forbidden", nil, nil, nil); adminapi.Status(err) != 403 {
			t.Fatal(err)
		}
	}
	var got []string
	var page adminapi.AuditPage
	if err := w.call("GET", "/audit", url.Values{"outcome": {"refused"}}, nil, &page); err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		got = append(got, fmt.Sprintf("%q %s %q %s (session %t)", e.Actor, e.Action, e.Target, e.Reason, e.Session != ""))
		if e.Address != "127.0.0.1" || e.Outcome != "refused" {
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		`"admin" nobody.has "POST /api/v1/forbidden" this needs the permission nobody.has (session true)`,
		`"admin\x1b[31m" session.open "admin\x1b[31m" name or password is wrong (session false)`,
		`"setup" user.create "eve" the setup token is wrong; it is in the file setup-token of the server's data directory (session false)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.mute.Store(true) // a refusal stands, told of or not
	if err := anonymous.Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "other", Password: "wrong wrong wrong"}, nil); adminapi.Status(err) != 401 {
		t.Error(err)
	}
}

func TestAuditPages(t *testing.T) {
	w := newWorld(t)
	w.setUp() // two entries
	for i := range 8 {
		w.secret(fmt.Sprint("s", i))
	}
	for order, want := range map[string]string{"desc": "10 9 8 7 6 5 4 3 2 1", "asc": "1 2 3 4 5 6 7 8 9 10"} {
		var got []string
		query := url.Values{"limit": {"3"}, "order": {order}}
		for {
			var page adminapi.AuditPage
			if err := w.call("GET", "/audit", query, nil, &page); err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, strconv.FormatInt(e.Seq, 10))
			}
			if page.NextCursor == "" {
				break
			}
			query.Set("cursor", page.NextCursor)
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: %s", order, got)
		}
	}
	for name, c := range map[string]struct {
		query url.Values
		want  int
	}{
		"actor":  {url.Values{"actor": {"setup"}}, 1},
		"action": {url.Values{"action": {"secret."}}, 8},
		"target": {url.Values{"target": {"s3"}}, 1},
		"since":  {url.Values{"since": {"1h"}}, 10},
		"until":  {url.Values{"until": {"1h"}}, 0},
	} {
		var page adminapi.AuditPage
		if err := w.call("GET", "/audit", c.query, nil, &page); err != nil || len(page.Entries) != c.want {
			t.Errorf("%s: %d entries, %v", name, len(page.Entries), err)
		}
	}
	for name, query := range map[string]url.Values{"cursor": {"cursor": {"x"}}, "since": {"since": {"noon"}}, "outcome": {"outcome": {"maybe"}}, "order": {"order": {"up"}}} {
		if s := adminapi.Status(w.call("GET", "/audit", query, nil, nil)); s != 400 && s != 422 {
			t.Errorf("%s: %d", name, s)
		}
	}
}

// TestAuditVerify: through the API, the log is proved from outside.
func TestAuditVerify(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.secret("a")
	var c adminapi.AuditCheckpoint
	if err := w.call("GET", "/audit/checkpoint", nil, nil, &c); err != nil || c.Size != 3 || c.Broken != "" {
		t.Fatalf("%+v %v", c, err)
	}
	verifier, err := note.NewVerifier(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := audit.OpenCheckpoint([]byte(c.Checkpoint), verifier)
	if err != nil || signed.Size != 3 || signed.Root.String() != c.Root {
		t.Fatalf("%+v %v", signed, err)
	}
	check := audit.NewChecker(signed)
	entries := w.audited()
	for _, e := range slices.Backward(entries) {
		check.Add(e.Entry(), nil)
		w.proves(e, signed)
	}
	if r := check.End(0); !r.OK() || r.Signed != 3 {
		t.Errorf("%+v", r)
	}
	if err := w.call("GET", "/audit/4/proof", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Error(err)
	}
	if s := adminapi.Status(w.call("GET", "/audit/x/proof", nil, nil, nil)); s != 422 {
		t.Error(s)
	}
	var r adminapi.AuditReport
	if err := w.call("GET", "/audit/verify", nil, nil, &r); err != nil || !r.OK || r.Whole != 3 || r.Signed != 3 || r.SignedAt == nil || r.Findings == nil {
		t.Errorf("%+v %v", r, err)
	}
}

// proves checks the proof of an entry.
func (w *world) proves(e adminapi.AuditEntry, signed audit.Checkpoint) {
	w.t.Helper()
	var p adminapi.AuditProof
	if err := w.call("GET", fmt.Sprintf("/audit/%d/proof", e.Seq), nil, nil, &p); err != nil {
		w.t.Fatal(err)
	}
	proof := audit.Proof{Signed: audit.Signed{Checkpoint: signed}, Seq: e.Seq}
	for _, text := range p.Hashes {
		h, err := tlog.ParseHash(text)
		if err != nil {
			w.t.Fatal(err)
		}
		proof.Hashes = append(proof.Hashes, h)
	}
	if err := proof.Check(p.Entry.Entry()); err != nil || p.Size != signed.Size || cmp.Diff(e, p.Entry) != "" {
		w.t.Errorf("entry %d: %+v, %v", e.Seq, p, err)
	}
}

// TestUnauditedRoutes walks the route table: while the audit log cannot be
// written, nothing that changes anything is accepted, and nothing changes.
func TestUnauditedRoutes(t *testing.T) {
	w := newWorld(t, func(w *world) {
		var err error
		if w.signOn, err = signon.New(signon.Options{Providers: []signon.Provider{{Name: "p", Issuer: "https://p"}}}); err != nil {
			t.Fatal(err)
		}
	})
	w.setUp()
	secret := w.secret("servers")
	_, n := w.enrolFrom("192.0.2.7", secret, "h1")
	// What changes nothing that agents do, so that it must work: it shows a
	// count, or takes a right away.
	harmless := map[string]bool{"POST /api/v1/live/preview": true, "DELETE /api/v1/session": true, "POST /api/v1/policy/check": true, "POST /api/v1/carves/check": true, "POST /api/v1/events/search": true, "POST /api/v1/redactions/test": true, "POST /api/v1/rules/test": true, "POST /api/v1/invitations/look": true, "POST /api/v1/session/passkey": true, "POST /api/v1/session/prove/passkey": true}
	// What cannot be asked for beside the others; package change has the same
	// test of its own.
	elsewhere := map[string]bool{
		"POST /api/v1/changes/{id}/apply": true, "POST /api/v1/rollouts/current/resume": true,
		"POST /api/v1/freeze/break": true, "POST /api/v1/freeze/break/agree": true,
		// See TestHook_person.
		"POST /api/v1/triggers/{name}/fire": true, "POST /api/v1/triggers/{name}/token": true, "POST /api/v1/hooks/{name}": true,
		"POST /file_request": true, // see TestCarves
		// See TestSinks.
		"POST /api/v1/sinks/{name}/pause": true, "POST /api/v1/sinks/{name}/resume": true, "POST /api/v1/sinks/{name}/test": true,
		"POST /api/v1/sinks/{name}/replay": true, "DELETE /api/v1/sinks/{name}/replay": true,
		"POST /api/v1/sinks/{name}/dead/retry": true, "DELETE /api/v1/sinks/{name}/dead": true,
		// See TestApproveLive and TestHeldLive.
		"POST /api/v1/live/{id}/approve": true, "POST /api/v1/live/{id}/reject": true, "POST /api/v1/live/{id}/resume": true,
	}
	notifier := "apiVersion: muster/v1\nkind: Notifier\nname: servers\nspec: {webhook: {url: \"https://192.0.2.1/\"}}\n"
	if err := w.call("POST", "/changes", nil, adminapi.ChangeInput{Message: "x", Files: []adminapi.File{{Name: "n", Content: notifier}}}, nil); err != nil {
		t.Fatal(err)
	}
	pending := w.pending()
	var link adminapi.Invitation
	if err := w.call("POST", "/invitations", nil, adminapi.InvitationInput{Name: "carol", Roles: []string{"auditor"}, Own: password}, &link); err != nil {
		t.Fatal(err)
	}
	reason := adminapi.ReasonInput{Reason: "x"}
	bodies := map[string]any{
		"POST /api/v1/session":                 adminapi.LoginInput{Username: "admin", Password: password},
		"PUT /api/v1/nodes/{id}/tags":          adminapi.TagsInput{Tags: []string{"x"}},
		"POST /api/v1/nodes/{id}/quarantine":   adminapi.QuarantineInput{Reason: "x"},
		"POST /api/v1/nodes/{id}/transparency": adminapi.LinkInput{},
		"POST /api/v1/nodes/import":            adminapi.ImportInput{Nodes: []adminapi.ImportNode{{HostIdentifier: "h2", NodeKey: "0123456789abcdef"}}},
		"POST /api/v1/secrets":                 adminapi.SecretInput{Name: "other"},
		"POST /api/v1/secrets/{name}/rotate":   adminapi.RotateInput{},
		"POST /api/v1/live/stop":               reason,
		"POST /api/v1/live":                    adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}},
		"PUT /api/v1/saved-queries/{name}":     adminapi.SavedQueryInput{SQL: "SELECT 1"},

		"POST /api/v1/carves":                          adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/hosts"}},
		"POST /api/v1/changes":                         adminapi.ChangeInput{Message: "x", Files: []adminapi.File{{Name: "f", Content: packDocument("other", "900")}}},
		"POST /api/v1/changes/{id}/approve":            adminapi.ApproveInput{Hash: pending.Hash, Password: password},
		"POST /api/v1/changes/{id}/reject":             reason,
		"POST /api/v1/changes/{id}/withdraw":           reason,
		"POST /api/v1/revisions/{number}/restore":      reason,
		"POST /api/v1/rollouts/current/advance":        reason,
		"POST /api/v1/rollouts/current/pause":          reason,
		"POST /api/v1/rollouts/current/rollback":       reason,
		"POST /api/v1/freeze/on":                       reason,
		"POST /api/v1/freeze/off":                      reason,
		"POST /api/v1/emergency/safe-config":           adminapi.SafeInput{Selector: "all", Reason: "x"},
		"POST /api/v1/emergency/end":                   reason,
		"POST /api/v1/alerts/{id}/comment":             adminapi.AlertComment{Comment: "x"},
		"POST /api/v1/alerts/{id}/assign":              adminapi.AlertAssign{Assignee: "admin"},
		"POST /api/v1/silences":                        adminapi.SilenceInput{Match: []string{"rule = r"}, Comment: "c", ExpiresAt: time.Now().Add(time.Hour)},
		"POST /api/v1/notifications/retry":             adminapi.RetryInput{Notifier: "servers"},
		"POST /api/v1/users":                           adminapi.UserInput{Name: "zoe", Password: password, Roles: []string{"analyst"}, Own: password},
		"PUT /api/v1/users/{name}/roles":               adminapi.UserRolesInput{Roles: []string{"auditor"}, Own: password},
		"POST /api/v1/users/{name}/enable":             adminapi.PasswordInput{Password: password},
		"PUT /api/v1/users/{name}/password":            adminapi.NewPasswordInput{Password: password + "2", Own: password},
		"POST /api/v1/users/{name}/identities":         adminapi.IdentityInput{Provider: "p", Subject: "s", Own: password},
		"POST /api/v1/users/{name}/identities/remove":  adminapi.IdentityInput{Provider: "p", Subject: "s", Own: password},
		"POST /api/v1/session/factors":                 adminapi.FactorInput{Name: "phone", Own: password},
		"POST /api/v1/session/factors/{id}/confirm":    adminapi.FactorCode{Code: "123456"},
		"POST /api/v1/session/factors/{id}/remove":     adminapi.PasswordInput{Password: password},
		"POST /api/v1/session/recovery-codes":          adminapi.PasswordInput{Password: password},
		"POST /api/v1/users/{name}/factors/remove":     adminapi.PasswordInput{Password: password},
		"POST /api/v1/tokens":                          adminapi.TokenInput{Name: "t", Own: password},
		"POST /api/v1/tokens/{id}/rotate":              adminapi.RotateTokenInput{Own: password},
		"POST /api/v1/users/{name}/tokens":             adminapi.TokenInput{Name: "t", Own: password},
		"POST /api/v1/users/{name}/tokens/{id}/rotate": adminapi.RotateTokenInput{Own: password},
		"POST /api/v1/session/passkeys":                adminapi.FactorInput{Name: "key", Own: password},
		"POST /api/v1/session/passkeys/confirm":        adminapi.PasskeyAnswer{ID: "x", Credential: map[string]any{}},
		"POST /api/v1/session/prove":                   adminapi.ProofInput{Password: password},
		"POST /api/v1/invitations":                     adminapi.InvitationInput{Name: "eve", Roles: []string{"auditor"}, Own: password},
		"POST /api/v1/invitations/accept":              adminapi.AcceptInput{InvitationToken: adminapi.InvitationToken{Token: strings.TrimPrefix(link.Path, "/invite#token=")}, Password: "kettle umbrella fjord"},
		"PUT /api/v1/session/password":                 adminapi.NewPasswordInput{Password: password + "2", Own: password},
	}
	live := adminapi.Live{}
	if err := w.call("POST", "/live", nil, adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}}, &live); err != nil {
		t.Fatal(err)
	}
	var carve adminapi.Carve
	if err := w.call("POST", "/carves", nil, bodies["POST /api/v1/carves"], &carve); err != nil {
		t.Fatal(err)
	}
	if err := w.call("PUT", "/saved-queries/servers", nil, adminapi.SavedQueryInput{SQL: "SELECT 2"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/users", nil, adminapi.UserInput{Name: "servers", Service: true, Roles: []string{"automation"}, Own: password}, nil); err != nil {
		t.Fatal(err)
	}
	alarm := w.raise(alert.Firing{Rule: "r", Key: "k", Title: "t"})
	var silence adminapi.Silence
	if err := w.call("POST", "/silences", nil, bodies["POST /api/v1/silences"], &silence); err != nil {
		t.Fatal(err)
	}
	before := w.state(n.ID, live.ID)
	w.mute.Store(true)
	tried := 0
	for _, r := range w.api.Routes() {
		name := r.Method + " " + r.Path
		if r.Method == http.MethodGet || harmless[name] || elsewhere[name] || name == "POST /api/v1/setup" { // which is done
			continue
		}
		ids := n.ID
		if strings.HasPrefix(r.Path, "/api/v1/live/") {
			ids = live.ID
		}
		if strings.HasPrefix(r.Path, "/api/v1/carves/") {
			ids = carve.ID
		}
		if strings.HasPrefix(r.Path, "/api/v1/changes/") {
			ids = pending.ID
		}
		if strings.HasPrefix(r.Path, "/api/v1/alerts/") {
			ids = alarm.ID
		}
		if strings.HasPrefix(r.Path, "/api/v1/silences/") {
			ids = silence.ID
		}
		if strings.HasPrefix(r.Path, "/api/v1/invitations/") {
			ids = link.ID
		}
		path := strings.NewReplacer("{number}", "1", "{id}", ids, "{name}", "servers", "/api/v1", "").Replace(r.Path)
		if err := w.call(r.Method, path, nil, bodies[name], nil); adminapi.Status(err) != 500 {
			t.Errorf("%s without an audit log: %v; if it is new, give it a body above", name, err)
		}
		tried++
	}
	if tried < 12 {
		t.Errorf("only %d routes were tried", tried)
	}
	if diff := cmp.Diff(before, w.state(n.ID, live.ID)); diff != "" {
		t.Errorf("something changed: %s", diff)
	}
	// Agents go on.
	if _, _, err := w.tryEnrol("192.0.2.8", secret, "h3"); err != nil {
		t.Errorf("agents cannot enrol: %v", err)
	}
	if tasks := w.live.Take(n.ID); len(tasks) != 2 { // of a person, and of a carve
		t.Errorf("agents get no queries: %v", tasks)
	}
	if err := w.answer(live.ID, n.ID, n.ID); err != nil {
		t.Errorf("agents' answers are not kept: %v", err)
	}
}

// packDocument is a pack for all nodes.
func packDocument(name, interval string) string {
	return "apiVersion: muster/v1\nkind: Pack\nname: " + name + "\nspec: {queries: {q: {query: SELECT days FROM uptime, interval: " + interval + "}}}\n---\n"
}

// change proposes documents and returns what became of them.
func (w *world) change(c *adminapi.Client, documents string) adminapi.Change {
	w.t.Helper()
	var out adminapi.Change
	in := adminapi.ChangeInput{Message: "why", Files: []adminapi.File{{Name: "test.yaml", Content: documents}}}
	if err := c.Call(w.t.Context(), "POST", "/changes", nil, in, &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// person makes a further person and logs them in.
func (w *world) person(name string, roles ...string) *adminapi.Client {
	w.t.Helper()
	if len(roles) == 0 {
		roles = []string{"admin", "operator"}
	}
	if err := w.call("POST", "/users", nil, adminapi.UserInput{Name: name, Password: password, Roles: roles, Own: password}, nil); err != nil {
		w.t.Fatal(err)
	}
	var s adminapi.Session
	in := adminapi.LoginInput{Username: name, Password: password, Kind: "bearer"}
	if err := adminapi.NewClient(w.url, "", w.http).Call(w.t.Context(), "POST", "/session", nil, in, &s); err != nil {
		w.t.Fatal(err)
	}
	return adminapi.NewClient(w.url, s.Token, w.http)
}

// pending leaves a change that waits for an approval, a rollout that is open, a
// freeze that is broken through, and a safe config for nobody.
func (w *world) pending() adminapi.Change {
	w.t.Helper()
	bob := w.person("bob")
	w.change(w.client, "apiVersion: muster/v1\nkind: ApprovalPolicy\nname: one\nspec: {rules: [{nodes_over: 0, selector: all, approvals: 1}]}\n---\n"+
		"apiVersion: muster/v1\nkind: RolloutPolicy\nname: slow\nspec: {stages: [{nodes: 1, bake: 1h}]}\n")
	first := w.change(bob, packDocument("first", "600"))
	second := w.change(bob, packDocument("second", "600"))
	for path, in := range map[string]any{
		"/changes/" + first.ID + "/approve": adminapi.ApproveInput{Hash: first.Hash, Password: password},
		"/emergency/safe-config":            adminapi.SafeInput{Selector: "hostname = nobody", Reason: "x"},
	} {
		if err := w.call("POST", path, nil, in, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.call("POST", "/freeze/on", nil, adminapi.ReasonInput{Reason: "x"}, nil); err != nil {
		w.t.Fatal(err)
	}
	if err := bob.Call(w.t.Context(), "POST", "/freeze/break", nil, adminapi.ReasonInput{Reason: "x"}, nil); err != nil {
		w.t.Fatal(err)
	}
	if err := w.call("POST", "/freeze/break/agree", nil, adminapi.PasswordInput{Password: password}, nil); err != nil {
		w.t.Fatal(err)
	}
	return second
}

// state is all that people can change, as JSON.
func (w *world) state(nodeID, liveID string) string {
	w.t.Helper()
	var all []string
	for _, path := range []string{
		"/nodes?sort=hostname", "/nodes/" + nodeID, "/secrets", "/live", "/live/" + liveID, "/audit",
		"/changes", "/revisions", "/resources", "/rollouts", "/rollouts/current", "/freeze", "/emergency", "/users", "/invitations", "/saved-queries",
	} {
		path, raw, _ := strings.Cut(path, "?")
		query, err := url.ParseQuery(raw)
		if err != nil {
			w.t.Fatal(err)
		}
		var doc json.RawMessage
		if err := w.call("GET", path, query, nil, &doc); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, string(doc))
	}
	return strings.Join(all, "\n")
}

// TestAuditPermission: all of it needs the right to read it.
func TestAuditPermission(t *testing.T) {
	w := newWorld(t)
	found := 0
	for _, r := range w.api.Routes() {
		if strings.HasPrefix(r.Path, "/api/v1/audit") {
			found++
			if r.Permission != account.AuditRead {
				t.Errorf("%s needs %s", r.Path, r.Permission)
			}
		}
	}
	if found != 4 {
		t.Errorf("%d routes", found)
	}
}
