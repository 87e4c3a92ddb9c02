package agentconn

import (
	"bytes"
	"io"
	"sync/atomic"
)

// line tidies the request lines of a connection. Flagfiles hold endpoints with
// a trailing space, and osquery puts an endpoint into the request line as it
// is: "POST /start_uploads  HTTP/1.1". net/http answers 400 to that before any
// handler runs, and an agent cannot be told to change. So each space within the
// target becomes a slash, which routing forgives; no byte is added or removed.
type line struct {
	// state is atomic because net/http reads a byte ahead, to see a client go,
	// while the handler writes.
	state atomic.Uint32
}

// The states of a line.
const (
	atStart  = iota // nothing of a request was read yet
	inTarget        // the method was read
	beyond          // the line was read, or there is none
)

// restart says that a request was answered.
func (l *line) restart() { l.state.Store(atStart) }

// read reads into p. At the start of a request it goes on until p holds the
// whole line, or is full: OpenSSL's clients may send the parts of the line one
// by one.
func (l *line) read(r io.Reader, p []byte) (int, error) {
	n, err := r.Read(p)
	if l.state.Load() == beyond || n == 0 {
		return n, err
	}
	for err == nil && n < len(p) && l.open(p[:n]) {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	l.tidy(p[:n])
	if n > 0 {
		err = nil // it comes again with the next Read
	}
	return n, err
}

// open reports whether b is the beginning of a line that goes on. Other bytes,
// as the rest of a body that was refused before it was read, must not be waited
// for.
func (l *line) open(b []byte) bool {
	if bytes.IndexByte(b, '\n') >= 0 {
		return false
	}
	return l.state.Load() == inTarget || isMethod(b)
}

// isMethod reports whether b may begin with a request line: letters, one
// space, a slash.
func isMethod(b []byte) bool {
	const longest = len("OPTIONS")
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z' && i < longest:
		case c == ' ' && i > 0:
			return len(b) == i+1 || b[i+1] == '/'
		default:
			return false
		}
	}
	return len(b) <= longest
}

// tidy mends the line in b, or the part of it that b holds.
func (l *line) tidy(b []byte) {
	if l.state.Load() == atStart && !isMethod(b) {
		l.state.Store(beyond)
		return
	}
	end := bytes.IndexByte(b, '\n')
	whole := end >= 0
	if whole {
		b = b[:end]
	}
	target := b
	if l.state.Load() == atStart {
		space := bytes.IndexByte(b, ' ')
		if space < 0 {
			if whole {
				l.state.Store(beyond)
			}
			return // a byte of the method, which net/http read to see whether the client is there
		}
		target = b[space+1:]
		l.state.Store(inTarget)
	}
	if !whole {
		return // longer than any real one; net/http says so
	}
	l.state.Store(beyond)
	version := bytes.LastIndexByte(target, ' ')
	for i := range max(version, 0) {
		if target[i] == ' ' {
			target[i] = '/'
		}
	}
}
