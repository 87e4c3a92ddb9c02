package hostsql

import (
	"context"
	"os"
)

// osqueryInfo is osquery_info without an agent: a shell, as osqueryi.
func (h *host) osqueryInfo(_ context.Context, _ Constraints, yield func(Values) error) error {
	return yield(Values{
		"pid": os.Getpid(), "config_valid": 0, "extensions": "inactive", "build_platform": "linux",
		"build_distro": BuildDistro, "version": Version, "watcher": -1, "platform_mask": PlatformMask,
	})
}

// What this implementation says of itself. The version is that of the osquery
// whose behaviour and tables it follows; the distribution tells that it is not
// that program.
const (
	Version      = "5.23.1"
	BuildDistro  = "muster"
	PlatformMask = 9 // posix and linux
)
