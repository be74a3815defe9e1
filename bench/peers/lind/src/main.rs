//! A contestant of `make bench`: the tables of descriptors and handlers of a checkout of Lind-Project/lind-wasm, in its default
//! configuration, built with all optimizations. What is timed is the named operation alone. It answers requests as package
//! drive of the Go module in `bench` has them: lines of words, the last one the number of samples, each answered by a line of
//! JSON. A sample is the nanoseconds of one operation, over some ten milliseconds.
//!
//! | request | samples |
//! | --- | --- |
//! | `translate THREADS` | descriptors of one cage looked up by so many threads: wall time by operations of all |
//! | `open LOWER` | open and close, with so many lower descriptors in use |
//! | `init` | the empty table of a new cage |
//! | `fork N`, `exit N` | a cage with N descriptors; at its exit each is the last of its kind |
//! | `exec N` | the same of an exec that closes all of them |
//! | `lookup CAGES THREADS` | handlers looked up, of so many cages in turn, by so many threads |
//! | `register` | a handler for each of 1,024 calls in turn, over the one that is there |
//! | `copy` | a table of 256 handlers, to a cage that has none |

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use threei::handler_table as handlers;

/// How long a sample takes, about.
const SAMPLE: Duration = Duration::from_millis(10);

/// Cages whose numbers nothing else uses.
const FIRST: u64 = 1 << 20;

#[derive(Default)]
struct Driver {
    next: u64,
}

impl Driver {
    /// A cage that was never there.
    fn cage(&mut self) -> u64 {
        self.next += 1;
        FIRST + self.next
    }

    /// Sixteen cages that were never there, again and again: that one number is new and another is not is no part of what is
    /// timed.
    fn again(&mut self) -> impl FnMut() -> u64 {
        let all: [u64; 16] = std::array::from_fn(|_| self.cage());
        let mut i = 0;
        move || {
            i += 1;
            all[i % all.len()]
        }
    }

    /// A cage with `n` descriptors, each of an underfd of its own.
    fn filled(&mut self, n: u64) -> u64 {
        let cage = self.cage();
        fdtables::init_empty_cage(cage);
        (0..n).for_each(|i| _ = open(cage, cage << 20 | i));
        cage
    }

    fn answer(&mut self, words: &[&str]) -> Result<Vec<f64>, String> {
        let (words, n) = words.split_at(words.len().saturating_sub(1));
        let n = number(n.first().copied())?;
        let samples = |sample: &mut dyn FnMut() -> f64| (0..n).map(|_| sample()).collect();
        match *words {
            ["translate", threads] => {
                let threads = number(Some(threads))?;
                let cage = self.filled(64);
                let all = samples(&mut || {
                    crowd(threads, |i| {
                        let entry = fdtables::translate_virtual_fd(cage, i & 63).unwrap();
                        black_box(entry.underfd);
                    })
                });
                remove(cage);
                Ok(all)
            }
            ["open", lower] => {
                let cage = self.filled(number(Some(lower))?);
                let all = samples(&mut || {
                    crowd(1, |_| {
                        let fd = open(cage, 5000);
                        fdtables::close_virtualfd(cage, fd).unwrap();
                    })
                });
                remove(cage);
                Ok(all)
            }
            ["init"] => Ok(samples(&mut || {
                batches(self.again(), |cage| fdtables::init_empty_cage(cage), remove)
            })),
            ["fork", fds] => {
                let source = self.filled(number(Some(fds))?);
                let all = samples(&mut || {
                    let op = |copy| fdtables::copy_fdtable_for_cage(source, copy).unwrap();
                    batches(self.again(), op, remove)
                });
                remove(source);
                Ok(all)
            }
            ["exit", fds] => {
                let fds = number(Some(fds))?;
                Ok(samples(&mut || {
                    batches(|| self.filled(fds), remove, |_| ())
                }))
            }
            ["exec", fds] => {
                let fds = number(Some(fds))?;
                Ok(samples(&mut || {
                    let make = || {
                        let cage = self.filled(fds);
                        (0..fds).for_each(|fd| fdtables::set_cloexec(cage, fd, true).unwrap());
                        cage
                    };
                    batches(make, |cage| fdtables::empty_fds_for_exec(cage), remove)
                }))
            }
            ["lookup", cages, threads] => {
                let (cages, threads) = (number::<u64>(Some(cages))?, number(Some(threads))?);
                let first = FIRST << 1;
                (0..cages).for_each(|i| register(first + i, 39, 7));
                let all = samples(&mut || {
                    crowd(threads, |i| {
                        let cage = black_box(first + i % cages);
                        black_box(handlers::_get_handler(cage, 39, cage).unwrap());
                    })
                });
                (0..cages).for_each(|i| handlers::_rm_cage_from_handler(first + i));
                Ok(all)
            }
            ["register"] => {
                let cage = self.cage();
                let all = samples(&mut || crowd(1, |i| register(cage, i % 1024, i & 0xffff)));
                handlers::_rm_cage_from_handler(cage);
                Ok(all)
            }
            ["copy"] => {
                let source = self.cage();
                (0..256).for_each(|i| register(source, i, i));
                let all = samples(&mut || {
                    let op = |copy| {
                        assert_eq!(handlers::copy_handler_table_to_cage_impl(source, copy), 0);
                    };
                    batches(self.again(), op, handlers::_rm_cage_from_handler)
                });
                handlers::_rm_cage_from_handler(source);
                Ok(all)
            }
            _ => Err(format!("no such request: {words:?}")),
        }
    }
}

fn open(cage: u64, underfd: u64) -> u64 {
    fdtables::get_unused_virtual_fd(cage, 0, underfd, false, 0).unwrap()
}

fn register(cage: u64, call: u64, function: u64) {
    assert_eq!(handlers::register_handler_impl(cage, call, 2, function), 0);
}

/// How long one operation takes where so many threads make them at once, for about a sample's time: the wall time by the
/// operations of all.
fn crowd(threads: u64, op: impl Fn(u64) + Sync) -> f64 {
    // How many make a sample is found out before.
    let mut each = 64;
    loop {
        let start = Instant::now();
        if threads == 1 {
            (0..each).for_each(&op);
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..each).for_each(&op));
                }
            });
        }
        let took = start.elapsed();
        if took >= SAMPLE / 2 {
            return took.as_nanos() as f64 / (each * threads) as f64;
        }
        each *= 2;
    }
}

/// How long `op` takes on what `make` makes, 16 at a time. What `make` and, after it, `undo` take is left out.
fn batches(mut make: impl FnMut() -> u64, op: impl Fn(u64), undo: impl Fn(u64)) -> f64 {
    let (mut took, mut ops) = (Duration::ZERO, 0);
    while took < SAMPLE {
        let cages: [u64; 16] = std::array::from_fn(|_| make());
        let start = Instant::now();
        cages.iter().for_each(|&cage| op(cage));
        took += start.elapsed();
        ops += cages.len();
        cages.iter().for_each(|&cage| undo(cage));
    }
    took.as_nanos() as f64 / ops as f64
}

fn remove(cage: u64) {
    fdtables::remove_cage_from_fdtable(cage);
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Result<T, String> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{word:?} is no number"))
}

fn main() {
    let mut driver = Driver::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let reply = match driver.answer(&line.split_whitespace().collect::<Vec<_>>()) {
            Ok(ns) => format!(r#"{{"ns":{ns:?}}}"#),
            Err(err) => format!(r#"{{"error":{err:?}}}"#),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{reply}").and_then(|()| out.flush()).unwrap();
    }
}
