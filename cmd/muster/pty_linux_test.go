package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/agent"
)

// terminal is a program that runs on a terminal.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	ended  chan error

	mu   sync.Mutex
	out  bytes.Buffer
	seen int           // bytes that were expected already
	more chan struct{} // something came
}

// openTerminal runs muster on a terminal of its own.
func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	defer slave.Close()
	keepOutput(t, int(slave.Fd()))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1", "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, master: master, cmd: cmd, ended: make(chan error, 1), more: make(chan struct{}, 1)}
	go p.read()
	go func() { p.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = master.Close()
	})
	return p
}

// keepOutput stops a terminal from throwing away, at Ctrl-C, what was written
// and not yet read: the kernel does so after it has sent the signal, when a
// quick program may have said its last words already.
func keepOutput(t *testing.T, fd int) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag |= unix.NOFLSH
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

func (p *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.out.Write(buf[:n])
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil {
			return // EIO: the program ended
		}
	}
}

func (p *terminal) types(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// patience is how long a busy machine may take.
const patience = time.Minute

// expect waits until a text appears, after what was expected before.
func (p *terminal) expect(text string) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		at := strings.Index(p.out.String()[p.seen:], text)
		if at >= 0 {
			p.seen += at + len(text)
		}
		all := p.out.String()
		p.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-p.more:
		case <-timeout:
			p.t.Fatalf("%q does not appear:\n%q", text, all)
		}
	}
}

// exits waits for the end and returns the exit code.
func (p *terminal) exits() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("it does not end:\n%q", p.out.String())
	}
	return -1
}

// serveAgent runs a server with one real agent, which polls every second, and
// returns the node.
func serveAgent(t *testing.T) adminapi.Node {
	t.Helper()
	a := serveMuster(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	value := cli(t, "secret", "create", "agents", "-o", "raw")
	if err := os.WriteFile(secret, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := agent.NewFlags()
	flags.Parse(strings.Join([]string{
		fmt.Sprintf("--tls_hostname=localhost:%d", a.AgentAddr().Port()), "--tls_server_certs=" + a.CAFile(),
		"--enroll_secret_path=" + secret, "--enroll_tls_endpoint=/api/osquery/enroll",
		"--config_plugin=tls", "--config_tls_endpoint=/api/osquery/config", "--host_identifier=instance",
		"--logger_plugin=tls", "--logger_tls_endpoint=/api/osquery/log",
		"--disable_distributed=false", "--distributed_plugin=tls", "--distributed_interval=1",
		"--distributed_tls_read_endpoint=/api/osquery/distributed/read", "--distributed_tls_write_endpoint=/api/osquery/distributed/write",
		"--database_path=" + filepath.Join(dir, "agent.db"), "--pidfile=" + filepath.Join(dir, "agent.pid"), "",
	}, "\n"))
	own, err := agent.New(agent.Options{Flags: flags, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- own.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	timeout := time.After(patience)
	for {
		if list := cliJSON[[]adminapi.Node](t, "node", "list"); len(list) == 1 {
			return list[0]
		}
		select {
		case <-timeout:
			t.Fatal("the agent does not enrol")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestShell_terminal talks to a real agent as a person does.
func TestShell_terminal(t *testing.T) {
	n := serveAgent(t)
	p := openTerminal(t, "shell", n.ID)
	p.expect("> ")
	p.types("sel\t1 + 1 AS two;\r")
	p.expect("select 1 + 1 AS two;")
	p.expect("two\r\n2\r\n")
	p.expect("> ")

	p.types("select pid, 'a\x1b") // Escape goes nowhere
	p.types("\x03")               // Ctrl-C gives the line up
	p.types("SELECT version\r")   // in two lines
	p.expect("...> ")
	p.types("from os_vers\t;\r")
	p.expect("os_version ;")
	p.expect("rows")

	p.types("select char(27) || '[2J' AS evil;\r")
	p.expect(`\u001b[2J`)
	p.types("\x1b[A\x1b[A") // two up
	p.expect("os_version")
	p.types("\x03.tables osquery_i*\r")
	p.expect("osquery_info")
	p.types(".mode line\r")
	p.types("select 'x' as a, 'y' as bcd;\r")
	p.expect("  a = x\r\nbcd = y\r\n")
	p.types("select * from curl where url = 'http://127.0.0.1';\r")
	p.expect("policy")
	p.types(".nonsense\r")
	p.expect(".help")
	p.types("\x04")
	if code := p.exits(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	path, err := contextsPath()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(path), "shell_history")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "SELECT version from os_version;\n") {
		t.Errorf("%q %v", b, err)
	}
}

// TestShell_interrupt stops a statement that nobody answers.
func TestShell_interrupt(t *testing.T) {
	host := silentNode(t, serveMuster(t))
	p := openTerminal(t, "shell", host)
	p.expect(".help")
	p.types("select 1;\r")
	p.expect("waiting for the next poll of " + host)
	p.types("\x03")
	p.expect("stopped")
	p.expect("> ")
	p.types(".node\r") // the session goes on
	p.expect("heard of")
	p.types("\x04")
	if code := p.exits(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	if list := cliJSON[[]adminapi.Live](t, "live", "list"); len(list) != 1 || list[0].State != "stopped" {
		t.Errorf("%+v", list)
	}
}

// TestShell_typedAhead types while a statement runs: each key counts later, also
// the one that leaves.
func TestShell_typedAhead(t *testing.T) {
	host := silentNode(t, serveMuster(t))
	p := openTerminal(t, "shell", host, "--wait", "3s")
	p.expect(".help")
	p.types("select 1;\r")
	p.expect("waiting for the next poll of " + host)
	p.types(".nonsense\r\x04")
	p.expect("did not answer")
	p.expect("> .nonsense\r\n") // shown once it is read
	p.expect(".help")
	if code := p.exits(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
}

// TestQuery_interrupt presses Ctrl-C: once to be asked, twice to leave.
func TestQuery_interrupt(t *testing.T) {
	silentNode(t, serveMuster(t))
	for _, c := range []struct {
		keys        []string // after each, an answer on the line, except the last
		then, state string
	}{
		{[]string{"s\r"}, "did not answer", "stopped"},
		{[]string{"l\r"}, "goes on", "running"},
		{[]string{"\x03"}, "goes on", "running"},
		{[]string{"w\r", "s\r"}, "did not answer", "stopped"},
	} {
		p := openTerminal(t, "query", "SELECT 1", "--all", "--wait", "10m")
		for _, keys := range c.keys {
			p.expect("answered 0 of 1")
			p.types("\x03")
			p.expect("Stop the query")
			p.types(keys)
		}
		p.expect(c.then)
		if code := p.exits(); code != exitPartly {
			t.Errorf("%q: exit code %d", c.keys, code)
		}
		list := cliJSON[[]adminapi.Live](t, "live", "list", "--limit", "1")
		if len(list) != 1 || list[0].State != c.state {
			t.Errorf("%q: %+v", c.keys, list)
		}
		cli(t, "live", "stop", list[0].ID)
	}
}
