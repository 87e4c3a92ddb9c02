package audit

import "golang.org/x/mod/sumdb/tlog"

// Frontier is the right edge of a tree that grows leaf by leaf: the roots of
// the complete subtrees, the largest first. It is all that is needed to follow
// a log of any length. The zero value is that of an empty tree.
type Frontier struct {
	size  int64
	roots []tlog.Hash
}

// Add appends a leaf and returns the hashes that become complete by it, in the
// order of tlog.StoredHashIndex.
func (f *Frontier) Add(leaf tlog.Hash) []tlog.Hash {
	complete := []tlog.Hash{leaf}
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		leaf = tlog.NodeHash(f.roots[last], leaf)
		f.roots = f.roots[:last]
		complete = append(complete, leaf)
	}
	f.roots = append(f.roots, leaf)
	f.size++
	return complete
}

// Root is that of the whole tree; the zero Hash of an empty one.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		return tlog.Hash{}
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.roots[i], h)
	}
	return h
}

// storedBy returns the indexes of the hashes that the entry with a number
// completes.
func storedBy(seq int64) []int64 {
	first := tlog.StoredHashIndex(0, seq-1)
	indexes := []int64{first}
	for n := seq - 1; n&1 == 1; n >>= 1 {
		indexes = append(indexes, first+int64(len(indexes)))
	}
	return indexes
}
