package redact

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names under which redactions are counted that are no scheduled query's.
const (
	LiveQueries  = "live queries"
	OtherQueries = "other queries" // beyond maxCounted
	Elsewhere    = "elsewhere"     // messages, decorations, enrolments
)

// LiveQuery is the name of the source of all live queries.
const LiveQuery = "live"

// maxCounted bounds the queries that are counted apart: agents name them.
const maxCounted = 500

// Counts counts what was replaced since the server started. Safe for concurrent
// use.
type Counts struct {
	// Each is told of each, if it is set, by kind.
	Each func(kind string)

	mu      sync.Mutex
	total   int64
	kinds   map[string]int64
	queries map[string]*QueryCount
	now     func() time.Time
}

// QueryCount is how often something was replaced in a query's rows.
type QueryCount struct {
	Query string           `json:"query"`
	Total int64            `json:"total"`
	Kinds map[string]int64 `json:"kinds"`
	Last  time.Time        `json:"last"`
}

// Summary is what Counts counted.
type Summary struct {
	Total   int64            `json:"total"`
	Kinds   map[string]int64 `json:"kinds"`
	Queries []QueryCount     `json:"queries"` // the most first
}

// NewCounts returns Counts that begin at zero.
func NewCounts(now func() time.Time) *Counts {
	return &Counts{kinds: map[string]int64{}, queries: map[string]*QueryCount{}, now: now}
}

func (c *Counts) add(query, kind string) {
	if c.Each != nil {
		c.Each(kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.kinds[kind]++
	q, ok := c.queries[query]
	if !ok {
		if len(c.queries) >= maxCounted {
			query = OtherQueries
		}
		if q, ok = c.queries[query]; !ok {
			q = &QueryCount{Query: strings.Clone(query), Kinds: map[string]int64{}}
			c.queries[q.Query] = q
		}
	}
	q.Total++
	q.Kinds[kind]++
	q.Last = c.now().UTC()
}

// Summary returns what was counted.
func (c *Counts) Summary() Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Summary{Total: c.total, Kinds: maps.Clone(c.kinds), Queries: make([]QueryCount, 0, len(c.queries))}
	for _, q := range c.queries {
		copied := *q
		copied.Kinds = maps.Clone(q.Kinds)
		s.Queries = append(s.Queries, copied)
	}
	slices.SortFunc(s.Queries, func(a, b QueryCount) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Query, b.Query))
	})
	return s
}
