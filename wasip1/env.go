package wasip1

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/lindbridge/lindbridge/abi"
)

// Errors of NewEnv.
var (
	// ErrNUL is a string that cannot be passed to a program because it has a NUL inside.
	ErrNUL = errors.New("string with a NUL inside")
	// ErrNotUTF8 is a preopen name that is not UTF-8.
	ErrNotUTF8 = errors.New("name is not UTF-8")
	// ErrTooLarge are strings that no 32-bit memory can hold.
	ErrTooLarge = errors.New("strings do not fit in a 32-bit memory")
)

// Descriptors is what a cage's native state (threei.Thread.Native) must offer for the cage to have preopens.
type Descriptors interface {
	// PerFDInfo is the number that the descriptor table keeps with fd: the index of its preopen plus one, or 0 if fd
	// is no preopen. It is abi.EBADF if fd is not open. It does not block.
	PerFDInfo(fd int32) (uint64, abi.Errno)
}

// EnvConfig says what a program is started with.
type EnvConfig struct {
	// Args are the program's arguments, its own name first.
	Args []string
	// Environ are its environment variables as NAME=value.
	Environ []string
	// Preopens are the names of its preopened directories in the guest. Preopens[i] is the name of the descriptors
	// whose Descriptors.PerFDInfo is i+1.
	Preopens []string
}

// Env is what WASI knows of one cage: its arguments, environment and preopen names. It is shared by the cage's
// threads.
type Env struct {
	args     stringTable // immutable
	environ  stringTable // immutable
	preopens []string    // immutable
	// listing is set while a thread of the cage lists a directory by way of the directory's own offset. Atomic;
	// nobody waits for it.
	listing atomic.Bool
}

// stringTable is strings in the form that args_get and environ_get hand out.
type stringTable struct {
	data   []byte   // the strings, each with a NUL after it
	starts []uint32 // where in data each begins
}

// NewEnv checks cfg and is an Env of it. It keeps nothing of cfg. The errors are ErrNUL, ErrNotUTF8 and ErrTooLarge.
func NewEnv(cfg EnvConfig) (*Env, error) {
	args, err := newStringTable(cfg.Args)
	if err != nil {
		return nil, fmt.Errorf("wasi arguments: %w", err)
	}
	environ, err := newStringTable(cfg.Environ)
	if err != nil {
		return nil, fmt.Errorf("wasi environment: %w", err)
	}
	for i, name := range cfg.Preopens {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("wasi preopen %d %q: %w", i, name, ErrNotUTF8)
		}
		if strings.IndexByte(name, 0) >= 0 {
			return nil, fmt.Errorf("wasi preopen %d %q: %w", i, name, ErrNUL)
		}
	}
	return &Env{args: args, environ: environ, preopens: append([]string(nil), cfg.Preopens...)}, nil
}

// newStringTable is the table of s.
func newStringTable(s []string) (stringTable, error) {
	total := uint64(0)
	for i, v := range s {
		if strings.IndexByte(v, 0) >= 0 {
			return stringTable{}, fmt.Errorf("%d %q: %w", i, v, ErrNUL)
		}
		total += uint64(len(v)) + 1
	}
	if total > math.MaxUint32 || uint64(len(s))*4 > math.MaxUint32 {
		return stringTable{}, ErrTooLarge
	}
	table := stringTable{data: make([]byte, 0, total), starts: make([]uint32, 0, len(s))}
	for _, v := range s {
		table.starts = append(table.starts, uint32(len(table.data)))
		table.data = append(append(table.data, v...), 0)
	}
	return table, nil
}

// preopen is the name of the preopen that fd is, or badf if it is none or not open.
func (c call) preopen(fd uint64) (string, Errno) {
	// Asked as a system call too, so that a grate that keeps descriptors of its own has its say.
	if r := c.sysFD(abi.CallFcntl, fd, fcntlGetfd, 0, 0); r < 0 {
		return "", errnoOf(r)
	}
	table, ok := c.t.Native.(Descriptors)
	if !ok {
		return "", ErrnoBadf
	}
	info, errno := table.PerFDInfo(int32(fd))
	if errno != 0 || info == 0 || info > uint64(len(c.env.preopens)) {
		return "", ErrnoBadf
	}
	return c.env.preopens[info-1], ErrnoSuccess
}
