//! Lanes: what one transactional producer sends is taken in order of arrival, also where it has to
//! wait. Shell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Lanes that are remembered before those that nobody uses are forgotten.
const LANES_KEPT: usize = 1024;

/// A lane per transactional id. Clones are the same. Bounded by the requests in flight: a lane
/// lives as long as somebody holds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    /// A lock, as connections share the lanes; held for the look-up.
    lanes: Arc<Mutex<BTreeMap<String, Weak<Lane>>>>,
}

/// First come, first served.
pub(crate) type Lane = tokio::sync::Mutex<()>;

impl Lanes {
    /// The lane of `id`.
    pub(crate) fn of(&self, id: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(id).and_then(Weak::upgrade) {
            return lane;
        }
        if LANES_KEPT <= lanes.len() {
            lanes.retain(|_, lane| 0 < lane.strong_count());
        }
        let lane = Arc::new(Lane::default());
        lanes.insert(id.to_owned(), Arc::downgrade(&lane));
        lane
    }
}
