//! An OS thread that is inside several domains at once: a guest thread that is inside a grate's worker, which may be
//! inside a further one.
//!
//! For each domain that it has left by a call, and will come back to, there is a [`Frame`] on its native stack, linked to
//! the one before. The thread counts in the gates of all of them. When one of these domains stops, the innermost worker
//! goes on for the domain's grace, so that the grate can finish what it was about. What blocks in it is interrupted once
//! ([`Frame::interrupted`]); when the grace is over the worker is trapped ([`Frame::expired`]). Both are for the thread
//! itself to find out: whoever stops a domain only wakes it, and a thread that was woken for nothing sleeps on.

use crate::domain::Domain;
use crate::faults::{self, Point};
use crate::slot::Slot;
use std::cell::Cell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is kept of an OS thread that runs guests. It is used again for other threads but never given back, so that those
/// who stop a domain may hold on to it.
#[derive(Debug)]
pub struct OsThread {
    /// The lowest address of its native stack. Written before the record is handed out.
    stack_low: AtomicUsize,
    /// The innermost frame that is in a host call. Owned by the thread.
    frame: Cell<*const Frame>,
    /// Set by whoever stops a domain of one of its frames, or ends a grace, before anything else that makes the thread
    /// look; cleared by the thread. So that as long as nothing happens it need not look at every frame.
    attention: AtomicBool,
    /// The place of the worker that it had last, in whatever grate. Owned by the thread.
    last_place: Cell<u32>,
    /// Readable when one of its frames' domains has begun to stop, or its grace is over, until the thread has taken
    /// notice. Guarded by the mutex; made when first needed.
    interrupt: Mutex<Option<OwnedFd>>,
}

// SAFETY: the cells are the thread's own; the others are made for sharing.
unsafe impl Sync for OsThread {}

/// Records that no thread uses. Guarded by the mutex.
static UNUSED: Mutex<Vec<&'static OsThread>> = Mutex::new(Vec::new());

/// Gives the record back when the thread ends.
struct Held(&'static OsThread);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.frame.set(null());
        self.0.rest();
        UNUSED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.0);
    }
}

thread_local! {
    static CURRENT: Held = Held(OsThread::take());
}

impl OsThread {
    /// The calling thread's.
    pub fn current() -> &'static OsThread {
        CURRENT.with(|held| held.0)
    }

    fn take() -> &'static OsThread {
        let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let it = unused.unwrap_or_else(|| {
            Box::leak(Box::new(OsThread {
                stack_low: AtomicUsize::new(0),
                frame: Cell::new(null()),
                attention: AtomicBool::new(false),
                last_place: Cell::new(0),
                interrupt: Mutex::new(None),
            }))
        });
        it.stack_low.store(stack_low(), Ordering::Relaxed);
        it
    }

    /// The thread runs no guest for now, and may never again.
    pub fn rest(&self) {
        *self.interrupt() = None; // a descriptor is worth more than the making of another
        self.attention.store(false, Ordering::SeqCst);
    }

    /// Whether there are `bytes` left on the calling thread's stack, which is this one's.
    #[inline]
    pub fn has_stack(&self, bytes: usize) -> bool {
        let here = 0_u8;
        let left =
            (&raw const here as usize).saturating_sub(self.stack_low.load(Ordering::Relaxed));
        left >= bytes
    }

    /// The innermost frame that is in a host call.
    pub fn frame(&self) -> *const Frame {
        self.frame.get()
    }

    /// The thread is in a host call from this frame; answers the frame that was there before.
    #[inline]
    pub fn set_frame(&self, frame: *const Frame) -> *const Frame {
        self.frame.replace(frame)
    }

    /// The place of the worker that it had last: in the same grate that worker's memory is near.
    #[inline]
    pub fn last_place(&self) -> u32 {
        self.last_place.get()
    }

    /// It has the worker in this place.
    #[inline]
    pub fn set_last_place(&self, place: u32) {
        self.last_place.set(place);
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor that wakes the thread; -1 if there is none to be had.
    pub fn interrupt_fd(&self) -> RawFd {
        let mut interrupt = self.interrupt();
        if interrupt.is_none() {
            if faults::check_os(Point::InterruptToken, libc::EMFILE) {
                return -1;
            }
            // SAFETY: a plain system call; the descriptor that it answers is owned by nobody else.
            *interrupt = unsafe {
                match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                    -1 => None,
                    fd => Some(OwnedFd::from_raw_fd(fd)),
                }
            };
        }
        interrupt.as_ref().map_or(-1, |fd| fd.as_raw_fd())
    }

    /// Makes the thread look at its frames; wakes it, if it waits for descriptors.
    ///
    /// Who calls this has changed what the thread will look at before: the thread looks again after it has asked for the
    /// descriptor, and the mutex orders the two.
    pub fn wake(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if let Some(fd) = &*self.interrupt() {
            let one = 1_u64;
            // SAFETY: writes eight bytes of `one` to a descriptor that is open; it does not block.
            unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    /// The thread has looked at its frames: the descriptor is no longer readable.
    pub fn take_notice(&self) {
        if let Some(fd) = &*self.interrupt() {
            let mut times = 0_u64;
            // SAFETY: reads eight bytes into `times`; it does not block.
            unsafe { libc::read(fd.as_raw_fd(), (&raw mut times).cast(), 8) };
        }
    }
}

/// The lowest address of the calling thread's stack, above its guard.
fn stack_low() -> usize {
    // SAFETY: the attributes are initialized by the first call and destroyed by the last.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return usize::MAX; // then there is no stack for a worker to be had
        }
        let (mut low, mut bytes, mut guard) = (null_mut(), 0, 0);
        libc::pthread_attr_getstack(&attributes, &mut low, &mut bytes);
        libc::pthread_attr_getguardsize(&attributes, &mut guard);
        libc::pthread_attr_destroy(&mut attributes);
        low as usize + guard
    }
}

/// Where the frames of a thread end, for what the thread runs in.
#[derive(Clone, Copy, Debug)]
pub struct Outer(pub *const Frame);

// SAFETY: it is followed on the thread whose frames these are, and null while a worker is not on any.
unsafe impl Send for Outer {}

/// A domain that the thread has left by a call.
#[derive(Debug)]
pub struct Frame {
    /// The domain. It cannot be deleted while the thread counts as inside.
    domain: *const Domain,
    /// What is known of the thread there.
    slot: *const Slot,
    /// The host's word for the thread there, wherever that is kept during the call.
    thread_user: *const u64,
    /// The host call that the frame is in, if it is in one and not in a call of the guest's.
    import: Option<u32>,
    /// The frame before.
    outer: *const Frame,
    /// How many workers the thread was inside.
    depth: u32,
    /// Whether the thread was told that the domain is stopping.
    told: Cell<bool>,
    /// Whether the thread is to end when it comes back here.
    quits: Cell<bool>,
}

impl Frame {
    /// A frame, to be linked by what is called.
    ///
    /// # Safety
    ///
    /// All that is given outlives the frame.
    #[inline]
    pub unsafe fn new(
        domain: *const Domain,
        slot: *const Slot,
        thread_user: *const u64,
        import: Option<u32>,
        outer: *const Frame,
        depth: u32,
    ) -> Self {
        Frame {
            domain,
            slot,
            thread_user,
            import,
            outer,
            depth,
            told: Cell::new(false),
            quits: Cell::new(false),
        }
    }

    /// The thread is to end in this domain when it comes back here: who serves it has made the call that does that.
    pub fn quit(&self) {
        self.quits.set(true);
    }

    /// Whether it is.
    #[inline]
    pub fn quits(&self) -> bool {
        self.quits.get()
    }

    /// The domain.
    #[inline]
    pub fn domain(&self) -> &Domain {
        // SAFETY: the contract of `new`.
        unsafe { &*self.domain }
    }

    /// What is known of the thread in the domain.
    #[inline]
    pub fn slot(&self) -> &Slot {
        // SAFETY: the contract of `new`.
        unsafe { &*self.slot }
    }

    /// The host's word for the thread in the domain.
    pub fn thread_user(&self) -> u64 {
        // SAFETY: the contract of `new`. Only the thread itself writes it.
        unsafe { self.thread_user.read() }
    }

    /// The host call that the frame is in.
    #[inline]
    pub fn import(&self) -> Option<u32> {
        self.import
    }

    /// How many workers the thread was inside.
    #[inline]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The frame before.
    #[inline]
    pub fn outer(&self) -> Option<&Frame> {
        // SAFETY: an outer frame outlives the inner one.
        unsafe { self.outer.as_ref() }
    }

    /// This frame and those before.
    pub fn chain(&self) -> impl Iterator<Item = &Frame> {
        std::iter::successors(Some(self), |frame| frame.outer())
    }

    /// [`Frame::expired`], at no cost as long as nothing has happened to any of the frames. `os` is the calling thread's.
    #[inline]
    pub fn has_expired(&self, os: &OsThread) -> bool {
        os.attention.load(Ordering::SeqCst) && self.look(os)
    }

    #[cold]
    fn look(&self, os: &OsThread) -> bool {
        // In this order: what happens from here on sets it again.
        os.attention.store(false, Ordering::SeqCst);
        if self.chain().any(|frame| frame.domain().gate.is_closed()) {
            os.attention.store(true, Ordering::SeqCst); // there is a grace that will be over
        } else {
            os.take_notice(); // it was about a frame that is no more
        }
        self.expired()
    }

    /// Whether the worker that was called from here has to be trapped: the grace of one of the domains is over.
    pub fn expired(&self) -> bool {
        self.chain().any(|frame| frame.domain().is_expired())
    }

    /// Whether one of the domains has begun to stop since this was last asked: what the thread blocks in is to be
    /// interrupted, once.
    pub fn interrupted(&self) -> bool {
        let mut news = false;
        for frame in self.chain() {
            if !frame.told.get() && frame.domain().gate.is_closed() {
                frame.told.set(true);
                news = true;
            }
        }
        if news {
            OsThread::current().take_notice();
        }
        news
    }

    /// The thread waits at `key`: says so in all frames, for whoever stops one of their domains. 0: no longer.
    pub fn publish_wait(&self, key: usize) {
        for frame in self.chain() {
            frame.slot().wait_key.store(key, Ordering::SeqCst);
        }
    }

    /// A worker of the thread may have missed an epoch (see `sweep`), or is known not to have.
    pub fn publish_rearmed(&self, rearmed: bool) {
        for frame in self.chain() {
            frame.slot().rearmed.store(rearmed, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_what_is_left_of_its_stack() {
        /// Goes down until there are less than 128 KiB left, and answers how many KiB it has gone.
        fn deep(gone: usize) -> usize {
            let room = std::hint::black_box([0_u8; 16 << 10]);
            let deepest = match OsThread::current().has_stack(128 << 10) && gone < 64 << 10 {
                true => deep(gone + 16),
                false => gone,
            };
            std::hint::black_box(&room);
            deepest
        }
        fn use_what_is_left() {
            std::hint::black_box(&[1_u8; 64 << 10]);
        }
        // The C library may give it the stack of one that has ended, which is larger.
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let thread = thread.spawn(|| {
            let gone = deep(0);
            use_what_is_left();
            gone
        });
        let gone = thread.unwrap().join().unwrap();
        assert!((300..32 << 10).contains(&gone), "{gone} KiB");
    }

    #[test]
    fn a_wake_is_seen_until_notice_is_taken() {
        let it = OsThread::current();
        let mut poll = libc::pollfd {
            fd: it.interrupt_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, which lives through the call.
        let mut ready = || unsafe { libc::poll(&mut poll, 1, 0) };
        assert_eq!(ready(), 0);
        it.wake();
        it.wake();
        assert_eq!(ready(), 1);
        it.take_notice();
        assert_eq!(ready(), 0);
    }
}
