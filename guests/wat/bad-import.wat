;; Imports a function that no runtime has: loading it or spawning it must fail, with the import's name.
(module
  (import "nowhere" "no-such-function" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
