package agent

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/musterhq/muster/internal/osquery"
)

const carveFlags = `
--disable_carver=false
--carver_start_endpoint=/cstart
--carver_continue_endpoint=/cblock
`

type carveStartBody struct {
	Count     int    `json:"block_count"`
	BlockSize int    `json:"block_size"`
	Size      int    `json:"carve_size"`
	ID        string `json:"carve_id"`
	RequestID string `json:"request_id"`
	NodeKey   string `json:"node_key"`
}

type carveBlockBody struct {
	ID        int    `json:"block_id"`
	Session   string `json:"session_id"`
	RequestID string `json:"request_id"`
	Data      []byte `json:"data"`
}

// decode reads requests of one path.
func decode[T any](t *testing.T, requests []request) []T {
	t.Helper()
	var all []T
	for _, r := range requests {
		var v T
		if err := json.Unmarshal(r.body, &v); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
		all = append(all, v)
	}
	return all
}

// A receiver puts carves together as osquery's test server does: a session for
// each start, blocks by their number.
type receiver struct {
	mu     sync.Mutex
	starts []carveStartBody
	blocks map[string]map[int][]byte // by session
}

func (v *receiver) answer(r request) (int, string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.path == "/cstart" {
		var b carveStartBody
		if err := json.Unmarshal(r.body, &b); err != nil {
			return 500, "bad start"
		}
		v.starts = append(v.starts, b)
		return 200, fmt.Sprintf(`{"session_id":"s/%d"}`, len(v.starts))
	}
	var b carveBlockBody
	if err := json.Unmarshal(r.body, &b); err != nil {
		return 500, "bad block"
	}
	if v.blocks == nil {
		v.blocks = map[string]map[int][]byte{}
	}
	if v.blocks[b.Session] == nil {
		v.blocks[b.Session] = map[int][]byte{}
	}
	v.blocks[b.Session][b.ID] = b.Data
	return 200, `{}`
}

// archive returns what was received for a carve, checked against its start.
func (v *receiver) archive(t *testing.T, guid string) []byte {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, s := range slices.Backward(v.starts) {
		if s.ID != guid {
			continue
		}
		var all []byte
		blocks := v.blocks[fmt.Sprintf("s/%d", i+1)]
		for n := range s.Count {
			if n < s.Count-1 && len(blocks[n]) != s.BlockSize {
				t.Errorf("block %d has %d bytes", n, len(blocks[n]))
			}
			all = append(all, blocks[n]...)
		}
		if len(all) != s.Size || len(blocks) != s.Count {
			t.Errorf("%d bytes in %d blocks, announced %d in %d", len(all), len(blocks), s.Size, s.Count)
		}
		return all
	}
	t.Fatalf("no start of %s in %+v", guid, v.starts)
	return nil
}

// members returns the files of a tar archive.
func members(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode != 0o644 {
			t.Errorf("%s: type %c, mode %o", h.Name, h.Typeflag, h.Mode)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// carves returns the table's rows, by carve_guid.
func carves(t *testing.T, a *Agent) map[string]map[string]string {
	t.Helper()
	rows, _, err := a.Query(t.Context(), "SELECT * FROM carves")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for _, r := range rows {
		row := columns(r)
		all[row["carve_guid"]] = row
	}
	return all
}

func columns(r osquery.Row) map[string]string {
	m := map[string]string{}
	for _, c := range r {
		m[c.Name] = c.Value
	}
	return m
}

// statuses returns the states of all carves, sorted.
func statuses(t *testing.T, a *Agent) []string {
	t.Helper()
	var all []string
	for _, row := range carves(t, a) {
		all = append(all, row["status"])
	}
	slices.Sort(all)
	return all
}

func readAsking(t *testing.T, queries map[string]string) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"queries": queries})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCarve(t *testing.T) {
	for _, test := range []struct {
		name, flags, version string
		compressed, header   bool
	}{
		{"plain", "--carver_block_size=1000", "", false, true},
		{"default block size", "", "5.23.0", false, true},
		{"compressed, before keys were in the head", "--carver_compression=true\n--carver_block_size=300", "5.22.1", true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, temp := t.TempDir(), t.TempDir()
				for name, text := range map[string]string{
					"a.txt": strings.Repeat("a", 3000), "b.txt": "", "c.log": "no", ".hidden.txt": "no", "sub/d.txt": "deep",
				} {
					write(t, filepath.Join(dir, name), text)
				}
				var received receiver
				sc := &script{config: `{}`, carve: received.answer, read: []string{readAsking(t, map[string]string{"q": `
					SELECT * FROM carves WHERE path LIKE '` + dir + `/%.txt' AND carve = 1 UNION ALL
					SELECT * FROM carves WHERE path = '/proc/version' AND carve = 1 UNION ALL
					SELECT * FROM carves WHERE path LIKE '` + dir + `/nothing%' AND carve = 1`})}}
				s := newServer(t, sc.answer)
				a, _ := startWith(t, s, Options{Flags: testFlags(t, carveFlags+test.flags), Version: test.version, Carve: CarveOptions{TempDir: temp}})
				pass(t, 59*time.Second)
				// Two carves wait; the pattern that finds nothing made none.
				writes := decode[struct {
					Queries map[string][]map[string]string
				}](t, s.to("/write"))
				if len(writes) != 1 || len(writes[0].Queries["q"]) != 2 {
					t.Fatalf("written: %+v", writes)
				}
				rows := writes[0].Queries["q"]
				wantPath := []string{dir + "/a.txt," + dir + "/b.txt", "/proc/version"}
				for i, row := range rows {
					want := map[string]string{
						"time": "946684800", "sha256": "", "size": "-1", "path": wantPath[i], "status": "SCHEDULED",
						"carve_guid": row["carve_guid"], "request_id": row["request_id"], "carve": "1",
					}
					if diff := cmp.Diff(want, row); diff != "" || len(row["carve_guid"]) != 36 || len(row["request_id"]) != 36 {
						t.Errorf("row %d (-want +got):\n%s", i, diff)
					}
				}
				if n := len(s.to("/cstart")); n != 0 {
					t.Errorf("%d carves began before the minute was full", n)
				}
				pass(t, 2*time.Second)
				version, err := os.ReadFile("/proc/version")
				if err != nil {
					t.Fatal(err)
				}
				state := carves(t, a)
				for i, want := range []map[string]string{
					{"a.txt": strings.Repeat("a", 3000), "b.txt": ""},
					{"/proc/version": string(version)},
				} {
					guid := rows[i]["carve_guid"]
					archive := received.archive(t, guid)
					sum := sha256.Sum256(archive)
					row := state[guid]
					if row["status"] != "SUCCESS" || row["size"] != fmt.Sprint(len(archive)) || row["sha256"] != hex.EncodeToString(sum[:]) || row["carve"] != "0" {
						t.Errorf("afterwards: %v", row)
					}
					if compressed := bytes.HasPrefix(archive, []byte{0x28, 0xb5, 0x2f, 0xfd}); compressed != test.compressed {
						t.Errorf("compressed: %v", compressed)
					}
					if test.compressed {
						z, err := zstd.NewReader(nil)
						if err != nil {
							t.Fatal(err)
						}
						if archive, err = z.DecodeAll(archive, nil); err != nil {
							t.Fatal(err)
						}
						z.Close()
					}
					wantFiles := map[string]string{}
					for name, text := range want {
						if i == 0 {
							name = dir + "/" + name
						}
						wantFiles[filepath.Join(temp, "osquery_carve_"+guid, name)] = text
					}
					if diff := cmp.Diff(wantFiles, members(t, archive)); diff != "" {
						t.Errorf("archive (-want +got):\n%s", diff)
					}
				}
				starts := decode[carveStartBody](t, s.to("/cstart"))
				if len(starts) != 2 || starts[0].RequestID != state[starts[0].ID]["request_id"] || starts[0].NodeKey != "nk-1" {
					t.Errorf("starts: %+v", starts)
				}
				for _, r := range slices.Concat(s.to("/cstart"), s.to("/cblock"), s.to("/read")) {
					if got := r.header("Authorization") == "NodeKey nk-1"; got != test.header {
						t.Errorf("%s: Authorization %q", r.path, r.header("Authorization"))
					}
				}
				blocks := decode[carveBlockBody](t, s.to("/cblock"))
				if blocks[0].Session == "" || blocks[0].RequestID != starts[0].RequestID {
					t.Errorf("block: %+v", blocks[0])
				}
				left, err := os.ReadDir(temp)
				if err != nil || len(left) != 0 {
					t.Errorf("left in the temporary directory: %v, %v", left, err)
				}
			})
		})
	}
}

// TestCarve_bytes sends what a captured carve sent and compares the bodies.
func TestCarve_bytes(t *testing.T) {
	want := map[string]sample{}
	for _, s := range samples(t) {
		want[s.Path] = s
	}
	var block carveBlockBody
	if err := json.Unmarshal(want["/cblock"].Body, &block); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{}`}
		s := newServer(t, sc.answer)
		f := testFlags(t, carveFlags+"--carver_block_size=1000")
		a, err := New(Options{Flags: f, RootCAs: s.roots, Dial: s.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		path := filepath.Join(t.TempDir(), "archive")
		write(t, path, string(block.Data)+strings.Repeat("x", 2072))
		err = a.postCarve(t.Context(), "7c3556a5-ae36-4ba4-b7d3-d7d643be26cb", block.RequestID, upload{path: path, size: 3072})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want["/cstart"].Body), string(s.to("/cstart")[0].body)); diff != "" {
			t.Errorf("start (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(string(want["/cblock"].Body), string(s.to("/cblock")[0].body)); diff != "" {
			t.Errorf("block (-want +got):\n%s", diff)
		}
		if n := len(s.to("/cblock")); n != 4 {
			t.Errorf("%d blocks", n)
		}
	})
}

// TestCarve_answers goes through what a server may answer.
func TestCarve_answers(t *testing.T) {
	const session = `{"session_id":"s"}`
	type answer struct {
		code int
		body string
	}
	ok := answer{200, `{}`}
	for _, test := range []struct {
		name           string
		starts, blocks []answer // in turn; the last one for ever
		status         string
		sentStarts     []int // seconds after the minute
		sentBlocks     []int
	}{
		{"success", []answer{{200, session}}, []answer{ok}, "SUCCESS", []int{0}, []int{0, 0}},
		{"any JSON, whatever the code", []answer{{500, `{"session_id":"s","error":"no","node_invalid":true}`}}, []answer{{500, `{"error":"no"}`}}, "SUCCESS", []int{0}, []int{0, 0}},
		{"an empty answer", []answer{{200, session}}, []answer{{204, ``}}, "SUCCESS", []int{0}, []int{0, 0}},
		{"no session", []answer{{200, `{"node_invalid":true}`}}, nil, "DATA POST FAILED", []int{0}, nil},
		{"an empty session", []answer{{200, `{"session_id":""}`}}, nil, "DATA POST FAILED", []int{0}, nil},
		{"a session that is no string", []answer{{200, `{"session_id":7}`}}, nil, "DATA POST FAILED", []int{0}, nil},
		{"start refused in words", []answer{{503, `busy`}}, nil, "DATA POST FAILED", []int{0, 1, 5}, nil},
		{"start refused once", []answer{{503, `busy`}, {200, session}}, []answer{ok}, "SUCCESS", []int{0, 1}, []int{1, 1}},
		{"block refused twice", []answer{{200, session}}, []answer{{503, `busy`}, {503, `busy`}, ok}, "SUCCESS", []int{0}, []int{0, 1, 5, 5}},
		{"block refused", []answer{{200, session}}, []answer{{400, `no such session`}}, "DATA POST FAILED", []int{0}, []int{0, 1, 5}},
		{"answers lost", []answer{{200, session}}, []answer{{lost, ""}, ok}, "SUCCESS", []int{0}, []int{0, 0, 0}}, // sent again at once
		{"all lost", []answer{{200, session}}, []answer{{lost, ""}}, "DATA POST FAILED", []int{0}, []int{0, 0, 1, 1, 5, 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "f")
				write(t, file, "text")
				next := func(from *[]answer) (int, string) {
					a := (*from)[0]
					if len(*from) > 1 {
						*from = (*from)[1:]
					}
					return a.code, a.body
				}
				sc := &script{config: `{}`, carve: func(r request) (int, string) {
					if r.path == "/cstart" {
						return next(&test.starts)
					}
					return next(&test.blocks)
				}, read: []string{readAsking(t, map[string]string{"q": "SELECT carve_guid FROM carves WHERE path = '" + file + "' AND carve = 1"})}}
				s := newServer(t, sc.answer)
				begin := time.Now()
				a, _ := startWith(t, s, Options{Flags: testFlags(t, carveFlags+"--carver_block_size=2000"), Carve: CarveOptions{TempDir: t.TempDir()}})
				pass(t, 2*time.Minute)
				if got := statuses(t, a); !slices.Equal(got, []string{test.status}) {
					t.Errorf("status %q, want %s", got, test.status)
				}
				for path, want := range map[string][]int{"/cstart": test.sentStarts, "/cblock": test.sentBlocks} {
					var got []int
					for _, r := range s.to(path) {
						got = append(got, int(r.at.Sub(begin)/time.Second)-60)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s at %v, want %v", path, got, want)
					}
				}
				if n := len(s.to("/enroll")); n != 1 {
					t.Errorf("%d enrolments", n) // node_invalid means nothing here
				}
			})
		})
	}
}

func TestCarve_fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "f"), "text")
		write(t, filepath.Join(dir, "large"), strings.Repeat("x", 1<<16))
		ask := func(path string) string {
			return readAsking(t, map[string]string{"q" + path: "SELECT carve_guid FROM carves WHERE path = '" + path + "' AND carve = 1"})
		}
		sc := &script{config: `{"options":{"read_max":20000}}`, read: []string{
			ask(dir + "/none"), ask(dir), ask("relative"), ask("/dev/zero"), ask(dir + "/large"),
		}}
		s := newServer(t, sc.answer)
		a, _ := startWith(t, s, Options{Flags: testFlags(t, carveFlags), Carve: CarveOptions{TempDir: t.TempDir()}})
		pass(t, 3*time.Minute)
		got := map[string]string{}
		for _, row := range carves(t, a) {
			got[strings.TrimPrefix(row["path"], dir)] = row["status"] + " " + row["sha256"]
		}
		want := map[string]string{
			"/none": "CREATE PATHS FAILED ", "": "CREATE PATHS FAILED ", "relative": "CREATE PATHS FAILED ",
			"/dev/zero": "CREATE PATHS FAILED ", "/large": "SUCCESS -1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		a.carver.TempDir = filepath.Join(dir, "f") // no directory
		sc.set(func(s *script) { s.read = []string{ask(dir + "/f")} })
		pass(t, 2*time.Minute)
		if got := statuses(t, a); !slices.Equal(got, []string{
			"CREATE PATHS FAILED", "CREATE PATHS FAILED", "CREATE PATHS FAILED", "CREATE PATHS FAILED", "CREATE PATHS FAILED", "SUCCESS",
		}) {
			t.Errorf("without a directory: %q", got)
		}
		// Those that succeeded are forgotten after a day, failed ones never.
		pass(t, 25*time.Hour)
		if got := statuses(t, a); len(got) != 5 || slices.Contains(got, "SUCCESS") {
			t.Errorf("after a day: %q", got)
		}
	})
}

// TestCarve_off: without --disable_carver=false nothing is sent.
func TestCarve_off(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{config: `{"options":{"disable_carver":false}}`, read: []string{
			readAsking(t, map[string]string{"q": "SELECT carve_guid FROM carves WHERE path = '/etc/hostname' AND carve = 1"}),
		}}
		s := newServer(t, sc.answer)
		a, _ := start(t, s, testFlags(t, ""))
		pass(t, 2*time.Minute)
		if len(carves(t, a)) != 0 || len(s.to("/cstart")) != 0 {
			t.Error("a carve was made")
		}
	})
}

// TestCarve_restart stops the agent before and within a carve.
func TestCarve_restart(t *testing.T) {
	for _, resume := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			write(t, file, strings.Repeat("text", 1000))
			var received receiver
			sc := &script{config: `{}`, read: []string{
				readAsking(t, map[string]string{"q": "SELECT carve_guid FROM carves WHERE path = '" + file + "' AND carve = 1"}),
			}}
			s := newServer(t, sc.answer)
			o := Options{Flags: testFlags(t, carveFlags+"--carver_block_size=1000"), Carve: CarveOptions{TempDir: t.TempDir(), Resume: resume}}
			_, stop := startWith(t, s, o)
			pass(t, 30*time.Second)
			stop() // it waits
			sc.set(func(s *script) {
				s.carve = func(r request) (int, string) {
					if strings.Contains(string(r.body), `"block_id":2,`) {
						return 200, "not now"
					}
					return received.answer(r)
				}
			})
			_, stop = startWith(t, s, o)
			pass(t, 32*time.Second)
			stop() // between two tries of a block
			sc.set(func(s *script) { s.carve = received.answer })
			a, _ := startWith(t, s, o)
			pass(t, 2*time.Minute)
			starts := decode[carveStartBody](t, s.to("/cstart"))
			if !resume {
				if got := statuses(t, a); !slices.Equal(got, []string{"PENDING"}) || len(starts) != 1 {
					t.Errorf("%q after %d starts; osquery leaves it", got, len(starts))
				}
				return
			}
			if got := statuses(t, a); !slices.Equal(got, []string{"SUCCESS"}) || len(starts) != 2 || starts[0].ID != starts[1].ID || starts[0].RequestID != starts[1].RequestID {
				t.Fatalf("%q after %+v", got, starts)
			}
			received.archive(t, starts[1].ID)
		})
	}
}

func TestForgetCarves(t *testing.T) {
	all := map[string]carve{}
	for i := range maxCarves + 10 {
		c := carve{Time: int64(i), Status: carveSuccess}
		if i < 5 {
			c.Status = carvePending
		}
		all[fmt.Sprint(i)] = c
	}
	forgetCarves(all)
	if _, gone := all["14"]; len(all) != maxCarves || gone {
		t.Errorf("%d are left", len(all))
	}
	for _, kept := range []string{"0", "4", "15"} {
		if _, ok := all[kept]; !ok {
			t.Errorf("carve %s is gone", kept)
		}
	}
}

// TestCarve_manyPaths: a pattern for half the disk is refused.
func TestCarve_manyPaths(t *testing.T) {
	s := newServer(t, (&script{config: `{}`}).answer)
	a, err := New(Options{Flags: testFlags(t, carveFlags), RootCAs: s.roots, Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	dir := t.TempDir()
	for i := range maxCarvePaths + 1 {
		if err := os.Symlink("x", filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = a.Query(t.Context(), "SELECT * FROM carves WHERE path LIKE '"+dir+"/%' AND carve = 1")
	if err == nil || !strings.Contains(err.Error(), "names more than 10000 files") {
		t.Errorf("%v", err)
	}
	if len(carves(t, a)) != 0 {
		t.Error("a carve is kept")
	}
}
