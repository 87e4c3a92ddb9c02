package hostsql

// Modes of stat(2), the same on every system.
const (
	modeType      = 0o170000
	modeFIFO      = 0o010000
	modeCharacter = 0o020000
	modeDirectory = 0o040000
	modeBlock     = 0o060000
	modeRegular   = 0o100000
	modeLink      = 0o120000
	modeSocket    = 0o140000
	modeSetUID    = 0o004000
	modeSetGID    = 0o002000
)

// fileStat is what the kernel tells of a file; times in unix seconds.
type fileStat struct {
	inode, device          uint64
	uid, gid, mode         uint32
	size, blockSize, links int64
	atime, mtime, ctime    int64
	btime                  int64 // 0 where the file system has none
}

// fileSystem is what the kernel tells of a mounted file system, in blocks.
type fileSystem struct {
	blockSize               int64
	blocks, free, available uint64
	inodes, inodesFree      uint64
}
