//! Runs WebAssembly guest threads on Wasmtime and ends them, at any time, whatever they are doing.
//!
//! The crate knows engines, modules, domains (the execution side of one program) and guest threads. It knows nothing of
//! POSIX, descriptors, parents, or what an exit status means: those belong to the host above the C ABI in [`ffi`],
//! whose header is `include/lindshim.h`.
//!
//! The life of a domain: [`domain::Domain::new`] makes its memory; [`domain::Domain::start`] and
//! [`domain::Domain::spawn_thread`] let threads through its [`gate`]; each runs on an OS thread of the [`pool`] with a
//! store and an instance of its own ([`thread`]); [`domain::Domain::stop`] closes the gate and interrupts what is inside;
//! the thread that leaves last reports that the domain is quiescent.
//!
//! A domain may be a [`grate`], which serves system calls of others: a call of `lind.make-syscall` finds its handler in
//! the host's table ([`handlers`]), and by the handler's [`port`] a [`worker`] of the grate, which it enters on the same OS
//! thread ([`frame`]).

#![warn(missing_docs)]
#![warn(unsafe_op_in_unsafe_fn)]
#![warn(missing_debug_implementations)]

pub mod altstack;
pub mod clock;
pub mod domain;
pub mod engine;
pub mod error;
pub mod faults;
pub mod ffi;
pub mod frame;
pub mod functions;
pub mod gate;
pub mod grate;
pub mod handlers;
pub mod hostcall;
pub mod idle;
pub mod module;
pub mod mutation;
pub mod poller;
pub mod pool;
pub mod port;
pub mod registry;
pub mod reserve;
pub mod rewrite;
pub mod shared;
pub mod slot;
pub mod supply;
pub mod sweep;
pub mod sync;
pub mod thread;
pub mod waits;
pub mod wake;
pub mod worker;
