//! Modules that wait, each with something else that a rewrite could break, and what to call in them.

/// A module to run both ways.
pub struct Case {
    /// What it is about.
    pub about: &'static str,
    /// The module, which exports everything that is to be compared.
    pub wat: &'static str,
    /// The exported functions to call, with arguments, in order.
    pub calls: &'static [(&'static str, &'static [i64])],
}

/// The modules.
pub const CASES: &[Case] = &[
    Case {
        about: "functions of all kinds call each other",
        wat: r#"(module
            (import "host" "one" (func $one (param i32) (result i32)))
            (import "host" "memory" (memory 1 4 shared))
            (import "host" "two" (func $two (param i64)))
            (func $wait (export "wait") (param i32 i32) (result i32)
                (memory.atomic.wait32 offset=8 (local.get 0) (local.get 1) (i64.const 0)))
            (func $notify (export "notify") (param i32) (result i32)
                (memory.atomic.notify (local.get 0) (i32.const 7)))
            (func $tail (export "tail") (param i32 i32) (result i32)
                (return_call $wait (local.get 0) (local.get 1)))
            (func (export "imported") (param i32) (result i32)
                (call $two (i64.const 3))
                (call $one (i32.add (call $wait (local.get 0) (i32.const 0)) (i32.const 40))))
            (func (export "tail imported") (param i32) (result i32)
                (return_call $one (call $notify (local.get 0))))
            (export "one again" (func $one)) (export "wait again" (func $wait)))"#,
        calls: &[
            ("wait", &[0, 0]),
            ("wait", &[0, 1]),
            ("wait", &[2, 0]),
            ("tail", &[65528, 0]),
            ("tail", &[65524, 0]),
            ("tail", &[-8, 0]),
            ("notify", &[4]),
            ("notify", &[5]),
            ("imported", &[0]),
            ("imported", &[1]),
            ("tail imported", &[0]),
            ("tail imported", &[65536]),
            ("one again", &[9]),
            ("wait again", &[16, 0]),
        ],
    },
    Case {
        about: "tables and elements of every form hold functions",
        wat: r#"(module
            (type $f (func (param i32) (result i32)))
            (import "host" "f" (func $host (type $f)))
            (import "host" "g" (global $imported funcref))
            (memory (export "memory") 1 1 shared)
            (table $t (export "table") 20 funcref)
            (table $u 4 8 funcref)
            (global $g (export "global") funcref (ref.func $c))
            (global $n (mut funcref) (ref.null func))
            (elem $active (table $t) (i32.const 0) func $a $b $c $host)
            (elem (table $t) (i32.const 4) funcref (ref.func $c) (ref.null func) (ref.func $host) (ref.func $a))
            (elem (table $u) (offset (i32.const 1)) func $b)
            (elem $passive func $b $a)
            (elem $expressions funcref (ref.func $c) (global.get $imported) (ref.func $host))
            (elem declare func $d)
            (func $a (type $f) (i32.add (local.get 0)
                (memory.atomic.wait32 (i32.const 0) (local.get 0) (i64.const 0))))
            (func $b (type $f) (i32.sub (local.get 0)
                (memory.atomic.notify (i32.const 8) (i32.const 1))))
            (func $c (type $f) (i32.mul (local.get 0)
                (memory.atomic.wait64 offset=24 (i32.const 0) (i64.const 5) (i64.const -1))))
            (func $d (type $f) (i32.const 77))
            (func (export "t") (param i32 i32) (result i32)
                (call_indirect $t (type $f) (local.get 1) (local.get 0)))
            (func (export "u") (param i32 i32) (result i32)
                (return_call_indirect $u (type $f) (local.get 1) (local.get 0)))
            (func (export "init") (param i32)
                (table.init $t $passive (local.get 0) (i32.const 0) (i32.const 2))
                (table.init $t $expressions (i32.add (local.get 0) (i32.const 2)) (i32.const 0) (i32.const 3))
                (elem.drop $passive))
            (func (export "set") (param i32)
                (global.set $n (ref.func $d))
                (table.set $t (local.get 0) (global.get $n)))
            (func (export "copy") (table.copy $t $u (i32.const 15) (i32.const 0) (i32.const 3)))
            (func (export "grow") (result i32) (table.grow $u (ref.func $d) (i32.const 2))))"#,
        calls: &[
            ("t", &[0, 0]),
            ("t", &[0, 3]),
            ("t", &[1, 9]),
            ("t", &[2, 9]),
            ("t", &[3, 9]),
            ("t", &[4, 5]),
            ("t", &[5, 5]),
            ("t", &[6, 5]),
            ("t", &[7, 5]),
            ("u", &[1, 4]),
            ("u", &[0, 4]),
            ("u", &[9, 4]),
            ("init", &[8]),
            ("t", &[8, 1]),
            ("t", &[9, 1]),
            ("t", &[10, 1]),
            ("t", &[11, 1]),
            ("t", &[12, 1]),
            ("init", &[8]),
            ("set", &[13]),
            ("t", &[13, 1]),
            ("copy", &[]),
            ("t", &[16, 4]),
            ("grow", &[]),
            ("u", &[5, 0]),
        ],
    },
    Case {
        about: "a start function waits, and nothing but the memory comes in",
        wat: r#"(module
            (import "env" "memory" (memory 1 1 shared))
            (func $start
                (i32.store (i32.const 16) (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))
                (i32.store (i32.const 20) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
                (i32.store (i32.const 24) (memory.atomic.notify (i32.const 0) (i32.const 1))))
            (start $start))"#,
        calls: &[],
    },
    Case {
        about: "a start function traps in a wait",
        wat: r#"(module
            (import "env" "memory" (memory 1 1 shared))
            (func $inner (param i32) (result i32)
                (memory.atomic.wait32 (local.get 0) (i32.const 1) (i64.const -1)))
            (func $start
                (i32.store (i32.const 16) (call $inner (i32.const 0)))
                (i32.store (i32.const 20) (call $inner (i32.const 2))))
            (start $start))"#,
        calls: &[],
    },
    Case {
        about: "a memory of its own, no imports and no exports of memories",
        wat: r#"(module
            (memory 1 2 shared)
            (data (i32.const 8) "\2a\00\00\00\00\00\00\00")
            (func (export "wait32") (param i32 i32) (result i32)
                (memory.atomic.wait32 (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wait64") (param i32 i64) (result i32)
                (memory.atomic.wait64 (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#,
        calls: &[
            ("wait32", &[8, 42]),
            ("wait32", &[8, 43]),
            ("wait64", &[8, 42]),
            ("wait64", &[8, 1]),
            ("wait32", &[65536, 0]),
            ("grow", &[]),
            ("wait32", &[65536, 0]),
            ("wait32", &[131_072, 0]),
            ("grow", &[]),
        ],
    },
    Case {
        about: "several memories, shared and not, imported and defined, with 32-bit and 64-bit indices",
        wat: r#"(module
            (import "env" "a" (memory $a 1 1 shared))
            (import "env" "b" (memory $b 1))
            (import "env" "f" (func $f (result i32)))
            (memory $c (export "c") i64 1 1 shared)
            (memory $d 1 1 shared)
            (memory $e (export "e") 1 1)
            (export "a" (memory $a)) (export "a too" (memory $a)) (export "b" (memory $b))
            (func (export "wait a") (param i32 i32) (result i32)
                (memory.atomic.wait32 $a (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wait b") (param i32 i32) (result i32)
                (memory.atomic.wait32 $b (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wait c") (param i64 i32) (result i32)
                (memory.atomic.wait32 $c (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wait d") (param i32 i64) (result i32)
                (memory.atomic.wait64 $d (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wait e") (param i32 i64) (result i32)
                (memory.atomic.wait64 $e (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "notify a") (param i32) (result i32)
                (memory.atomic.notify $a (local.get 0) (i32.const -1)))
            (func (export "notify b") (param i32) (result i32)
                (memory.atomic.notify $b (local.get 0) (call $f)))
            (func (export "notify c") (param i64) (result i32)
                (memory.atomic.notify $c offset=0x100000000 (local.get 0) (i32.const 1)))
            (func (export "notify e") (param i32) (result i32)
                (memory.atomic.notify $e (local.get 0) (i32.const 1)))
            (func (export "store") (param i32 i32)
                (i32.store $a (local.get 0) (local.get 1))
                (i32.store $b (local.get 0) (local.get 1))
                (i32.store $d (local.get 0) (local.get 1))
                (memory.copy $c $a (i64.const 0) (i32.const 0) (i32.const 64))))"#,
        calls: &[
            ("wait a", &[0, 0]),
            ("wait b", &[0, 0]),
            ("wait b", &[0, 1]),
            ("wait b", &[2, 1]),
            ("wait b", &[65536, 1]),
            ("wait c", &[0, 0]),
            ("wait c", &[1 << 32, 0]),
            ("wait d", &[0, 0]),
            ("wait e", &[0, 0]),
            ("store", &[0, 5]),
            ("wait a", &[0, 0]),
            ("wait b", &[0, 5]),
            ("wait c", &[0, 5]),
            ("wait d", &[0, 5]),
            ("wait d", &[0, 0]),
            ("notify a", &[0]),
            ("notify a", &[3]),
            ("notify b", &[0]),
            ("notify b", &[3]),
            ("notify b", &[65536]),
            ("notify c", &[0]),
            ("notify c", &[-(1 << 32)]),
            ("notify e", &[8]),
        ],
    },
    Case {
        about: "control flow, multiple values, and waits where nothing is reached",
        wat: r#"(module
            (type $pair (func (result i32 i64)))
            (memory (export "memory") 1 1 shared)
            (func $pair (type $pair)
                (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))
                (i64.extend_i32_u (memory.atomic.notify (i32.const 0) (i32.const 1))))
            (func (export "blocks") (param i32) (result i32 i64)
                (block $out (type $pair)
                    (loop $again
                        (br_if $out (call $pair) (i32.eqz (local.get 0)))
                        drop drop
                        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                        (br_table $again $again (i32.const 0)))
                    unreachable))
            (func (export "dead") (param i32) (result i32)
                (if (local.get 0) (then
                    (return (i32.const 5))
                    (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)) drop
                    memory.atomic.wait64 offset=4
                    memory.atomic.notify
                    drop))
                unreachable
                memory.atomic.wait32
                call $pair
                drop drop)
            (func (export "if") (param i32) (result i32)
                (if (result i32) (memory.atomic.wait32 (i32.const 0) (local.get 0) (i64.const 0))
                    (then (memory.atomic.notify offset=65532 (i32.const 0) (i32.const 0)))
                    (else (memory.atomic.notify offset=65533 (i32.const 0) (i32.const 0))))))"#,
        calls: &[
            ("blocks", &[0]),
            ("blocks", &[3]),
            ("dead", &[0]),
            ("dead", &[1]),
            ("if", &[0]),
            ("if", &[1]),
        ],
    },
    Case {
        about: "bulk memory, SIMD, relaxed SIMD, conversions and other atomics around it",
        wat: r#"(module
            (memory (export "memory") 1 1 shared)
            (data $active (i32.const 32) "abcdefgh")
            (data $passive "0123456789")
            (global (export "sum") (mut i64) (i64.add (i64.const 40) (i64.const 2)))
            (func (export "init") (param i32)
                (memory.init $passive (local.get 0) (i32.const 0) (i32.const 10))
                (data.drop $passive)
                (memory.fill (i32.const 100) (i32.const 255) (i32.const 20))
                (memory.copy (i32.const 200) (i32.const 32) (i32.const 8)))
            (func (export "vectors") (param i32) (result i32)
                (v128.store (i32.const 64) (i32x4.add (v128.load (i32.const 32)) (i32x4.splat
                    (memory.atomic.wait32 offset=32 (local.get 0) (i32.const 0x64636261) (i64.const 0)))))
                (v128.store (i32.const 80) (i8x16.relaxed_swizzle (v128.load (i32.const 32))
                    (v128.const i32x4 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c)))
                (i8x16.extract_lane_u 3 (v128.load offset=4 (i32.const 60))))
            (func (export "atomics") (param i32) (result i64)
                (drop (i32.atomic.rmw.add offset=4 (local.get 0) (i32.const 3)))
                (atomic.fence)
                (drop (memory.atomic.notify (local.get 0) (i32.const 1)))
                (drop (i64.atomic.rmw32.cmpxchg_u (local.get 0) (i64.const 0) (i64.const 9)))
                (i64.extend8_s (i64.atomic.load (local.get 0))))
            (func (export "numbers") (param f64) (result i32)
                (i32.add (i32.trunc_sat_f64_s (local.get 0)) (i32.trunc_f64_s (local.get 0)))))"#,
        calls: &[
            ("vectors", &[0]),
            ("vectors", &[4]),
            ("init", &[300]),
            ("init", &[300]),
            ("vectors", &[1]),
            ("atomics", &[400]),
            ("atomics", &[404]),
            ("numbers", &[0]),
            ("numbers", &[0x4028_0000_0000_0000]),
            ("numbers", &[0x7ff8_0000_0000_0000]),
        ],
    },
    Case {
        about: "a 64-bit table, more than 127 functions, and overlong index encodings stay intact",
        wat: r#"(module
            (type $f (func (result i32)))
            (memory (export "memory") 1 1 shared)
            (table $t i64 200 funcref)
            (elem (table $t) (i64.const 0) func
                $f0 $f1 $f2 $f3 $f4 $f5 $f6 $f7)
            (func $f0 (type $f) (i32.const 0)) (func $f1 (type $f) (i32.const 1))
            (func $f2 (type $f) (i32.const 2)) (func $f3 (type $f) (i32.const 3))
            (func $f4 (type $f) (i32.const 4)) (func $f5 (type $f) (i32.const 5))
            (func $f6 (type $f) (call $f7)) (func $f7 (type $f)
                (memory.atomic.wait64 offset=0xfffffff8 (i32.const 0) (i64.const 0) (i64.const 0)))
            (func (export "call") (param i64) (result i32)
                (call_indirect $t (type $f) (local.get 0))))"#,
        calls: &[
            ("call", &[0]),
            ("call", &[5]),
            ("call", &[6]),
            ("call", &[7]),
            ("call", &[8]),
        ],
    },
    Case {
        about: "names that the added export could clash with",
        wat: r#"(module
            (global (export "lindshim:memory:0") i32 (i32.const 1))
            (func (export "lindshim:memory:0:1"))
            (memory 1 1 shared)
            (memory (export "lindshim:memory:0:2") 1 1 shared)
            (memory 1 1 shared)
            (func (export "wait") (param i32) (result i32)
                (drop (memory.atomic.wait32 1 (local.get 0) (i32.const 1) (i64.const 0)))
                (drop (memory.atomic.wait32 2 (local.get 0) (i32.const 1) (i64.const 0)))
                (memory.atomic.wait32 0 (local.get 0) (i32.const 1) (i64.const 0))))"#,
        calls: &[("wait", &[0]), ("wait", &[1]), ("lindshim:memory:0:1", &[])],
    },
];
