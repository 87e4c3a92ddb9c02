package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/errs"
)

// Checkpoint says what the log was at a time. Its signed form is a note (see
// package note) of four lines: origin, size, root in base64, and the time; the
// first three are those of C2SP's tlog-checkpoint, which allows more after them.
type Checkpoint struct {
	Origin string // name of the log and of its key
	Size   int64  // how many entries there were
	Root   tlog.Hash
	Time   time.Time
}

// timeLine begins the line with the time.
const timeLine = "time "

// Sign returns the checkpoint as a signed note.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n%s%s\n", c.Origin, c.Size, c.Root, timeLine, c.Time.UTC().Format(time.RFC3339Nano))
	return note.Sign(&note.Note{Text: text}, signer)
}

// OpenCheckpoint reads a signed note that the key of verifier signed.
func OpenCheckpoint(signed []byte, verifier note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, errs.Wrap(errs.Invalid, err, "the checkpoint is not signed by the key "+verifier.Name()+"; use the key of the server that it came from")
	}
	return parseCheckpoint(n.Text)
}

func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 || lines[0] == "" {
		return c, errs.Field("checkpoint", "has too few lines; it must have origin, size and root")
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 {
		return c, errs.Field("checkpoint", "has no size in its second line")
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, errs.Field("checkpoint", "has no root in its third line")
	}
	for _, line := range lines[3:] {
		if at, ok := strings.CutPrefix(line, timeLine); ok {
			if c.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
				return c, errs.Field("checkpoint", "has a time that is none")
			}
		}
	}
	return c, nil
}

// Line is a signed checkpoint as one line, for logs and files of many.
func Line(signed []byte) []byte {
	b, _ := json.Marshal(line{string(signed)}) // cannot fail: a text
	return b
}

type line struct {
	Checkpoint string `json:"checkpoint"`
}

// FindCheckpoints returns the signed checkpoints in a file: one as it was
// signed, or lines that hold what Line made, with anything around it, as a
// syslog server puts it there.
func FindCheckpoints(b []byte) [][]byte {
	if bytes.Contains(b, []byte("\n\n\u2014 ")) { // what note's signatures begin with
		return [][]byte{append(bytes.TrimSpace(b), '\n')}
	}
	var found [][]byte
	for l := range bytes.Lines(b) {
		at := bytes.Index(l, []byte(`{"checkpoint":`))
		if at < 0 {
			continue
		}
		var v line
		if err := json.NewDecoder(bytes.NewReader(l[at:])).Decode(&v); err == nil {
			found = append(found, []byte(v.Checkpoint))
		}
	}
	return found
}

// Keys sign checkpoints, and check that they did.
type Keys struct {
	Signer   note.Signer
	Verifier note.Verifier
	Public   string // the verifier's key as text: a name, and what ReadKeys takes
}

// NewKeys makes keys with a name, and returns what ReadKeys needs of them. The
// private text must stay where the log is signed.
func NewKeys(name string) (private, public string, err error) {
	return note.GenerateKey(rand.Reader, name)
}

// ReadKeys returns the keys that NewKeys made.
func ReadKeys(private, public string) (k Keys, err error) {
	k.Public = strings.TrimSpace(public)
	if k.Signer, err = note.NewSigner(strings.TrimSpace(private)); err != nil {
		return Keys{}, err
	}
	if k.Verifier, err = note.NewVerifier(k.Public); err != nil {
		return Keys{}, err
	}
	if k.Signer.Name() != k.Verifier.Name() || k.Signer.KeyHash() != k.Verifier.KeyHash() {
		return Keys{}, errors.New("the private key does not belong to the public one")
	}
	return k, nil
}
