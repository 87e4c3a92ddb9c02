package rollout

import (
	"sync"

	"github.com/musterhq/muster/internal/resource"
)

// Texts knows the SQL of configs. What agents tell of their schedule leaves it
// out: the column is a tier higher than the rest.
type Texts interface {
	// Texts returns the hashes of a config's SQL by its queries' names on agents;
	// nil if the node is not known to have a config of that config_hash.
	Texts(nodeID, configHash string) map[string]string
}

// ServedTexts are the Texts of the configs that a catalog serves. Safe for
// concurrent use.
type ServedTexts struct {
	fleet   Fleet
	catalog Catalog

	mu    sync.Mutex
	known map[string]map[string]string // by config_hash: equal configs hold equal texts
}

// NewServedTexts returns the Texts of what a catalog serves to nodes.
func NewServedTexts(fleet Fleet, catalog Catalog) *ServedTexts {
	return &ServedTexts{fleet: fleet, catalog: catalog, known: map[string]map[string]string{}}
}

// maxTexts bounds the configs that are remembered; a fleet has few at a time.
const maxTexts = 256

// Texts implements Texts.
func (s *ServedTexts) Texts(nodeID, configHash string) map[string]string {
	s.mu.Lock()
	texts, ok := s.known[configHash]
	s.mu.Unlock()
	if ok || configHash == "" {
		return texts
	}
	n := s.fleet.Lookup(nodeID)
	if n == nil {
		return nil
	}
	p := s.catalog.Plan()
	for _, snapshot := range []*resource.Snapshot{p.Base, p.Next} {
		if snapshot == nil {
			continue
		}
		if c, err := snapshot.Config(n); err == nil && c.Hash == configHash {
			return s.learn(configHash, snapshot.Schedule(n))
		}
	}
	return nil
}

func (s *ServedTexts) learn(configHash string, schedule []resource.Scheduled) map[string]string {
	texts := make(map[string]string, len(schedule))
	for _, q := range schedule {
		texts[q.Name] = q.Hash
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxTexts {
		clear(s.known)
	}
	s.known[configHash] = texts
	return texts
}
