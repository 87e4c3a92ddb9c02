package carve

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// zeros is an endless run of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func zipped(tb testing.TB, r io.Reader) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(z, r); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func tarred(tb testing.TB, headers ...tar.Header) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func TestList(t *testing.T) {
	t.Parallel()
	plain := tarred(t, tar.Header{Name: "/tmp/osquery_carve_g-1/etc/hosts", Mode: 0o644, Size: 700}, tar.Header{Name: `C:\Windows\TEMP\osquery_carve_g\x.txt`, Size: 3},
		tar.Header{Name: "../../etc/passwd", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}, tar.Header{Name: "a\nb"})
	want := `[{"path":"/etc/hosts","size":700,"mode":"-rw-r--r--"`
	for format, archive := range map[Format][]byte{Tar: plain, TarZstd: zipped(t, bytes.NewReader(plain))} {
		l := list(bytes.NewReader(archive), int64(len(archive)))
		b, err := json.Marshal(l.files)
		if l.format != format || err != nil || l.truncated || l.problem != "" || !strings.HasPrefix(string(b), want) || len(l.files) != 4 {
			t.Errorf("%s: %+v %s %v", format, l, b, err)
			continue
		}
		if l.files[1].Path != `\x.txt` || l.files[2].Odd == "" || l.files[2].Type != "symlink" || l.files[3].Odd == "" {
			t.Errorf("%s", b)
		}
	}
	for name, archive := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "zeros": make([]byte, 4096), "no zstd": {0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff}, "zstd of text": zipped(t, strings.NewReader("hello")),
		"zip": []byte("PK\x03\x04 and so on"),
	} {
		if l := list(bytes.NewReader(archive), int64(len(archive))); len(l.files) != 0 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if l := list(bytes.NewReader(plain[:1200]), 1200); len(l.files) != 1 || !l.truncated {
		t.Errorf("cut: %+v", l)
	}
}

// TestList_bombs: what is small and grows without end is left after a bound.
func TestList_bombs(t *testing.T) {
	t.Parallel()
	huge := tarred(t, tar.Header{Name: "a", Size: 1})
	head := huge[:512]
	for name, archive := range map[string][]byte{
		"zeros in zstd":     zipped(t, io.LimitReader(zeros{}, 100<<20)),
		"a file of zeros":   zipped(t, io.MultiReader(bytes.NewReader(head8G(t)), io.LimitReader(zeros{}, 100<<20))),
		"tar of no content": append(bytes.Clone(head), head...),
	} {
		l := list(bytes.NewReader(archive), int64(len(archive)))
		if len(l.files) > 2 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	many := make([]tar.Header, 0, maxFiles+100)
	for i := range maxFiles + 100 {
		many = append(many, tar.Header{Name: fmt.Sprint(i)})
	}
	archive := zipped(t, bytes.NewReader(tarred(t, many...)))
	if l := list(bytes.NewReader(archive), int64(len(archive))); len(l.files) != maxFiles || !l.truncated {
		t.Errorf("%d files, %v", len(l.files), l.truncated)
	}
	long := make([]tar.Header, 0, 1200)
	for i := range 1200 {
		long = append(long, tar.Header{Name: strings.Repeat("x", 5000) + fmt.Sprint(i)})
	}
	archive = zipped(t, bytes.NewReader(tarred(t, long...)))
	l := list(bytes.NewReader(archive), int64(len(archive)))
	size := 0
	for _, f := range l.files {
		size += len(f.Path)
	}
	if !l.truncated || size > maxNames {
		t.Errorf("%d bytes of names, %v", size, l.truncated)
	}
}

// head8G is the head of a member that says it has 8 GB.
func head8G(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&tar.Header{Name: "big", Size: 8 << 30}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func FuzzList(f *testing.F) {
	plain := tarred(f, tar.Header{Name: "/tmp/osquery_carve_g/etc/hosts", Size: 3}, tar.Header{Name: "../x", Linkname: "y", Typeflag: tar.TypeSymlink})
	f.Add(plain)
	f.Add(zipped(f, bytes.NewReader(plain)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		l := list(bytes.NewReader(archive), int64(len(archive)))
		if _, err := json.Marshal(l.files); err != nil || len(l.files) > maxFiles {
			t.Errorf("%d files, %v", len(l.files), err)
		}
	})
}

func TestAskSQL(t *testing.T) {
	t.Parallel()
	got, err := AskSQL([]string{"/tmp/it's", `C:\a\*.log`})
	const select1 = "SELECT path, carve_guid, request_id, status, size, sha256 FROM carves WHERE carve = 1 AND path "
	if want := select1 + "= '/tmp/it''s' UNION ALL " + select1 + `LIKE 'C:\a\%.log'`; err != nil || got != want {
		t.Errorf("%s %v", got, err)
	}
	for _, paths := range [][]string{nil, {""}, {"etc/hosts"}, {"/a,/b"}, {"/a\x00"}, {"/a\n"}, {"/a", "/a"}, {"/" + strings.Repeat("x", 600)}, make([]string, 17)} {
		if got, err := AskSQL(paths); err == nil {
			t.Errorf("%q: %s", paths, got)
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		asked, told string
		want        bool
	}{
		{"/a", "/a", true},
		{"/a", "/b", false},
		{"/a/%", "/a/x,/a/y", true},
		{"/a/%.log", "/a/x.log", true},
		{"/a/%.log", "/a/x.txt", false},
		{"/a/%", "/b/x", false},
		{"/a/%/c", "/a/b/c", true},
		{`C:\x`, `c:\X`, true},
		{"/%a%", "/xay", true},
		{"/a%", "", false},
	} {
		if got := fits(tt.asked, tt.told); got != tt.want {
			t.Errorf("%s %s: %v", tt.asked, tt.told, got)
		}
	}
}

func FuzzAskSQL(f *testing.F) {
	f.Add("/etc/it's")
	f.Fuzz(func(t *testing.T, path string) {
		sql, err := AskSQL([]string{path})
		if err != nil {
			return
		}
		// Outside of the literal there is nothing of the path.
		rest := sql[strings.Index(sql, "'")+1 : len(sql)-1]
		if strings.Contains(strings.ReplaceAll(rest, "''", ""), "'") || !strings.HasSuffix(sql, "'") {
			t.Errorf("%q", sql)
		}
	})
}
