//! Hides expected panics: reading a log that was damaged on purpose may panic.

use std::panic;
use std::thread;

const NAME: &str = "quiet";

/// Keeps panics of [`attempt`] off stderr.
pub fn install() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(NAME) {
            usual(info);
        }
    }));
}

/// Runs it; `None` if it panics.
pub fn attempt<T: Send>(run: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(NAME.into());
        thread.spawn_scoped(scope, run).unwrap().join().ok()
    })
}
