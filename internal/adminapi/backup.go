package adminapi

import (
	"bufio"
	"context"
	"io"
	"net/http"
)

// BackupPath is where a backup is made and read.
const BackupPath = "/api/v1/backup"

// backup answers a backup as it is made. An error in the middle can only cut it: it
// has no manifest then, and the connection breaks.
func (a *API) backup(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if err := a.Audit.Record(ctx, session(ctx).UserName, "backup.make", "server", nil); err != nil {
		return err
	}
	out := &patient{w: w, c: http.NewResponseController(w)}
	buffered := bufio.NewWriterSize(out, exportBuffer)
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("Content-Disposition", `attachment; filename="muster-backup.tar.zst"`)
	err := a.Backup(ctx, buffered)
	if err == nil {
		return buffered.Flush()
	}
	if buffered.Size() == buffered.Available() && !out.begun {
		w.Header().Del("Content-Disposition")
		return err
	}
	a.report(ctx, "backup", err)
	out.breakOff()
	return nil
}

// Backup reads a backup of the server into w. It is whole only if its manifest says
// so; see backup.Verify.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	answer, err := c.send(ctx, http.MethodGet, "/backup", nil, nil, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to the end, or given up
	_, err = io.Copy(w, answer.Body)
	return err
}

// CA reads the certificate that agents pin, unless the operator gives them another.
func (c *Client) CA(ctx context.Context) ([]byte, error) {
	answer, err := c.send(ctx, http.MethodGet, "/ca.pem", nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(answer.Body, maxBody))
}
