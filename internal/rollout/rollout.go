// Package rollout brings a revision to the nodes in stages, each of which is
// watched before the next: what nodes that run the revision show is compared
// with what the others show. Missing evidence fails a gate as bad evidence does.
//
// Monitor gathers the evidence from what agents log, Rollout is one rollout's
// state and says which nodes are in it, and Engine moves it on.
package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// State is where a rollout stands.
type State string

// The states. Running and Paused ones are open; there is at most one of them.
const (
	Running    State = "running"
	Paused     State = "paused"
	Done       State = "done"
	RolledBack State = "rolled_back"
)

// Rollout is how one revision reaches the nodes.
type Rollout struct {
	Revision int64 // what rolls out
	Base     int64 // what the other nodes run
	State    State
	Policy   string // name of the RolloutPolicy that it was made by
	// Stages are the policy's, and a last one of all nodes.
	Stages    []Stage
	Gates     resource.Gates
	OnFailure string
	// Stage is the index of the stage that runs.
	Stage int
	// StageAt is when it began, or was begun anew because what the server knew
	// of its nodes was lost: by a restart, a jump of the clock, or a pause.
	StageAt   time.Time
	StartedAt time.Time
	EndedAt   time.Time // zero while it is open
	// Reason says why it is paused, or was rolled back.
	Reason string
	// Gate results of the last look, for people.
	Results []Result
	// Version grows with each change, so that two servers do not both move it.
	Version int64
}

// Stage is one stage with what it admits. It admits nobody until it began.
type Stage struct {
	Name     string        `json:"name"`
	Selector string        `json:"selector,omitempty"`
	Nodes    int           `json:"nodes,omitempty"`   // of each platform
	Percent  float64       `json:"percent,omitempty"` // of each platform's nodes
	Bake     time.Duration `json:"bake_ns"`
	// BeganAt is when nodes were admitted first; zero before.
	BeganAt time.Time `json:"began_at,omitzero"`
	// Below admits nodes of a platform whose Place is below it; the platform ""
	// is for those that are not named. It is fixed when the stage begins, so
	// that nobody leaves a stage.
	Below map[string]uint64 `json:"below,omitempty"`
}

// Open reports whether the rollout goes on.
func (r *Rollout) Open() bool { return r.State == Running || r.State == Paused }

// DefaultBake is how long a stage is watched that says nothing about it: long
// enough for what agents tell every ten minutes.
const DefaultBake = 15 * time.Minute

// New returns a rollout of a revision by a policy, before its first stage, which
// the Engine begins.
func New(revision, base int64, name string, p *resource.RolloutPolicy, now time.Time) *Rollout {
	r := &Rollout{
		Revision: revision, Base: base, State: Running, Policy: name, Gates: p.Gates, OnFailure: p.OnFailure,
		StartedAt: now, StageAt: now,
	}
	whole := false
	for i, s := range p.Stages {
		st := Stage{
			Name: s.Name, Selector: s.Selector, Nodes: s.Nodes, Percent: s.Percent,
			Bake: cmp.Or(time.Duration(s.Bake), DefaultBake),
		}
		if st.Name == "" {
			st.Name = fmt.Sprintf("stage %d", i+1)
		}
		whole = s.Percent >= 100 || s.Selector == "all"
		r.Stages = append(r.Stages, st)
	}
	if !whole {
		r.Stages = append(r.Stages, Stage{Name: "all", Selector: "all", Bake: DefaultBake})
	}
	return r
}

// share returns the hash below which a percentage of the nodes is.
func share(percent float64) uint64 {
	if percent >= 100 {
		return math.MaxUint64
	}
	return uint64(percent / 100 * math.MaxUint64)
}

// Place is where a node stands among all, by a hash of its id that never
// changes.
func Place(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

// Admission returns the test of which nodes are to have the revision: those of
// the stages that began. The test never changes; take another when the rollout
// does.
func (r *Rollout) Admission() (func(n *node.Identity) bool, error) {
	var tests []func(n *node.Identity) bool
	for _, s := range r.Stages[:min(r.Stage+1, len(r.Stages))] {
		if s.BeganAt.IsZero() {
			continue
		}
		t, err := s.test()
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", s.Name, err)
		}
		tests = append(tests, t)
	}
	return func(n *node.Identity) bool {
		for _, t := range tests {
			if t(n) {
				return true
			}
		}
		return false
	}, nil
}

func (s *Stage) test() (func(n *node.Identity) bool, error) {
	if s.Selector != "" {
		w, err := node.ParseWhere("selector", s.Selector)
		return w.Match, err
	}
	below := s.Below
	return func(n *node.Identity) bool {
		limit, ok := below[n.Platform]
		if !ok {
			limit = below[""]
		}
		return limit == math.MaxUint64 || Place(n.ID) < limit
	}, nil
}

// candidate is a node that a revision changes, when a stage begins.
type candidate struct {
	node   *node.Identity
	online bool
}

// begin fixes whom the stage admits. A number of nodes is counted on each
// platform among those that the revision changes, and of these among the online
// ones if they suffice: the others would show nothing. A percentage is a share of
// all places, and at least one such node of each platform. Nodes that are
// offline, or join later, are admitted with the places.
func (s *Stage) begin(candidates []candidate, now time.Time) {
	s.BeganAt = now
	if s.Selector != "" {
		return
	}
	least := share(s.Percent)
	s.Below = map[string]uint64{"": least}
	all, online := map[string][]uint64{}, map[string][]uint64{}
	for _, c := range candidates {
		p, place := c.node.Platform, Place(c.node.ID)
		all[p] = append(all[p], place)
		if c.online {
			online[p] = append(online[p], place)
		}
	}
	want := max(s.Nodes, 1)
	for p, places := range all {
		if len(online[p]) >= want {
			places = online[p]
		}
		slices.Sort(places)
		s.Below[p] = max(least, places[min(want, len(places))-1]+1)
	}
}

// Result is what one gate said at its last look.
type Result struct {
	Gate string `json:"gate"` // a name of resource.GateNames, or budget/NAME
	OK   bool   `json:"ok"`
	// Waiting says that evidence is missing; some time after the end of the bake
	// time that fails it, see Patience.
	Waiting bool `json:"waiting,omitempty"`
	// Final says that no further evidence can mend it: it fails the stage before
	// the end of its bake time.
	Final   bool    `json:"final,omitempty"`
	Stage   float64 `json:"stage"`   // measured on the stage's nodes
	Control float64 `json:"control"` // measured on the others
	Limit   float64 `json:"limit"`
	Message string  `json:"message"` // a sentence with the numbers
	// Nodes are some of those that count against it, at most ten.
	Nodes []string `json:"nodes,omitempty"`
}
