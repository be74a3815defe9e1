package wasip1

import (
	"bytes"
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements fd_readdir, which says where to start at each call and may be called by several threads at
// once, on getdents64, which goes on where the descriptor is:
//
//   - One thread of a cage at a time may set a descriptor's own offset and read on from there. Env.listing says
//     that one does.
//   - A thread that finds another at it does not wait. It opens the directory anew and lists by that descriptor.

// The sizes of a getdents64 buffer. The smallest holds an entry with the longest name.
const (
	direntBufferMin = 1 << 10
	direntBufferMax = 32 << 10
)

// fdReaddir is fd_readdir(fd, buf, buf_len, cookie) -> size. It fills the buffer, cutting the last entry if it
// must; less than a full buffer is the end of the directory.
func fdReaddir(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	buf, ok := c.t.Memory.Bytes(c.ptr(1), c.ptr(2))
	cookie, out := c.u64(3), c.ptr(4)
	if !ok || !c.inMemory(out, 4) {
		return ErrnoFault
	}
	st, errno := c.fstat(fd)
	if errno != 0 {
		return errno
	}
	if !st.is(modeDir) {
		return ErrnoNotdir // and its offset stays where it is
	}
	n := 0
	if len(buf) > 0 && cookie <= math.MaxInt64 { // no directory has a position above
		if n, errno = c.list(fd, buf, cookie); errno != 0 {
			return errno
		}
	}
	return c.writeU32(out, uint32(n))
}

// list fills buf with the entries of fd from cookie on, and answers how much of it.
func (c call) list(fd uint64, buf []byte, cookie uint64) (int, Errno) {
	if c.env.listing.CompareAndSwap(false, true) {
		defer c.env.listing.Store(false)
		return c.listFrom(fd, buf, cookie)
	}
	path, addr := c.scratch(2)
	path[0] = '.'
	own := c.sys(abi.CallOpenat, threei.Args{
		Val:  [6]uint64{fd, addr, openDirectory | openNofollow},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	})
	if own < 0 {
		return 0, errnoOf(own)
	}
	n, errno := c.listFrom(uint64(own), buf, cookie)
	if r := c.sysFD(abi.CallClose, uint64(own), 0, 0, 0); r < 0 && errno == 0 {
		errno = errnoOf(r)
	}
	return n, errno
}

// listFrom is list by the offset of fd, which nobody else may move meanwhile.
func (c call) listFrom(fd uint64, buf []byte, cookie uint64) (int, Errno) {
	if r := c.sysFD(abi.CallLseek, fd, cookie, seekSet, 0); r < 0 {
		if r == abi.EINVAL.Result() && cookie != 0 {
			return 0, ErrnoSuccess // no position of this directory: past its end
		}
		return 0, errnoOf(r)
	}
	entries, addr := c.scratch(min(max((len(buf)+7)&^7, direntBufferMin), direntBufferMax))
	n := 0
	for {
		if c.stopping() {
			return 0, ErrnoIntr
		}
		r := c.sys(abi.CallGetdents64, threei.Args{
			Val:  [6]uint64{fd, addr, uint64(len(entries))},
			Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
		})
		if r < 0 {
			return 0, errnoOf(r)
		}
		if r == 0 {
			return n, ErrnoSuccess
		}
		if r > int64(len(entries)) {
			return 0, ErrnoIO
		}
		used, full, errno := putDirents(buf[n:], entries[:r])
		n += used
		if errno != 0 || full {
			return n, errno
		}
	}
}

// putDirents writes Linux directory entries as WASI ones, as far as dst has room, and answers how much of dst
// it used and whether that is all. Entries that make no sense are io.
func putDirents(dst, entries []byte) (n int, full bool, errno Errno) {
	for len(entries) > 0 {
		if len(entries) <= linuxDirentName {
			return n, false, ErrnoIO
		}
		size := int(le.Uint16(entries[linuxDirentReclen:]))
		if size <= linuxDirentName || size > len(entries) {
			return n, false, ErrnoIO
		}
		name := entries[linuxDirentName:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		var b [direntSize]byte
		copy(b[:8], entries[linuxDirentOff:])
		copy(b[direntIno:direntIno+8], entries)
		le.PutUint32(b[direntNamlen:], uint32(len(name)))
		b[direntType] = filetypeOfMode(uint32(entries[linuxDirentType]) << 12) // DT_ is the mode's type
		n += copy(dst[n:], b[:])
		n += copy(dst[n:], name)
		if n == len(dst) {
			return n, true, ErrnoSuccess
		}
		entries = entries[size:]
	}
	return n, false, ErrnoSuccess
}
