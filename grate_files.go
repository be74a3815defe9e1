package lindbridge

import (
	"sync"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements open files that grates serve: they stand in the tables of the cages below, beside the kernel's,
// so that dup, close, fork, exec and exit count them, and poll, select and epoll wait for both. What the grate has to do
// is to serve reads and writes, and to say when a file is ready.

// grateFiles is the open files of one grate.
type grateFiles struct {
	cage     *Cage              // immutable
	provider *rawposix.Provider // immutable

	mu sync.Mutex
	// onClose is one more than the function that hears of closed files, 0 for none. Guarded by mu.
	onClose uint64
	// closed is the numbers of files that the grate has not heard the end of, in order. It has one for each file that
	// the grate has opened at most. Guarded by mu.
	closed  []uint64
	telling bool // a goroutine is at it; guarded by mu
}

func (c *Cage) newGrateFiles() *grateFiles {
	g := &grateFiles{cage: c}
	g.provider = c.rt.host.NewProvider(g.fileClosed)
	return g
}

// fileClosed has the grate told of the end of one of its files. Nobody waits for that: not who closed it, who may be the
// very call that the grate is serving, and not the exit of a cage.
func (g *grateFiles) fileClosed(number uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.onClose == 0 {
		return
	}
	g.closed = append(g.closed, number)
	if !g.telling {
		g.telling = true
		go g.tell()
	}
}

// tell tells the grate of closed files, in order, until there is none. It ends with the grate at the latest.
func (g *grateFiles) tell() {
	for {
		g.mu.Lock()
		if len(g.closed) == 0 {
			g.telling = false
			g.mu.Unlock()
			return
		}
		number, fn := g.closed[0], uint32(g.onClose-1)
		g.closed = g.closed[1:]
		g.mu.Unlock()
		c := g.cage
		a := &threei.Args{Val: [6]uint64{number}}
		_, err := c.rt.sys.CallFunction(c.ID(), c.exit, fn, abi.CallGrateFDOnClose, a)
		if err != nil { // the grate is gone, and what it had to hear with it
			g.forget()
			return
		}
	}
}

// forget drops what was not told yet.
func (g *grateFiles) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onClose, g.closed, g.telling = 0, nil, false
}

// end says that nobody serves the files any more: who waits for one finds an error.
func (g *grateFiles) end() {
	g.provider.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onClose, g.closed = 0, nil
}

// registerGrateCalls makes the runtime serve the calls that grates make as such.
func (rt *Runtime) registerGrateCalls() {
	rt.sys.SetNative(abi.CallGrateServe, rt.grateServe)
	for call, serve := range map[abi.Call]func(*grateFiles, *threei.Thread, *threei.Args) int64{
		abi.CallGrateFDOpen:    (*grateFiles).open,
		abi.CallGrateFDNumber:  (*grateFiles).number,
		abi.CallGrateFDReady:   (*grateFiles).ready,
		abi.CallGrateFDOnClose: (*grateFiles).setOnClose,
	} {
		rt.sys.SetNative(call, func(t *threei.Thread, a *threei.Args) int64 {
			c := rt.running.Load(uint64(t.Cage))
			if c == nil || c.grate == nil {
				return abi.EPERM.Result() // no grate of a stack
			}
			return serve(c.grate.files, t, a)
		})
	}
}

// open is grate_fd_open, call 1006: number, lowest descriptor, events of poll(2) that it is ready for, O_CLOEXEC or 0.
// It acts on the cage that the call names as its target, and answers the descriptor.
//
// Errors: EEXIST if the number is that of an open file, EINVAL for other flags, and if the lowest descriptor is beyond
// the cage's limit, EMFILE and ENFILE at the limits, EIO if the grate is ending.
func (g *grateFiles) open(t *threei.Thread, a *threei.Args) int64 {
	const oCloexec = 0o2000000 // of x86-64, as guests have it
	p, ok := t.Native.(*rawposix.Process)
	if !ok {
		return abi.ESRCH.Result()
	}
	flags := uint32(a.Val[3])
	if flags&^oCloexec != 0 {
		return abi.EINVAL.Result()
	}
	fd, errno := g.provider.Open(p, fdtables.FD(int32(a.Val[1])), a.Val[0], int16(a.Val[2]), flags != 0, 0)
	if errno != 0 {
		return errno.Result()
	}
	return int64(fd)
}

// number is grate_fd_number, call 1007: descriptor, where to put the grate's number of its file, 8 bytes. It acts on the
// cage that the call names as its target. It is EBADF if the descriptor is not open, and ENOENT if it is none of the
// grate's files.
func (g *grateFiles) number(t *threei.Thread, a *threei.Args) int64 {
	p, ok := t.Native.(*rawposix.Process)
	if !ok {
		return abi.ESRCH.Result()
	}
	number, errno := g.provider.Number(p, fdtables.FD(int32(a.Val[0])))
	if errno != 0 {
		return errno.Result()
	}
	if a.Val[1] == 0 {
		return abi.EFAULT.Result()
	}
	dst, errno := t.Resolve(a.Val[1], 8, a.Cage[1])
	if errno != 0 {
		return errno.Result()
	}
	for i := range dst {
		dst[i] = byte(number >> (8 * i))
	}
	return 0
}

// ready is grate_fd_ready, call 1008: number, events of poll(2). It is ENOENT if no open file has the number.
func (g *grateFiles) ready(_ *threei.Thread, a *threei.Args) int64 {
	return g.provider.SetReady(a.Val[0], int16(a.Val[1])).Result()
}

// setOnClose is grate_fd_on_close, call 1009: a function of the grate's table, as register_handler has it. It is called
// once for each file that is closed from now on, with its number as the first argument and the grate itself as the cage,
// when no descriptor and no call in flight uses the file any more, in whichever cage; one at a time and in order. Nobody
// waits for it.
func (g *grateFiles) setOnClose(_ *threei.Thread, a *threei.Args) int64 {
	if a.Val[0] >= 1<<24 {
		return abi.LindResult(abi.ELindAPIAborted)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onClose = a.Val[0] + 1
	return 0
}
