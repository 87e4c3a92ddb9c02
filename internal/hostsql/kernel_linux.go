package hostsql

import "golang.org/x/sys/unix"

// uname returns the kernel's release and the machine's architecture.
func uname() (release, machine string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", ""
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
}

// stat describes a file, or the link itself if follow is false. It reports
// false when there is no such file.
func stat(path string, follow bool) (fileStat, bool) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	var s unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &s) != nil {
		return fileStat{}, false
	}
	f := fileStat{
		inode: s.Ino, device: unix.Mkdev(s.Rdev_major, s.Rdev_minor), uid: s.Uid, gid: s.Gid, mode: uint32(s.Mode),
		size: int64(s.Size), blockSize: int64(s.Blksize), links: int64(s.Nlink), //nolint:gosec // no file is that large
		atime: s.Atime.Sec, mtime: s.Mtime.Sec, ctime: s.Ctime.Sec,
	}
	if s.Mask&unix.STATX_BTIME != 0 {
		f.btime = s.Btime.Sec
	}
	return f, true
}

// statfs describes the file system at a path.
func statfs(path string) (fileSystem, bool) {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return fileSystem{}, false
	}
	return fileSystem{s.Bsize, s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree}, true
}
