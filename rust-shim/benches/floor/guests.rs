//! The guests that both sides run.

/// A program with so many threads that spin, wait in an atomic wait, and read; thread 1 is one of the first of these kinds
/// that there is. Each marks that it is there.
pub fn crowd(busy: u32, waiting: u32, reading: u32) -> String {
    let (all, parked) = (busy + waiting + reading, busy + waiting);
    format!(
        r#"(module (memory (export "memory") (import "env" "memory") 1 1 shared)
          (import "host" "mark" (func $mark))
          (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (import "host" "read" (func $read))
          (func $body (param i32)
            call $mark
            (if (i32.lt_u (local.get 0) (i32.const {busy})) (then (loop $l br $l)))
            (if (i32.lt_u (local.get 0) (i32.const {parked}))
              (then (loop $l
                (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) br $l)))
            (loop $l call $read br $l))
          (func (export "wasi_thread_start") (param i32 i32) (call $body (local.get 1)))
          (func (export "_start") (local i32)
            (local.set 0 (i32.const 1))
            (block $done (loop $l
              (br_if $done (i32.ge_u (local.get 0) (i32.const {all})))
              (drop (call $spawn (local.get 0)))
              (local.set 0 (i32.add (local.get 0) (i32.const 1)))
              br $l))
            (call $body (i32.const 0))))"#
    )
}

/// A program that returns at once, with the memory that `kind` says.
pub fn tiny(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "plain" => r#"(module (func (export "_start")))"#,
        "memory" => r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        "shared" => {
            r#"(module (memory (export "memory") (import "env" "memory") 1 1 shared) (func (export "_start")))"#
        }
        _ => return None,
    })
}

/// A program with a memory of its own that reads, once.
pub const READER: &str = r#"(module
  (import "host" "mark" (func $mark))
  (import "host" "read" (func $read))
  (memory (export "memory") 1)
  (func (export "_start") call $mark call $read))"#;

/// A program that calls the host so many times in a row.
pub fn caller(calls: u32) -> String {
    format!(
        r#"(module (import "host" "nop" (func $nop))
          (func (export "_start") (local i32)
            (local.set 0 (i32.const {calls}))
            (loop $l
              call $nop
              (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#
    )
}
