//! How long a stop takes, ours beside a plain program on Wasmtime that does the least that could work: move the epoch,
//! notify, join. Both in one run, turn by turn; the table gives medians, and the ratio of each pair.
//!
//! `cargo bench --bench stop [-- ROUNDS]`

use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wasmtime::{Config, Engine, Linker, MemoryType, Module, SharedMemory, Store, UpdateDeadline};

/// `busy` threads that spin and `waiting` ones in an atomic wait; thread 1 is one of the former, if there is any.
fn guest(busy: u32, waiting: u32) -> String {
    let all = busy + waiting;
    format!(
        r#"(module (memory (export "memory") (import "env" "memory") 1 1 shared)
          (import "host" "mark" (func $mark))
          (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (func $spin call $mark (loop $l br $l))
          (func $wait call $mark
            (loop $l (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) br $l))
          (func $body (param i32)
            (if (i32.lt_u (local.get 0) (i32.const {busy})) (then call $spin) (else call $wait)))
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

/// Counts events and lets one thread wait for them.
#[derive(Default)]
struct Counter(Mutex<u64>, Condvar);

impl Counter {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait(&self, n: u64) {
        let mut count = self.0.lock().unwrap();
        while *count < n {
            count = self.1.wait(count).unwrap();
        }
        *count -= n;
    }
}

static MARKS: Counter = Counter(Mutex::new(0), Condvar::new());
static QUIESCENT: Counter = Counter(Mutex::new(0), Condvar::new());
static QUIESCENT_NS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        if call.import == 0 {
            MARKS.add();
        } else {
            let mut tid = 0;
            let arg = *call.args as u32;
            assert_eq!(
                lindshim_thread_spawn(call.domain, arg, &mut tid, std::ptr::null_mut()),
                LINDSHIM_OK
            );
            *call.args = tid.into();
        }
    }
    LINDSHIM_CONTINUE
}

unsafe extern "C" fn thread_end(_: *const ThreadEnd) {}

unsafe extern "C" fn quiescent(report: *const Report) {
    unsafe {
        let report = &*report;
        QUIESCENT_NS.store(report.quiescent_ns - report.stop_ns, Ordering::SeqCst);
    }
    QUIESCENT.add();
}

struct Ours {
    module: u64,
}

impl Ours {
    fn new(engine: u64, wat: &str) -> Self {
        let mut module = 0;
        let status = unsafe {
            lindshim_module_load(
                engine,
                wat.as_ptr(),
                wat.len() as u64,
                &mut module,
                std::ptr::null_mut(),
            )
        };
        assert_eq!(status, LINDSHIM_OK);
        Ours { module }
    }

    fn engine() -> u64 {
        let config = EngineConfig::new(Some(host_call), Some(thread_end), Some(quiescent));
        let imports = [
            Import::new("host", "mark", "", "", 0),
            Import::new("host", "spawn", "i", "i", 1),
        ];
        let mut engine = 0;
        unsafe {
            assert_eq!(
                lindshim_engine_new(&config, &mut engine, std::ptr::null_mut()),
                LINDSHIM_OK
            );
            assert_eq!(
                lindshim_engine_define(engine, imports.as_ptr(), 2, std::ptr::null_mut()),
                LINDSHIM_OK
            );
        }
        engine
    }

    /// From the stop's call until its caller knows that the domain is quiescent.
    fn round(&self, threads: u32) -> Duration {
        let config = DomainConfig::new(0);
        let (mut domain, null) = (0, std::ptr::null_mut());
        unsafe {
            assert_eq!(
                lindshim_domain_new(self.module, &config, &mut domain, null),
                LINDSHIM_OK
            );
            assert_eq!(
                lindshim_domain_start(domain, c"_start".as_ptr(), 6, null),
                LINDSHIM_OK
            );
            MARKS.wait(threads.into());
            settle();
            let start = Instant::now();
            lindshim_domain_stop(domain, null);
            QUIESCENT.wait(1);
            let took = start.elapsed();
            assert_eq!(lindshim_domain_delete(domain, null), LINDSHIM_OK);
            took
        }
    }
}

/// Lets threads that have just said that they are there get to where they spin or wait.
fn settle() {
    std::thread::sleep(Duration::from_millis(2));
}

/// The least that could work.
struct Plain {
    engine: Engine,
    module: Module,
}

struct Shared {
    killed: AtomicBool,
    memory: SharedMemory,
    threads: Mutex<Vec<JoinHandle<()>>>,
    module: Module,
    engine: Engine,
}

impl Plain {
    fn new(wat: &str) -> Self {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .wasm_threads(true)
            .shared_memory(true);
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, wat).unwrap();
        Plain { engine, module }
    }

    fn run(shared: &Arc<Shared>, arg: Option<u32>) {
        let its = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut store = Store::new(&its.engine, its.clone());
            let mut linker = Linker::<Arc<Shared>>::new(&its.engine);
            linker
                .define(&store, "env", "memory", its.memory.clone())
                .unwrap();
            linker.func_wrap("host", "mark", || MARKS.add()).unwrap();
            linker
                .func_wrap(
                    "host",
                    "spawn",
                    |caller: wasmtime::Caller<'_, Arc<Shared>>, arg: u32| {
                        Plain::run(caller.data(), Some(arg));
                        1_u32
                    },
                )
                .unwrap();
            store.epoch_deadline_callback(|store| {
                if store.data().killed.load(Ordering::SeqCst) {
                    Ok(UpdateDeadline::Interrupt)
                } else {
                    Ok(UpdateDeadline::Continue(1))
                }
            });
            store.set_epoch_deadline(1);
            let instance = linker.instantiate(&mut store, &its.module).unwrap();
            let result = match arg {
                None => instance
                    .get_typed_func::<(), ()>(&mut store, "_start")
                    .unwrap()
                    .call(&mut store, ()),
                Some(arg) => instance
                    .get_typed_func::<(u32, u32), ()>(&mut store, "wasi_thread_start")
                    .unwrap()
                    .call(&mut store, (1, arg)),
            };
            assert!(result.is_err());
        });
        shared.threads.lock().unwrap().push(thread);
    }

    fn round(&self, threads: u32) -> Duration {
        let shared = Arc::new(Shared {
            killed: AtomicBool::new(false),
            memory: SharedMemory::new(&self.engine, MemoryType::shared(1, 1)).unwrap(),
            threads: Mutex::default(),
            module: self.module.clone(),
            engine: self.engine.clone(),
        });
        Plain::run(&shared, None);
        MARKS.wait(threads.into());
        settle();
        let start = Instant::now();
        shared.killed.store(true, Ordering::SeqCst);
        self.engine.increment_epoch();
        shared.memory.atomic_notify(64, u32::MAX).unwrap();
        let all = std::mem::take(&mut *shared.threads.lock().unwrap());
        for thread in all {
            thread.join().unwrap();
        }
        start.elapsed()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds: usize = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(300);
    let engine = Ours::engine();
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>8} {:>8}",
        "stop -> known", "ours us", "p99 us", "plain us", "p99 us", "ratio"
    );
    for (name, busy, waiting) in [
        ("1 busy", 1, 0),
        ("1 waiting", 0, 1),
        ("2 busy + 6 waiting", 2, 6),
        ("16 waiting", 0, 16),
    ] {
        let wat = guest(busy, waiting);
        let (ours, plain) = (Ours::new(engine, &wat), Plain::new(&wat));
        let threads = busy + waiting;
        let (mut a, mut b, mut ratios) = (vec![], vec![], vec![]);
        for round in 0..rounds + 10 {
            let (x, y) = (ours.round(threads), plain.round(threads));
            if round >= 10 {
                let (x, y) = (x.as_secs_f64() * 1e6, y.as_secs_f64() * 1e6);
                a.push(x);
                b.push(y);
                ratios.push(x / y);
            }
        }
        let (x, y, ratio) = (median(&mut a), median(&mut b), median(&mut ratios));
        let p99 = |values: &[f64]| values[values.len() * 99 / 100];
        println!(
            "{name:<22} {x:>10.1} {:>10.1} {y:>10.1} {:>8.1} {ratio:>8.2}",
            p99(&a),
            p99(&b)
        );
    }
}
