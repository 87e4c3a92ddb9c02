//go:build unix

package agenttest

import (
	"os/exec"
	"syscall"
)

// newSession makes a command that is not started yet begin a session.
func newSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
