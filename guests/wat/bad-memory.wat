;; Asks for 4 GiB at once: more than the limit that a test gives it.
(module
  (memory (export "memory") 65536)
  (func (export "_start")))
