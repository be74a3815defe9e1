//! How a guest thread waits for the host's descriptors without being inside the host: a host call that would block
//! answers what it waits for, and the shim waits in its place (see `LINDSHIM_WAIT`).
//!
//! Such a thread is parked as one in an atomic wait is, so a stop can claim it: it is counted out then and there, and
//! woken when all else is done. That takes two promises. While it is marked as parked it touches nothing of its domain,
//! and it holds no file open: it waits in epoll, which, unlike poll, has no reference to the files in its set. What the
//! host closes when the domain is quiescent is closed.
//!
//! No wake-up can be lost. The thread marks itself parked and then reads the gate; a stop closes the gate and then looks
//! for the mark. Either the thread finds the gate closed, or it is claimed. A claimed thread is woken by the domain's wake
//! token, which is in the set from the beginning, is written once, and never drained.

use crate::clock;
use crate::error::{Error, Result};
use crate::faults::{self, Point};
use crate::ffi::types::WaitFd;
use crate::gate::Gate;
use crate::slot::Slot;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How a wait for descriptors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// One of them may be ready, or cannot be waited for because it always is, or is closed by now.
    Ready,
    /// The deadline passed.
    TimedOut,
    /// The kernel refuses to wait for one of them here: the host has to wait itself.
    Refused,
    /// The domain is stopping: the thread must leave.
    Stopped,
    /// The domain has stopped, and counted this thread out: it must leave, and touch nothing of the domain.
    Claimed,
    /// The thread is a worker, and a domain that it serves has begun to stop.
    Interrupted,
    /// The thread is a worker, and the grace of a domain that it serves is over: it must leave.
    Expired,
}

/// The epoll set of one guest thread, which holds the domain's wake token and nothing else between two waits.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// A set with the wake token in it.
    pub fn new(wake: RawFd) -> Result<Self> {
        if faults::check_os(Point::PollerNew, libc::EMFILE) {
            return Err(Error::os("no epoll set to be had"));
        }
        // SAFETY: a plain system call; the descriptor that it answers is owned by nobody else.
        let set = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                -1 => return Err(Error::os("no epoll set to be had")),
                fd => Poller(OwnedFd::from_raw_fd(fd)),
            }
        };
        match set.add(wake, libc::EPOLLIN as u32) {
            0 => Ok(set),
            _ => Err(Error::os("no place in an epoll set")),
        }
    }

    /// Adds a descriptor; answers 0 or errno.
    fn add(&self, fd: RawFd, events: u32) -> i32 {
        if faults::hit(Point::PollerAdd) {
            return libc::ENOSPC;
        }
        self.control(libc::EPOLL_CTL_ADD, fd, events)
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32) -> i32 {
        let mut event = libc::epoll_event { events, u64: 0 };
        // SAFETY: the event lives through the call.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) } {
            0 => 0,
            _ => std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        }
    }

    fn remove(&self, fds: &[WaitFd]) {
        for wait in fds.iter().filter(|wait| wait.fd >= 0) {
            // It fails for one that was closed meanwhile, and is gone from the set then.
            self.control(libc::EPOLL_CTL_DEL, wait.fd, 0);
        }
    }

    /// Waits until one of `fds` is ready or `timeout_ns` have passed; negative ones never do.
    /// A thread that was claimed drops its poller: what it waited for may still be in the set.
    pub fn wait(&self, gate: &Gate, slot: &Slot, fds: &[WaitFd], timeout_ns: i64) -> Polled {
        let deadline = u64::try_from(timeout_ns)
            .ok()
            .map(|timeout| clock::now_ns().saturating_add(timeout));
        for (i, wait) in fds.iter().enumerate().filter(|(_, wait)| wait.fd >= 0) {
            let added = match self.add(wait.fd, wait.events) {
                libc::EEXIST => {
                    // Once more, to read from and to write to: the set has each descriptor once.
                    let both = fds[..=i].iter().filter(|other| other.fd == wait.fd);
                    let both = both.fold(0, |events, other| events | other.events);
                    self.control(libc::EPOLL_CTL_MOD, wait.fd, both)
                }
                added => added,
            };
            match added {
                0 => {}
                error => {
                    self.remove(&fds[..i]);
                    return match error {
                        // A regular file or a directory, which is always ready; a descriptor that was just closed.
                        libc::EPERM | libc::EBADF => Polled::Ready,
                        _ => Polled::Refused,
                    };
                }
            }
        }
        slot.park();
        faults::late(Point::PollerPark);
        let mut woken = Polled::Stopped;
        if !gate.is_closed() {
            woken = self.sleep(deadline);
        }
        faults::late(Point::PollerWake);
        if !slot.unpark() {
            return Polled::Claimed;
        }
        self.remove(fds);
        if gate.is_closed() {
            return Polled::Stopped;
        }
        woken
    }

    fn sleep(&self, deadline: Option<u64>) -> Polled {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        loop {
            let timeout = deadline.map(|deadline| {
                let left = deadline.saturating_sub(clock::now_ns());
                libc::timespec {
                    tv_sec: (left / 1_000_000_000) as libc::time_t,
                    tv_nsec: (left % 1_000_000_000) as libc::c_long,
                }
            });
            let timeout = timeout
                .as_ref()
                .map_or(std::ptr::null(), std::ptr::from_ref);
            match epoll_pwait2(self.0.as_raw_fd(), &mut event, timeout) {
                0 => return Polled::TimedOut,
                libc::EINTR => {} // a signal of the host's own runtime
                -1 => return Polled::Ready,
                _ => return Polled::Refused,
            }
        }
    }
}

/// Waits for one event; answers 0 if time ran out, -1 if there is one, and else errno.
fn epoll_pwait2(set: RawFd, event: &mut libc::epoll_event, timeout: *const libc::timespec) -> i32 {
    // SAFETY: the event and the timeout live through the call; there is no signal mask.
    let n = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            set,
            std::ptr::from_mut(event),
            1,
            timeout,
            std::ptr::null::<libc::sigset_t>(),
            0,
        )
    };
    match n {
        0 => 0,
        1.. => -1,
        _ => std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write, pipe};
    use std::os::fd::IntoRawFd;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const READ: u32 = libc::EPOLLIN as u32;

    fn event() -> Arc<OwnedFd> {
        // SAFETY: a plain system call; the descriptor that it answers is owned by nobody else.
        unsafe { Arc::new(OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK))) }
    }

    fn fire(token: &OwnedFd) {
        let one = 1_u64;
        // SAFETY: writes eight bytes of `one`.
        let wrote = unsafe { libc::write(token.as_raw_fd(), (&raw const one).cast(), 8) };
        assert_eq!(wrote, 8);
    }

    struct Case {
        gate: Gate,
        slot: Slot,
        wake: Arc<OwnedFd>,
        poller: Poller,
    }

    fn case() -> Case {
        let wake = event();
        Case {
            gate: Gate::new(),
            slot: Slot::new(1, true),
            poller: Poller::new(wake.as_raw_fd()).unwrap(),
            wake,
        }
    }

    impl Case {
        fn wait(&self, fds: &[(RawFd, u32)], timeout_ns: i64) -> Polled {
            let fds: Vec<_> = fds
                .iter()
                .map(|&(fd, events)| WaitFd { fd, events })
                .collect();
            self.poller.wait(&self.gate, &self.slot, &fds, timeout_ns)
        }
    }

    #[test]
    fn a_wait_ends_for_a_descriptor_or_for_time() {
        let case = case();
        let (mut out, mut into) = pipe().unwrap();
        let fd = out.as_raw_fd();
        let begin = Instant::now();
        assert_eq!(case.wait(&[(fd, READ)], 3_000_000), Polled::TimedOut);
        assert_eq!(case.wait(&[], 1_000_000), Polled::TimedOut);
        assert!(begin.elapsed() >= Duration::from_millis(4));
        into.write_all(b"x").unwrap();
        // Twice, since what one wait put into the set has to be gone for the next.
        assert_eq!(case.wait(&[(fd, READ)], -1), Polled::Ready);
        assert_eq!(case.wait(&[(-1, READ), (fd, READ)], -1), Polled::Ready);
        assert_eq!(out.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(case.wait(&[(fd, READ)], 0), Polled::TimedOut);
        drop(into);
        assert_eq!(case.wait(&[(fd, READ)], -1), Polled::Ready, "the end");
        assert!(!case.slot.is_parked());
    }

    #[test]
    fn a_descriptor_may_be_there_twice() {
        let case = case();
        let (_out, into) = pipe().unwrap();
        let fd = into.as_raw_fd();
        let write = libc::EPOLLOUT as u32;
        assert_eq!(case.wait(&[(fd, 0), (fd, write)], -1), Polled::Ready);
        assert_eq!(case.wait(&[(fd, write), (fd, 0)], -1), Polled::Ready);
        assert_eq!(case.wait(&[(fd, 0), (fd, 0)], 1000), Polled::TimedOut);
    }

    #[test]
    fn what_cannot_be_waited_for_is_the_hosts() {
        let case = case();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let regular = [(file.as_raw_fd(), READ)];
        assert_eq!(case.wait(&regular, -1), Polled::Ready, "always ready");
        let closed = file.into_raw_fd();
        // SAFETY: it is this test's own.
        unsafe { libc::close(closed) };
        assert_eq!(case.wait(&[(1 << 20, READ)], -1), Polled::Ready, "closed");
        let own = case.poller.0.as_raw_fd();
        assert_eq!(case.wait(&[(own, READ)], -1), Polled::Refused);
    }

    #[test]
    fn nobody_sleeps_behind_a_closed_gate() {
        let case = case();
        assert!(case.gate.close());
        assert_eq!(case.wait(&[], -1), Polled::Stopped);
        assert!(!case.slot.is_parked());
    }

    /// A claimed thread keeps no file open: what is closed while it is still in the kernel is closed for good.
    #[test]
    fn a_sleeper_holds_no_file() {
        let case = Arc::new(case());
        let (out, mut into) = pipe().unwrap();
        let fd = out.as_raw_fd();
        let sleeper = {
            let case = case.clone();
            std::thread::spawn(move || case.wait(&[(fd, READ)], -1))
        };
        while !case.slot.is_parked() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(5)); // into the kernel; the test is good without, and better with it
        assert!(case.gate.close());
        assert!(case.slot.claim());
        drop(out);
        let err = into.write_all(b"x").unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::BrokenPipe);
        fire(&case.wake);
        assert_eq!(sleeper.join().unwrap(), Polled::Claimed);
    }

    /// The race of a stop with a thread on its way to sleep or just waking, over and over.
    #[test]
    fn a_stop_never_misses_a_sleeper() {
        for round in 0..5000_u32 {
            let case = Arc::new(case());
            let (out, mut into) = pipe().unwrap();
            let fd = out.as_raw_fd();
            let sleeper = {
                let case = case.clone();
                std::thread::spawn(move || case.wait(&[(fd, READ)], -1))
            };
            for _ in 0..round % 128 * 16 {
                std::hint::spin_loop();
            }
            let written = round % 3 == 0;
            if written {
                into.write_all(b"x").unwrap();
            }
            assert!(case.gate.close());
            let claimed = case.slot.claim();
            if claimed {
                fire(&case.wake);
            }
            match sleeper.join().unwrap() {
                Polled::Claimed => assert!(claimed),
                Polled::Stopped => assert!(!claimed),
                Polled::Ready => assert!(!claimed && written),
                other => panic!("{other:?}"),
            }
        }
    }
}
