;; Imports thread-spawn without a shared memory: there is nothing that a second thread could share.
(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "wasi_thread_start") (param i32 i32))
  (func (export "_start") (drop (call $thread_spawn (i32.const 0)))))
