package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/hostsql"
)

// CarveOptions change what a real agent's carver cannot be told.
type CarveOptions struct {
	// Every is how often carves that wait are begun: at the unix times that it
	// divides. A minute, as in osquery, if 0.
	Every time.Duration
	// Resume begins carves anew that a former run of the agent left unfinished,
	// under the same id. The real agent leaves them PENDING for ever.
	Resume bool
	// TempDir is where copies and archives are made; os.TempDir if empty.
	TempDir string
}

// Limits of the carver; osquery has none of them.
const (
	maxCarvePaths = 10_000  // in one carve: the row with their names is one answer
	maxCarves     = 1_000   // remembered: the state is written whole at each change
	maxCarveBytes = 8 << 30 // copied for one carve: /proc/kcore is a file, too
	carveInterval = time.Minute
)

// The states of a carve (osquery/carver/carver_utils.h).
const (
	carveScheduled    = "SCHEDULED"
	carveStarting     = "STARTING"
	carvePending      = "PENDING"
	carveSuccess      = "SUCCESS"
	carveNoPaths      = "CREATE PATHS FAILED"
	carveNoArchive    = "ARCHIVE FAILED"
	carveNoCompressed = "COMPRESS FAILED"
	carveNotPosted    = "DATA POST FAILED"
)

// A carve is one request for files, as table carves shows it.
type carve struct {
	Time      int64    `json:"time"` // unix s of the request
	Paths     []string `json:"paths"`
	Status    string   `json:"status"`
	SHA256    string   `json:"sha256"` // "-1" of an archive over read_max
	Size      int64    `json:"size"`   // -1 until there is an archive
	RequestID string   `json:"request_id"`
}

// ended reports whether nothing more will happen to a carve.
func (c carve) ended() bool {
	return !slices.Contains([]string{carveScheduled, carveStarting, carvePending}, c.Status)
}

// carvesTable lists the carves. With carve = 1 and paths it requests one first.
func (a *Agent) carvesTable(ctx context.Context, q hostsql.Constraints, yield func(hostsql.Values) error) error {
	fresh, err := a.requestCarve(ctx, q)
	if err != nil {
		return err
	}
	var carves map[string]carve
	a.db.view(func(s saved) { carves = maps.Clone(s.Carves) })
	for _, guid := range slices.Sorted(maps.Keys(carves)) {
		c := carves[guid]
		err := yield(hostsql.Values{
			"time": c.Time, "sha256": c.SHA256, "size": c.Size, "path": strings.Join(c.Paths, ","), "status": c.Status,
			"carve_guid": guid, "request_id": c.RequestID, "carve": guid == fresh,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// requestCarve keeps a new carve, if a query asks for one, and returns its id.
func (a *Agent) requestCarve(ctx context.Context, q hostsql.Constraints) (string, error) {
	if a.flags.Bool("disable_carver") || !slices.Contains(q.Equal("carve"), "1") {
		return "", nil
	}
	paths, err := hostsql.CarvePaths(ctx, q, maxCarvePaths)
	if err != nil || len(paths) == 0 {
		return "", err
	}
	guid := newUUID()
	return guid, a.db.update(func(s *saved) {
		s.Carves[guid] = carve{Time: time.Now().Unix(), Paths: paths, Status: carveScheduled, Size: -1, RequestID: newUUID()}
		forgetCarves(s.Carves)
	})
}

// forgetCarves drops the oldest carves that ended, over the limit.
func forgetCarves(carves map[string]carve) {
	for _, guid := range byTime(carves) {
		if len(carves) <= maxCarves {
			return
		}
		if carves[guid].ended() {
			delete(carves, guid)
		}
	}
}

// byTime returns the ids of carves, the oldest first.
func byTime(carves map[string]carve) []string {
	return slices.SortedFunc(maps.Keys(carves), func(a, b string) int {
		return cmp.Or(cmp.Compare(carves[a].Time, carves[b].Time), cmp.Compare(a, b))
	})
}

// carve is the carver's thread: it does the carves that wait, one after
// another, at each full interval.
func (a *Agent) carve(ctx context.Context) {
	every := cmp.Or(a.carver.Every, carveInterval)
	if a.carver.Resume {
		a.resumeCarves(ctx)
	}
	for {
		now := time.Now()
		if !wait(ctx, now.Truncate(every).Add(every).Sub(now)) {
			return
		}
		a.expireCarves(ctx)
		var waiting []string
		a.db.view(func(s saved) {
			waiting = slices.DeleteFunc(byTime(s.Carves), func(guid string) bool { return s.Carves[guid].Status != carveScheduled })
		})
		for _, guid := range waiting {
			if ctx.Err() != nil {
				return
			}
			a.doCarve(ctx, guid)
		}
	}
}

// resumeCarves makes those wait again that were under way.
func (a *Agent) resumeCarves(ctx context.Context) {
	err := a.db.update(func(s *saved) {
		for guid, c := range s.Carves {
			if !c.ended() {
				c.Status, c.SHA256, c.Size = carveScheduled, "", -1
				s.Carves[guid] = c
			}
		}
	})
	if err != nil {
		a.log.ErrorContext(ctx, "cannot resume carves", "error", err)
	}
}

// expireCarves forgets those that succeeded; failed ones stay, as in osquery.
func (a *Agent) expireCarves(ctx context.Context) {
	before := time.Now().Add(-a.flags.Seconds("carver_expiry")).Unix()
	old := func(_ string, c carve) bool { return c.Status == carveSuccess && c.Time < before }
	some := false
	a.db.view(func(s saved) {
		for guid, c := range s.Carves {
			some = some || old(guid, c)
		}
	})
	if !some {
		return
	}
	if err := a.db.update(func(s *saved) { maps.DeleteFunc(s.Carves, old) }); err != nil {
		a.log.ErrorContext(ctx, "cannot forget expired carves", "error", err)
	}
}

// setCarve changes what is kept of a carve.
func (a *Agent) setCarve(ctx context.Context, guid string, change func(*carve)) {
	err := a.db.update(func(s *saved) {
		c := s.Carves[guid]
		change(&c)
		s.Carves[guid] = c
	})
	if err != nil {
		a.log.ErrorContext(ctx, "cannot keep the state of a carve", "carve_guid", guid, "error", err)
	}
}

// A carveError is a failure with the status that it gives the carve.
type carveError struct {
	status string
	err    error
}

func (e *carveError) Error() string { return e.err.Error() }

func (e *carveError) Unwrap() error { return e.err }

// doCarve copies, archives and sends the files of one carve. When the agent
// stops meanwhile the carve stays as it is.
func (a *Agent) doCarve(ctx context.Context, guid string) {
	var c carve
	a.db.view(func(s saved) { c = s.Carves[guid] })
	a.setCarve(ctx, guid, func(c *carve) { c.Status = carveStarting })
	err := a.carveFiles(ctx, guid, c)
	if ctx.Err() != nil {
		return
	}
	status := carveSuccess
	if err != nil {
		status = carveNotPosted
		if failed, ok := errors.AsType[*carveError](err); ok {
			status = failed.status
		}
		a.status(ctx, failure, "Carve "+guid+" failed: "+err.Error())
	}
	a.setCarve(ctx, guid, func(c *carve) { c.Status = status })
}

func (a *Agent) carveFiles(ctx context.Context, guid string, c carve) error {
	dir := filepath.Join(cmp.Or(a.carver.TempDir, os.TempDir()), "osquery_carve_"+guid)
	if err := os.RemoveAll(dir); err != nil { // of a carve that is resumed
		return &carveError{carveNoPaths, err}
	}
	if err := os.Mkdir(dir, privateDir); err != nil {
		return &carveError{carveNoPaths, err}
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system's own temporary directory, which is cleaned
	files, err := a.copyFiles(ctx, dir, c.Paths)
	if err != nil {
		return &carveError{carveNoPaths, err}
	}
	a.setCarve(ctx, guid, func(c *carve) { c.Status = carvePending })
	upload, err := a.archive(ctx, filepath.Join(dir, "carve_"+guid+".tar"), files)
	if err != nil {
		return err
	}
	a.setCarve(ctx, guid, func(c *carve) { c.Size, c.SHA256 = upload.size, upload.sha256 })
	return a.postCarve(ctx, guid, c.RequestID, upload)
}

// postCarve sends the archive.
func (a *Agent) postCarve(ctx context.Context, guid, request string, upload upload) error {
	f, err := os.Open(upload.path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // a reader
	begin := time.Now()
	size := min(max(1, a.flags.Uint("carver_block_size")), maxCarveBlock)
	err = a.client.carve.Upload(ctx, agentwire.Carve{
		Start: a.flags.String("carver_start_endpoint"), Continue: a.flags.String("carver_continue_endpoint"),
		ID: guid, RequestID: request, Size: upload.size, BlockSize: int(size),
		Key: a.nodeKey,
	}, &cancelReader{ctx, f})
	a.log.DebugContext(ctx, "carve", "carve_guid", guid, "bytes", upload.size, "took", time.Since(begin), "failed", err != nil)
	return err
}

// maxCarveBlock bounds carver_block_size: a block is in memory three times.
const maxCarveBlock = 64 << 20

// cancelReader ends reading when ctx is done.
type cancelReader struct {
	ctx context.Context //nolint:containedctx // a reader for one call
	r   io.Reader
}

func (r *cancelReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("stopped: %w", err)
	}
	return r.r.Read(p)
}
