package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/rig"
)

// carver is a node that answers every request for a carve with the same bytes,
// as a real agent does: over HTTPS, with a key that it enrolled for.
type carver struct {
	t    *testing.T
	s    *server
	http *http.Client
	name string
	key  string
}

func (s *server) carver(secret, name string) *carver {
	s.t.Helper()
	roots, err := s.Roots()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &carver{t: s.t, s: s, name: name, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
	answer, _ := c.post("enroll", map[string]any{"enroll_secret": secret, "host_identifier": name, "platform_type": "9"})
	c.key, _ = answer["node_key"].(string)
	if c.key == "" {
		s.t.Fatalf("not enrolled: %v", answer)
	}
	return c
}

// post returns the answer if it is JSON, and its text.
func (c *carver) post(endpoint string, body map[string]any) (map[string]any, string) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.raw(endpoint, b)
	if err != nil {
		c.t.Fatal(err)
	}
	var doc map[string]any
	_ = json.Unmarshal(answer, &doc)
	return doc, string(answer)
}

func (c *carver) raw(endpoint string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.s.AgentURL+"/api/osquery/"+endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// poll waits for a query of which the text holds a word.
func (c *carver) poll(word string) (id string) {
	c.t.Helper()
	err := rig.Until(c.t.Context(), "a query with "+word, func() (bool, error) {
		answer, _ := c.post("distributed/read", map[string]any{"node_key": c.key})
		queries, _ := answer["queries"].(map[string]any)
		for name, sql := range queries {
			if strings.Contains(fmt.Sprint(sql), word) {
				id = name
			}
		}
		return id != "", nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *carver) answer(id string, rows ...map[string]string) {
	c.t.Helper()
	c.post("distributed/write", map[string]any{
		"node_key": c.key, "queries": map[string]any{id: rows}, "statuses": map[string]any{id: 0},
	})
}

func (c *carver) begin(guid string, size, block int) string {
	c.t.Helper()
	answer, text := c.post("carve/start", map[string]any{
		"block_count": (size + block - 1) / block, "block_size": block, "carve_size": size, "carve_id": guid, "request_id": "r-" + guid, "node_key": c.key,
	})
	session, _ := answer["session_id"].(string)
	if session == "" {
		c.t.Fatalf("no session: %s", text)
	}
	return session
}

// blockBody is what a real agent sends for one block.
func blockBody(session string, i int, data []byte) []byte {
	b := fmt.Appendf(nil, `{"block_id":%d,"session_id":%q,"request_id":"","data":"`, i, session)
	return append(base64.StdEncoding.AppendEncode(b, data), `"}`...)
}

func (c *carver) block(session string, i, block int, data []byte) string {
	c.t.Helper()
	answer, err := c.raw("carve/continue", blockBody(session, i, data[i*block:min(len(data), (i+1)*block)]))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(answer)
}

func tarOf(t *testing.T, guid, name string, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "/tmp/osquery_carve_" + guid + name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// carveDoc is what muster carve prints of a carve.
type carveDoc struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Message  string `json:"message"`
	Archives []struct {
		State        string `json:"state"`
		SHA256       string `json:"sha256"`
		Verification string `json:"verification"`
		Received     int    `json:"received_blocks"`
	} `json:"archives"`
	Listings []struct {
		Files []struct {
			Path string `json:"path"`
		} `json:"files"`
	} `json:"listings"`
}

// TestCarve: a person asks, the node sends, the server is killed in the middle,
// the file comes out as it went in, and the log says who took it.
func TestCarve(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	node := s.carver(s.secret("servers"), "carver-1")
	const guid, block = "7c3556a5-ae36-4ba4-b7d3-d7d643be26cb", 10_000
	content := bytes.Repeat([]byte("what a responder wants to see\n"), 5000)
	archive := tarOf(t, guid, "/var/log/app.log", content)

	var c carveDoc
	s.cliJSON(&c, "carve", "start", "--node", "carver-1", "/var/log/app.log")
	if c.ID == "" || c.State != "asked" {
		t.Fatalf("%+v", c)
	}
	node.answer(node.poll("path = '/var/log/app.log'"), map[string]string{
		"path": "/var/log/app.log", "carve_guid": guid, "request_id": "r-" + guid, "status": "SCHEDULED", "size": "-1", "sha256": "",
	})
	session := node.begin(guid, len(archive), block)
	count := (len(archive) + block - 1) / block
	for i := range count / 2 {
		if answer := node.block(session, i, block, archive); answer != "{}" {
			t.Fatalf("block %d: %s", i, answer)
		}
	}
	s.check(s.Kill())
	s.start()
	for i := count - 1; i >= count/2; i-- {
		want := "{}"
		if i == count/2 {
			want = `{"success":true}`
		}
		if answer := node.block(session, i, block, archive); answer != want {
			t.Fatalf("block %d: %s", i, answer)
		}
	}
	if answer := node.block(session, 0, block, archive); json.Valid([]byte(answer)) || answer == "" {
		t.Errorf("a block after the end: %q", answer)
	}
	sum := sha256.Sum256(archive)
	want := hex.EncodeToString(sum[:])
	node.answer(node.poll("carve_guid IN"), map[string]string{"carve_guid": guid, "sha256": want, "size": fmt.Sprint(len(archive)), "status": "SUCCESS"})
	err := rig.Until(t.Context(), "the carve is verified", func() (bool, error) {
		s.cliJSON(&c, "carve", "show", c.ID)
		return c.Archives[0].Verification != "", nil
	})
	if err != nil || c.State != "done" || c.Archives[0].SHA256 != want || c.Archives[0].Verification != "matched" {
		t.Fatalf("%+v %v", c, err)
	}
	if len(c.Listings) != 1 || len(c.Listings[0].Files) != 1 || c.Listings[0].Files[0].Path != "/var/log/app.log" {
		t.Errorf("%+v", c.Listings)
	}
	file := filepath.Join(t.TempDir(), "out.tar")
	if err := os.WriteFile(file+".part", archive[:12_345], 0o600); err != nil { // of a download that was cut
		t.Fatal(err)
	}
	var got struct {
		SHA256  string `json:"sha256"`
		Resumed int    `json:"resumed"`
		Checked bool   `json:"checked"`
	}
	s.check(json.Unmarshal([]byte(s.cli("carve", "get", c.ID, "-o", file)), &got))
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(b, archive) || got.SHA256 != want || got.Resumed != 12_345 || !got.Checked {
		t.Errorf("%d bytes, %+v, %v", len(b), got, err)
	}
	s.checkCarveAudit()
}

func (s *server) checkCarveAudit() {
	s.t.Helper()
	var trail []struct {
		Action string          `json:"action"`
		Detail json.RawMessage `json:"detail"`
	}
	s.cliJSON(&trail, "audit", "list")
	seen := map[string]string{}
	for _, e := range trail {
		seen[e.Action] = string(e.Detail)
	}
	if !strings.Contains(seen["carve.download"], "bytes=12345-") || seen["carve.start"] == "" {
		s.t.Errorf("the audit log holds %v", seen)
	}
}

// TestCarveMemory: ten uploads at once of 100 MB in blocks of 1 MiB. Set
// MUSTER_CARVE_LOAD to run it; it takes a gigabyte of disk.
func TestCarveMemory(t *testing.T) {
	if os.Getenv("MUSTER_CARVE_LOAD") == "" {
		t.Skip("set MUSTER_CARVE_LOAD")
	}
	const uploads, size = 10, 100 << 20
	block := 1 << 20
	if os.Getenv("MUSTER_CARVE_LOAD") == "10m" {
		block = 10_000_000
	}
	s := newServer(t, "--carve-unrequested", "accept", "--carve-free-bytes", "0")
	s.setUp()
	secret := s.secret("servers")
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*7 + i>>13)
	}
	nodes := make([]*carver, uploads)
	for i := range nodes {
		nodes[i] = s.carver(secret, fmt.Sprintf("carver-%d", i))
	}
	// As idle as it gets.
	idle, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ResetPeak(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			session := n.begin(fmt.Sprintf("guid-%d", i), size, block)
			for b := range (size + block - 1) / block {
				answer := n.block(session, b, block, data)
				if !strings.HasPrefix(answer, "{") {
					t.Errorf("block %d: %s", b, answer)
				}
			}
		})
	}
	all.Wait()
	sent, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err = rig.Until(ctx, "all are done", func() (bool, error) {
		var list []carveDoc
		s.cliJSON(&list, "carve", "list", "--state", "done")
		return len(list) == uploads, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	finished, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("idle %+v", idle)
	t.Logf("sent %+v in %s", sent, took)
	t.Logf("finished %+v", finished)
}
