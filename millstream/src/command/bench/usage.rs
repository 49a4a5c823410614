//! What this process used of the machine: CPU time, the broker's apart from the client's, and
//! memory at its peak.
//!
//! The broker of a run lives in the same process, on threads whose names tell them apart. Threads
//! that have ended are not counted: none does while something is measured. Shell.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// What the threads of the broker's runtime are called. No other thread's name begins so.
pub(super) const BROKER_THREADS: &str = "broker";
/// How the names of the broker's threads for its log begin.
const LOG_THREADS: &str = "log-";

/// CPU time, by who used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTime {
    /// The client, and the making of records.
    pub(super) client: Duration,
    /// The broker of the run, if it has one.
    pub(super) broker: Duration,
}

impl CpuTime {
    /// As of now, since the process started.
    pub(super) fn now() -> std::io::Result<Self> {
        let mut used = Self::default();
        for entry in fs::read_dir("/proc/self/task")? {
            let task = entry?.path();
            // A thread may end between being listed and being looked at.
            let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
            let Ok(text) = fs::read_to_string(task.join("schedstat")) else { continue };
            let nanos = text.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0);
            let is_broker = name.starts_with(BROKER_THREADS) || name.starts_with(LOG_THREADS);
            let who = if is_broker { &mut used.broker } else { &mut used.client };
            *who += Duration::from_nanos(nanos);
        }
        Ok(used)
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            client: self.client.saturating_sub(earlier.client),
            broker: self.broker.saturating_sub(earlier.broker),
        }
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) cpu: CpuTime,
    /// True when the broker ran in this process.
    pub(super) has_broker: bool,
    /// Of this process.
    pub(super) peak_memory_bytes: u64,
}

/// The most memory that this process ever held, in bytes.
pub(super) fn peak_memory_bytes() -> std::io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_thread_named_after_the_broker_counts_as_the_brokers() {
        let before = CpuTime::now().unwrap();
        let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
        let (end, ends) = std::sync::mpsc::sync_channel::<()>(0);
        let work = move || {
            let spin = (0..50_000_000_u64).fold(0, |sum, next| sum ^ std::hint::black_box(next));
            std::hint::black_box(spin);
            done.send(()).unwrap();
            ends.recv().unwrap();
        };
        let name = format!("{BROKER_THREADS}-test");
        let thread = std::thread::Builder::new().name(name).spawn(work).unwrap();
        is_done.recv().unwrap();
        let used = CpuTime::now().unwrap() - before;
        end.send(()).unwrap();
        thread.join().unwrap();
        assert!(used.broker > Duration::from_millis(1), "{used:?}");
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
