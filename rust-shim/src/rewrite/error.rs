//! This file implements what [`rewrite`](super::rewrite) and [`grate`](super::grate) can fail with.

use std::fmt;

use wasm_encoder::reencode;

use super::IMPORT_MODULE;

/// How many characters of a name that the guest chose go into an error.
const NAME_CHARS: usize = 64;

/// Why a module cannot be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteError {
    /// A component, where a core module is needed.
    NotAModule,
    /// Not a valid module with the features asked for.
    Invalid {
        /// Where in the input, in bytes.
        offset: usize,
        /// What is wrong, without the offset.
        message: String,
    },
    /// The module imports from [`IMPORT_MODULE`], which only the shim may.
    ReservedImport {
        /// Where in the input the import stands, in bytes.
        offset: usize,
        /// The import's name: escaped, and cut if it is long.
        name: String,
    },
    /// A valid module whose shape a grate cannot have.
    Grate {
        /// What is wrong with it, as the end of a sentence that begins with "it".
        what: &'static str,
    },
    /// The rewritten module would be over a limit.
    Limit {
        /// What there would be too much of.
        what: &'static str,
        /// The limit, in bytes or items.
        limit: usize,
    },
    /// The rewritten module is not valid. Only builds with debug assertions check that; elsewhere Wasmtime finds it.
    /// The input is over a limit that the rewrite does not watch (the validator's budget for types), or the rewrite
    /// is wrong.
    Output {
        /// Where in the output, in bytes.
        offset: usize,
        /// What is wrong, without the offset.
        message: String,
    },
}

impl RewriteError {
    /// Wraps what the validator said of the rewritten module.
    pub(super) fn output(error: wasmparser::Error) -> Self {
        Self::Output {
            offset: error.offset(),
            message: error.message().to_owned(),
        }
    }

    /// Says that the import `name` at `offset` is not the guest's to have.
    pub(super) fn reserved(offset: usize, name: &str) -> Self {
        let mut shown: String = name.chars().take(NAME_CHARS).collect();
        shown = shown.escape_debug().to_string();
        if name.chars().nth(NAME_CHARS).is_some() {
            shown.push_str("...");
        }
        Self::ReservedImport {
            offset,
            name: shown,
        }
    }

    /// Wraps an error of wasm-encoder in the section at `offset`. Valid input gives none.
    pub(super) fn reencode(offset: usize, error: reencode::Error) -> Self {
        match error {
            reencode::Error::ParseError(error) => error.into(),
            other => Self::Invalid {
                offset,
                message: other.to_string(),
            },
        }
    }
}

impl From<wasmparser::Error> for RewriteError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid {
            offset: error.offset(),
            message: error.message().to_owned(),
        }
    }
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAModule => f.write_str("this is a WebAssembly component, not a core module"),
            Self::Invalid { offset, message } => {
                write!(f, "invalid module: {message} (at offset {offset:#x})")
            }
            Self::ReservedImport { offset, name } => write!(
                f,
                "the module imports \"{name}\" from \"{IMPORT_MODULE}\", which is reserved (at offset {offset:#x})"
            ),
            Self::Grate { what } => write!(f, "the module cannot be run as a grate: it {what}"),
            Self::Limit { what, limit } => write!(
                f,
                "the module cannot be rewritten to be interruptible: {what} would exceed {limit}"
            ),
            Self::Output { offset, message } => write!(
                f,
                "the module cannot be rewritten to be interruptible: {message} (at {offset:#x} in the result)"
            ),
        }
    }
}

impl std::error::Error for RewriteError {}
