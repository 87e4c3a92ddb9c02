package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

func TestLoan(t *testing.T) {
	t.Parallel()
	l := lend([]byte("abcdef"))
	b := make([]byte, 4)
	if n, err := l.Read(b); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := l.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(l); string(all) != "abcdef" || err != nil {
		t.Fatalf("%q %v", all, err)
	}
	l.stop()
	if _, err := l.Read(b); !errors.Is(err, errLoanOver) {
		t.Errorf("a Read after the end of the loan: %v", err)
	}
	if _, err := l.Seek(0, io.SeekStart); !errors.Is(err, errLoanOver) {
		t.Errorf("a Seek after the end of the loan: %v", err)
	}
	if _, ok := any(l).(io.WriterTo); ok {
		t.Error("a loan gives its buffer away as a whole")
	}
}

// TestLoanEarlyAnswer overwrites the buffer after answers that came before the
// body was sent; the race detector sees a transport that still reads it.
func TestLoanEarlyAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	part := make([]byte, 1<<20)
	for range 50 {
		l := lend(part)
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, io.NopCloser(l))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(part))
		if resp, err := server.Client().Do(req); err == nil {
			_ = resp.Body.Close()
		}
		l.stop()
		_, _ = rand.Read(part[:4096])
		clear(part)
		cancel()
	}
}

// TestLoanStopWaits reads and ends at once.
func TestLoanStopWaits(t *testing.T) {
	t.Parallel()
	part := bytes.Repeat([]byte("x"), 1<<20)
	l := lend(part)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			b := make([]byte, 512)
			for {
				if _, err := l.Read(b); err != nil {
					return
				}
			}
		})
	}
	l.stop()
	clear(part)
	readers.Wait()
}
