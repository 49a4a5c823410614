//! Small pieces of the broker's work, each the same every time it runs.
//!
//! A [`Case`] prepares what it needs once and then gives a closure that does the work once.
//! `benches/counts` runs them under valgrind and compares instructions with what is expected;
//! `benches/micro` times them by criterion. From the inside out: messages ([`codec`]), batches
//! ([`batch`]), one log ([`log`]), and whole requests through a broker without a socket
//! ([`request`]).
//!
//! Shell.

pub mod batch;
pub mod codec;
pub mod log;
pub mod request;

use std::path::PathBuf;

/// One piece of work.
pub struct Case {
    /// What it is called: `room: what`.
    pub name: &'static str,
    /// Prepares it.
    pub prepare: fn() -> Work,
}

/// Does the work once.
pub type Work = Box<dyn FnMut()>;

/// All cases, from the inside out.
pub fn all() -> impl Iterator<Item = &'static Case> {
    codec::CASES.iter().chain(&batch::CASES).chain(&log::CASES).chain(&request::CASES)
}

/// A directory that goes with its owner.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be deleted stays; it is small and lies among temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A runtime of one thread: the same order of work each time.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime can be made")
}
