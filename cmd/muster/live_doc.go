package main

import (
	"cmp"

	"github.com/musterhq/muster/internal/adminapi"
)

// States of a live query that matter here.
const (
	livePending = "pending"
	liveRunning = "running"
)

// unanswered counts the nodes without an answer.
func unanswered(counts map[string]int) int {
	n := 0
	for _, state := range []string{"waiting", "sent", "expired", "stopped"} {
		n += counts[state]
	}
	return n
}

// answerHost names a node to people.
func answerHost(a *adminapi.LiveAnswer) string { return cmp.Or(a.Hostname, a.HostIdentifier) }
