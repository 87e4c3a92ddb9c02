package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unique"
)

// QueryTaggerOptions are what a QueryTagger needs.
type QueryTaggerOptions struct {
	Store TagStore
	Log   *slog.Logger
	Now   func() time.Time
}

// QueryTagger tags nodes by the rows of their queries: a node has a query's tag
// as long as the query gives rows there. It gathers what queries say, and tells
// the store what is new. Safe for concurrent use.
type QueryTagger struct {
	QueryTaggerOptions

	mu    sync.Mutex
	facts map[fact]told
	news  map[fact]string // tags that the store does not know of; "" is none
}

// fact is about one query on one node.
type fact struct{ node, query string }

type told struct {
	tag string // "" for none
	at  time.Time
}

// NewQueryTagger returns a QueryTagger; Run tells the store.
func NewQueryTagger(o QueryTaggerOptions) *QueryTagger {
	return &QueryTagger{QueryTaggerOptions: o, facts: map[fact]told{}, news: map[fact]string{}}
}

const (
	tellEvery = 3 * time.Second
	// tellChunk bounds what the store is told at once.
	tellChunk = 1000
	// factsFor is how long the store is believed to have what it was told: the
	// query may have been away meanwhile, or another server heard something else.
	factsFor = 10 * time.Minute
	// maxFacts bounds the memory, which is some 200 bytes for each. Then it begins
	// anew, which costs only that the store is told what it has.
	maxFacts = 500_000
)

// Note notes how many rows a query that gives a tag has on a node. A query gives
// one tag: another one replaces it. What was noted before costs one look.
func (q *QueryTagger) Note(nodeID, query, tag string, rows int) {
	if rows <= 0 {
		tag = ""
	}
	f, now := fact{nodeID, query}, q.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if t, ok := q.facts[f]; ok && t.tag == tag {
		if since := now.Sub(t.at); since >= 0 && since < factsFor {
			return
		}
	}
	if len(q.facts) >= maxFacts || len(q.news) >= maxFacts {
		clear(q.facts)
	}
	if len(q.news) >= maxFacts {
		return // the store does not answer; the query's next result tells again
	}
	// Copies: what a caller has may be a small part of something large.
	f, tag = fact{strings.Clone(nodeID), unique.Make(query).Value()}, unique.Make(tag).Value()
	q.facts[f] = told{tag, now}
	q.news[f] = tag
}

// Run tells the store every few seconds what is new, and once more when ctx
// ends. What fails is logged and tried again.
func (q *QueryTagger) Run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return q.Flush(context.WithoutCancel(ctx))
		case <-tick.C:
		}
		if err := q.Flush(ctx); err != nil && ctx.Err() == nil {
			q.Log.WarnContext(ctx, "tags of queries were not kept; retrying", "error", err)
		}
	}
}

// Flush tells the store what is new. With an error, what it did not take is told
// the next time.
func (q *QueryTagger) Flush(ctx context.Context) error {
	q.mu.Lock()
	news := q.news
	q.news = map[fact]string{}
	q.mu.Unlock()
	taggings := make([]Tagging, 0, len(news))
	for f, tag := range news {
		t := Tagging{NodeID: f.node, Source: QuerySource(f.query)}
		if tag != "" {
			t.Tags = []string{tag}
		}
		taggings = append(taggings, t)
	}
	for len(taggings) > 0 {
		n := min(len(taggings), tellChunk)
		if _, err := q.Store.SetTags(ctx, taggings[:n], q.Now()); err != nil {
			q.takeBack(taggings)
			return err
		}
		taggings = taggings[n:]
	}
	return nil
}

// takeBack makes taggings news again, unless there are newer ones.
func (q *QueryTagger) takeBack(taggings []Tagging) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range taggings {
		f := fact{t.NodeID, strings.TrimPrefix(t.Source, querySource)}
		if _, newer := q.news[f]; !newer {
			q.news[f] = strings.Join(t.Tags, "")
		}
	}
}
