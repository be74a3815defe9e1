package bridge_test

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/bridge"
)

// Signals of the host's own (Ctrl-C, SIGCHLD, a profiler's SIGPROF) are delivered to whichever thread the kernel picks:
// a guest's too, while it runs guest code or is on its way in or out of the Go runtime.
func TestShim_SurvivesSignalsOnGuestThreads(t *testing.T) {
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, unix.SIGUSR1)
	// And no signal.Stop: a thread that had no processor until then would take its signal after that, which ends the
	// process.
	defer signal.Ignore(unix.SIGUSR1)
	must(t, pprof.StartCPUProfile(io.Discard))
	defer pprof.StopCPUProfile()

	var calls atomic.Int64
	h := newHost(func(*bridge.Call) bridge.Verdict {
		calls.Add(1)
		return bridge.Continue
	})
	e := openShim(t, h, nop)
	m := loadWat(t, e, `(module
		(import "env" "memory" (memory 1 1 shared))
		(import "host" "nop" (func $nop))
		(func $spin (loop $l (br $l)))
		(func $calls (loop $l call $nop (br $l)))
		(func (export "_start") call $calls)
		(func (export "wasi_thread_start") (param $tid i32) (param $arg i32)
			(if (local.get $arg) (then call $spin))
			call $calls))`)
	for range 5 {
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		for arg := range uint32(3) {
			_, err := d.SpawnThread(arg)
			must(t, err)
		}
		for range 200 {
			signalEveryThread(t, unix.SIGUSR1)
		}
		finish(t, h, d)
		equal(t, "threads that ended by themselves", len(h.ends), 0)
	}
	receive(t, arrived, "the signal")
	if calls.Load() == 0 {
		t.Error("no host call was made")
	}
}

func signalEveryThread(t *testing.T, sig unix.Signal) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, entry := range list {
		tid, err := strconv.Atoi(entry.Name())
		must(t, err)
		if err := unix.Tgkill(os.Getpid(), tid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}
