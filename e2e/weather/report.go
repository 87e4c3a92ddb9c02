package weather

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is what a scenario saw, a line for each fact, some of which the server
// promises. The zero value is empty.
type Report struct{ lines []line }

type line struct {
	name, value string
	promise     string // what the value must be; "" for a mere fact
	broken      bool
}

// fact adds what no promise is about.
func (r *Report) fact(name, format string, args ...any) {
	r.lines = append(r.lines, line{name: name, value: fmt.Sprintf(format, args...)})
}

// promise adds what the server promises, and whether that was kept.
func (r *Report) promise(kept bool, name, value, promise string) {
	r.lines = append(r.lines, line{name: name, value: value, promise: promise, broken: !kept})
}

// zero adds a count that must be 0.
func (r *Report) zero(name string, count int64) {
	r.promise(count == 0, name, fmt.Sprint(count), "must be 0")
}

// compare adds the latencies of the fleet in calm and in bad weather.
func (r *Report) compare(calm, storm lap) {
	for _, l := range []struct {
		name string
		lap  lap
	}{{"calm", calm}, {"during", storm}} {
		r.fact(l.name+": config p50, p99", "%s, %s", round(l.lap.config.P50), round(l.lap.config.P99))
		r.fact(l.name+": read p50, p99", "%s, %s", round(l.lap.read.P50), round(l.lap.read.P99))
		r.fact(l.name+": log p50, p99", "%s, %s", round(l.lap.log.P50), round(l.lap.log.P99))
	}
}

// polls adds the promise that configs and live queries went on.
func (r *Report) polls(when string, storm lap) {
	r.zero(when+"configs refused", storm.config.Errors)
	r.zero(when+"reads refused", storm.read.Errors)
	r.promise(storm.config.Count > 0 && storm.read.Count > 0, when+"configs and reads answered",
		fmt.Sprintf("%d, %d", storm.config.Count-storm.config.Errors, storm.read.Count-storm.read.Errors), "must be some")
}

// within adds a duration that must not be longer.
func (r *Report) within(name string, d, most time.Duration) {
	r.promise(d <= most, name, round(d).String(), "at most "+most.String())
}

// Broken returns the promises that were not kept, a line each.
func (r *Report) Broken() []string {
	var broken []string
	for _, l := range r.lines {
		if l.broken {
			broken = append(broken, fmt.Sprintf("%s: %s, %s", l.name, l.value, l.promise))
		}
	}
	return broken
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, l := range r.lines {
		mark := l.promise
		if l.broken {
			mark = "BROKEN: " + l.promise
		}
		if _, err := fmt.Fprintf(t, "  %s\t%s\t%s\n", l.name, l.value, mark); err != nil {
			return err
		}
	}
	return t.Flush()
}
