package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
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

func saveSession(name string, s *session) error {
	c, path, err := loadContexts()
	if err != nil {
		return err
	}
	if s == nil {
		delete(c.Contexts, name)
	} else {
		c.Contexts[name], c.Current = *s, name
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

// target is the server of a command: flags, else MUSTER_URL and MUSTER_TOKEN,
// else the context.
type target struct {
	url, ca, context string
}

func (t *target) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&t.url, "url", "", "URL of the server's admin listener (default: MUSTER_URL, or where you logged in)")
	f.StringVar(&t.ca, "ca", "", "PEM file to check the server's certificate against (default: the system's)")
	f.StringVar(&t.context, "context", "", "name of the login to use, for several servers")
}

// client returns a client that is logged in.
func (t *target) client() (*adminapi.Client, error) {
	s, _, err := t.session()
	if err != nil {
		return nil, err
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

// session returns where to go and with what, and the name of the context.
func (t *target) session() (session, string, error) {
	c, _, err := loadContexts()
	if err != nil {
		return session{}, "", err
	}
	name := t.context
	if name == "" {
		name = c.Current
	}
	s, ok := c.Contexts[name]
	if t.context != "" && !ok {
		return session{}, "", usagef("no login is called %q", t.context)
	}
	for _, url := range []string{os.Getenv("MUSTER_URL"), t.url} {
		if url != "" && url != s.URL {
			s = session{URL: url} // a token must not go to another server
		}
	}
	if token := os.Getenv("MUSTER_TOKEN"); token != "" {
		s.Token = token
	}
	if t.ca != "" {
		s.CA = t.ca
	}
	return s, name, nil
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
