//go:build !unix

package agenttest

import "os/exec"

// newSession does nothing: there are no sessions here.
func newSession(*exec.Cmd) {}
