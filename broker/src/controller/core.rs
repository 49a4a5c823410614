//! What deciders know besides the Image.
//!
//! The settings of this broker are those of the cluster, and chance comes from a seed. Topic ids
//! need no memory to be unique for ever: they carry the place in the metadata log at which they
//! were decided on, and that place is used once. Pure.

use std::sync::Arc;

use protocol::ids::TopicId;
use protocol::rng::Rng;

use crate::config::BrokerConfig;
use crate::metadata::Image;

/// The deciders' own knowledge.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) rng: Rng,
}

impl Core {
    /// Deciders for a cluster of brokers with these settings.
    pub(crate) fn new(config: Arc<BrokerConfig>, seed: u64) -> Self {
        Self { config, rng: Rng::new(seed) }
    }

    /// The id of the `nth` topic that one decision on `image` creates.
    ///
    /// Unique even where chance repeats itself, as it does when a seed is used at two starts: each
    /// decision that creates a topic moves the end of the log, and ids differ within a decision.
    pub(super) fn topic_id(&mut self, image: &Image, nth: usize) -> TopicId {
        let nth = u16::try_from(nth).expect("a request creates at most 10,000 partitions");
        let mut id = [0; 16];
        id[..6].copy_from_slice(&self.rng.next_u64().to_be_bytes()[..6]);
        id[6..14].copy_from_slice(&image.end.0.saturating_add(1).to_be_bytes());
        id[14..].copy_from_slice(&nth.to_be_bytes());
        let id = TopicId(id);
        assert!(id.is_some());
        assert!(image.topic_by_id(id).is_none());
        id
    }
}
