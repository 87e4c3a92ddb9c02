package agenttest_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/internal/agenttest"
)

// receiver takes carves as osquery's test server does.
type receiver struct {
	mu       sync.Mutex
	starts   []carveStart
	archives map[string][]byte // by carve_id
	session  map[string]string // carve_id by session
	refuse   bool              // blocks, with a text
}

type carveStart struct {
	Count     int64  `json:"block_count"`
	BlockSize int    `json:"block_size"`
	Size      int64  `json:"carve_size"`
	ID        string `json:"carve_id"`
	RequestID string `json:"request_id"`
	NodeKey   string `json:"node_key"`
}

func (v *receiver) serve(path string, body []byte, w io.Writer) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch path {
	case "carve/start":
		var b carveStart
		if json.Unmarshal(body, &b) != nil || b.NodeKey == "" {
			return false
		}
		session := fmt.Sprintf("s-%d", len(v.starts))
		v.starts = append(v.starts, b)
		if v.archives == nil {
			v.archives, v.session = map[string][]byte{}, map[string]string{}
		}
		v.archives[b.ID], v.session[session] = nil, b.ID
		_, _ = fmt.Fprintf(w, `{"session_id":%q}`, session)
	case "carve/continue":
		var b struct {
			Session string `json:"session_id"`
			Data    []byte `json:"data"`
		}
		if json.Unmarshal(body, &b) != nil || v.refuse {
			_, _ = io.WriteString(w, "no such session")
			return true
		}
		id := v.session[b.Session]
		v.archives[id] = append(v.archives[id], b.Data...)
		_, _ = io.WriteString(w, `{}`)
	default:
		return false
	}
	return true
}

// rows returns the rows of the last answer as "column=value" texts.
func (s *server) rows(t *testing.T) []map[string]string {
	t.Helper()
	answers := s.answers()
	if len(answers) == 0 {
		t.Fatal("no answer")
	}
	var all []map[string]string
	for _, row := range answers[len(answers)-1].Rows {
		m := map[string]string{}
		for _, c := range row {
			m[c.Name] = c.Value
		}
		all = append(all, m)
	}
	return all
}

func TestCarver(t *testing.T) {
	const size = 100_001
	for _, early := range []bool{false, true} {
		s := newServer(t)
		v := new(receiver)
		s.setCarve(v.serve)
		carver, err := agenttest.NewCarver(agenttest.CarveOptions{Size: size, BlockSize: 7000, Concurrency: 2, Early: early})
		must(t, err)
		n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Carver: carver})
		must(t, err)
		t.Cleanup(n.Close)
		poll := func(sql string) []map[string]string {
			t.Helper()
			b, err := json.Marshal(map[string]any{"queries": map[string]string{"q": sql}})
			must(t, err)
			s.setRead(string(b))
			_, err = n.Poll(t.Context())
			must(t, err)
			carver.Wait()
			return s.rows(t)
		}
		rows := poll(`SELECT * FROM carves WHERE path = '/etc/it''s' AND carve = 1
			UNION ALL SELECT * FROM carves WHERE path LIKE '/var/log/%' AND carve = 1`)
		if len(rows) != 2 || rows[0]["path"] != "/etc/it's" || rows[1]["path"] != "/var/log/%" || rows[0]["status"] != "SCHEDULED" || rows[0]["carve"] != "1" || rows[0]["size"] != "-1" {
			t.Fatalf("scheduled: %v", rows)
		}
		if done, failed, _ := carver.Counts(); done != 2 || failed != 0 || len(v.starts) != 2 {
			t.Errorf("%d done, %d failed, %d begun", done, failed, len(v.starts))
		}
		if start := v.starts[0]; start.Count != 15 || start.Size != size || start.RequestID == "" {
			t.Errorf("start: %+v", start)
		}
		guid := rows[1]["carve_guid"]
		archive := v.archives[guid]
		sum := sha256.Sum256(archive)
		rows = poll("SELECT carve_guid, sha256, size, status FROM carves WHERE carve_guid = '" + strings.ToUpper(guid) + "'")
		want := map[string]string{"carve_guid": guid, "sha256": hex.EncodeToString(sum[:]), "size": fmt.Sprint(size), "status": "SUCCESS"}
		if len(rows) != 1 || fmt.Sprint(rows[0]) != fmt.Sprint(want) {
			t.Errorf("afterwards %v, want %v", rows, want)
		}
		if len(archive) != size {
			t.Errorf("%d bytes", len(archive))
		}
		r := tar.NewReader(bytes.NewReader(archive))
		h, err := r.Next()
		must(t, err)
		if h.Name != "/tmp/osquery_carve_"+guid+"/var/log/%" || h.Size < size-2048-512 {
			t.Errorf("member %s of %d bytes", h.Name, h.Size)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("after it: %v", err)
		}
		head := s.head("carve/continue")
		if got := head.Get("Authorization") != ""; got != strings.Contains(head.Get("User-Agent"), "/5.23") {
			t.Errorf("head of a block: %v", head)
		}
		if rows := poll("SELECT * FROM carves"); len(rows) != 2 {
			t.Errorf("%d carves", len(rows))
		}
	}
}

// TestCarver_versions: nodes of versions before 5.23 have only the session.
func TestCarver_versions(t *testing.T) {
	seen := map[bool]bool{}
	s := newServer(t)
	s.setCarve(new(receiver).serve)
	s.setRead(`{"queries":{"q":"SELECT * FROM carves WHERE path = '/f' AND carve = 1"}}`)
	for number := range 20 {
		carver, err := agenttest.NewCarver(agenttest.CarveOptions{Size: 4096})
		must(t, err)
		n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Number: number + 1, Carver: carver})
		must(t, err)
		_, err = n.Poll(t.Context())
		must(t, err)
		carver.Wait()
		n.Close()
		head := s.head("carve/continue")
		told := head.Get("Authorization") == "NodeKey "+n.Key()
		if version := n.Host().Version; told != strings.HasPrefix(version, "5.23.") || head.Get("User-Agent") != "osquery/"+version {
			t.Errorf("%s: %v", version, head)
		}
		seen[told] = true
	}
	if len(seen) != 2 {
		t.Errorf("only one kind: %v", seen)
	}
}

// TestCarver_refused: a server that takes no blocks.
func TestCarver_refused(t *testing.T) {
	s := newServer(t)
	s.setCarve(func(path string, _ []byte, w io.Writer) bool {
		if path == "carve/start" {
			_, _ = io.WriteString(w, `{"error":"we did not ask for it"}`) // no session: not tried again
		}
		return path == "carve/start"
	})
	carver, err := agenttest.NewCarver(agenttest.CarveOptions{})
	must(t, err)
	n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Carver: carver})
	must(t, err)
	t.Cleanup(n.Close)
	s.setRead(`{"queries":{"q":"SELECT * FROM carves WHERE path = '/f' AND carve = 1"}}`)
	_, err = n.Poll(t.Context())
	must(t, err)
	carver.Wait()
	s.setRead(`{"queries":{"q":"SELECT status FROM carves"}}`)
	_, err = n.Poll(t.Context())
	must(t, err)
	if rows := s.rows(t); len(rows) != 1 || rows[0]["status"] != "DATA POST FAILED" {
		t.Errorf("%v", rows)
	}
	if done, failed, _ := carver.Counts(); done != 0 || failed != 1 {
		t.Errorf("%d done, %d failed", done, failed)
	}
}

func TestNewCarver(t *testing.T) {
	for _, bad := range []agenttest.CarveOptions{{Size: 100}, {Size: -1}, {BlockSize: -1}, {Concurrency: -1}} {
		if _, err := agenttest.NewCarver(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
