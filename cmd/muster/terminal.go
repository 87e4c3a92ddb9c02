package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// terminalWidth returns how many columns the terminal behind w has; 0 if there
// is none.
func terminalWidth(w io.Writer) int {
	width, _ := terminalSize(w)
	return width
}

// terminalSize returns how many columns and lines the terminal behind w has; 0
// if there is none.
func terminalSize(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0
	}
	const usualWidth, usualHeight = 80, 24
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return usualWidth, usualHeight
	}
	return width, height
}

// attended reports whether somebody can be asked: the terminal is where one
// types, and where the question appears.
func attended(errOut io.Writer) bool {
	return terminalWidth(errOut) > 0 && term.IsTerminal(int(os.Stdin.Fd()))
}

// confirm asks before something that is hard to take back. Without somebody to
// ask, --yes must say it.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	if !attended(cmd.ErrOrStderr()) {
		return usagef("%s Say --yes; there is no terminal to ask", question)
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s (y/n) [n] ", question)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}
