package carve

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/musterhq/muster/internal/osquery"
)

// Bounds of a listing: what is in an archive is a node's choice.
const (
	maxFiles = 10_000
	// maxNames bounds the names of a listing together, as they are kept and sent
	// as one document.
	maxNames = 4 << 20
	// maxName is that of Linux.
	maxName = 4 << 10
	// maxInflated bounds what is inflated to find names; it takes seconds.
	maxInflated = 8 << 30
	// maxRatio is far above that of logs; a frame of zeros has over 10,000.
	maxRatio = 1000
	// minInflated is what every archive may have, however small it is.
	minInflated = 64 << 20
	// maxWindow bounds the memory of inflating. osquery packs with zstd's default
	// level, which has 2 MiB.
	maxWindow = 8 << 20
)

// listing is what an archive holds, as far as that can be said.
type listing struct {
	format    Format
	files     []File
	truncated bool
	problem   string // why there is no more
}

// isZstd is how osquery's own test server knows a compressed archive: the
// request does not say.
func isZstd(head []byte) bool { return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) }

// list reads an archive of the given size. It may stop before the end, reads
// within bounds, and writes nothing.
func list(r io.Reader, size int64) (l listing) {
	defer func() {
		if p := recover(); p != nil { // a decoder's, of what a node made up
			l.problem = fmt.Sprintf("it cannot be listed: %v", p)
		}
	}()
	const block = 512 // of tar
	b := bufio.NewReaderSize(r, 64<<10)
	head, _ := b.Peek(block)
	if !isZstd(head) {
		l.tar(b, Tar)
		return l
	}
	z, err := inflate(b)
	if err != nil {
		l.problem = "it is compressed in a way that is not known"
		return l
	}
	defer z.Close()
	limit := min(maxInflated, max(minInflated, size*maxRatio))
	l.format = TarZstd
	l.tar(&bounded{r: z, left: limit}, TarZstd)
	return l
}

// inflate reads zstd with little memory.
func inflate(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// errBomb says that an archive inflates to more than is looked at.
var errBomb = errors.New("it inflates to more than is looked at")

// bounded fails, rather than ends, beyond its limit.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBomb
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// tar lists members until the end, a bound, or what is no tar.
func (l *listing) tar(r io.Reader, format Format) {
	t := tar.NewReader(r)
	names := 0
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if len(l.files) > 0 {
				l.format = format
			}
			return
		}
		if err != nil {
			if l.problem = "it is no tar archive"; len(l.files) > 0 || errors.Is(err, errBomb) {
				l.truncated, l.problem = true, "it cannot be listed to its end"
			}
			if errors.Is(err, errBomb) {
				l.problem = errBomb.Error()
			}
			return
		}
		l.format = format
		f := member(h)
		names += len(f.Path) + len(f.Link)
		if len(l.files) == maxFiles || names > maxNames {
			l.truncated = true
			return
		}
		l.files = append(l.files, f)
	}
}

func member(h *tar.Header) File {
	f := File{Size: h.Size, Mode: h.FileInfo().Mode().String(), Modified: h.ModTime.UTC(), Type: kind(h.Typeflag)}
	if y := f.Modified.Year(); y < 1 || y > 9999 { // JSON has no others
		f.Modified = f.Modified.AddDate(1-y, 0, 0)
	}
	f.Path, f.Odd = original(h.Name)
	f.Link, _ = original(h.Linkname)
	return f
}

func kind(flag byte) string {
	switch flag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeLink:
		return "link"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "fifo"
	}
	return "other"
}

// packedIn begins the name of the directory into which osquery copies files,
// and from which it names members: /tmp/osquery_carve_<guid>/etc/hosts.
const packedIn = "osquery_carve_"

// original returns where a member was on the node, and what is odd about its
// name.
func original(name string) (path, odd string) {
	path = osquery.Clean([]byte(name))
	if len(path) > maxName {
		path, odd = strings.ToValidUTF8(path[:maxName], ""), "too long"
	}
	if i := strings.Index(path, packedIn); i >= 0 && (i == 0 || path[i-1] == '/' || path[i-1] == '\\') {
		rest := path[i+len(packedIn):]
		if n := strings.IndexAny(rest, `/\`); n >= 0 {
			path = rest[n:]
		}
	}
	for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == ".." {
			odd = "climbs out of its directory"
		}
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		odd = "holds control characters"
	}
	return path, odd
}
