package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
)

const (
	// progressPause is how often the line on a terminal is drawn.
	progressPause = 250 * time.Millisecond
	// progressQuiet is how often a log, which keeps every line, gets one.
	progressQuiet = 10 * time.Second
)

// progress is the line that tells how a live query goes: in its place on a
// terminal, now and then elsewhere.
type progress struct {
	w        io.Writer
	width    int // of the terminal; 0 for none
	started  time.Time
	query    adminapi.Live
	delays   []time.Duration // of the answers that came while we watched
	shown    bool
	told     string
	toldAt   time.Time
	nowAfter func() time.Duration // since the start
}

func newProgress(w io.Writer, q adminapi.Live) *progress {
	p := &progress{w: w, width: terminalWidth(w), started: time.Now(), query: q}
	p.nowAfter = func() time.Duration { return time.Since(p.started) }
	p.toldAt = p.started
	return p
}

func (p *progress) counts(q adminapi.Live) { p.query = q }

func (p *progress) answered() { p.delays = append(p.delays, p.nowAfter()) }

// clear makes room for other lines.
func (p *progress) clear() {
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// draw shows how far it is.
func (p *progress) draw() {
	text := p.text()
	if p.width > 0 {
		_, _ = io.WriteString(p.w, "\r"+cutTo(text, p.width-1)+"\x1b[K")
		p.shown = true
		return
	}
	if now := time.Now(); now.Sub(p.toldAt) >= progressQuiet && text != p.told {
		_, _ = fmt.Fprintln(p.w, text)
		p.told, p.toldAt = text, now
	}
}

// text is the line: who answered, failed and is awaited, how fast.
func (p *progress) text() string {
	c := p.query.Counts
	answered := c["answered"] + c["empty"] + c["over_limit"]
	parts := []string{fmt.Sprintf("answered %d of %d", answered, p.query.Nodes)}
	if n := c["failed"] + c["denylisted"]; n > 0 {
		parts = append(parts, fmt.Sprintf("failed %d", n))
	}
	parts = append(parts, fmt.Sprintf("waiting %d", c["waiting"]+c["sent"]))
	if p.query.Held != "" {
		parts = append(parts, "HELD")
	}
	first, p50, p95 := p.latency()
	if len(p.delays) > 0 || p.query.Latency != nil {
		if took := p.nowAfter().Seconds(); took > 0 && len(p.delays) > 0 {
			parts = append(parts, fmt.Sprintf("%.3g/s", float64(len(p.delays))/took))
		}
		parts = append(parts, fmt.Sprintf("first after %s", brief(first)), fmt.Sprintf("p50 %s p95 %s", brief(p50), brief(p95)))
	} else {
		parts = append(parts, brief(p.nowAfter().Truncate(time.Second)))
	}
	return strings.Join(parts, " · ")
}

// latency returns what the server measured, else what we saw.
func (p *progress) latency() (first, p50, p95 time.Duration) {
	if l := p.query.Latency; l != nil {
		return millis(l.FirstMs), millis(l.P50Ms), millis(l.P95Ms)
	}
	n := len(p.delays)
	if n == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(p.delays))
	const half, most, whole = 50, 95, 100
	return sorted[0], sorted[(n-1)*half/whole], sorted[(n-1)*most/whole]
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// brief prints a duration as far as anybody reads it.
func brief(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	const tenth = 100 * time.Millisecond
	return d.Round(tenth).String()
}
