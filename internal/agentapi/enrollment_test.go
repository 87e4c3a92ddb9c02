package agentapi_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/trigger"
)

// TestEnrollmentQuery: the very first read after an enrolment has the query, and
// lets the agent poll faster.
func TestEnrollmentQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects, err := resource.Parse("r.yaml", []byte("{apiVersion: muster/v1, kind: EnrollmentQuery, name: birth, spec: {sql: SELECT 1 AS one, selector: tag = linux}}"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := resource.Compile(1, set)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	log := slog.New(slog.DiscardHandler)
	enrollments := trigger.NewEnrollments(trigger.EnrollmentOptions{
		Store: w.store, Live: w.live, Registry: w.registry, Catalog: resource.NewCatalog(&resource.Plan{Base: snapshot}, log),
		Policy: engine, Log: log, Now: time.Now,
	})
	if err := enrollments.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := w.options
	o.Enroller = node.NewEnroller(node.EnrollerOptions{
		Store: w.store, Registry: w.registry, Keyer: w.keyer, Clash: node.ClashQuarantine, Now: time.Now, Admitted: enrollments.Enrolled,
	})
	w.api = agentapi.New(o)
	keyed := []byte(`{"node_key":"` + w.enroll() + `"}`)
	_, answer := w.post("/api/osquery/distributed/read", keyed)
	id := resource.EnrollmentID("birth", "SELECT 1 AS one")
	want := map[string]any{"queries": map[string]any{id: "SELECT 1 AS one"}, "accelerate": float64(live.Accelerate)}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Error("the first read: ", diff)
	}
	_, answer = w.post("/api/osquery/distributed/read", keyed)
	if diff := cmp.Diff(map[string]any{"queries": map[string]any{}}, answer); diff != "" {
		t.Error("the second read: ", diff)
	}
}
