package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/durable"
)

// session is how the CLI reaches a server: a context in the user's own
// directory, readable by nobody else.
type session struct {
	URL   string `json:"url"`
	User  string `json:"user"`
	Token string `json:"token"`
	CA    string `json:"ca,omitempty"` // PEM file that the admin listener's certificate is checked against
}

// contexts is the file of all sessions.
type contexts struct {
	Current  string             `json:"current"`
	Contexts map[string]session `json:"contexts"`
}

// defaultContext is the name of the session unless another is asked for.
const defaultContext = "default"

func contextsPath() (string, error) {
	dir := os.Getenv("MUSTER_HOME")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("no place for the CLI's own files: %w; set MUSTER_HOME", err)
		}
		dir = filepath.Join(base, "muster")
	}
	return filepath.Join(dir, "contexts.json"), nil
}

func loadContexts() (contexts, string, error) {
	c := contexts{Current: defaultContext, Contexts: map[string]session{}}
	path, err := contextsPath()
	if err != nil {
		return c, "", err
	}
	b, err := os.ReadFile(path) //nolint:gosec // the user's own file
	if errors.Is(err, fs.ErrNotExist) {
		return c, path, nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		err = d.Decode(&c)
	}
	if err != nil {
		return c, path, fmt.Errorf("%s: %w; remove it and log in again", path, err)
	}
	return c, path, nil
}

// changeContexts lets change alter the file of all sessions.
func changeContexts(change func(*contexts) error) error {
	c, path, err := loadContexts()
	if err != nil {
		return err
	}
	if err := change(&c); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, 0o600, append(b, '\n'))
}

// saveSession keeps a session under a name and uses it from now on; nil removes it.
func saveSession(name string, s *session) error {
	return changeContexts(func(c *contexts) error {
		if s == nil {
			delete(c.Contexts, name)
		} else {
			c.Contexts[name], c.Current = *s, name
		}
		return nil
	})
}

// target is the server of a command: flags, else the environment, else the
// current context.
type target struct {
	url, ca, context string

	made *adminapi.Client // so that a command that asks again keeps its connection
}

func (t *target) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&t.url, "url", "", "URL of the server's admin listener (default: MUSTER_URL, or where you logged in)")
	f.StringVar(&t.ca, "ca", "", "PEM file to check the server's certificate against (default: the system's)")
	f.StringVar(&t.context, "context", "", "name of the login to use, for several servers (default: MUSTER_CONTEXT, or the current one)")
}

// client returns a client that is logged in.
func (t *target) client() (*adminapi.Client, error) {
	if t.made != nil {
		return t.made, nil
	}
	s, err := t.session()
	if err != nil {
		return nil, err
	}
	t.made, err = s.client()
	return t.made, err
}

func (s *session) client() (*adminapi.Client, error) {
	if s.URL == "" && s.Token != "" {
		return nil, usagef("no server to send the token to; set MUSTER_URL, or give --url")
	}
	if s.Token == "" {
		return nil, &exit{exitRefused, fmt.Errorf("not logged in; run muster login --url %s", orPlaceholder(s.URL))}
	}
	h, err := httpClient(s.CA)
	if err != nil {
		return nil, err
	}
	return adminapi.NewClient(s.URL, s.Token, h), nil
}

func orPlaceholder(url string) string {
	if url == "" {
		return "http://127.0.0.1:8080"
	}
	return url
}

// session returns where to go and with what. A token goes to the server it was
// meant for alone: one that was saved to the server that gave it, one of the
// environment to one that is named beside it.
func (t *target) session() (session, error) {
	s, _, err := t.saved()
	if err != nil {
		return session{}, err
	}
	token, from, err := environmentToken()
	if err != nil || token == "" {
		return s, err
	}
	named := t.url != "" || t.context != "" || os.Getenv("MUSTER_URL") != "" || os.Getenv("MUSTER_CONTEXT") != ""
	if s.URL != "" && !named {
		return session{}, usagef("%s is set, but not for which server; set MUSTER_URL, or give --url or --context", from)
	}
	s.Token = token
	return s, nil
}

// saved is session without a token of the environment, with its name.
func (t *target) saved() (session, string, error) {
	s, name, known, err := t.find()
	if err == nil && !known && (t.context != "" || os.Getenv("MUSTER_CONTEXT") != "") {
		err = usagef("no login is called %q; see muster context list", name)
	}
	return s, name, err
}

// find returns the session to use, its name, and whether that name is known. A
// URL that is not the session's leaves nothing but itself.
func (t *target) find() (s session, name string, known bool, err error) {
	c, _, err := loadContexts()
	if err != nil {
		return session{}, "", false, err
	}
	name = cmp.Or(t.context, os.Getenv("MUSTER_CONTEXT"), c.Current, defaultContext)
	s, known = c.Contexts[name]
	url := t.url
	if url == "" && t.context == "" { // a flag wins over the environment
		url = os.Getenv("MUSTER_URL")
	}
	if url != "" && strings.TrimRight(url, "/") != strings.TrimRight(s.URL, "/") {
		s = session{URL: url}
	}
	if t.ca != "" {
		s.CA = t.ca
	}
	return s, name, known, nil
}

// environmentToken returns the token that the environment holds or names a file
// of, and by which variable; empty if there is none.
func environmentToken() (token, from string, err error) {
	const variable, fileVariable = "MUSTER_TOKEN", "MUSTER_TOKEN_FILE"
	token, file := os.Getenv(variable), os.Getenv(fileVariable)
	switch {
	case file == "":
		return token, variable, nil
	case token != "":
		return "", "", usagef("%s and %s are both set; leave one out", variable, fileVariable)
	}
	token, err = readTokenFile(file)
	if err != nil {
		return "", "", usagef("%s: %w", fileVariable, err)
	}
	return token, fileVariable, nil
}

// maxTokenFile is more than any token has.
const maxTokenFile = 4096

// readTokenFile reads a token from a file that only its owner can read.
func readTokenFile(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" { // where a mode says nothing
		return "", fmt.Errorf("%s is readable by others (mode %o); run chmod 600 %[1]s", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("%s is empty; put the token into it", path)
	}
	return token, nil
}

// dialTimeout bounds all but the body of an answer, which may stream.
const dialTimeout = 30 * time.Second

func httpClient(ca string) (*http.Client, error) {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default HTTP transport was replaced")
	}
	t := base.Clone()
	t.ResponseHeaderTimeout = dialTimeout
	if ca != "" {
		b, err := os.ReadFile(ca) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t}, nil
}
