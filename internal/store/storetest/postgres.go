package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/musterhq/muster/internal/store"
)

// ErrNoPostgres means that the programs initdb and postgres are not installed.
var ErrNoPostgres = errors.New("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)")

// Postgres is a PostgreSQL server of the tests, in a directory that goes away
// with it, on a socket in that directory.
type Postgres struct {
	dir  string
	stop func() error
	last atomic.Int64 // number of the newest database
}

// template is the database with the tables that the others are copies of.
const template = "muster_template"

// StartPostgres starts a server. It is ErrNoPostgres if there is no program to
// start. Stop ends it.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "muster-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir, stop: func() error { return nil }}
	if err := p.start(ctx, bin); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context, bin string) error {
	if err := giveAway(p.dir); err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	// A language whose order is not that of bytes, so that a forgotten COLLATE
	// shows.
	if err := p.initdb(ctx, bin, data, "--locale-provider=icu", "--icu-locale=en-US"); err != nil {
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		if err := p.initdb(ctx, bin, data); err != nil {
			return err
		}
	}
	if err := p.serve(filepath.Join(bin, "postgres"), "-D", data, "-k", p.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"); err != nil {
		return err
	}
	if err := p.sql(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{URL: p.url(template), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return err
	}
	return s.Close()
}

func (p *Postgres) initdb(ctx context.Context, bin, data string, more ...string) error {
	args := append([]string{"-D", data, "-U", "muster", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"}, more...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...) //nolint:gosec // a program of the system, for tests
	cmd.Dir = p.dir
	asServer(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// serve runs the server and returns when it takes connections.
func (p *Postgres) serve(program string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), program, args...) //nolint:gosec // a program of the system, for tests
	cmd.Dir = p.dir
	asServer(cmd)
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	started, ready, ended := make(chan error, 1), make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The system ends the server when the thread that started it ends, so
		// that a killed test leaves none behind. This one stays until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		ready <- await(out, "database system is ready to accept connections")
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // stopping it makes an error
	}()
	if err := <-started; err != nil {
		return err
	}
	p.stop = func() error {
		err := cmd.Process.Signal(os.Interrupt) // its fast shutdown
		<-ended
		return err
	}
	if log := <-ready; log != "" {
		return fmt.Errorf("postgres did not start: %s", log)
	}
	return nil
}

// await reads lines until one contains the text; if none does, it returns them.
func await(r io.Reader, text string) string {
	var all strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return ""
		}
		all.WriteString(lines.Text() + "\n")
	}
	return all.String() + "(ended)"
}

// Stop ends the server and removes its directory.
func (p *Postgres) Stop() error {
	return errors.Join(p.stop(), os.RemoveAll(p.dir))
}

// Fresh returns the URL of a database with tables and without rows, which lives
// as long as the test.
func (p *Postgres) Fresh(tb testing.TB) string {
	tb.Helper()
	name := "test_" + strconv.FormatInt(p.last.Add(1), 10)
	if err := p.sql(tb.Context(), "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.sql(context.WithoutCancel(tb.Context()), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	return p.url(name)
}

// Empty returns the URL of a database without tables, likewise.
func (p *Postgres) Empty(tb testing.TB) string {
	tb.Helper()
	location := p.Fresh(tb)
	conn, err := pgx.Connect(tb.Context(), location)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Exec(tb.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		tb.Fatal(err)
	}
	if err := conn.Close(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return location
}

func (p *Postgres) url(database string) string {
	return "postgres://muster@/" + database + "?host=" + url.QueryEscape(p.dir)
}

func (p *Postgres) sql(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// findPostgres returns the directory of the newest server's programs, which
// Debian keeps out of PATH.
func findPostgres() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(dirs, func(a, b string) int { return release(b) - release(a) })
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil { // not only the clients
			return dir, nil
		}
	}
	program, err := exec.LookPath("postgres")
	if err != nil {
		return "", ErrNoPostgres
	}
	return filepath.Dir(program), nil
}

// release is the number in a path that Glob found.
func release(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // 0 for what is no number: last
	return n
}
