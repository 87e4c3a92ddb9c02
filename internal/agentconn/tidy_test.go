package agentconn

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// pieces returns each text with one Read, as TLS records come, then an end.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

func TestTidy(t *testing.T) {
	t.Parallel()
	const rest = "Host: h\r\nContent-Length: 12\r\n\r\n{\"a b\": \"c\"}"
	tests := []struct{ name, line, want string }{
		{"as it should be", "POST /enroll HTTP/1.1\r\n", "POST /enroll HTTP/1.1\r\n"},
		{"trailing space", "POST /start_uploads  HTTP/1.1\r\n", "POST /start_uploads/ HTTP/1.1\r\n"},
		{"more of them", "POST /a b    HTTP/1.1\r\n", "POST /a/b/// HTTP/1.1\r\n"},
		{"before a query", "POST /log ?enroll_secret=x HTTP/1.1\r\n", "POST /log/?enroll_secret=x HTTP/1.1\r\n"},
		{"GET", "GET /x  HTTP/1.1\r\n", "GET /x/ HTTP/1.1\r\n"},
		{"no version", "POST /x\r\n", "POST /x\r\n"},
		{"no method", " /x  HTTP/1.1\r\n", " /x  HTTP/1.1\r\n"},
		{"a body, not a line", "{\"POST /x  HTTP/1.1\":\r\n", "{\"POST /x  HTTP/1.1\":\r\n"},
		{"two spaces after the method", "POST  /x HTTP/1.1\r\n", "POST  /x HTTP/1.1\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			message, want := tt.line+rest, tt.want+rest
			for name, r := range map[string]io.Reader{
				"at once":      &pieces{message},
				"in parts":     &pieces{tt.line[:4], tt.line[4:7], tt.line[7:], rest},
				"byte by byte": iotest.OneByteReader(strings.NewReader(message)),
			} {
				l := new(line)
				if got := readAll(t, l, r); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			// net/http reads one byte ahead of a further request on the connection.
			l := new(line)
			r := &pieces{message}
			first := make([]byte, 1)
			if n, err := l.read(r, first); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			if got := string(first) + readAll(t, l, r); got != want {
				t.Errorf("after a byte: %q, want %q", got, want)
			}
		})
	}
}

func readAll(t *testing.T, l *line, r io.Reader) string {
	t.Helper()
	var all bytes.Buffer
	p := make([]byte, 4096) // as net/http
	for {
		n, err := l.read(r, p)
		all.Write(p[:n])
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTidy_next: a second request is tidied, too, and the body of the first is
// left alone.
func TestTidy_next(t *testing.T) {
	t.Parallel()
	const first, second = "POST /a  HTTP/1.1\r\n\r\nPOST /b  HTTP/1.1\r\n", "POST /c  HTTP/1.1\r\n"
	l := new(line)
	got := readAll(t, l, &pieces{first})
	l.restart()
	got += readAll(t, l, &pieces{second})
	if want := "POST /a/ HTTP/1.1\r\n\r\nPOST /b  HTTP/1.1\r\nPOST /c/ HTTP/1.1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// blocked fails the test instead of waiting for bytes that never come.
type blocked struct {
	t *testing.T
	r io.Reader
}

func (b blocked) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		b.t.Error("read on, and would wait for ever")
	}
	return n, err
}

// TestTidy_waits for no more than a line: the rest of a body that nobody reads
// looks like no line.
func TestTidy_waits(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`"x":1}`, "POSTAGES", "a", "\x00\x01", "POST /x HTTP/1.1\r\n", "GET {"} {
		l := new(line)
		p := make([]byte, 100)
		if n, err := l.read(blocked{t, strings.NewReader(s)}, p); err != nil || string(p[:n]) != s {
			t.Errorf("%q: %q, %v", s, p[:n], err)
		}
	}
}

// FuzzTidy: no byte is added or taken away, only spaces of a first line become
// slashes, and it does not depend on how the bytes come.
func FuzzTidy(f *testing.F) {
	f.Add([]byte("POST /start_uploads  HTTP/1.1\r\nHost: h\r\n\r\n"), 3)
	f.Add([]byte("{}"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		out := readAll(t, new(line), bytes.NewReader(in))
		if len(out) != len(in) {
			t.Fatalf("%d bytes of %d", len(out), len(in))
		}
		end := bytes.IndexByte(in, '\n')
		for i := range in {
			if in[i] == out[i] {
				continue
			}
			if in[i] != ' ' || out[i] != '/' || i > end && end >= 0 {
				t.Fatalf("%q became %q", in, out)
			}
		}
		if size > 0 && size < 64 && len(in) < 4096 {
			parts := readAll(t, new(line), &cut{in, size})
			if parts != out {
				t.Fatalf("in parts of %d: %q, at once %q", size, parts, out)
			}
		}
	})
}

// cut returns its bytes in parts of a size.
type cut struct {
	b    []byte
	size int
}

func (c *cut) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.size, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}
