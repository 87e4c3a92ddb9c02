package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newContextCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "context", Short: "List, choose, rename and remove the logins of this command line", Args: noArgs, RunE: help,
		Long: `A context is a login to one server under a name: muster login --context NAME makes it
and uses it from then on.

The server of a command is, first that is there: --url, --context, MUSTER_URL,
MUSTER_CONTEXT, the current context. The token is that of the context, as long as the
URL is the one that it was given by; else MUSTER_TOKEN, or the content of the file
MUSTER_TOKEN_FILE, which only its owner may read. A token of the environment needs a
server that is named too, so that it never goes to the one you happened to log in to.`,
		Example: `  muster login --url https://muster.example.com --context production --user ada
  muster context list
  muster context use default
  muster node list --context production`,
	}
	cmd.AddCommand(newContextListCommand(), newContextUseCommand(), newContextRenameCommand(), newContextRemoveCommand())
	return cmd
}

// contextDocument is a context as it is shown: without its token.
type contextDocument struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	User    string `json:"user"`
	CA      string `json:"ca,omitempty"`
	Current bool   `json:"current"`
}

func newContextListCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List the logins, the current one marked", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := loadContexts()
			if err != nil {
				return err
			}
			list, rows := []contextDocument{}, [][]string{}
			for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
				s := c.Contexts[name]
				d := contextDocument{name, s.URL, s.User, s.CA, name == c.Current}
				mark := ""
				if d.Current {
					mark = "*"
				}
				list, rows = append(list, d), append(rows, []string{mark, d.Name, d.URL, d.User})
			}
			return o.list(cmd, list, []string{"CURRENT", "NAME", "URL", "USER"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

const aContext = "the name of a context"

// context returns a context by its name.
func (c *contexts) context(name string) (session, error) {
	s, ok := c.Contexts[name]
	if !ok {
		return s, &exit{exitNotFound, fmt.Errorf("no login is called %q; see muster context list", name)}
	}
	return s, nil
}

// checkContextName refuses names that would be taken for a flag, or obeyed by a
// terminal.
func checkContextName(name string) error {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, commands) {
		return usagef("%q cannot be the name of a context; use letters, as production", name)
	}
	return nil
}

func newContextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use CONTEXT", Short: "Use a login from now on", Args: oneArg(aContext),
		Example: "  muster context use production",
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(func(c *contexts) error {
				_, err := c.context(args[0])
				c.Current = args[0]
				return err
			})
		},
	}
}

func newContextRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTEXT NEW", Short: "Give a login another name",
		Example: "  muster context rename default production",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 { //nolint:mnd // old and new
				return usagef("%s needs %s and its new one; see %[1]s --help", cmd.CommandPath(), aContext)
			}
			return checkContextName(args[1])
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(func(c *contexts) error {
				s, err := c.context(args[0])
				if err != nil {
					return err
				}
				if _, taken := c.Contexts[args[1]]; taken {
					return usagef("there is a login called %q; remove it first", args[1])
				}
				delete(c.Contexts, args[0])
				c.Contexts[args[1]] = s
				if c.Current == args[0] {
					c.Current = args[1]
				}
				return nil
			})
		},
	}
}

func newContextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove CONTEXT", Short: "Forget a login here; muster logout ends it at the server too", Args: oneArg(aContext),
		Long: `Forget a login here, also of a server that is no more. It stays valid there until it
ends: muster logout --context NAME ends it at the server too.`,
		Example: "  muster context remove staging",
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(func(c *contexts) error {
				_, err := c.context(args[0])
				delete(c.Contexts, args[0])
				return err
			})
		},
	}
}
