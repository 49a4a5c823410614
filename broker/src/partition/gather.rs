//! Mail that is posted one piece after the other, and attended to once.
//!
//! Of what a connection sends in one go several requests often go to the same partition. Each would
//! be a write to the log of its own, and a message from there of its own; gathered, they are one.
//! Per thread, as what is gathered never leaves it, and no one waits meanwhile. Shell.

use std::cell::RefCell;
use std::sync::Arc;

use super::shell::Partition;

thread_local! {
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered { is_on: false, posted: Vec::new() }) };
}

struct Gathered {
    is_on: bool,
    /// To whom mail was posted, some of them more than once.
    posted: Vec<Arc<Partition>>,
}

/// Carries `act` out. What it puts into the mailboxes of partitions is attended to when it has ended, however it
/// does. It must not wait for an answer, and for nothing else without [`attend_gathered`].
pub(crate) fn gather<T>(act: impl FnOnce() -> T) -> T {
    let was_on = GATHERED.with_borrow_mut(|gathered| std::mem::replace(&mut gathered.is_on, true));
    let _end = (!was_on).then_some(End);
    act()
}

/// True when mail for `partition`, just posted, will be attended to later.
pub(super) fn is_gathered(partition: &Arc<Partition>) -> bool {
    GATHERED.with_borrow_mut(|Gathered { is_on, posted }| {
        let is_new = !posted.last().is_some_and(|last| Arc::ptr_eq(last, partition));
        if *is_on && is_new {
            posted.push(Arc::clone(partition));
        }
        *is_on
    })
}

/// Attends to what was gathered so far on this thread: for whoever is about to wait after all.
pub(crate) fn attend_gathered() {
    let mut posted = GATHERED.with_borrow_mut(|gathered| std::mem::take(&mut gathered.posted));
    for partition in posted.drain(..) {
        partition.open();
    }
    // For its memory; nothing was gathered meanwhile.
    GATHERED.with_borrow_mut(|gathered| gathered.posted = posted);
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        GATHERED.with_borrow_mut(|gathered| gathered.is_on = false);
        attend_gathered();
    }
}
