package app

import (
	"errors"
	"net"
	"testing"
)

// TestBounded fills a listener: the next connection is accepted when another
// ends, and a closed listener lets nobody wait.
func TestBounded(t *testing.T) {
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBounded(tcp, 2)
	accepted, failed := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection where there is room for two")
	default:
	}
	if err := errors.Join(first.Close(), first.Close()); err == nil {
		t.Error("closing twice is no error; then it would not be noticed")
	}
	third := <-accepted // comes only because the first left, once
	if len(l.places) != 2 {
		t.Errorf("%d places are taken", len(l.places))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting from a closed listener: %v", err)
	}
	_ = second.Close()
	_ = third.Close()
}

func TestMaxConns(t *testing.T) {
	if n := maxConns(); n < 1 {
		t.Errorf("room for %d agents", n)
	}
}
