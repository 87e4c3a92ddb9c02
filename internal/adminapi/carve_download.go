package adminapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
)

// byVault returns a context for who shows a Vault token instead of a session;
// ok is false for everybody else.
func (a *API) byVault(r *http.Request) (ctx context.Context, ok bool, err error) {
	token := r.Header.Get("X-Vault-Token")
	if bearer, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); token == "" && is && isVaultToken(bearer) {
		token = bearer
	}
	if a.Vault == nil || token == "" {
		return nil, false, nil
	}
	name, err := a.Vault.Check(r.Context(), token)
	if err != nil {
		a.refused(r.Context(), "vault", string(account.CarveDownload), r.Method+" "+r.URL.Path, err)
		return nil, true, err
	}
	return context.WithValue(r.Context(), sessionKey{}, account.Session{UserName: "vault:" + name, Access: account.NewAccess([]*account.Role{{Permissions: []account.Permission{account.CarveDownload}}})}), true, nil
}

// isVaultToken tells Vault's tokens from ours: service, batch and those of before
// 1.10.
func isVaultToken(s string) bool {
	return strings.HasPrefix(s, "hvs.") || strings.HasPrefix(s, "hvb.") || strings.HasPrefix(s, "s.") || strings.HasPrefix(s, "b.")
}

// all is the number of no archive, for all of them.
const all = -1

type carveDownloadInput struct {
	CarveRef

	Archive int    `query:"archive" doc:"Number of the archive, as the node sent it; without it all archives as one tar, or the only one as it is" minimum:"-1" maximum:"15" default:"-1"`
	Range   string `header:"Range" doc:"Bytes of one archive, as bytes=100-"`
	IfRange string `header:"If-Range" doc:"The ETag that the range belongs to"`
}

func (a *API) downloadCarve(ctx context.Context, in *carveDownloadInput) (*huma.StreamResponse, error) {
	c, err := a.carve(ctx, account.CarveDownload, in.ID)
	if err != nil {
		return nil, err
	}
	serve, err := a.download(ctx, c, in.Archive, in.Range)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		serve(w, r)
	}}, nil
}

// download writes that somebody takes an archive into the audit log, and returns
// what sends it.
func (a *API) download(ctx context.Context, c *carve.Carve, n int, ranged string) (func(http.ResponseWriter, *http.Request), error) {
	var there []carve.Archive
	for _, archive := range c.Archives {
		if archive.State == carve.Done && (n == all || n == archive.N) {
			there = append(there, archive)
		}
	}
	if len(there) == 0 {
		return nil, gone(c)
	}
	detail := map[string]any{"node": c.NodeID, "host_identifier": c.HostIdentifier, "archive": n}
	if len(there) == 1 {
		archive := there[0]
		detail["sha256"], detail["bytes"], detail["range"], detail["archive"] = archive.SHA256, archive.Size, ranged, archive.N
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "carve.download", c.ID, detail); err != nil {
		return nil, err
	}
	if len(there) > 1 {
		return func(w http.ResponseWriter, r *http.Request) { a.sendAll(w, r, c) }, nil
	}
	return func(w http.ResponseWriter, r *http.Request) { a.sendOne(w, r, c, there[0]) }, nil
}

// sendOne sends an archive as the node sent it; who lost the connection goes on
// from where it was.
func (a *API) sendOne(w http.ResponseWriter, r *http.Request, c *carve.Carve, archive carve.Archive) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+nameOf(c, archive.N, cmp.Or(string(archive.Format), "bin"))+`"`)
	h.Set("ETag", `"`+archive.SHA256+`"`)
	h.Set("X-Muster-SHA256", archive.SHA256)
	h.Set("X-Muster-Verification", string(archive.Verification))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	s := &seeker{size: archive.Size, open: func(from int64) (io.ReadCloser, error) { return a.Carves.Open(r.Context(), archive, from, -1) }}
	defer s.close()
	http.ServeContent(slowly(w), r, "", c.EndedAt, s)
	if s.err != nil && r.Context().Err() == nil {
		a.report(r.Context(), "download carve", s.err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to show the client that it is not all
	}
}

func (a *API) sendAll(w http.ResponseWriter, r *http.Request, c *carve.Carve) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+nameOf(c, all, "tar")+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if err := a.Carves.Combine(r.Context(), c, slowly(w)); err != nil {
		if r.Context().Err() == nil {
			a.report(r.Context(), "download carve", err)
		}
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to show the client that it is not all
	}
}

// taker is a client that is cut off when it stops to take: an archive is open
// for it, and a connection to the store of blobs. It has no ReadFrom, which would
// send everything within one deadline.
type taker struct {
	http.ResponseWriter

	c      *http.ResponseController
	within time.Duration
}

func slowly(w http.ResponseWriter) *taker {
	return &taker{w, http.NewResponseController(w), exportWrite}
}

func (t *taker) Write(b []byte) (int, error) {
	if err := t.c.SetWriteDeadline(time.Now().Add(t.within)); err != nil {
		return 0, err
	}
	return t.ResponseWriter.Write(b)
}

// seeker is an archive for http.ServeContent. It opens the archive where it is
// read.
type seeker struct {
	size, at int64
	open     func(from int64) (io.ReadCloser, error)
	r        io.ReadCloser
	err      error
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 || offset > s.size {
		return 0, errors.New("no such byte")
	}
	if offset != s.at {
		s.close()
	}
	s.at = offset
	return offset, nil
}

func (s *seeker) Read(p []byte) (int, error) {
	if s.r == nil {
		if s.r, s.err = s.open(s.at); s.err != nil {
			return 0, s.err
		}
	}
	n, err := s.r.Read(p)
	s.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *seeker) close() {
	if s.r != nil {
		_ = s.r.Close() // read only
		s.r = nil
	}
}

// fileRequest is how scripts ask the carve server for a file: by the node's name
// for it, with a Vault token. The accessor that they send is not looked at: it is
// no secret, and opens nothing.
type fileRequest struct {
	GUID  string `json:"file_carve_guid"`
	Token string `json:"token"`
}

// maxFileRequest is far above two ids and a token.
const maxFileRequest = 64 << 10

func (a *API) fileRequest(w http.ResponseWriter, r *http.Request) error {
	if a.Vault == nil {
		return errs.New(errs.NotFound, "this server knows no Vault; set vault_addr, or use /api/v1/carves")
	}
	var in fileRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxFileRequest)).Decode(&in); err != nil {
		return errs.Wrap(errs.Invalid, err, "the body is no JSON with file_carve_guid and token")
	}
	name, err := a.Vault.Check(r.Context(), in.Token)
	if err != nil {
		a.refused(r.Context(), "vault", string(account.CarveDownload), "POST /file_request", err)
		return err
	}
	ctx := context.WithValue(r.Context(), sessionKey{}, account.Session{UserName: "vault:" + name, Access: account.NewAccess([]*account.Role{{Permissions: []account.Permission{account.CarveDownload}}})})
	c, err := a.CarveList.CarveByGUID(ctx, in.GUID)
	if err != nil {
		return err
	}
	for _, archive := range c.Archives {
		if archive.GUID != in.GUID {
			continue
		}
		serve, err := a.download(ctx, c, archive.N, r.Header.Get("Range"))
		if err != nil {
			return err
		}
		serve(w, r)
		return nil
	}
	return gone(c)
}
