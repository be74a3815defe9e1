;; Exports a _start that takes an argument, which WASI does not allow.
(module
  (memory (export "memory") 1)
  (func (export "_start") (param i32)))
