package live

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/musterhq/muster/internal/node"
)

func fleetOf(platform string, n int) []*node.Identity {
	nodes := make([]*node.Identity, n)
	for i := range nodes {
		nodes[i] = &node.Identity{ID: fmt.Sprintf("%s-%d", platform, i), Platform: platform}
	}
	return nodes
}

func idsOf(nodes []*node.Identity) []string {
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID
	}
	return ids
}

func TestSample(t *testing.T) {
	t.Parallel()
	fleet := slices.Concat(fleetOf("linux", 1000), fleetOf("darwin", 30), fleetOf("windows", 1))
	for _, tt := range []struct {
		percent float64
		want    int
	}{
		{0, 1031},
		{100, 1031},
		{250, 1031},
		{-1, 1031},
		{math.NaN(), 1031},
		{math.Inf(1), 1031},
		{10, 100 + 3 + 1},
		{1, 10 + 1 + 1},
		{0.01, 3},
		{50, 500 + 15 + 1},
		{99.99, 1031},
	} {
		if got := Sample(fleet, tt.percent); len(got) != tt.want {
			t.Errorf("%v%% are %d nodes, want %d", tt.percent, len(got), tt.want)
		}
	}
	if got := Sample(nil, 10); len(got) != 0 {
		t.Errorf("of no nodes: %v", got)
	}
}

// TestSample_stable: the same nodes each time, in any order of the fleet, and
// more of them for a larger percentage.
func TestSample_stable(t *testing.T) {
	t.Parallel()
	fleet := slices.Concat(fleetOf("linux", 400), fleetOf("darwin", 40))
	small := idsOf(Sample(fleet, 5))
	slices.Reverse(fleet)
	if again := idsOf(Sample(fleet, 5)); !slices.Equal(small, again) {
		t.Errorf("%v, then %v", small, again)
	}
	large := idsOf(Sample(fleet, 20))
	for _, id := range small {
		if !slices.Contains(large, id) {
			t.Errorf("%s is in 5%% and not in 20%%", id)
		}
	}
	// A node more moves no other in or out, but for the last one.
	more := idsOf(Sample(append(fleet, fleetOf("windows", 3)...), 5))
	for _, id := range small {
		if !slices.Contains(more, id) {
			t.Errorf("%s is out because of nodes of another platform", id)
		}
	}
}
