package carve

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Combine writes the archives of a carve that are there as one tar, each in a
// directory of its own. Names lose what would lead out of that. What is no tar
// becomes one file.
func (s *Service) Combine(ctx context.Context, c *Carve, w io.Writer) error {
	out := tar.NewWriter(w)
	for _, a := range c.Archives {
		if a.State != Done {
			continue
		}
		if err := s.addTo(ctx, out, a); err != nil {
			return fmt.Errorf("archive %d: %w", a.N, err)
		}
	}
	return out.Close()
}

func (s *Service) addTo(ctx context.Context, out *tar.Writer, a Archive) error {
	r, err := s.Open(ctx, a, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	dir := "archive-" + strconv.Itoa(a.N)
	switch a.Format {
	case Tar:
		return members(out, r, dir)
	case TarZstd:
		z, err := inflate(bufio.NewReaderSize(r, 64<<10))
		if err != nil {
			return err
		}
		defer z.Close()
		return members(out, &bounded{r: z, left: min(maxInflated, max(minInflated, a.Size*maxRatio))}, dir)
	}
	if err := out.WriteHeader(&tar.Header{Name: dir + ".bin", Mode: 0o600, Size: a.Size, ModTime: a.StartedAt, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return err
}

// members copies regular files and directories; links and devices do nothing
// good when somebody unpacks them.
func members(out *tar.Writer, r io.Reader, dir string) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			continue
		}
		path, _ := original(h.Name)
		kept := tar.Header{
			Name: dir + "/" + within(path), Mode: h.Mode & 0o777, Size: h.Size, ModTime: h.ModTime, Typeflag: h.Typeflag, Format: tar.FormatPAX,
		}
		if h.Typeflag == tar.TypeDir {
			kept.Name += "/"
		}
		if err := out.WriteHeader(&kept); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // what is inflated is bounded
			return err
		}
	}
}

// within returns a path that stays where it is put.
func within(path string) string {
	parts := strings.FieldsFunc(strings.ReplaceAll(path, ":", "_"), func(r rune) bool { return r == '/' || r == '\\' })
	kept := parts[:0]
	for _, p := range parts {
		if p != "." && p != ".." {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		return "unnamed"
	}
	return strings.Join(kept, "/")
}
