package rollout_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/rollout"
)

// BenchmarkNote notes batches of 1,000 rows, and of a snapshot of a schedule of
// 17 queries.
func BenchmarkNote(b *testing.B) {
	ordinary := row(1, "pack_base_users", event.Added, `{"uid":"1000","username":"anna","directory":"/home/anna","shell":"/bin/bash"}`)
	ordinary.Events = slices.Repeat(ordinary.Events, 1000)
	schedule := snapshot(1, 17)
	status := says(1, 1, "The user_ssh_keys table returns data based on the current user by default, consider JOINing against the users table")
	status.Events = slices.Repeat(status.Events, 1000)
	for _, bb := range []struct {
		name  string
		batch *event.Batch
	}{{"1000 rows", ordinary}, {"a schedule of 17", schedule}, {"1000 status lines", status}} {
		b.Run(bb.name, func(b *testing.B) {
			m := newMonitor()
			m.Note(schedule)
			b.ReportAllocs()
			for b.Loop() {
				m.Note(bb.batch)
			}
		})
	}
}

// snapshot is a snapshot of a schedule of so many queries.
func snapshot(seconds, queries int) *event.Batch {
	all := ran(seconds, "q", 1, 1, 1, 1)
	all.Events = nil
	for i := range queries {
		all.Events = append(all.Events, ran(seconds, fmt.Sprintf("pack_base_question_%d", i), 1, 1, 1, 1).Events...)
	}
	return all
}

// BenchmarkJudge judges a stage of a fleet of 100,000 nodes, with the evidence
// of a Monitor.
func BenchmarkJudge(b *testing.B) {
	const nodes = 100_000
	m := newMonitor()
	subjects := make([]rollout.Subject, nodes)
	for i := range subjects {
		subjects[i] = good(i, i%10 == 0)
		note := info(1, 1, 2, "new")
		note.NodeID = subjects[i].Node.ID
		m.Note(note)
	}
	m.Watch(2, epoch())
	v := rollout.View{Before: time.Hour, Nodes: func(yield func(rollout.Subject) bool) {
		for _, s := range subjects {
			s.Evidence = m.Evidence(s.Node.ID)
			if !yield(s) {
				return
			}
		}
	}}
	r := &rollout.Rollout{Revision: 2, StageAt: epoch()}
	b.ReportAllocs()
	for b.Loop() {
		if results := rollout.Judge(r, v, at(60)); len(results) != 8 {
			b.Fatal(results)
		}
	}
}

// BenchmarkCost computes what queries cost, from 10,000 nodes with 17 queries.
func BenchmarkCost(b *testing.B) {
	m := newMonitor()
	note := snapshot(1, 17)
	for i := range 10_000 {
		note.NodeID = fmt.Sprintf("n%05d", i)
		m.Note(note)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Expire()
		if c, ok := m.Cost("pack_base_question_3", "h"); !ok || c.Nodes != 10_000 {
			b.Fatal(c)
		}
	}
}

// BenchmarkMemory reports the bytes that a node takes: without a schedule, and
// with one of 17 queries.
func BenchmarkMemory(b *testing.B) {
	for _, queries := range []int{0, 17} {
		b.Run(fmt.Sprintf("%d queries", queries), func(b *testing.B) {
			const nodes = 20_000
			note := snapshot(1, queries)
			note.Events = append(note.Events, info(1, 1, 2, "0123456789012345678901234567890123456789").Events...)
			var took uint64
			for b.Loop() {
				m := newMonitor()
				before := heap()
				for i := range nodes {
					note.NodeID = fmt.Sprintf("0199c0de-0000-7000-8000-%012d", i)
					m.Note(note)
				}
				took = heap() - before
				runtime.KeepAlive(m)
			}
			b.ReportMetric(float64(took)/nodes, "B/node")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
