package sink

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/durable"
)

// Limits of dead letters.
const (
	// maxDeadBytes bounds what is kept of one sink. When it is full the sink stands
	// still, and loses nothing: a system that suddenly refuses everything must not
	// have everything thrown away.
	maxDeadBytes = 64 << 20
	// maxLetter is a line: an event, which a message of the stream holds, in JSON
	// with all that needs escapes.
	maxLetter = 128 << 20
)

// errDeadFull means that the dead letters are full.
var errDeadFull = errors.New("the dead letters are full: see why with muster sink dead, then muster sink retry or discard")

// Letter is an event that the other side refused for good.
type Letter struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Event  json.RawMessage `json:"event"` // in Muster's own format
}

// dead keeps letters in a file, a line each. Safe for concurrent use.
type dead struct {
	dir string
	max int64 // bytes

	mu      sync.Mutex
	letters int
	bytes   int64
	again   bool // what died meanwhile is to be sent again, too
}

const (
	deadFile  = "dead.ndjson"
	retryFile = "retry.ndjson" // those that are being sent again
)

func openDead(dir string, most int64) (*dead, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d := &dead{dir: dir, max: most}
	err := d.trimTorn()
	if err == nil {
		err = eachLine(d.path(deadFile), func([]byte) error {
			d.letters++
			return nil
		})
	}
	return d, err
}

func (d *dead) path(name string) string { return filepath.Join(d.dir, name) }

// trimTorn drops a last line that a crash left without its end: its event was not
// counted as sent, and comes again.
func (d *dead) trimTorn() error {
	f, err := os.OpenFile(d.path(deadFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	whole, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(whole)
	}
	d.bytes = whole
	return errors.Join(err, f.Close())
}

// add keeps letters durably, or none of them.
func (d *dead) add(letters []Letter) error {
	var b []byte
	for _, l := range letters {
		line, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b = append(append(b, line...), '\n')
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes > 0 && d.bytes+int64(len(b)) > d.max {
		return errDeadFull
	}
	f, err := os.OpenFile(d.path(deadFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(d.bytes), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if d.bytes == 0 {
		if err := durable.SyncDir(d.dir); err != nil {
			return err
		}
	}
	d.letters, d.bytes = d.letters+len(letters), d.bytes+int64(len(b))
	return nil
}

func (d *dead) size() (letters int, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.letters, d.bytes
}

// list returns the oldest letters.
func (d *dead) list(limit int) ([]Letter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []Letter{}
	err := eachLine(d.path(deadFile), func(line []byte) error {
		var l Letter
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		if list = append(list, l); len(list) >= limit {
			return errEnough
		}
		return nil
	})
	return list, err
}

var errEnough = errors.New("enough")

// take moves the letters to those that are sent again; once those of before are done,
// if there are any.
func (d *dead) take() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retrying() {
		d.again = true
		return nil
	}
	return d.move()
}

func (d *dead) move() error {
	err := os.Rename(d.path(deadFile), d.path(retryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.letters, d.bytes = 0, 0
	return durable.SyncDir(d.dir)
}

func (d *dead) retrying() bool {
	_, err := os.Stat(d.path(retryFile))
	return err == nil
}

// retried forgets the letters that were sent again.
func (d *dead) retried() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.Remove(d.path(retryFile)); err != nil || !d.again {
		return err
	}
	d.again = false
	return d.move()
}

// discard forgets all letters that are not being sent again.
func (d *dead) discard() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.Remove(d.path(deadFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := d.letters
	d.letters, d.bytes = 0, 0
	return n, nil
}

// eachLine calls use with every line of a file; one that is not there has none.
func eachLine(path string, use func([]byte) error) error {
	f, err := os.Open(path) //nolint:gosec // of our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLetter)
	for s.Scan() {
		if err := use(s.Bytes()); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return s.Err()
}
