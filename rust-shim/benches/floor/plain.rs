//! A plain program on Wasmtime that does the least that could work.

use crate::{Counter, SILENT, guests, settle};
use std::collections::HashMap;
use std::hint::black_box;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use wasmtime::{
    Caller, Config, Engine, Instance, Linker, MemoryType, Module, SharedMemory, Store,
    UpdateDeadline, bail,
};

static MARKS: Counter = Counter::new();

pub struct Plain {
    engine: Engine,
    modules: HashMap<String, Module>,
    /// Instances that do nothing, each in its store.
    idle: Vec<(Store<()>, Instance)>,
    /// Programs that are blocked in a read, each on its thread.
    blocked: Vec<Arc<Shared>>,
}

/// What the threads of a program share.
struct Shared {
    killed: AtomicBool,
    /// Becomes readable when it is killed.
    cancel: OwnedFd,
    memory: SharedMemory,
    threads: Mutex<Vec<JoinHandle<()>>>,
    module: Module,
    engine: Engine,
}

type Data = Arc<Shared>;

fn eventfd() -> OwnedFd {
    // SAFETY: the descriptor is new.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        assert!(fd >= 0, "eventfd");
        OwnedFd::from_raw_fd(fd)
    }
}

impl Shared {
    /// Interrupts the threads in the ways that are said, and does not wait.
    fn interrupt(&self, epoch_alone: bool) {
        self.killed.store(true, Ordering::SeqCst);
        self.engine.increment_epoch();
        if epoch_alone {
            return;
        }
        self.memory.atomic_notify(64, u32::MAX).unwrap();
        let one = 1_u64;
        // SAFETY: it reads the eight bytes.
        let n = unsafe { libc::write(self.cancel.as_raw_fd(), (&raw const one).cast(), 8) };
        assert_eq!(n, 8);
    }

    fn join(&self) {
        // A thread that spawns another is in the list before it can end.
        loop {
            let threads = std::mem::take(&mut *self.threads.lock().unwrap());
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}

/// Waits for the descriptor that nothing comes from, or for the end.
fn read(caller: Caller<'_, Data>) -> wasmtime::Result<()> {
    let mut fds = [SILENT, caller.data().cancel.as_raw_fd()].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the array has two.
    while unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } < 1 {}
    bail!("killed")
}

fn linker(store: &Store<Data>, shared: &Data) -> Linker<Data> {
    let mut linker = Linker::new(&shared.engine);
    linker
        .define(store, "env", "memory", shared.memory.clone())
        .unwrap();
    linker.func_wrap("host", "mark", || MARKS.add()).unwrap();
    linker.func_wrap("host", "read", read).unwrap();
    linker
        .func_wrap(
            "host",
            "spawn",
            |caller: Caller<'_, Data>, arg: u32| -> u32 {
                run(caller.data(), Some(arg));
                1
            },
        )
        .unwrap();
    linker
}

/// Runs a thread of the program: the first one, or that with this argument.
fn run(shared: &Data, arg: Option<u32>) {
    let its = shared.clone();
    let thread = std::thread::spawn(move || {
        let mut store = Store::new(&its.engine, its.clone());
        let linker = linker(&store, &its);
        store.epoch_deadline_callback(|store| {
            Ok(if store.data().killed.load(Ordering::SeqCst) {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Continue(1)
            })
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

impl Plain {
    pub fn new() -> Self {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .wasm_threads(true)
            .shared_memory(true);
        Plain {
            engine: Engine::new(&config).unwrap(),
            modules: HashMap::new(),
            idle: Vec::new(),
            blocked: Vec::new(),
        }
    }

    fn module(&mut self, wat: &str) -> Module {
        let engine = &self.engine;
        self.modules
            .entry(wat.to_owned())
            .or_insert_with(|| Module::new(engine, wat).unwrap())
            .clone()
    }

    fn shared(&mut self, wat: &str) -> Arc<Shared> {
        Arc::new(Shared {
            killed: AtomicBool::new(false),
            cancel: eventfd(),
            memory: SharedMemory::new(&self.engine, MemoryType::shared(1, 1)).unwrap(),
            threads: Mutex::default(),
            module: self.module(wat),
            engine: self.engine.clone(),
        })
    }

    /// From the interruption until all threads are joined, in nanoseconds. `armed` is called before the interruption.
    pub fn stop(
        &mut self,
        (busy, waiting, reading): (u32, u32, u32),
        epoch_alone: bool,
        armed: impl FnOnce(),
    ) -> f64 {
        let shared = self.shared(&guests::crowd(busy, waiting, reading));
        run(&shared, None);
        MARKS.wait(busy + waiting + reading);
        settle();
        armed();
        let start = Instant::now();
        shared.interrupt(epoch_alone);
        shared.join();
        start.elapsed().as_nanos() as f64
    }

    /// A tiny program, instantiated and called, on a thread of its own or on this one, in nanoseconds.
    pub fn spawn(&mut self, wat: &str, own_thread: bool) -> f64 {
        let module = self.module(wat);
        let mut linker = Linker::<()>::new(&self.engine);
        let engine = self.engine.clone();
        let imports = module.imports().len() > 0;
        let start = Instant::now();
        let mut whole = move || {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            if imports {
                let memory = SharedMemory::new(&engine, MemoryType::shared(1, 1)).unwrap();
                linker.define(&store, "env", "memory", memory).unwrap();
            }
            let instance = linker.instantiate(&mut store, &module).unwrap();
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
            start.unwrap().call(&mut store, ()).unwrap();
        };
        if own_thread {
            std::thread::spawn(whole).join().unwrap();
        } else {
            whole();
        }
        start.elapsed().as_nanos() as f64
    }

    /// A call of a host function in Rust that does nothing, in nanoseconds.
    pub fn hostcall(&mut self) -> f64 {
        const CALLS: u32 = 100_000;
        let module = self.module(&guests::caller(CALLS));
        let mut linker = Linker::<u64>::new(&self.engine);
        linker
            .func_wrap("host", "nop", |mut caller: Caller<'_, u64>| {
                *black_box(caller.data_mut()) += 1;
            })
            .unwrap();
        let mut store = Store::new(&self.engine, 0);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
        let (start, begin) = (start.unwrap(), Instant::now());
        start.call(&mut store, ()).unwrap();
        let took = begin.elapsed();
        assert_eq!(*store.data(), u64::from(CALLS));
        took.as_nanos() as f64 / f64::from(CALLS)
    }

    /// Has so many instances that do nothing and have no thread.
    pub fn idle(&mut self, n: usize) {
        let module = self.module(guests::READER);
        let mut linker = Linker::<()>::new(&self.engine);
        linker.func_wrap("host", "mark", || {}).unwrap();
        linker.func_wrap("host", "read", || {}).unwrap();
        let ready = linker.instantiate_pre(&module).unwrap();
        self.idle.truncate(n);
        while self.idle.len() < n {
            let mut store = Store::new(&self.engine, ());
            let instance = ready.instantiate(&mut store).unwrap();
            self.idle.push((store, instance));
        }
    }

    /// Has so many programs that are blocked in a read, each on a thread of its own.
    pub fn blocked(&mut self, n: usize) {
        while self.blocked.len() < n {
            let shared = self.shared(guests::READER);
            run(&shared, None);
            MARKS.wait(1);
            self.blocked.push(shared);
        }
        for shared in self.blocked.drain(n..) {
            shared.interrupt(false);
            shared.join();
        }
    }
}
