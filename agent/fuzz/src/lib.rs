//! Fuzzes all code that reads input from devices or brokers. Each module is one target, which asserts what must hold
//! for every input. `cargo fuzz` generates the inputs, `seeds.py` the first ones, from payloads of real devices.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

pub mod formats;
pub mod json;
pub mod observer;
pub mod sparkplug;
pub mod text;
pub mod worlds;

/// Maximum text or array of the decoder targets, in bytes.
pub const TEXT_MAX: usize = 512;
/// Maximum name of these targets, in bytes.
pub const NAME_MAX: usize = 96;

/// Maximum memory while one input is read, in bytes: twice that of the largest document.
const MEMORY_MAX: usize = 48 << 20;

/// Runs a target with one input, and checks that memory is bounded.
pub fn run(target: fn(&[u8]), data: &[u8]) {
    worlds::prepare();
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    target(data);
    let took = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(took <= MEMORY_MAX, "{} bytes of input took {took} bytes of memory", data.len());
}

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a counter.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(used, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Takes a byte off the front, 0 if there is none.
fn byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    first
}

/// Takes a number below `count` off the front, two bytes.
fn choice(data: &mut &[u8], count: usize) -> usize {
    (usize::from(byte(data)) | usize::from(byte(data)) << 8) % count.max(1)
}
