package agenttest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// TestHistogram compares with a sorted list.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, count := range []int{1, 2, 10, 999, 20_000} {
		var h agenttest.Histogram
		all := make([]time.Duration, count)
		for i := range all {
			// From a few nanoseconds to a minute, evenly by magnitude.
			all[i] = time.Duration(math.Exp(random.Float64() * math.Log(float64(time.Minute))))
			h.Observe(all[i])
		}
		slices.Sort(all)
		if h.Count() != int64(count) || h.Max() != all[count-1] {
			t.Errorf("%d values: count %d, max %v, want %v", count, h.Count(), h.Max(), all[count-1])
		}
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
			want := all[max(0, int(math.Ceil(q*float64(count)))-1)]
			if got := h.Quantile(q); math.Abs(float64(got-want)) > 0.01*float64(want) {
				t.Errorf("%d values: quantile %g is %v, want %v", count, q, got, want)
			}
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	var h agenttest.Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.Count() != 0 {
		t.Error("an empty histogram is not zero")
	}
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 65, time.Hour, math.MaxInt64} {
		h.Observe(d)
	}
	if h.Count() != 8 || h.Quantile(0) != 0 || h.Quantile(0.5) != 63 || h.Quantile(1) < 2*time.Minute {
		t.Errorf("count %d, quantiles %v %v %v", h.Count(), h.Quantile(0), h.Quantile(0.5), h.Quantile(1))
	}
	h.Reset()
	if h.Count() != 0 || h.Max() != 0 {
		t.Error("not empty after Reset")
	}
}

func TestStats(t *testing.T) {
	var s agenttest.Stats
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				var err error
				if i%10 == 0 {
					err = fmt.Errorf("log: %w", agentwire.ErrNodeInvalid)
				}
				s.Observe(agenttest.OpLog, time.Millisecond, err)
			}
		})
	}
	wg.Wait()
	got := s.Of(agenttest.OpLog)
	if got.Count != 4000 || got.Errors != 400 || got.Kinds["node_invalid"] != 400 || got.Max != time.Millisecond {
		t.Errorf("got %+v", got)
	}
	for i := range 100 {
		s.Observe(agenttest.OpRead, 0, fmt.Errorf("failure %d", i))
	}
	if kinds := s.Of(agenttest.OpRead).Kinds; len(kinds) > 17 || kinds["other"] != 84 {
		t.Errorf("kinds are not bounded: %v", kinds)
	}
	if count, failed := s.Total(); count != 4100 || failed != 500 {
		t.Errorf("total %d, %d", count, failed)
	}
	s.Reset()
	if count, failed := s.Total(); count != 0 || failed != 0 || s.Of(agenttest.OpLog).Kinds != nil {
		t.Errorf("not empty after Reset: %d, %d", count, failed)
	}
}

func TestErrorKinds(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&agentwire.ServerError{Message: "disk full"}, "answered error: disk full"},
		{context.DeadlineExceeded, "timeout"},
		{os.ErrDeadlineExceeded, "timeout"},
		{fmt.Errorf("dial: %w", syscall.ECONNREFUSED), "connection refused"},
		{&os.SyscallError{Syscall: "read", Err: syscall.ECONNRESET}, "connection reset"},
		{errors.New("odd"), "odd"},
	}
	for _, tt := range tests {
		var s agenttest.Stats
		s.Observe(agenttest.OpConfig, 0, tt.err)
		if kinds := s.Of(agenttest.OpConfig).Kinds; kinds[tt.want] != 1 {
			t.Errorf("%v: kinds %v, want %q", tt.err, kinds, tt.want)
		}
	}
}

func TestParseOp(t *testing.T) {
	for _, op := range []agenttest.Op{agenttest.OpEnroll, agenttest.OpConfig, agenttest.OpLog, agenttest.OpRead, agenttest.OpWrite} {
		if got, err := agenttest.ParseOp(op.String()); got != op || err != nil {
			t.Errorf("%s: got %v, %v", op, got, err)
		}
	}
	if _, err := agenttest.ParseOp("carve"); err == nil {
		t.Error("no error for an unknown operation")
	}
}

func TestProcessUsage(t *testing.T) {
	before, err := agenttest.ProcessUsage(os.Getpid())
	must(t, err)
	if before.RSS < 1<<20 || before.PeakRSS < before.RSS {
		t.Errorf("memory of this process: %+v", before)
	}
	after := before
	for x := uint64(1); after.CPU < before.CPU+50*time.Millisecond; {
		for range 1_000_000 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		after, err = agenttest.ProcessUsage(os.Getpid())
		must(t, err)
		if x == 0 || t.Context().Err() != nil {
			t.Fatal("the CPU time does not grow")
		}
	}
	if _, err := agenttest.ProcessUsage(-1); err == nil {
		t.Error("no error for a process that is not there")
	}
}

func TestBackoff(t *testing.T) {
	b := agenttest.Backoff{Base: 4 * time.Second, Max: time.Hour}
	for failures, want := range map[int]time.Duration{0: 0, 1: 4 * time.Second, 2: 16 * time.Second, 3: 36 * time.Second, 40: time.Hour, 1 << 30: time.Hour} {
		if got := b.After(failures); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}

func TestRaiseOpenFiles(t *testing.T) {
	limit, err := agenttest.RaiseOpenFiles()
	must(t, err)
	if limit < 64 {
		t.Errorf("limit is %d", limit)
	}
}
