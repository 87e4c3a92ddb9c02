// Package seal keeps what comes in blocks unreadable at rest: each block is
// sealed on its own with AES-256-GCM, so that blocks are written at their
// offset in any order, written again, and read by range.
//
// A sealed archive is a header of 64 bytes, then one record for each block:
//
//	0   8  "mstrseal"
//	8   4  version, 1
//	12  4  block size
//	16  8  size of the archive
//	24  8  id of the master key
//	32 32  proof that the master key and the archive's id are the right ones
//	64     record 0: nonce (12), block, tag (16)
//	       record i at 64 + i*(block size + 28); the last one may be shorter
//
// Numbers are big-endian. A record is bound to its archive, its index, the
// block size and the size of the archive: it opens nowhere else. One that does
// not open is a block that is not there, also when a crash tore it. So nobody
// needs to write down which blocks were received, and nobody should write a
// block again that opens: a crash in between would lose it.
package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/musterhq/muster/internal/durable"
)

const (
	keySize     = 32
	keyIDSize   = 8
	keyVersion  = "muster-carve-key-1 "
	keyFileMode = 0o600

	// What the master key is stretched to. The labels differ, so that no two
	// results can be the same bytes.
	labelKeyID   = "muster seal 1 key id\x00"
	labelArchive = "muster seal 1 archive\x00"
	labelHeader  = "muster seal 1 header\x00"
)

// Key is the master key. It opens everything that was sealed with it; the file
// that holds it belongs into the backup, and apart from the archives.
type Key struct {
	secret [keySize]byte
	id     [keyIDSize]byte
}

// OpenKey reads the key from its file. Without that file the error is
// [fs.ErrNotExist]: the caller, who knows whether there are sealed archives,
// then either makes one or says that it must come from the backup.
func OpenKey(path string) (Key, error) {
	b, err := os.ReadFile(path) //nolint:gosec // in our own directory
	if err != nil {
		return Key{}, fmt.Errorf("key of carves: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(b)), keyVersion)
	secret, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(secret) != keySize {
		// The cause would show a part of the key.
		return Key{}, fmt.Errorf("%s holds no key of carves; restore it from the backup", path)
	}
	return newKey([keySize]byte(secret))
}

// MakeKey makes a new key and keeps it durably in a file that must not exist.
func MakeKey(path string) (Key, error) {
	if _, err := os.Lstat(path); err == nil {
		return Key{}, fmt.Errorf("key of carves: %s: %w", path, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Key{}, fmt.Errorf("key of carves: %w", err)
	}
	var secret [keySize]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return Key{}, fmt.Errorf("key of carves: %w", err)
	}
	text := keyVersion + base64.RawURLEncoding.EncodeToString(secret[:]) + "\n"
	if err := durable.WriteFile(path, keyFileMode, []byte(text)); err != nil {
		return Key{}, fmt.Errorf("key of carves: %w", err)
	}
	return newKey(secret)
}

func newKey(secret [keySize]byte) (Key, error) {
	k := Key{secret: secret}
	id, err := k.derive(labelKeyID, keyIDSize)
	if err != nil {
		return Key{}, err
	}
	k.id = [keyIDSize]byte(id)
	return k, nil
}

func (k Key) derive(info string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.secret[:], nil, info, n)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return b, nil
}

// ID names the key without telling it.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// String is for logs, which must not show the key.
func (k Key) String() string { return "carve key " + k.ID() }

// GoString is String: %#v must not show the key either.
func (k Key) GoString() string { return k.String() }
