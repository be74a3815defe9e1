//! A contestant of `make bench`: plain Rust on Wasmtime, the least that could work, and the shim itself in the same process.
//! It answers requests as package drive of the Go module in `bench` has them: lines of words, the last one the number of
//! samples, each answered by a line of JSON. By hand:
//!
//! `echo 'stop plain 1 0 0 100' | cargo bench --bench floor 3</dev/zero`
//!
//! | request | samples |
//! | --- | --- |
//! | `stop ours\|plain BUSY WAITING READING` | a stop, until it is known that all threads have left |
//! | `stop epoch BUSY WAITING READING` | the same by epoch interruption alone, announced before it is tried |
//! | `spawn ours\|plain\|inline plain\|memory\|shared` | a tiny program, from nothing to nothing |
//! | `hostcall` | a call of a host function that does nothing |
//! | `idle N`, `blocked N` | how long it takes to have so many instances, or programs on threads of their own |

mod guests;
mod ours;
mod plain;

use std::io::{BufRead, Write};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The reading end of a pipe that nothing comes from: package drive opens it.
const SILENT: i32 = 3;

/// Counts events and lets one thread wait for them.
struct Counter(Mutex<u32>, Condvar);

impl Counter {
    const fn new() -> Self {
        Counter(Mutex::new(0), Condvar::new())
    }

    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait(&self, n: u32) {
        let mut count = self.0.lock().unwrap();
        while *count < n {
            count = self.1.wait(count).unwrap();
        }
        *count -= n;
    }
}

/// Lets threads that have just said that they are there get to where they spin or wait.
fn settle() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Lets threads that were ended in their sleep be woken, which is done a little later and is not to be in the way of another
/// contestant: see the shim's waker.
fn rest() {
    std::thread::sleep(Duration::from_millis(10));
}

struct Driver {
    ours: ours::Ours,
    plain: plain::Plain,
}

impl Driver {
    fn answer(&mut self, words: &[&str]) -> Result<Vec<f64>, String> {
        let (words, n) = words.split_at(words.len().saturating_sub(1));
        let n: usize = number(n.first().copied())?;
        let samples = |sample: &mut dyn FnMut() -> f64| (0..n).map(|_| sample()).collect();
        let (ours, plain) = (&mut self.ours, &mut self.plain);
        Ok(match *words {
            ["stop", who, busy, waiting, reading] => {
                let mix = (
                    number(Some(busy))?,
                    number(Some(waiting))?,
                    number(Some(reading))?,
                );
                match who {
                    "ours" => {
                        let all = samples(&mut || ours.stop(mix));
                        rest();
                        all
                    }
                    "plain" => samples(&mut || plain.stop(mix, false, || {})),
                    "epoch" => {
                        samples(&mut || plain.stop(mix, true, || reply(r#"{"armed":true}"#)))
                    }
                    _ => return Err(format!("{who} has no stop")),
                }
            }
            ["spawn", who, kind] => {
                let wat = guests::tiny(kind).ok_or_else(|| format!("no program {kind}"))?;
                match who {
                    "ours" => samples(&mut || ours.spawn(wat)),
                    "plain" => samples(&mut || plain.spawn(wat, true)),
                    "inline" => samples(&mut || plain.spawn(wat, false)),
                    _ => return Err(format!("{who} has no spawn")),
                }
            }
            ["hostcall"] => samples(&mut || plain.hostcall()),
            ["idle", count] => {
                let (count, start) = (number(Some(count))?, Instant::now());
                plain.idle(count);
                vec![start.elapsed().as_nanos() as f64]
            }
            ["blocked", count] => {
                let (count, start) = (number(Some(count))?, Instant::now());
                plain.blocked(count);
                vec![start.elapsed().as_nanos() as f64]
            }
            _ => return Err(format!("no such request: {words:?}")),
        })
    }
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Result<T, String> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{word:?} is no number"))
}

fn reply(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

fn main() {
    let mut driver = Driver {
        ours: ours::Ours::new(),
        plain: plain::Plain::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match driver.answer(&line.split_whitespace().collect::<Vec<_>>()) {
            Ok(ns) => reply(&format!(r#"{{"ns":{ns:?}}}"#)),
            Err(err) => reply(&format!(r#"{{"error":{err:?}}}"#)),
        }
    }
}
