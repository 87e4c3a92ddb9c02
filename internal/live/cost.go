package live

import (
	"slices"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// Costs is what earlier live queries with one text cost their nodes.
type Costs struct {
	Queries int       // how many there were
	At      time.Time // of the newest
	Nodes   int       // how many answers they got
	Rows    float64   // per node
	Answers []osquery.QueryStats
}

// Wall returns the milliseconds that 95 of 100 answers stayed below; false
// without an answer that told them. Agents before osquery 5.8 tell none.
func (c Costs) Wall() (float64, bool) {
	var times []int64
	for _, s := range c.Answers {
		if s != (osquery.QueryStats{}) {
			times = append(times, s.WallTimeMs)
		}
	}
	if len(times) == 0 {
		return 0, false
	}
	slices.Sort(times)
	const most = 95
	return float64(times[(len(times)-1)*most/100]), true
}
