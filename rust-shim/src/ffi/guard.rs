//! What every export runs in: no panic and no unwinding leaves it, and each failure becomes a status and a text.

use super::types::{ErrorText, LINDSHIM_ERROR_TEXT, LINDSHIM_OK};
use crate::error::{Error, Result, Status};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` and puts what failed into `err`.
///
/// # Safety
///
/// `err` is NULL or points to an `ErrorText` that nobody else uses meanwhile.
pub unsafe fn guard(err: *mut ErrorText, body: impl FnOnce() -> Result<()>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(Error::new(
            Status::Panic,
            format!("the shim panicked, which is a bug in it: {text}"),
        ))
    });
    match result {
        Ok(()) => LINDSHIM_OK,
        Err(failure) => {
            // SAFETY: the caller's contract.
            if let Some(err) = unsafe { err.as_mut() } {
                put_text(&failure.message, err);
            }
            failure.status as i32
        }
    }
}

fn put_text(message: &str, err: &mut ErrorText) {
    let mut end = message.len().min(LINDSHIM_ERROR_TEXT);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in err.text.iter_mut().zip(&message.as_bytes()[..end]) {
        *to = *from as _;
    }
    err.len = end as u32;
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::types::LINDSHIM_ERR_PANIC;

    fn text(err: &ErrorText) -> String {
        let bytes: Vec<u8> = err.text[..err.len as usize]
            .iter()
            .map(|c| *c as u8)
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let mut err = ErrorText {
            len: 0,
            text: [0; LINDSHIM_ERROR_TEXT],
        };
        // SAFETY: `err` is a live local.
        let status = unsafe { guard(&mut err, || panic!("on purpose {}", 1)) };
        assert_eq!(status, LINDSHIM_ERR_PANIC);
        assert!(text(&err).ends_with("on purpose 1"));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut err = ErrorText {
            len: 0,
            text: [0; LINDSHIM_ERROR_TEXT],
        };
        let long = "\u{20ac}".repeat(2000);
        // SAFETY: `err` is a live local.
        let status = unsafe { guard(&mut err, || Err(Error::new(Status::Io, long.clone()))) };
        assert_eq!(status, Status::Io as i32);
        assert_eq!(text(&err), "\u{20ac}".repeat(LINDSHIM_ERROR_TEXT / 3));
    }

    #[test]
    fn err_may_be_null() {
        // SAFETY: NULL is allowed.
        let status = unsafe { guard(std::ptr::null_mut(), || Err(Error::new(Status::Busy, "x"))) };
        assert_eq!(status, Status::Busy as i32);
    }
}
