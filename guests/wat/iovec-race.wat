;; One thread rewrites an iovec array, again and again, between an element inside the memory and ones outside it, while the
;; first thread passes that array to fd_write until 1,000 calls have answered success (0) and 1,000 fault (21). A host
;; that checks the array and then reads it again would write its own memory out, or crash. Each successful call writes
;; the four bytes " ok\n", or four zeros of this memory if it met the array half rewritten, and nothing else. Exits with 0,
;; or with 1 on any other answer. Descriptor 1 must take the data: a file, or a pipe that is read.
(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))

  ;; 0x100: the array. 0x200: the bytes that are good to write. 0x300: 1 when the other thread has begun.
  (global $random (mut i32) (i32.const 1))

  ;; Some time, of a length that changes: so each state of the array is met, at each point of a call.
  (func $dawdle (local $n i32)
    (global.set $random (i32.add (i32.mul (global.get $random) (i32.const 1103515245)) (i32.const 12345)))
    (local.set $n (i32.shr_u (global.get $random) (i32.const 22)))
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0)))))

  (func (export "wasi_thread_start") (param $tid i32) (param $arg i32)
    (i32.atomic.store (i32.const 0x300) (i32.const 1))
    (drop (memory.atomic.notify (i32.const 0x300) (i32.const 1)))
    (loop $again
      (i64.atomic.store (i32.const 0x100) (i64.const 0x0000000400000200)) ;; 4 bytes at 0x200
      (call $dawdle)
      (i64.atomic.store (i32.const 0x100) (i64.const 0x00000004ffff0000)) ;; 4 bytes far outside
      (call $dawdle)
      (i32.atomic.store (i32.const 0x104) (i32.const 0x7fffffff))         ;; and now 2 GiB of them
      (i32.atomic.store (i32.const 0x100) (i32.const 0x0000fff0))         ;; that begin inside
      (call $dawdle)
      (br $again)))

  (func (export "_start") (local $good i32) (local $faults i32) (local $errno i32)
    (i32.store (i32.const 0x200) (i32.const 0x0a6b6f20)) ;; " ok\n"
    (if (i32.le_s (call $thread_spawn (i32.const 0)) (i32.const 0)) (then (call $proc_exit (i32.const 2))))
    (drop (memory.atomic.wait32 (i32.const 0x300) (i32.const 0) (i64.const -1)))
    (loop $again
      (local.set $errno (call $fd_write (i32.const 1) (i32.const 0x100) (i32.const 1) (i32.const 0x400)))
      (if (i32.eqz (local.get $errno))
        (then (local.set $good (i32.add (local.get $good) (i32.const 1))))
        (else
          (if (i32.ne (local.get $errno) (i32.const 21)) (then (call $proc_exit (i32.const 1))))
          (local.set $faults (i32.add (local.get $faults) (i32.const 1)))))
      (br_if $again
        (i32.or (i32.lt_u (local.get $good) (i32.const 1000)) (i32.lt_u (local.get $faults) (i32.const 1000)))))
    (call $proc_exit (i32.const 0))))
