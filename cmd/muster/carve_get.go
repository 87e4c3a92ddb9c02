package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/durable"
)

// carveFile is what muster carve get -o json prints.
type carveFile struct {
	ID           string `json:"id"`
	File         string `json:"file"`
	Bytes        int64  `json:"bytes"`
	Resumed      int64  `json:"resumed"` // bytes that were here already
	SHA256       string `json:"sha256"`
	Checked      bool   `json:"checked"` // the hash is the one that the server said
	Verification string `json:"verification"`
}

func newCarveGetCommand(t *target) *cobra.Command {
	var file string
	archive := -1
	cmd := &cobra.Command{
		Use: "get ID -o FILE", Short: "Download a carve and check its hash", Args: oneArg("the id of a carve"),
		Long: `Download a carve. One archive comes as the node sent it; several come as one tar,
unless --archive names one. An interrupted download goes on where it was when the
command is given again. The file has its name only when it is complete and its
hash is right. -o - writes to standard output.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("say where to: -o FILE, or -o - for standard output")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			if file == "-" {
				return pipeCarve(cmd, client, args[0], archive)
			}
			out, err := fetchCarve(cmd, client, args[0], archive, file)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), out)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write; - is standard output")
	cmd.Flags().IntVar(&archive, "archive", -1, "number of the archive, if there are several")
	return cmd
}

// pipeCarve writes a carve to standard output. What was written before its hash
// proved wrong cannot be taken back; the exit code tells.
func pipeCarve(cmd *cobra.Command, client *adminapi.Client, id string, archive int) error {
	d, err := client.Download(cmd.Context(), id, archive, 0, "")
	if err != nil {
		return err
	}
	defer d.Body.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(cmd.OutOrStdout(), h), d.Body); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	return checkHash(h, d.SHA256)
}

func checkHash(h hash.Hash, want string) error {
	if got := hex.EncodeToString(h.Sum(nil)); want != "" && got != want {
		return fmt.Errorf("what came has the hash %s, and not %s", got, want)
	}
	return nil
}

// partSuffix is what a file is called until it is complete.
const partSuffix = ".part"

// fetchCarve downloads to a file, from where an earlier attempt ended.
func fetchCarve(cmd *cobra.Command, client *adminapi.Client, id string, archive int, file string) (out carveFile, err error) {
	want, err := expectedHash(cmd, client, id, archive)
	if err != nil {
		return out, err
	}
	f, err := os.OpenFile(file+partSuffix, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	from := int64(0)
	if want != "" {
		if from, err = io.Copy(h, f); err != nil {
			return out, err
		}
	}
	d, err := client.Download(cmd.Context(), id, archive, from, want)
	if adminapi.Status(err) == http.StatusRequestedRangeNotSatisfiable { // it is all here, or another
		d, err = client.Download(cmd.Context(), id, archive, 0, "")
	}
	if err != nil {
		return out, err
	}
	defer d.Body.Close() //nolint:errcheck // only read
	if d.From != from {
		h.Reset()
	}
	if err := errors.Join(f.Truncate(d.From), seekTo(f, d.From)); err != nil {
		return out, err
	}
	n, err := io.Copy(io.MultiWriter(f, h), d.Body)
	if err != nil {
		return out, fmt.Errorf("download: %w; give the command again to go on", err)
	}
	if err := checkHash(h, d.SHA256); err != nil {
		return out, errors.Join(err, os.Remove(file+partSuffix))
	}
	if err := errors.Join(f.Sync(), os.Rename(file+partSuffix, file), durable.SyncDir(filepath.Dir(file))); err != nil {
		return out, err
	}
	return carveFile{
		ID: id, File: file, Bytes: d.From + n, Resumed: d.From, SHA256: hex.EncodeToString(h.Sum(nil)), Checked: d.SHA256 != "", Verification: d.Verification,
	}, nil
}

func seekTo(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// expectedHash returns the hash of what a download brings; "" if that is made of
// several archives.
func expectedHash(cmd *cobra.Command, client *adminapi.Client, id string, archive int) (string, error) {
	var c adminapi.Carve
	if err := client.Call(cmd.Context(), http.MethodGet, "/carves/"+url.PathEscape(id), nil, nil, &c); err != nil {
		return "", err
	}
	found, hash := 0, ""
	for _, a := range c.Archives {
		if a.State == "done" && (archive < 0 || a.N == archive) {
			found, hash = found+1, a.SHA256
		}
	}
	if found != 1 {
		return "", nil
	}
	return hash, nil
}
