package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errInterrupted says that the person gave up the line with Ctrl-C.
var errInterrupted = errors.New("interrupted")

// lineEditor reads lines from a terminal. The terminal is raw only while a line
// is read, so that Ctrl-C is a signal while a query runs; see heedSignals.
type lineEditor struct {
	term   *term.Terminal
	keys   *keyReader
	shell  *shell
	before string      // lines of the statement before this one
	state  *term.State // as it was before the first line; nil while it is so
	listed string      // the line whose candidates were listed last
}

func newLineEditor(s *shell, past *history) *lineEditor {
	keys := &keyReader{r: os.Stdin}
	e := &lineEditor{keys: keys, shell: s}
	e.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, os.Stderr}, "")
	e.term.History = past
	e.term.AutoCompleteCallback = e.complete
	return e
}

// typed is one line, or why there is none.
type typed struct {
	line string
	err  error
}

// read reads one line that goes on with what is pending.
func (e *lineEditor) read(pending string) (string, error) {
	fd := int(os.Stdin.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	if e.state == nil {
		e.state = state
	}
	defer e.rest()
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		_ = e.term.SetSize(width, height)
	}
	e.before, e.listed, e.keys.interrupted = pending, "", false
	prompt := e.shell.name() + "> "
	if pending != "" {
		prompt = strings.Repeat(" ", max(0, len(prompt)-len("...> "))) + "...> "
	}
	e.term.SetPrompt(prompt)
	e.term.SetBracketedPasteMode(true) // so that a pasted tab completes nothing
	defer e.term.SetBracketedPasteMode(false)
	got := make(chan typed, 1)
	go func() {
		line, err := e.term.ReadLine()
		got <- typed{line, err}
	}()
	select {
	case t := <-got:
		if e.keys.interrupted {
			return "", errInterrupted
		}
		if errors.Is(t.err, term.ErrPasteIndicator) {
			t.err = nil
		}
		return t.line, t.err
	case <-e.shell.people.stop:
		return "", io.EOF // SIGTERM: nothing ends a read, so it is left behind
	}
}

// rest leaves the terminal to what runs between two lines.
func (e *lineEditor) rest() {
	if !heedSignals(int(os.Stdin.Fd())) {
		e.close()
	}
}

// close gives the terminal back as it was.
func (e *lineEditor) close() {
	if e.state != nil {
		_ = term.Restore(int(os.Stdin.Fd()), e.state)
		e.state = nil
	}
}

// maxListed is how many candidates are shown at once.
const maxListed = 60

// complete completes the word before the cursor at Tab. What is not decided is
// listed.
func (e *lineEditor) complete(line string, pos int, key rune) (newLine string, newPos int, ok bool) {
	if key != '\t' {
		return "", 0, false
	}
	start, words := e.shell.candidates(e.before, line, pos)
	if len(words) == 0 {
		return line, pos, true
	}
	add := common(words)
	if len(words) == 1 && !strings.HasSuffix(add, ".") {
		add += " "
	}
	if len(add) <= pos-start { // no letter more
		if e.listed == line {
			return line, pos, true
		}
		e.listed = line
		more := ""
		if len(words) > maxListed {
			words, more = words[:maxListed], " …"
		}
		_, _ = io.WriteString(e.term, strings.Join(words, "  ")+more+"\n")
		return line, pos, true
	}
	return line[:start] + add + strings.TrimPrefix(line[pos:], " "), start + len(add), true
}

// keyReader turns Ctrl-C, which the editor takes for the end, into an empty
// line: a letter, which ends a sequence that Escape began, then to the end,
// delete, enter.
type keyReader struct {
	r           io.Reader
	interrupted bool
	queue       []byte
}

const ctrlC = 3

// Read reads keys.
func (k *keyReader) Read(p []byte) (int, error) {
	if len(k.queue) == 0 {
		buf := make([]byte, len(p))
		n, err := k.r.Read(buf)
		if err != nil {
			return 0, err
		}
		for _, b := range buf[:n] {
			if b == ctrlC {
				k.interrupted = true
				k.queue = append(k.queue[:0], "x\x05\x15\r"...) // what was typed before goes, too
				continue
			}
			k.queue = append(k.queue, b)
		}
	}
	n := copy(p, k.queue)
	k.queue = k.queue[n:]
	return n, nil
}
