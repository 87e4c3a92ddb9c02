package app

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// keptFiles is how many file descriptors the server keeps for itself: its
// database, stream, segments and people. Without them it could not write what
// agents send over the others.
const keptFiles = 512

// maxConns returns how many connections of agents there may be. Go has raised
// the limit of open files to what the system allows.
func maxConns() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<20 {
		return 1 << 20
	}
	files := int(l.Cur)
	return max(files-keptFiles, files/2)
}

// bounded is a listener with few enough connections at a time: a further one
// waits in the system's queue until another ends.
type bounded struct {
	net.Listener

	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBounded(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a place, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &placed{Conn: c, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

// Close ends waiting Accepts, too.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn

	leave func()
}

// Close closes the connection.
func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
