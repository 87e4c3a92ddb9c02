package agenttest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// CarveLoad asks nodes for files, each carve of another node in turn. How large
// they are and how many are sent at a time is in FleetOptions.Carve.
type CarveLoad struct {
	API    Caller
	Carves int
	Reason string // told to the server if not empty
	// Patience is how long to wait for all; 10 min if 0.
	Patience time.Duration
}

const (
	carvePatience = 10 * time.Minute
	// carveAsking is how many carves are asked for at a time, and carveLook how
	// often it is looked at what became of them.
	carveAsking = 8
	carveLook   = 500 * time.Millisecond
)

// CarveReport is the outcome of a CarveLoad. The times of starts and blocks are
// among the operations, as carve_start and carve_block.
type CarveReport struct {
	Carves     int        `json:"carves"`
	Concurrent int        `json:"concurrent"`
	Size       int64      `json:"size_bytes"`
	BlockSize  int        `json:"block_bytes"`
	Uploaded   int        `json:"uploaded"` // the agent thinks that it succeeded
	Failed     int        `json:"failed"`
	States     stateCount `json:"states"`           // of the carves, in the end, as the API says
	Blocks     int64      `json:"blocks"`           // acknowledged
	Seconds    float64    `json:"duration_s"`       // from the first start to the last block
	Rate       float64    `json:"blocks_per_s"`     // acknowledged
	Bytes      float64    `json:"mib_per_s"`        // of archives
	Settled    float64    `json:"settled_s"`        // until the API says that all ended
	CPU        *float64   `json:"cpu_ms_per_block"` // of the server, with all that it did besides
	IdleRSS    int64      `json:"rss_idle_bytes"`   // of the server before
	PeakRSS    int64      `json:"rss_peak_bytes"`
	OverIdle   int64      `json:"rss_over_idle_bytes"`
	// Sampled says that the peak is of samples only, as the system's own could
	// not be begun anew.
	Sampled bool `json:"rss_sampled,omitempty"`
}

// The documents of the API, as far as they are needed here.
type (
	carveInput struct {
		Node   string   `json:"node"`
		Paths  []string `json:"paths"`
		Reason string   `json:"reason,omitempty"`
	}
	carveDocument struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
)

// carves lets the server idle, then asks for the files.
func (l *load) carves(ctx context.Context) error {
	return l.beside(ctx, l.fleet.Run, func(ctx context.Context) error {
		log := l.o.Fleet.Logger
		log.InfoContext(ctx, "letting the server idle", "for", l.o.Warmup+l.o.Duration)
		_ = wait(ctx, l.o.Warmup+l.o.Duration)
		l.fleet.forget()
		peak, stop := l.peak(ctx)
		defer stop()
		begin, err := l.mark()
		if err != nil {
			return err
		}
		log.InfoContext(ctx, "asking for files", "carves", l.o.Carves.Carves, "bytes", l.fleet.carver.o.Size)
		states, failed := l.askCarves(ctx)
		end, err := l.mark()
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		l.fill(begin, end, end.at.Sub(begin.at))
		l.report.Mode, l.report.Carves = "carves", l.carveReport(begin, end, states)
		if stop(); l.o.ServerPID != 0 {
			r := l.report.Carves
			r.PeakRSS, r.Sampled = peak(end)
			r.OverIdle = r.PeakRSS - r.IdleRSS
		}
		return nil
	})
}

// peak begins to look for the server's highest memory. The system's own mark is
// exact, but only its owner can set it back.
func (l *load) peak(ctx context.Context) (result func(end mark) (peak int64, sampled bool), stop func()) {
	if l.o.ServerPID == 0 || ResetPeak(l.o.ServerPID) == nil {
		return func(end mark) (int64, bool) { return end.server.PeakRSS, false }, func() {}
	}
	const every = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	var highest int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for wait(ctx, every) == nil {
			if u, err := ProcessUsage(l.o.ServerPID); err == nil {
				highest = max(highest, u.RSS)
			}
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	return func(end mark) (int64, bool) { return max(highest, end.server.RSS), true }, stop
}

// askCarves asks for all and waits until they ended, or patience does. It
// returns their states by the API.
func (l *load) askCarves(ctx context.Context) (stateCount, error) {
	o := l.o.Carves
	patience := o.Patience
	if patience <= 0 {
		patience = carvePatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	asked, err := l.startCarves(ctx)
	if err != nil {
		return nil, fmt.Errorf("carve: %w", err)
	}
	l.awaitUploads(ctx, asked)
	states := stateCount{}
	for {
		asked = slices.DeleteFunc(asked, func(id string) bool {
			var c carveDocument
			err := o.API.Call(ctx, http.MethodGet, "/carves/"+url.PathEscape(id), nil, nil, &c)
			ended := err == nil && slices.Contains([]string{"done", "failed", "cancelled", "expired"}, c.State)
			if ended {
				states[c.State]++
			}
			return ended
		})
		if len(asked) == 0 {
			return states, nil
		}
		if wait(ctx, carveLook) != nil {
			states["open"] += len(asked)
			return states, nil
		}
	}
}

// startCarves asks for all, a few at a time.
func (l *load) startCarves(ctx context.Context) ([]string, error) {
	o := l.o.Carves
	nodes, ids := l.fleet.Nodes(), make([]string, o.Carves)
	var wg sync.WaitGroup
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for first := range carveAsking {
		wg.Go(func() {
			for i := first; i < len(ids) && ctx.Err() == nil; i += carveAsking {
				in := carveInput{Node: nodes[i%len(nodes)].HostIdentifier(), Paths: []string{fmt.Sprintf("/var/log/simulated-%d", i)}, Reason: o.Reason}
				var c carveDocument
				if err := o.API.Call(ctx, http.MethodPost, "/carves", nil, in, &c); err != nil {
					stop(err)
					return
				}
				ids[i] = c.ID
			}
		})
	}
	wg.Wait()
	return ids, context.Cause(ctx)
}

// awaitUploads waits until the agents sent all, or the server says that it will
// not come to that.
func (l *load) awaitUploads(ctx context.Context, asked []string) {
	const look = 2 * time.Second
	for ctx.Err() == nil {
		done, failed, changed := l.fleet.carver.Counts()
		if done+failed >= len(asked) {
			return
		}
		timer := time.NewTimer(look)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
			var c carveDocument
			err := l.o.Carves.API.Call(ctx, http.MethodGet, "/carves/"+url.PathEscape(asked[len(asked)-1]), nil, nil, &c)
			if err == nil && slices.Contains([]string{"failed", "cancelled", "expired"}, c.State) {
				return
			}
		}
		timer.Stop()
	}
}

func (l *load) carveReport(begin, end mark, states stateCount) *CarveReport {
	c := l.fleet.carver
	blocks := l.fleet.Stats().Of(OpCarveBlock)
	took := c.span()
	r := &CarveReport{
		Carves: l.o.Carves.Carves, Concurrent: c.o.Concurrency, Size: c.o.Size, BlockSize: c.o.BlockSize, States: states,
		Blocks: blocks.Count - blocks.Errors, Seconds: round(took.Seconds()), Settled: round(end.at.Sub(begin.at).Seconds()),
	}
	r.Uploaded, r.Failed, _ = c.Counts()
	if took > 0 {
		r.Rate = perSecond(r.Blocks, took)
		r.Bytes = round(float64(c.o.Size) * float64(r.Uploaded) / (1 << 20) / took.Seconds())
	}
	if l.o.ServerPID != 0 {
		r.IdleRSS = begin.server.RSS
		if r.Blocks > 0 {
			r.CPU = new(round(milliseconds(end.server.CPU-begin.server.CPU) / float64(r.Blocks)))
		}
	}
	return r
}
