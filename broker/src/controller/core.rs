//! What deciders know besides the Image.
//!
//! The settings of this broker are those of the cluster, and chance comes from a seed. Topic ids
//! need no memory to be unique for ever: they follow from the place in the metadata log at which they
//! were decided on, and that place is used once. They follow from a key, too, that nobody else has:
//! who is told some of them cannot guess another's. Pure.

use std::sync::Arc;

use protocol::ids::TopicId;
use protocol::rng::{Lot, Rng};

use crate::config::BrokerConfig;
use crate::metadata::Image;

/// The deciders' own knowledge.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) rng: Rng,
    ids: Lot,
}

impl Core {
    /// Deciders for a cluster of brokers with these settings. They place partitions by `seed`, and
    /// draw ids from `ids`.
    pub(crate) fn new(config: Arc<BrokerConfig>, seed: u64, ids: Lot) -> Self {
        Self { config, rng: Rng::new(seed), ids }
    }

    /// The id of the `nth` topic that one decision on `image` creates.
    ///
    /// Unique also where a key is used at two starts, as tests do: each decision that creates a topic
    /// moves the end of the log, and ids differ within a decision.
    pub(super) fn topic_id(&self, image: &Image, nth: usize) -> TopicId {
        let nth = u16::try_from(nth).expect("a request creates at most 10,000 partitions");
        let mut place = [0; 10];
        place[..8].copy_from_slice(&image.end.0.saturating_add(1).to_be_bytes());
        place[8..].copy_from_slice(&nth.to_be_bytes());
        let id = TopicId(self.ids.id_of(&place));
        assert!(id.is_some());
        assert!(image.topic_by_id(id).is_none());
        id
    }
}
