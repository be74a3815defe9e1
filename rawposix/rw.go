package rawposix

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// read is read(2): fd, buffer, count.
func read(t *threei.Thread, a *threei.Args) int64 { return moveOne(t, a, false, noPos) }

// write is write(2): fd, buffer, count.
func write(t *threei.Thread, a *threei.Args) int64 { return moveOne(t, a, true, noPos) }

// pread64 is pread(2): fd, buffer, count, offset.
func pread64(t *threei.Thread, a *threei.Args) int64 {
	if int64(a.Val[3]) < 0 {
		return abi.EINVAL.Result()
	}
	return moveOne(t, a, false, int64(a.Val[3]))
}

// pwrite64 is pwrite(2): fd, buffer, count, offset.
func pwrite64(t *threei.Thread, a *threei.Args) int64 {
	if int64(a.Val[3]) < 0 {
		return abi.EINVAL.Result()
	}
	return moveOne(t, a, true, int64(a.Val[3]))
}

// readv is readv(2): fd, iovec array, its length.
func readv(t *threei.Thread, a *threei.Args) int64 { return moveMany(t, a, false, noPos) }

// writev is writev(2): fd, iovec array, its length.
func writev(t *threei.Thread, a *threei.Args) int64 { return moveMany(t, a, true, noPos) }

// preadv is preadv(2): fd, iovec array, its length, offset, and the offset's high half, which is no part of it on x86-64.
func preadv(t *threei.Thread, a *threei.Args) int64 {
	if int64(a.Val[3]) < 0 {
		return abi.EINVAL.Result()
	}
	return moveMany(t, a, false, int64(a.Val[3]))
}

// pwritev is pwritev(2), with the arguments of preadv.
func pwritev(t *threei.Thread, a *threei.Args) int64 {
	if int64(a.Val[3]) < 0 {
		return abi.EINVAL.Result()
	}
	return moveMany(t, a, true, int64(a.Val[3]))
}

// moveOne reads or writes one buffer.
func moveOne(t *threei.Thread, a *threei.Args, toFile bool, pos int64) int64 {
	p := of(t)
	h, e := p.acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	addr, size := a.Val[1], a.Val[2]
	switch {
	case size > math.MaxInt64:
		return abi.EINVAL.Result()
	case size > 0:
		if _, e := t.Resolve(addr, size, a.Cage[1]); e != 0 {
			return e.Result()
		}
	default:
		addr = 0 // a buffer of no bytes may be anywhere
	}
	v := [1]iovec{{base: addr, len: min(size, maxTransfer)}}
	x := p.newTransfer(t, &h, toFile, pos)
	return x.run(v[:])
}

// moveMany reads or writes the buffers of an iovec array.
func moveMany(t *threei.Thread, a *threei.Args, toFile bool, pos int64) int64 {
	p := of(t)
	h, e := p.acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	count := a.Val[2]
	x := p.newTransfer(t, &h, toFile, pos)
	switch {
	case count <= fewVecs:
		var room [fewVecs]iovec
		return x.runArray(room[:], a.Val[1], count, a.Cage[1])
	case count <= iovMax:
		room := p.host.vectors.Get().(*vector)
		defer p.host.vectors.Put(room)
		return x.runArray(room[:], a.Val[1], count, a.Cage[1])
	}
	return abi.EINVAL.Result()
}

// runArray is run on an iovec array, which is copied to room.
func (x *transfer) runArray(room []iovec, addr, count uint64, cage abi.CageID) int64 {
	v, e := buffers(x.t, room, addr, count, cage)
	if e != 0 {
		return e.Result()
	}
	return x.run(v)
}
