package adminapi_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/seal"
	"github.com/musterhq/muster/internal/spool"
)

// tokens stands for Vault: what that answers is package vault's business.
type tokens struct{}

func (*tokens) Check(_ context.Context, token string) (string, error) {
	if token == "hvs.good" {
		return "ada", nil
	}
	return "", errs.New(errs.Unauthenticated, "Vault does not know this token")
}

type noCarveMetrics struct{}

func (noCarveMetrics) Block(int)      {}
func (noCarveMetrics) Refused(string) {}

func (w *world) carving(trail *audit.Log, keyer node.Keyer, log *slog.Logger) {
	w.t.Helper()
	dir := w.t.TempDir()
	key, err := seal.MakeKey(filepath.Join(dir, "key"))
	if err != nil {
		w.t.Fatal(err)
	}
	files, err := spool.Open(filepath.Join(dir, "spool"))
	if err != nil {
		w.t.Fatal(err)
	}
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.carves = carve.New(carve.Options{
		Store: w.store, Ledger: w.store, Spool: files, Blobs: blobs, Key: key, Asker: w.live, Nodes: w.registry, Keyer: keyer, Audit: trail,
		Metrics: noCarveMetrics{}, Log: log, Now: time.Now,
		Limits: carve.Limits{PerCarve: 1 << 20, PerNode: 1 << 22, Total: 1 << 24, Sessions: 8, SessionsPerNode: 4, BlockSize: 1 << 20, Idle: time.Hour, Keep: time.Hour},
	})
	w.live.Observe(w.carves.Observe)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.carves.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	w.vault = &tokens{}
}

// carved lets a node send archives for a carve, and waits for its end.
func (w *world) carved(c adminapi.Carve, archives ...[]byte) adminapi.Carve {
	w.t.Helper()
	a := live.Answer{LiveID: w.live.Take(c.NodeID)[0].ID, NodeID: c.NodeID, State: live.Answered, ReceivedAt: time.Now()}
	for i, path := range c.Paths {
		row, _ := json.Marshal(map[string]string{"path": path, "carve_guid": "guid-" + c.ID + string(rune('a'+i)), "request_id": "r", "status": "SCHEDULED"})
		a.Rows = append(a.Rows, row)
	}
	if err := w.live.Accept(w.t.Context(), []live.Answer{a}); err != nil {
		w.t.Fatal(err)
	}
	for i, b := range archives {
		from := carve.Sender{Node: w.registry.Lookup(c.NodeID)}
		session, err := w.carves.Begin(w.t.Context(), from, osquery.CarveStart{
			Blocks: 1, BlockSize: int64(len(b)), Size: int64(len(b)), CarveID: "guid-" + c.ID + string(rune('a'+i)), RequestID: "r",
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if last, err := w.carves.Block(w.t.Context(), from, session, 0, bytes.Clone(b)); err != nil || !last {
			w.t.Fatal(last, err)
		}
	}
	for limit := time.Now().Add(20 * time.Second); c.State != "done"; <-time.After(10 * time.Millisecond) {
		if err := w.call("GET", "/carves/"+c.ID, nil, nil, &c); err != nil || time.Now().After(limit) {
			w.t.Fatalf("%+v %v", c, err)
		}
	}
	return c
}

func (w *world) download(path string, headers ...string) (*http.Response, []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer, b
}

func smallTar(t *testing.T, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := tar.NewWriter(&buf)
	if err := z.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(z, content)
	_ = z.Close()
	return buf.Bytes()
}

func TestCarves(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	var s adminapi.Session
	if err := w.call("POST", "/session", nil, adminapi.LoginInput{Username: "admin", Password: password, Kind: "bearer"}, &s); err != nil {
		t.Fatal(err)
	}
	var check adminapi.CarveCheck
	for path, want := range map[string]string{"/etc/hosts": "run", "/etc/shadow": "reason", "/proc/1/mem": "refused", "/%%": "refused"} {
		if err := w.call("POST", "/carves/check", nil, adminapi.CarveCheckInput{Paths: []string{path}}, &check); err != nil || check.Decision != want {
			t.Errorf("%s: %+v %v", path, check, err)
		}
	}
	for name, tt := range map[string]struct {
		in     adminapi.CarveInput
		status int
	}{
		"no reason": {adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/shadow"}}, 403},
		"refused":   {adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/hosts", "/dev/sda"}, Reason: "x"}, 403},
		"no node":   {adminapi.CarveInput{Node: "h9", Paths: []string{"/etc/hosts"}}, 404},
		"twice":     {adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/hosts", "/etc/hosts"}}, 400},
		"no path":   {adminapi.CarveInput{Node: "h1", Paths: []string{}}, 422},
	} {
		if err := w.call("POST", "/carves", nil, tt.in, nil); adminapi.Status(err) != tt.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	var c adminapi.Carve
	if err := w.call("POST", "/carves", nil, adminapi.CarveInput{Node: "h1", Paths: []string{"/etc/shadow", "/b"}, Reason: "INC-1"}, &c); err != nil || c.State != "asked" || c.Tier != 3 {
		t.Fatalf("%+v %v", c, err)
	}
	one, two := smallTar(t, "/tmp/osquery_carve_x/etc/shadow", "root:*"), smallTar(t, "../../b", "bb")
	c = w.carved(c, one, two)
	sum := sha256.Sum256(one)
	hash := hex.EncodeToString(sum[:])
	bearer := "Bearer " + s.Token
	path := "/api/v1/carves/" + c.ID + "/download"

	answer, b := w.download(path+"?archive=0", "Authorization", bearer)
	if !bytes.Equal(b, one) || answer.Header.Get("X-Muster-SHA256") != hash || answer.Header.Get("ETag") != `"`+hash+`"` ||
		answer.Header.Get("Content-Disposition") != `attachment; filename="carve-`+c.ID+`-0.tar"` {
		t.Errorf("%d bytes, %v", len(b), answer.Header)
	}
	answer, b = w.download(path+"?archive=0", "Authorization", bearer, "Range", "bytes=600-", "If-Range", `"`+hash+`"`)
	if answer.StatusCode != http.StatusPartialContent || !bytes.Equal(b, one[600:]) {
		t.Errorf("%d, %d bytes", answer.StatusCode, len(b))
	}
	answer, b = w.download(path+"?archive=0", "Authorization", bearer, "Range", "bytes=600-", "If-Range", `"other"`)
	if answer.StatusCode != http.StatusOK || !bytes.Equal(b, one) {
		t.Errorf("%d, %d bytes", answer.StatusCode, len(b))
	}
	if answer, _ := w.download(path+"?archive=0", "Authorization", bearer, "Range", "bytes=999999-"); answer.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("%d", answer.StatusCode)
	}
	w.mute.Store(true)
	if answer, b := w.download(path+"?archive=0", "Authorization", bearer); answer.StatusCode != 500 || bytes.Contains(b, []byte("root")) {
		t.Errorf("without an audit log: %d", answer.StatusCode)
	}
	w.mute.Store(false)
	w.combined(path, bearer)
	w.byVault(c, path, one)

	var files adminapi.CarveFiles
	if err := w.call("GET", "/carves/"+c.ID+"/files", url.Values{"archive": {"1"}}, nil, &files); err != nil || len(files.Files) != 1 || files.Files[0].Odd == "" {
		t.Errorf("%+v %v", files, err)
	}
	var page adminapi.CarvePage
	if err := w.call("GET", "/carves", url.Values{"node": {n.ID}, "state": {"done"}}, nil, &page); err != nil || len(page.Carves) != 1 || page.Usage.Bytes == 0 {
		t.Errorf("%+v %v", page, err)
	}
	if err := w.call("DELETE", "/carves/"+c.ID, nil, nil, nil); err != nil {
		t.Error(err)
	}
	if answer, _ := w.download(path, "Authorization", bearer); answer.StatusCode != http.StatusNotFound {
		t.Errorf("%d", answer.StatusCode)
	}
}

// combined: all archives come as one, and nothing in it leads out of it.
func (w *world) combined(path, bearer string) {
	w.t.Helper()
	_, b := w.download(path, "Authorization", bearer)
	var names []string
	for z := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := z.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "archive-0/etc/shadow archive-1/b" {
		w.t.Error(got)
	}
}

// byVault: a token opens the download, and nothing else; an accessor nothing.
func (w *world) byVault(c adminapi.Carve, path string, one []byte) {
	w.t.Helper()
	for _, headers := range [][]string{{"X-Vault-Token", "hvs.good"}, {"Authorization", "Bearer hvs.good"}} {
		if answer, b := w.download(path+"?archive=0", headers...); answer.StatusCode != 200 || !bytes.Equal(b, one) {
			w.t.Errorf("%v: %d", headers, answer.StatusCode)
		}
		if answer, _ := w.download("/api/v1/carves/"+c.ID, headers...); answer.StatusCode != http.StatusUnauthorized {
			w.t.Errorf("%v opens more: %d", headers, answer.StatusCode)
		}
	}
	if answer, _ := w.download(path, "X-Vault-Token", "hvs.bad"); answer.StatusCode != http.StatusUnauthorized {
		w.t.Errorf("%d", answer.StatusCode)
	}
	for body, want := range map[string]int{
		`{"file_carve_guid":"` + c.Archives[0].CarveGUID + `","token":"hvs.good","token_accessor":"x"}`: 200,
		`{"file_carve_guid":"` + c.Archives[0].CarveGUID + `","token":"","token_accessor":"hvs.good"}`:  401,
		`{"file_carve_guid":"../x","token":"hvs.good"}`:                                                 404,
		`{"file_carve_guid":"","token":"hvs.good"}`:                                                     404,
		`x`: 400,
	} {
		req, _ := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/file_request", strings.NewReader(body))
		answer, err := w.http.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		b, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != want || want == 200 && !bytes.Equal(b, one) {
			w.t.Errorf("%s: %d %.80s", body, answer.StatusCode, b)
		}
	}
}

// TestCarvePolicy holds carves to the live policies about them.
func TestCarvePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setUp()
	n := w.enrol("web-1")
	start := func(path, reason string) error {
		return w.call("POST", "/carves", nil, adminapi.CarveInput{Node: n.ID, Paths: []string{path}, Reason: reason}, nil)
	}
	decision := func(path string) string {
		var out adminapi.CarveCheck
		if err := w.call("POST", "/carves/check", nil, adminapi.CarveCheckInput{Paths: []string{path}}, &out); err != nil {
			t.Fatal(err)
		}
		return out.Decision
	}
	for _, c := range []struct{ rule, log, shadow string }{
		{"{require: refuse}", "run", "reason"}, // about people's questions alone
		{"{kinds: [carve], require: run}", "run", "reason"},
		{"{kinds: [carve], require: reason}", "reason", "reason"},
		{"{kinds: [carve], min_tier: 3, require: refuse}", "run", "refused"},
		{"{kinds: [carve], require: refuse}", "refused", "refused"},
	} {
		w.apply("apiVersion: muster/v1\nkind: LivePolicy\nname: p\nspec: {rules: [" + c.rule + "]}\n")
		for path, want := range map[string]string{"/var/log/syslog": c.log, "/etc/shadow": c.shadow} {
			if got := decision(path); got != want {
				t.Errorf("%s, %s: %s", c.rule, path, got)
			}
			if err := start(path, " "); (err == nil) != (want == "run") {
				t.Errorf("%s, %s without a reason: %v", c.rule, path, err)
			}
			if err := start(path, "INC-1"); (err != nil) != (want == "refused") {
				t.Errorf("%s, %s with a reason: %v", c.rule, path, err)
			}
		}
	}
}
