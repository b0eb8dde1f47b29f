//! What redb does when it meets damage: it panics, or continues to write. This module contains both.
//!
//! redb trusts its pages after a clean end, and panics where one cannot be right. Every call into it goes through
//! [`guarded`], which makes a [`LogError::Damaged`] of a panic. After one, or where the log is refused, a `Seal` keeps
//! redb from writing on the way out: what is left of the file stays as it was found.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Once, Weak};

use redb::Database;

use super::LogError;
use super::error::{Fault, during};

thread_local! {
    /// Whether this thread is inside redb.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics that [`guarded`] catches from being printed as bugs; all others are printed as before.
pub(super) fn silence() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !INSIDE.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
}

/// Calls into redb; a panic there is an error.
pub(super) fn guarded<T>(op: &'static str, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, LogError> {
    let before = INSIDE.replace(true);
    // What redb shares between calls is locked, and a lock that was held is poisoned; the next call then panics, too.
    let result = catch_unwind(AssertUnwindSafe(call));
    let inside = INSIDE.replace(before);
    match result {
        Ok(result) => during(op, result),
        Err(panic) if inside => Err(LogError::Damaged { op, why: words(&*panic) }),
        // It came from what is called back.
        Err(panic) => resume_unwind(panic),
    }
}

/// Calls back out of a guarded call: a panic in there is a bug, not damage.
pub(super) fn outside<T>(call: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(false);
    let result = call();
    INSIDE.set(before);
    result
}

/// The first line of what a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    match text.lines().next() {
        Some(line) if !line.is_empty() => format!("a page cannot be right ({line})"),
        _ => "a page cannot be right".into(),
    }
}

/// The writer's hold on the open store. Dropping it closes the store behind the last reader, and never panics.
#[derive(Debug)]
pub(super) struct Hold(Option<Arc<Database>>);

impl Hold {
    pub(super) fn on(db: Database) -> Hold {
        Hold(Some(Arc::new(db)))
    }

    pub(super) fn get(&self) -> Result<&Database, LogError> {
        self.0.as_deref().ok_or(LogError::Closed)
    }

    /// The store by itself; `None` while anybody reads it.
    pub(super) fn get_mut(&mut self) -> Option<&mut Database> {
        self.0.as_mut().and_then(Arc::get_mut)
    }

    pub(super) fn weak(&self) -> Weak<Database> {
        self.0.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Closes the store if no reader is in the middle of a page; says whether that is so.
    pub(super) fn close(&mut self) -> Result<bool, LogError> {
        guarded("close the log", || match self.0.take().map(Arc::try_unwrap) {
            None => Ok(true),
            Some(Ok(db)) => Ok(db.close().map(|()| true)?),
            Some(Err(shared)) => {
                self.0 = Some(shared);
                Ok(false)
            }
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let db = self.0.take();
        let _ = guarded("close the log", || {
            drop(db);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_an_error_and_says_its_first_line() {
        silence();
        let check = |call: fn() -> Result<(), Fault>, expected: &str| {
            let words = guarded("read the log", call).unwrap_err().to_string();
            for part in [expected, "log.redb", "cannot read the log", "`fieldlog verify`", "restore"] {
                assert!(words.contains(part), "{part:?} is not in: {words}");
            }
            assert!(!words.contains('\n'), "{words}");
        };
        check(|| panic!("of page {}\n  left: 1", 7), "(of page 7)");
        check(|| panic!("bad"), "(bad)");
        check(|| std::panic::panic_any(3), "a page cannot be right");
        assert!(!INSIDE.get());
    }

    #[test]
    fn a_panic_of_what_is_called_back_goes_on() {
        silence();
        let outer = catch_unwind(|| guarded::<()>("read the log", || outside(|| panic!("a bug"))));
        assert_eq!(outer.unwrap_err().downcast_ref::<&str>(), Some(&"a bug"));
        assert!(!INSIDE.get());
        let nested = guarded::<()>("a", || Ok(outside(|| guarded("b", || panic!("x")))?));
        assert!(matches!(nested, Err(LogError::Damaged { op: "b", .. })), "{nested:?}");
    }
}
