//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// body is what object i of revision n says: each revision changes one object.
func body(n int64, i, objects int) string {
	last := n - (n-int64(i)%int64(objects)+int64(objects))%int64(objects) // when it was changed last
	return fmt.Sprintf(`{"kind":"Pack","name":"p%d","spec":{"description":"%s","text":"<&>\u0000 日本 🦀","of":%d}}`, i, strings.Repeat("x", 500), max(last, 0))
}

// commit is revision n, upon n-1, of some objects, all of which it brings.
func commit(n int64, objects int) change.Commit {
	c := change.Commit{
		Revision: change.Revision{
			Number: n, Parent: n - 1, Hash: fmt.Sprintf("hash-%d", n), Author: "ada", Message: "why <&> 日本", CreatedAt: start.Add(time.Duration(n) * time.Second),
		},
		Objects: map[string][]byte{},
	}
	for i := range objects {
		b := []byte(body(n, i, objects))
		hash := resource.Hash(b)
		c.Objects[hash] = b
		c.Revision.Objects = append(c.Revision.Objects, change.Ref{Key: resource.Key{Kind: "Pack", Name: fmt.Sprintf("p%d", i)}, Hash: hash})
	}
	return c
}

func testRevision(t *testing.T, s *store.Store) {
	_, err := s.Head(t.Context())
	wantKind(t, err, errs.NotFound)
	_, err = s.Revision(t.Context(), 1)
	wantKind(t, err, errs.NotFound)

	first := commit(1, 4)
	first.Objects["0000"] = []byte("which no revision has")
	ok(t, s.Commit(t.Context(), first))
	proposed := proposal(t, s)
	second := commit(2, 4)
	second.Revision.ChangeID, second.Revision.Restores = proposed.ID, 1
	proposed.State, proposed.Revision = change.Applied, 2
	second.Change, second.Was = &proposed, change.Pending
	for hash := range first.Objects { // it needs what is new only
		delete(second.Objects, hash)
	}
	if len(second.Objects) != 1 {
		t.Fatalf("%d objects are new", len(second.Objects))
	}
	ok(t, s.Commit(t.Context(), second))

	for _, c := range []change.Commit{first, second} {
		got := must(s.Revision(t.Context(), c.Revision.Number))(t)
		if diff := cmp.Diff(c.Revision, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		var hashes []string
		for i, r := range got.Objects {
			hashes = append(hashes, r.Hash)
			bodies := must(s.Objects(t.Context(), []string{r.Hash, "none", "\x00\xff", r.Hash}))(t)
			if want := body(got.Number, i, 4); len(bodies) != 1 || string(bodies[r.Hash]) != want {
				t.Errorf("object %d of revision %d is %s, want %s", i, got.Number, bodies[r.Hash], want)
			}
		}
		if bodies := must(s.Objects(t.Context(), hashes))(t); len(bodies) != 4 {
			t.Errorf("%d objects", len(bodies))
		}
	}
	newest := second.Revision
	newest.Objects = nil
	if diff := cmp.Diff(newest, must(s.Head(t.Context()))(t)); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(proposed, must(s.Change(t.Context(), proposed.ID))(t)); diff != "" {
		t.Errorf("its change (-want +got):\n%s", diff)
	}
	if got := must(s.Objects(t.Context(), []string{"0000"}))(t); len(got) != 0 {
		t.Errorf("an object that no revision has: %v", got)
	}
}

func testRevisionList(t *testing.T, s *store.Store) {
	for n := range int64(7) {
		ok(t, s.Commit(t.Context(), commit(n+1, 1)))
	}
	var numbers []int64
	for before := int64(0); ; {
		page := must(s.ListRevisions(t.Context(), before, 3))(t)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if r.Objects != nil || r.Author != "ada" {
				t.Errorf("%+v", r)
			}
			before = r.Number
			numbers = append(numbers, before)
		}
	}
	if diff := cmp.Diff([]int64{7, 6, 5, 4, 3, 2, 1}, numbers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// testRevisionRefused: what is not kept leaves nothing behind.
func testRevisionRefused(t *testing.T, s *store.Store) {
	ok(t, s.Commit(t.Context(), commit(1, 2)))
	decided := proposal(t, s)
	decided.State = change.Withdrawn
	ok(t, s.SaveChange(t.Context(), decided, change.Pending))
	was := version(t, s)
	edit := func(f func(c *change.Commit)) change.Commit {
		c := commit(2, 2)
		f(&c)
		return c
	}
	hash := commit(2, 2).Revision.Objects[0].Hash // revision 2 changes object 0
	for name, c := range map[string]struct {
		commit change.Commit
		kind   errs.Kind
	}{
		"the same again":     {commit(1, 2), errs.Conflict},
		"upon none":          {edit(func(c *change.Commit) { c.Revision.Parent = 0 }), errs.Conflict},
		"upon what comes":    {edit(func(c *change.Commit) { c.Revision.Parent = 2; c.Revision.Number = 3 }), errs.Conflict},
		"not after":          {edit(func(c *change.Commit) { c.Revision.Number = 1 }), errs.Internal},
		"without content":    {edit(func(c *change.Commit) { delete(c.Objects, hash) }), errs.Internal},
		"other content":      {edit(func(c *change.Commit) { c.Objects[hash] = []byte(`{}`) }), errs.Internal},
		"a freeze meanwhile": {edit(func(c *change.Commit) { c.Version = was + 1 }), errs.Conflict},
		"a change too late":  {edit(func(c *change.Commit) { c.Change, c.Was = &decided, change.Pending }), errs.Conflict},
		"no such change":     {edit(func(c *change.Commit) { c.Change, c.Was = &change.Change{ID: "9"}, change.Pending }), errs.NotFound},
		"ends what is not":   {edit(func(c *change.Commit) { c.Closes = ended(1) }), errs.NotFound},
		"content that is no": {edit(func(c *change.Commit) { notText(c) }), errs.Internal},
	} {
		if err := s.Commit(t.Context(), c.commit); err == nil || errs.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if h := must(s.Head(t.Context()))(t); h.Number != 1 || version(t, s) != was {
			t.Errorf("%s: head %d at version %d", name, h.Number, version(t, s))
		}
		if got := must(s.Objects(t.Context(), []string{hash}))(t); len(got) != 0 {
			t.Errorf("%s: its object was kept", name)
		}
	}
	ok(t, s.Commit(t.Context(), commit(2, 2)))
}

// notText makes an object of a commit bytes that both engines do not keep as
// they are.
func notText(c *change.Commit) {
	b := []byte("\xff\x00")
	hash := resource.Hash(b)
	c.Objects[hash] = b
	c.Revision.Objects[0].Hash = hash
}

// testRevisionTogether: of many who commit upon one head one does, and the
// revisions are one line without gaps.
func testRevisionTogether(t *testing.T, s *store.Store) {
	const servers, rounds = 4, 15
	won := make([]int, servers)
	for _, err := range together(servers, func(i int) error {
		for range rounds {
			h, err := s.Head(t.Context())
			if err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
			c := commit(h.Number+1, 5)
			c.Revision.Author = fmt.Sprint(i)
			switch err := s.Commit(t.Context(), c); {
			case err == nil:
				won[i]++
			case !errs.Is(err, errs.Conflict):
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	sum := 0
	for _, n := range won {
		sum += n
	}
	list := must(s.ListRevisions(t.Context(), 0, 1000))(t)
	if len(list) != sum || sum < rounds || version(t, s) != int64(sum) {
		t.Errorf("%d revisions of %d commits, version %d", len(list), sum, version(t, s))
	}
	for i, r := range list {
		if want := int64(sum - i); r.Number != want || r.Parent != want-1 {
			t.Errorf("revision %d upon %d, want %d", r.Number, r.Parent, want)
		}
	}
}

// testRevisionMany: an object is kept once, however many revisions have it.
func testRevisionMany(t *testing.T, s *store.Store) {
	const count, objects = 1000, 300
	c := commit(1, objects)
	ok(t, s.Commit(t.Context(), c))
	refs := c.Revision.Objects
	for n := int64(2); n <= count; n++ {
		c, i := commit(n, 0), int(n%objects)
		b := []byte(body(n, i, objects))
		refs[i].Hash = resource.Hash(b)
		c.Revision.Objects, c.Objects[refs[i].Hash] = refs, b
		ok(t, s.Commit(t.Context(), c))
	}
	if got := store.QueryText(t, s, `SELECT CAST(count(*) AS TEXT) FROM object`); got != strconv.Itoa(objects+count-1) {
		t.Errorf("%s objects are kept; each revision changed one of %d", got, objects)
	}
	kept := must(strconv.Atoi(store.QueryText(t, s, `SELECT CAST(sum(length(objects)) AS TEXT) FROM revision`)))(t)
	if perRevision := kept / count; perRevision > objects*100 {
		t.Errorf("a revision takes %d letters", perRevision)
	}
	r := must(s.Revision(t.Context(), count/2))(t)
	if diff := cmp.Diff(commit(count/2, objects).Revision, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// commitEnv makes TestKill_commit the server that is killed.
const commitEnv = "MUSTER_TEST_STORE_COMMIT"

// TestKill_commit: a revision, its objects, its change and its rollout are kept
// all together or not at all, and those that were told to be kept are.
func TestKill_commit(t *testing.T) {
	if path := os.Getenv(commitEnv); path != "" {
		fmt.Fprintln(os.Stderr, commitUntilKilled(path))
		return
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var told int64
	for range 8 {
		cmd := exec.CommandContext(t.Context(), must(os.Executable())(t), "-test.run=^TestKill_commit$")
		cmd.Env = append(os.Environ(), commitEnv+"="+path)
		out := must(cmd.StdoutPipe())(t)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 2*6 + 1 { // in the middle of the seventh
			if lines.Scan() {
				told = max(told, revisionTold(t, lines.Text()))
			}
		}
		ok(t, cmd.Process.Kill())
		for lines.Scan() {
			told = max(told, revisionTold(t, lines.Text()))
		}
		_ = cmd.Wait() // it was killed
		s := storetest.Open(t, path)
		checkWhole(t, s, told)
		if got := store.QueryText(t, s, `PRAGMA integrity_check`); got != "ok" {
			t.Error(got)
		}
		ok(t, s.Ping(t.Context()))
	}
}

// revisionTold returns the revision that a line says is kept; 0 if it says that
// it is about to be.
func revisionTold(t *testing.T, line string) (n int64) {
	t.Helper()
	if word, number, _ := strings.Cut(line, " "); word == "kept" {
		n = must(strconv.ParseInt(number, 10, 64))(t)
	}
	return n
}

// checkWhole looks for parts of revisions.
func checkWhole(t *testing.T, s *store.Store, told int64) {
	t.Helper()
	v := must(s.Serving(t.Context()))(t)
	n := v.Head.Number
	if n < told || told == 0 || v.Version != n {
		t.Errorf("revision %d at version %d, but %d was told to be kept", n, v.Version, told)
	}
	if v.Rollout == nil || v.Rollout.Revision != n || must(s.Rollouts(t.Context(), 0, 1))(t)[0].Revision != n {
		t.Errorf("revision %d with rollout %+v", n, v.Rollout)
	}
	for number := int64(1); number <= n; number++ {
		r := must(s.Revision(t.Context(), number))(t)
		for _, o := range r.Objects {
			if len(must(s.Objects(t.Context(), []string{o.Hash}))(t)) != 1 {
				t.Errorf("revision %d lost %s", number, o.Key)
			}
		}
		if c := must(s.Change(t.Context(), r.ChangeID))(t); c.State != change.Applied || c.Revision != number {
			t.Errorf("revision %d is of change %+v", number, c)
		}
	}
	for _, c := range must(s.ListChanges(t.Context(), change.Applied, "", 1000))(t) {
		if c.Revision > n {
			t.Errorf("change %s became revision %d, which there is not", c.ID, c.Revision)
		}
	}
}

// commitUntilKilled commits revisions, each with its change and its rollout,
// which ends the one before, and tells when one comes and when it is kept.
func commitUntilKilled(path string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{URL: path, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return err
	}
	for {
		proposed, err := s.CreateChange(ctx, change.Change{State: change.Pending})
		if err != nil {
			return err
		}
		h, err := s.Head(ctx)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		c := commit(h.Number+1, 4)
		proposed.State, proposed.Revision = change.Applied, c.Revision.Number
		c.Revision.ChangeID, c.Change, c.Was, c.Opens = proposed.ID, &proposed, change.Pending, running(c.Revision.Number)
		if h.Number > 0 {
			c.Closes = ended(h.Number)
		}
		fmt.Fprintln(os.Stdout, "next", c.Revision.Number)
		if err := s.Commit(ctx, c); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, "kept", c.Revision.Number)
	}
}
