package change

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// Safe says whom the safe config is served: the settings by which a node talks
// to the server, and nothing to run.
type Safe struct {
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
	Selector string    `json:"selector"` // "all", or some
}

// PublisherOptions are what a Publisher needs.
type PublisherOptions struct {
	Store   Store
	Freezer *Freezer
	Audit   Recorder
	// Changed is told after another plan is served; nil for nobody.
	Changed func()
	Log     *slog.Logger
	Now     func() time.Time
}

// Publisher brings what is decided, here or by another server, to the catalog.
// Safe for concurrent use.
type Publisher struct {
	PublisherOptions

	catalog *resource.Catalog

	mu       sync.Mutex // held while a plan is made
	version  int64
	serving  Serving
	safe     *Safe
	compiled map[int64]*resource.Snapshot // of the revisions that are served
}

// NewPublisher returns a Publisher whose catalog serves what the store says now.
// If the store is empty, it keeps a first revision of some objects.
func NewPublisher(ctx context.Context, o PublisherOptions, first []resource.Object) (*Publisher, error) {
	p := &Publisher{PublisherOptions: o, version: -1, compiled: map[int64]*resource.Snapshot{}}
	if _, err := o.Store.Head(ctx); errs.Is(err, errs.NotFound) {
		if err := p.begin(ctx, first); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return p, p.Sync(ctx)
}

// begin keeps the first revision.
func (p *Publisher) begin(ctx context.Context, first []resource.Object) error {
	set, err := resource.NewSet(first)
	if err != nil {
		return err
	}
	rev, objects, err := newRevision(Revision{}, set, p.Now())
	if err != nil {
		return err
	}
	rev.Author, rev.Message = rollout.System, "what comes with Muster"
	if err := p.Audit.Record(ctx, rollout.System, "revision.begin", "1", map[string]string{"hash": rev.Hash}); err != nil {
		return err
	}
	err = p.Store.Commit(ctx, Commit{Revision: rev, Objects: objects})
	if errs.Is(err, errs.Conflict) {
		return nil // another server was faster
	}
	return err
}

// Catalog returns what agents are served from.
func (p *Publisher) Catalog() *resource.Catalog { return p.catalog }

// Serving returns what is served, as this server knows it.
func (p *Publisher) Serving() (Serving, *Safe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving, p.safe
}

// syncEvery bounds how long a server serves what another one changed.
const syncEvery = time.Second

// Run keeps the catalog at what is decided until ctx ends. A database that fails
// is logged and asked again; agents get meanwhile what they got before.
func (p *Publisher) Run(ctx context.Context) error {
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := p.Sync(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "whether what agents run changed is not known; they get what they got before", "error", err)
		}
		failing = err != nil
	}
}

// Sync brings the catalog to what is decided now. When nothing changed it costs
// one look at the database.
func (p *Publisher) Sync(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	version, err := p.Store.ServingVersion(ctx)
	if err != nil || version == p.version {
		return err
	}
	serving, err := p.Store.Serving(ctx)
	if err != nil {
		return err
	}
	plan, safe, err := p.plan(ctx, serving)
	if err != nil {
		return err
	}
	if err := p.Freezer.load(serving.Freeze, plan.Newest().Set()); err != nil {
		return err
	}
	if p.catalog == nil {
		p.catalog = resource.NewCatalog(plan, p.Log)
	} else {
		p.catalog.SetPlan(plan)
	}
	p.version, p.serving, p.safe = serving.Version, serving, safe
	if p.Changed != nil {
		p.Changed()
	}
	return nil
}

// plan makes a plan of what is to be served.
func (p *Publisher) plan(ctx context.Context, s Serving) (*resource.Plan, *Safe, error) {
	head, err := p.compile(ctx, s.Head)
	if err != nil {
		return nil, nil, err
	}
	plan := &resource.Plan{Base: head}
	keep := map[int64]*resource.Snapshot{s.Head.Number: head}
	if r := s.Rollout; r != nil && r.Open() {
		rev, err := p.Store.Revision(ctx, r.Base)
		if err != nil {
			return nil, nil, err
		}
		base, err := p.compile(ctx, rev)
		if err != nil {
			return nil, nil, err
		}
		plan.Base, plan.Next, keep[r.Base] = base, head, base
		if plan.Admits, err = r.Admission(); err != nil {
			return nil, nil, err
		}
	}
	p.compiled = keep
	safe, err := parseSafe(s.Safe)
	if err != nil || safe == nil {
		return plan, nil, err
	}
	w, err := node.ParseWhere("selector", safe.Selector)
	if err != nil {
		return nil, nil, err
	}
	plan.Safe = w.Match
	return plan, safe, nil
}

func parseSafe(setting string) (*Safe, error) {
	if setting == "" {
		return nil, nil //nolint:nilnil // nobody is served the safe config
	}
	safe := new(Safe)
	if err := json.Unmarshal([]byte(setting), safe); err != nil {
		return nil, fmt.Errorf("setting %s: %w", SafeSetting, err)
	}
	return safe, nil
}

func (p *Publisher) compile(ctx context.Context, rev Revision) (*resource.Snapshot, error) {
	if s, ok := p.compiled[rev.Number]; ok {
		return s, nil
	}
	set, err := loadSet(ctx, p.Store, rev)
	if err != nil {
		return nil, err
	}
	return resource.Compile(rev.Number, set)
}

// ServeSafe serves the safe config to the nodes of a selector, at once and until
// EndSafe. It holds during a freeze too: it only takes away.
func (p *Publisher) ServeSafe(ctx context.Context, by, selector, reason string) error {
	if _, err := node.ParseWhere("selector", selector); err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(selector), "none") {
		return errs.Field("selector", "means nobody; muster emergency end ends it")
	}
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; write why, as with -m")
	}
	safe := Safe{By: by, Reason: reason, At: p.Now().UTC(), Selector: selector}
	b, err := json.Marshal(safe)
	if err != nil {
		return err
	}
	return p.setSafe(ctx, by, "emergency.safe_config", string(b), safe)
}

// EndSafe serves the nodes again what their revision says.
func (p *Publisher) EndSafe(ctx context.Context, by, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; write why, as with -m")
	}
	if _, safe := p.Serving(); safe == nil {
		return errs.New(errs.Conflict, "nobody is served the safe config")
	}
	return p.setSafe(ctx, by, "emergency.end", "", map[string]string{"reason": reason})
}

func (p *Publisher) setSafe(ctx context.Context, by, action, setting string, detail any) error {
	if err := p.Audit.Record(ctx, by, action, "", detail); err != nil {
		return err
	}
	if err := p.Store.SetSetting(ctx, SafeSetting, setting); err != nil {
		return err
	}
	return p.Sync(ctx)
}

// Rollout returns the open rollout, nil if there is none.
func (p *Publisher) Rollout() *rollout.Rollout {
	serving, _ := p.Serving()
	return serving.Rollout
}
