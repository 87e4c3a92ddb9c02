package live

import "time"

// Asked is a live query that a node was meant by, as the node's history has it.
type Asked struct {
	LiveID    string
	Kind      Kind
	Source    string // as that of a [Query]
	SQL       string
	Reason    string
	Tier      int
	Approval  Approval
	CreatedBy string
	CreatedAt time.Time
	SentAt    time.Time // zero if it was never sent
	State     State
}
