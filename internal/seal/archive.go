package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// HeaderSize is the length of what precedes the first record.
	HeaderSize = 64
	// Overhead is by how much a record is longer than its block.
	Overhead = 12 + 16
	// MaxBlockSize bounds what one block takes in memory.
	MaxBlockSize = 16 << 20

	// maxBlocks keeps random nonces apart. After n sealings under one key two
	// of them share a nonce, which would give both blocks away, with a
	// probability of about n²/2^97. Each archive has a key of its own, so n is
	// its blocks and their repetitions: 2^-41 for 2^28 blocks sent once, and
	// 2^-33, which NIST SP 800-38D §8.3 sets as the bound, if each came 16 times. Archives of
	// 10,000 blocks, each sent twice, are at 2^-68.
	maxBlocks = 1 << 28

	magic   = "mstrseal"
	version = 1
	proofAt = 32
)

// What is wrong with what was read. All of them mean that it must not be used.
var (
	// ErrDamaged: not, or not completely, what was sealed, or it is something else.
	ErrDamaged = errors.New("does not open: it is missing, damaged or of another archive")
	// ErrOtherKey: a sealed archive, for which another master key is needed.
	ErrOtherKey = errors.New("is sealed with another key")
)

// Archive seals and opens the blocks of one archive. It may be used by several
// goroutines.
type Archive struct {
	aead      cipher.AEAD
	blockSize int64
	size      int64
	header    [HeaderSize]byte
}

// Archive returns the archive of that id. The same three values must be given
// to open it again. Ids must not repeat among archives.
func (k Key) Archive(id string, blockSize, size int64) (Archive, error) {
	switch {
	case blockSize < 1 || blockSize > MaxBlockSize:
		return Archive{}, fmt.Errorf("seal: a block of %d bytes; it has 1 to %d", blockSize, MaxBlockSize)
	case size < 0 || size > blockSize*maxBlocks:
		return Archive{}, fmt.Errorf("seal: %d bytes in blocks of %d; there are at most %d blocks", size, blockSize, maxBlocks)
	}
	a := Archive{blockSize: blockSize, size: size}
	fields := append(a.header[:0], magic...)
	fields = binary.BigEndian.AppendUint32(fields, version)
	fields = binary.BigEndian.AppendUint32(fields, uint32(blockSize))
	fields = binary.BigEndian.AppendUint64(fields, uint64(size))
	fields = append(fields, k.id[:]...)
	proof, err := k.derive(labelHeader+string(fields)+id, HeaderSize-proofAt)
	if err != nil {
		return Archive{}, err
	}
	copy(a.header[proofAt:], proof)
	secret, err := k.derive(labelArchive+id, keySize)
	if err != nil {
		return Archive{}, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return Archive{}, fmt.Errorf("seal: %w", err)
	}
	if a.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return Archive{}, fmt.Errorf("seal: %w", err)
	}
	return a, nil
}

// Header returns what stands before the first record.
func (a Archive) Header() [HeaderSize]byte { return a.header }

// CheckHeader says whether what stands before the first record is this
// archive's: nil, ErrOtherKey or ErrDamaged.
func (a Archive) CheckHeader(b []byte) error {
	const keyAt = proofAt - keyIDSize
	switch {
	case bytes.Equal(b, a.header[:]):
		return nil
	case len(b) == HeaderSize && bytes.Equal(b[:len(magic)], a.header[:len(magic)]) &&
		!bytes.Equal(b[keyAt:proofAt], a.header[keyAt:proofAt]):
		return fmt.Errorf("the archive %w: %x, not %x", ErrOtherKey, b[keyAt:proofAt], a.header[keyAt:proofAt])
	}
	return fmt.Errorf("the archive's header %w", ErrDamaged)
}

// Size is the length of the archive.
func (a Archive) Size() int64 { return a.size }

// Blocks is the number of blocks, none for an empty archive.
func (a Archive) Blocks() int64 { return (a.size + a.blockSize - 1) / a.blockSize }

// SealedSize is the length of header and records.
func (a Archive) SealedSize() int64 { return HeaderSize + a.size + a.Blocks()*Overhead }

// BlockLen is the length of block i: the block size, or less for the last one.
func (a Archive) BlockLen(i int64) int64 {
	return max(0, min(a.blockSize, a.size-i*a.blockSize))
}

// Offset is where record i begins. Offset(Blocks()) may be past SealedSize.
func (a Archive) Offset(i int64) int64 { return HeaderSize + i*(a.blockSize+Overhead) }

// Seal appends the record of block i to dst. It works in place if dst is
// block[:0] of a slice with room for [Overhead] more, and must not overlap
// otherwise. It allocates nothing of the block's size if dst has room.
func (a Archive) Seal(dst, block []byte, i int64) ([]byte, error) {
	if i < 0 || i >= a.Blocks() || int64(len(block)) != a.BlockLen(i) {
		return nil, fmt.Errorf("seal: block %d of %d with %d bytes; it has %d", i, a.Blocks(), len(block), a.BlockLen(i))
	}
	return a.aead.Seal(dst, nil, block, a.bound(i)), nil //nolint:gosec // the nonce is random, made by the AEAD itself
}

// Open appends block i to dst, from its record. It works in place if dst is
// record[:0], and must not overlap otherwise. The error is ErrDamaged if the
// record is not there or not this one; dst's room is then overwritten.
func (a Archive) Open(dst, record []byte, i int64) ([]byte, error) {
	if i < 0 || i >= a.Blocks() || int64(len(record)) != a.BlockLen(i)+Overhead {
		return nil, fmt.Errorf("block %d of %d, a record of %d bytes, %w", i, a.Blocks(), len(record), ErrDamaged)
	}
	block, err := a.aead.Open(dst, nil, record, a.bound(i))
	if err != nil {
		return nil, fmt.Errorf("block %d of %d %w", i, a.Blocks(), ErrDamaged)
	}
	return block, nil
}

// bound is what record i is bound to. The header depends on the archive's id
// through its proof.
func (a Archive) bound(i int64) []byte {
	b := make([]byte, 0, HeaderSize+8)
	b = append(b, a.header[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(i)) //nolint:gosec // not negative
}
