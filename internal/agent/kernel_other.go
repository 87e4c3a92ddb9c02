//go:build !linux

package agent

import (
	"errors"
	"os"
	"time"
)

func threadTimes() (user, system time.Duration) { return 0, 0 }

// lockFile refuses: on other systems the program builds, but the agent has no
// tables there.
func lockFile(*os.File) error { return errors.New("the agent is for Linux alone") }
