package adminapi

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/trigger"
)

// TriggerStore keeps tokens of triggers, and knows how long they took.
type TriggerStore interface {
	SetTriggerToken(ctx context.Context, t trigger.Token, hash node.KeyHash) error
	RevokeTriggerToken(ctx context.Context, name string) error
	// TriggerOfToken returns the name of the trigger that a token is of; "" without.
	TriggerOfToken(ctx context.Context, hash node.KeyHash) (string, error)
	TriggerTokens(ctx context.Context) ([]trigger.Token, error)
	trigger.StatsStore
}

func (a *API) registerTriggers(mux *http.ServeMux) {
	register(a, account.LiveRead, http.MethodGet, "/triggers", "List triggers and how they do", a.listTriggers)
	register(a, account.TriggerWrite, http.MethodPost, "/triggers/{name}/token", "Give a trigger a new token, in place of the one before; the answer is the only one that shows it", a.newTriggerToken)
	register(a, account.TriggerWrite, http.MethodDelete, "/triggers/{name}/token", "Revoke a trigger's token", a.revokeTriggerToken)
	register(a, account.LiveRun, http.MethodPost, "/triggers/{name}/fire", "Fire a trigger by hand, as its payload would", a.fireTrigger)
	register(a, account.LiveRead, http.MethodGet, "/enrollment-queries", "List enrollment queries and how they do", a.listEnrollments)
	register(a, account.LiveRead, http.MethodGet, "/live/bound", "How soon nodes are asked and answer at most, by group", a.liveBound)
	a.plain(mux, "POST /api/v1/hooks/{name}", account.Public, a.hook)
	a.describeHook()
}

// describeHook tells of the path for payloads, which may be any JSON.
func (a *API) describeHook() {
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "post-hooks-name", Method: http.MethodPost, Path: "/api/v1/hooks/{name}", Summary: "Send a payload to a trigger",
		Description: "Needs the trigger's own token, as Authorization: Bearer or X-Muster-Token, and no session.",
		Parameters:  []*huma.Param{{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}},
		Responses: map[string]*huma.Response{
			"202": {Description: "The query was started, or the same was before", Content: map[string]*huma.MediaType{
				"application/json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Fired](), true, "Fired")},
			}},
		},
	})
}

// statsSince is how far back latencies go.
const statsSince = 30 * 24 * time.Hour

// servedObjects returns the objects of a kind that any node is served.
func servedObjects[T resource.Spec](plan *resource.Plan) []resource.Object {
	found := map[resource.Key]resource.Object{}
	for _, s := range []*resource.Snapshot{plan.Base, plan.Newest()} {
		for k := range resource.Specs[T](s.Set()) {
			found[k], _ = s.Set().Get(k)
		}
	}
	objects := make([]resource.Object, 0, len(found))
	for _, o := range found {
		objects = append(objects, o)
	}
	slices.SortFunc(objects, func(a, b resource.Object) int { return cmp.Compare(a.Name, b.Name) })
	return objects
}

func (a *API) listTriggers(ctx context.Context, _ *none) (*body[[]TriggerStatus], error) {
	tokens, err := a.TriggerStore.TriggerTokens(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := a.TriggerStore.FiringsPerTrigger(ctx)
	if err != nil {
		return nil, err
	}
	spans, err := a.TriggerStore.TriggerSpans(ctx, a.Now().Add(-statsSince))
	if err != nil {
		return nil, err
	}
	byName := map[string][]trigger.Span{}
	for _, s := range spans {
		byName[s.Name] = append(byName[s.Name], s)
	}
	out := []TriggerStatus{}
	for _, o := range servedObjects[*resource.Trigger](a.Catalog.Plan()) {
		t := TriggerStatus{Name: o.Name, Description: o.Description, Latency: latencyDocument(trigger.Measure(byName[o.Name]))}
		for _, token := range tokens {
			if token.Trigger == o.Name {
				t.HasToken, t.TokenSince = true, at(token.CreatedAt)
			}
		}
		c := counts[o.Name]
		t.Fired, t.Answered, t.LastFiredAt = c.Fired, c.Answered, at(c.Last)
		out = append(out, t)
	}
	return &body[[]TriggerStatus]{out}, nil
}

func latencyDocument(l trigger.Latency) TriggerLatency {
	return TriggerLatency{
		DeliveredP50: l.DeliveredP50.Milliseconds(), DeliveredP99: l.DeliveredP99.Milliseconds(),
		AnsweredP50: l.AnsweredP50.Milliseconds(), AnsweredP99: l.AnsweredP99.Milliseconds(),
	}
}

// TriggerRef names a trigger in a path.
type TriggerRef struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) newTriggerToken(ctx context.Context, in *TriggerRef) (*body[TriggerToken], error) {
	if a.Triggers.Lookup(in.Name) == nil {
		return nil, errs.New(errs.NotFound, "there is no trigger %s; apply one first", in.Name)
	}
	value := ident.Secret()
	t := trigger.Token{Trigger: in.Name, CreatedAt: a.Now(), CreatedBy: session(ctx).UserName}
	if err := a.Audit.Record(ctx, t.CreatedBy, "trigger.token", in.Name, nil); err != nil {
		return nil, err
	}
	if err := a.TriggerStore.SetTriggerToken(ctx, t, a.Keyer.Hash(trigger.PurposeToken, value)); err != nil {
		return nil, err
	}
	return &body[TriggerToken]{TriggerToken{Token: value, URL: "/api/v1/hooks/" + in.Name}}, nil
}

func (a *API) revokeTriggerToken(ctx context.Context, in *TriggerRef) (*none, error) {
	if err := a.Audit.Record(ctx, session(ctx).UserName, "trigger.revoke", in.Name, nil); err != nil {
		return nil, err
	}
	return nil, a.TriggerStore.RevokeTriggerToken(ctx, in.Name)
}

type fireInput struct {
	TriggerRef
	Body FireInput
}

func (a *API) fireTrigger(ctx context.Context, in *fireInput) (*body[Fired], error) {
	p, err := trigger.ParsePayload(in.Body.Payload)
	if err != nil {
		return nil, err
	}
	r, err := a.Triggers.Fire(ctx, trigger.Request{Trigger: in.Name, Payload: p, Actor: session(ctx).UserName, ReceivedAt: a.Now()})
	if err != nil {
		return nil, err
	}
	return &body[Fired]{Fired{LiveID: r.LiveID, NodeID: r.NodeID, Duplicate: r.Duplicate}}, nil
}

// errHook is the answer to whoever has not the token of a trigger that is there:
// it does not tell which of the two is wrong.
func errHook() error {
	return errs.New(errs.Unauthenticated, "no trigger of that name has that token")
}

// hook takes a payload from outside. Whoever has not the token costs a hash and
// one look at the database, whatever the name.
func (a *API) hook(w http.ResponseWriter, r *http.Request) error {
	received := a.Now()
	if !a.hooks.address(httpx.Remote(r)) {
		return errHookBusy()
	}
	name := r.PathValue("name")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = r.Header.Get("X-Muster-Token")
	}
	of, err := a.TriggerStore.TriggerOfToken(r.Context(), a.Keyer.Hash(trigger.PurposeToken, token))
	if err != nil {
		return err
	}
	if of == "" || of != name {
		if err := a.Audit.Refused(r.Context(), "hook", "trigger.fire", name, errHook().Error(), nil); err != nil {
			return err
		}
		return errHook()
	}
	if !a.hooks.trigger(name) {
		return errHookBusy()
	}
	var out Fired
	err = a.hooks.bodies.Read(r, httpx.Limits{Wire: trigger.MaxPayload, Inflated: trigger.MaxPayload}, func(b []byte) error {
		p, err := trigger.ParsePayload(b)
		if err != nil {
			return err
		}
		fired, err := a.Triggers.Fire(r.Context(), trigger.Request{Trigger: name, Payload: p, Actor: trigger.ActorOf(name), ReceivedAt: received})
		out = Fired{LiveID: fired.LiveID, NodeID: fired.NodeID, Duplicate: fired.Duplicate}
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	return json.NewEncoder(w).Encode(out)
}

func (a *API) listEnrollments(ctx context.Context, _ *none) (*body[[]EnrollmentStatus], error) {
	out := []EnrollmentStatus{}
	for _, o := range servedObjects[*resource.EnrollmentQuery](a.Catalog.Plan()) {
		spec, ok := o.Spec.(*resource.EnrollmentQuery)
		if !ok {
			continue
		}
		s := EnrollmentStatus{
			Name: o.Name, Description: o.Description, Selector: cmp.Or(spec.Selector, "all"), SQL: spec.SQL, LiveID: resource.EnrollmentID(o.Name, spec.SQL),
		}
		q, err := a.query(ctx, s.LiveID)
		if err != nil && !errs.Is(err, errs.NotFound) { // it does not stand yet
			return nil, err
		}
		s.count(q)
		spans, err := a.TriggerStore.EnrollmentSpans(ctx, s.LiveID)
		if err != nil {
			return nil, err
		}
		s.Latency = latencyDocument(trigger.Measure(spans))
		out = append(out, s)
	}
	return &body[[]EnrollmentStatus]{out}, nil
}

func (s *EnrollmentStatus) count(q live.Query) {
	c := q.Counts
	s.Asked = q.Nodes()
	s.Answered = c[live.Answered] + c[live.Empty] + c[live.OverLimit]
	s.Waiting = c[live.Waiting] + c[live.Sent]
	s.Failed = c[live.Failed] + c[live.Denylisted]
	s.Expired = c[live.Expired] + c[live.Halted]
}

func (a *API) liveBound(ctx context.Context, _ *none) (*body[[]LiveBound], error) {
	spans, err := a.TriggerStore.TriggerSpans(ctx, a.Now().Add(-statsSince))
	if err != nil {
		return nil, err
	}
	for _, o := range servedObjects[*resource.EnrollmentQuery](a.Catalog.Plan()) {
		if spec, ok := o.Spec.(*resource.EnrollmentQuery); ok {
			more, err := a.TriggerStore.EnrollmentSpans(ctx, resource.EnrollmentID(o.Name, spec.SQL))
			if err != nil {
				return nil, err
			}
			spans = append(spans, more...)
		}
	}
	out := []LiveBound{}
	for _, b := range trigger.Bounds(a.Registry.All, a.Catalog, spans) {
		l := trigger.Measure(b.Observed)
		out = append(out, LiveBound{
			Group: b.Group, Nodes: b.Nodes, Mute: b.Mute, Poll: b.Poll.Seconds(), Guaranteed: b.Guaranteed().Seconds(),
			Observed: LiveObserved{Answered: l.Answered, P50: l.AnsweredP50.Milliseconds(), P99: l.AnsweredP99.Milliseconds()},
		})
	}
	return &body[[]LiveBound]{out}, nil
}
