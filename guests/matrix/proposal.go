package matrix

// proposalMemory is the memory import of the wasi-threads proposal's own test programs: neither its names nor its limits
// are the ones that toolchains use, and the runtime must supply it all the same.
var proposalMemory = Memory{Module: "foo", Name: "bar", Min: 1, Max: 1}

// Proposal are programs of the shapes that the wasi-threads proposal's own suite tests, over a memory imported as
// foo.bar: a thread that ends the program, by proc_exit or by returning from _start, while one other thread
// spins, waits in memory.atomic.wait32, in poll_oneoff, or in fd_read; one that checks what a spawned thread is given; and
// the smallest program that there is.
func Proposal() []Case {
	var cases []Case
	add := func(who Who, how How) {
		for _, while := range []While{Spin, Wait32, PollClock, ReadFD} {
			c := newCase(who, how, while, 1, proposalMemory)
			c.Name = "proposal/" + c.Name
			cases = append(cases, c)
		}
	}
	add(Main, ProcExit)
	add(Other, ProcExit)
	add(Main, Return)
	return append(cases,
		Case{
			Name: "proposal/spawn", How: ProcExit, While: Returning, Threads: 1, Wat: spawnWat,
			Want: []Outcome{{Cause: CauseExitGroup, Code: CodeExit, By: ByMain}},
		},
		Case{
			Name: "proposal/noop", How: Return, While: Returning, Wat: noopWat,
			Want: []Outcome{{Cause: CauseMainReturned, By: ByMain}},
		})
}

// noopWat imports a memory of no pages, that cannot grow.
const noopWat = `(module
  (import "foo" "bar" (memory 0 0 shared))
  (export "memory" (memory 0))
  (func (export "_start")))
`

// spawnWat exits with CodeExit if the spawned thread saw the id that the spawn answered and the argument that it was
// given, and with another code that says what was wrong otherwise.
const spawnWat = `(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "foo" "bar" (memory 1 1 shared))
  (export "memory" (memory 0))

  ;; 0x0: 1 when the thread has stored its id at 0x4 and its argument at 0x8
  (func (export "wasi_thread_start") (param $tid i32) (param $arg i32)
    (i32.atomic.store (i32.const 0x4) (local.get $tid))
    (i32.atomic.store (i32.const 0x8) (local.get $arg))
    (i32.atomic.store (i32.const 0x0) (i32.const 1))
    (drop (memory.atomic.notify (i32.const 0x0) (i32.const 1))))

  (func $check (param $ok i32) (param $code i32)
    (if (i32.eqz (local.get $ok)) (then (call $proc_exit (local.get $code)))))

  (func (export "_start") (local $tid i32)
    (local.set $tid (call $thread_spawn (i32.const 0xabcdef)))
    (call $check (i32.gt_s (local.get $tid) (i32.const 0)) (i32.const 80))
    ;; Neither a time-out (2) nor anything unknown: woken (0), or the value was there already (1).
    (call $check
      (i32.lt_u (memory.atomic.wait32 (i32.const 0x0) (i32.const 0) (i64.const -1)) (i32.const 2)) (i32.const 81))
    (call $check (i32.atomic.load (i32.const 0x0)) (i32.const 82))
    (call $check (i32.eq (i32.atomic.load (i32.const 0x4)) (local.get $tid)) (i32.const 83))
    (call $check (i32.eq (i32.atomic.load (i32.const 0x8)) (i32.const 0xabcdef)) (i32.const 84))
    (call $proc_exit (i32.const 42)))
)
`
