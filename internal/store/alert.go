package store

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
)

var _ alert.Store = (*Store)(nil)

// counterAlert numbers histories of alerts and notifications, and lets alerts
// change one after the other.
const counterAlert = "alert"

const noAlert = "there is no alert with that id"

const alertColumns = `a.id, a.rule, a.alert_key, a.is_current, a.state, a.severity, a.title, a.body, a.labels, a.node_id, a.host_identifier,
	a.query, a.notifiers, a.firings, a.episodes, a.entries, a.first_at, a.opened_at, a.last_at, a.resolved_at, a.resolve_at,
	a.acknowledged_by, a.acknowledged_at, a.resolved_by, a.assignee, a.event, a.event_at`

// scanAlert reads alertColumns, after those that dest are for.
func scanAlert(row scanner, dest ...any) (a alert.Alert, err error) {
	var labels, notifiers string
	var current, severity int
	var first, opened, last, resolved, resolve, acknowledged, event int64
	err = row.Scan(append(dest, &a.ID, &a.Rule, &a.Key, &current, &a.State, &severity, &a.Title, &a.Text, &labels, &a.NodeID, &a.HostIdentifier,
		&a.Query, &notifiers, &a.Count, &a.Episodes, &a.Entries, &first, &opened, &last, &resolved, &resolve,
		&a.AcknowledgedBy, &acknowledged, &a.ResolvedBy, &a.Assignee, &a.Event, &event)...)
	if err != nil {
		return a, err
	}
	a.Current, a.Severity = current == 1, alert.Severities()[severity]
	a.FirstAt, a.OpenedAt, a.LastAt, a.ResolvedAt, a.ResolveAt = moment(first), moment(opened), moment(last), moment(resolved), moment(resolve)
	a.AcknowledgedAt, a.EventAt = moment(acknowledged), moment(event)
	if err := json.Unmarshal([]byte(labels), &a.Labels); err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(notifiers), &a.Notifiers)
}

// ChangeAlerts implements [alert.Store].
func (s *Store) ChangeAlerts(ctx context.Context, w alert.Wanted, decide func(*alert.Current) (*alert.Change, error)) error {
	return fail("change alerts", s.tx(ctx, func(t *tx) error {
		// From here on no other changes alerts until this is done.
		if _, err := t.next(ctx, counterAlert, 0); err != nil {
			return err
		}
		current, err := t.alerts(ctx, w)
		if err != nil {
			return err
		}
		change, err := decide(current)
		if err != nil {
			return err
		}
		return t.changeAlerts(ctx, change)
	}))
}

// alerts reads what a change looks at.
func (t *tx) alerts(ctx context.Context, w alert.Wanted) (*alert.Current, error) {
	c := &alert.Current{Alerts: map[alert.Key]*alert.Alert{}, ByID: map[string]*alert.Alert{}, Floods: map[string]*alert.Flood{}}
	one := func(row scanner) (alert.Alert, error) { return scanAlert(row) }
	if len(w.Keys) > 0 {
		pairs := make([][2]string, 0, len(w.Keys))
		for _, k := range w.Keys {
			pairs = append(pairs, [2]string{text(k.Rule), text(k.Key)})
		}
		keys, err := document(pairs)
		if err != nil {
			return nil, err
		}
		list, err := all(ctx, t, one, `SELECT `+alertColumns+` FROM `+t.dialect.bulk(1, "rule text", "alert_key text")+`
			JOIN alert a ON a.rule = t.rule AND a.alert_key = t.alert_key AND a.is_current = 1`, keys)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			c.Alerts[alert.Key{Rule: a.Rule, Key: a.Key}] = &a
		}
	}
	for _, id := range w.IDs {
		list, err := all(ctx, t, one, `SELECT `+alertColumns+` FROM alert a WHERE a.id = $1`, text(id))
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			c.ByID[a.ID] = &a
		}
	}
	for _, rule := range w.Rules {
		list, err := all(ctx, t, scanFlood, `SELECT rule, since, opened, suppressed, event, event_at FROM alert_flood WHERE rule = $1`, text(rule))
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			c.Floods[f.Rule] = &f
		}
	}
	return c, nil
}

func scanFlood(row scanner) (f alert.Flood, err error) {
	var since, event int64
	err = row.Scan(&f.Rule, &since, &f.Opened, &f.Suppressed, &f.Event, &event)
	f.Since, f.EventAt = moment(since), moment(event)
	return f, err
}

// changeAlerts keeps a change.
func (t *tx) changeAlerts(ctx context.Context, c *alert.Change) error {
	for _, a := range c.Alerts {
		if err := t.keepAlert(ctx, a); err != nil {
			return err
		}
	}
	if err := t.keepSamples(ctx, c.Samples); err != nil {
		return err
	}
	seq, err := t.next(ctx, counterAlert, len(c.Entries)+len(c.Notifications))
	if err != nil {
		return err
	}
	seq -= int64(len(c.Entries) + len(c.Notifications))
	for _, e := range c.Entries {
		seq++
		if _, err := t.exec(ctx, `INSERT INTO alert_entry (seq, alert_id, at, actor, action, detail) VALUES ($1, $2, $3, $4, $5, $6)`,
			seq, e.AlertID, micros(e.At), text(e.Actor), string(e.Action), text(e.Detail)); err != nil {
			return err
		}
	}
	for _, n := range c.Notifications {
		seq++
		if err := t.keepNotification(ctx, seq, n); err != nil {
			return err
		}
	}
	for _, f := range c.Floods {
		if _, err := t.exec(ctx, `
			INSERT INTO alert_flood (rule, since, opened, suppressed, event, event_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (rule) DO UPDATE SET since = excluded.since, opened = excluded.opened, suppressed = excluded.suppressed,
				event = excluded.event, event_at = excluded.event_at`,
			text(f.Rule), micros(f.Since), f.Opened, f.Suppressed, text(f.Event), micros(f.EventAt)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) keepAlert(ctx context.Context, a *alert.Alert) error {
	labels, err := document(a.Labels)
	if err != nil {
		return err
	}
	notifiers, err := document(a.Notifiers)
	if err != nil {
		return err
	}
	current := 0
	if a.Current {
		current = 1
	}
	_, err = t.exec(ctx, `
		INSERT INTO alert (id, rule, alert_key, is_current, state, severity, title, body, labels, node_id, host_identifier, query, notifiers,
			firings, episodes, entries, first_at, opened_at, last_at, resolved_at, resolve_at, acknowledged_by, acknowledged_at, resolved_by,
			assignee, event, event_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
		ON CONFLICT (id) DO UPDATE SET is_current = excluded.is_current, state = excluded.state, severity = excluded.severity,
			title = excluded.title, body = excluded.body, labels = excluded.labels, node_id = excluded.node_id,
			host_identifier = excluded.host_identifier, query = excluded.query, notifiers = excluded.notifiers, firings = excluded.firings,
			episodes = excluded.episodes, entries = excluded.entries, opened_at = excluded.opened_at, last_at = excluded.last_at,
			resolved_at = excluded.resolved_at, resolve_at = excluded.resolve_at, acknowledged_by = excluded.acknowledged_by,
			acknowledged_at = excluded.acknowledged_at, resolved_by = excluded.resolved_by, assignee = excluded.assignee,
			event = excluded.event, event_at = excluded.event_at`,
		a.ID, text(a.Rule), text(a.Key), current, string(a.State), a.Severity.Rank(), text(a.Title), text(a.Text), text(labels), text(a.NodeID),
		text(a.HostIdentifier), text(a.Query), text(notifiers), a.Count, a.Episodes, a.Entries, micros(a.FirstAt), micros(a.OpenedAt), micros(a.LastAt),
		micros(a.ResolvedAt), micros(a.ResolveAt), text(a.AcknowledgedBy), micros(a.AcknowledgedAt), text(a.ResolvedBy), text(a.Assignee),
		text(a.Event), micros(a.EventAt))
	return err
}

// keepSamples keeps the newest of each alert.
func (t *tx) keepSamples(ctx context.Context, samples []alert.SampleOf) error {
	type place struct {
		id   string
		slot int64
	}
	kept := map[place]bool{}
	for _, s := range slices.Backward(samples) { // later ones overwrite earlier ones
		p := place{s.AlertID, s.Number % alert.MaxSamples}
		if kept[p] {
			continue
		}
		kept[p] = true
		if _, err := t.exec(ctx, `
			INSERT INTO alert_sample (alert_id, slot, number, at, event, event_time, title, columns) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (alert_id, slot) DO UPDATE SET number = excluded.number, at = excluded.at, event = excluded.event,
				event_time = excluded.event_time, title = excluded.title, columns = excluded.columns`,
			p.id, p.slot, s.Number, micros(s.At), text(s.Event), micros(s.EventTime), text(s.Title), text(string(s.Columns))); err != nil {
			return err
		}
	}
	return nil
}

// DueAlerts implements [alert.Store].
func (s *Store) DueAlerts(ctx context.Context, now time.Time, limit int) ([]string, error) {
	list, err := all(ctx, s.read, scanText, `SELECT id FROM alert WHERE resolve_at > 0 AND resolve_at <= $1 ORDER BY resolve_at LIMIT $2`, micros(now), limit)
	return list, fail("look for alerts that are over", err)
}

// pruneAlerts bounds one step of pruning, which keeps other writers waiting.
const pruneAlerts = 200

// PruneAlerts implements [alert.Store].
func (s *Store) PruneAlerts(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.tx(ctx, func(t *tx) error {
		ids, err := all(ctx, t, scanText, `SELECT id FROM alert WHERE resolved_at > 0 AND resolved_at < $1 ORDER BY resolved_at LIMIT $2`, micros(before), pruneAlerts)
		if err != nil {
			return err
		}
		for _, id := range ids {
			for _, statement := range []string{
				`DELETE FROM alert_sample WHERE alert_id = $1`, `DELETE FROM alert_entry WHERE alert_id = $1`,
				`DELETE FROM notification WHERE alert_id = $1`, `DELETE FROM alert WHERE id = $1`,
			} {
				if _, err := t.exec(ctx, statement, id); err != nil {
					return err
				}
			}
		}
		n, err := t.exec(ctx, `DELETE FROM notification WHERE seq IN (
			SELECT seq FROM notification WHERE state = 'delivered' AND delivered_at < $1 ORDER BY delivered_at LIMIT $2)`, micros(before), pruneAlerts)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM silence WHERE expires_at < $1`, micros(before)); err != nil {
			return err
		}
		more = len(ids) == pruneAlerts || n == pruneAlerts
		return nil
	})
	return more, fail("drop old alerts", err)
}

// Alert returns an alert; NotFound without one.
func (s *Store) Alert(ctx context.Context, id string) (alert.Alert, error) {
	a, err := scanAlert(s.read.QueryRowContext(ctx, `SELECT `+alertColumns+` FROM alert a WHERE a.id = $1`, text(id)))
	return a, fail("read alert", missing(err, noAlert))
}

// AlertSamples returns an alert's newest firings, the newest first.
func (s *Store) AlertSamples(ctx context.Context, id string) ([]alert.Sample, error) {
	list, err := all(ctx, s.read, func(row scanner) (v alert.Sample, err error) {
		var at, event int64
		var columns string
		err = row.Scan(&v.Number, &at, &v.Event, &event, &v.Title, &columns)
		v.At, v.EventTime = moment(at), moment(event)
		if columns != "" {
			v.Columns = json.RawMessage(columns)
		}
		return v, err
	}, `SELECT number, at, event, event_time, title, columns FROM alert_sample WHERE alert_id = $1 ORDER BY number DESC`, text(id))
	return list, fail("read an alert's firings", err)
}

func scanEntry(row scanner) (e alert.Entry, err error) {
	var at int64
	err = row.Scan(&e.Seq, &e.AlertID, &at, &e.Actor, &e.Action, &e.Detail)
	e.At = moment(at)
	return e, err
}

const entryColumns = `SELECT seq, alert_id, at, actor, action, detail FROM alert_entry `

// AlertHistory returns what happened to an alert, the first first.
func (s *Store) AlertHistory(ctx context.Context, id string) ([]alert.Entry, error) {
	list, err := all(ctx, s.read, scanEntry, entryColumns+`WHERE alert_id = $1 ORDER BY seq`, text(id))
	return list, fail("read an alert's history", err)
}

// AlertEntries returns what happened to any alert after an entry, in order.
func (s *Store) AlertEntries(ctx context.Context, after int64, limit int) ([]alert.Entry, error) {
	list, err := all(ctx, s.read, scanEntry, entryColumns+`WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	return list, fail("read what happened to alerts", err)
}

// LastAlertEntry returns the number of the newest entry; 0 without one.
func (s *Store) LastAlertEntry(ctx context.Context) (seq int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT COALESCE(max(seq), 0) FROM alert_entry`).Scan(&seq)
	return seq, fail("read what happened to alerts", err)
}

// AlertCounts returns how many alerts are in each state, and of those that are open
// how many of each severity.
func (s *Store) AlertCounts(ctx context.Context, nodes []string) (alert.Counts, error) {
	c := alert.Counts{States: map[alert.State]int{}, Open: map[alert.Severity]int{}}
	type count struct {
		state    alert.State
		severity int
		n        int
	}
	w := &where{}
	w.add(`state IN ('open', 'acknowledged')`)
	if err := w.among(s.dialect, `node_id`, nodes); err != nil {
		return c, fail("count alerts", err)
	}
	list, err := all(ctx, s.read, func(row scanner) (v count, err error) {
		return v, row.Scan(&v.state, &v.severity, &v.n)
	}, `SELECT state, severity, count(*) FROM alert WHERE `+w.String()+` GROUP BY state, severity`, w.args...)
	for _, v := range list {
		c.States[v.state] += v.n
		if v.state == alert.Open {
			c.Open[alert.Severities()[v.severity]] += v.n
		}
	}
	return c, fail("count alerts", err)
}

// alertCursor is where a page of alerts ended.
type alertCursor struct {
	Opened int64  `json:"o"`
	ID     string `json:"i"`
}

// Alerts returns a page of alerts, those that were opened last first, and the
// cursor of the next page, "" on the last.
func (s *Store) Alerts(ctx context.Context, f alert.Filter) (list []alert.Alert, next string, err error) {
	w := &where{}
	w.add(`1 = 1`)
	if f.Cursor != "" {
		var c alertCursor
		if err := openCursor(f.Cursor, &c); err != nil {
			return nil, "", err
		}
		w.add(`(a.opened_at, a.id) < (?, ?)`, c.Opened, text(c.ID))
	}
	for _, c := range []struct{ condition, value string }{
		{`a.state = ?`, string(f.State)}, {`a.rule = ?`, f.Rule}, {`a.node_id <> '' AND a.node_id = ?`, f.NodeID}, {`a.assignee = ?`, f.Assignee},
	} {
		if c.value != "" {
			w.add(c.condition, text(c.value))
		}
	}
	if err := w.among(s.dialect, `a.node_id`, f.Nodes); err != nil {
		return nil, "", fail("list alerts", err)
	}
	if f.Unresolved {
		w.add(`a.state IN ('open', 'acknowledged')`)
	}
	if f.MinSeverity != "" {
		w.add(`a.severity >= ?`, f.MinSeverity.Rank())
	}
	if f.Text != "" {
		if len(f.Text) > maxSearch {
			return nil, "", errs.Field("text", "is longer than %d bytes", maxSearch)
		}
		part := "%" + likeEscaper().Replace(strings.ToLower(text(f.Text))) + "%"
		w.add(`(lower(a.title) LIKE ? ESCAPE '!' OR lower(a.host_identifier) LIKE ? ESCAPE '!' OR lower(a.alert_key) LIKE ? ESCAPE '!')`, part, part, part)
	}
	limit := limited(f.Limit)
	w.args = append(w.args, limit+1)
	list, err = all(ctx, s.read, func(row scanner) (alert.Alert, error) { return scanAlert(row) },
		`SELECT `+alertColumns+` FROM alert a WHERE `+w.String()+` ORDER BY a.opened_at DESC, a.id DESC LIMIT `+w.last(), w.args...)
	if err != nil {
		return nil, "", fail("list alerts", err)
	}
	if len(list) > limit {
		list = list[:limit]
		last := list[limit-1]
		next, err = sealCursor(alertCursor{micros(last.OpenedAt), last.ID})
	}
	return list, next, fail("list alerts", err)
}
