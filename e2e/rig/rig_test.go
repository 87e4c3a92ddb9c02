package rig

import (
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/agenttest"
)

// TestAccount counts rows of a node that was promised 1 to 5 and sent 1 to 7.
func TestAccount(t *testing.T) {
	for _, c := range []struct {
		name   string
		stored []int64
		want   Account
	}{
		{"all there", []int64{5, 4, 3, 2, 1}, Account{Sent: 7, Acked: 5, Stored: 5}},
		{"one more, not acknowledged", []int64{1, 2, 3, 4, 5, 7}, Account{Sent: 7, Acked: 5, Stored: 6}},
		{"none", nil, Account{Sent: 7, Acked: 5, Lost: 5}},
		{"two lost", []int64{1, 3, 5}, Account{Sent: 7, Acked: 5, Stored: 3, Lost: 2}},
		{"twice, and not acknowledged twice", []int64{1, 2, 2, 3, 4, 5, 6, 6, 6}, Account{Sent: 7, Acked: 5, Stored: 9, Twice: 3}},
		{"never sent", []int64{0, 1, 2, 3, 4, 5, 8, 9}, Account{Sent: 7, Acked: 5, Stored: 8, Unknown: 3}},
	} {
		var got Account
		l := agenttest.Ledger{HostIdentifier: "h", Made: 9, Sent: 7, Acked: 5}
		got.add(l, slices.Clone(c.stored))
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if broken := got.Lost+got.Twice+got.Unknown > 0; broken != (l.Check(c.stored) != nil) {
			t.Errorf("%s: %+v, but the ledger says %v", c.name, got, l.Check(c.stored))
		}
	}
}

// TestDecodeNumbered reads what a search prints.
func TestDecodeNumbered(t *testing.T) {
	got, err := decodeNumbered(strings.NewReader(`{"host_identifier":"a","columns":{"n":"2"}}
{"host_identifier":"b","columns":{"n":"7","node":"b"}}
{"host_identifier":"a","columns":{"n":"1"}}
`))
	if err != nil || len(got) != 2 || !slices.Equal(got["a"], []int64{2, 1}) || !slices.Equal(got["b"], []int64{7}) {
		t.Errorf("%v %v", got, err)
	}
	for _, broken := range []string{`{"columns":{"n":"x"}}`, `{"columns":{}}`, `{"columns"`} {
		if got, err := decodeNumbered(strings.NewReader(broken)); err == nil {
			t.Errorf("%s was read as %v", broken, got)
		}
	}
}

// TestAnnounced finds the addresses however the lines come in pieces, and
// passes everything on.
func TestAnnounced(t *testing.T) {
	const text = "a line\n" + `{"msg":"other","agents":"wrong"}` + "\n" + `{"msg":"muster serves","agents":"127.0.0.1:1","people":"http://x"}` + "\n{}\n"
	for size := 1; size <= len(text); size++ {
		var log Log
		a := &announced{log: &log, found: make(chan addresses, 1)}
		for piece := range slices.Chunk([]byte(text), size) {
			if n, err := a.Write(piece); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
		}
		if at := <-a.found; at.Agents != "127.0.0.1:1" || at.People != "http://x" {
			t.Fatalf("in pieces of %d: %+v", size, at)
		}
		if log.String() != text {
			t.Fatalf("in pieces of %d the log is %q", size, log.String())
		}
	}
}

// TestLog keeps the end of what is too long.
func TestLog(t *testing.T) {
	var log Log
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 40 {
		if _, err := log.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	if n := len(log.String()); n < logKept || n > 2*logKept || log.Tail(7) != "the end" || log.Tail(1<<30) != log.String() {
		t.Errorf("%d bytes, the end is %q", n, log.Tail(7))
	}
}
