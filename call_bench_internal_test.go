package lindbridge

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// BenchmarkGuestCall is a call from a guest to a native function in Go and back, through WASI and 3i, against a system call
// of the host that does as little: geteuid. Turn by turn, 10,000 calls each.
func BenchmarkGuestCall(b *testing.B) {
	const calls = 10_000
	rt, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close(b.Context())
	// It does nothing, as geteuid: what is measured is the way there and back.
	rt.sys.SetNative(abi.CallSchedYield, func(*threei.Thread, *threei.Args) int64 { return 0 })
	var times []time.Time
	rt.sys.SetNative(abi.CallGetrandom, func(*threei.Thread, *threei.Args) int64 {
		times = append(times, time.Now())
		return 1
	})
	// Takes the time, calls, takes the time.
	m, err := rt.Load(b.Context(), []byte(`(module
	  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
	  (import "wasi_snapshot_preview1" "random_get" (func $now (param i32 i32) (result i32)))
	  (memory (export "memory") 1)
	  (func (export "_start") (local $i i32)
	    (drop (call $now (i32.const 0) (i32.const 1)))
	    (loop $l
	      (drop (call $yield))
	      (local.set $i (i32.add (local.get $i) (i32.const 1)))
	      (br_if $l (i32.lt_u (local.get $i) (i32.const 10000))))
	    (drop (call $now (i32.const 0) (i32.const 1)))))`))
	if err != nil {
		b.Fatal(err)
	}
	var ours, native []float64
	for b.Loop() {
		times = times[:0]
		c, err := rt.Spawn(b.Context(), Program{Module: m})
		if err != nil {
			b.Fatal(err)
		}
		if status, err := c.Wait(b.Context()); err != nil || status.ExitCode() != 0 || len(times) != 2 {
			b.Fatalf("%v, %v, %d times", status, err, len(times))
		}
		ours = append(ours, float64(times[1].Sub(times[0]).Nanoseconds())/calls)
		native = append(native, geteuidNs(b, calls))
	}
	reportCalls(b, ours, native)
}

// geteuidNs is how long a system call of the host takes that does nothing, in nanoseconds, over so many calls.
func geteuidNs(b *testing.B, calls int) float64 {
	b.Helper()
	begin := time.Now()
	for range calls {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_GETEUID, 0, 0, 0); errno != 0 {
			b.Fatal(errno)
		}
	}
	return float64(time.Since(begin).Nanoseconds()) / float64(calls)
}

// reportCalls turns nanoseconds a call, ours and geteuid's in turn, into metrics: their medians, and the ratio of those.
func reportCalls(b *testing.B, ours, native []float64) {
	b.Helper()
	slices.Sort(ours)
	slices.Sort(native)
	x, y := ours[len(ours)/2], native[len(native)/2]
	b.ReportMetric(x, "ns/call")
	b.ReportMetric(y, "geteuid-ns")
	b.ReportMetric(x/y, "x-geteuid")
	b.ReportMetric(0, "ns/op")
}
