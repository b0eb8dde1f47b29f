//! Contains redb's reactions to damage: panics, and continued writing.
//!
//! redb trusts its pages after a clean shutdown, and panics at impossible ones. Every call into it goes through
//! [`guarded`], which turns a panic into a [`LogError::Damaged`]. After a panic, or if the log is refused, a `Seal`
//! keeps redb from writing on the way out, so that the file stays as found.

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

/// Calls into redb and turns a panic there into an error.
pub(super) fn guarded<T>(op: &'static str, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, LogError> {
    let before = INSIDE.replace(true);
    // redb's shared state is behind locks, and a held lock is poisoned by the panic, so the next call panics too.
    let result = catch_unwind(AssertUnwindSafe(call));
    let inside = INSIDE.replace(before);
    match result {
        Ok(result) => during(op, result),
        Err(panic) if inside => Err(LogError::Damaged { op, why: words(&*panic) }),
        // The panic is from a callback.
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a callback of a guarded call: a panic there is a bug, not damage.
pub(super) fn outside<T>(call: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(false);
    let result = call();
    INSIDE.set(before);
    result
}

/// The first line of a panic's message.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    match text.lines().next() {
        Some(line) if !line.is_empty() => format!("a page cannot be right ({line})"),
        _ => "a page cannot be right".into(),
    }
}

/// The writer's handle of the open store. Dropping it closes the store after the last reader, and never panics.
#[derive(Debug)]
pub(super) struct Hold(Option<Arc<Database>>);

impl Hold {
    pub(super) fn on(db: Database) -> Hold {
        Hold(Some(Arc::new(db)))
    }

    pub(super) fn get(&self) -> Result<&Database, LogError> {
        self.0.as_deref().ok_or(LogError::Closed)
    }

    /// The store itself; `None` while a reader uses it.
    pub(super) fn get_mut(&mut self) -> Option<&mut Database> {
        self.0.as_mut().and_then(Arc::get_mut)
    }

    pub(super) fn weak(&self) -> Weak<Database> {
        self.0.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Closes the store if no reader is using a page; returns whether it did.
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
