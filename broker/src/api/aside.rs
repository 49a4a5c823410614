//! Where large batches are unfolded: on threads that hold up no other connection, few at a time.
//!
//! Each may take as much memory as a batch may unfold into. So no more of them are at work than there
//! are processors, nor than fit a quarter of the budget of memory, which they are charged to; the
//! others wait, up to a number, and whoever comes then is to try again. They are at work for tens of
//! milliseconds, and give way to threads that have little to do: small requests do not wait behind them.
//! Shell.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};

use protocol::record::DECOMPRESSED_BYTES_MAX;
use rustix::process::nice;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::budget::{Budget, Use};
use crate::limits::UNFOLDING_WAITING_MAX;

/// 10: how nice who unfolds is to others. Of a processor that both want it gets a tenth.
const NICENESS: i32 = 10;

/// The place for it.
#[derive(Debug)]
pub(super) struct Aside {
    /// A lock, as all threads come here; held to count.
    places: Mutex<Places>,
    freed: Condvar,
    waiting_max: usize,
    budget: Budget,
}

#[derive(Debug)]
struct Places {
    free: usize,
    waiting: usize,
}

impl Aside {
    /// As many places as this machine and `budget` have.
    pub(super) fn new(budget: Budget) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let fitting = usize::try_from(budget.total() / 4).unwrap_or(usize::MAX);
        let places = processors.min(fitting / DECOMPRESSED_BYTES_MAX).max(1);
        Self::of(places, UNFOLDING_WAITING_MAX, budget)
    }

    fn of(free: usize, waiting_max: usize, budget: Budget) -> Self {
        let places = Mutex::new(Places { free, waiting: 0 });
        Self { places, freed: Condvar::new(), waiting_max, budget }
    }

    /// Does `work`, once there is a place for it. `None`: too many wait, or there may be no further thread, and it was not done. On a
    /// runtime of one thread there is nowhere else, and nobody else at work.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| self.in_turn(work)),
            _ => Some(self.charged(work)),
        }
    }

    fn in_turn<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        let mut places = self.places();
        if places.free == 0 {
            if self.waiting_max <= places.waiting {
                return None;
            }
            places.waiting += 1;
            let freed = self.freed.wait_while(places, |places| places.free == 0);
            places = freed.unwrap_or_else(PoisonError::into_inner);
            places.waiting -= 1;
        }
        places.free -= 1;
        drop(places);
        let _place = Place(self);
        self.charged(|| nicely(work))
    }

    fn charged<T>(&self, work: impl FnOnce() -> T) -> T {
        let bytes = u64::try_from(DECOMPRESSED_BYTES_MAX).unwrap_or(u64::MAX);
        let mut grant = self.budget.nothing(Use::Small);
        // Where the budget is small it is not said to be all of it: that would stop everybody.
        grant.set(bytes.min(self.budget.total() / 4));
        work()
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on a thread of its own that gives way to others: without a privilege no thread can take that
/// back. `None`: there may be no further thread, and it was not done.
fn nicely<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let nicely = || {
        // Where it may not be, it is as quick as the others.
        let _ = nice(NICENESS);
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("unfolding".to_owned());
        let done = thread.spawn_scoped(scope, nicely).ok()?.join();
        Some(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A place that is taken; also what panics gives it back.
struct Place<'a>(&'a Aside);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.places().free += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn few_are_at_work_at_once_the_next_wait_and_more_are_to_try_again() {
        let budget = Budget::new(1 << 30, None);
        let aside = Arc::new(Aside::of(2, 3, budget.clone()));
        let (release, released) = mpsc::sync_channel::<()>(5);
        let released = Arc::new(Mutex::new(released));
        let [running, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let mut all = Vec::new();
        for _ in 0..5 {
            let (aside, released) = (aside.clone(), released.clone());
            let (running, most) = (running.clone(), most.clone());
            all.push(tokio::spawn(async move {
                aside.run(|| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    released.lock().unwrap().recv().unwrap();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            }));
        }
        let is_waiting = || running.load(Ordering::SeqCst) == 2 && aside.places().waiting == 3;
        while !is_waiting() {
            tokio::task::yield_now().await;
        }
        assert_eq!(budget.used(), 2 * u64::try_from(DECOMPRESSED_BYTES_MAX).unwrap());
        assert_eq!(
            tokio::spawn({
                let aside = aside.clone();
                async move { aside.run(|| ()) }
            })
            .await
            .unwrap(),
            None
        );
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        for one in all {
            assert_eq!(one.await.unwrap(), Some(()));
        }
        assert_eq!((most.load(Ordering::SeqCst), budget.used()), (2, 0));
        assert_eq!(aside.places().free, 2);
    }

    #[test]
    fn there_is_always_one_place_and_never_more_than_the_budget_bears() {
        let places = |bytes| Aside::new(Budget::new(bytes, None)).places().free;
        assert_eq!(places(0), 1);
        assert_eq!(places(255 << 20), 1);
        assert!((1..=2).contains(&places(512 << 20)));
    }
}
