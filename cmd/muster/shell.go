package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

func newShellCommand() *cobra.Command {
	var t target
	var s shell
	cmd := &cobra.Command{
		Use: "shell NODE", Short: "Ask one node SQL, line by line", Args: oneArg(aNode),
		Long: `Ask one node SQL, line by line. Each statement ends with ; and is a live query of
its own: judged by the policy, audited, and answered with the node's next poll. The
first answer takes as long as the node's poll interval; it is told to poll faster
from then on.

Tab completes keywords, tables and columns; the arrows go through what was typed
before. Ctrl-C stops what runs, Ctrl-D leaves. .help lists the commands.

Without a terminal, the statements on standard input are asked one after the
other, until one fails; the exit code is that of muster query.`,
		Example: `  muster shell web-1
  echo "SELECT version FROM osquery_info" | muster shell web-1
  muster shell web-1 --mode csv < statements.sql > rows.csv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			s.cmd, s.client, s.out, s.errOut = cmd, client, cmd.OutOrStdout(), &lockedWriter{w: cmd.ErrOrStderr()}
			if err := s.setMode(s.mode); err != nil {
				return usagef("--mode: %w", err)
			}
			if s.schema, err = osquery.LoadSchema(); err != nil {
				return err
			}
			if err := s.setNode(args[0]); err != nil {
				return err
			}
			if term.IsTerminal(int(os.Stdin.Fd())) && cmd.InOrStdin() == io.Reader(os.Stdin) {
				return s.interactive()
			}
			return s.batch(cmd.InOrStdin())
		},
	}
	t.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&s.mode, "mode", "table", "form of the rows: "+strings.Join(shellModes(), ", "))
	f.DurationVar(&s.wait, "wait", time.Minute, "how long to wait for each answer")
	f.StringVar(&s.reason, "reason", "", "why, for queries of a tier that needs one")
	return cmd
}

func shellModes() []string { return []string{"table", "line", "csv", "json"} }

// shell asks one node after statements.
type shell struct {
	cmd    *cobra.Command
	client *adminapi.Client
	schema []osquery.SchemaTable
	out    io.Writer
	errOut io.Writer

	people   *interrupts
	node     adminapi.NodeDetail
	words    *completer
	mode     string
	timer    bool
	wait     time.Duration
	reason   string
	answered bool // the node answered before: it polls fast now
}

// errQuit ends the shell.
var errQuit = errors.New("quit")

func (s *shell) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.errOut, format+"\n", args...)
}

func (s *shell) setNode(name string) error {
	n, err := findNode(s.cmd, s.client, name)
	if err != nil {
		return err
	}
	s.node, s.answered = n, false
	s.words = newCompleter(s.schema, n.Platform)
	return nil
}

func (s *shell) name() string {
	if s.node.Hostname != "" {
		return printable(s.node.Hostname)
	}
	return printable(s.node.HostIdentifier)
}

// batch runs what is on standard input, until something fails.
func (s *shell) batch(r io.Reader) error {
	pending := ""
	lines := bufio.NewReader(io.LimitReader(r, maxDocuments))
	for {
		line, failed := lines.ReadString('\n')
		if failed != nil && !errors.Is(failed, io.EOF) {
			return failed
		}
		last := failed != nil
		if strings.TrimSpace(pending) == "" && strings.HasPrefix(strings.TrimSpace(line), ".") {
			if err := s.command(strings.TrimSpace(line)); err != nil {
				if errors.Is(err, errQuit) {
					return nil
				}
				return err
			}
			line = ""
		}
		done, rest := statements(pending + line)
		if last && len(sqlTokens(rest)) > 0 {
			done, rest = append(done, strings.TrimSpace(rest)), ""
		}
		pending = rest
		for _, sql := range done {
			if err := s.run(s.cmd.Context(), sql); err != nil {
				return err
			}
		}
		if last {
			return nil //nolint:nilerr // to leave is no failure
		}
	}
}

// interactive talks with a person until Ctrl-D.
func (s *shell) interactive() error {
	past, err := openHistory()
	if err != nil {
		return err
	}
	s.people = newInterrupts(s.cmd)
	defer s.people.close()
	s.cmd.SetContext(s.people.ctx) // else the first Ctrl-C would end all later calls, too
	e := newLineEditor(s, past)
	defer e.close()
	s.say("%s (%s, osquery %s) is %s, heard of %s. .help lists commands, Ctrl-D leaves.",
		s.name(), printable(s.node.OS), printable(s.node.OsqueryVersion), s.node.Status, agoAt(s.node.LastSeen))
	pending := ""
	for {
		line, err := e.read(pending)
		switch {
		case errors.Is(err, io.EOF):
			s.say("")
			return nil
		case errors.Is(err, errInterrupted):
			pending = ""
			continue
		case err != nil:
			return err
		}
		if pending == "" && strings.HasPrefix(strings.TrimSpace(line), ".") {
			remembered := past.remember(line)
			if err := errors.Join(s.command(strings.TrimSpace(line)), remembered); errors.Is(err, errQuit) {
				return nil
			} else if err != nil {
				s.say("%s", printable(err.Error()))
			}
			continue
		}
		if pending += line + "\n"; len(sqlTokens(pending)) == 0 {
			pending = ""
			continue
		}
		done, rest := statements(pending)
		if pending = rest; strings.TrimSpace(rest) == "" {
			pending = ""
		}
		for _, sql := range done {
			if err := past.remember(sql + ";"); err != nil {
				s.say("the history is not kept: %s", printable(err.Error()))
			}
			if !s.attempt(sql) {
				pending = ""
				break
			}
		}
	}
}

// attempt runs a statement that Ctrl-C may stop, and reports whether it went
// well.
func (s *shell) attempt(sql string) bool {
	select {
	case <-s.people.pressed: // while nothing ran
	default:
	}
	ctx, cancel := context.WithCancel(s.people.ctx)
	defer cancel()
	go func() {
		select {
		case <-s.people.pressed:
		case <-s.people.stop:
		case <-ctx.Done():
		}
		cancel()
	}()
	err := s.run(ctx, sql)
	if err != nil {
		s.say("%s", printable(err.Error()))
	}
	return err == nil
}

// lockedWriter is for remarks, which a timer makes, too.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes all of b at once.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
