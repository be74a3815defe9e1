;; Imports a known function under a type that it does not have.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
