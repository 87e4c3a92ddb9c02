package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/durable"
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1
)

// ErrCorrupt means that a file of the engine is not what was written.
var ErrCorrupt = errors.New("search: corrupt file")

// manifest is the whole truth about what the engine holds: a file that it does
// not name is not there. It is replaced as a whole, by a rename.
type manifest struct {
	// Position is the last stream sequence that the segments cover.
	Position uint64 `json:"position"`
	// Next is the number of the next segment. Numbers are never used again.
	Next     uint64 `json:"next"`
	Segments []meta `json:"segments"`
	// Lost are segments that were found missing or corrupt. They stay listed
	// so that the loss can be seen later; their files are in quarantineDir, if they are anywhere.
	Lost []loss `json:"lost,omitempty"`
	// Doubt is there while retention does not believe the wall clock.
	Doubt *doubt `json:"doubt,omitempty"`
}

type loss struct {
	Segment meta   `json:"segment"`
	Reason  string `json:"reason"`
}

// meta is what is known of a segment without opening it. Times are in
// microseconds since 1970.
type meta struct {
	File        string  `json:"file"` // relative, with slashes
	Day         string  `json:"day"`  // UTC, of arrival
	Query       rawText `json:"query"`
	Rows        int64   `json:"rows"`
	Bytes       int64   `json:"bytes"`
	RawBytes    int64   `json:"raw_bytes"` // of the rows' columns as JSON
	CRC         uint32  `json:"crc32c"`
	MinTime     int64   `json:"min_time"`
	MaxTime     int64   `json:"max_time"`
	MinReceived int64   `json:"min_received"`
	MaxReceived int64   `json:"max_received"`
	MinSeq      uint64  `json:"min_seq"`
	MaxSeq      uint64  `json:"max_seq"`
}

// rawText is a text of any bytes. In JSON it is a string, or an object with
// base64 when a string could not hold it.
type rawText string

type base64Text struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t rawText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *rawText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var raw base64Text
		err := json.Unmarshal(b, &raw)
		*t = rawText(raw.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// envelope is the manifest's form on disk. The checksum is of the manifest's
// text without insignificant space, so that a person may reformat the file but
// not change it unnoticed.
type envelope struct {
	Version  int             `json:"version"`
	SHA256   string          `json:"sha256"`
	Manifest json.RawMessage `json:"manifest"`
}

func (m *manifest) encode() ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	sum := sha256.Sum256(body)
	b, err := json.MarshalIndent(envelope{manifestVersion, hex.EncodeToString(sum[:]), body}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(b, '\n'), nil
}

func decodeManifest(b []byte) (*manifest, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, manifestName, err)
	}
	if e.Version != manifestVersion {
		return nil, fmt.Errorf("%s has version %d, this Muster reads %d; start the version that wrote it", manifestName, e.Version, manifestVersion)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, e.Manifest); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, manifestName, err)
	}
	if sum := sha256.Sum256(body.Bytes()); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, fmt.Errorf("%w: %s: its checksum does not match", ErrCorrupt, manifestName)
	}
	var m manifest
	if err := json.Unmarshal(body.Bytes(), &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, manifestName, err)
	}
	for _, s := range m.Segments {
		// The checksum vouches for the file, not for who wrote it: a name must
		// never lead out of the directory.
		if dir, name := path.Split(s.File); dir != s.Day+"/" || !isDay(s.Day) || !safeName(name) || s.Rows < 0 || s.Bytes < 0 {
			return nil, fmt.Errorf("%w: %s: bad segment %q", ErrCorrupt, manifestName, s.File)
		}
	}
	return &m, nil
}

// safeName reports whether a file name is of the kind that fileName makes.
func safeName(name string) bool {
	if !strings.HasSuffix(name, segmentSuffix) || strings.HasPrefix(name, ".") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return !strings.Contains(name, "..")
}

// readManifest returns nil when there is none.
func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName)) //nolint:gosec // the engine's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return decodeManifest(b)
}

// writeManifest replaces the manifest durably. If it fails, replaced says
// whether the new one may be what is read after a crash.
func writeManifest(dir string, m *manifest) (replaced bool, err error) {
	b, err := m.encode()
	if err != nil {
		return false, err
	}
	name := filepath.Join(dir, manifestName)
	if err := writeSynced(name+".tmp", b); err != nil {
		return false, fmt.Errorf("write manifest: %w", err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return true, fmt.Errorf("replace manifest: %w", err)
	}
	return true, durable.SyncDir(dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640) //nolint:gosec // group may read, as for the segments
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
