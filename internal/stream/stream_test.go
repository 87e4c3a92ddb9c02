package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// childEnv makes the test binary the writer that is killed; see TestKill.
const childEnv = "MUSTER_TEST_STREAM_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1) //nolint:forbidigo // this is main
	}
	os.Exit(m.Run()) //nolint:forbidigo // this is main
}

func open(tb testing.TB, o Options) *Stream {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	o.Log = slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func appendAll(tb testing.TB, s *Stream, subject Subject, records ...string) {
	tb.Helper()
	for _, r := range records {
		if err := s.Append(tb.Context(), subject, []byte(r)); err != nil {
			tb.Fatalf("append %.20q: %v", r, err)
		}
	}
}

var errEnough = errors.New("enough")

// read returns n records of a subject from a sequence on, and the sequences.
func read(tb testing.TB, s *Stream, subject Subject, from uint64, n int) (records []string, seqs []uint64) {
	tb.Helper()
	if n == 0 {
		return nil, nil
	}
	err := s.Read(tb.Context(), subject, from, func(_ context.Context, m Message) error {
		for _, r := range m.Records {
			records, seqs = append(records, string(r)), append(seqs, m.Seq)
		}
		if len(records) >= n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		tb.Fatal(err)
	}
	return records, seqs
}

func equal(tb testing.TB, got []string, want ...string) {
	tb.Helper()
	if !slices.Equal(got, want) {
		tb.Errorf("got %.300q, want %.300q", got, want)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if seq, err := s.Last(t.Context(), Events); err != nil || seq != 0 || s.Appended(Events) != 0 {
		t.Errorf("an empty stream ends at %d, %v", seq, err)
	}
	appendAll(t, s, Events, "a", "", "b\x00")
	appendAll(t, s, Answers, "x")
	appendAll(t, s, Events, "c")
	records, seqs := read(t, s, Events, 0, 4)
	equal(t, records, "a", "", "b\x00", "c")
	if !slices.Equal(seqs, []uint64{1, 2, 3, 5}) {
		t.Errorf("sequences %v", seqs)
	}
	records, _ = read(t, s, Answers, 0, 1)
	equal(t, records, "x")
	for from, want := range map[uint64][]string{1: {"a", "", "b\x00", "c"}, 3: {"b\x00", "c"}, 4: {"c"}, 5: {"c"}} {
		records, _ = read(t, s, Events, from, len(want))
		equal(t, records, want...)
	}
	check := func(s *Stream) {
		t.Helper()
		for subject, want := range map[Subject]uint64{Events: 5, Answers: 4} {
			if seq, err := s.Last(t.Context(), subject); err != nil || seq != want {
				t.Errorf("%s ends at %d, %v", subject, seq, err)
			}
		}
		if n, err := s.Bytes(t.Context()); err != nil || n == 0 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	check(s)
	if s.Appended(Events) != 5 {
		t.Errorf("appended up to %d", s.Appended(Events))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), Events, []byte("z")); !errs.Is(err, errs.Busy) {
		t.Errorf("append after Close: %v", err)
	}
	s = open(t, Options{Dir: dir})
	check(s)
	if s.Appended(Events) != 0 {
		t.Error("this process appended nothing")
	}
	appendAll(t, s, Events, "d")
	records, seqs = read(t, s, Events, 5, 2)
	equal(t, records, "c", "d")
	if seqs[1] != 6 {
		t.Errorf("sequences %v", seqs)
	}
}

// TestRead_waits: a reader gets what is appended while it waits, and ends with
// its context without an error.
func TestRead_waits(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(chan string), make(chan error, 2)
	for _, name := range []string{"", "durable"} {
		handle := func(ctx context.Context, m Message) error {
			select {
			case got <- string(m.Records[0]):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		go func() {
			if name == "" {
				done <- s.Read(ctx, Events, 0, handle)
				return
			}
			done <- s.ReadDurable(ctx, name, Events, MaxGroup, handle)
		}()
	}
	for i := range 20 {
		appendAll(t, s, Events, fmt.Sprint(i))
		equal(t, []string{<-got, <-got}, fmt.Sprint(i), fmt.Sprint(i))
	}
	cancel()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
}

// TestReadDurable_unacknowledged: what was in hand when the server stopped comes
// again at once, in order and with nothing before it, not when a wait ends that
// a clock may make endless.
func TestReadDurable_unacknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	appendAll(t, s, Events, "a")
	appendAll(t, s, Events, "b")
	appendAll(t, s, Events, "c")
	ctx, cancel := context.WithCancel(t.Context())
	err := s.ReadDurable(ctx, "r", Events, 1, func(_ context.Context, m Message) error {
		if string(m.Records[0]) == "b" {
			cancel()
			return context.Canceled
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"b", "c"}, {"c", "d"}} { // the second time with a consumer that was made anew before
		s = open(t, Options{Dir: dir})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // half of AckWait
		defer cancel()
		var seen []string
		err := s.ReadDurable(ctx, "r", Events, 1, func(_ context.Context, m Message) error {
			if seen = append(seen, string(m.Records[0])); len(seen) == 2 {
				cancel()
				return context.Canceled // unacknowledged once more
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, seen, want...)
		appendAll(t, s, Events, "d")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	appendAll(t, s, Events, "a", "b")
	appendAll(t, s, Answers, "x") // of no interest to the reader
	appendAll(t, s, Events, "c")
	if _, err := s.ReadPosition(t.Context(), "r"); err == nil {
		t.Error("a reader that never was has a position")
	}
	// collect reads until it saw last, failing once at "b".
	collect := func(last string, failures int) (seen []string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := s.ReadDurable(ctx, "r", Events, 1, func(_ context.Context, m Message) error {
			r := string(m.Records[0])
			seen = append(seen, r)
			if r == "b" && failures > 0 {
				failures--
				return errors.New("cannot take it now")
			}
			if r == last {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	equal(t, collect("c", 1), "a", "b", "b", "c")
	position := func() uint64 {
		t.Helper()
		seq, err := s.ReadPosition(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	for position() != 4 { // the acknowledgement of the last is on its way
		select {
		case <-t.Context().Done():
			t.Fatal("position", position())
		default:
		}
	}
	appendAll(t, s, Answers, "y")
	if got := position(); got != 5 { // nothing up to there is left to read
		t.Errorf("position %d", got)
	}
	appendAll(t, s, Events, "d")
	if got := position(); got != 4 {
		t.Errorf("position %d with a message to read", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	equal(t, collect("d", 0), "d")

	for position() != 6 {
		select {
		case <-t.Context().Done():
			t.Fatal("position", position())
		default:
		}
	}
	if err := s.Trim(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := s.Trim(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	records, seqs := read(t, s, Events, 0, 1)
	equal(t, records, "d")
	if seqs[0] != 6 || position() != 6 {
		t.Errorf("after Trim: sequence %v, position %d", seqs, position())
	}
	if err := s.Trim(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if seq, err := s.Last(t.Context(), Events); err != nil || seq != 0 {
		t.Errorf("all was trimmed, and the last is %d, %v", seq, err)
	}
	appendAll(t, s, Events, "e")
	if _, seqs := read(t, s, Events, 0, 1); seqs[0] != 7 {
		t.Errorf("a sequence is used again: %v", seqs)
	}
}

// child appends numbered records from several goroutines and reports each that
// was acknowledged, until it is killed.
func child(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var out sync.Mutex
	fail := make(chan error)
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				record := fmt.Sprintf("%d %d", g, i)
				if err := s.Append(context.Background(), Events, []byte(record)); err != nil {
					fail <- err
					return
				}
				out.Lock()
				_, _ = fmt.Fprintln(os.Stdout, record)
				out.Unlock()
			}
		}()
	}
	return <-fail
}

// TestKill: what a killed process had acknowledged is there, in order.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[int]int{} // by goroutine: the next number
	for round := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = t.Output()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); n++ {
			var g, i int
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &g, &i); err != nil {
				break // cut off by the kill
			}
			acked[g+8*round] = i + 1
			if n == 100 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
	}
	s := open(t, Options{Dir: dir})
	last, err := s.Last(t.Context(), Events)
	if err != nil || last == 0 {
		t.Fatal(last, err)
	}
	next := map[int]int{}
	round := 0
	err = s.Read(t.Context(), Events, 0, func(_ context.Context, m Message) error {
		for _, r := range m.Records {
			var g, i int
			if _, err := fmt.Sscanf(string(r), "%d %d", &g, &i); err != nil {
				t.Errorf("record %q", r)
			}
			if i == 0 && next[g] > 0 {
				round = 1
			}
			if g += 8 * round; next[g] != i {
				t.Errorf("goroutine %d: record %d, want %d", g, i, next[g])
			}
			next[g] = i + 1
		}
		if m.Seq == last {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	total := 0
	for g, n := range acked {
		total += n
		if next[g] < n {
			t.Errorf("goroutine %d: %d acknowledged, %d found", g, n, next[g])
		}
	}
	if total < 200 {
		t.Errorf("only %d records were acknowledged", total)
	}
}

func TestAppend_diskFull(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	var broken atomic.Bool
	free.Store(1 << 40)
	s := open(t, Options{Free: func() (uint64, error) {
		if broken.Load() {
			return 0, errors.New("statfs failed")
		}
		return free.Load(), nil
	}})
	appendAll(t, s, Events, "a")
	free.Store(reserve - 1)
	for range 3 {
		if err := s.Append(t.Context(), Events, []byte("b")); !errs.Is(err, errs.Busy) {
			t.Errorf("a full disk: %v", err)
		}
	}
	free.Store(reserve)
	appendAll(t, s, Events, "c")
	broken.Store(true)
	if err := s.Append(t.Context(), Events, []byte("d")); !errs.Is(err, errs.Busy) {
		t.Errorf("an unknown disk: %v", err)
	}
	broken.Store(false)
	appendAll(t, s, Events, "e")
	records, _ := read(t, s, Events, 0, 3)
	equal(t, records, "a", "c", "e")
}

// TestAppend_streamFull: a full stream refuses, keeps what it has, and goes on
// when it was trimmed.
func TestAppend_streamFull(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxBytes: 4 << 20})
	record := strings.Repeat("x", 1<<20)
	kept := 0
	var err error
	for kept < 10 && err == nil {
		if err = s.Append(t.Context(), Events, []byte(record)); err == nil {
			kept++
		}
	}
	if !errs.Is(err, errs.Busy) || kept != 3 {
		t.Fatalf("%d records were kept, then %v", kept, err)
	}
	if records, seqs := read(t, s, Events, 0, kept); records[0] != record || seqs[0] != 1 {
		t.Error("what was there is gone")
	}
	if err := s.Trim(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, Events, record)
}

func TestAppend_large(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	if err := s.Append(t.Context(), Events, make([]byte, MaxRecord+1)); !errs.Is(err, errs.TooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	largest := bytes.Repeat([]byte("0123456789abcdef"), MaxRecord/16)
	var writers sync.WaitGroup
	for range 2 { // together with small ones
		writers.Go(func() {
			if err := s.Append(t.Context(), Events, largest); err != nil {
				t.Error(err)
			}
		})
		writers.Go(func() {
			for range 20 {
				if err := s.Append(t.Context(), Events, []byte("small")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	records, _ := read(t, s, Events, 0, 42)
	n := 0
	for _, r := range records {
		if r == string(largest) {
			n++
		}
	}
	if n != 2 || len(records) != 42 {
		t.Errorf("%d of %d records are the large ones", n, len(records))
	}
}

// TestAppend_batches: many at once share messages, each is there once, and
// those of one writer are in order.
func TestAppend_batches(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	const writers, each = 64, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := s.Append(t.Context(), Events, fmt.Appendf(nil, "%d %d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	records, seqs := read(t, s, Events, 0, writers*each)
	if messages := len(slices.Compact(seqs)); messages > writers*each/4 {
		t.Errorf("%d messages for %d records", messages, writers*each)
	}
	next := map[int]int{}
	for _, r := range records {
		var w, i int
		if _, err := fmt.Sscanf(r, "%d %d", &w, &i); err != nil || next[w] != i {
			t.Errorf("record %q, want number %d", r, next[w])
		}
		next[w]++
	}
}

// TestAppend_cancelled: who goes away while a record is kept is told whether it
// was: an error means that it is not there, and no error that it is, whole,
// whatever becomes of the caller's memory. An agent sends again what it was
// not answered, and it must not be kept twice.
func TestAppend_cancelled(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	var all sync.WaitGroup
	var kept, refused atomic.Int64
	for w := range 16 {
		all.Go(func() {
			record := make([]byte, 64<<10)
			for n := range 50 {
				for i := range record {
					record[i] = byte(w)
				}
				ctx, cancel := context.WithCancel(t.Context())
				if n%10 > 0 {
					go cancel()
				}
				if err := s.Append(ctx, Events, record); err == nil {
					kept.Add(1)
				} else {
					refused.Add(1)
				}
				cancel()
				for i := range record {
					record[i] = 0xff
				}
			}
		})
	}
	all.Wait()
	appendAll(t, s, Events, "end")
	var found int64
	err := s.Read(t.Context(), Events, 0, func(_ context.Context, m Message) error {
		for _, r := range m.Records {
			if string(r) == "end" {
				return errEnough
			}
			found++
			if len(r) != 64<<10 || bytes.Count(r, r[:1]) != len(r) || r[0] == 0xff {
				t.Errorf("a record of %d bytes was overwritten", len(r))
			}
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if found != kept.Load() || kept.Load() == 0 {
		t.Errorf("%d records are there, %d were said to be, %d not", found, kept.Load(), refused.Load())
	}
}

// TestClose_appending: each record is either acknowledged and there, or refused.
func TestClose_appending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	var acked sync.Map
	var all sync.WaitGroup
	started := make(chan struct{}, 16)
	for w := range 16 {
		all.Go(func() {
			for i := 0; ; i++ {
				record := fmt.Sprintf("%d %d", w, i)
				if err := s.Append(t.Context(), Events, []byte(record)); err != nil {
					if !errs.Is(err, errs.Busy) {
						t.Error(err)
					}
					return
				}
				acked.Store(record, true)
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 16 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	s = open(t, Options{Dir: dir})
	last, err := s.Last(t.Context(), Events)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), Events, 0, func(_ context.Context, m Message) error {
		for _, r := range m.Records {
			if _, ok := acked.LoadAndDelete(string(r)); !ok {
				t.Errorf("%q is there, unacknowledged or twice", r)
			}
		}
		if m.Seq == last {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	acked.Range(func(r, _ any) bool {
		t.Errorf("%q was acknowledged and is gone", r)
		return true
	})
}

// frame is a message of records, as the batcher makes it.
func frame(records ...[]byte) (message []byte) {
	for _, r := range records {
		message = add(message, pending{record: r})
	}
	return message
}

func TestSplit_corrupt(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{
		{0x80},
		{1},
		{5, 1, 2},
		{0, 1},
		bytes.Repeat([]byte{0xff}, 11), binary.AppendUvarint(nil, 1<<63), binary.AppendUvarint(nil, 1<<64-1),
		frame([]byte("abc"))[:3], append(frame([]byte("abc")), 9),
	} {
		if err := split(b, func([]byte) error { return nil }); err == nil {
			t.Errorf("%x is a message", b)
		}
	}
	if err := split(frame([]byte("a"), []byte("b")), func([]byte) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(frame([]byte("a"), nil, bytes.Repeat([]byte("b"), 300)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var records [][]byte
		if split(b, func(r []byte) error { records = append(records, r); return nil }) != nil {
			return
		}
		var again [][]byte
		if err := split(frame(records...), func(r []byte) error { again = append(again, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(records, again, bytes.Equal) {
			t.Fatalf("%x, then %x", records, again)
		}
	})
}

// BenchmarkAppend is 64 agents with 2 KiB each.
func BenchmarkAppend(b *testing.B) {
	s := open(b, Options{})
	record := bytes.Repeat([]byte("x"), 2<<10)
	work := make(chan struct{})
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range work {
				if err := s.Append(context.Background(), Events, record); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		work <- struct{}{}
		n++
	}
	close(work)
	all.Wait()
	if last := s.Appended(Events); last > 0 {
		b.ReportMetric(float64(n)/float64(last), "records/msg")
	}
}

// TestReadDurable_group: what waits comes together, again as one when it could
// not be taken, and each record once; also with a consumer from before groups.
func TestReadDurable_group(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	var seen []string
	collect := func(atOnce int, until string, failures int) (calls int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := s.ReadDurable(ctx, "r", Events, atOnce, func(_ context.Context, m Message) error {
			if calls++; calls <= failures {
				return errors.New("cannot take it now")
			}
			for _, r := range m.Records {
				if seen = append(seen, string(r)); string(r) == until {
					cancel()
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for at := uint64(0); at != s.Appended(Events); { // the acknowledgement is on its way
			if at, err = s.ReadPosition(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
		}
		return calls
	}
	var want []string
	fill := func(n int) string {
		for range n {
			want = append(want, fmt.Sprint(len(want)))
			appendAll(t, s, Events, want[len(want)-1])
		}
		return want[len(want)-1]
	}
	if calls := collect(1, fill(3), 0); calls != 3 {
		t.Errorf("one by one: %d calls for 3 messages", calls)
	}
	if calls := collect(MaxGroup, fill(2*MaxGroup), 1); calls > MaxGroup {
		t.Errorf("%d calls for %d messages", calls, 2*MaxGroup)
	}
	equal(t, seen, want...)
}

// TestBacklog: only what is of the subject, and after the sequence, counts.
func TestBacklog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxBytes: 64 << 20})
	want := func(after, messages uint64) {
		t.Helper()
		b, err := s.Backlog(t.Context(), Events, after)
		if err != nil || b.Messages != messages || b.Oldest.IsZero() != (messages == 0) || (b.Bytes == 0) != (messages == 0) {
			t.Errorf("after %d: %+v, %v; want %d", after, b, err, messages)
		}
	}
	want(0, 0)
	for range 3 {
		appendAll(t, s, Answers, "x")
		appendAll(t, s, Events, "a")
	}
	for after, messages := range []uint64{3, 3, 2, 2, 1, 1, 0, 0} {
		want(uint64(after), messages)
	}
	e, err := s.Extent(t.Context())
	if err != nil || e.First != 1 || e.Last != 6 || e.Bytes == 0 || e.Max != 64<<20 {
		t.Errorf("%+v, %v", e, err)
	}
	if err := errors.Join(s.Trim(t.Context(), 2), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, MaxBytes: 64 << 20})
	want(0, 2)
	want(6, 0)
}

// TestFollow: every message comes once and in order, also those that come while the
// reader stands still or waits, and those of before a restart.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	appendAll(t, s, Events, "a")
	appendAll(t, s, Answers, "x")
	appendAll(t, s, Events, "b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(chan string), make(chan error, 1)
	go func() {
		done <- s.Follow(ctx, Events, 1, func(ctx context.Context, m Message) error {
			select {
			case got <- fmt.Sprintf("%d %s", m.Seq, m.Records[0]):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	for range 100 { // more than any reader has in advance
		appendAll(t, s, Events, "c")
	}
	equal(t, []string{<-got}, "3 b")
	for i := range 100 {
		equal(t, []string{<-got}, fmt.Sprintf("%d c", 4+i))
	}
	for i := range 10 {
		appendAll(t, s, Events, "d")
		equal(t, []string{<-got}, fmt.Sprintf("%d d", 104+i))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Follow(t.Context(), Events, 0, func(context.Context, Message) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

// TestSnapshot copies a stream that is written to and half read, and goes on with
// the copy where it was.
func TestSnapshot(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), MaxBytes: 2 * DefaultMaxBytes, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(text string) {
		t.Helper()
		if err := s.Append(t.Context(), Events, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		put(fmt.Sprint(i))
	}
	read := func(s *Stream, upTo string) (got []string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := s.ReadDurable(ctx, "reader", Events, 1, func(_ context.Context, m Message) error {
			for _, r := range m.Records {
				got = append(got, string(r))
			}
			if got[len(got)-1] == upTo {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := read(s, "59"); len(got) != 60 {
		t.Fatalf("read %d", len(got))
	}
	if at, err := s.ReadPosition(t.Context(), "reader"); err != nil || at == 0 {
		t.Fatal(at, err)
	}
	if err := s.Trim(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	config, err := s.Snapshot(t.Context(), &copied)
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.Last(t.Context(), Events)
	if err != nil {
		t.Fatal(err)
	}
	put("too late")

	dir := filepath.Join(t.TempDir(), "stream")
	for what, bytesOf := range map[string][]byte{"nothing": nil, "half": copied.Bytes()[:copied.Len()/2]} {
		if err := Restore(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "bad"), Log: log}, config, bytes.NewReader(bytesOf)); err == nil {
			t.Errorf("%s of it was taken", what)
		}
	}
	if err := Restore(t.Context(), Options{Dir: dir, Log: log}, config, bytes.NewReader(copied.Bytes())); err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Options{Dir: dir, Log: log}) // a smaller one than it was
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got, err := other.Last(t.Context(), Events); err != nil || got != last {
		t.Errorf("the last message is %d, not %d: %v", got, last, err)
	}
	if err := other.Append(t.Context(), Events, []byte("after")); err != nil {
		t.Fatal(err)
	}
	got := read(other, "after")
	if got[len(got)-2] != "99" || len(got) < 41 || len(got) > 42 { // what was handled last may come again
		t.Errorf("the reader goes on with %d: %.60q", len(got), got)
	}
}
