package blob

import (
	"bytes"
	"errors"
	"sync"
)

// loan lends a buffer to an HTTP transport. A transport may still read a
// request's body after the answer came: the server answered early, the caller
// gave up, or a request is being sent again. So the buffer is ours again only
// after stop. It is no io.WriterTo, which would hand the buffer out as a whole.
type loan struct {
	mu   sync.Mutex
	r    bytes.Reader
	over bool
}

var errLoanOver = errors.New("the part is no longer to be sent")

func lend(b []byte) *loan {
	l := new(loan)
	l.r.Reset(b)
	return l
}

func (l *loan) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, errLoanOver
	}
	return l.r.Read(p)
}

// Seek is for sending it again.
func (l *loan) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, errLoanOver
	}
	return l.r.Seek(offset, whence)
}

// stop ends the loan: it waits for a Read that is going on, and later ones fail.
func (l *loan) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.r.Reset(nil)
}
