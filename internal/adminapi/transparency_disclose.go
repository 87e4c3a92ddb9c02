package adminapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/transparency"
)

// discloser gathers what one node's owner may see.
type discloser struct {
	*API

	node     node.Node
	identity *node.Identity
	redactor *redact.Redactor
}

// disclose gathers what the owner of a node may see. NotFound if it is gone.
func (a *API) disclose(ctx context.Context, l transparency.Link) (transparency.Disclosure, error) {
	n, err := a.Nodes.FindNode(ctx, l.NodeID)
	if err != nil {
		return transparency.Disclosure{}, err
	}
	if !n.GoneAt.IsZero() {
		return transparency.Disclosure{}, errLink()
	}
	key := node.NewKeyer([]byte(ident.Secret())) // ids of secrets in texts are of no use to their reader
	d := discloser{API: a, node: n, identity: a.Registry.Lookup(n.ID), redactor: a.Redactor.Preview(func(secret string) [sha256.Size]byte {
		return key.Hash(node.PurposeRedaction, secret)
	})}
	if d.identity == nil {
		d.identity = node.IdentityOf(n) // another server enrolled it just now
	}
	out := transparency.Disclosure{
		Hostname: cmp.Or(n.Hostname, n.HostIdentifier), HostIdentifier: n.HostIdentifier, Platform: n.Platform, EnrolledAt: at(n.EnrolledAt),
		MadeAt: a.Now().UTC(), ExpiresAt: l.Expires, Kept: list(a.Kept),
	}
	if out.Collected, err = d.collected(); err != nil {
		return out, err
	}
	if out.Asked, err = d.asked(ctx); err != nil {
		return out, err
	}
	if out.Fetched, err = d.fetched(ctx); err != nil {
		return out, err
	}
	if out.Changes, err = d.changes(ctx); err != nil {
		return out, err
	}
	if out.Tags, err = d.tags(ctx); err != nil {
		return out, err
	}
	newest := a.Catalog.Plan().Newest() // rules, redaction and sinks hold at once, for all nodes
	out.Rules, out.Redaction, out.Sinks = d.rules(newest), takenOut(newest.Set().Redaction()), d.sinks(newest)
	return out, nil
}

// text is a text that people or programs wrote, without secrets that it may hold.
func (d discloser) text(s string) string {
	clean, _ := d.redactor.ExplainText(redact.Source{}, "", s)
	return transparency.Cut(clean)
}

func (d discloser) texts(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list[:min(len(list), transparency.MaxOthers)] {
		out = append(out, d.text(s))
	}
	return out
}

// servedConfig is a config as agents read it.
type servedConfig struct {
	policy.Config

	Packs map[string]resource.Pack `json:"packs"`
}

// config returns what the node is to run, and why it is not what others run.
func (d discloser) config() (c *resource.Config, note string, err error) {
	plan, snapshot := d.Catalog.Plan(), d.Catalog.Snapshot(d.identity)
	c = d.Catalog.Expected(d.identity)
	switch {
	case d.identity.Quarantined:
		return c, "The machine is under quarantine: it is given nothing to run.", nil
	case plan.Safe != nil && plan.Safe(d.identity):
		return c, "Because of an emergency the machine is given nothing to run.", nil
	}
	files, err := snapshot.Files(d.identity)
	if files != nil {
		return files, "The machine takes what it runs from its own files. This is what those should hold; Muster cannot see what they do hold.", err
	}
	return c, "", err
}

func (d discloser) collected() (transparency.Collected, error) {
	c, note, err := d.config()
	if err != nil {
		return transparency.Collected{}, err
	}
	var served servedConfig
	if err := json.Unmarshal(c.JSON, &served); err != nil {
		return transparency.Collected{}, fmt.Errorf("read a node's config: %w", err)
	}
	out := transparency.Collected{Revision: c.Revision, Note: note}
	var more [2]bool
	if out.Queries, more[0], err = d.queries(served.Packs); err != nil {
		return out, err
	}
	out.Files, more[1] = d.files(served.Config)
	out.Decorators, out.Databases, out.Views = d.decorators(served.Decorators), []transparency.ForeignDatabase{}, []transparency.NamedView{}
	for name, t := range sorted(served.AutoTables) {
		out.Databases = append(out.Databases, transparency.ForeignDatabase{Table: name, Path: t.Path, SQL: d.text(t.Query)})
	}
	for name, sql := range sorted(served.Views) {
		out.Views = append(out.Views, transparency.NamedView{Name: name, SQL: d.text(sql)})
	}
	out.More = more[0] || more[1] || cut(&out.Decorators) || cut(&out.Databases) || cut(&out.Views)
	return out, nil
}

// sorted goes through a map by its keys.
func sorted[V any](m map[string]V) func(func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// cut bounds a list that has no bound of its own, and reports whether it was longer.
func cut[T any](s *[]T) bool {
	if len(*s) <= transparency.MaxOthers {
		return false
	}
	*s = (*s)[:transparency.MaxOthers]
	return true
}

func (d discloser) queries(packs map[string]resource.Pack) (out []transparency.ScheduledQuery, more bool, err error) {
	tierOf, err := d.tiers.of(d.API)
	if err != nil {
		return nil, false, err
	}
	out = []transparency.ScheduledQuery{}
	set := d.Catalog.Snapshot(d.identity).Set()
	for pack, p := range sorted(packs) {
		object, _ := set.Get(resource.Key{Kind: "Pack", Name: pack})
		whole, ok := object.Spec.(*resource.Pack) // with what is for people, which agents do not get
		if !ok {
			whole = &p
		}
		for name, q := range sorted(p.Queries) {
			if len(out) == transparency.MaxQueries {
				return out, true, nil
			}
			tier := tierOf(resource.AgentName(pack, name))
			out = append(out, transparency.ScheduledQuery{
				Pack: pack, PackDescription: d.text(object.Description), Name: name, Description: d.text(whole.Queries[name].Description),
				SQL: d.text(q.Query), IntervalSeconds: q.Interval, Tier: int(tier), Means: transparency.Means(tier),
				Only: only(p, q), Discovery: d.texts(p.Discovery),
			})
		}
	}
	return out, false, nil
}

// only says when a machine leaves a query out, by the keys of osquery.
func only(p resource.Pack, q resource.Query) string {
	var parts []string
	for _, platform := range []string{p.Platform, q.Platform} {
		if platform != "" {
			parts = append(parts, "Only on "+transparency.Platforms(platform)+".")
		}
	}
	for _, version := range []string{p.Version, q.Version} {
		if version != "" {
			parts = append(parts, "Only with osquery "+version+" or later.")
		}
	}
	for _, shard := range []int{p.Shard, q.Shard} {
		if shard > 0 {
			parts = append(parts, fmt.Sprintf("Only on %d of 100 machines.", shard))
		}
	}
	return strings.Join(parts, " ")
}

// files lists what is watched, up to a number of paths in all.
func (d discloser) files(c policy.Config) (out []transparency.WatchedFiles, more bool) {
	categories := map[string]bool{}
	for name := range c.FilePaths {
		categories[name] = true
	}
	for name := range c.FilePathsQuery {
		categories[name] = true
	}
	out, left := []transparency.WatchedFiles{}, transparency.MaxPaths
	take := func(paths []string) []string {
		taken := paths[:min(len(paths), left)]
		left -= len(taken)
		more = more || len(taken) < len(paths)
		return list(taken)
	}
	for name := range sorted(categories) {
		if left == 0 {
			return out, true
		}
		_, scans := c.Yara.FilePaths[name]
		out = append(out, transparency.WatchedFiles{
			Category: name, Paths: take(c.FilePaths[name]), Excluded: take(c.ExcludePaths[name]), Query: d.texts(c.FilePathsQuery[name]),
			Reads: slices.Contains(c.FileAccesses, name), Scans: scans,
		})
	}
	return out, more
}

func (d discloser) decorators(c policy.Decorators) []transparency.AddedFact {
	out := []transparency.AddedFact{}
	add := func(when string, texts []string) {
		for _, sql := range texts {
			out = append(out, transparency.AddedFact{SQL: d.text(sql), When: when})
		}
	}
	add("When the machine is given something else to run", c.Load)
	add("With every question", c.Always)
	for seconds, texts := range sorted(c.Interval) {
		when := "Every " + seconds + " seconds"
		if span, err := time.ParseDuration(seconds + "s"); err == nil {
			when = transparency.Every(span)
		}
		add(when, texts)
	}
	return out
}

// askedMax is how far back the questions are read that a node was meant by, sent or
// not.
const askedMax = 1000

// asked lists the questions that the node took. Those that wait for somebody's
// consent, or for the node, were not asked yet; those for files are told of as such.
func (d discloser) asked(ctx context.Context) (transparency.Asked, error) {
	out := transparency.Asked{Questions: []transparency.Question{}}
	asked, err := d.LiveList.LiveOf(ctx, d.node.ID, askedMax)
	if err != nil {
		return out, err
	}
	out.More = len(asked) == askedMax
	for _, q := range asked {
		if !taken(q) || q.Kind == live.Carve {
			continue
		}
		if len(out.Questions) == transparency.MaxAsked {
			out.More = true
			break
		}
		tier := policy.Tier(q.Tier) //nolint:gosec // 0 to 3
		question := transparency.Question{
			Time: cmp.Or(q.SentAt, q.CreatedAt).UTC(), SQL: d.text(q.SQL), By: q.CreatedBy, Kind: string(q.Kind), Why: transparency.Why(string(q.Kind), q.Source),
			Reason: d.text(q.Reason), Tier: q.Tier, Means: transparency.Means(tier), State: string(q.State), Outcome: transparency.Outcome(string(q.State)),
		}
		if q.Approval.Needed {
			question.Approved = q.Approval.By
		}
		out.Questions = append(out.Questions, question)
	}
	slices.SortStableFunc(out.Questions, func(a, b transparency.Question) int { return b.Time.Compare(a.Time) })
	return out, nil
}

// taken reports whether the node took a question; when it did may be kept later than
// its answer.
func taken(q live.Asked) bool {
	never := q.State == live.Waiting || q.State == live.Expired || q.State == live.Halted
	return !never || !q.SentAt.IsZero()
}

func (d discloser) fetched(ctx context.Context) (transparency.Fetched, error) {
	out := transparency.Fetched{Carves: []transparency.FileRequest{}}
	carves, next, err := d.CarveList.Carves(ctx, carve.Filter{NodeID: d.node.ID, Limit: transparency.MaxFetched})
	if err != nil {
		return out, err
	}
	out.More = next != ""
	for _, c := range carves {
		if now, ok := d.Carves.Current(c.ID); ok {
			c = now
		}
		if c.State == carve.Asked {
			continue // the node has not heard of it
		}
		out.Carves = append(out.Carves, transparency.FileRequest{
			Time: c.CreatedAt.UTC(), Paths: list(c.Paths), By: c.CreatedBy, Reason: d.text(c.Reason),
			State: string(c.State), Outcome: transparency.Fate(string(c.State)), KeptUntil: at(c.KeptUntil),
		})
	}
	return out, nil
}

func (d discloser) changes(ctx context.Context) (transparency.ChangeHistory, error) {
	out := transparency.ChangeHistory{Served: []transparency.ServedRevision{}}
	served, err := d.ChangeStore.ServedTo(ctx, d.node.ID, transparency.MaxChanges+1)
	if err != nil {
		return out, err
	}
	if out.More = len(served) > transparency.MaxChanges; out.More {
		served = served[:transparency.MaxChanges]
	}
	known := map[int64]transparency.ServedRevision{}
	for _, s := range served {
		r, ok := known[s.Revision]
		if !ok {
			if r, err = d.revision(ctx, s.Revision); err != nil {
				return out, err
			}
			known[s.Revision] = r
		}
		r.From, r.Until = s.First.UTC(), at(s.Last)
		out.Served = append(out.Served, r)
	}
	return out, nil
}

// revision says who made a revision and who agreed; nothing of one that is not known.
// What it was made for is left out: that text may be about other nodes.
func (d discloser) revision(ctx context.Context, number int64) (transparency.ServedRevision, error) {
	out := transparency.ServedRevision{Revision: number, Approved: []string{}}
	r, err := d.ChangeStore.Revision(ctx, number)
	if errs.Is(err, errs.NotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.MadeAt, out.Author = at(r.CreatedAt), r.Author
	if r.ChangeID == "" {
		return out, nil
	}
	var c change.Change
	if c, err = d.ChangeStore.Change(ctx, r.ChangeID); err != nil {
		return out, err
	}
	for _, p := range c.Approvals {
		out.Approved = append(out.Approved, p.By)
	}
	return out, nil
}

func (d discloser) tags(ctx context.Context) ([]transparency.GivenTag, error) {
	spans, err := d.Nodes.TagHistory(ctx, d.node.ID)
	if err != nil {
		return nil, err
	}
	out := []transparency.GivenTag{}
	for _, s := range spans {
		if s.Until.IsZero() {
			out = append(out, transparency.GivenTag{Tag: s.Tag, From: transparency.TagFrom(s.Source), Since: s.Since.UTC()})
		}
	}
	cut(&out)
	return out, nil
}

func (d discloser) rules(s *resource.Snapshot) []transparency.WatchingRule {
	out := []transparency.WatchingRule{}
	for _, r := range s.EventRules() {
		if len(out) < transparency.MaxRules && r.On() && r.Means(d.identity) {
			out = append(out, transparency.WatchingRule{Name: r.Name, Description: d.text(r.Description), Severity: r.Severity, Does: does(r)})
		}
	}
	return out
}

// does says what follows from a rule.
func does(r *resource.RulePlan) string {
	if r.Shadow {
		return "It is tried out: what fits is counted, and nothing follows."
	}
	var parts []string
	if r.Alerts() {
		parts = append(parts, "People are told.")
	}
	if r.Actions.Query != nil {
		parts = append(parts, "The machine is asked another question.")
	}
	if len(r.Actions.Tag) > 0 {
		parts = append(parts, "The machine gets the tags "+strings.Join(r.Actions.Tag, ", ")+".")
	}
	if len(r.Actions.Untag) > 0 {
		parts = append(parts, "The machine loses the tags "+strings.Join(r.Actions.Untag, ", ")+".")
	}
	return strings.Join(parts, " ")
}

func takenOut(r redact.Rules) transparency.TakenOut {
	out := transparency.TakenOut{Off: list(r.Off), Columns: []transparency.ColumnRule{}}
	for _, d := range r.Detectors {
		out.Kinds = append(out.Kinds, d.Kind)
	}
	out.Kinds = append(out.Kinds, redact.Kinds()...)
	slices.Sort(out.Kinds)
	out.Kinds = slices.DeleteFunc(slices.Compact(out.Kinds), func(k string) bool { return slices.Contains(r.Off, k) })
	for _, c := range r.Columns {
		of := []string{}
		for _, part := range []struct{ word, pattern string }{{"table", c.Table}, {"query", c.Query}, {"column", c.Column}} {
			if part.pattern != "" {
				of = append(of, part.word+" "+part.pattern)
			}
		}
		out.Columns = append(out.Columns, transparency.ColumnRule{Of: strings.Join(of, ", "), Does: transparency.Treatment(string(c.Action))})
	}
	cut(&out.Columns)
	return out
}

// sinks lists where the node's events go, and who is told of alerts, by name and
// sort alone.
func (d discloser) sinks(s *resource.Snapshot) []transparency.Destination {
	out := []transparency.Destination{}
	for _, p := range s.Sinks() {
		if p.Means(d.identity) {
			out = append(out, transparency.Destination{Name: p.Name, Type: p.Spec.Way(), Gets: gets(p.Spec)})
		}
	}
	for _, p := range s.Notifiers() {
		out = append(out, transparency.Destination{Name: p.Route.Name, Type: p.Way, Gets: "alerts, which may quote what was found"})
	}
	cut(&out)
	return out
}

// gets says which events a sink gets.
func gets(s *resource.Sink) string {
	of := "what all questions of the schedule and others find, and the agent's own log"
	if len(s.Queries) > 0 {
		of = "of: " + strings.Join(s.Queries, ", ")
	}
	if len(s.Actions) > 0 || s.Severity != "" || s.Where != "" {
		of += "; not all of it"
	}
	return of
}
