package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Sender tells notifiers; see notify.Sender. Safe for concurrent use.
type Sender interface {
	// Send tells a notifier, and returns what it answered: bounded, and without
	// secrets. An error that is no *SendError, or not Refused, may pass. It returns
	// soon after ctx ends.
	Send(ctx context.Context, notifier string, m Message) (answer string, err error)
}

// CourierOptions are what a Courier needs. All but Observe are required.
type CourierOptions struct {
	Outbox   Outbox
	Silences SilenceStore
	Routes   Routes
	Sender   Sender
	// Raise takes alerts about notifiers that fail; see Service.Raise.
	Raise func(ctx context.Context, firings []Firing) error
	// Observe is called with each notification that arrived, or that failed.
	Observe func(n Notification, err error)
	Log     *slog.Logger
	Now     func() time.Time
}

// Courier tells notifiers what the outbox holds. Each has a worker of its own, so
// that one which fails or is slow keeps no other waiting. One Courier may run on
// an outbox.
type Courier struct {
	CourierOptions

	mu      sync.Mutex
	workers map[string]*worker
	changed chan struct{} // capacity 1
}

// NewCourier returns a Courier.
func NewCourier(o CourierOptions) *Courier {
	if o.Observe == nil {
		o.Observe = func(Notification, error) {}
	}
	return &Courier{CourierOptions: o, workers: map[string]*worker{}, changed: make(chan struct{}, 1)}
}

// Timing of deliveries.
const (
	sendTimeout  = 30 * time.Second
	lookEvery    = 30 * time.Second // for notifiers that came and went
	maxDue       = 200              // notifications of one look
	firstPause   = 2 * time.Second  // of a worker after a failure; it doubles
	longestPause = 5 * time.Minute
	firstRetry   = 15 * time.Second // of one message after a failure; it doubles
	longestRetry = 30 * time.Minute
	// maxRefused is how often a message is tried that the other side refuses: what
	// is wrong may be a token that somebody is mending.
	maxRefused = 5
	// failsAfter is how long a notifier fails before people are told by others.
	failsAfter = 5 * time.Minute
	maxError   = 512
)

// Changed tells that the notifiers may be others than before.
func (c *Courier) Changed() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Wake has notifiers' workers look into the outbox.
func (c *Courier) Wake(notifiers []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range notifiers {
		if w := c.workers[name]; w != nil {
			w.look()
		}
	}
}

// Run tells notifiers until ctx ends. A message that is on its way then is told
// again at the next start, unless it arrived.
func (c *Courier) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, w := range c.refresh(ctx) {
			running.Go(func() { w.run(w.ctx) })
		}
		c.abandon(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.changed:
		}
	}
}

// refresh stops the workers of notifiers that are gone, and returns new ones, which
// are to be run.
func (c *Courier) refresh(ctx context.Context) (fresh []*worker) {
	routes := c.Routes.Routes()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, w := range c.workers {
		if find(routes, name) == nil {
			w.stop()
			delete(c.workers, name)
			continue
		}
		w.look() // what it waits for may have changed
	}
	for _, r := range routes {
		if c.workers[r.Name] == nil {
			w := newWorker(ctx, c, r.Name)
			c.workers[r.Name] = w
			fresh = append(fresh, w)
		}
	}
	return fresh
}

// abandon gives up what waits for notifiers that are not there.
func (c *Courier) abandon(ctx context.Context) {
	known := []string{}
	for _, r := range c.Routes.Routes() {
		known = append(known, r.Name)
	}
	names, err := c.Outbox.AbandonNotifications(ctx, known, c.Now())
	if err != nil && ctx.Err() == nil {
		c.Log.WarnContext(ctx, "the outbox of alerts cannot be read; trying again", "error", err)
	}
	for _, name := range names {
		c.trouble(ctx, name, "there is no such notifier any more; what it was to be told is kept as dead letters")
	}
}

// trouble raises an alert about a notifier.
func (c *Courier) trouble(ctx context.Context, name, why string) {
	c.Log.ErrorContext(ctx, "a notifier fails", "notifier", name, "reason", why)
	c.raise(ctx, Firing{
		Rule: RuleNotifier, Key: name, Severity: string(High), Labels: map[string]string{"notifier": name},
		Title: "the notifier " + name + " fails", Text: why, Matched: c.Now(),
	})
}

func (c *Courier) raise(ctx context.Context, f Firing) {
	if err := c.Raise(ctx, []Firing{f}); err != nil && ctx.Err() == nil {
		c.Log.WarnContext(ctx, "an alert about a notifier could not be kept", "notifier", f.Key, "error", err)
	}
}

// Answer is what became of a test.
type Answer struct {
	Text string
	Took time.Duration
}

// Test sends a notifier a message that says that it is a test, at once and once.
// What the other side said is in the answer, or in the error, for people.
func (c *Courier) Test(ctx context.Context, name, by string) (Answer, error) {
	if find(c.Routes.Routes(), name) == nil {
		return Answer{}, errs.New(errs.NotFound, "there is no notifier %s; apply one first", Line(name, maxName))
	}
	now := c.Now()
	a := Alert{
		ID: "test", Rule: "muster:test", Key: "test", State: Open, Severity: Info, Count: 1, Episodes: 1, Current: true,
		Title: "test of the notifier " + name, Text: "This is a test that " + Line(by, maxName) + " asked for. Nothing is wrong, and nothing is to be done.",
		Labels: map[string]string{"notifier": name}, FirstAt: now, OpenedAt: now, LastAt: now,
	}
	m := Message{Notifier: name, Items: []Item{{Action: Opened, Alert: a}}, Test: true, SentAt: now}
	m.ID = messageID(fmt.Sprintf("%s test %d", name, now.UnixNano()), nil)
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	text, err := c.Sender.Send(ctx, name, m)
	answer := Answer{Text: text, Took: c.Now().Sub(now)}
	if err != nil {
		return answer, errs.Wrap(errs.Invalid, err, "the notifier could not be told: "+ErrorText(err))
	}
	return answer, nil
}

// ErrorText is what people may read of an error of a Sender.
func ErrorText(err error) string {
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return Line(e.Message, maxError)
	}
	return Line(err.Error(), maxError)
}

// worker tells one notifier.
type worker struct {
	c    *Courier
	name string
	ctx  context.Context //nolint:containedctx // ends when the notifier is gone
	stop context.CancelFunc
	wake chan struct{} // capacity 1

	// Of run alone.
	failures int       // in a row
	since    time.Time // of the first of them
	paused   time.Time // until when nothing is told
	why      string    // of the last of them
	told     bool      // people know that it fails
	fresh    bool      // nothing arrived since the start: people may know it from before
}

func newWorker(ctx context.Context, c *Courier, name string) *worker {
	ctx, cancel := context.WithCancel(ctx)
	return &worker{c: c, name: name, ctx: ctx, stop: cancel, wake: make(chan struct{}, 1), fresh: true}
}

func (w *worker) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, err := w.step(ctx)
		if err != nil && ctx.Err() == nil {
			w.c.Log.WarnContext(ctx, "the outbox of a notifier cannot be used; trying again", "notifier", w.name, "error", err)
			next = w.c.Now().Add(firstPause)
		}
		wait := lookEvery
		if !next.IsZero() {
			wait = max(0, next.Sub(w.c.Now()))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// step tells what is due, and returns when to look again; the zero time if nothing
// waits.
func (w *worker) step(ctx context.Context) (time.Time, error) {
	now := w.c.Now()
	route := find(w.c.Routes.Routes(), w.name)
	if route == nil {
		return time.Time{}, nil // it is stopped soon
	}
	if now.Before(w.paused) {
		return w.complain(ctx, now), nil
	}
	if w.failures > 0 {
		w.complain(ctx, now)
	}
	due, next, err := w.c.Outbox.DueNotifications(ctx, w.name, now, maxDue)
	if err != nil || len(due) == 0 {
		return next, err
	}
	list, err := w.c.Silences.Silences(ctx, now)
	if err != nil {
		return time.Time{}, err
	}
	silences := NewSilences(list)
	for _, group := range groups(due) {
		items, outcomes := sift(group, silences, now)
		for first := 0; first < len(items); first += maxItems {
			some := items[first:min(first+maxItems, len(items))]
			told := w.send(ctx, route, some, len(items)-first-len(some))
			if outcomes = append(outcomes, told...); w.c.Now().Before(w.paused) {
				break
			}
		}
		if err := w.c.Outbox.SettleNotifications(ctx, outcomes); err != nil {
			return time.Time{}, err
		}
		if w.c.Now().Before(w.paused) {
			return w.complain(ctx, w.c.Now()), nil
		}
	}
	return w.c.Now(), nil // there may be more
}

// complain tells people of a notifier that fails for long, and returns when to look
// at it again.
func (w *worker) complain(ctx context.Context, now time.Time) time.Time {
	at := w.since.Add(failsAfter)
	switch {
	case w.told:
	case now.Before(at):
		if at.Before(w.paused) {
			return at
		}
	default:
		w.told = true
		w.c.trouble(ctx, w.name, "Since "+w.since.UTC().Format(time.RFC3339)+": "+w.why)
	}
	return w.paused
}

// groups splits notifications by their group, in the order in which those begin.
func groups(due []Notification) [][]Notification {
	at := map[string]int{}
	var out [][]Notification
	for _, n := range due {
		i, ok := at[n.Group]
		if !ok {
			i = len(out)
			at[n.Group] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], n)
	}
	return out
}

// pack is what one item of a message stands for.
type pack struct {
	item Item
	rows []Notification
}

// sift decides which notifications of a group are told: what is silenced is held,
// what is over before anybody heard of it is not told at all.
func sift(group []Notification, silences Silences, now time.Time) (items []*pack, outcomes []Outcome) {
	at := map[string]int{}
	var byAlert [][]Notification
	for _, n := range group {
		i, ok := at[n.AlertID]
		if !ok {
			i = len(byAlert)
			at[n.AlertID] = i
			byAlert = append(byAlert, nil)
		}
		byAlert[i] = append(byAlert[i], n)
	}
	for _, rows := range byAlert {
		a, told := &rows[0].Alert, rows[0].Told
		silence := silences.Of(a, now)
		held := silence != nil
		for _, n := range rows {
			held = held || n.Silence != ""
		}
		var keep []Notification
		for _, n := range rows {
			switch {
			case a.State == Resolved && !told && held,
				n.Action == Reminded && a.State != Open:
				outcomes = append(outcomes, Outcome{Seq: n.Seq, At: now})
			case a.State != Resolved && silence != nil:
				outcomes = append(outcomes, Outcome{Seq: n.Seq, State: Waiting, At: now, Due: silence.ExpiresAt, Silence: silence.ID})
			default:
				keep = append(keep, n)
			}
		}
		if len(keep) > 0 {
			last := keep[len(keep)-1]
			items = append(items, &pack{Item{ID: last.Seq, Action: last.Action, Alert: *a, Columns: last.Columns}, keep})
		}
	}
	return items, outcomes
}

// send tells one message, and returns what became of its notifications.
func (w *worker) send(ctx context.Context, route *Route, packs []*pack, more int) []Outcome {
	m := Message{Notifier: w.name, More: more, SentAt: w.c.Now()}
	var rows []Notification
	for _, p := range packs {
		rows = append(rows, p.rows...)
		if !route.Single {
			m.Items = append(m.Items, p.item)
			continue
		}
		for _, n := range p.rows {
			m.Items = append(m.Items, Item{ID: n.Seq, Action: n.Action, Alert: n.Alert, Columns: n.Columns})
		}
	}
	m.ID = messageID(w.name, m.Items)
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	_, err := w.c.Sender.Send(sending, w.name, m)
	if err != nil && ctx.Err() != nil {
		return nil // the server stops: it is told again
	}
	now := w.c.Now()
	if err == nil {
		return w.delivered(ctx, route, rows, now)
	}
	return w.failed(ctx, route, rows, now, err)
}

func (w *worker) delivered(ctx context.Context, route *Route, rows []Notification, now time.Time) []Outcome {
	if w.told || w.fresh {
		w.c.raise(ctx, Firing{Rule: RuleNotifier, Key: w.name, Resolved: true, Matched: now})
	}
	w.failures, w.since, w.told, w.fresh, w.paused = 0, time.Time{}, false, false, time.Time{}
	outcomes := make([]Outcome, 0, len(rows))
	for _, n := range rows {
		o := Outcome{Seq: n.Seq, State: Delivered, At: now}
		if route.Repeat > 0 && n.Action.Rings() && n.Alert.State == Open {
			o.Remind = now.Add(route.Repeat)
		}
		n.Delivered = now
		w.c.Observe(n, nil)
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// failed has what was not told tried again later, or gives it up.
func (w *worker) failed(ctx context.Context, route *Route, rows []Notification, now time.Time, err error) []Outcome {
	var refused bool
	var after time.Duration
	if e, ok := errors.AsType[*SendError](err); ok {
		refused, after = e.Refused, e.After
	}
	if w.failures == 0 {
		w.since = now
	}
	w.failures++
	if !refused {
		w.paused = now.Add(max(min(after, longestPause), jitter(backoff(firstPause, longestPause, w.failures-1))))
	}
	text := ErrorText(err)
	dead := 0
	outcomes := make([]Outcome, 0, len(rows))
	for _, n := range rows {
		o := Outcome{Seq: n.Seq, State: Waiting, At: now, Error: text, Failed: true, Due: now.Add(jitter(backoff(firstRetry, longestRetry, n.Attempts)))}
		if refused && n.Attempts+1 >= maxRefused || !n.TriedAt.IsZero() && now.Sub(n.TriedAt) >= route.GiveUp {
			o.State = Dead
			dead++
		}
		w.c.Observe(n, err)
		outcomes = append(outcomes, o)
	}
	w.why = text
	w.c.Log.WarnContext(ctx, "a notifier was not told", "notifier", w.name, "error", text, "failures", w.failures, "given_up", dead)
	if dead > 0 {
		w.told = true
		w.c.trouble(ctx, w.name, fmt.Sprintf("%d notifications were given up, and are kept as dead letters: %s", dead, text))
	}
	return outcomes
}

// backoff doubles a pause n times, up to a limit.
func backoff(first, limit time.Duration, n int) time.Duration {
	const most = 16 // doublings, far above any limit
	return min(first<<min(n, most), limit)
}

// jitter spreads pauses by a fifth, so that what failed together is not tried
// together.
func jitter(d time.Duration) time.Duration {
	const part = 5
	return d - d/part/2 + rand.N(d/part+1) //nolint:gosec // no secret
}
