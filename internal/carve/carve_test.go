package carve_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
)

// TestCarve is one carve from the request to the bytes.
func TestCarve(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/etc/hosts", "/var/log/%.log")
	if c.State != carve.Asked || len(c.Archives) != 2 {
		t.Fatalf("%+v", c)
	}
	tasks := w.take("n1")
	if len(tasks) != 1 || tasks[0].SQL != "SELECT path, carve_guid, request_id, status, size, sha256 FROM carves WHERE carve = 1 AND path = '/etc/hosts'"+
		" UNION ALL SELECT path, carve_guid, request_id, status, size, sha256 FROM carves WHERE carve = 1 AND path LIKE '/var/log/%.log'" {
		t.Fatalf("%+v", tasks)
	}
	if c := w.carve(c.ID); c.State != carve.Sent {
		t.Errorf("it is %s", c.State)
	}
	w.answer("n1", tasks[0].ID, scheduled("/var/log/a.log,/var/log/b.log", guid(2), "r2"), scheduled("/etc/hosts", guid(1), "r1"))
	c = w.carve(c.ID)
	if c.State != carve.Scheduled || c.Archives[0].GUID != guid(1) || c.Archives[1].GUID != guid(2) || c.Archives[1].RequestID != "r2" {
		t.Fatalf("%+v", c)
	}
	one := packed(t, guid(1), map[string]string{"/etc/hosts": "127.0.0.1 localhost\n"})
	two := packed(t, guid(2), map[string]string{"/var/log/a.log": garbled(5000), "/var/log/b.log": "b"})
	s1, err := w.begin("n1", guid(1), "r1", len(one), 1000)
	must(t, err)
	w.send(s1, 1000, one)
	s2, err := w.begin("n1", guid(2), "r2", len(two), 700)
	must(t, err)
	w.send(s2, 700, two)
	c = w.until(c.ID, carve.Done)
	for i, want := range [][]byte{one, two} {
		a := c.Archives[i]
		if a.SHA256 != sum(want) || a.Format != carve.Tar || a.Files != i+1 || a.Truncated || a.Message != "" || a.Received != a.Blocks {
			t.Errorf("%+v", a)
		}
		if !bytes.Equal(w.read(a), want) {
			t.Errorf("archive %d is not what was sent", i)
		}
	}
	files, err := w.store.CarveFiles(t.Context(), c.Archives[0].ID)
	want := []carve.File{{Path: "/etc/hosts", Size: 20, Mode: "-rw-r-----", Modified: time.Unix(1_700_000_000, 0).UTC(), Type: "file"}}
	if diff := cmp.Diff(want, files); err != nil || diff != "" {
		t.Error(err, diff)
	}
	w.verify(c.ID, one)
	if entries, _ := os.ReadDir(filepath.Join(w.dir, "spool")); len(entries) != 0 {
		t.Errorf("the spool holds %v", entries)
	}
	for _, name := range []string{c.Archives[0].ID, c.Archives[1].ID} {
		b, err := os.ReadFile(filepath.Join(w.dir, "blobs", name))
		if err != nil || bytes.Contains(b, []byte("localhost")) || bytes.Contains(b, []byte("osquery_carve")) {
			t.Error("it is kept as plain text, or not at all", err)
		}
	}
	if used, _ := w.carves.Usage(); used != c.Archives[0].Room()+c.Archives[1].Room() {
		t.Errorf("%d bytes are counted", used)
	}
	must(t, w.carves.Delete(t.Context(), c.ID, "ada"))
	if used, _ := w.carves.Usage(); used != 0 {
		t.Errorf("%d bytes are counted", used)
	}
	if _, err := w.store.Carve(t.Context(), c.ID); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

// verify: the node is asked what it sent, and tells a wrong hash for the second
// archive.
func (w *world) verify(id string, one []byte) {
	w.t.Helper()
	w.wait(id, func(c *carve.Carve) bool { _, asked := w.live.Running(c.CheckID); return asked })
	tasks := w.take("n1")
	if len(tasks) != 1 || !strings.Contains(tasks[0].SQL, "FROM carves WHERE carve_guid IN ('"+guid(1)+"', '"+guid(2)+"')") {
		w.t.Fatalf("%+v", tasks)
	}
	w.answer("n1", tasks[0].ID,
		map[string]string{"carve_guid": guid(1), "sha256": strings.ToUpper(sum(one)), "size": "-1", "status": "SUCCESS"},
		map[string]string{"carve_guid": guid(2), "sha256": sum([]byte("x")), "status": "SUCCESS"})
	c := w.carve(id)
	if c.Archives[0].Verification != carve.Matched || c.Archives[1].Verification != carve.Mismatch || !c.Settled {
		w.t.Errorf("%+v", c)
	}
}

// TestOrder: blocks come in any order, and again; the last is answered again.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/etc/hosts")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/etc/hosts", guid(1), ""))
	data := packed(t, guid(1), map[string]string{"/etc/hosts": garbled(3000)})
	session, err := w.begin("n1", guid(1), "", len(data), 512)
	must(t, err)
	last := (len(data) - 1) / 512
	order := []int{last, 3, 3, 0, last, 2, 0}
	for i := range last {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	w.send(session, 512, data, order...)
	end := order[len(order)-1]
	if all, err := w.block(session, end, 512, data); err != nil || !all {
		t.Error("the last block, again:", all, err)
	}
	if _, err := w.block(session, 0, 512, data); !errs.Is(err, errs.NotFound) {
		t.Error("a block after the end:", err)
	}
	c = w.until(c.ID, carve.Done)
	if !bytes.Equal(w.read(c.Archives[0]), data) {
		t.Error("it is not what was sent")
	}
	if _, err := w.begin("n1", guid(1), "", len(data), 512); !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
		t.Error("it begins again:", err)
	}
}

// TestRestart: a server that was killed in the middle goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/etc/hosts")
	w.restart()
	w.answer("n1", w.take("n1")[0].ID, scheduled("/etc/hosts", guid(1), "r"))
	data := packed(t, guid(1), map[string]string{"/etc/hosts": garbled(10_000)})
	session, err := w.begin("n1", guid(1), "r", len(data), 1000)
	must(t, err)
	w.restart()
	w.send(session, 1000, data, 0, 1, 2, 7)
	w.restart()
	if got := w.wait(c.ID, func(c *carve.Carve) bool { return c.Archives[0].Received == 4 }); got.State != carve.Uploading {
		t.Errorf("%+v", got)
	}
	// A record that a crash tore is a block that is not there.
	path := filepath.Join(w.dir, "spool", c.Archives[0].ID)
	w.stop()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("torn"), 64+2*(1000+28)+500)
	must(t, errors.Join(err, f.Close()))
	w.start()
	w.wait(c.ID, func(c *carve.Carve) bool { return c.Archives[0].Received == 3 })
	order := []int{3, 4, 5, 6, 8, 9, 10, 2}
	for i := 11; i*1000 < len(data); i++ {
		order = append(order, i)
	}
	w.send(session, 1000, data, order...)
	c = w.until(c.ID, carve.Done)
	if !bytes.Equal(w.read(c.Archives[0]), data) || c.Archives[0].SHA256 != sum(data) {
		t.Error("it is not what was sent")
	}
	w.restart()
	if !bytes.Equal(w.read(c.Archives[0]), data) {
		t.Error("it is not what was sent")
	}
	if used, _ := w.carves.Usage(); used != c.Archives[0].Room() {
		t.Errorf("%d bytes are counted", used)
	}
}

// TestAgain: an agent that was killed begins the same archive again, packed the
// same or anew.
func TestAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/etc/hosts")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/etc/hosts", guid(1), "r"))
	old := bytes.Repeat([]byte("o"), 5000)
	first, err := w.begin("n1", guid(1), "r", len(old), 1000)
	must(t, err)
	w.send(first, 1000, old, 0, 1)
	data := []byte(garbled(5000)) // as long
	second, err := w.begin("n1", guid(1), "r", len(data), 1000)
	must(t, err)
	if _, err := w.block(first, 2, 1000, old); !errs.Is(err, errs.NotFound) {
		t.Error("the session before still works:", err)
	}
	w.send(second, 1000, data, 0, 1)
	longer := []byte(garbled(7000))
	third, err := w.begin("n1", guid(1), "r", len(longer), 1000)
	must(t, err)
	w.send(third, 1000, longer)
	c = w.until(c.ID, carve.Done)
	if !bytes.Equal(w.read(c.Archives[0]), longer) {
		t.Error("it is not what was sent last")
	}
	if used, _ := w.carves.Usage(); used != c.Archives[0].Room() {
		t.Errorf("%d bytes are counted, not %d", used, c.Archives[0].Room())
	}
}

// TestBind: which carve an archive is for.
func TestBind(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	if _, err := w.begin("n1", guid(9), "", 10, 10); !errs.Is(err, errs.NotFound) {
		t.Error("nobody asked:", err)
	}
	a := w.ask("n1", "/a")
	if _, err := w.begin("n1", guid(9), "", 10, 10); !errs.Is(err, errs.NotFound) {
		t.Error("the node cannot know yet:", err)
	}
	w.clock.add(time.Second)
	b := w.ask("n1", "/b1", "/b2")
	tasks := w.take("n1")
	if _, err := w.begin("n2", guid(1), "", 10, 10); !errs.Is(err, errs.NotFound) {
		t.Error("another node:", err)
	}
	// It begins before it answers, and with the second one: the guess is wrong.
	session, err := w.begin("n1", guid(2), "r2", 10, 10)
	must(t, err)
	if got := w.carve(a.ID); got.Archives[0].GUID != guid(2) || !got.Archives[0].Guessed {
		t.Errorf("%+v", got)
	}
	for _, task := range tasks {
		if task.ID == b.LiveID {
			w.answer("n1", task.ID, scheduled("/b1", guid(1), "r1"), scheduled("/b2", guid(2), "r2"))
		}
	}
	if got := w.carve(b.ID); got.Archives[1].GUID != guid(2) || got.Archives[1].Guessed || got.Archives[1].State != carve.Uploading || got.Archives[0].State != carve.Scheduled {
		t.Errorf("%+v", got)
	}
	if got := w.carve(a.ID); got.Archives[0].GUID != "" || got.Archives[0].State != carve.Asked || got.Archives[0].Path != "/a" {
		t.Errorf("%+v", got)
	}
	w.send(session, 10, []byte("0123456789"))
	got := w.wait(b.ID, func(c *carve.Carve) bool { return c.Archives[1].State == carve.Done })
	if got.Archives[1].Path != "/b2" || string(w.read(got.Archives[1])) != "0123456789" {
		t.Errorf("%+v", got)
	}
	// An old agent sends neither rows nor ids; some name the query.
	for _, task := range tasks {
		if task.ID == a.LiveID {
			w.answer("n1", task.ID)
		}
	}
	if _, err := w.begin("n1", guid(3), a.LiveID, 10, 10); err != nil {
		t.Error(err)
	}
	if got := w.carve(a.ID); got.Archives[0].GUID != guid(3) {
		t.Errorf("%+v", got)
	}
}

// TestAnswer_failed: what a node cannot carve fails at once.
func TestAnswer_failed(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	a, b := w.ask("n1", "/a", "/b"), w.ask("n2", "/c")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/a", guid(1), "r"))
	if got := w.carve(a.ID); got.State != carve.Scheduled || got.Archives[1].State != carve.Failed || got.Archives[1].Message == "" {
		t.Errorf("%+v", got)
	}
	w.take("n2")
	w.answer("n2", b.LiveID)
	if got := w.carve(b.ID); got.State != carve.Sent {
		t.Errorf("%+v", got)
	}
	w.clock.add(6 * time.Minute)
	if got := w.until(b.ID, carve.Failed); !strings.Contains(got.Message, "disable_carver") || !got.Settled {
		t.Errorf("%+v", got)
	}
}

// TestExpiry: what never came ends.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	never, begun := w.ask("n1", "/a"), w.ask("n2", "/b")
	w.answer("n2", w.take("n2")[0].ID, scheduled("/b", guid(1), "r"))
	session, err := w.begin("n2", guid(1), "r", 2000, 1000)
	must(t, err)
	w.send(session, 1000, make([]byte, 2000), 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go w.live.Run(ctx)
	w.clock.add(61 * time.Minute)
	w.until(never.ID, carve.Expired)
	w.clock.add(25 * time.Hour)
	w.until(begun.ID, carve.Failed)
	if _, err := w.block(session, 1, 1000, make([]byte, 2000)); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if used, _ := w.carves.Usage(); used != 0 {
		t.Errorf("%d bytes are counted", used)
	}
	if entries, _ := os.ReadDir(filepath.Join(w.dir, "spool")); len(entries) != 0 {
		t.Errorf("the spool holds %v", entries)
	}
}

// TestRetention: archives go after their time, and what nobody knows goes.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/a")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/a", guid(1), "r"))
	session, err := w.begin("n1", guid(1), "r", 5, 5)
	must(t, err)
	w.send(session, 5, []byte("hello"))
	w.until(c.ID, carve.Done)
	for _, dir := range []string{"spool", "blobs"} {
		must(t, os.WriteFile(filepath.Join(w.dir, dir, "orphan"), []byte("x"), 0o600))
		must(t, os.WriteFile(filepath.Join(w.dir, dir, "not-ours.txt"), []byte("x"), 0o600))
	}
	w.clock.add(31 * 24 * time.Hour)
	w.restart()
	got := w.until(c.ID, carve.Expired)
	if _, err := w.carves.Open(t.Context(), got.Archives[0], 0, -1); !errs.Is(err, errs.NotFound) || !strings.Contains(got.Message, "removed") {
		t.Errorf("%v %+v", err, got)
	}
	w.wait(c.ID, func(*carve.Carve) bool {
		_, spool := os.Stat(filepath.Join(w.dir, "spool", "orphan"))
		_, blobs := os.Stat(filepath.Join(w.dir, "blobs", "orphan"))
		return spool != nil && blobs != nil
	})
	if _, err := os.Stat(filepath.Join(w.dir, "spool", "not-ours.txt")); err != nil {
		t.Error(err)
	}
}

// TestCancel: nothing is taken any more.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	c := w.ask("n1", "/a")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/a", guid(1), "r"))
	session, err := w.begin("n1", guid(1), "r", 10, 5)
	must(t, err)
	w.send(session, 5, []byte("helloworld"), 0)
	got, err := w.carves.Cancel(t.Context(), c.ID, "ada")
	if err != nil || got.State != carve.Cancelled || got.Message != "cancelled by ada" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := w.block(session, 1, 5, []byte("helloworld")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := w.begin("n1", guid(1), "r", 10, 5); err == nil {
		t.Error("it begins again")
	}
	if used, _ := w.carves.Usage(); used != 0 {
		t.Errorf("%d bytes are counted", used)
	}
	asked := w.ask("n1", "/b")
	_, err = w.carves.Cancel(t.Context(), asked.ID, "ada")
	must(t, err)
	if tasks := w.take("n1"); len(tasks) != 0 {
		t.Errorf("%+v", tasks)
	}
}

// TestHostile: what a node says that does not add up, or is not its own.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.limits.Sessions, w.limits.SessionsPerNode = 6, 2
	w.start()
	w.ask("n1", "/a")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/a", guid(1), "r"))
	ok := osquery.CarveStart{Blocks: 3, BlockSize: 10, Size: 25, CarveID: guid(1), RequestID: "r"}
	for name, change := range map[string]func(*osquery.CarveStart){
		"traversal":       func(s *osquery.CarveStart) { s.CarveID = "../../etc/passwd" },
		"absolute":        func(s *osquery.CarveStart) { s.CarveID = "/etc/passwd" },
		"no id":           func(s *osquery.CarveStart) { s.CarveID = "" },
		"SQL":             func(s *osquery.CarveStart) { s.CarveID = "x' OR 1 --" },
		"request":         func(s *osquery.CarveStart) { s.RequestID = "../x" },
		"count":           func(s *osquery.CarveStart) { s.Blocks = 1 << 31 },
		"count, small":    func(s *osquery.CarveStart) { s.Blocks = 2 },
		"count, negative": func(s *osquery.CarveStart) { s.Blocks = -3 },
		"size":            func(s *osquery.CarveStart) { s.Size = 1 << 62 },
		"size, 0":         func(s *osquery.CarveStart) { s.Size, s.Blocks = 0, 0 },
		"block":           func(s *osquery.CarveStart) { s.BlockSize, s.Blocks = 1<<40, 1 },
		"tiny blocks":     func(s *osquery.CarveStart) { s.BlockSize, s.Size, s.Blocks = 1, 2<<20, 2<<20 },
		"over the limit":  func(s *osquery.CarveStart) { s.BlockSize, s.Size, s.Blocks = 1<<20, 65<<20, 65 },
	} {
		s := ok
		change(&s)
		if _, err := w.carves.Begin(t.Context(), carve.Sender{Node: w.nodes.named("n1")}, s); err == nil || errs.Is(err, errs.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	session, err := w.carves.Begin(t.Context(), carve.Sender{Node: w.nodes.named("n1"), Certificate: "cert-1"}, ok)
	must(t, err)
	data := []byte("0123456789012345678901234")
	for name, tt := range map[string]struct {
		from    carve.Sender
		session string
		block   int64
		data    []byte
		want    errs.Kind
	}{
		"another node":    {carve.Sender{Node: w.nodes.named("n2"), Certificate: "cert-1"}, session, 0, data[:10], errs.Forbidden},
		"another cert":    {carve.Sender{Certificate: "cert-2"}, session, 0, data[:10], errs.Forbidden},
		"no cert":         {carve.Sender{}, session, 0, data[:10], errs.Forbidden},
		"no session":      {carve.Sender{Certificate: "cert-1"}, "", 0, data[:10], errs.NotFound},
		"guessed session": {carve.Sender{Certificate: "cert-1"}, strings.Repeat("A", 43), 0, data[:10], errs.NotFound},
		"after the end":   {carve.Sender{Certificate: "cert-1"}, session, 3, data[:10], errs.Invalid},
		"far after it":    {carve.Sender{Certificate: "cert-1"}, session, 1 << 60, data[:10], errs.Invalid},
		"before it":       {carve.Sender{Certificate: "cert-1"}, session, -1, data[:10], errs.Invalid},
		"short":           {carve.Sender{Certificate: "cert-1"}, session, 0, data[:9], errs.Invalid},
		"long":            {carve.Sender{Certificate: "cert-1"}, session, 0, data[:11], errs.Invalid},
		"long last":       {carve.Sender{Certificate: "cert-1"}, session, 2, data[:10], errs.Invalid},
		"empty":           {carve.Sender{Certificate: "cert-1"}, session, 0, nil, errs.Invalid},
	} {
		if _, err := w.carves.Block(t.Context(), tt.from, tt.session, tt.block, bytes.Clone(tt.data)); !errs.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(w.dir, "spool")); len(entries) != 0 {
		t.Errorf("the spool holds %v", entries)
	}
	for i := range 3 {
		_, err := w.carves.Block(t.Context(), carve.Sender{Certificate: "cert-1"}, session, int64(i), bytes.Clone(data[i*10:min(25, i*10+10)]))
		must(t, err)
	}
}

// TestStarts: thousands of starts at once neither get past the quotas nor leave
// anything.
func TestStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.limits.Unrequested, w.limits.PerNode, w.limits.Total = true, 10_000, 40_000
	w.limits.Sessions, w.limits.SessionsPerNode = 1000, 100
	w.start()
	var all sync.WaitGroup
	var mu sync.Mutex
	admitted := 0
	for i := range 2000 {
		all.Go(func() {
			_, err := w.begin([]string{"a", "b", "c", "d", "e", "f"}[i%6], guid(i), "", 3000, 1000)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				admitted++
			} else if errs.Is(err, errs.Internal) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used, _ := w.carves.Usage(); used > 40_000 || admitted != 12 { // 3,148 bytes each: 12 in all, at most 3 a node
		t.Errorf("%d were admitted, and take %d bytes", admitted, used)
	}
	// What one start put there and another made useless is gone soon.
	for limit := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		entries, _ := os.ReadDir(filepath.Join(w.dir, "spool"))
		if len(entries) == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the spool holds %d files", len(entries))
		}
	}
}
