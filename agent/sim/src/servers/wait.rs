//! Waits for a condition instead of a fixed time.

use std::time::{Duration, Instant};

/// Timeout for conditions that should be quick: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

const STEP: Duration = Duration::from_millis(10);

/// Waits until `done`.
///
/// # Panics
/// With `what` after [`PATIENCE`].
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    until_some(what, || done().then_some(())).await;
}

/// Waits for a value.
///
/// # Panics
/// As [`until`].
pub async fn until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// The same, if nothing else has to run meanwhile.
///
/// # Panics
/// As [`until`].
pub fn block_until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(STEP);
    }
}
