;; Imports thread-spawn but exports no wasi_thread_start that a thread could run: it must be refused, with the reason. A
;; runtime that starts it all the same must at least answer an error to the spawn: then it exits with 0.
(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))
  (func (export "_start")
    (call $proc_exit (i32.ge_s (call $thread_spawn (i32.const 0)) (i32.const 0)))))
