package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/backup"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/durable"
)

// backupSummary is what the commands print of a backup.
type backupSummary struct {
	File    string `json:"file"`
	Muster  string `json:"muster"`
	MadeAt  string `json:"made_at"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"` // of all files
	Written int64  `json:"size"`  // of the backup
}

func newBackupCommand() *cobra.Command {
	var t target
	var o output
	var recipients []string
	var passphraseFile, dir string
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Make a backup of a server at work, and check it", Args: oneArg("a file to write"),
		Long: `Make a backup: one file with all that a server needs to go on, its keys among it. The
server works meanwhile, and what was acknowledged before is in it. The file has its
name only when it is whole. It opens everything: encrypt it, for a public key of age
or with a passphrase, and keep that elsewhere.

With --data-dir it is made of the data directory of a server that does not run.`,
		Example: `  muster backup muster.backup --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  muster backup verify muster.backup --identity-file key.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := recipientsOf(recipients, passphraseFile)
			if err != nil {
				return err
			}
			read, err := backupOf(cmd, &t, dir)
			if err != nil {
				return err
			}
			if len(to) == 0 {
				say(cmd, "the backup holds the server's keys and is not encrypted; see --recipient")
			}
			s, err := writeBackup(args[0], to, read)
			if err != nil {
				return fmt.Errorf("%w; nothing was kept", err)
			}
			return printBackup(cmd, &o, s)
		},
	}
	t.flags(cmd)
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringSliceVar(&recipients, "recipient", nil, "public key of age (age1…) that can open it; may be given several times")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file that holds a passphrase that opens it")
	f.StringVar(&dir, "data-dir", "", "data directory of a server that does not run; without it, the server at work is asked")
	cmd.MarkFlagsMutuallyExclusive("recipient", "passphrase-file")
	cmd.AddCommand(newBackupVerifyCommand())
	return cmd
}

// backupOf returns what writes a backup: the server, or of a directory this process.
func backupOf(cmd *cobra.Command, t *target, dir string) (func(io.Writer) error, error) {
	if dir != "" {
		cfg := config.Default()
		cfg.DataDir = dir
		return func(w io.Writer) error { return app.BackupDir(cfg, version, w, time.Now()) }, nil
	}
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return client.Backup(cmd.Context(), w) }, nil
}

func recipientsOf(keys []string, passphraseFile string) ([]age.Recipient, error) {
	if passphraseFile != "" {
		passphrase, err := passphraseOf(passphraseFile)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(passphrase)
		return []age.Recipient{r}, err
	}
	var list []age.Recipient
	for _, key := range keys {
		r, err := age.ParseX25519Recipient(key)
		if err != nil {
			return nil, usagef("--recipient: %w", err)
		}
		list = append(list, r)
	}
	return list, nil
}

func passphraseOf(file string) (string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return "", usagef("--passphrase-file: %w", err)
	}
	passphrase := strings.TrimRight(string(b), "\r\n")
	if passphrase == "" {
		return "", usagef("--passphrase-file: %s is empty", file)
	}
	return passphrase, nil
}

// writeBackup writes what read gives to a file, encrypted for to, and checks it as
// it passes.
func writeBackup(file string, to []age.Recipient, read func(io.Writer) error) (s backupSummary, err error) {
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(part))
		}
	}()
	out := io.WriteCloser(f)
	if len(to) > 0 {
		if out, err = age.Encrypt(f, to...); err != nil {
			return s, err
		}
	}
	from, checked := io.Pipe()
	type outcome struct {
		m   backup.Manifest
		err error
	}
	verified := make(chan outcome, 1)
	go func() {
		m, err := backup.Verify(from)
		_, _ = io.Copy(io.Discard, from) // what a damaged one has left
		verified <- outcome{m, err}
	}()
	err = read(io.MultiWriter(out, checked))
	_ = checked.Close() // never fails
	v := <-verified
	if err == nil {
		err = v.err
	} // else it is cut, and why is known
	if err != nil {
		return s, err
	}
	if len(to) > 0 {
		if err = out.Close(); err != nil {
			return s, err
		}
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err == nil {
		err = errors.Join(os.Rename(part, file), durable.SyncDir(filepath.Dir(file)))
	}
	return summaryOf(file, v.m, size), err
}

func summaryOf(file string, m backup.Manifest, size int64) backupSummary {
	return backupSummary{File: file, Muster: m.Muster, MadeAt: m.MadeAt.Format("2006-01-02T15:04:05Z07:00"), Files: len(m.Files), Bytes: m.Bytes(), Written: size}
}

func printBackup(cmd *cobra.Command, o *output, s backupSummary) error {
	return o.document(cmd, s, func() error {
		return printTable(cmd.OutOrStdout(), []string{"FILE", "MADE AT", "BY", "FILES", "BYTES", "SIZE"}, [][]string{
			{s.File, s.MadeAt, s.Muster, fmt.Sprint(s.Files), fmt.Sprint(s.Bytes), fmt.Sprint(s.Written)},
		})
	})
}

// opened is how to read a backup that may be encrypted.
type opened struct{ identityFile, passphraseFile string }

func (k *opened) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.identityFile, "identity-file", "", "file that holds the key of age (AGE-SECRET-KEY-…) that opens it")
	cmd.Flags().StringVar(&k.passphraseFile, "passphrase-file", "", "file that holds the passphrase that opens it")
	cmd.MarkFlagsMutuallyExclusive("identity-file", "passphrase-file")
}

// reader decrypts a backup if it is encrypted.
func (k *opened) reader(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	const magic = "age-encryption.org/"
	head, err := in.Peek(len(magic))
	if err != nil || !bytes.Equal(head, []byte(magic)) {
		return in, nil // Read says what is wrong with it
	}
	var identities []age.Identity
	switch {
	case k.identityFile != "":
		f, err := os.Open(k.identityFile)
		if err != nil {
			return nil, usagef("--identity-file: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read
		if identities, err = age.ParseIdentities(f); err != nil {
			return nil, usagef("--identity-file: %w", err)
		}
	case k.passphraseFile != "":
		passphrase, err := passphraseOf(k.passphraseFile)
		if err != nil {
			return nil, err
		}
		i, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, err
		}
		identities = []age.Identity{i}
	default:
		return nil, usagef("the backup is encrypted; give --identity-file or --passphrase-file")
	}
	return age.Decrypt(in, identities...)
}

// read reads a backup's file by use, and sums it up.
func (k *opened) read(file string, use func(r io.Reader) (backup.Manifest, error)) (s backupSummary, err error) {
	f, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return s, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return s, err
	}
	r, err := k.reader(f)
	if err != nil {
		return s, err
	}
	m, err := use(r)
	return summaryOf(file, m, info.Size()), err
}

func newBackupVerifyCommand() *cobra.Command {
	var o output
	var k opened
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check that a backup is whole and is what was put in", Args: oneArg("a backup"),
		Example: "  muster backup verify muster.backup",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := k.read(args[0], backup.Verify)
			if err != nil {
				return err
			}
			return printBackup(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	k.flags(cmd)
	return cmd
}

func newRestoreCommand() *cobra.Command {
	var o output
	var k opened
	var dir string
	cmd := &cobra.Command{
		Use: "restore FILE --data-dir DIR", Short: "Make a data directory of a backup", Args: oneArg("a backup"),
		Long: `Make a data directory of a backup. It must be new or empty, and gets its name only
when all of the backup was found to be right. Then start a server with it: nodes go
on with the keys that they have. The server that made the backup must not run any
more: both would be the same.`,
		Example: "  muster restore muster.backup --data-dir /var/lib/muster --identity-file key.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return usagef("--data-dir is missing; say where to")
			}
			finish := func(half string, _ backup.Manifest) error {
				return app.FinishRestore(cmd.Context(), half, slog.New(slog.DiscardHandler))
			}
			s, err := k.read(args[0], func(r io.Reader) (backup.Manifest, error) { return backup.Restore(r, dir, finish) })
			if err != nil {
				return err
			}
			say(cmd, "restored; start it: muster serve --data-dir %s", dir)
			return printBackup(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	k.flags(cmd)
	cmd.Flags().StringVar(&dir, "data-dir", "", "directory to make")
	return cmd
}
