package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// watch adds --watch to a command that shows what changes. It is called after
// the flags of the output are there.
func (o *output) watch(cmd *cobra.Command) {
	const usual, least = 2 * time.Second, time.Second
	var every time.Duration
	cmd.Flags().DurationVar(&every, "watch", 0, "print again so often, as --watch=10s, until Ctrl-C")
	cmd.Flags().Lookup("watch").NoOptDefVal = usual.String()
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("watch") {
			return run(cmd, args)
		}
		if every < least {
			return usagef("--watch=%s is too often; %s is the least", every, least)
		}
		out := cmd.OutOrStdout()
		defer cmd.SetOut(out)
		p := paper{w: out, errOut: cmd.ErrOrStderr(), form: o.form}
		return again(cmd.Context(), every, &p, func(w io.Writer) error {
			cmd.SetOut(w)
			return run(cmd, args)
		})
	}
}

// again draws on a paper until the context ends, which is no error, or until
// drawing fails for good: the first time, or since what is shown is gone or one
// may not see it any more. A server that cannot be reached may come back.
func again(ctx context.Context, every time.Duration, p *paper, draw func(io.Writer) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		var b bytes.Buffer
		err := draw(&b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && (first || exitCode(err) != exitFailed) {
			return err
		}
		if err := p.show(b.String(), err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// paper shows one text after the other: in the same place on a terminal, below
// each other elsewhere.
type paper struct {
	w, errOut io.Writer
	form      string
	used      bool
}

// show shows a text, or why there is none.
func (p *paper) show(text string, trouble error) error {
	if trouble != nil {
		text = "muster: " + printable(trouble.Error()) + "\n"
	}
	width, height := terminalSize(p.w)
	switch {
	case width > 0:
		text = "\x1b[H" + frame(text, width, height) + "\x1b[J"
		if !p.used {
			text = "\x1b[2J" + text
		}
	case trouble != nil:
		_, err := io.WriteString(p.errOut, text)
		return err
	case p.used:
		text = p.gap() + text
	}
	p.used = true
	_, err := io.WriteString(p.w, text)
	return err
}

// gap is between two texts; documents stay readable to programs.
func (p *paper) gap() string {
	switch p.form {
	case "json", "ndjson":
		return ""
	case "yaml":
		return "---\n"
	}
	return "\n"
}

// frame cuts a text to a terminal, so that the next one covers all of it. The
// last line stays free for the cursor.
func frame(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := max(1, height-1); len(lines) > room {
		more := len(lines) - room + 1
		lines = append(lines[:room-1:room-1], fmt.Sprintf("… %d more lines", more))
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(cutTo(line, width) + "\x1b[K\n")
	}
	return b.String()
}
