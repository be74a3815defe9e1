package lindbridge

import (
	"bytes"
	"strconv"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/threei"
)

// Trace is a call that a grate has served.
type Trace struct {
	// Cage made the call, on its thread TID; 0 for the host.
	Cage abi.CageID
	TID  uint32
	// Grate served it. It is Depth grates deep: 1 for a call of a program.
	Grate abi.CageID
	Depth uint32
	// Call is its number, Args its arguments, and ArgCages whose each of them is, if it is a pointer.
	Call     abi.Call
	Args     [6]uint64
	ArgCages [6]abi.CageID
	// Paths are those of the arguments that are paths, as they are now, cut at 255 bytes; "" for others, and for what the
	// caller cannot name.
	Paths [6]string
	// Result is what the caller gets: a negative one is an error.
	Result int32
	// Took is how long it took.
	Took time.Duration
}

// Arg is argument i as strace has it: a path in quotes, an address in hexadecimal, else a number.
func (t *Trace) Arg(i int) string {
	v := t.Args[i]
	switch {
	case t.Paths[i] != "":
		return strconv.Quote(t.Paths[i])
	case t.ArgCages[i] != 0 && v > maxNumber:
		return "0x" + strconv.FormatUint(v, 16)
	case v > 1<<31 && v < 1<<32:
		return strconv.Itoa(int(int32(uint32(v)))) // AT_FDCWD, for one
	}
	return strconv.FormatInt(int64(v), 10)
}

// maxNumber is the largest argument that is no address whatever its cage says: Linux maps nothing there.
const maxNumber = 1<<16 - 1

// ArgCount is how many arguments are worth showing: those up to the last that is not 0.
func (t *Trace) ArgCount() int {
	n := len(t.Args)
	for n > 0 && t.Args[n-1] == 0 && t.ArgCages[n-1] == 0 {
		n--
	}
	return n
}

// ResultText is the result as strace has it: a number, or -1 with the error.
func (t *Trace) ResultText() string {
	switch uint32(t.Result) {
	case abi.ELindAPIAborted:
		return "ELINDAPIABORTED"
	case abi.ELindESRCH:
		return "ELINDESRCH (the grate is gone)"
	}
	switch {
	case t.Result == abi.GrateErr:
		return "GRATE_ERR (the grate ended while it served)"
	case t.Result < 0 && t.Result > -4096:
		return "-1 " + abi.Errno(-t.Result).Error()
	}
	return strconv.Itoa(int(t.Result))
}

// pathArgs says which arguments of a call are paths: bit i is argument i.
var pathArgs = map[abi.Call]uint8{
	2: 1, 4: 1, 6: 1, 21: 1, 59: 1, 76: 1, 80: 1, 82: 3, 83: 1, 84: 1, 85: 1, 86: 3, 87: 1, 88: 3, 89: 1, 90: 1,
	92: 1, 94: 1, 132: 1, 133: 1, 161: 1, 257: 2, 258: 2, 259: 2, 260: 2, 262: 2, 263: 2, 264: 10, 265: 10, 266: 5,
	267: 2, 268: 2, 269: 2, 280: 2, 316: 10, 332: 2, 437: 2, 439: 2,
}

// longestPath is how much of a path a trace has.
const longestPath = 255

// traced passes a trace on. It runs on the thread that made the call.
func (rt *Runtime) traced(b bridge.Trace) {
	t := Trace{
		TID: b.TID, Depth: b.Depth, Call: abi.Call(b.Call), Args: b.Args, Result: b.Result, Took: b.Took,
	}
	for i, id := range b.ArgCages {
		t.ArgCages[i] = abi.CageID(id)
	}
	c, _ := b.User.(*Cage)
	if c != nil {
		t.Cage = c.ID()
	}
	if g, ok := b.GrateUser.(*Cage); ok {
		t.Grate = g.ID()
	}
	if c != nil {
		var thread *threei.Thread
		if g, ok := b.Data.(*guestThread); ok {
			thread = &g.Thread
		}
		for i := range t.Args {
			if pathArgs[t.Call]&(1<<i) != 0 {
				t.Paths[i] = c.pathAt(thread, t.Args[i], t.ArgCages[i])
			}
		}
	}
	rt.trace(t)
}

// pathAt is the string at addr in the cage's own memory, or in what the runtime has put together for its thread; "" if it
// is elsewhere.
func (c *Cage) pathAt(t *threei.Thread, addr uint64, owner abi.CageID) string {
	var b []byte
	switch {
	case owner == c.ID():
		m := c.memory()
		if base := uint64(m.Base()); addr >= base && addr-base < m.Size() {
			b, _ = m.BytesHost(addr, min(longestPath, m.Size()-(addr-base)))
		}
	case owner == abi.CageRawPOSIX && t != nil:
		b, _ = t.ResolveMost(addr, longestPath, owner)
	}
	copied := bytes.Clone(b) // another thread of the guest may be writing there
	path, _, _ := bytes.Cut(copied, []byte{0})
	return string(path)
}
