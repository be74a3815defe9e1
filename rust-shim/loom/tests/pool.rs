//! The pool: each job that it took runs once, on a thread of its own, and it is closed when every thread is gone.

use lindshim_loom::mutation::Mutation;
use lindshim_loom::pool::{Asker, Pool};
use lindshim_loom::thread::Job;
use lindshim_loom::{check, finds};
use loom::sync::atomic::AtomicBool;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Wants a thread whatever happens. Nobody sleeps here.
struct Keen;

impl Asker for Keen {
    fn wake(&self) {}

    fn gave_up(&self) -> bool {
        false
    }
}

/// Wants one until it is told otherwise.
struct Fickle(AtomicBool);

impl Asker for Fickle {
    fn wake(&self) {}

    fn gave_up(&self) -> bool {
        self.0.load(SeqCst)
    }
}

fn job(pool: &Arc<Pool>, ran: &Arc<AtomicUsize>) -> Job {
    let (pool, ran) = (pool.clone(), ran.clone());
    Job(Box::new(move || {
        pool.comes_back();
        ran.fetch_add(1, SeqCst);
    }))
}

fn run(pool: &Arc<Pool>, ran: &Arc<AtomicUsize>) -> usize {
    pool.run(job(pool, ran), &Keen).is_ok().into()
}

/// The same on the calling thread.
fn run_here(pool: &Arc<Pool>, ran: &Arc<AtomicUsize>) -> usize {
    let admitted = pool.admit(&Keen).is_ok();
    if admitted {
        pool.run_here(job(pool, ran));
    }
    admitted.into()
}

/// The one or the other on a thread of its own.
fn apart(
    run: fn(&Arc<Pool>, &Arc<AtomicUsize>) -> usize,
    pool: &Arc<Pool>,
    ran: &Arc<AtomicUsize>,
) -> thread::JoinHandle<usize> {
    let (pool, ran) = (pool.clone(), ran.clone());
    thread::spawn(move || run(&pool, &ran))
}

/// The second job finds the first one's thread idle, or gets its own.
#[test]
fn two_jobs_and_the_end() {
    check(3, || {
        let (pool, ran) = (Pool::new(2, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let taken = run(&pool, &ran) + run(&pool, &ran);
        pool.close();
        assert_eq!(taken, 2);
        assert_eq!(ran.load(SeqCst), 2, "each job runs once");
        assert_eq!(pool.counts(), (0, 0));
        assert_eq!(run(&pool, &ran), 0, "a closed pool takes none");
    });
}

/// A job comes while the pool is being closed: it is refused, or runs before the pool is gone.
#[test]
fn a_job_and_the_end() {
    check(3, || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let mut taken = run(&pool, &ran);
        let other = apart(run, &pool, &ran);
        pool.close();
        let seen = ran.load(SeqCst);
        taken += other.join().unwrap();
        assert_eq!(seen, taken, "what was taken has run when the pool is gone");
        assert_eq!(ran.load(SeqCst), taken);
    });
}

/// The host runs a job on a thread of its own while the pool is being closed: the same holds.
#[test]
fn a_job_of_the_hosts_and_the_end() {
    check(3, || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let other = apart(run_here, &pool, &ran);
        pool.close();
        let seen = ran.load(SeqCst);
        let taken = other.join().unwrap();
        assert_eq!(seen, taken, "what was taken has run when the pool is gone");
        assert_eq!(pool.counts(), (0, 0));
    });
}

/// There is room for one job: two threads want it.
#[test]
fn a_job_of_the_hosts_counts() {
    check(3, || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let other = apart(run_here, &pool, &ran);
        let taken = run(&pool, &ran) + other.join().unwrap();
        pool.close();
        assert!(taken >= 1);
        assert_eq!(ran.load(SeqCst), taken);
    });
}

/// There is room for one job, and `begin` has given it away: what comes once that job has left gets it. (Time stands still
/// here: nobody is let go by the deadline.)
fn room(begin: fn(&Arc<Pool>, Job) -> Option<thread::JoinHandle<()>>) {
    check(3, move || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let has_left = Arc::new(AtomicBool::new(false)); // loom's, so that who has seen it has seen what was before
        let (at, its) = (pool.clone(), (ran.clone(), has_left.clone()));
        let leaves = Job(Box::new(move || {
            at.comes_back();
            its.0.fetch_add(1, SeqCst);
            its.1.store(true, SeqCst);
        }));
        let other = begin(&pool, leaves);
        let left = has_left.load(SeqCst);
        let taken = run(&pool, &ran);
        assert!(taken == 1 || !left, "there was no room after all");
        if let Some(other) = other {
            other.join().unwrap();
        }
        pool.close();
        assert_eq!(ran.load(SeqCst), 1 + taken);
        assert_eq!(pool.counts(), (0, 0));
    });
}

#[test]
fn room_on_the_pools_thread() {
    room(|pool, job| {
        assert!(pool.run(job, &Keen).is_ok());
        None
    });
}

#[test]
fn room_on_the_hosts_thread() {
    room(|pool, job| {
        assert!(pool.admit(&Keen).is_ok());
        let pool = pool.clone();
        Some(thread::spawn(move || pool.run_here(job)))
    });
}

/// A job that has left wants room for another, and is in the way itself: it does not wait for itself.
#[test]
fn no_room_beside_oneself() {
    check(3, || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        let inside = pool.clone();
        let selfish = Job(Box::new(move || {
            inside.comes_back();
            assert!(inside.admit(&Keen).is_err());
        }));
        assert!(pool.run(selfish, &Keen).is_ok());
        let refused = pool.run(job(&pool, &ran), &Keen).is_err();
        pool.close();
        assert_eq!(ran.load(SeqCst), usize::from(!refused));
    });
}

/// Who waits for a thread that does not come back, and gives up, waits no longer.
#[test]
fn an_asker_gives_up() {
    check(3, || {
        let (pool, ran) = (Pool::new(1, 1, 0, None), Arc::new(AtomicUsize::new(0)));
        assert!(pool.admit(&Keen).is_ok());
        pool.one_will_come_back(); // but is held up
        let asker = Arc::new(Fickle(AtomicBool::new(false)));
        let (its, at) = (asker.clone(), pool.clone());
        let other = thread::spawn(move || {
            its.0.store(true, SeqCst);
            at.shake();
        });
        assert!(pool.run(job(&pool, &ran), &*asker).is_err());
        other.join().unwrap();
    });
}

#[test]
fn loom_finds_what_is_wrong_with_a_pool() {
    finds(Mutation::IdleUnchecked, "two_jobs_and_the_end");
    finds(Mutation::IdleKept, "two_jobs_and_the_end");
    finds(Mutation::EmptyUntold, "two_jobs_and_the_end");
    finds(Mutation::EmptyUntold, "a_job_of_the_hosts_and_the_end");
    finds(Mutation::RoomUntold, "room_on_the_pools_thread");
    finds(Mutation::RoomUntold, "room_on_the_hosts_thread");
    finds(Mutation::ShakeUntold, "an_asker_gives_up");
}
