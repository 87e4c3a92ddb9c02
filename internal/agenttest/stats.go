package agenttest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
)

// Op is one of the requests that agents make.
type Op uint8

// The operations.
const (
	OpEnroll Op = iota
	OpConfig
	OpLog
	OpRead  // distributed/read
	OpWrite // distributed/write
	OpCarveStart
	OpCarveBlock // carve/continue
	opCount
)

// String returns the word used in reports.
func (o Op) String() string {
	switch o {
	case OpEnroll:
		return "enroll"
	case OpConfig:
		return "config"
	case OpLog:
		return "log"
	case OpRead:
		return "read"
	case OpWrite:
		return "write"
	case OpCarveStart:
		return "carve_start"
	case OpCarveBlock:
		return "carve_block"
	case opCount:
	}
	return "unknown"
}

// ParseOp returns the operation of that name.
func ParseOp(name string) (Op, error) {
	for o := range opCount {
		if o.String() == name {
			return o, nil
		}
	}
	return 0, fmt.Errorf("no operation %q; there are enroll, config, log, read, write, carve_start and carve_block", name)
}

// Stats counts requests by operation. The zero value is empty. It is safe for
// concurrent use and takes no lock for a request that succeeds.
type Stats struct{ ops [opCount]opStats }

type opStats struct {
	latency Histogram
	errors  atomic.Int64

	mu    sync.Mutex
	kinds map[string]int64
}

// maxKinds bounds the different errors that are told apart.
const maxKinds = 16

// Observe counts one request. The latency counts only for a success, so that
// connections refused at once do not flatter the percentiles.
func (s *Stats) Observe(op Op, d time.Duration, err error) {
	o := &s.ops[op]
	if err == nil {
		o.latency.Observe(d)
		return
	}
	o.errors.Add(1)
	kind := errorKind(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kinds == nil {
		o.kinds = map[string]int64{}
	}
	if _, ok := o.kinds[kind]; !ok && len(o.kinds) >= maxKinds {
		kind = "other"
	}
	o.kinds[kind]++
}

// Reset forgets everything, as at the end of a warm-up.
func (s *Stats) Reset() {
	for i := range s.ops {
		o := &s.ops[i]
		o.latency.Reset()
		o.errors.Store(0)
		o.mu.Lock()
		o.kinds = nil
		o.mu.Unlock()
	}
}

// Summary is what is known about one operation.
type Summary struct {
	Count, Errors      int64 // Count includes Errors
	P50, P95, P99, Max time.Duration
	Kinds              map[string]int64 // errors by kind
}

// Of returns what was counted for an operation.
func (s *Stats) Of(op Op) Summary {
	o := &s.ops[op]
	failed := o.errors.Load()
	o.mu.Lock()
	defer o.mu.Unlock()
	return Summary{
		Count: o.latency.Count() + failed, Errors: failed,
		P50: o.latency.Quantile(0.50), P95: o.latency.Quantile(0.95), P99: o.latency.Quantile(0.99),
		Max: o.latency.Max(), Kinds: maps.Clone(o.kinds),
	}
}

// Total returns the requests and errors of all operations.
func (s *Stats) Total() (count, failed int64) {
	for i := range s.ops {
		n := s.ops[i].errors.Load()
		count += s.ops[i].latency.Count() + n
		failed += n
	}
	return count, failed
}

// errorKind sorts errors so that a report can count them.
func errorKind(err error) string {
	if errors.Is(err, agentwire.ErrNodeInvalid) {
		return "node_invalid"
	}
	if e, ok := errors.AsType[*agentwire.ServerError](err); ok {
		return shorten("answered error: " + e.Message)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return shorten("certificate: " + e.Err.Error())
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case errors.Is(err, syscall.EMFILE):
		return "too many open files here"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no free local port"
	}
	return shorten(err.Error())
}

func shorten(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// A Histogram counts durations in buckets that are 1/64 wide relative to
// their value, from a nanosecond to two minutes; longer ones count as two
// minutes. The zero value is empty; it takes 16 KB and no locks.
type Histogram struct {
	buckets [buckets]atomic.Int64
	max     atomic.Int64
}

const (
	subBits = 6 // 64 buckets for each power of two
	maxBits = 37
	buckets = (maxBits - subBits + 1) << subBits
)

func bucketOf(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<maxBits-1))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift) //nolint:gosec // under 128
}

// middle returns the value in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	return time.Duration((bucket-shift<<subBits)<<shift + 1<<shift/2)
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int64 {
	var n int64
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// Max returns the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile returns the duration that the given part (0 to 1) of all does not
// exceed, within 1 %; 0 if nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	count := h.Count()
	if count == 0 {
		return 0
	}
	rank := max(1, int64(math.Ceil(q*float64(count))))
	var seen int64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= rank {
			return min(middle(i), h.Max())
		}
	}
	return h.Max()
}

// Reset forgets everything.
func (h *Histogram) Reset() {
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
	h.max.Store(0)
}
