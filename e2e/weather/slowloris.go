package weather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
)

// Limits of the agents' listener, as internal/app sets them, and what may pass
// before a socket that was closed there is seen to be closed here.
const (
	headerTimeout = 10 * time.Second // of a handshake, and of a request's head
	readTimeout   = 60 * time.Second // of a whole request
	slack         = 3 * time.Second
	// slowlorisLimit lets a body reach the server's limit.
	slowlorisLimit = readTimeout + 30*time.Second
)

// sockets is how many there are if nothing else is said.
const sockets = 2000

// trickle is a way to hold a connection.
type trickle struct {
	name  string
	tls   bool
	first string // sent at once
	more  string // sent a byte a second, again and again; "" sends nothing
	limit time.Duration
}

func trickles() []trickle {
	const head = "POST " + logPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	return []trickle{
		{"no handshake", false, "", "", headerTimeout},
		{"nothing after the handshake", true, "", "", headerTimeout},
		{"a head, a byte a second", true, head, "X-Slow: yes\r\n", headerTimeout},
		{"a body, a byte a second", true, head + "Content-Length: 1000000\r\n\r\n{", " ", readTimeout},
	}
}

// Slowloris opens thousands of connections that never finish a request, while a
// fleet works. The server closes each at its limit.
func Slowloris(ctx context.Context, o Options) (*Report, error) {
	count := cmp.Or(o.Sockets, sockets)
	if files, err := agenttest.RaiseOpenFiles(); err != nil {
		return nil, err
	} else if uint64(count)+200 > files { //nolint:gosec // a flag, not negative
		return nil, fmt.Errorf("%w: %d sockets need as many open files, and this process may have %d", ErrCannot, count, files)
	}
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return s.report, err
	}
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 100, LogInterval: time.Second, Rows: 2,
		ConfigInterval: 200 * time.Millisecond, ReadInterval: 200 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 4*time.Second)
	if err != nil {
		return s.report, err
	}
	before, err := s.server.Usage()
	if err != nil {
		return s.report, err
	}
	from, err := s.stranger()
	if err != nil {
		return s.report, err
	}
	s.say("%d sockets open", count)
	held, err := from.trickle(ctx, count)
	if err != nil {
		return s.report, err
	}
	s.say("all sockets are closed")
	storm := s.lap("sockets open")
	after, err := s.server.Usage()
	if err != nil {
		return s.report, err
	}
	for _, t := range trickles() {
		d := held[t.name]
		s.report.within(fmt.Sprintf("held longest: %s (%d)", t.name, len(d)), slices.Max(d), t.limit+slack)
	}
	s.report.fact("RSS for each socket", "%d KiB", max(0, after.PeakRSS-before.RSS)/int64(count)>>10)
	s.report.polls("", storm)
	s.report.zero("logs refused", storm.log.Errors)
	s.report.compare(calm, storm)
	return s.finish(ctx)
}

// trickle holds so many connections, a fourth of each kind, and returns how
// long each was open.
func (s *stranger) trickle(ctx context.Context, count int) (map[string][]time.Duration, error) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		held   = map[string][]time.Duration{}
		failed error
		kinds  = trickles()
		// So many handshakes at once take no longer than the server allows one.
		opening = make(chan struct{}, 32)
	)
	for i := range max(count, len(kinds)) {
		wg.Go(func() {
			t := kinds[i%len(kinds)]
			d, err := s.hold(ctx, t, opening)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = fmt.Errorf("%s: %w", t.name, err)
				return
			}
			held[t.name] = append(held[t.name], d)
		})
	}
	wg.Wait()
	return held, errors.Join(failed, context.Cause(ctx))
}

// hold opens a connection and returns how long the server kept it.
func (s *stranger) hold(ctx context.Context, t trickle, opening chan struct{}) (time.Duration, error) {
	dial := s.dial
	if t.tls {
		dial = s.dialTLS
	}
	opening <- struct{}{}
	conn, err := dial(ctx)
	<-opening
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // the server closed it
	began := time.Now()
	if _, err := io.WriteString(conn, t.first); err != nil {
		return 0, err
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn) // a reset ends it as well
	}()
	s.drip(ctx, conn, t.more, closed)
	return time.Since(began), nil
}

// drip sends a byte a second until the server closes the connection or ctx
// ends.
func (s *stranger) drip(ctx context.Context, conn net.Conn, more string, closed <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-closed:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if more == "" {
			continue
		}
		if _, err := conn.Write([]byte{more[i%len(more)]}); err != nil {
			return
		}
	}
}
