package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
)

// TestAgain draws until it is told to stop, or cannot go on.
func TestAgain(t *testing.T) {
	lost, gone := errors.New("cannot reach the server"), &adminapi.Problem{Status: 404}
	for name, c := range map[string]struct {
		form      string
		draws     []error // the context ends within the one after
		out, told string
		err       error
		took      time.Duration
	}{
		"tables":                {"table", []error{nil, nil}, "1\n\n2\n", "", nil, 10 * time.Second},
		"documents":             {"json", []error{nil, nil}, "1\n2\n", "", nil, 10 * time.Second},
		"yaml":                  {"yaml", []error{nil, nil}, "1\n---\n2\n", "", nil, 10 * time.Second},
		"wrong at once":         {"table", []error{lost}, "", "", lost, 0},
		"lost and found":        {"table", []error{nil, lost, nil}, "1\n\n3\n", "muster: cannot reach the server\n", nil, 15 * time.Second},
		"gone while one looked": {"table", []error{nil, gone}, "1\n", "", gone, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var out, told bytes.Buffer
				begun, n := time.Now(), 0
				err := again(ctx, 5*time.Second, &paper{w: &out, errOut: &told, form: c.form}, func(w io.Writer) error {
					if n++; n > len(c.draws) {
						stop()
						return context.Canceled
					}
					_, _ = io.WriteString(w, string(rune('0'+n))+"\n")
					return c.draws[n-1]
				})
				if !errors.Is(err, c.err) || out.String() != c.out || told.String() != c.told || time.Since(begun) != c.took {
					t.Errorf("%v after %s: %q %q", err, time.Since(begun), &out, &told)
				}
			})
		})
	}
}

func TestFrame(t *testing.T) {
	if got, want := frame("one\ntwo is long\nthree\n", 5, 5), "one\x1b[K\ntwo …\x1b[K\nthree\x1b[K\n"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := frame("1\n2\n3\n4\n5\n", 80, 4), "1\x1b[K\n2\x1b[K\n… 3 more lines\x1b[K\n"; got != want {
		t.Errorf("%q", got)
	}
}

// stopAfter ends a context once it has seen a text so often.
type stopAfter struct {
	seen strings.Builder
	text string
	n    int
	stop func()
}

func (s *stopAfter) Write(p []byte) (int, error) {
	n, err := s.seen.Write(p)
	if strings.Count(s.seen.String(), s.text) >= s.n {
		s.stop()
	}
	return n, err
}

// TestList tries what all lists can, on that of people.
func TestList(t *testing.T) {
	serveMuster(t)
	for _, c := range []struct {
		args string
		code int
		want string // standard output if all is well, else in standard error
	}{
		{"-o name", exitDone, "ada\n"},
		{"-o csv --columns name", exitDone, "NAME\nada\n"},
		{"-o csv --columns NAME,name --no-headers", exitDone, "ada,ada\n"},
		{"--columns name", exitDone, "NAME\nada\n"},
		{"--columns name --no-headers", exitDone, "ada\n"},
		{"--columns name,nonsense", exitUsage, `no column is called "nonsense"; there are name, `},
		{"--columns name -o json", exitUsage, "-o table and csv"},
		{"--no-headers -o name", exitUsage, "-o table and csv"},
	} {
		out, errOut, code := muster(t, append([]string{"user", "list"}, strings.Fields(c.args)...)...)
		if code != c.code || code == exitDone && out != c.want || code != exitDone && !strings.Contains(errOut, c.want) {
			t.Errorf("%s: exit code %d: %q %q", c.args, code, out, errOut)
		}
	}
	if _, errOut, code := muster(t, "node", "list", "--watch=10ms"); code != exitUsage || !strings.Contains(errOut, "too often") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := stopAfter{text: "ID,HOSTNAME", n: 2, stop: stop}
	var errOut bytes.Buffer
	if code := run(ctx, []string{"node", "list", "-o", "csv", "--columns", "id,hostname", "--watch=1s"}, &out, &errOut); code != exitDone || out.seen.String() != "ID,HOSTNAME\n\nID,HOSTNAME\n" {
		t.Errorf("exit code %d: %q %s", code, out.seen.String(), &errOut)
	}
}
