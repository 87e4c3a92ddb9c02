package account

import "time"

// Bounds of calls that are done once.
const (
	// OnceFor is how long the first answer to a call is given again.
	OnceFor = 24 * time.Hour
	// MaxOnce bounds how many calls of one caller are known.
	MaxOnce = 10_000
	// MaxOnceAnswer bounds the answer that is kept, in bytes.
	MaxOnceAnswer = 1 << 20
)

// Once is a call that its caller may send again under the same key, as when an
// answer was lost, without it being done twice.
type Once struct {
	Account string // name of who calls
	Key     string // chosen by them
	Hash    []byte // of what is called with which input
	At      time.Time
	Done    bool
	Answer  []byte // nil until it is done, and of one that is too large
}
