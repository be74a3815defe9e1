//! OS threads for guest threads: made when needed, up to a limit, and kept for reuse, up to another.
//!
//! An idle thread is parked and costs no CPU. Making one and joining it costs tens of microseconds, handing a job to a
//! parked one a few, and more where the processor that is to run it has to wake up first. So a host may run a job on a
//! thread of its own instead, which the pool only counts.

use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::ThreadMainFn;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{
    Arc, Builder, Condvar, JoinHandle, Mutation, Mutex, MutexGuard, PoisonError, mutated,
    per_thread,
};
use crate::thread::Job;
use std::cell::Cell;
use std::os::raw::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long who wants a thread waits for one that is about to come back. Little holds it up but the operating system.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(1);

/// Who wants a thread, while there may be none left.
pub trait Asker {
    /// Wakes threads that have nothing left to do but to come back.
    fn wake(&self);
    /// Whether it wants none any more. Whoever makes that so calls [`Pool::shake`] then.
    fn gave_up(&self) -> bool;
}

/// The threads of one engine.
#[derive(Debug)]
pub struct Pool {
    max_threads: usize,
    max_idle: usize,
    stack_bytes: usize,
    thread_main: ThreadMainFn,
    /// How many threads are out of their domains, or never to be inside again, and have yet to come back.
    coming_back: AtomicUsize,
    /// How many wait for room.
    waiting: AtomicUsize,
    state: Mutex<State>,
    /// Signalled when `live` becomes zero and the pool is closing.
    empty: Condvar,
    /// Signalled when a thread has come back, or an asker has given up, and somebody waits for room.
    room: Condvar,
}

/// Guarded by `Pool::state`.
#[derive(Debug, Default)]
struct State {
    idle: Vec<Arc<Worker>>,
    /// The pool's threads, idle ones included, and those of the host that were counted in.
    live: usize,
    next_id: u64,
    closing: bool,
    /// Handles of the threads that live, by worker id.
    handles: std::collections::HashMap<u64, JoinHandle<()>>,
    /// Ids of threads that have nothing left to do but to end; their handles may not be there yet.
    ended: Vec<u64>,
}

impl State {
    fn is_full(&self, max_threads: usize) -> bool {
        self.live - self.idle.len() >= max_threads
    }

    /// Refuses one more thread.
    fn check(&self, max_threads: usize) -> Result<()> {
        if self.closing {
            return Err(Error::new(Status::Closed, "the engine is being deleted"));
        }
        if self.is_full(max_threads) {
            let message =
                format!("the engine already has {max_threads} threads, its limit (max_threads)");
            return Err(Error::new(Status::Limit, message));
        }
        Ok(())
    }

    /// Takes out the handles of threads that have ended.
    fn take_ended(&mut self) -> Vec<JoinHandle<()>> {
        let (handles, mut taken) = (&mut self.handles, Vec::new());
        self.ended.retain(|id| match handles.remove(id) {
            Some(handle) => {
                taken.push(handle);
                false
            }
            None => true,
        });
        taken
    }
}

/// One OS thread's mailbox.
#[derive(Debug)]
struct Worker {
    id: u64,
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug)]
enum Mail {
    None,
    Job(Job),
    End,
}

/// What a thread is to the pools.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing.
    None,
    /// It is a pool's.
    Worker,
    /// It is the host's, and runs a job.
    Host,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::None) };
}

per_thread! {
    /// Whether the job that the thread runs has left its domain, or is about to.
    static LEAVES: Cell<bool> = Cell::new(false);
}

impl Pool {
    /// A pool without threads.
    pub fn new(
        max_threads: usize,
        max_idle: usize,
        stack_bytes: usize,
        thread_main: ThreadMainFn,
    ) -> Arc<Self> {
        Arc::new(Pool {
            max_threads,
            max_idle,
            stack_bytes,
            thread_main,
            coming_back: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            empty: Condvar::new(),
            room: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads run a job, or are to, and how many wait for one.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.live - state.idle.len(), state.idle.len())
    }

    /// A thread that runs a job has been counted out of its domain in its sleep, and will come back when it is woken.
    pub fn one_will_come_back(&self) {
        self.coming_back.fetch_add(1, Ordering::SeqCst);
    }

    /// The calling thread runs a job, is about to leave its domain, and comes back.
    pub fn comes_back(&self) {
        LEAVES.with(|leaves| leaves.set(true));
        self.one_will_come_back();
    }

    /// Whether others than the calling thread are to come back.
    fn others_come_back(&self) -> bool {
        // One that was asleep may have come back before it was said that it would: then this is one less for a moment.
        let all = self.coming_back.load(Ordering::SeqCst) as isize;
        all > isize::from(LEAVES.with(Cell::get))
    }

    /// The state, in which there is room for one more thread. As long as there is none only because threads are to come back,
    /// waits for them: once those that sleep were woken, they are on their way, unless the host holds one up in a callback.
    fn with_room(&self, asker: &impl Asker) -> Result<MutexGuard<'_, State>> {
        let may_get_room = |state: &State| {
            state.is_full(self.max_threads)
                && !state.closing
                && self.others_come_back()
                && !asker.gave_up()
        };
        let mut state = self.state();
        if may_get_room(&state) {
            drop(state);
            asker.wake();
            let begin = Instant::now();
            // Before it is asked whether it gave up: see `shake`.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            state = self.state();
            while may_get_room(&state)
                && let Some(left) = COMES_BACK_WITHIN.checked_sub(begin.elapsed())
            {
                state = self
                    .room
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        state.check(self.max_threads)?;
        Ok(state)
    }

    /// An asker has given up, and need not wait for room any longer.
    #[inline]
    pub fn shake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 && !mutated(Mutation::ShakeUntold) {
            // With the lock, so that whoever has seen that it goes on waits by now.
            let _state = self.state();
            self.room.notify_all();
        }
    }

    /// Runs the job on a thread of its own. On failure the job is handed back, unrun.
    pub fn run(
        self: &Arc<Self>,
        job: Job,
        asker: &impl Asker,
    ) -> std::result::Result<(), (Job, Error)> {
        let mut state = match self.with_room(asker) {
            Ok(state) => state,
            Err(err) => return Err((job, err)),
        };
        if let Some(worker) = state.idle.pop() {
            if mutated(Mutation::IdleKept) {
                state.idle.push(worker.clone());
            }
            drop(state);
            worker.send(Mail::Job(job));
            return Ok(());
        }
        state.live += 1;
        let id = state.next_id;
        state.next_id += 1;
        let ended = state.take_ended();
        drop(state);
        for handle in ended {
            let _ = handle.join();
        }

        let worker = Arc::new(Worker {
            id,
            mail: Mutex::new(Mail::Job(job)),
            arrived: Condvar::new(),
        });
        let (pool, its_worker) = (self.clone(), worker.clone());
        let builder = Builder::new()
            .name("lindshim".into())
            .stack_size(self.stack_bytes);
        let spawned = match faults::check_os(Point::ThreadNew, libc::EAGAIN) {
            false => builder.spawn(move || pool.thread(&its_worker)),
            true => Err(std::io::Error::last_os_error()),
        };
        let mut state = self.state();
        match spawned {
            Ok(handle) => {
                state.handles.insert(id, handle);
                Ok(())
            }
            Err(err) => {
                self.one_less(&mut state);
                drop(state);
                let Mail::Job(job) = worker.take() else {
                    unreachable!("the mailbox of a thread that was never made");
                };
                let message = format!("the operating system made no thread: {err}");
                Err((job, Error::new(Status::Limit, message)))
            }
        }
    }

    /// The whole of each thread.
    fn thread(&self, worker: &Arc<Worker>) {
        let mut body = Body {
            pool: self,
            worker,
            ran: false,
        };
        if let Some(main) = self.thread_main {
            // SAFETY: the callback keeps the contract of the C ABI; what it is given outlives the call.
            unsafe { main(Body::run, (&raw mut body).cast()) };
        }
        if !body.ran {
            self.work(worker);
        }
    }

    /// What it does.
    fn work(&self, worker: &Arc<Worker>) {
        ROLE.set(Role::Worker);
        loop {
            let Mail::Job(job) = worker.wait() else {
                let mut state = self.state();
                state.ended.push(worker.id);
                self.one_less(&mut state);
                return;
            };
            perform(job);
            faults::late(Point::ThreadIdle);
            let mut state = self.state();
            self.is_back();
            let closing = state.closing && !mutated(Mutation::IdleUnchecked);
            if closing || state.idle.len() >= self.max_idle {
                state.ended.push(worker.id);
                self.one_less(&mut state);
                return;
            }
            state.idle.push(worker.clone());
            self.tell_of_room(&state);
        }
    }

    /// The calling thread has come back. The lock is held until it has made room: who waits for that sees both.
    fn is_back(&self) {
        self.coming_back.fetch_sub(1, Ordering::SeqCst);
        LEAVES.with(|leaves| leaves.set(false));
    }

    /// There is room. The state is the caller's.
    fn tell_of_room(&self, _state: &State) {
        if self.waiting.load(Ordering::SeqCst) > 0 && !mutated(Mutation::RoomUntold) {
            self.room.notify_all();
        }
    }

    fn one_less(&self, state: &mut State) {
        state.live -= 1;
        self.tell_of_room(state);
        // Who waits has said so before: see `close`. To tell nobody is a system call all the same.
        if state.live == 0 && state.closing && !mutated(Mutation::EmptyUntold) {
            self.empty.notify_all();
        }
    }

    /// Counts in a thread of the host's, which `run_here` or `dismiss` counts out.
    pub fn admit(&self, asker: &impl Asker) -> Result<()> {
        self.with_room(asker)?.live += 1;
        Ok(())
    }

    /// Counts out a thread that was counted in.
    pub fn dismiss(&self) {
        self.one_less(&mut self.state());
    }

    /// Runs the job on the calling thread, which was counted in and no longer is when this returns.
    ///
    /// Preconditions: the caller is no thread of a pool, nor runs a job already.
    pub fn run_here(&self, job: Job) {
        ROLE.set(Role::Host);
        perform(job);
        ROLE.set(Role::None);
        let mut state = self.state();
        self.is_back();
        self.one_less(&mut state);
    }

    /// Whether the calling thread runs a job of a pool's, and would wait for itself if it waited for the pool to be empty.
    pub fn is_inside() -> bool {
        ROLE.get() != Role::None
    }

    /// Whether the calling thread is a pool's.
    pub fn is_worker() -> bool {
        ROLE.get() == Role::Worker
    }

    /// Ends all idle threads and waits until every thread of the pool is gone. Running jobs are waited for.
    ///
    /// Preconditions: the caller is no thread of a pool.
    pub fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for worker in idle {
            worker.send(Mail::End);
        }
        let mut state = self.state();
        while state.live > 0 {
            state = self
                .empty
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let ended = state.take_ended();
        drop(state);
        for handle in ended {
            let _ = handle.join();
        }
    }
}

/// Runs the job. A panic in here is a bug of the shim; the job's own guards have let the domain go, so the thread is fit for
/// the next.
fn perform(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
}

/// A thread's body, for the host to call.
struct Body<'a> {
    pool: &'a Pool,
    worker: &'a Arc<Worker>,
    ran: bool,
}

impl Body<'_> {
    /// # Safety
    ///
    /// `arg` is a body that nobody else uses.
    unsafe extern "C" fn run(arg: *mut c_void) {
        // SAFETY: the caller vouches for it.
        let body = unsafe { &mut *arg.cast::<Body<'_>>() };
        if !std::mem::replace(&mut body.ran, true) {
            body.pool.work(body.worker);
        }
    }
}

impl Worker {
    fn send(&self, mail: Mail) {
        *self.mail.lock().unwrap_or_else(PoisonError::into_inner) = mail;
        self.arrived.notify_one();
    }

    fn take(&self) -> Mail {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *mail, Mail::None)
    }

    fn wait(&self) -> Mail {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *mail, Mail::None) {
                Mail::None => {
                    mail = self
                        .arrived
                        .wait(mail)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                mail => return mail,
            }
        }
    }
}
