//go:build !linux

package hostsql

// On other systems the package builds, so that the program does, and its
// tables have no rows.

func uname() (release, machine string) { return "", "" }

func stat(string, bool) (fileStat, bool) { return fileStat{}, false }

func statfs(string) (fileSystem, bool) { return fileSystem{}, false }
