package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/pki"
)

func newCACommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ca", Short: "Make client certificates for agents, without the server", Args: noArgs, RunE: help,
		Long: `Use the private CA in the data directory of a server, as a user who can read it.
The server need not run.`,
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "data-dir", os.Getenv("MUSTER_DATA_DIR"), "data directory of the server (MUSTER_DATA_DIR)")
	cmd.AddCommand(newCAIssueCommand(&dir), newCAShowCommand(&dir))
	return cmd
}

// readCA reads the CA of a data directory and never makes one: agents would
// trust nothing that it signs.
func readCA(dir string) (*pki.Authority, error) {
	if dir == "" {
		return nil, usagef("--data-dir is missing: the data directory of the server")
	}
	a, err := pki.ReadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &exit{exitNotFound, fmt.Errorf("%w; the first muster serve --data-dir %s makes it", err, dir)}
	}
	return a, err
}

// clientCertificate is one that was made.
type clientCertificate struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the public key, as the server knows it
	NotAfter    time.Time `json:"not_after"`
	CertFile    string    `json:"cert_file"`
	KeyFile     string    `json:"key_file"`
}

// maxDays is how long a CA of ours lives.
const maxDays = 20 * 365

func newCAIssueCommand(dir *string) *cobra.Command {
	var o output
	var out string
	var days int
	cmd := &cobra.Command{
		Use: "issue-agent NAME", Short: "Make a client certificate for one agent", Args: oneArg("the host identifier of the agent"),
		Long: `Make a client certificate and its key for one agent. NAME is the host identifier
that the agent enrols with, as --host_identifier of osquery decides: a UUID, a
host name or any text.

The two lines on standard output are for osquery's flagfile; change the paths to
where the files will be on the host. Files that are there are never replaced.`,
		Example: "  muster ca issue-agent web-1.example.com --data-dir /var/lib/muster --out . --days 90",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("--out is missing: the directory for the certificate and its key")
			}
			if days < 1 || days > maxDays {
				return usagef("--days must be from 1 to %d", maxDays)
			}
			a, err := readCA(*dir)
			if err != nil {
				return err
			}
			c, err := issueAgent(a, args[0], out, time.Duration(days)*24*time.Hour)
			if errs.Is(err, errs.Invalid) {
				return &exit{exitUsage, err}
			}
			if err != nil {
				return err
			}
			return o.document(cmd, c, func() error {
				if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "A client certificate for %s, good until %s. For osquery's flagfile:\n", printable(c.Name), c.NotAfter.Format(time.DateOnly)); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "--tls_client_cert=%s\n--tls_client_key=%s\n", c.CertFile, c.KeyFile)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&out, "out", "", "directory for the certificate and its key, made if it is not there")
	cmd.Flags().IntVar(&days, "days", 365, "how long the certificate is good")
	return cmd
}

// issueAgent writes a certificate and, before it, its key, which is of no use
// alone.
func issueAgent(a *pki.Authority, name, out string, life time.Duration) (clientCertificate, error) {
	c := clientCertificate{Name: name}
	cert, key, err := a.IssueAgent(name, life, time.Now())
	if err != nil {
		return c, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return c, err
	}
	c.Fingerprint, c.NotAfter = pki.Describe(pair.Leaf).Fingerprint, pair.Leaf.NotAfter
	if out, err = filepath.Abs(out); err != nil {
		return c, err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return c, err
	}
	base := filepath.Join(out, safeFile(name))
	c.CertFile, c.KeyFile = base+".pem", base+"-key.pem"
	for _, file := range []string{c.KeyFile, c.CertFile} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			return c, fmt.Errorf("%s is there already; move it away, or choose another --out", file)
		}
	}
	if err := durable.WriteFile(c.KeyFile, 0o600, key); err != nil {
		return c, err
	}
	return c, durable.WriteFile(c.CertFile, 0o600, cert)
}

// maxFile leaves room for endings: file systems take 255 bytes.
const maxFile = 200

// safeFile makes a name that is one file anywhere, without an extension. Where
// it has to change something, a part of the name's hash keeps two of them apart.
func safeFile(name string) string {
	safe := strings.TrimLeft(strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name), ".-")
	safe = safe[:min(len(safe), maxFile)]
	if safe == name {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimLeft(safe+"-"+hex.EncodeToString(sum[:4]), "-")
}

// caDocument is what "muster ca show" tells.
type caDocument struct {
	File        string    `json:"file"`
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"not_after"`
}

func newCAShowCommand(dir *string) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show", Short: "Show the CA that agents pin", Args: noArgs,
		Long: `Show subject, fingerprint and end of ca.pem. The fingerprint is the SHA-256 of the
certificate, as openssl x509 -in ca.pem -noout -fingerprint -sha256 prints it
with colons.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := readCA(*dir)
			if err != nil {
				return err
			}
			cert := a.Certificate()
			sum := sha256.Sum256(cert.Raw)
			d := caDocument{a.CertPath(), cert.Subject.String(), hex.EncodeToString(sum[:]), cert.NotAfter.UTC()}
			return o.document(cmd, d, func() error {
				return printTable(cmd.OutOrStdout(), []string{"SUBJECT", "SHA-256", "EXPIRES"}, [][]string{{d.Subject, d.Fingerprint, d.NotAfter.Format(time.DateOnly)}})
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}
