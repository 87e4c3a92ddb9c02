//go:build linux || darwin

package main

import "golang.org/x/sys/unix"

// heedSignals makes a raw terminal print lines, and turn Ctrl-C into a signal,
// as it does for other programs, and leaves it raw otherwise: what is typed until
// the next line is read is kept key by key. A terminal that edits lines itself
// would take a Ctrl-D out of them, and nobody would hear of it.
func heedSignals(fd int) bool {
	t, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return false
	}
	t.Lflag |= unix.ISIG
	t.Oflag |= unix.OPOST
	return unix.IoctlSetTermios(fd, setTermios, t) == nil
}
