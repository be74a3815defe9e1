package wasip1_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/wasip1"
)

func TestFromLinux_HasEveryErrnoOfLinux(t *testing.T) {
	for e := abi.Errno(1); e < 200; e++ {
		got := wasip1.FromLinux(e)
		if got == wasip1.ErrnoSuccess || got > wasip1.ErrnoNotcapable {
			t.Errorf("%d: %d, not an errno of WASI", e, got)
		}
		// Where both have the name they have the same one.
		name := strings.ToLower(strings.TrimPrefix(unix.ErrnoName(unix.Errno(e)), "E"))
		for w := wasip1.Errno(1); w <= wasip1.ErrnoNotcapable; w++ {
			if w.Error() == "wasi errno "+name && got != w {
				t.Errorf("%v: %v, want %v", e, got, w)
			}
		}
	}
	for e, want := range map[abi.Errno]wasip1.Errno{
		0: 0, abi.EOPNOTSUPP: wasip1.ErrnoNotsup, abi.EDEADLK: wasip1.ErrnoDeadlk, abi.EXDEV: wasip1.ErrnoXdev,
		-1: wasip1.ErrnoIO, 133: wasip1.ErrnoIO, 41: wasip1.ErrnoIO, 58: wasip1.ErrnoIO, 1 << 30: wasip1.ErrnoIO,
	} {
		if got := wasip1.FromLinux(e); got != want {
			t.Errorf("%d: %v, want %v", e, got, want)
		}
	}
}

func TestErrno_IsAnErrorWithItsName(t *testing.T) {
	for e, want := range map[wasip1.Errno]string{
		wasip1.ErrnoSuccess:    "wasi errno success",
		wasip1.Errno2big:       "wasi errno 2big",
		wasip1.ErrnoFault:      "wasi errno fault",
		wasip1.ErrnoNotcapable: "wasi errno notcapable",
		77:                     "wasi errno 77",
	} {
		if got := e.Error(); got != want {
			t.Errorf("%d: %q, want %q", e, got, want)
		}
	}
}

func TestCall_MapsWhatSystemCallsAnswer(t *testing.T) {
	for r, want := range map[int64]wasip1.Errno{
		0: 0, 5: 0, -2: wasip1.ErrnoNoent, -132: wasip1.ErrnoNetdown, -133: wasip1.ErrnoIO, -4096: wasip1.ErrnoIO,
		int64(abi.GrateErr): wasip1.ErrnoIO, -1 << 63: wasip1.ErrnoIO,
	} {
		rec, g := newRecorder(t, wasip1.EnvConfig{})
		rec.answer = answers(r)
		g.want(want, "fd_close", 5)
	}
}
