;; Asks for threads until a spawn fails, 10,000 at most; all wait for good. Exits with
;;   0   a spawn failed with a negative result, and each one before it answered an id of its own, larger than 0
;;   1   10,000 threads, and no limit
;;   2   a spawn answered 0, which is no thread id
;;   3   one id was given twice
;; It is ended by its own proc_exit while all the threads wait.
(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "env" "memory" (memory 2 2 shared))
  (export "memory" (memory 0))

  ;; 0x10: 0 for good. From 0x1000 on: a byte for each id below 0x10000 that was given.
  (func (export "wasi_thread_start") (param $tid i32) (param $arg i32)
    (drop (memory.atomic.wait32 (i32.const 0x10) (i32.const 0) (i64.const -1)))
    (unreachable))

  (func $note (param $tid i32)
    (if (i32.lt_u (local.get $tid) (i32.const 0x10000))
      (then
        (if (i32.load8_u offset=0x1000 (local.get $tid)) (then (call $proc_exit (i32.const 3))))
        (i32.store8 offset=0x1000 (local.get $tid) (i32.const 1)))))

  (func (export "_start") (local $i i32) (local $tid i32)
    (loop $again
      (local.set $tid (call $thread_spawn (local.get $i)))
      (if (i32.lt_s (local.get $tid) (i32.const 0)) (then (call $proc_exit (i32.const 0))))
      (if (i32.eqz (local.get $tid)) (then (call $proc_exit (i32.const 2))))
      (call $note (local.get $tid))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 10000))))
    (call $proc_exit (i32.const 1))))
