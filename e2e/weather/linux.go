//go:build linux

package weather

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mount mounts an empty file system of that size, in memory, on a directory.
// Unmount it.
func mount(dir string, bytes int64) (unmount func() error, err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return nil, fmt.Errorf("%w: mounting a small file system: %w; run it as root", ErrCannot, err)
	}
	return func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// free returns how many bytes are free where dir is.
func free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no file system is that large
}

// reserve takes space of the file system for a file.
func reserve(f *os.File, bytes int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, bytes)
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h: nobody can write to the file,
// not even who has it open.
const immutableFlag = 0x10

// immutable makes files unwritable, or writable again.
func immutable(on bool, paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path) //nolint:gosec // of the server that we started
		if err != nil {
			return err
		}
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			if flags &^= immutableFlag; on {
				flags |= immutableFlag
			}
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%w: making %s read-only for everybody: %w; run it as root on ext4, xfs or btrfs", ErrCannot, path, err)
		}
	}
	return nil
}
