package hostsql

import (
	"context"
	"crypto/md5"  //nolint:gosec // a column of table hash
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the recursion of a trailing %%, as a file system may hold
// a loop through bind mounts.
const maxDepth = 64

// A found is a file that a query's constraints name.
type found struct {
	path string // as the query sees it
	dir  string // its directory
	name string
}

// find calls use for the files that constraints on path and directory name.
// osquery's globs are no LIKE: % stays within one directory level, and only a
// %% at the end descends (osquery/filesystem/filesystem.cpp). SQLite then
// applies LIKE to what came out, which keeps all of it.
func (h *host) find(ctx context.Context, q Constraints, use func(found) error) error {
	for _, path := range q.Equal("path") {
		if err := use(found{path, filepath.Dir(path), filepath.Base(path)}); err != nil {
			return err
		}
	}
	for _, pattern := range q.Like("path") {
		err := expand(ctx, pattern, 0, func(path string, dir bool) error {
			if !dir {
				return use(found{path, filepath.Dir(path), filepath.Base(path)})
			}
			return use(found{path + "/", path, "."}) // how osquery marks a directory that a pattern found
		})
		if err != nil {
			return err
		}
	}
	directory := func(dir string) error {
		for _, e := range children(dir) {
			if err := use(found{filepath.Join(dir, e.Name()), dir, e.Name()}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, dir := range q.Equal("directory") {
		if err := directory(dir); err != nil {
			return err
		}
	}
	for _, pattern := range q.Like("directory") {
		err := expand(ctx, pattern, 0, func(path string, dir bool) error {
			if !dir {
				return nil
			}
			return directory(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func children(dir string) []fs.DirEntry {
	if !filepath.IsAbs(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	return entries
}

// expand calls use for the paths that an osquery pattern names.
func expand(ctx context.Context, pattern string, depth int, use func(path string, dir bool) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pattern = strings.ReplaceAll(strings.ReplaceAll(pattern, "**", "%%"), "*", "%")
	if !strings.HasPrefix(pattern, "/") || depth > maxDepth {
		return nil
	}
	base, rest := "/", strings.Trim(pattern, "/")
	for rest != "" {
		part, after, _ := strings.Cut(rest, "/")
		if !strings.Contains(part, "%") {
			base, rest = filepath.Join(base, part), after
			continue
		}
		recurse := strings.HasSuffix(part, "%%") && after == ""
		for _, e := range children(base) {
			if !match(part, e.Name()) {
				continue
			}
			path := filepath.Join(base, e.Name())
			if after != "" {
				if err := expand(ctx, path+"/"+after, depth+1, use); err != nil {
					return err
				}
				continue
			}
			if err := use(path, isDir(path)); err != nil {
				return err
			}
			if recurse && e.IsDir() { // not through symbolic links
				if err := expand(ctx, path+"/%%", depth+1, use); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if _, err := os.Lstat(base); err != nil {
		return nil //nolint:nilerr // no such file: no rows
	}
	if isDir(base) && !strings.HasSuffix(pattern, "/") {
		return use(base, false) // named in full: as written, without the mark
	}
	return use(base, isDir(base))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// match reports whether name fits one level of a pattern, where % is any text.
func match(pattern, name string) bool {
	if name[0] == '.' && pattern[0] == '%' {
		return false // as glob(3): a wildcard finds no hidden file
	}
	parts := strings.Split(pattern, "%")
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return strings.HasSuffix(name, last)
}

func (h *host) file(ctx context.Context, q Constraints, yield func(Values) error) error {
	return h.find(ctx, q, func(f found) error {
		v := fileValues(f)
		if v == nil {
			return nil
		}
		return yield(v)
	})
}

// fileValues describes a file; nil if there is none.
func fileValues(f found) Values {
	var link, s unix.Stat_t
	if !filepath.IsAbs(f.path) || unix.Lstat(f.path, &link) != nil {
		return nil
	}
	v := Values{"path": f.path, "directory": f.dir, "filename": f.name, "symlink": 0, "pid_with_namespace": 0}
	if link.Mode&unix.S_IFMT == unix.S_IFLNK {
		v["symlink"] = 1
		if target, err := filepath.EvalSymlinks(f.path); err == nil {
			v["symlink_target_path"] = target
		}
	}
	if unix.Stat(f.path, &s) != nil {
		s = link // a dangling link is described itself
	}
	v["inode"], v["uid"], v["gid"], v["mode"] = s.Ino, int64(s.Uid), int64(s.Gid), fmt.Sprintf("%04o", s.Mode&0o7777)
	v["device"], v["size"], v["block_size"], v["hard_links"] = strconv.FormatUint(s.Rdev, 10), s.Size, int64(s.Blksize), strconv.FormatUint(uint64(s.Nlink), 10) //nolint:unconvert // widths differ by architecture
	v["atime"], v["mtime"], v["ctime"], v["btime"] = s.Atim.Sec, s.Mtim.Sec, s.Ctim.Sec, birth(f.path)
	v["type"] = fileType(s.Mode)
	return v
}

// birth is a file's creation time, 0 where the file system has none.
func birth(path string) int64 {
	var s unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &s) != nil || s.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return s.Btime.Sec
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "regular"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFCHR:
		return "character"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown"
}

func (h *host) hash(ctx context.Context, q Constraints, yield func(Values) error) error {
	return h.find(ctx, q, func(f found) error {
		info, err := os.Stat(f.path)
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // nothing to hash
		}
		v := Values{"path": f.path, "directory": f.dir, "pid_with_namespace": 0}
		if err := digest(ctx, v, q, f.path, h.readMax); err != nil {
			if ctx.Err() != nil {
				return err
			}
			h.warn(ctx, "Cannot hash "+f.path+": "+err.Error())
		}
		return yield(v)
	})
}

// digest adds the hashes that the query reads.
func digest(ctx context.Context, v Values, q Constraints, path string, limit int64) error {
	file, err := os.Open(path) //nolint:gosec // the file that the query asks about
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // a reader
	sums := map[string]hash.Hash{"sha256": sha256.New()}
	if q.Uses("md5") {
		sums["md5"] = md5.New() //nolint:gosec // as above
	}
	if q.Uses("sha1") {
		sums["sha1"] = sha1.New() //nolint:gosec // as above
	}
	writers := make([]io.Writer, 0, len(sums))
	for _, s := range sums {
		writers = append(writers, s)
	}
	n, err := io.Copy(io.MultiWriter(writers...), &cancelReader{ctx.Err, io.LimitReader(file, limit+1)})
	if err != nil {
		return err
	}
	if n > limit {
		return errors.New("it is larger than read_max")
	}
	for column, s := range sums {
		v[column] = hex.EncodeToString(s.Sum(nil))
	}
	return nil
}

// cancelReader ends reading when done returns an error.
type cancelReader struct {
	done func() error
	r    io.Reader
}

func (r *cancelReader) Read(p []byte) (int, error) {
	if err := r.done(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// suidBin walks the directories of programs for files that run as another.
func (h *host) suidBin(ctx context.Context, _ Constraints, yield func(Values) error) error {
	names, teams := map[string]string{}, map[string]string{}
	for _, p := range h.passwd() {
		names[p.uid] = p.name
	}
	for _, t := range h.group() {
		teams[t.gid] = t.name
	}
	for _, dir := range []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec", "/usr/lib"} {
		if h.link(dir) != "" {
			continue // /bin → usr/bin on merged systems
		}
		err := filepath.WalkDir(h.path(dir), func(path string, e fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil || !e.Type().IsRegular() {
				return nil //nolint:nilerr // skip what may not be read
			}
			var s unix.Stat_t
			if unix.Lstat(path, &s) != nil || s.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
				return nil //nolint:nilerr // gone meanwhile, or an ordinary file
			}
			permissions := ""
			if s.Mode&unix.S_ISUID != 0 {
				permissions += "S"
			}
			if s.Mode&unix.S_ISGID != 0 {
				permissions += "G"
			}
			return yield(Values{
				"path": "/" + strings.TrimPrefix(strings.TrimPrefix(path, filepath.Join("/", h.root)), "/"), "permissions": permissions, "pid_with_namespace": 0,
				"username": names[strconv.Itoa(int(s.Uid))], "groupname": teams[strconv.Itoa(int(s.Gid))],
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
