package main

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/osquery"
)

const shellHelp = `SELECT …;            ask the node; a statement may have several lines
.tables [PATTERN]    list tables of the node's platform; PATTERN is a part of the name, or has * and ?
.schema TABLE        show a table's columns
.mode [MODE]         form of the rows: table, line, csv or json
.timer on|off        say how long each answer took
.node [NAME]         ask another node
.reason TEXT         why, for queries of a tier that needs one
.help                this
.quit                leave; so does Ctrl-D
`

// shellCommands are completed at the beginning of a line.
func shellCommands() []string {
	return []string{".help", ".mode", ".node", ".quit", ".reason", ".schema", ".tables", ".timer"}
}

// command obeys a line that begins with a dot.
func (s *shell) command(line string) error {
	name, rest, _ := strings.Cut(strings.TrimRight(line, "; "), " ")
	rest = strings.TrimSpace(rest)
	switch name {
	case ".quit", ".exit":
		return errQuit
	case ".help":
		return printText(s.out, shellHelp)
	case ".tables":
		return s.listTables(rest)
	case ".schema":
		return s.showTable(rest)
	case ".mode":
		if rest == "" {
			s.say("%s", s.mode)
			return nil
		}
		return s.setMode(rest)
	case ".timer":
		if rest != "on" && rest != "off" {
			return usagef(".timer takes on or off")
		}
		s.timer = rest == "on"
		return nil
	case ".reason":
		s.reason = rest
		return nil
	case ".node":
		if rest != "" {
			if err := s.setNode(rest); err != nil {
				return err
			}
		}
		s.say("%s (%s) is %s, heard of %s", s.name(), printable(s.node.OS), s.node.Status, agoAt(s.node.LastSeen))
		return nil
	}
	return usagef("no command is called %s; see .help", name)
}

func (s *shell) setMode(mode string) error {
	if !slices.Contains(shellModes(), mode) {
		return usagef("%q is no mode; use %s", mode, strings.Join(shellModes(), ", "))
	}
	s.mode = mode
	return nil
}

func (s *shell) listTables(pattern string) error {
	var names []string
	for _, name := range s.words.names {
		found := strings.Contains(name, strings.ToLower(pattern))
		if strings.ContainsAny(pattern, "*?[") {
			var err error
			if found, err = path.Match(strings.ToLower(pattern), name); err != nil {
				return usagef("%q is no pattern: %w", pattern, err)
			}
		}
		if found {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return usagef("no table of %s is like %q", cmp.Or(s.node.Platform, "osquery"), pattern)
	}
	return printText(s.out, columnsOfText(names, terminalWidth(s.out)))
}

// columnsOfText lays words out as ls does: down first, then to the right.
func columnsOfText(words []string, width int) string {
	if width <= 0 {
		return strings.Join(words, "\n") + "\n"
	}
	widest := 0
	for _, w := range words {
		widest = max(widest, len(w))
	}
	across := max(1, (width+tableGap)/(widest+tableGap))
	down := (len(words) + across - 1) / across
	var b strings.Builder
	for row := range down {
		var line strings.Builder
		for i := row; i < len(words); i += down {
			fmt.Fprintf(&line, "%-*s", widest+tableGap, words[i])
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

func (s *shell) showTable(name string) error {
	name = strings.ToLower(name)
	i := slices.IndexFunc(s.schema, func(t osquery.SchemaTable) bool {
		return t.Name == name || slices.Contains(t.Aliases, name)
	})
	if name == "" || i < 0 {
		return usagef("osquery has no table %q; see .tables", name)
	}
	t := s.schema[i]
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s\n", t.Name, strings.Join(t.Platforms, ", "), t.Description)
	if err := printText(s.out, b.String()); err != nil {
		return err
	}
	rows := make([][]string, 0, len(t.Columns))
	for _, c := range t.Columns {
		var marks []string
		if c.Required {
			marks = append(marks, "must be constrained.")
		}
		if c.Hidden {
			marks = append(marks, "hidden.")
		}
		if len(c.Platforms) > 0 {
			marks = append(marks, strings.Join(c.Platforms, ", ")+" only.")
		}
		rows = append(rows, []string{c.Name, c.Type, strings.Join(append(marks, oneLine(c.Description)), " ")})
	}
	return printFitted(s.out, []string{"COLUMN", "TYPE", "DESCRIPTION"}, rows)
}

// candidates completes SQL, and commands with what they take.
func (s *shell) candidates(before, line string, pos int) (start int, words []string) {
	if before != "" || !strings.HasPrefix(line, ".") {
		return s.words.complete(before, line, pos)
	}
	name, rest, space := strings.Cut(line[:pos], " ")
	word := name
	if space {
		word = strings.TrimLeft(rest, " ")
		switch name {
		case ".schema", ".tables":
			words = s.words.names
		case ".mode":
			words = shellModes()
		case ".timer":
			words = []string{"off", "on"}
		}
	} else {
		words = shellCommands()
	}
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, word) })
	return pos - len(word), words
}
