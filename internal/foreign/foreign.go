// Package foreign reads what other systems keep and returns resources: packs and
// configs of osquery, YAML of Fleet, exports of Doorman and osctrl. It takes
// bytes and gives objects; files are the caller's.
//
// What an agent would read is read as the agent reads it. Whatever has no place
// in a resource, is named otherwise or means something else here is told in a
// Note, so that nothing is lost silently; what cannot be told apart safely, as
// two packs of one name, is an error.
//
// Sources: osquery's parsers (osquery/config/config.cpp, packs.cpp,
// plugins/config/parsers), Doorman's models (doorman/models.py), osctrl's
// environments (pkg/environments), and the documented files of Fleet.
package foreign

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Format is a way in which another system writes what agents run.
type Format string

// The formats.
const (
	Unknown       Format = ""
	OsqueryPack   Format = "osquery-pack"   // one pack a file, as in osquery's packs directory
	OsqueryConfig Format = "osquery-config" // osquery.conf; read with packs beside it
	Fleet         Format = "fleet"          // fleetctl's YAML, and the files of its GitOps
	Doorman       Format = "doorman"        // its tables as JSON: queries, packs, file_paths, tags
	Osctrl        Format = "osctrl"         // one or several environments as JSON
)

// Formats returns all formats, in the order in which people read them.
func Formats() []Format { return []Format{OsqueryPack, OsqueryConfig, Fleet, Doorman, Osctrl} }

// File is the contents of one file. Its name is for messages, for the names of
// objects, and to find what other files refer to.
type File struct {
	Name  string
	Bytes []byte
}

// stem returns the file's name without directories and its last extension.
func (f File) stem() string {
	base := f.base()
	return cmp.Or(strings.TrimSuffix(base, path.Ext(base)), base)
}

func (f File) base() string { return path.Base(strings.ReplaceAll(f.Name, `\`, "/")) }

// Imported is what was read.
type Imported struct {
	Objects []resource.Object
	Notes   []Note
}

// Note is one thing that was left out, renamed or changed. Things that differ
// in their place alone are one Note, which says how many they are.
type Note struct {
	Source  string `json:"source"` // the file
	Message string `json:"message"`
}

// String returns source and message, for people.
func (n Note) String() string { return n.Source + ": " + n.Message }

// Limits of what is read. The largest config that an agent takes has 1 MiB, and
// agents read 32 levels.
const (
	maxFiles  = 2000
	maxFile   = 8 << 20
	maxBytes  = 32 << 20 // of all files
	maxDepth  = 32
	maxValues = 200_000 // in one file
)

// Import reads files of one format. The name is that of objects which have none
// in their source, as a config's schedule; if it is empty, the file's is taken.
// All files are read before an error is returned, so that it tells of each.
func Import(format Format, name string, files []File) (Imported, error) {
	if err := checkFiles(files); err != nil {
		return Imported{}, err
	}
	c := newCollector()
	switch format {
	case OsqueryPack, OsqueryConfig:
		c.osquery(name, files)
	case Fleet:
		c.fleet(name, files)
	case Doorman:
		c.doorman(name, files)
	case Osctrl:
		c.osctrl(name, files)
	case Unknown:
		return Imported{}, errs.Field("format", "is not known; name one of %v", Formats())
	default:
		return Imported{}, errs.Field("format", "%q is not known; there are %v", clip(string(format)), Formats())
	}
	return c.result()
}

func checkFiles(files []File) error {
	if len(files) == 0 {
		return errs.Field("files", "are missing; name at least one")
	}
	if len(files) > maxFiles {
		return errs.Field("files", "are %d; %d are taken at once", len(files), maxFiles)
	}
	sum := 0
	for _, f := range files {
		if len(f.Bytes) > maxFile {
			return errs.New(errs.TooLarge, "%s has over %d bytes", clip(f.Name), maxFile)
		}
		sum += len(f.Bytes)
	}
	if sum > maxBytes {
		return errs.New(errs.TooLarge, "the files have over %d bytes together; import some of them at a time", maxBytes)
	}
	return nil
}

// Detect returns the format of a file, Unknown if it has none of them.
func Detect(file string, b []byte) Format {
	if len(b) > maxFile {
		return Unknown
	}
	if v, err := readJSON(b); err == nil {
		return detectJSON(v)
	}
	docs, err := readYAML(b)
	if err != nil {
		return Unknown
	}
	if slices.ContainsFunc(docs, isFleet) {
		return Fleet
	}
	return Unknown
}

func detectJSON(v any) Format {
	if list, ok := v.([]any); ok && len(list) > 0 && isOsctrl(list[0]) {
		return Osctrl
	}
	m, ok := v.(map[string]any)
	if !ok {
		if isFleet(v) {
			return Fleet
		}
		return Unknown
	}
	switch {
	case isOsctrl(m):
		return Osctrl
	case isDoorman(m):
		return Doorman
	case isObject(m["queries"]):
		return OsqueryPack
	case slices.ContainsFunc(configKeys(), func(k string) bool { return m[k] != nil }):
		return OsqueryConfig
	case isFleet(m):
		return Fleet
	}
	return Unknown
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// clip shortens a text from a file for a message, and makes it one line.
func clip(s string) string {
	const most = 80
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	if quoted := fmt.Sprintf("%q", s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}
