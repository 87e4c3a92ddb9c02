package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	var s store
	log := audit.NewLog(&s, func() time.Time { return at })
	ctx := audit.WithCaller(t.Context(), audit.Caller{Session: "5e55", Address: "192.0.2.7"})
	got, err := log.Append(ctx, audit.Entry{
		Actor: "ada", Action: "change.apply", Target: "change/7", Object: "revision/17", ContentHash: "c0ffee", Reason: "outage", Approvals: []string{"bob", "eve\xff"},
		Session: "forged", Address: "forged", Time: at.Add(time.Hour),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Hash = ""
	want := audit.Entry{
		Version: 2, Seq: 1, Time: at.Truncate(time.Microsecond), Actor: "ada", Session: "5e55", Address: "192.0.2.7", Action: "change.apply", Outcome: audit.Done,
		Target: "change/7", Object: "revision/17", ContentHash: "c0ffee", Reason: "outage", Approvals: []string{"bob", "eve\uFFFD"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := log.Append(ctx, audit.Entry{Approvals: make([]string, 17)}, nil); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

// TestBounds: what people and agents send makes no entry large.
func TestBounds(t *testing.T) {
	t.Parallel()
	var s store
	log := audit.NewLog(&s, func() time.Time { return at })
	long := strings.Repeat("é", 1<<20)
	e, err := log.Append(audit.WithCaller(t.Context(), audit.Caller{Session: long, Address: long}), audit.Entry{
		Actor: long, Action: long, Target: "x" + long, Object: long, ContentHash: long, Reason: long, Approvals: []string{long},
	}, map[string]string{"sql": long})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Leaf()); n > 12<<10 {
		t.Errorf("an entry of %d bytes", n)
	}
	for _, text := range []string{e.Actor, e.Session, e.Address, e.Action, e.Target, e.Object, e.Reason, e.Approvals[0]} {
		if !utf8.ValidString(text) || len(text) > 1<<10 || !strings.HasSuffix(text, "é…") {
			t.Errorf("%d bytes, ending %q", len(text), text[len(text)-10:])
		}
	}
	want := fmt.Sprintf(`{"omitted_bytes":%d,"sha256":"`, 2<<20+len(`{"sql":""}`))
	if !strings.HasPrefix(e.Detail, want) || len(e.Detail) != len(want)+66 {
		t.Errorf("detail %s; want %s…", e.Detail, want)
	}
	e, err = log.Append(t.Context(), audit.Entry{}, "x")
	if err != nil || e.Detail != `"x"` || len(e.ContentHash) != 64 {
		t.Errorf("%+v %v", e, err)
	}
}

// refusal refuses and returns the entries so far.
func refuse(t *testing.T, log *audit.Log, session, actor, target string) {
	t.Helper()
	ctx := audit.WithCaller(t.Context(), audit.Caller{Session: session, Address: "192.0.2.7"})
	if err := log.Refused(ctx, actor, "session.open", target, "name or password is wrong", nil); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	var s store
	now := at
	log := audit.NewLog(&s, func() time.Time { return now })
	flush := func() {
		t.Helper()
		if err := log.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		refuse(t, log, "", "eve", "x")
	}
	refuse(t, log, "", "eve", "y")
	if len(s.entries) != 2 {
		t.Fatalf("%d entries", len(s.entries))
	}
	if e := s.entries[0]; e.Outcome != audit.Refused || e.Reason != "name or password is wrong" || e.Address != "192.0.2.7" {
		t.Errorf("%+v", e)
	}
	flush() // too early
	now = now.Add(time.Minute)
	flush()
	flush() // and only once
	if len(s.entries) != 3 || s.entries[2].Detail != `{"repeated":999,"since":"2026-11-21T09:00:00Z"}` || s.entries[2].Target != "x" || !s.entries[2].Time.Equal(now.Truncate(time.Microsecond)) {
		t.Errorf("%d entries: %+v", len(s.entries), s.entries[len(s.entries)-1])
	}
	refuse(t, log, "", "eve", "x") // a new minute
	if len(s.entries) != 4 {
		t.Errorf("%d entries", len(s.entries))
	}
	if n := broken(s.entries); n != 0 {
		t.Errorf("entry %d does not follow", n)
	}
}

// TestRefused_flood: no number of different refusals fills the disk, and none
// of strangers hides one of a session.
func TestRefused_flood(t *testing.T) {
	t.Parallel()
	var s store
	now := at
	log := audit.NewLog(&s, func() time.Time { return now })
	for i := range 10_000 {
		refuse(t, log, "", fmt.Sprint("eve", i), "x")
	}
	refuse(t, log, "5e55", "ada", "x")
	if len(s.entries) != 61 || s.entries[60].Actor != "ada" {
		t.Errorf("%d entries", len(s.entries))
	}
	for i := range 10_000 {
		refuse(t, log, fmt.Sprint("s", i), "ada", "x")
	}
	if n := len(s.entries); n > 61+256 {
		t.Errorf("%d entries for many sessions", n)
	}
	before := len(s.entries)
	if err := log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted := s.entries[before:]
	i := slices.IndexFunc(counted, func(e audit.Entry) bool { return e.Action == "audit.refusals" })
	if len(counted) > 2 || i < 0 {
		t.Fatalf("%+v", counted)
	}
	// Of 10,000 strangers 60 are kept; 254 of as many sessions are told apart.
	if !strings.HasPrefix(counted[i].Detail, `{"refusals":19686,`) {
		t.Errorf("%+v", counted)
	}
}

// TestRefused_unwritten: counts wait until the log can be written again.
func TestRefused_unwritten(t *testing.T) {
	t.Parallel()
	var s store
	log := audit.NewLog(&s, func() time.Time { return at })
	refuse(t, log, "", "eve", "x")
	refuse(t, log, "", "eve", "x")
	s.err = errors.New("disk full")
	for range 3 {
		if err := log.Close(t.Context()); !errors.Is(err, s.err) {
			t.Error(err)
		}
	}
	if err := log.Refused(t.Context(), "bob", "a.b", "c", "no", nil); !errors.Is(err, s.err) {
		t.Error(err)
	}
	s.err = nil
	if err := log.Close(t.Context()); err != nil || len(s.entries) != 2 || !strings.Contains(s.entries[1].Detail, `"repeated":1`) {
		t.Errorf("%v %+v", err, s.entries)
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	if c := audit.CallerOf(context.Background()); c != (audit.Caller{}) {
		t.Error(c)
	}
}
