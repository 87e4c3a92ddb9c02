package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

// keys makes a pair of keys.
func keys(tb testing.TB, name string) (note.Signer, note.Verifier) {
	tb.Helper()
	k := keyPair(tb, name)
	return k.Signer, k.Verifier
}

func keyPair(tb testing.TB, name string) audit.Keys {
	tb.Helper()
	private, public, err := audit.NewKeys(name)
	if err != nil {
		tb.Fatal(err)
	}
	k, err := audit.ReadKeys(private+"\n", public+"\n")
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	signer, verifier := keys(t, "muster-audit-1")
	want := audit.Checkpoint{Origin: "muster-audit-1", Size: 7, Root: tlog.RecordHash([]byte("x")), Time: at}
	signed, err := want.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := audit.OpenCheckpoint(signed, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, other := keys(t, "muster-audit-1")
	_, stranger := keys(t, "muster-audit-2")
	for name, c := range map[string]struct {
		signed string
		by     note.Verifier
	}{
		"edited":      {strings.Replace(string(signed), "\n7\n", "\n6\n", 1), verifier},
		"another key": {string(signed), other},
		"stranger":    {string(signed), stranger},
		"no note":     {"x", verifier},
		"empty":       {"", verifier},
	} {
		if _, err := audit.OpenCheckpoint([]byte(c.signed), c.by); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"lines": "o\n7\n", "origin": "\n7\n" + want.Root.String() + "\n", "size": "o\nx\n" + want.Root.String() + "\n", "negative": "o\n-1\n" + want.Root.String() + "\n",
		"root": "o\n7\nx\n", "time": "o\n7\n" + want.Root.String() + "\ntime noon\n",
	} {
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := audit.OpenCheckpoint(signed, verifier); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	private, public, err := audit.NewKeys("a")
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := audit.NewKeys("a")
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{"no private": {"", public}, "no public": {private, ""}, "another": {private, other}} {
		if _, err := audit.ReadKeys(pair[0], pair[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFindCheckpoints: in what people keep of them.
func TestFindCheckpoints(t *testing.T) {
	t.Parallel()
	signer, verifier := keys(t, "muster-audit-1")
	signed, err := audit.Checkpoint{Origin: "muster-audit-1", Size: 7, Time: at}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	line := string(audit.Line(signed))
	for name, c := range map[string]struct {
		file string
		want int
	}{
		"note":       {string(signed), 1},
		"note, more": {"\n" + string(signed) + "\n\n", 1},
		"lines":      {line + "\n" + line + "\n", 2},
		"no end":     {line, 1},
		"syslog":     {"Nov 21 09:00:00 host muster[1]: " + line + "\nNov 21 09:00:01 host else[2]: hello\n", 1},
		"broken":     {line[:40] + "\n" + line + "\n", 1},
		"none":       {"hello\n", 0},
		"empty":      {"", 0},
	} {
		found := audit.FindCheckpoints([]byte(c.file))
		if len(found) != c.want {
			t.Errorf("%s: %d found", name, len(found))
		}
		for _, f := range found {
			if got, err := audit.OpenCheckpoint(f, verifier); err != nil || got.Size != 7 {
				t.Errorf("%s: %+v %v", name, got, err)
			}
		}
	}
}

// TestGolden reads a log as an earlier version sealed and signed it, so that the
// forms never change.
func TestGolden(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "checkpoint.txt")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	public, signed, _ := strings.Cut(string(b), "\n")
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	c, err := audit.OpenCheckpoint([]byte(signed), verifier)
	if err != nil {
		t.Fatal(err)
	}
	check := audit.NewChecker(c)
	for _, e := range golden() {
		check.Add(e, nil)
	}
	if r := check.End(0); !r.OK() || r.Signed != 3 {
		t.Errorf("%+v", r)
	}
}

// golden is a log with entries of both forms.
func golden() []audit.Entry {
	entries := []audit.Entry{
		{Version: 1, Seq: 1, Time: at, Actor: "ada", Action: "live.start", Outcome: audit.Done, Target: "q1", Detail: `{"sql":"SELECT 1"}`},
		{Version: 2, Seq: 2, Time: at, Actor: "bob", Session: "5e55", Address: "192.0.2.7", Action: "change.apply", Outcome: audit.Done, Target: "c/1", Object: "r/2", ContentHash: "c0", Reason: "é\u2028<", Approvals: []string{"ada"}, Detail: `{}`},
		{Version: 2, Seq: 3, Time: at, Actor: "eve", Action: "live.run", Outcome: audit.Refused},
	}
	for i := range entries {
		if i > 0 {
			entries[i].Prev = entries[i-1].Hash
		}
		entries[i].Seal()
	}
	return entries
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer, verifier := keys(f, "muster-audit-1")
	signed, err := audit.Checkpoint{Origin: "muster-audit-1", Size: 7, Time: at}.Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(audit.Line(signed))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, found := range audit.FindCheckpoints(b) {
			c, err := audit.OpenCheckpoint(found, verifier)
			if err == nil && (c.Size != 7 || c.Origin != "muster-audit-1") {
				t.Errorf("%+v", c)
			}
		}
	})
}
