//! Lanes: what one transactional producer sends is taken in order of arrival, also where it has to
//! wait; and whose producer it is, once its coordinator has said so. Shell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::ids::ProducerId;

/// Lanes that are remembered before those that nobody uses are forgotten. Who was forgotten costs its
/// coordinator a question.
const LANES_KEPT: usize = 1024;

/// A lane per transactional id. Clones are the same. Bounded by the requests in flight and
/// [`LANES_KEPT`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    /// A lock, as connections share the lanes; held for the look-up.
    lanes: Arc<Mutex<BTreeMap<String, Arc<Lane>>>>,
}

/// First come, first served.
pub(crate) type Lane = tokio::sync::Mutex<Owned>;

/// The producer id that is known to be of a transactional id.
///
/// It stays so for ever: no producer id is given to two. Its epoch is for partitions to check.
#[derive(Debug, Default)]
pub(crate) struct Owned(Option<ProducerId>);

impl Owned {
    /// True when `producer_id` is known to be of the transactional id.
    pub(crate) fn is(&self, producer_id: ProducerId) -> bool {
        self.0 == Some(producer_id)
    }

    /// The coordinator of the transactional id says that `producer_id` is of it.
    pub(crate) fn learn(&mut self, producer_id: ProducerId) {
        self.0 = Some(producer_id);
    }
}

impl Lanes {
    /// The lane of `id`.
    pub(crate) fn of(&self, id: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(id) {
            return Arc::clone(lane);
        }
        if LANES_KEPT <= lanes.len() {
            lanes.retain(|_, lane| 1 < Arc::strong_count(lane));
        }
        let lane = Arc::new(Lane::default());
        lanes.insert(id.to_owned(), Arc::clone(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lanes_are_remembered_until_there_are_too_many_and_those_in_use_for_longer() {
        const PRODUCER: ProducerId = ProducerId(7);
        let lanes = Lanes::default();
        lanes.of("a").lock().await.learn(PRODUCER);
        let used = lanes.of("b");
        used.lock().await.learn(PRODUCER);
        for id in 2..LANES_KEPT {
            assert!(!lanes.of(&id.to_string()).lock().await.is(PRODUCER));
        }
        assert!(lanes.of("a").lock().await.is(PRODUCER));
        lanes.of("one more");
        assert!(!lanes.of("a").lock().await.is(PRODUCER));
        assert!(lanes.of("b").lock().await.is(PRODUCER));
    }
}
