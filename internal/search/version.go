package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// FormatVersion is the version of the files that this program writes and reads.
const FormatVersion = manifestVersion

// Format tells which version the files of an engine's directory have, and how many
// segments there are; 0 of both if there are none yet. It opens nothing else and
// changes nothing.
func Format(dir string) (version, segments int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName)) //nolint:gosec // the engine's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look for the version of the events: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return 0, 0, fmt.Errorf("look for the version of the events: %w: %s: %w", ErrCorrupt, manifestName, err)
	}
	if e.Version != manifestVersion {
		return e.Version, 0, nil
	}
	m, err := decodeManifest(b)
	if err != nil {
		return e.Version, 0, err
	}
	return e.Version, len(m.Segments), nil
}
