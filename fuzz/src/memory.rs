//! How much memory a piece of work holds at most, and that it is in proportion.
//!
//! The allocator counts what Rust code allocates; C libraries (zstd's contexts, cryptography) and
//! libFuzzer itself are not in it. One thread: a fuzzer has no other. Shell.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// 64: bytes of memory that a byte of input may become, as the broker promises for frames.
const BYTES_PER_BYTE: usize = 64;
/// 1 MiB: what any work may take: codecs have tables and windows.
const BYTES_FLOOR: usize = 1 << 20;

/// Bytes allocated now. Loads and stores instead of additions: there is one thread.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The most of it since the count began.
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: usize) {
    let held = HELD.load(Relaxed).wrapping_add(bytes);
    HELD.store(held, Relaxed);
    if held > PEAK.load(Relaxed) {
        PEAK.store(held, Relaxed);
    }
}

fn shrink(bytes: usize) {
    // What was allocated on another thread may be freed here: never below nothing.
    HELD.store(HELD.load(Relaxed).saturating_sub(bytes), Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches two numbers and
// allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        shrink(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What `work` yields, and how many bytes it held at most beyond what was held before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = work();
    (value, PEAK.load(Relaxed).saturating_sub(before))
}

/// Does `work` on `input_bytes` of input, which may hold memory in proportion to them, and
/// `more_bytes` for what it yields.
///
/// # Panics
/// When it holds more.
pub fn in_proportion<T>(input_bytes: usize, more_bytes: usize, work: impl FnOnce() -> T) -> T {
    let (value, peak) = peak_of(work);
    let allowed = input_bytes * BYTES_PER_BYTE + BYTES_FLOOR + more_bytes;
    assert!(peak <= allowed, "{peak} bytes held for {input_bytes} of input, {allowed} allowed");
    value
}
