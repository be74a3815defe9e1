package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// pipe is pipe(2): array of two fds.
func pipe(t *threei.Thread, a *threei.Args) int64 { return makePipe(t, a, 0) }

// pipe2 is pipe2(2): array of two fds, flags, among which is O_DIRECT for packets.
func pipe2(t *threei.Thread, a *threei.Args) int64 { return makePipe(t, a, uint32(a.Val[1])) }

func makePipe(t *threei.Thread, a *threei.Args, flags uint32) int64 {
	if flags&^(oNonblock|oCloexec|oDirect) != 0 {
		return abi.EINVAL.Result()
	}
	dst, e := resolve(t, a.Val[0], 8, a.Cage[0])
	if e != 0 {
		return e.Result()
	}
	var fds [2]int
	err := unix.Pipe2(fds[:], toHostFlags(flags&oDirect)|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return newFDErrno(errnoOf(err)).Result()
	}
	files := [2]*file{{typ: typePipe}, {typ: typePipe}}
	return of(t).openPair(dst, fds, files, flags&oNonblock, flags&oCloexec != 0).Result()
}

// openPair gives both ends of a new pair of files numbers of the cage's and writes them to dst. On failure both are
// closed.
func (p *Process) openPair(dst []byte, fds [2]int, files [2]*file, status uint32, cloexec bool) abi.Errno {
	for _, f := range files {
		f.status.Store(status)
	}
	first, e := p.open(fds[0], files[0], cloexec)
	if e != 0 {
		dropHost(fds[1])
		return e
	}
	second, e := p.open(fds[1], files[1], cloexec)
	if e != 0 {
		// Another thread may have closed it already, or have put another file in its place: its own fault, since
		// nobody has told it the number.
		_ = p.table.Close(first)
		return e
	}
	le.PutUint32(dst, uint32(first))
	le.PutUint32(dst[4:], uint32(second))
	return 0
}
