;; The smallest program that has a memory: returns at once. For benchmarks of spawn + run + exit.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
