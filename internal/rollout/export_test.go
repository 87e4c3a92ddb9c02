package rollout

import "time"

// Expire makes the next Cost look at all nodes.
func (m *Monitor) Expire() {
	m.costMu.Lock()
	defer m.costMu.Unlock()
	m.costsAt = time.Time{}
}
