//! Progress of long work, on stderr, for people: nothing is shown where stderr is no terminal. Shell.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A bar of `count` things; hidden while there is one alone.
pub(crate) fn bar(count: usize, things: &'static str) -> ProgressBar {
    if count < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} {msg}");
    bar.with_style(style.expect("the template is well formed")).with_message(things)
}

/// A count that grows without a known end.
pub(crate) fn counter(things: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} {msg}, {per_sec}, {elapsed}");
    let counter = ProgressBar::new_spinner()
        .with_style(style.expect("the template is well formed"))
        .with_message(things);
    counter.enable_steady_tick(TICK);
    counter
}
