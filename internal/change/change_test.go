package change_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/store"
)

// world is a server's half of changes, on a real store.
type world struct {
	*testing.T

	store     *store.Store
	audit     *recorder
	freezer   *change.Freezer
	publisher *change.Publisher
	service   *change.Service
	nodes     nodes
	costs     costs
	now       time.Time
	outside   *outside
}

// nodes are known ones.
type nodes []*node.Identity

func (n nodes) All(yield func(*node.Identity) bool) {
	for _, i := range n {
		if !yield(i) {
			return
		}
	}
}

// costs are evidence by the name on agents.
type costs map[string]rollout.Cost

func (c costs) Cost(name, _ string) (rollout.Cost, bool) {
	v, ok := c[name]
	return v, ok
}

// outside is a system that freezes.
type outside struct{ reason string }

func (o *outside) Frozen() (string, bool) { return o.reason, o.reason != "" }

// recorder is the real audit log, which can be made to fail.
type recorder struct {
	*audit.Log

	broken error
	before func(action string) // nil for nothing
}

func (r *recorder) Record(ctx context.Context, actor, action, target string, detail any) error {
	if r.broken != nil {
		return r.broken
	}
	if r.before != nil {
		r.before(action)
	}
	return r.Log.Record(ctx, actor, action, target, detail)
}

func (r *recorder) Refused(ctx context.Context, actor, action, target, reason string, detail any) error {
	if r.broken != nil {
		return r.broken
	}
	return r.Log.Refused(ctx, actor, action, target, reason, detail)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), costs: costs{}, outside: &outside{}}
	log := slog.New(slog.DiscardHandler)
	clock := func() time.Time { return w.now }
	s, err := store.Open(t.Context(), store.Options{URL: filepath.Join(t.TempDir(), "state.db"), Log: log, Now: clock})
	w.ok(err)
	t.Cleanup(func() { _ = s.Close() })
	w.store, w.audit = s, &recorder{Log: audit.NewLog(s, clock)}
	for _, name := range []string{"a", "b", "db-1", "db-2", "web-1"} {
		w.nodes = append(w.nodes, node.IdentityOf(node.Node{ID: name, Hostname: name, Platform: "linux"}))
	}
	engine, err := policy.New(policy.Rules{})
	w.ok(err)
	t.Cleanup(func() { _ = engine.Close() })
	w.freezer, w.publisher = w.server()
	w.service = change.NewService(change.Options{
		Store: s, Engine: engine, Nodes: &w.nodes, Pricer: w.costs, Freezer: w.freezer, Publisher: w.publisher, Audit: w.audit, Now: clock,
		People: func(context.Context) (int, error) { return 4, nil },
	})
	return w
}

// server makes what one server has of its own on the store.
func (w *world) server() (*change.Freezer, *change.Publisher) {
	w.Helper()
	clock := func() time.Time { return w.now }
	freezer := change.NewFreezer(w.store, w.audit, []change.External{w.outside}, clock)
	first, err := resource.Defaults()
	w.ok(err)
	p, err := change.NewPublisher(w.Context(), change.PublisherOptions{
		Store: w.store, Freezer: freezer, Audit: w.audit, Log: slog.New(slog.DiscardHandler), Now: clock,
	}, first)
	w.ok(err)
	return freezer, p
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) want(kind errs.Kind, err error) {
	w.Helper()
	if !errs.Is(err, kind) {
		w.Fatalf("%v, want %s", err, kind)
	}
}

// doc is one document.
func doc(kind, name, spec string) string {
	return "apiVersion: muster/v1\nkind: " + kind + "\nname: " + name + "\nspec: " + spec + "\n---\n"
}

// pack is a harmless pack.
func pack(name, interval string) string {
	return doc("Pack", name, "{selector: all, queries: {q: {query: SELECT pid FROM uptime_of_nothing, interval: "+interval+"}}}")
}

func harmless(name, interval string) string {
	return strings.Replace(pack(name, interval), "SELECT pid FROM uptime_of_nothing", "SELECT days FROM uptime", 1)
}

func (w *world) objects(text string) []resource.Object {
	w.Helper()
	objects, err := resource.Parse("test.yaml", []byte(text))
	w.ok(err)
	return objects
}

func (w *world) propose(by, text string) (change.Change, error) {
	w.Helper()
	return w.service.Propose(w.Context(), change.Proposal{Author: by, Message: "why", Objects: w.objects(text)})
}

// apply is propose of what must be applied at once.
func (w *world) apply(text string) change.Change {
	w.Helper()
	c, err := w.propose("ada", text)
	w.ok(err)
	if c.State != change.Applied {
		w.Fatalf("%s: %v", c.State, c.Refusals)
	}
	return c
}

func (w *world) head() int64 {
	w.Helper()
	r, err := w.store.Head(w.Context())
	w.ok(err)
	return r.Number
}

// served returns what the node's config holds.
func (w *world) served(name string) string {
	i := slices.IndexFunc(w.nodes, func(n *node.Identity) bool { return n.ID == name })
	return string(w.publisher.Catalog().Config(w.nodes[i]).JSON)
}

// actions returns the audit log's newest entries, the newest first.
func (w *world) actions(n int) string {
	w.Helper()
	entries, err := w.store.AuditEntries(w.Context(), audit.Filter{Limit: n})
	w.ok(err)
	var words []string
	for _, e := range entries {
		words = append(words, e.Actor+" "+e.Action+" "+string(e.Outcome))
	}
	return strings.Join(words, ", ")
}

func TestPropose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if w.head() != 1 {
		t.Fatalf("first revision is %d", w.head())
	}
	dry, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", DryRun: true, Objects: w.objects(harmless("p", "600"))})
	w.ok(err)
	if dry.State != change.Planned || dry.Effect.Nodes != 5 || len(dry.Edits) != 1 || w.head() != 1 || strings.Contains(w.served("a"), `"p"`) {
		t.Errorf("dry run: %+v", dry)
	}
	c := w.apply(harmless("p", "600"))
	if c.Revision != 2 || c.Hash != dry.Hash || c.ID == "" || !strings.Contains(w.served("a"), `"p"`) {
		t.Errorf("applied: %+v; served %s", c, w.served("a"))
	}
	if got := w.actions(1); got != "ada change.apply done" {
		t.Errorf("audit: %s", got)
	}
	again, err := w.propose("ada", harmless("p", "600"))
	if err != nil || again.State != change.Unchanged || w.head() != 2 {
		t.Errorf("the same again: %s, %v", again.State, err)
	}
	if _, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Objects: w.objects(harmless("p", "900")), Expect: dry.Hash}); !errs.Is(err, errs.Conflict) {
		t.Errorf("another than planned: %v", err)
	}
	if _, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Objects: w.objects(harmless("p", "900"))}); !errs.Is(err, errs.Invalid) {
		t.Errorf("without a message: %v", err)
	}
	if _, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Delete: []resource.Key{{Kind: "Pack", Name: "nope"}}}); !errs.Is(err, errs.NotFound) {
		t.Errorf("deleting what is not there: %v", err)
	}
	pruned, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Prune: true, Objects: w.objects(harmless("q", "600"))})
	w.ok(err)
	if _, set, err := w.service.Set(t.Context(), 0); err != nil || set.Len() != 1 || len(pruned.Edits) != 5 {
		t.Errorf("pruned to %d by %d edits, %v", set.Len(), len(pruned.Edits), err)
	}
	if _, set, err := w.service.Set(t.Context(), 2); err != nil || set.Len() != 4 {
		t.Errorf("revision 2 changed: %d, %v", set.Len(), err)
	}
}

// TestPropose_refused shows that one bad document changes nothing.
func TestPropose_refused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	curl := doc("Pack", "bad", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://a'\", interval: 600}}}")
	c, err := w.propose("eve", harmless("good", "600")+curl)
	w.want(errs.Forbidden, err)
	if c.State != change.Refused || c.Tier != policy.Dangerous || w.head() != 1 || strings.Contains(w.served("a"), "good") || !strings.Contains(err.Error(), "curl") {
		t.Errorf("%s, tier %s, revision %d: %v", c.State, c.Tier, w.head(), err)
	}
	if got := w.actions(1); got != "eve change.apply refused" {
		t.Errorf("audit: %s", got)
	}
	exception := doc("PolicyException", "health", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: health check of a}")
	if c := w.apply(curl + exception); c.Tier != policy.Dangerous {
		t.Errorf("with an exception: tier %s", c.Tier)
	}
	// Without its exception the pack may not stay.
	_, err = w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Delete: []resource.Key{{Kind: "PolicyException", Name: "health"}}})
	w.want(errs.Forbidden, err)
}

func TestApprove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("ApprovalPolicy", "two", `{rules: [{tier: 0, selector: 'hostname = "db-*"', approvals: 2}, {nodes_over: 100, approvals: 3}, {tier: 3, approvals: 1}]}`))
	if c := w.apply(strings.Replace(harmless("web", "600"), "selector: all", "selector: hostname = web-1", 1)); c.Needed != 0 {
		t.Errorf("for other nodes: %d approvals (%s)", c.Needed, c.Rule)
	}
	c, err := w.propose("ada", harmless("p", "600"))
	w.ok(err)
	if c.State != change.Pending || c.Needed != 2 || strings.Contains(w.served("a"), `"p"`) {
		t.Fatalf("%s needs %d; served %s", c.State, c.Needed, w.served("a"))
	}
	_, err = w.service.Approve(t.Context(), c.ID, "ada", c.Hash)
	w.want(errs.Forbidden, err)
	if got := w.actions(1); got != "ada change.approve refused" {
		t.Errorf("audit: %s", got)
	}
	_, err = w.service.Approve(t.Context(), c.ID, "bob", "another hash")
	w.want(errs.Conflict, err)
	one, err := w.service.Approve(t.Context(), c.ID, "bob", c.Hash)
	if err != nil || one.State != change.Pending || len(one.Approvals) != 1 {
		t.Fatalf("%+v, %v", one, err)
	}
	_, err = w.service.Approve(t.Context(), c.ID, "bob", c.Hash)
	w.want(errs.Forbidden, err)
	_, err = w.service.Apply(t.Context(), c.ID, "ada")
	w.want(errs.Conflict, err)
	done, err := w.service.Approve(t.Context(), c.ID, "eve", c.Hash)
	if err != nil || done.State != change.Applied || done.DecidedBy != "eve" || !strings.Contains(w.served("a"), `"p"`) {
		t.Fatalf("%+v, %v", done, err)
	}
	_, err = w.service.Approve(t.Context(), c.ID, "zoe", c.Hash)
	w.want(errs.Conflict, err)

	// The rules themselves: whoever changes them needs somebody else.
	rules, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Delete: []resource.Key{{Kind: "ApprovalPolicy", Name: "two"}}})
	if err != nil || rules.State != change.Pending || rules.Needed != 1 {
		t.Errorf("switching approvals off: %s needs %d, %v", rules.State, rules.Needed, err)
	}
	if gone, err := w.service.Reject(t.Context(), rules.ID, "bob", "no"); err != nil || gone.State != change.Rejected {
		t.Errorf("%+v, %v", gone, err)
	}
	_, err = w.service.Approve(t.Context(), rules.ID, "eve", rules.Hash)
	w.want(errs.Conflict, err)
}

// TestApprove_nobody: rules that nobody can meet are refused.
func TestApprove_nobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.propose("ada", doc("ApprovalPolicy", "many", "{rules: [{approvals: 4}]}"))
	w.want(errs.Forbidden, err)
	w.apply(doc("ApprovalPolicy", "many", "{rules: [{approvals: 3}]}"))
}

// TestApprove_stale shows that an approval dies with what it was given for.
func TestApprove_stale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(harmless("p", "600") + doc("ApprovalPolicy", "one", "{rules: [{nodes_over: 4, approvals: 1}]}"))
	first, err := w.propose("ada", harmless("p", "900"))
	w.ok(err)
	second, err := w.propose("bob", harmless("p", "1200"))
	w.ok(err)
	other, err := w.propose("bob", harmless("r", "1200"))
	w.ok(err)
	if _, err := w.service.Approve(t.Context(), second.ID, "ada", second.Hash); err != nil {
		t.Fatal(err)
	}
	_, err = w.service.Approve(t.Context(), first.ID, "bob", first.Hash)
	w.want(errs.Conflict, err)
	kept, err := w.store.Change(t.Context(), first.ID)
	if err != nil || kept.State != change.Stale || !strings.Contains(w.served("a"), "1200") {
		t.Errorf("%s, %v; served %s", kept.State, err, w.served("a"))
	}
	// What edits other objects is not touched by that.
	if c, err := w.service.Approve(t.Context(), other.ID, "ada", other.Hash); err != nil || c.State != change.Applied {
		t.Errorf("%s, %v", c.State, err)
	}
	mine, err := w.propose("ada", harmless("s", "600"))
	w.ok(err)
	_, err = w.service.Withdraw(t.Context(), mine.ID, "bob", "x")
	w.want(errs.Forbidden, err)
	if c, err := w.service.Withdraw(t.Context(), mine.ID, "ada", "x"); err != nil || c.State != change.Withdrawn {
		t.Errorf("%s, %v", c.State, err)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(harmless("p", "600"))
	w.want(errs.Invalid, w.freezer.Freeze(t.Context(), "ada", " "))
	w.ok(w.freezer.Freeze(t.Context(), "ada", "incident 7"))
	_, err := w.propose("bob", harmless("p", "900"))
	w.want(errs.Forbidden, err)
	if !strings.Contains(err.Error(), "incident 7") {
		t.Error(err)
	}
	// Another server knows.
	elsewhere, _ := w.server()
	if reason, frozen := elsewhere.Frozen(); !frozen || !strings.Contains(reason, "incident 7") {
		t.Errorf("elsewhere: %v, %q", frozen, reason)
	}
	// What ran just before may come back, anything else may not.
	_, err = w.service.Restore(t.Context(), 1, "bob", "p hurts")
	w.ok(err)
	if strings.Contains(w.served("a"), `"p"`) || w.head() != 3 {
		t.Errorf("revision %d: %s", w.head(), w.served("a"))
	}
	_, err = w.service.Restore(t.Context(), 2, "bob", "p again")
	w.want(errs.Forbidden, err)

	// Break-glass takes two, and mends.
	w.ok(w.freezer.AskBreak(t.Context(), "bob", "fix for 7"))
	w.want(errs.Forbidden, w.freezer.AgreeBreak(t.Context(), "bob"))
	_, err = w.propose("bob", harmless("p", "900"))
	w.want(errs.Forbidden, err)
	w.ok(w.freezer.AgreeBreak(t.Context(), "ada"))
	w.apply(harmless("p", "900"))
	if s := w.freezer.State(); s.Frozen || len(s.Reasons) != 1 || s.Break == nil || s.Break.ApprovedBy != "ada" {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(2 * time.Hour)
	_, err = w.propose("bob", harmless("p", "1200"))
	w.want(errs.Forbidden, err)
	w.ok(w.freezer.Thaw(t.Context(), "ada", "over"))
	w.apply(harmless("p", "1200"))
	w.want(errs.Conflict, w.freezer.Thaw(t.Context(), "ada", "over"))
	w.want(errs.Conflict, w.freezer.AskBreak(t.Context(), "ada", "nothing"))

	w.outside.reason = "the deployment lock is on"
	_, err = w.propose("bob", harmless("p", "600"))
	w.want(errs.Forbidden, err)
	w.outside.reason = ""

	// A request that nobody answers is void.
	w.ok(w.freezer.Freeze(t.Context(), "ada", "again"))
	w.ok(w.freezer.AskBreak(t.Context(), "bob", "late"))
	w.now = w.now.Add(time.Hour)
	w.want(errs.Conflict, w.freezer.AgreeBreak(t.Context(), "ada"))
}

// TestFreeze_window freezes by a resource, and lets an approved change wait.
func TestFreeze_window(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("FreezeWindow", "night", `{weekly: {from: "mon 20:00", until: "tue 06:00"}, reason: people sleep}`) +
		doc("ApprovalPolicy", "one", "{rules: [{nodes_over: 4, approvals: 1}]}"))
	c, err := w.propose("ada", harmless("p", "600"))
	w.ok(err)
	w.now = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)
	other, err := w.propose("ada", harmless("q", "600"))
	if err != nil || other.State != change.Pending {
		t.Errorf("proposed at night: %s, %v", other.State, err)
	}
	c, err = w.service.Approve(t.Context(), c.ID, "bob", c.Hash)
	if err != nil || c.State != change.Approved || strings.Contains(w.served("a"), `"p"`) {
		t.Fatalf("%s, %v", c.State, err)
	}
	_, err = w.service.Apply(t.Context(), c.ID, "ada")
	w.want(errs.Forbidden, err)
	w.now = time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	if c, err = w.service.Apply(t.Context(), c.ID, "ada"); err != nil || c.State != change.Applied {
		t.Fatalf("%s, %v", c.State, err)
	}
}

func TestRollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("RolloutPolicy", "slow", `{stages: [{name: canary, selector: 'hostname = web-1', bake: 30m}, {percent: 100}], on_failure: rollback}`))
	c := w.apply(harmless("p", "600"))
	if c.Rollout != "slow" || strings.Contains(w.served("web-1"), `"p"`) {
		t.Fatalf("by %q; before its stage began web-1 is served %s", c.Rollout, w.served("web-1"))
	}
	begun, err := w.store.OpenRollout(t.Context())
	w.ok(err)
	begun.Stages[0].BeganAt = w.now // as the rollout.Engine does
	w.ok(w.store.SaveRollout(t.Context(), begun))
	w.ok(w.publisher.Sync(t.Context()))
	if !strings.Contains(w.served("web-1"), `"p"`) || strings.Contains(w.served("a"), `"p"`) {
		t.Fatalf("a is served %s", w.served("a"))
	}
	// What changes nobody's config needs no rollout, but must wait its turn.
	_, err = w.propose("ada", harmless("q", "600"))
	w.want(errs.Forbidden, err)
	r := w.publisher.Rollout()
	if r == nil || r.Revision != 3 || r.Base != 2 {
		t.Fatalf("%+v", r)
	}
	w.ok(w.service.Revert(t.Context(), r, "gate crash failed"))
	if strings.Contains(w.served("web-1"), `"p"`) || w.publisher.Rollout() != nil || w.head() != 4 {
		t.Errorf("revision %d: %s", w.head(), w.served("web-1"))
	}
	if closed, err := w.store.Rollout(t.Context(), 3); err != nil || closed.State != rollout.RolledBack || closed.Reason != "gate crash failed" {
		t.Errorf("%+v, %v", closed, err)
	}
	// A change cannot take away the stages of its own way.
	c, err = w.service.Propose(t.Context(), change.Proposal{
		Author: "eve", Message: "x", Objects: w.objects(harmless("p", "600")), Delete: []resource.Key{{Kind: "RolloutPolicy", Name: "slow"}},
	})
	w.ok(err)
	if c.Rollout != "slow" || strings.Contains(w.served("a"), `"p"`) {
		t.Errorf("by %q", c.Rollout)
	}
}

// TestRestore shows that going back is no way around approvals.
func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(harmless("p", "600"))
	w.apply(harmless("p", "900") + doc("ApprovalPolicy", "one", "{rules: [{tier: 0, approvals: 1}]}"))
	// What ran just before comes back at once; the rules stay.
	rev, err := w.service.Restore(t.Context(), 2, "eve", "too slow")
	w.ok(err)
	_, set, err := w.service.Set(t.Context(), 0)
	w.ok(err)
	if _, ok := set.Get(resource.Key{Kind: "ApprovalPolicy", Name: "one"}); !ok || rev.Restores != 2 || !strings.Contains(w.served("a"), `"interval":600`) {
		t.Errorf("%+v, rules stay: %v, served %s", rev, ok, w.served("a"))
	}
	// Anything older, and what was taken back, needs a second person.
	for _, number := range []int64{1, 3} {
		_, err = w.service.Restore(t.Context(), number, "eve", "because")
		w.want(errs.Conflict, err)
		if !strings.Contains(err.Error(), "waits for 1 approvals") || w.head() != 4 {
			t.Errorf("revision %d: %v", number, err)
		}
	}
	_, err = w.service.Restore(t.Context(), 4, "eve", "itself")
	w.want(errs.Conflict, err)
	_, err = w.service.Restore(t.Context(), 99, "eve", "none")
	w.want(errs.NotFound, err)
}

// TestRestore_old: what ran before is free for a day, and only as long as the
// policy lets it run.
func TestRestore_old(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	curl := doc("Pack", "c", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://a'\", interval: 600}}}")
	w.apply(curl + doc("PolicyException", "e", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: r, expires: 2026-11-23T12:00:00Z}"))
	w.apply(harmless("p", "600"))
	w.now = w.now.Add(3 * time.Hour) // the exception ended
	_, err := w.service.Restore(t.Context(), 2, "eve", "curl again")
	w.want(errs.Forbidden, err)
	c, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Delete: []resource.Key{{Kind: "Pack", Name: "c"}, {Kind: "PolicyException", Name: "e"}}})
	if err != nil || c.State != change.Applied {
		t.Fatal(c.Refusals, err)
	}
	w.ok(w.freezer.Freeze(t.Context(), "ada", "x"))
	w.now = w.now.Add(25 * time.Hour)
	_, err = w.service.Restore(t.Context(), 3, "eve", "yesterday")
	w.want(errs.Forbidden, err)
}

// TestPropose_twice: a pipeline that runs again asks for one approval.
func TestPropose_twice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("ApprovalPolicy", "one", "{rules: [{tier: 0, approvals: 1}]}"))
	first, err := w.propose("ci", harmless("p", "600"))
	w.ok(err)
	again, err := w.propose("ci", harmless("p", "600"))
	w.ok(err)
	if first.ID != again.ID || again.State != change.Pending {
		t.Errorf("changes %s and %s", first.ID, again.ID)
	}
}

// TestTagRule shows whom the effect of a rule reaches before it does.
func TestTagRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("RolloutPolicy", "slow", "{stages: [{nodes: 1, bake: 30m}]}"))
	rule := doc("TagRule", "dbs", `{selector: 'hostname = "db-*"', tags: [db]}`)
	c := w.apply(rule + strings.Replace(harmless("p", "600"), "selector: all", "selector: tag = db", 1))
	if c.Effect.Nodes != 2 || c.Rollout != "slow" {
		t.Errorf("%+v, by %q", c.Effect, c.Rollout)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.costs["pack_p_q"] = rollout.Cost{CPUMillis: 1000, Bytes: 100, Rows: 1, Nodes: 3}
	w.apply(doc("Budget", "all", "{cpu_seconds_per_day: 200}"))
	c := w.apply(harmless("p", "600")) // 144 runs of a second
	if c.Effect.After.CPUSeconds != 144 || c.Effect.Before.CPUSeconds != 0 || c.Rollout != "" {
		t.Errorf("%+v, by %q", c.Effect, c.Rollout)
	}
	_, err := w.propose("ada", harmless("p", "60"))
	w.want(errs.Forbidden, err)
	if !strings.Contains(err.Error(), "1440 CPU seconds") {
		t.Error(err)
	}
	// Nobody knows what q costs: one node of each platform first.
	c = w.apply(harmless("q", "600"))
	if c.Rollout == "" || !slices.Equal(c.Effect.Unpriced, []string{"pack_q_q"}) {
		t.Errorf("by %q, unpriced %v", c.Rollout, c.Effect.Unpriced)
	}
}

func TestSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(harmless("p", "600"))
	w.want(errs.Invalid, w.publisher.ServeSafe(t.Context(), "ada", "tga = x", "why"))
	w.want(errs.Invalid, w.publisher.ServeSafe(t.Context(), "ada", "all", ""))
	w.ok(w.freezer.Freeze(t.Context(), "ada", "x"))
	w.ok(w.publisher.ServeSafe(t.Context(), "ada", `hostname = "db-*"`, "they burn"))
	if strings.Contains(w.served("db-1"), "SELECT") || !strings.Contains(w.served("db-1"), "logger_tls_endpoint") || !strings.Contains(w.served("a"), "SELECT") {
		t.Errorf("db-1 is served %s", w.served("db-1"))
	}
	_, elsewhere := w.server()
	if _, safe := elsewhere.Serving(); safe == nil || safe.By != "ada" {
		t.Errorf("elsewhere: %+v", safe)
	}
	w.ok(w.publisher.EndSafe(t.Context(), "ada", "cool again"))
	if !strings.Contains(w.served("db-1"), "SELECT") {
		t.Errorf("db-1 is served %s", w.served("db-1"))
	}
	w.want(errs.Conflict, w.publisher.EndSafe(t.Context(), "ada", "again"))
	w.ok(elsewhere.Sync(t.Context()))
	if _, safe := elsewhere.Serving(); safe != nil {
		t.Errorf("elsewhere: %+v", safe)
	}
}

// TestPublisher_elsewhere shows that another server serves what this one
// decided, and that two do not both put a change upon one revision.
func TestPublisher_elsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, elsewhere := w.server()
	w.apply(harmless("p", "600"))
	n := &node.Identity{ID: "x"}
	if strings.Contains(string(elsewhere.Catalog().Config(n).JSON), `"p"`) {
		t.Error("known before it was looked for")
	}
	w.ok(elsewhere.Sync(t.Context()))
	if c := elsewhere.Catalog().Config(n); c.Revision != 2 || !strings.Contains(string(c.JSON), `"p"`) {
		t.Errorf("revision %d: %s", c.Revision, c.JSON)
	}
	rev, err := w.store.Revision(t.Context(), 2)
	w.ok(err)
	rev.Parent = 1
	w.want(errs.Conflict, w.store.Commit(t.Context(), change.Commit{Revision: rev}))
}

// TestAuditFails shows that nothing changes when the audit log cannot be
// written.
func TestAuditFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("ApprovalPolicy", "one", "{rules: [{nodes_over: 4, approvals: 1}]}"))
	pending, err := w.propose("ada", harmless("p", "600"))
	w.ok(err)
	w.audit.broken = errors.New("the disk is full")
	before := w.served("a")
	ctx := t.Context()
	for name, act := range map[string]func() error{
		"propose": func() error { _, err := w.propose("ada", doc("Budget", "b", "{rows_per_day: 5}")); return err },
		"refused": func() error {
			_, err := w.propose("ada", doc("Profile", "b", "{options: {disable_watchdog: true}}"))
			return err
		},
		"approve":  func() error { _, err := w.service.Approve(ctx, pending.ID, "bob", pending.Hash); return err },
		"reject":   func() error { _, err := w.service.Reject(ctx, pending.ID, "bob", "x"); return err },
		"withdraw": func() error { _, err := w.service.Withdraw(ctx, pending.ID, "ada", "x"); return err },
		"restore":  func() error { _, err := w.service.Restore(ctx, 1, "ada", "x"); return err },
		"freeze":   func() error { return w.freezer.Freeze(ctx, "ada", "x") },
		"safe":     func() error { return w.publisher.ServeSafe(ctx, "ada", "all", "x") },
	} {
		if err := act(); !errors.Is(err, w.audit.broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	kept, err := w.store.Change(ctx, pending.ID)
	w.ok(err)
	w.ok(w.publisher.Sync(ctx))
	if w.head() != 2 || kept.State != change.Pending || len(kept.Approvals) != 0 || w.freezer.State().Frozen || w.served("a") != before {
		t.Errorf("revision %d, %s, %v", w.head(), kept.State, kept.Approvals)
	}
}

// TestDelete: taking away has the tier of what is taken away.
func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("Pack", "p", "{queries: {q: {query: SELECT path FROM crontab, interval: 600}}}") + doc("ApprovalPolicy", "two", "{rules: [{tier: 2, approvals: 1}]}"))
	c, err := w.service.Propose(t.Context(), change.Proposal{Author: "eve", Message: "x", Delete: []resource.Key{{Kind: "Pack", Name: "p"}}})
	if err != nil || c.Tier != policy.Sensitive || c.State != change.Pending {
		t.Errorf("tier %s, %s, %v", c.Tier, c.State, err)
	}
}

// TestTakenAway: so does what goes from an object that stays, and what empties
// configs.
func TestTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("Pack", "p", "{queries: {q: {query: SELECT path FROM crontab, interval: 600}}}") + doc("ApprovalPolicy", "two", "{rules: [{tier: 2, approvals: 1}]}"))
	for name, c := range map[string]struct {
		text string
		tier policy.Tier
	}{
		"another query": {harmless("p", "600"), policy.Sensitive},
		"nobody's":      {doc("OnDisk", "all", "{selector: all}"), policy.Dangerous},
	} {
		got, err := w.propose("eve", c.text)
		if err != nil || got.Tier != c.tier || got.State != change.Pending {
			t.Errorf("%s: tier %s, %s, %v", name, got.Tier, got.State, err)
		}
	}
}

// TestApprove_tagged: a rule for the nodes of a tag is not got round by a tag rule
// that takes the tag away, or gives it, and changes no config.
func TestApprove_tagged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(doc("TagRule", "dbs", `{selector: 'hostname = "db-1"', tags: [db]}`) + doc("ApprovalPolicy", "dbs", "{rules: [{selector: tag = db, approvals: 1}]}"))
	w.nodes[2] = node.IdentityOf(node.Node{
		ID: "db-1", Hostname: "db-1", Platform: "linux", Tags: []string{"db"}, TagSources: []node.TagSource{{Tag: "db", Source: node.RuleSource("dbs")}},
	})
	for name, rule := range map[string]string{
		"away":    `{selector: 'hostname = "web-1"', tags: [web]}`,
		"another": `{selector: 'hostname = "db-*"', tags: [db]}`,
	} {
		c, err := w.propose("eve", doc("TagRule", "dbs", rule))
		if err != nil || c.State != change.Pending || c.Effect.Nodes != 0 {
			t.Errorf("%s: %s, %+v, %v", name, c.State, c.Effect, err)
		}
	}
	w.apply(doc("TagRule", "other", `{selector: 'hostname = "web-1"', tags: [web]}`))
}

// TestRestore_rules: what comes back at once is what the rules of now let run,
// not those of then.
func TestRestore_rules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	curl := doc("Pack", "c", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://a'\", interval: 600}}}")
	w.apply(curl + doc("PolicyException", "e", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: r}") +
		doc("ApprovalPolicy", "two", "{rules: [{tier: 3, approvals: 1}]}"))
	c, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: "x", Delete: []resource.Key{{Kind: "Pack", Name: "c"}, {Kind: "PolicyException", Name: "e"}}})
	w.ok(err)
	_, err = w.service.Approve(t.Context(), c.ID, "bob", c.Hash)
	w.ok(err)
	_, err = w.service.Restore(t.Context(), 2, "eve", "curl again")
	w.want(errs.Conflict, err)
	if strings.Contains(w.served("a"), "curl") {
		t.Error("the query runs without its exception")
	}
}

// TestPropose_interrupted: a change that a crash kept from being applied is no
// change that waits for approvals.
func TestPropose_interrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, err := w.service.Propose(t.Context(), change.Proposal{Author: "ci", Message: "why", DryRun: true, Objects: w.objects(harmless("p", "600"))})
	w.ok(err)
	c.State = change.Pending
	kept, err := w.store.CreateChange(t.Context(), c)
	w.ok(err)
	again, err := w.propose("ci", harmless("p", "600"))
	w.ok(err)
	if again.ID != kept.ID || again.State != change.Applied || w.head() != 2 || !strings.Contains(w.served("a"), `"interval":600`) {
		t.Errorf("change %s is %s, revision %d", again.ID, again.State, w.head())
	}
}

// TestAudit_large: the entry of a large change says what a small one's does.
func TestAudit_large(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var text strings.Builder
	for i := range 1000 {
		text.WriteString(harmless(strings.Repeat("n", 55)+strconv.Itoa(i), "600"))
	}
	c, err := w.service.Propose(t.Context(), change.Proposal{Author: "ada", Message: strings.Repeat("\x01", 2000), Objects: w.objects(text.String())})
	w.ok(err)
	entries, err := w.store.AuditEntries(t.Context(), audit.Filter{Limit: 1})
	w.ok(err)
	var detail struct {
		Nodes     int      `json:"nodes"`
		Edits     []string `json:"edits"`
		MoreEdits int      `json:"more_edits"`
	}
	w.ok(json.Unmarshal([]byte(entries[0].Detail), &detail))
	if detail.Nodes != 5 || len(detail.Edits) < 100 || len(detail.Edits)+detail.MoreEdits != 1000 {
		t.Errorf("%d nodes, %d and %d edits", detail.Nodes, len(detail.Edits), detail.MoreEdits)
	}
	if e := entries[0]; e.Action != "change.apply" || e.ContentHash != c.Hash || e.Reason == "" {
		t.Errorf("%s of %s, because %q", e.Action, e.ContentHash, e.Reason)
	}
}

// TestFreeze_meanwhile: a freeze that begins while a change is on its way holds it
// up.
func TestFreeze_meanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.audit.before = func(action string) {
		if action == "change.apply" {
			w.ok(w.freezer.Freeze(t.Context(), "bob", "incident 7"))
		}
	}
	_, err := w.propose("ada", harmless("p", "600"))
	w.want(errs.Conflict, err)
	w.audit.before = nil
	_, err = w.propose("ada", harmless("p", "600"))
	w.want(errs.Forbidden, err)
	if w.head() != 1 {
		t.Error("it passed the freeze")
	}
	w.ok(w.freezer.Thaw(t.Context(), "bob", "over"))
	w.apply(harmless("p", "600"))
}
