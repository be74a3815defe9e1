//! What a fallible operation answers: one of the statuses of the C ABI, and a sentence that says what to do.

use std::fmt;

/// The kinds of failure. Their numbers are those of the C ABI (`LINDSHIM_ERR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// An argument is out of range or contradicts another.
    Invalid = 1,
    /// A handle is stale, forged or of another kind.
    Handle = 2,
    /// The bytes are no valid module.
    Module = 3,
    /// The module imports something that the host does not offer, or with another type.
    Import = 4,
    /// The module lacks an export, or has it with another type.
    Export = 5,
    /// A linear memory is larger than allowed, or could not be reserved.
    Memory = 6,
    /// A limit on threads was reached: `EAGAIN`.
    Limit = 7,
    /// The domain is stopping: nothing new is admitted.
    Closed = 8,
    /// The object is still in use.
    Busy = 9,
    /// The operating system refused.
    Io = 10,
    /// Wasmtime refused.
    Runtime = 11,
    /// The shim panicked: a bug in it.
    Panic = 12,
    /// The caller was built for another version of the C ABI.
    Abi = 13,
    /// Calls into grates are nested too deep: `ELOOP`.
    Depth = 14,
    /// This build of the shim lacks what was asked for.
    Unsupported = 15,
}

/// A failure: its kind, and text for people.
#[derive(Debug)]
pub struct Error {
    /// The kind.
    pub status: Status,
    /// What failed and what to do about it.
    pub message: String,
}

impl Error {
    /// A failure of the given kind.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Error {
            status,
            message: message.into(),
        }
    }

    /// A failure of the system call that was just made.
    pub fn os(what: &str) -> Self {
        Error::new(
            Status::Io,
            format!("{what}: {}", std::io::Error::last_os_error()),
        )
    }

    /// A failure of Wasmtime: its whole chain of reasons becomes the text.
    #[cfg(not(loom))]
    pub fn wasmtime(status: Status, what: &str, err: &wasmtime::Error) -> Self {
        Error::new(status, format!("{what}: {err:#}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The result of a fallible operation.
pub type Result<T> = std::result::Result<T, Error>;
