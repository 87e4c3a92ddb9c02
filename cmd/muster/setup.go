package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
)

// credentials are the flags of commands that open a session.
type credentials struct {
	target

	user, passwordFile string
}

func (c *credentials) flags(cmd *cobra.Command) {
	c.target.flags(cmd)
	cmd.Flags().StringVar(&c.user, "user", "", "name of the person")
	cmd.Flags().StringVar(&c.passwordFile, "password-file", "", "file that holds the password; asked for at the terminal if empty")
}

// open sends in to path and keeps the session that it answers.
func (c *credentials) open(cmd *cobra.Command, path string, in any) error {
	s, name, _, err := c.find() // a login may make a context
	if err != nil {
		return err
	}
	if err := checkContextName(name); err != nil {
		return err
	}
	if s.URL == "" {
		return usagef("--url is missing; give the URL of the server's admin listener, as http://127.0.0.1:8080")
	}
	h, err := httpClient(s.CA)
	if err != nil {
		return err
	}
	var opened adminapi.Session
	if err := adminapi.NewClient(s.URL, "", h).Call(cmd.Context(), http.MethodPost, path, nil, in, &opened); err != nil {
		return err
	}
	s.User, s.Token = opened.Username, opened.Token
	if err := saveSession(name, &s); err != nil {
		return err
	}
	if opened.MustEnrol {
		say(cmd, "you need an authenticator before you can do anything: muster user factor add phone")
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "Logged in to %s as %s until %s.\n", s.URL, s.User, opened.ExpiresAt.Format("2006-01-02"))
	return err
}

// password reads the password from its file or the terminal.
func (c *credentials) password(cmd *cobra.Command) (string, error) {
	if c.user == "" {
		return "", usagef("--user is missing")
	}
	return promptPassword(cmd, "Password of "+c.user, c.passwordFile)
}

// readPassword reads one's own password once more.
func readPassword(cmd *cobra.Command, file string) (string, error) {
	return promptPassword(cmd, "Password", file)
}

// promptPassword reads a password from a file, else from the terminal, else from
// standard input.
func promptPassword(cmd *cobra.Command, prompt, file string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file) //nolint:gosec // the user names the file
		if err != nil {
			return "", usagef("--password-file: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if line == "" && err != nil {
			return "", usagef("--password-file is missing, and there is no terminal to ask")
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s: ", prompt)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	_, _ = fmt.Fprintln(cmd.ErrOrStderr())
	return string(b), err
}

func newSetupCommand() *cobra.Command {
	var c credentials
	var tokenFile string
	cmd := &cobra.Command{
		Use: "setup", Short: "Make the first administrator of a new server, and log in", Args: noArgs,
		Long: `Make the first administrator of a new server, and log this CLI in as that person.

The server wrote a one-time token to the file setup-token in its data directory;
it is void after this. The web page behind the link that the server printed
does the same.`,
		Example: "  muster setup --url http://127.0.0.1:8080 --setup-token-file data/setup-token --user admin --password-file pw",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tokenFile == "" {
				return usagef("--setup-token-file is missing; it is the file setup-token in the server's data directory")
			}
			token, err := os.ReadFile(tokenFile) //nolint:gosec // the user names the file
			if errors.Is(err, os.ErrNotExist) {
				return &exit{exitFailed, fmt.Errorf("%s is not there: the server is set up already (run muster login), or did not start", tokenFile)}
			}
			if err != nil {
				return err
			}
			password, err := c.password(cmd)
			if err != nil {
				return err
			}
			return c.open(cmd, "/setup", adminapi.SetupInput{
				Token: strings.TrimSpace(string(token)), Username: c.user, Password: password, Kind: string(account.Bearer),
			})
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&tokenFile, "setup-token-file", "", "file that holds the setup token")
	return cmd
}

func newLoginCommand() *cobra.Command {
	var c credentials
	cmd := &cobra.Command{
		Use: "login", Short: "Log in to a server", Args: noArgs,
		Long: `Log in to a server, and use it from now on. --context keeps the login under a name
of its own, for several servers; see muster context list.`,
		Example: `  muster login --url http://127.0.0.1:8080 --user ada
  muster login --url https://muster.example.com --context production --user ada`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := c.password(cmd)
			if err != nil {
				return err
			}
			in := adminapi.LoginInput{Username: c.user, Password: password, Kind: string(account.Bearer)}
			err = c.open(cmd, "/session", in)
			if p, ok := errors.AsType[*adminapi.Problem](err); ok && p.About(account.CodeField) && term.IsTerminal(int(os.Stdin.Fd())) {
				if in.Code, err = promptPassword(cmd, "Code of your authenticator, or a recovery code", ""); err != nil {
					return err
				}
				err = c.open(cmd, "/session", in)
			}
			return err
		},
	}
	c.flags(cmd)
	return cmd
}

func newLogoutCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "logout", Short: "End the login here and at the server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, name, err := t.saved() // a token of the environment is not ended
			if err != nil {
				return err
			}
			client, err := s.client()
			if err != nil {
				return err
			}
			if err := client.Call(cmd.Context(), http.MethodDelete, "/session", nil, nil, nil); err != nil {
				return err
			}
			return saveSession(name, nil)
		},
	}
	t.flags(cmd)
	return cmd
}
