//! Producer ids, given away in blocks.
//!
//! A block belongs to one broker, which hands its ids out one by one; what is left of it at a
//! crash is never used. Ids are unique for the cluster's life. KIP-730. Pure.

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerEpoch, BrokerId, ProducerId};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::metadata::{Image, ProducerIdsRecord};

/// How many producer ids a block holds, as in Kafka.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Ids that belong to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub start: ProducerId,
    /// The end of the block, exclusive.
    pub end: ProducerId,
}

/// Why a block is not given away.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProducerIdError {
    /// The broker never registered.
    #[error("broker {0} is not registered")]
    NotRegistered(BrokerId),
    /// A newer run of the broker registered.
    #[error("broker {broker}: epoch {epoch} is fenced by {current}")]
    StaleEpoch {
        /// The broker.
        broker: BrokerId,
        /// The epoch that it gave.
        epoch: BrokerEpoch,
        /// Its newest.
        current: BrokerEpoch,
    },
    /// There are no ids left.
    #[error("producer ids are exhausted")]
    Exhausted,
}

impl ProducerIdError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotRegistered(_) => ErrorCode::BrokerIdNotRegistered,
            Self::StaleEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            // None comes back: to try again would not help. Kafka says the same.
            Self::Exhausted => ErrorCode::UnknownServerError,
        }
    }
}

impl Core {
    /// Gives the next block to this run of `broker`.
    pub(crate) fn allocate_producer_ids(
        &self,
        image: &Image,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Outcome<Result<ProducerIdBlock, ProducerIdError>> {
        match next_block(image, broker, epoch) {
            Ok(block) => {
                let record = ProducerIdsRecord {
                    broker_id: broker.0,
                    broker_epoch: epoch.0,
                    next_producer_id: block.end.0,
                };
                Outcome { records: vec![record.into()], reply: Ok(block) }
            }
            Err(error) => Outcome { records: Vec::new(), reply: Err(error) },
        }
    }
}

fn next_block(
    image: &Image,
    broker: BrokerId,
    epoch: BrokerEpoch,
) -> Result<ProducerIdBlock, ProducerIdError> {
    let current = image.broker(broker).ok_or(ProducerIdError::NotRegistered(broker))?.epoch;
    if current != epoch {
        return Err(ProducerIdError::StaleEpoch { broker, epoch, current });
    }
    let start = image.next_producer_id;
    let end = start.0.checked_add(PRODUCER_ID_BLOCK).ok_or(ProducerIdError::Exhausted)?;
    Ok(ProducerIdBlock { start, end: ProducerId(end) })
}
