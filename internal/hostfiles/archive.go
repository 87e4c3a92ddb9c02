package hostfiles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// archiveTime is the time of all that is in an archive: bytes must not depend
// on when it was made. Tools warn of files from before 1984.
func archiveTime() time.Time { return time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC) }

// Archive packs a tree as tar.gz: sorted, of root, with one time.
func Archive(files []File) ([]byte, error) { return tarball("", files) }

// tarball puts prefix before every path; the directories on the way are in it.
func tarball(prefix string, files []File) ([]byte, error) {
	var buf bytes.Buffer
	// Not compressed: then no release of Go that compresses better changes the
	// bytes, and a config is small.
	z, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range withDirectories(files) {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: prefix + f.Path, Mode: int64(f.Mode.Perm()), Size: int64(len(f.Bytes)),
			Uname: "root", Gname: "root", ModTime: archiveTime(), Format: tar.FormatUSTAR,
		}
		if f.Mode.IsDir() {
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.Bytes); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// withDirectories adds the directories of files and sorts, so that each comes
// before what is in it.
func withDirectories(files []File) []File {
	all := slices.Clone(files)
	seen := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			all = append(all, File{Path: dir, Mode: fs.ModeDir | modeExecutable})
		}
	}
	sortFiles(all)
	return all
}

// packageName and packageVersion are Debian's rules (Policy 5.6.1, 5.6.12)
// without epochs and revisions.
const (
	packageName    = `^[a-z0-9][a-z0-9+.-]{1,62}$`
	packageVersion = `^[0-9][A-Za-z0-9.+~]{0,62}$`
)

// Deb returns a Debian package of the files, for all architectures. Its files
// are conffiles: what an administrator changed on a host stays. It restarts an
// osqueryd that runs, and starts none.
func Deb(o Options, name, version string) ([]byte, error) {
	if !regexp.MustCompile(packageName).MatchString(name) {
		return nil, errs.Field("name", "is no name of a Debian package; use 2 to 63 of a-z, 0-9, +, - and .")
	}
	if !regexp.MustCompile(packageVersion).MatchString(version) {
		return nil, errs.Field("version", "is no version of a Debian package; use 1 to 63 of letters, digits, ., + and ~, a digit first")
	}
	s, err := newLinuxSheet("deb", o)
	if err != nil {
		return nil, err
	}
	files, err := s.tree()
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if !isInstalled(f) {
			files[i].Path = "usr/share/doc/" + name + "/" + f.Path
		}
	}
	sortFiles(files)
	control, err := s.control(debControl{s, name, version, kib(files)})
	if err != nil {
		return nil, err
	}
	controlTar, err := tarball("./", control)
	if err != nil {
		return nil, err
	}
	dataTar, err := tarball("./", files)
	if err != nil {
		return nil, err
	}
	return ar([]File{{"debian-binary", modeOpen, []byte("2.0\n")}, {"control.tar.gz", modeOpen, controlTar}, {"data.tar.gz", modeOpen, dataTar}}), nil
}

// debControl is what the template of the control file sees.
type debControl struct {
	*sheet

	Name, Version string
	KiB           int
}

func kib(files []File) int {
	n := 0
	for _, f := range files {
		n += (len(f.Bytes) + 1023) / 1024 // as dpkg counts
	}
	return n
}

// control returns what dpkg reads of a package before its data.
func (s *sheet) control(c debControl) ([]File, error) {
	var conffiles bytes.Buffer
	for _, f := range s.Installed {
		fmt.Fprintf(&conffiles, "/%s\n", f.Path)
	}
	files := []File{{"conffiles", modeOpen, conffiles.Bytes()}}
	for name, mode := range map[string]fs.FileMode{"control": modeOpen, "postinst": modeExecutable, "postrm": modeExecutable} {
		text, err := render("deb/"+name, c)
		if err != nil {
			return nil, err
		}
		files = append(files, File{name, mode, text})
	}
	sortFiles(files)
	return files, nil
}

// ar packs members in the common ar format (deb(5)), in their order.
func ar(members []File) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.Path, archiveTime().Unix(), 0, 0, 0o100000|uint32(m.Mode.Perm()), len(m.Bytes))
		b.Write(m.Bytes)
		if len(m.Bytes)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
