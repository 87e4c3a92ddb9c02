package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/hostsql"
)

// An activePack is a pack of the config in force.
type activePack struct {
	Pack
	discovery discovery
	seen      bool // its startup queries ran
}

// discovery is what is known of a pack's discovery queries.
type discovery struct {
	at         time.Time
	active     bool
	hits, runs int64
}

// schedule runs the queries. Its counter starts at the unix time and grows by
// one a second, so that intervals are aligned to the clock (protocol 10.1).
func (a *Agent) schedule(ctx context.Context) {
	counter, due := time.Now().Unix(), time.Now()
	for ctx.Err() == nil {
		a.tick(ctx, counter)
		counter++
		due = due.Add(time.Second)
		if behind := time.Since(due); behind > a.flags.Seconds("schedule_max_drift") {
			due = time.Now()
		}
		wait(ctx, time.Until(due))
	}
}

// tick runs what is due at a second.
func (a *Agent) tick(ctx context.Context, counter int64) {
	for _, q := range a.due(ctx, counter) {
		if ctx.Err() != nil {
			return
		}
		a.execute(ctx, q)
	}
	if counter%60 == 0 {
		a.mu.Lock()
		interval := a.config.Decorators.Interval
		a.mu.Unlock()
		for _, seconds := range slices.Sorted(maps.Keys(interval)) {
			if counter%seconds == 0 {
				a.keepDecorations(a.runDecorators(ctx, interval[seconds]))
			}
		}
	}
}

// due returns the queries of active packs whose turn it is, after those that
// ask to run once when first seen.
func (a *Agent) due(ctx context.Context, counter int64) []Query {
	a.mu.Lock()
	packs := slices.Clone(a.packs)
	a.mu.Unlock()
	var startup, due []Query
	for _, p := range packs {
		if !p.Fits || !a.discovered(ctx, p) {
			continue
		}
		for _, q := range p.Queries {
			switch {
			case !p.seen && q.Startup >= 0:
				startup = append(startup, q)
			case counter%a.splayed(ctx, q) == 0:
				due = append(due, q)
			}
		}
		p.seen = true
	}
	slices.SortStableFunc(startup, func(x, y Query) int { return cmp.Compare(x.Startup, y.Startup) })
	return append(startup, due...)
}

// discovered reports whether all discovery queries of a pack return a row,
// asking at most every pack_refresh_interval.
func (a *Agent) discovered(ctx context.Context, p *activePack) bool {
	if len(p.Discovery) == 0 {
		return true
	}
	a.mu.Lock()
	d := p.discovery
	a.mu.Unlock()
	if !d.at.IsZero() && time.Since(d.at) < a.flags.Seconds("pack_refresh_interval") {
		d.hits++
	} else {
		d.at, d.active = time.Now(), true
		d.runs++
		for _, sql := range p.Discovery {
			rows, _, err := a.sql.Query(ctx, sql)
			if err != nil && ctx.Err() == nil {
				a.status(ctx, warning, fmt.Sprintf("Discovery query failed (%s): %s", sql, err))
			}
			if err != nil || len(rows) == 0 {
				d.active = false
				break
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p.discovery = d
	return d.active
}

// minSplayed is the interval from which on osquery varies intervals.
const minSplayed = 10

// splayed returns a query's interval with its variation, which is chosen once
// and kept, so that hosts with one schedule do not run it all at once.
func (a *Agent) splayed(ctx context.Context, q Query) int64 {
	percent := a.flags.Uint("schedule_splay_percent")
	if percent <= 1 {
		percent = 10
	}
	if percent > 100 || q.Interval < minSplayed {
		return q.Interval
	}
	key := fmt.Sprintf("%s:%d", q.Name, q.Interval)
	var kept int64
	a.db.view(func(s saved) { kept = s.Splay[key] })
	if kept > 0 {
		return kept
	}
	spread := q.Interval * int64(percent) / 100
	kept = max(1, q.Interval-spread+rand.Int64N(2*spread+1)) //nolint:gosec // no secret
	if err := a.db.update(func(s *saved) { s.Splay[key] = kept }); err != nil {
		a.log.ErrorContext(ctx, "cannot keep a query's varied interval", "query", q.Name, "error", err)
	}
	return kept
}

// execute runs one scheduled query and logs its results.
func (a *Agent) execute(ctx context.Context, q Query) {
	always := a.runDecorators(ctx, a.alwaysDecorators())
	result, used, err := a.measured(ctx, q.SQL)
	if err != nil {
		if ctx.Err() == nil {
			a.status(ctx, failure, fmt.Sprintf("Error executing scheduled query %s: %s", q.Name, err))
		}
		return
	}
	a.mu.Lock()
	r, ok := a.records[q.Name]
	a.mu.Unlock()
	if !ok {
		r = a.db.record(q.Name)
	}
	if r.SQL != q.SQL {
		if r.SQL != "" {
			a.status(ctx, info, "Scheduled query has been updated: "+q.Name)
		}
		r.SQL, r.Stats = q.SQL, stats{} // results go on as a difference
	}
	f := a.format()
	e := execution{
		name: q.Name, host: a.host, at: time.Now(), snapshot: q.Snapshot,
		epoch: int64(min(a.flags.Uint("schedule_epoch"), 1<<62)),
	}
	e.decorations = a.decorated(always)
	var lines [][]byte
	if q.Snapshot {
		for _, one := range result {
			e.snapshotResults = append(e.snapshotResults, f.rows(one, false)...)
		}
		lines = f.lines(e)
	} else {
		var rows [][]byte
		for _, one := range result {
			rows = append(rows, f.rows(one, true)...)
		}
		changed := r.difference(&e, rows)
		if !q.Removed {
			e.removed = nil
		}
		if changed && (len(e.added)+len(e.removed) > 0 || e.counter == 0 && !f.perRow) {
			lines = f.lines(e)
		}
	}
	for _, line := range lines {
		r.Stats.OutputSize += int64(len(line))
	}
	r.Stats.add(used, e.at)
	// Lines first: a crash in between repeats them, with the same counter.
	if !a.flags.Bool("disable_logging") && !a.buffer(ctx, a.results, lines...) {
		return // the next run finds the difference again
	}
	a.mu.Lock()
	a.records[q.Name] = r
	a.mu.Unlock()
	if err := a.db.keep(q.Name, r); err != nil {
		a.log.ErrorContext(ctx, "cannot keep a query's results", "query", q.Name, "error", err)
	}
}

// difference compares rows with those kept, fills in the execution and keeps
// the new ones. It reports whether there is something to log: the counter
// moves only with a difference, and the first run of an epoch has counter 0
// and all rows as added. In the one-line-per-execution format that first run
// is logged even without rows.
func (r *record) difference(e *execution, rows [][]byte) bool {
	first := !r.Ran || r.Epoch != e.epoch
	old := r.Rows
	if first {
		old, r.Counter = nil, 0
	}
	e.added, e.removed = multisetDiff(old, rows)
	changed := len(e.added)+len(e.removed) > 0
	if changed && !first {
		r.Counter++
	}
	r.Ran, r.Epoch = true, e.epoch
	e.counter = r.Counter
	r.Rows = make([]string, len(rows))
	for i, row := range rows {
		r.Rows[i] = string(row)
	}
	return changed || first
}

// multisetDiff returns what is in rows and not in old, and the other way
// round, counting equal rows.
func multisetDiff(old []string, rows [][]byte) (added, removed [][]byte) {
	counts := make(map[string]int, len(old))
	for _, row := range old {
		counts[row]++
	}
	for _, row := range rows {
		if counts[string(row)] > 0 {
			counts[string(row)]--
		} else {
			added = append(added, row)
		}
	}
	for _, row := range old {
		if counts[row] > 0 {
			counts[row]--
			removed = append(removed, []byte(row))
		}
	}
	return added, removed
}

func (a *Agent) alwaysDecorators() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config.Decorators.Always
}

// runDecorators returns the columns of each query's first row.
func (a *Agent) runDecorators(ctx context.Context, queries []string) map[string]string {
	m := map[string]string{}
	if a.flags.Bool("disable_decorators") {
		return m
	}
	for _, sql := range queries {
		rows, _, err := a.sql.Query(ctx, sql)
		if err != nil {
			a.log.WarnContext(ctx, "decorator failed", "sql", sql, "error", err)
			continue
		}
		if len(rows) > 0 {
			maps.Copy(m, rows[0].Map())
		}
	}
	return m
}

func (a *Agent) keepDecorations(m map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(a.decorations, m)
}

// decorateOnLoad begins anew with the decorators of a changed config.
func (a *Agent) decorateOnLoad(ctx context.Context) {
	a.mu.Lock()
	load := a.config.Decorators.Load
	a.decorations = map[string]string{}
	a.mu.Unlock()
	a.keepDecorations(a.runDecorators(ctx, load))
}

// decorated returns the decorations in force and more.
func (a *Agent) decorated(more ...map[string]string) map[string]string {
	if a.flags.Bool("disable_decorators") {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	m := maps.Clone(a.decorations)
	for _, o := range more {
		maps.Copy(m, o)
	}
	// What always runs decorates the lines after it too.
	a.decorations = maps.Clone(m)
	return m
}

// usage is what a query cost.
type usage struct{ wall, user, system, memory int64 } // ms and bytes

func (s *stats) add(u usage, at time.Time) {
	s.Executions++
	s.LastExecuted = at.Unix()
	s.WallMs, s.LastWallMs = s.WallMs+u.wall, u.wall
	s.UserMs, s.LastUserMs = s.UserMs+u.user, u.user
	s.SystemMs, s.LastSystemMs = s.SystemMs+u.system, u.system
	s.TotalMemory, s.LastMemory = s.TotalMemory+u.memory, u.memory
}

// measured runs all statements of a scheduled query and measures their cost.
// SQLite runs in this goroutine, so the thread's times are the query's.
func (a *Agent) measured(ctx context.Context, sql string) ([]*hostsql.Result, usage, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	user, system := threadTimes()
	resident, started := residentBytes(), time.Now()
	statements := hostsql.SplitStatements(sql)
	if len(statements) == 0 {
		statements = []string{sql} // for its error
	}
	var results []*hostsql.Result
	for _, statement := range statements {
		r, err := a.sql.Select(ctx, statement)
		if err != nil {
			return nil, usage{}, err
		}
		results = append(results, r)
	}
	u := usage{wall: time.Since(started).Milliseconds(), memory: max(0, residentBytes()-resident)}
	userAfter, systemAfter := threadTimes()
	u.user, u.system = (userAfter - user).Milliseconds(), (systemAfter - system).Milliseconds()
	return results, u, nil
}

// residentBytes is this process's resident size; 0 if unknown.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text)) // in pages: total, resident, …
	var pages int64
	if len(fields) < 2 {
		return 0
	}
	if _, err := fmt.Sscan(fields[1], &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
