package live

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"github.com/musterhq/muster/internal/node"
)

// Sample returns a percentage of the nodes of each platform, rounded up, so that
// none is left out. Which they are is decided by a hash of their ids: the same
// nodes each time, and a larger percentage has those of a smaller one. The
// nodes come in the order of that hash. 0 and 100 mean all.
func Sample(nodes []*node.Identity, percent float64) []*node.Identity {
	type placed struct {
		*node.Identity

		place uint64
	}
	all := make([]placed, 0, len(nodes))
	total := map[string]int{}
	for _, n := range nodes {
		all = append(all, placed{n, place(n.ID)})
		total[n.Platform]++
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.ID, b.ID)) })
	left := map[string]int{}
	for platform, n := range total {
		left[platform] = share(n, percent)
	}
	sample := make([]*node.Identity, 0, len(nodes))
	for _, n := range all {
		if left[n.Platform] > 0 {
			left[n.Platform]--
			sample = append(sample, n.Identity)
		}
	}
	return sample
}

func share(n int, percent float64) int {
	if !(percent > 0 && percent < 100) {
		return n
	}
	return int(math.Ceil(float64(n) * percent / 100))
}

// place is where a node stands among all. It is another one than in rollouts,
// so that the same nodes are not always those that try things first.
func place(id string) uint64 {
	sum := sha256.Sum256([]byte("live sample " + id))
	return binary.BigEndian.Uint64(sum[:])
}
