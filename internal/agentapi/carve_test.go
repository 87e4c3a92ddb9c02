package agentapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/seal"
	"github.com/musterhq/muster/internal/spool"
)

type noCarveMetrics struct{}

func (noCarveMetrics) Block(int)      {}
func (noCarveMetrics) Refused(string) {}

// carving adds a real carve.Service to a world.
func (w *world) carving(unrequested bool) *carve.Service {
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
	s := carve.New(carve.Options{
		Store: w.store, Ledger: w.store, Spool: files, Blobs: blobs, Key: key, Asker: w.live, Nodes: w.registry, Keyer: w.keyer, Audit: noAudit{},
		Metrics: noCarveMetrics{}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Limits: carve.Limits{
			PerCarve: 4 << 30, PerNode: 8 << 30, Total: 8 << 30, Sessions: 64, SessionsPerNode: 8, BlockSize: 16 << 20,
			Idle: time.Hour, Keep: time.Hour, Unrequested: unrequested,
		},
	})
	w.live.Observe(s.Observe)
	w.options.Carves = s
	w.api = agentapi.New(w.options)
	return s
}

type noAudit struct{}

func (noAudit) Record(context.Context, string, string, string, any) error { return nil }

// captured returns the requests of a kind that a real agent sent.
func captured(t *testing.T, kind string) []string {
	t.Helper()
	raw, err := os.ReadFile("../osquery/testdata/wire-samples.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Requests []sample `json:"requests"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, s := range file.Requests {
		if s.Kind == kind {
			b, err := base64.StdEncoding.DecodeString(s.Body)
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, string(b))
		}
	}
	if len(bodies) == 0 {
		t.Fatal("nothing was captured of", kind)
	}
	return bodies
}

// TestCarve_captured: what a real agent sent, from its row to its first block.
func TestCarve_captured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.carving(false)
	key := w.enroll()
	n := w.registry.Authenticate(key)
	c, err := s.Start(t.Context(), carve.Request{ID: ident.New(), Node: n, Paths: []string{"/tmp/proto/run/cv/b.txt"}, By: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	w.live.Take(n.ID)
	replace := strings.NewReplacer(`"nk-1"`, `"`+key+`"`, `"carve":`, `"`+c.LiveID+`":`)
	// The row's own column carve is not to be replaced.
	row := strings.Replace(replace.Replace(captured(t, "/write:carve")[0]), `"`+c.LiveID+`":"1"`, `"carve":"1"`, 1)
	if rec := w.send(http.MethodPost, "/distributed_write", row); rec.Code != http.StatusOK {
		t.Fatal(rec.Code, rec.Body)
	}
	if err := w.live.Accept(t.Context(), w.stream.answers); err != nil {
		t.Fatal(err)
	}
	rec := w.send(http.MethodPost, "/carve_init", strings.ReplaceAll(captured(t, "/cstart")[0], "nk-1", key))
	var session struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &session); err != nil || session.ID == "" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	for range 2 { // as it comes again when the answer is lost
		rec = w.send(http.MethodPost, "/carve_block", strings.ReplaceAll(captured(t, "/cblock")[0], "sess-1", session.ID))
		if rec.Code != http.StatusOK || rec.Body.String() != "{}" {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
	got, _ := s.Current(c.ID)
	if got.State != carve.Uploading || got.Archives[0].GUID != "7c3556a5-ae36-4ba4-b7d3-d7d643be26cb" || got.Archives[0].Guessed || got.Archives[0].Received != 1 {
		t.Errorf("%+v", got)
	}
}

// TestCarve_forms: old agents write numbers as strings and slashes escaped, and
// send no key with blocks; new ones send it in the head.
func TestCarve_forms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.carving(true)
	key := w.enroll()
	data := bytes.Repeat([]byte{0xff, 0xef, 0xbf}, 100) // its base64 has slashes
	start := func(guid string) string {
		rec := w.send(http.MethodPut, "/start_uploads%20", `{"block_count":"2","block_size":"200","carve_size":"300","carve_id":"`+guid+`","request_id":"","node_key":"`+key+`"}`)
		var session struct {
			ID string `json:"session_id"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &session); err != nil || session.ID == "" {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return session.ID
	}
	block := func(session, id string, part []byte, headers ...string) *httptest.ResponseRecorder {
		text := strings.ReplaceAll(base64.StdEncoding.EncodeToString(part), "/", `\/`)
		return w.send(http.MethodPost, "/upload_blocks", `{"block_id":`+id+`,"session_id":"`+session+`","request_id":"","data":"`+text+`"}`, headers...)
	}
	w.peer.Peer = agentconn.Peer{Certificate: node.Certificate{Fingerprint: "mine"}}
	session := start("g1")
	if rec := block(session, `"1"`, data[200:]); rec.Body.String() != "{}" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.peer.Peer = agentconn.Peer{Certificate: node.Certificate{Fingerprint: "other"}}
	for name, rec := range map[string]*httptest.ResponseRecorder{
		"another certificate": block(session, "0", data[:200]),
		"a wrong key":         block(session, "0", data[:200], "Authorization", "NodeKey wrong"),
		"a short block":       block(session, "0", data[:100], "Authorization", "NodeKey "+key),
		"no such block":       block(session, "7", data[:200], "Authorization", "NodeKey "+key),
		"no session":          block("x", "0", data[:200], "Authorization", "NodeKey "+key),
		"no base64":           w.send(http.MethodPost, "/upload_blocks", `{"block_id":0,"session_id":"`+session+`","data":"?"}`, "Authorization", "NodeKey "+key),
	} {
		if rec.Code < 400 || json.Valid(rec.Body.Bytes()) || rec.Body.Len() == 0 {
			t.Errorf("%s: %d %q", name, rec.Code, rec.Body)
		}
	}
	if rec := block(session, "0", data[:200], "Authorization", "NodeKey "+key); rec.Body.String() != `{"success":true}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if used, _ := s.Usage(); used == 0 {
		t.Error("nothing is counted")
	}
}

// BenchmarkCarveBlock is one block of 1 MiB: decoded, sealed, written and synced.
func BenchmarkCarveBlock(b *testing.B) {
	for _, size := range []int{8 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			w := newWorld(b)
			w.carving(true)
			key := w.enroll()
			blocks := min(1<<20, (4<<30)/size)
			rec := httptest.NewRecorder()
			w.api.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/carve/start", strings.NewReader(fmt.Sprintf(
				`{"block_count":%d,"block_size":%d,"carve_size":%d,"carve_id":"g","request_id":"","node_key":%q}`, blocks, size, blocks*size, key))))
			var session struct {
				ID string `json:"session_id"`
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &session); err != nil {
				b.Fatal(rec.Body)
			}
			tail := fmt.Appendf(nil, `","session_id":%q,"request_id":""}`, session.ID)
			data := base64.StdEncoding.EncodeToString(make([]byte, size))
			b.ReportAllocs()
			b.SetBytes(int64(size))
			i := 0
			for b.Loop() {
				body := io.MultiReader(strings.NewReader(fmt.Sprintf(`{"block_id":%d,"data":"`, i)), strings.NewReader(data), bytes.NewReader(tail))
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/carve/continue", body)
				r.ContentLength = int64(len(fmt.Sprintf(`{"block_id":%d,"data":"`, i)) + len(data) + len(tail))
				answer := discard{http.Header{}}
				w.api.ServeHTTP(answer, r)
				i++
			}
			if i > blocks {
				b.Fatal("more blocks than there are")
			}
		})
	}
}
