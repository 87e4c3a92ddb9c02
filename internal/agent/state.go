package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// saved is what outlives the process beside logs and results.
type saved struct {
	NodeKey    string `json:"node_key,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	UUID       string `json:"uuid,omitempty"` // used when the hardware has none
	// Splay holds intervals as varied, by query name and interval.
	Splay map[string]int64 `json:"splay,omitempty"`
	// Accelerate is until when (unix s) distributed queries are asked for every
	// five seconds.
	Accelerate int64 `json:"accelerate,omitempty"`
	// Pending are distributed queries that were taken and not begun.
	Pending map[string]string `json:"pending,omitempty"`
	// Running holds the time (unix s) at which a distributed query began, by
	// the SHA-256 of its text. What is there at a start ended the agent.
	Running map[string]int64 `json:"running,omitempty"`
	Config  []byte           `json:"config,omitempty"` // the last good one, if config_enable_backup
	Carves  map[string]carve `json:"carves,omitempty"` // by carve_guid
}

// A database is the directory of --database_path.
type database struct {
	dir  string
	lock *os.File

	mu    sync.Mutex
	state saved
}

const (
	privateDir  = 0o700
	privateFile = 0o600
)

// openDatabase opens the directory for one agent alone.
func openDatabase(dir string) (*database, error) {
	if err := os.MkdirAll(filepath.Join(dir, "queries"), privateDir); err != nil {
		return nil, fmt.Errorf("database_path: %w", err)
	}
	d := &database{dir: dir, state: saved{
		Splay: map[string]int64{}, Pending: map[string]string{}, Running: map[string]int64{}, Carves: map[string]carve{},
	}}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, privateFile) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("database_path: %w", err)
	}
	if err := lockFile(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("database_path %s is in use by another agent; give each its own: %w", dir, err), lock.Close())
	}
	d.lock = lock
	text, err := os.ReadFile(d.path())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("database_path: %w", err), lock.Close())
	}
	if err == nil {
		if err := json.Unmarshal(text, &d.state); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is damaged (%w); remove it to enrol anew", d.path(), err), lock.Close())
		}
	}
	return d, nil
}

func (d *database) path() string { return filepath.Join(d.dir, "state.json") }

func (d *database) close() error { return d.lock.Close() }

// view reads the state.
func (d *database) view(use func(saved)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	use(d.state)
}

// update changes the state and writes it to disk.
func (d *database) update(change func(*saved)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.state)
	text, err := json.Marshal(d.state)
	if err != nil {
		return err
	}
	return replace(d.path(), text)
}

// replace writes a file so that a reader finds the old or the new text whole.
func replace(path string, text []byte) (err error) {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, privateFile) //nolint:gosec // under database_path
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync() // before the rename, or a power cut may leave an empty file
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// A record is what is kept of a scheduled query between runs.
type record struct {
	SQL     string `json:"sql"`
	Ran     bool   `json:"ran"` // differential results were stored
	Epoch   int64  `json:"epoch"`
	Counter int64  `json:"counter"`
	// Rows are the results of the last run, each as encoded.
	Rows  []string `json:"rows,omitempty"`
	Stats stats    `json:"stats"`
}

// stats are the columns of osquery_schedule; times in ms, memory in bytes.
type stats struct {
	Executions, LastExecuted, OutputSize            int64
	WallMs, LastWallMs, UserMs, LastUserMs          int64
	SystemMs, LastSystemMs, TotalMemory, LastMemory int64
}

// recordPath is by a hash, as a query's name may hold any character.
func (d *database) recordPath(query string) string {
	sum := sha256.Sum256([]byte(query))
	return filepath.Join(d.dir, "queries", hex.EncodeToString(sum[:16])+".json")
}

// record returns what is kept of a query; empty if nothing is, or if it is
// damaged, which gives the query a new beginning.
func (d *database) record(query string) record {
	var r record
	text, err := os.ReadFile(d.recordPath(query))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return record{}
	}
	return r
}

func (d *database) keep(query string, r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replace(d.recordPath(query), text)
}
