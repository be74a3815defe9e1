package rawposix

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// le is the byte order of every structure that guests pass.
var le = binary.LittleEndian

// pathBuf holds one path copied out of a guest: n bytes and a NUL.
type pathBuf struct {
	b [unix.PathMax + 1]byte
	n int
}

// bytes is the path without its NUL.
func (b *pathBuf) bytes() []byte { return b.b[:b.n] }

// path copies the string at argument i. The caller gives it back with putPath. A string of PATH_MAX bytes or more is
// abi.ENAMETOOLONG, one that runs out of the memory it lies in abi.EFAULT; an empty one is fine here.
func (p *Process) path(t *threei.Thread, a *threei.Args, i int) (*pathBuf, abi.Errno) {
	b := p.host.paths.Get().(*pathBuf)
	if e := b.read(t, a.Val[i], a.Cage[i]); e != 0 {
		p.putPath(b)
		return nil, e
	}
	return b, 0
}

func (p *Process) putPath(b *pathBuf) { p.host.paths.Put(b) }

// read copies the string at addr, once.
func (b *pathBuf) read(t *threei.Thread, addr uint64, cage abi.CageID) abi.Errno {
	src, e := t.ResolveMost(addr, unix.PathMax, cage)
	if e != 0 || len(src) == 0 {
		return abi.EFAULT
	}
	copy(b.b[:], src)
	n := bytes.IndexByte(b.b[:len(src)], 0)
	switch {
	case n >= 0:
		b.n = n
		return 0
	case len(src) == unix.PathMax:
		return abi.ENAMETOOLONG
	}
	return abi.EFAULT
}

// timespec is a Linux struct timespec.
type timespec struct{ sec, nsec int64 }

const timespecSize = 16

// readTimespecs fills ts from an array of timespecs.
func readTimespecs(t *threei.Thread, ts []timespec, addr uint64, cage abi.CageID) abi.Errno {
	src, e := resolve(t, addr, uint64(len(ts)*timespecSize), cage)
	if e != 0 {
		return e
	}
	for i := range ts {
		ts[i].sec = int64(le.Uint64(src[i*timespecSize:]))
		ts[i].nsec = int64(le.Uint64(src[i*timespecSize+8:]))
	}
	return 0
}

// readTimeout reads a timespec that is a time to wait for, or a time of a clock since 1970 or since boot. A negative one
// and one whose nanoseconds are no fraction of a second are abi.EINVAL; one over 292 years is as good as that.
func readTimeout(t *threei.Thread, addr uint64, cage abi.CageID) (time.Duration, abi.Errno) {
	var ts [1]timespec
	if e := readTimespecs(t, ts[:], addr, cage); e != 0 {
		return 0, e
	}
	sec, nsec := ts[0].sec, ts[0].nsec
	if sec < 0 || nsec < 0 || nsec >= int64(time.Second) {
		return 0, abi.EINVAL
	}
	if sec >= math.MaxInt64/int64(time.Second) {
		return math.MaxInt64, 0
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec), 0
}

// writeTimespec writes d, at least 0, as a timespec.
func writeTimespec(dst []byte, d time.Duration) {
	d = max(0, d)
	le.PutUint64(dst, uint64(d/time.Second))
	le.PutUint64(dst[8:], uint64(d%time.Second))
}

// resolve is t.Resolve for a structure: n > 0. The null pointer is abi.EFAULT also where the runtime passes it.
func resolve(t *threei.Thread, addr, n uint64, cage abi.CageID) ([]byte, abi.Errno) {
	if addr == 0 {
		return nil, abi.EFAULT
	}
	return t.Resolve(addr, n, cage)
}
