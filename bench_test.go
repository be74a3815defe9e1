package lindbridge_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge"
)

// These benchmarks measure ours and a native yardstick turn by turn in one run, since machines drift, and report the
// medians and the ratio. The rows are those of the project's performance goals.

// pair are the durations of two things that are measured in turn.
type pair struct{ ours, native []time.Duration }

// report turns the pairs into metrics. The ratio is of the medians.
func (p *pair) report(b *testing.B) {
	b.Helper()
	slices.Sort(p.ours)
	slices.Sort(p.native)
	us := func(d []time.Duration, percent int) float64 {
		return float64(d[min(len(d)*percent/100, len(d)-1)].Nanoseconds()) / 1e3
	}
	b.ReportMetric(us(p.ours, 50), "p50-us")
	b.ReportMetric(us(p.ours, 99), "p99-us")
	b.ReportMetric(us(p.native, 50), "native-p50-us")
	b.ReportMetric(us(p.ours, 50)/us(p.native, 50), "x-native")
	b.ReportMetric(0, "ns/op")
}

// native builds a C program of testdata or guests as a static binary of the host.
func native(b *testing.B, source string, flags ...string) string {
	b.Helper()
	out := filepath.Join(b.TempDir(), "native")
	args := append([]string{"-O2", "-static", "-pthread", "-o", out, source}, flags...)
	if text, err := exec.CommandContext(b.Context(), "cc", args...).CombinedOutput(); err != nil {
		b.Fatalf("cc: %v\n%s", err, text)
	}
	return out
}

// mixWat is crowdWat's sibling with a number of threads of each kind.
func mixWat(busy, waiting, reading int) string {
	return fmt.Sprintf(`(module
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (data (i32.const 16) "R")
  (data (i32.const 32) "\20\01\00\00\08\00\00\00")
  (func $body (param $n i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
    (loop $again
      (if (i32.lt_u (local.get $n) (i32.const %d))
        (then (loop $l br $l)))
      (if (i32.lt_u (local.get $n) (i32.const %d))
        (then (drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const -1))) br $again))
      (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 28)))
      br $again))
  (func (export "wasi_thread_start") (param i32 i32) (call $body (local.get 1)))
  (func (export "_start") (local $i i32)
    (local.set $i (i32.const 1))
    (block $done (loop $l
      (br_if $done (i32.ge_u (local.get $i) (i32.const %d)))
      (if (i32.lt_s (call $spawn (local.get $i)) (i32.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      br $l))
    (call $body (i32.const 0))))`, busy, busy+waiting, busy+waiting+reading)
}

// BenchmarkKill is from Kill until everything is cleaned up and waited for, against kill -9 and waitpid of a native
// process with the same threads.
func BenchmarkKill(b *testing.B) {
	exe := native(b, "testdata/native/threads.c")
	for _, mix := range []struct {
		name                   string
		busy, waiting, reading int
	}{{"busy1", 1, 0, 0}, {"waiting1", 0, 1, 0}, {"reading1", 0, 0, 1}, {"mixed8", 2, 3, 3}} {
		b.Run(mix.name, func(b *testing.B) {
			rt := newRuntime(b)
			m := load(b, rt, mixWat(mix.busy, mix.waiting, mix.reading))
			n := mix.busy + mix.waiting + mix.reading
			stdin, silent, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			defer stdin.Close()
			defer silent.Close()
			out, in, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			defer out.Close()
			defer in.Close()
			var p pair
			var stopping, cleaning []time.Duration
			for b.Loop() {
				c := spawn(b, rt, lindbridge.Program{Module: m, Stdin: stdin, Stdout: in})
				readBytes(b, out, n)
				settle()
				begin := time.Now()
				c.Kill()
				if _, err := c.Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
				p.ours = append(p.ours, time.Since(begin))
				r := c.Report()
				stopping, cleaning = append(stopping, r.Stopping), append(cleaning, r.Cleaning)

				args := []string{exe, fmt.Sprint(mix.busy), fmt.Sprint(mix.waiting), fmt.Sprint(mix.reading)}
				pid, err := syscall.ForkExec(exe, args, &syscall.ProcAttr{Files: []uintptr{stdin.Fd(), in.Fd(), 2}})
				if err != nil {
					b.Fatal(err)
				}
				readBytes(b, out, n)
				settle()
				begin = time.Now()
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					b.Fatal(err)
				}
				var status unix.WaitStatus
				if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
					b.Fatal(err)
				}
				p.native = append(p.native, time.Since(begin))
			}
			p.report(b)
			b.ReportMetric(median(stopping), "stopping-us")
			b.ReportMetric(median(cleaning), "cleaning-us")
		})
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Nanoseconds()) / 1e3
}

// settle lets threads that have just said that they are there get to where they spin or block. A benchmark may take
// its time: no result depends on it.
func settle() { <-time.After(time.Millisecond) }

// BenchmarkSpawnRunExit is a whole tiny program, against fork, exec, exit and wait of a native one.
func BenchmarkSpawnRunExit(b *testing.B) {
	exe := native(b, "testdata/native/threads.c")
	for _, c := range []struct{ name, wat string }{
		{"plain", `(module (func (export "_start")))`},
		{"memory", `(module (memory (export "memory") 1) (func (export "_start")))`},
		{"shared", `(module (import "env" "memory" (memory 1 1 shared)) (export "memory" (memory 0)) (func (export "_start")))`},
	} {
		b.Run(c.name, func(b *testing.B) {
			rt := newRuntime(b)
			m := load(b, rt, c.wat)
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer null.Close()
			var p pair
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				cage := spawn(b, rt, lindbridge.Program{Module: m})
				if _, err := cage.Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
				p.ours = append(p.ours, time.Since(begin))

				begin = time.Now()
				pid, err := syscall.ForkExec(exe, []string{exe}, &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
				if err != nil {
					b.Fatal(err)
				}
				var status unix.WaitStatus
				if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
					b.Fatal(err)
				}
				p.native = append(p.native, time.Since(begin))
			}
			p.report(b)
		})
	}
}

// BenchmarkSpawnMany is 100 tiny programs that are spawned, and then waited for: nobody waits while the first ones end.
func BenchmarkSpawnMany(b *testing.B) {
	rt := newRuntime(b)
	m := load(b, rt, `(module (memory (export "memory") 1) (func (export "_start")))`)
	cages := make([]*lindbridge.Cage, 100)
	for b.Loop() {
		for i := range cages {
			cages[i] = spawn(b, rt, lindbridge.Program{Module: m})
		}
		for _, c := range cages {
			finish(b, c)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(cages)), "us/cage")
}

// BenchmarkCopy100MB is a C program that copies 100 MB with read and write, against the same program built for the host.
func BenchmarkCopy100MB(b *testing.B) {
	exe := native(b, "guests/c/iocopy.c")
	rt := newRuntime(b)
	m := guest(b, rt, "iocopy")
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "from"), make([]byte, 100<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	var p pair
	for b.Loop() {
		begin := time.Now()
		c := spawn(b, rt, lindbridge.Program{
			Module: m, Args: []string{"iocopy", "/from", "/to"}, Dirs: []lindbridge.Dir{{Host: dir, Guest: "/"}}, Stderr: os.Stderr,
		})
		if code := finish(b, c); code != 0 {
			b.Fatalf("exit code %d", code)
		}
		p.ours = append(p.ours, time.Since(begin))
		begin = time.Now()
		cmd := exec.CommandContext(b.Context(), exe, filepath.Join(dir, "from"), filepath.Join(dir, "to"))
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		p.native = append(p.native, time.Since(begin))
	}
	p.report(b)
}

// BenchmarkBlockedCPU is what 500 blocked cages of four threads each cost while nothing happens: processor time and
// wake-ups, in a second.
func BenchmarkBlockedCPU(b *testing.B) {
	rt := newRuntime(b)
	m := load(b, rt, mixWat(0, 2, 2))
	stdin, silent, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer stdin.Close()
	defer silent.Close()
	out, in, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	defer in.Close()
	cages := make([]*lindbridge.Cage, 500)
	for i := range cages {
		cages[i] = spawn(b, rt, lindbridge.Program{Module: m, Stdin: stdin, Stdout: in})
		readBytes(b, out, 4)
	}
	usage := func() (u unix.Rusage) {
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u
	}
	<-time.After(2 * time.Second) // what the spawning left to do is done by then
	var cpu, switches float64
	rounds := 0.0
	for b.Loop() {
		before := usage()
		<-time.After(time.Second)
		after := usage()
		cpu += float64(after.Utime.Nano()-before.Utime.Nano()+after.Stime.Nano()-before.Stime.Nano()) / 1e6
		switches += float64(after.Nvcsw - before.Nvcsw)
		rounds++
	}
	b.ReportMetric(cpu/rounds, "cpu-ms/s")
	b.ReportMetric(switches/rounds, "wake-ups/s")
	b.ReportMetric(0, "ns/op")
	for _, c := range cages {
		c.Kill()
	}
	for _, c := range cages {
		finish(b, c)
	}
}
