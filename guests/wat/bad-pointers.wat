;; Calls WASI functions with pointers that lie outside its memory of one page, or whose ranges pass its end or the end of
;; the address space. Each call must answer fault (21), none may crash the host. Exits with 0, or with the number of
;; the first check that failed. It must be given at least one argument, its name.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $clock_res_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 1)

  (func $fault (param $check i32) (param $errno i32)
    (if (i32.ne (local.get $errno) (i32.const 21)) (then (call $proc_exit (local.get $check)))))

  ;; An iovec array of one element at 0x100.
  (func $iovec (param $base i32) (param $length i32)
    (i32.store (i32.const 0x100) (local.get $base))
    (i32.store (i32.const 0x104) (local.get $length)))

  (func (export "_start")
    ;; Results just past the end, across the end, and at the very top of the address space.
    (call $fault (i32.const 1) (call $args_sizes_get (i32.const 0x10000) (i32.const 0)))
    (call $fault (i32.const 2) (call $args_sizes_get (i32.const 0) (i32.const 0xfffd)))
    (call $fault (i32.const 3) (call $environ_sizes_get (i32.const -1) (i32.const -4)))
    (call $fault (i32.const 4) (call $clock_res_get (i32.const 1) (i32.const 0xfff9)))
    (call $fault (i32.const 5) (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const -8)))
    (call $fault (i32.const 6) (call $args_get (i32.const 0x10000) (i32.const 0)))
    (call $fault (i32.const 7) (call $args_get (i32.const 0) (i32.const 0x7fffffff)))
    (call $fault (i32.const 8) (call $fd_fdstat_get (i32.const 1) (i32.const 0xfff0)))
    (call $fault (i32.const 9) (call $fd_filestat_get (i32.const 1) (i32.const 0xffff)))

    ;; Buffers: too long, wrapping round, and starting outside.
    (call $fault (i32.const 10) (call $random_get (i32.const 0) (i32.const 0x10001)))
    (call $fault (i32.const 11) (call $random_get (i32.const 0xffff) (i32.const 2)))
    (call $fault (i32.const 12) (call $random_get (i32.const 0x100) (i32.const -1)))
    (call $fault (i32.const 13) (call $random_get (i32.const -16) (i32.const 32)))

    ;; The iovec array itself.
    (call $fault (i32.const 20) (call $fd_write (i32.const 1) (i32.const 0x10000) (i32.const 1) (i32.const 0)))
    (call $fault (i32.const 21) (call $fd_write (i32.const 1) (i32.const 0xfffc) (i32.const 1) (i32.const 0)))
    (call $fault (i32.const 22) (call $fd_read (i32.const 0) (i32.const -8) (i32.const 1) (i32.const 0)))

    ;; What an element points to.
    (call $iovec (i32.const 0x10000) (i32.const 1))
    (call $fault (i32.const 30) (call $fd_write (i32.const 1) (i32.const 0x100) (i32.const 1) (i32.const 0)))
    (call $iovec (i32.const 0xffff) (i32.const 2))
    (call $fault (i32.const 31) (call $fd_write (i32.const 1) (i32.const 0x100) (i32.const 1) (i32.const 0)))
    (call $iovec (i32.const 16) (i32.const -1))
    (call $fault (i32.const 32) (call $fd_write (i32.const 1) (i32.const 0x100) (i32.const 1) (i32.const 0)))
    (call $iovec (i32.const -16) (i32.const 32))
    (call $fault (i32.const 33) (call $fd_read (i32.const 0) (i32.const 0x100) (i32.const 1) (i32.const 0)))

    ;; Subscriptions and events.
    (call $fault (i32.const 40) (call $poll_oneoff (i32.const 0xfff0) (i32.const 0) (i32.const 1) (i32.const 0x200)))
    (call $fault (i32.const 41) (call $poll_oneoff (i32.const 0x300) (i32.const 0xfff0) (i32.const 1) (i32.const 0x200)))
    (call $fault (i32.const 42) (call $poll_oneoff (i32.const 0x300) (i32.const 0x400) (i32.const 1) (i32.const 0x10000)))
    (call $fault (i32.const 43) (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 16384) (i32.const 0x200)))
    (call $proc_exit (i32.const 0))))
