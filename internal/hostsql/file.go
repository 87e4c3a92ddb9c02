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
	if !filepath.IsAbs(f.path) {
		return nil
	}
	s, ok := stat(f.path, false)
	if !ok {
		return nil
	}
	v := Values{"path": f.path, "directory": f.dir, "filename": f.name, "symlink": 0, "pid_with_namespace": 0}
	if s.mode&modeType == modeLink {
		v["symlink"] = 1
		if target, err := filepath.EvalSymlinks(f.path); err == nil {
			v["symlink_target_path"] = target
		}
		if followed, ok := stat(f.path, true); ok {
			s = followed // a dangling link is described itself
		}
	}
	v["inode"], v["uid"], v["gid"], v["mode"] = s.inode, s.uid, s.gid, fmt.Sprintf("%04o", s.mode&0o7777)
	v["device"], v["size"], v["block_size"], v["hard_links"] = s.device, s.size, s.blockSize, s.links
	v["atime"], v["mtime"], v["ctime"], v["btime"] = s.atime, s.mtime, s.ctime, s.btime
	v["type"] = fileType(s.mode)
	return v
}

func fileType(mode uint32) string {
	switch mode & modeType {
	case modeRegular:
		return "regular"
	case modeDirectory:
		return "directory"
	case modeLink:
		return "symlink"
	case modeBlock:
		return "block"
	case modeCharacter:
		return "character"
	case modeFIFO:
		return "fifo"
	case modeSocket:
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
			s, ok := stat(path, false)
			if !ok || s.mode&(modeSetUID|modeSetGID) == 0 {
				return nil
			}
			permissions := ""
			if s.mode&modeSetUID != 0 {
				permissions += "S"
			}
			if s.mode&modeSetGID != 0 {
				permissions += "G"
			}
			return yield(Values{
				"path": "/" + strings.TrimPrefix(strings.TrimPrefix(path, filepath.Join("/", h.root)), "/"), "permissions": permissions, "pid_with_namespace": 0,
				"username": names[strconv.Itoa(int(s.uid))], "groupname": teams[strconv.Itoa(int(s.gid))],
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
