package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/musterhq/muster/internal/durable"
)

const (
	// maxHistory statements are kept; more than anybody goes back.
	maxHistory = 1000
	// maxHistoryLine is what the line editor takes.
	maxHistoryLine = 4096
)

// history is what was typed, the oldest first, in a file of the user's own: a
// statement may hold what is nobody else's business.
type history struct {
	path  string
	lines []string
}

var _ term.History = (*history)(nil)

// openHistory reads the history beside the contexts. Without a file it is
// empty.
func openHistory() (*history, error) {
	path, err := contextsPath()
	if err != nil {
		return nil, err
	}
	h := &history{path: filepath.Join(filepath.Dir(path), "shell_history")}
	f, err := os.Open(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	for s := bufio.NewScanner(f); s.Scan(); {
		h.keep(s.Text())
	}
	return h, nil
}

// Add is called for each line; whole statements are kept instead, see remember.
func (h *history) Add(string) {}

// Len returns how many statements are kept.
func (h *history) Len() int { return len(h.lines) }

// At returns a statement, 0 being the newest.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }

func (h *history) keep(line string) {
	if line == "" || len(line) > maxHistoryLine || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if over := len(h.lines) - maxHistory; over > 0 {
		h.lines = h.lines[over:]
	}
}

// remember keeps a statement as one line, in the file too.
func (h *history) remember(statement string) error {
	h.keep(onOneLine(statement))
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(h.path, 0o600, []byte(strings.Join(h.lines, "\n")+"\n"))
}

// onOneLine joins the lines of a statement. A comment to the end of a line
// would swallow the next, so it becomes one with both ends.
func onOneLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, line := range lines[:len(lines)-1] {
		if n := lineComment(line); n >= 0 {
			lines[i] = line[:n] + "/*" + strings.ReplaceAll(strings.TrimRight(line[n+2:], "\r"), "*/", "") + " */"
		}
	}
	return strings.Join(strings.FieldsFunc(strings.Join(lines, " "), func(r rune) bool { return r == '\r' || r == '\n' }), " ")
}

// lineComment returns where a comment to the end of the line begins; -1 if
// there is none.
func lineComment(line string) int {
	if list := sqlTokens(line); len(list) > 0 {
		if last := list[len(list)-1]; last.open && strings.HasPrefix(last.text, "--") {
			return last.start
		}
	}
	return -1
}
