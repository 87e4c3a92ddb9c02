package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/e2e/rig"
)

// bucket starts versitygw, a real S3 server, with a bucket in a directory, and
// returns both the server's address and the directory.
func bucket(t *testing.T) (endpoint, dir string) {
	t.Helper()
	program := os.Getenv("MUSTER_VERSITYGW")
	if program == "" {
		t.Skip("MUSTER_VERSITYGW does not name the S3 server of the tests; make bin/versitygw builds it")
	}
	root := t.TempDir()
	dir = filepath.Join(root, "data", "carves")
	for _, d := range []string{dir, filepath.Join(root, "meta")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // it does not tell the port that it got
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background()) // until the server that uses it is gone
	cmd := exec.CommandContext(ctx, program, "--access", "muster-test", "--secret", "of-nobody", "--quiet", "--port", address,
		"posix", "--sidecar", filepath.Join(root, "meta"), filepath.Join(root, "data"))
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killing it makes an error
	})
	err = rig.Until(t.Context(), "the S3 server", func() (bool, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return true, c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address, dir
}

// vaultStandIn answers as Vault does for two tokens, of which one has the policy.
func vaultStandIn(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		policies := map[string]string{"hvs.reader": `["osquery-carve-file-request"]`, "hvs.other": `["default"]`}[r.Header.Get("X-Vault-Token")]
		if policies == "" || r.URL.Path != "/v1/auth/token/lookup-self" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"data":{"display_name":"token-ada","entity_id":"e-1","policies":%s,"identity_policies":null,"type":"service"}}`, policies)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// request is one to the admin listener without a login.
func (s *server) request(method, path, body string, headers ...string) (int, []byte) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.AdminURL+path, strings.NewReader(body))
	s.check(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: rig.Patience}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	s.check(err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	s.check(err)
	return answer.StatusCode, b
}

// TestCarveS3: two archives go into a bucket, though the server is killed when
// it has all of them, and come out as they were, whole, by range and by token.
func TestCarveS3(t *testing.T) {
	t.Parallel()
	endpoint, dir := bucket(t)
	s := prepare(t, "--carve-store", "s3://carves/a?endpoint="+endpoint+"&path_style=true", "--vault-addr", vaultStandIn(t))
	s.Env = []string{"AWS_ACCESS_KEY_ID=muster-test", "AWS_SECRET_ACCESS_KEY=of-nobody"}
	t.Cleanup(func() {
		_ = s.Kill()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log().Tail(8000))
		}
	})
	s.start()
	s.setUp()
	node := s.carver(s.secret("servers"), "carver-1")
	var c carveDoc
	s.cliJSON(&c, "carve", "start", "--node", "carver-1", "/var/log/app.log", "/var/log/%.conf")
	const block = 1 << 20
	guids := []string{"7c3556a5-ae36-4ba4-b7d3-d7d643be26c0", "7c3556a5-ae36-4ba4-b7d3-d7d643be26c1"}
	archives := [][]byte{ // the first is more than a part
		tarOf(t, guids[0], "/var/log/app.log", bytes.Repeat([]byte("what a responder wants to see\n"), 6<<20/30)),
		tarOf(t, guids[1], "/var/log/a.conf", []byte("a = 1\n")),
	}
	node.answer(node.poll("/var/log/app.log"),
		map[string]string{"path": "/var/log/a.conf", "carve_guid": guids[1], "request_id": "r-" + guids[1], "status": "SCHEDULED", "size": "-1", "sha256": ""},
		map[string]string{"path": "/var/log/app.log", "carve_guid": guids[0], "request_id": "r-" + guids[0], "status": "SCHEDULED", "size": "-1", "sha256": ""})
	for i, archive := range archives {
		session := node.begin(guids[i], len(archive), block)
		for b := range (len(archive) + block - 1) / block {
			if answer := node.block(session, b, block, archive); !strings.HasPrefix(answer, "{") {
				t.Fatalf("block %d: %s", b, answer)
			}
		}
	}
	s.check(s.Kill())
	s.start()
	s.check(rig.Until(t.Context(), "the carve is done", func() (bool, error) {
		s.cliJSON(&c, "carve", "show", c.ID)
		return c.State == "done", nil
	}))
	s.checkBucket(filepath.Join(dir, "a"), len(archives))
	for i, archive := range archives {
		if c.Archives[i].SHA256 != hashOf(archive) {
			t.Errorf("archive %d: %+v", i, c.Archives[i])
		}
		s.checkGet(c.ID, i, archive)
	}
	s.checkTokens(c.ID, guids[0], archives[0])
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// checkBucket: nothing but sealed blobs, and nothing left of the spool.
func (s *server) checkBucket(dir string, want int) {
	s.t.Helper()
	blobs, err := os.ReadDir(dir)
	if err != nil || len(blobs) != want {
		s.t.Errorf("the bucket holds %v, %v", blobs, err)
	}
	for _, blob := range blobs {
		b, err := os.ReadFile(filepath.Join(dir, blob.Name()))
		if err != nil || bytes.Contains(b, []byte("responder")) || bytes.Contains(b, []byte("osquery_carve")) {
			s.t.Errorf("%s is not sealed, or cannot be read: %v", blob.Name(), err)
		}
	}
	s.until("an empty spool", func() bool {
		left, err := os.ReadDir(filepath.Join(s.Dir, "carves", "spool"))
		return err == nil && len(left) == 0
	})
}

// checkGet goes on with a download that was cut.
func (s *server) checkGet(id string, n int, archive []byte) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "out.tar")
	s.check(os.WriteFile(file+".part", archive[:len(archive)/2], 0o600))
	var got struct {
		SHA256  string `json:"sha256"`
		Resumed int    `json:"resumed"`
		Checked bool   `json:"checked"`
	}
	s.check(json.Unmarshal([]byte(s.cli("carve", "get", id, "--archive", fmt.Sprint(n), "-o", file)), &got))
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(b, archive) || got.SHA256 != hashOf(archive) || got.Resumed != len(archive)/2 || !got.Checked {
		s.t.Errorf("archive %d: %d bytes, %+v, %v", n, len(b), got, err)
	}
}

// checkTokens: Vault's policy opens a file, by its id and by the node's name for
// it, also a range; another token, an accessor or nothing do not.
func (s *server) checkTokens(id, guid string, archive []byte) {
	s.t.Helper()
	path := "/api/v1/carves/" + id + "/download?archive=0"
	status, b := s.request("GET", path, "", "X-Vault-Token", "hvs.reader", "Range", "bytes=1000-1999")
	if status != http.StatusPartialContent || !bytes.Equal(b, archive[1000:2000]) {
		s.t.Errorf("a range: %d, %d bytes", status, len(b))
	}
	for _, token := range []string{"hvs.other", "hvs.unknown", ""} {
		if status, b := s.request("GET", path, "", "X-Vault-Token", token); !refused(status) || bytes.Contains(b, []byte("responder")) {
			s.t.Errorf("token %q: %d", token, status)
		}
		body := fmt.Sprintf(`{"file_carve_guid":%q,"token":%q,"token_accessor":"hvs.reader"}`, guid, token)
		if status, b := s.request("POST", "/file_request", body); !refused(status) || bytes.Contains(b, []byte("responder")) {
			s.t.Errorf("token %q for /file_request: %d", token, status)
		}
	}
	status, b = s.request("POST", "/file_request", fmt.Sprintf(`{"file_carve_guid":%q,"token":"hvs.reader","token_accessor":"x"}`, guid))
	if status != http.StatusOK || !bytes.Equal(b, archive) {
		s.t.Errorf("/file_request: %d, %d bytes", status, len(b))
	}
}

func refused(status int) bool {
	return slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden}, status)
}
