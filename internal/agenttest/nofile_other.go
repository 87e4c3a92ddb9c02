//go:build !unix

package agenttest

import "math"

// RaiseOpenFiles has nothing to raise here.
func RaiseOpenFiles() (uint64, error) { return math.MaxUint64, nil }
