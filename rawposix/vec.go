package rawposix

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	// iovMax is how many buffers one call may name: IOV_MAX.
	iovMax = 1024
	// fewVecs is how many of them a call keeps on its stack.
	fewVecs = 8
	// maxTransfer is how many bytes one call moves at most: Linux's MAX_RW_COUNT.
	maxTransfer = 0x7ffff000
	iovecSize   = 16
)

// iovec is struct iovec of a 64-bit Linux host, in which the kernel gets it, and of Linux x86-64, in which guests pass
// it: they are the same.
type iovec struct{ base, len uint64 }

// vector is room for the longest list of buffers.
type vector [iovMax]iovec

// buffers copies the count entries of an iovec array at addr to dst and checks the copies. Each buffer has to lie in the
// memory that the array lies in; where that is the runtime's, see threei.Thread.ResolveInner. Empty ones are left out, and
// what is beyond maxTransfer bytes in all.
//
// Preconditions:
// count <= len(dst).
func buffers(t *threei.Thread, dst []iovec, addr, count uint64, cage abi.CageID) ([]iovec, abi.Errno) {
	if count == 0 {
		return nil, 0
	}
	src, e := resolve(t, addr, count*iovecSize, cage)
	if e != 0 {
		return nil, e
	}
	n, left := 0, uint64(maxTransfer)
	for i := range count {
		v := iovec{base: le.Uint64(src[i*iovecSize:]), len: le.Uint64(src[i*iovecSize+8:])}
		if v.len > math.MaxInt64 {
			return nil, abi.EINVAL
		}
		if v.len == 0 {
			continue
		}
		if _, e := t.ResolveInner(v.base, v.len, cage); e != 0 {
			return nil, e
		}
		v.len = min(v.len, left)
		if v.len == 0 {
			continue
		}
		left -= v.len
		dst[n] = v
		n++
	}
	return dst[:n], 0
}

// vecBytes is how many bytes v's buffers have together.
func vecBytes(v []iovec) uint64 {
	n := uint64(0)
	for i := range v {
		n += v[i].len
	}
	return n
}

// vecFirst is the beginning of v that has n bytes, or all of v if it has no more. It shortens a buffer in place: whole is
// the length that vecRestore gives it back.
func vecFirst(v []iovec, n uint64) (first []iovec, whole uint64) {
	for i := range v {
		if v[i].len >= n {
			whole, v[i].len = v[i].len, n
			return v[:i+1], whole
		}
		n -= v[i].len
	}
	if len(v) > 0 {
		whole = v[len(v)-1].len
	}
	return v, whole
}

// vecRestore undoes vecFirst.
func vecRestore(first []iovec, whole uint64) {
	if len(first) > 0 {
		first[len(first)-1].len = whole
	}
}

// vecSkip is v without its first n bytes.
func vecSkip(v []iovec, n uint64) []iovec {
	for len(v) > 0 && v[0].len <= n {
		n -= v[0].len
		v = v[1:]
	}
	if n > 0 && len(v) > 0 {
		v[0].base += n
		v[0].len -= n
	}
	return v
}
