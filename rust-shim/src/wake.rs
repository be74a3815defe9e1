//! Wakes the threads that stops have claimed, a little later and in one go.
//!
//! A claimed thread was counted out while it slept, and nobody waits for it; but waking it costs whoever does it tens of
//! microseconds where the sleeper's processor is idle, several times the rest of a stop. So a stop leaves its domain here,
//! sets a timer and goes on. The timer's interrupt wakes this module's one thread, which wakes all that has come together
//! by then: a host that ends a thousand programs pays for it once. It sleeps without a timeout while there is nothing.
//!
//! Who needs one of these threads before does not wait for the timer: see `Pool::run`.

use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::faults::{self, Point};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How much later: beyond the next tick of Linux's clock, which a processor that runs a stop has coming (every 4 ms, as
/// kernels are mostly configured). To set a timer that is due before that means to set the hardware's, which in a virtual
/// machine is the hypervisor's to do, and takes several times as long.
const LATER_NS: i64 = 5_000_000;

/// The same where somebody waits for the threads, or many have come together: longer than the rest of a stop takes.
const SOON_NS: i64 = 100_000;

/// How many threads are many: programs that are started meanwhile get others, which the caches do not know.
const MANY: usize = 16;

/// The waker of one engine. Its timer and thread are made when first needed.
#[derive(Debug, Default)]
pub struct Waker {
    shared: Arc<Shared>,
    /// Guarded by the mutex.
    running: Mutex<Is>,
}

#[derive(Debug, Default)]
enum Is {
    #[default]
    Idle,
    Running(Running),
    Closed,
}

#[derive(Debug)]
struct Running {
    timer: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

/// What the thread and its users share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

/// Guarded by `Shared::state`.
#[derive(Debug, Default)]
struct State {
    domains: Vec<Arc<Domain>>,
    /// How many threads of theirs were claimed.
    threads: usize,
    /// How far away the timer was set for them.
    within_ns: i64,
    closing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waker {
    /// Wakes what is left to be woken.
    pub fn wake_now(&self) {
        self.shared.wake();
    }

    /// Wakes the claimed threads of a domain later, of which there are so many, or soon if somebody waits for them. It does
    /// not block; without a timer or a thread to be had, and after `close`, it wakes them here and now.
    pub fn wake_later(&self, domain: Arc<Domain>, threads: usize, soon: bool) {
        let mut running = lock(&self.running);
        if let Is::Idle = *running
            && let Ok(it) = self.shared.start()
        {
            *running = Is::Running(it);
        }
        if let Is::Running(it) = &*running {
            let mut state = lock(&self.shared.state);
            state.domains.push(domain);
            state.threads += threads;
            let ns = match soon || state.threads >= MANY {
                true => SOON_NS,
                false => LATER_NS,
            };
            if state.domains.len() == 1 || ns < state.within_ns {
                state.within_ns = ns;
                set(&it.timer, ns);
            }
            return;
        }
        drop(running);
        domain.wake_claimed();
    }

    /// Wakes what is left to be woken, ends the thread and waits for it. A stop may still be about to come here.
    pub fn close(&self) {
        let was = std::mem::replace(&mut *lock(&self.running), Is::Closed);
        if let Is::Running(Running { timer, thread }) = was {
            lock(&self.shared.state).closing = true;
            set(&timer, 1);
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn start(self: &Arc<Self>) -> Result<Running> {
        if faults::check_os(Point::WakerTimer, libc::EMFILE) {
            return Err(Error::os("no timer to be had"));
        }
        // SAFETY: a plain system call; the descriptor that it answers is owned by nobody else.
        let timer = unsafe {
            match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) {
                -1 => return Err(Error::os("no timer to be had")),
                fd => Arc::new(OwnedFd::from_raw_fd(fd)),
            }
        };
        if faults::check_os(Point::WakerNew, libc::EAGAIN) {
            return Err(Error::os("no thread to be had"));
        }
        let (shared, its_timer) = (self.clone(), timer.clone());
        let thread = std::thread::Builder::new()
            .name("lindshim-wake".into())
            .stack_size(128 << 10)
            .spawn(move || shared.run(&its_timer))
            .map_err(|_| Error::os("no thread to be had"))?;
        Ok(Running { timer, thread })
    }

    fn run(&self, timer: &OwnedFd) {
        loop {
            expire(timer);
            if self.wake() {
                return;
            }
        }
    }

    /// Wakes what is left to be woken. Whether the waker is being closed.
    fn wake(&self) -> bool {
        let (domains, closing) = {
            let mut state = lock(&self.state);
            state.threads = 0;
            (std::mem::take(&mut state.domains), state.closing)
        };
        faults::late(Point::Wake);
        for domain in &domains {
            domain.wake_claimed();
        }
        closing
    }
}

/// Lets the timer expire once, in this many nanoseconds.
fn set(timer: &OwnedFd, ns: i64) {
    let none = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at = libc::itimerspec {
        it_interval: none,
        it_value: libc::timespec {
            tv_sec: 0,
            tv_nsec: ns as libc::c_long,
        },
    };
    // SAFETY: the time is valid and lives through the call, which cannot fail then.
    unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const at, std::ptr::null_mut()) };
}

/// Blocks until the timer has expired.
fn expire(timer: &OwnedFd) {
    let mut times = 0_u64;
    loop {
        // SAFETY: writes eight bytes into `times`.
        let read = unsafe { libc::read(timer.as_raw_fd(), (&raw mut times).cast(), 8) };
        if read == 8 {
            return;
        }
        // A signal of the host's own runtime; the descriptor is open and a timer's, so that nothing else comes.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Callbacks, Engine, Settings};
    use crate::ffi::types::DomainConfig;
    use crate::module::Module;

    fn engine() -> Arc<Engine> {
        Engine::new(Settings {
            max_threads: 1,
            max_idle_threads: 1,
            stack_bytes: 4 << 20,
            wasm_stack_bytes: 1 << 20,
            max_call_depth: 1,
            cache_dir: None,
            callbacks: Callbacks {
                host_call: None,
                thread_end: None,
                quiescent: None,
                trace: None,
                thread_main: None,
            },
        })
        .unwrap()
    }

    fn domain(engine: &Arc<Engine>) -> Arc<Domain> {
        let module = Module::load(engine, b"(module)").unwrap();
        let config = DomainConfig {
            struct_size: size_of::<DomainConfig>() as u32,
            reserved: 0,
            user: 0,
            max_memory_bytes: 0,
            max_threads: 0,
            handlers: std::ptr::null(),
            cage: 0,
            grate_grace_ns: 0,
        };
        Domain::new(&module, &config).unwrap()
    }

    #[test]
    fn what_comes_after_the_end_brings_nothing_back() {
        let engine = engine();
        let domain = domain(&engine);
        let waker = Waker::default();
        waker.close();
        waker.wake_later(domain.clone(), 1, false);
        waker.close();
        assert!(matches!(*lock(&waker.running), Is::Closed));
        assert!(lock(&waker.shared.state).domains.is_empty());

        let waker = Waker::default();
        waker.wake_later(domain, 1, false);
        assert!(matches!(*lock(&waker.running), Is::Running(_)));
        waker.close();
        assert!(lock(&waker.shared.state).domains.is_empty());
    }

    #[test]
    fn the_timer_is_moved_for_those_that_are_not_to_wait() {
        let engine = engine();
        let domain = domain(&engine);
        let waker = Waker::default();
        let within = || lock(&waker.shared.state).within_ns;
        let wake = |threads, soon| waker.wake_later(domain.clone(), threads, soon);
        wake(MANY - 1, false);
        assert_eq!(within(), LATER_NS);
        // Again if the timer expired between the two calls.
        let add_up = || {
            waker.wake_now();
            wake(MANY - 1, false);
            wake(1, false);
            within() == SOON_NS
        };
        assert!((0..1000).any(|_| add_up()), "there are many");
        waker.wake_now();
        assert!(lock(&waker.shared.state).domains.is_empty());
        wake(1, false);
        assert_eq!(within(), LATER_NS, "there are few again");
        wake(1, true);
        assert_eq!(within(), SOON_NS, "somebody waits");
        waker.close();
    }
}
