package search

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/event"
)

// crashDir in the environment makes the test binary the child of TestCrash.
const crashDir = "MUSTER_TEST_SEARCH_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := crashChild(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// crashMessage is the stream: the same message for a sequence every time.
func crashMessage(seq uint64) []event.Batch {
	b := event.Batch{NodeID: fmt.Sprint("n", seq%3), Received: day0.Add(time.Duration(seq%5) * 12 * time.Hour)}
	for i := range seq % 4 {
		b.Events = append(b.Events, event.Event{
			Time: day0.Add(time.Duration(seq) * time.Second), Query: fmt.Sprint("q", (seq+i)%3), Action: event.Added,
			Columns: json.RawMessage(fmt.Sprintf(`{"i":"%d","seq":"%d"}`, i, seq)),
		})
	}
	return []event.Batch{b}
}

const crashMessages = 4000

// crashChild adds, flushes and merges as fast as it can, and says so.
func crashChild(dir string, out io.Writer) error {
	e, err := Open(Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return day0.Add(240 * time.Hour) }})
	if err != nil {
		return err
	}
	for seq := e.Position() + 1; seq <= crashMessages; seq++ {
		if err := e.Add(seq, crashMessage(seq)); err != nil {
			return err
		}
		if rand.IntN(20) == 0 {
			fmt.Fprintln(out, "flush")
			if err := e.Flush(context.Background()); err != nil {
				return err
			}
			fmt.Fprintln(out, "flushed")
		}
		if rand.IntN(60) == 0 {
			fmt.Fprintln(out, "compact")
			if err := e.compact(context.Background()); err != nil {
				return err
			}
		}
	}
	return e.Close()
}

// TestCrash kills a process that is writing, at random moments, and checks that
// after replaying the stream from Position()+1 every event is there once.
func TestCrash(t *testing.T) {
	t.Parallel()
	rounds := 5
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	var last uint64
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(30) {
			if !lines.Scan() {
				break
			}
		}
		for range rand.IntN(200) { // a moment into what it said
			_, _ = os.Stat(dir)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()

		o := testOptions(t, dir)
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		e, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		position := e.Position()
		if position < last {
			t.Fatalf("round %d: position went from %d back to %d", round, last, position)
		}
		last = position
		end := position + 50
		var all []event.Record
		for seq := uint64(1); seq <= end; seq++ {
			all = append(all, expected(t, seq, crashMessage(seq))...)
			if seq > position {
				add(t, e, seq, crashMessage(seq)...)
			}
		}
		sortNewest(all)
		if diff := cmp.Diff(textsOf(t, all), textsOf(t, search(t, e, event.Filter{}))); diff != "" {
			t.Fatalf("round %d, position %d (-want +got):\n%s", round, position, diff)
		}
		if len(e.lost) != 0 {
			t.Fatalf("round %d: lost %+v", round, e.lost)
		}
		files, err := e.segmentFiles()
		if err != nil || len(files) != len(e.segments) {
			t.Fatalf("round %d: %d files, %d segments, %v", round, len(files), len(e.segments), err)
		}
		e.Close()
	}
	t.Logf("reached position %d", last)
	if last == 0 {
		t.Error("no child got to flush")
	}
}
