package live

import (
	"github.com/cespare/xxhash/v2"

	"github.com/musterhq/muster/internal/node"
)

// Sample returns so many percent of the nodes: always the same ones, and those of
// a smaller sample are in every larger one.
func Sample(nodes []*node.Identity, percent int) []*node.Identity {
	if percent >= 100 {
		return nodes
	}
	var sample []*node.Identity
	for _, n := range nodes {
		if xxhash.Sum64String(n.ID)%100 < uint64(max(percent, 0)) {
			sample = append(sample, n)
		}
	}
	return sample
}
