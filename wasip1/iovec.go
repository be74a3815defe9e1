package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// buffers is a checked copy of a guest's list of buffers.
type buffers struct {
	// addr and size are the only buffer, if the list has no more than one that is not empty.
	addr, size uint64
	// list is a Linux iovec array of them all in scratch memory, if there are several.
	list  []byte
	count uint64
	// total is the bytes of all buffers, at most linuxRWMax.
	total uint64
}

// buffers copies and checks the list of n buffers at off: fault if the list or a buffer that is used lies
// outside memory. It takes the first linuxIovMax entries and the first linuxRWMax bytes, and skips empty
// buffers.
func (c call) buffers(off, n uint64) (buffers, Errno) {
	memory := c.t.Memory
	if !memory.Contains(off, n*iovecSize) {
		return buffers{}, ErrnoFault
	}
	n = min(n, linuxIovMax)
	v := buffers{addr: uint64(memory.Base())}
	for end := off + n*iovecSize; off < end && v.total < linuxRWMax; off += iovecSize {
		entry, _ := memory.ReadUint64(off) // one read: another thread may change it meanwhile
		base, size := entry&0xffffffff, entry>>32
		if size == 0 {
			continue
		}
		addr, ok := memory.Addr(base, size)
		if !ok {
			return buffers{}, ErrnoFault
		}
		size = min(size, linuxRWMax-v.total)
		switch v.count {
		case 0:
			v.addr, v.size = addr, size
		case 1:
			v.list = c.t.Scratch(int((end-off)/iovecSize+1) * linuxIovecSize)
			putIovec(v.list, 0, v.addr, v.size)
			fallthrough
		default:
			putIovec(v.list, v.count, addr, size)
		}
		v.count++
		v.total += size
	}
	return v, ErrnoSuccess
}

// array is the buffers as a Linux iovec array: its address and how many entries it has.
func (v *buffers) array(c call) (addr, count uint64) {
	if v.list == nil {
		v.list = c.t.Scratch(linuxIovecSize)
		putIovec(v.list, 0, v.addr, v.size)
		v.count = 1
	}
	return guestmem.AddrOf(v.list), v.count
}

// putIovec writes entry i of a Linux iovec array.
func putIovec(list []byte, i, addr, size uint64) {
	le.PutUint64(list[i*linuxIovecSize:], addr)
	le.PutUint64(list[i*linuxIovecSize+8:], size)
}

// transferred turns the answer r of a call that moved data into the function's count, or an errno.
func (v *buffers) transferred(r int64) (uint32, Errno) {
	if r < 0 {
		return 0, errnoOf(r)
	}
	if uint64(r) > v.total {
		return 0, ErrnoIO
	}
	return uint32(r), ErrnoSuccess
}

// vectored are the two system calls that one function may become: for a single buffer, which grates know how to
// read, and for several.
type vectored struct{ one, many abi.Call }
