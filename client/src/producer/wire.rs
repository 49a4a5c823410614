//! Produce requests out of batches, and what their answers say of each batch. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use protocol::record::RecordBatch;
use protocol::time::Timestamp;

use super::accumulator::QueueIndex;
use super::core::{Landed, Said};
use super::queue::{BatchId, Content, Outgoing};
use crate::cluster::Leader;
use crate::net::connection::CallError;

/// A batch as it was sent, kept until the answer comes.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) queue: QueueIndex,
    pub(crate) partition: TopicPartition,
    pub(crate) id: BatchId,
    pub(crate) batch: RecordBatch,
}

impl Sent {
    /// Compresses, numbers and checksums what was not yet; anew, if its number changed.
    pub(crate) fn new(
        queue: QueueIndex,
        partition: TopicPartition,
        outgoing: Outgoing,
        is_transactional: bool,
    ) -> Self {
        let Outgoing { id, content, stamp, sequence, .. } = outgoing;
        let (producer_id, producer_epoch) = (stamp.producer_id, stamp.producer_epoch);
        let batch = match content {
            Content::Built(builder) => {
                builder.finish(producer_id, producer_epoch, sequence, is_transactional)
            }
            Content::Finished(batch) => {
                let header = batch.header();
                let numbered = (header.producer_id, header.producer_epoch, header.base_sequence);
                if numbered == (producer_id, producer_epoch, sequence) {
                    batch
                } else {
                    batch.with_producer(producer_id, producer_epoch, sequence)
                }
            }
            Content::Away => unreachable!("a batch is given away once"),
        };
        Self { queue, partition, id, batch }
    }

    pub(crate) fn land(self, said: Said) -> Landed {
        let Self { queue, partition, id, batch } = self;
        Landed { queue, partition, id, content: batch, said }
    }
}

/// The request that carries these batches, at most one per partition.
pub(crate) fn request(
    sent: &[Sent],
    transactional_id: Option<&str>,
    acks: i16,
    timeout_ms: i32,
) -> ProduceRequest {
    let mut topics: BTreeMap<Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
    for it in sent {
        let data = PartitionProduceData {
            index: it.partition.partition.0,
            records: Some(it.batch.bytes().clone()),
        };
        topics.entry(Arc::clone(&it.partition.topic)).or_default().push(data);
    }
    let topic = |(name, partition_data): (Arc<str>, _)| TopicProduceData {
        name: name.to_string(),
        partition_data,
        ..TopicProduceData::default()
    };
    ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks,
        timeout_ms,
        topic_data: topics.into_iter().map(topic).collect(),
    }
}

/// What an answer says of each batch. Of a batch that it does not mention: nothing.
pub(crate) fn said(response: ProduceResponse, sent: Vec<Sent>) -> Vec<Landed> {
    let mut answers: BTreeMap<(String, i32), PartitionProduceResponse> = BTreeMap::new();
    for topic in response.responses {
        for answer in topic.partition_responses {
            answers.insert((topic.name.clone(), answer.index), answer);
        }
    }
    let of = |sent: Sent| {
        let key = (sent.partition.topic.to_string(), sent.partition.partition.0);
        let said = answers.remove(&key).map_or(Said::Nothing { is_in_doubt: true }, verdict);
        sent.land(said)
    };
    sent.into_iter().map(of).collect()
}

fn verdict(answer: PartitionProduceResponse) -> Said {
    match ErrorCode::from_wire(answer.error_code) {
        ErrorCode::None => Said::Written {
            base_offset: Offset(answer.base_offset),
            append_time: Timestamp(answer.log_append_time_ms),
        },
        code => {
            let of_record = answer.record_errors.into_iter().next();
            let message = answer
                .error_message
                .or_else(|| of_record.and_then(|it| it.batch_index_error_message));
            Said::Error { code, message }
        }
    }
}

/// With acks = 0 nothing is said, and everything is believed.
pub(crate) fn unasked(sent: Vec<Sent>) -> Vec<Landed> {
    let written = || Said::Written { base_offset: Offset::NONE, append_time: Timestamp::NONE };
    sent.into_iter().map(|it| it.land(written())).collect()
}

/// What a lost request says of its batches.
pub(crate) fn lost(error: &CallError, sent: Vec<Sent>) -> Vec<Landed> {
    let reason: Arc<str> = error.to_string().into();
    let said = || {
        if error.is_retriable() {
            Said::Nothing { is_in_doubt: error.is_in_doubt() }
        } else {
            Said::Impossible { reason: Arc::clone(&reason) }
        }
    };
    sent.into_iter().map(|it| it.land(said())).collect()
}

/// Leaders that an answer tells of beside its errors. KIP-951.
pub(crate) fn leaders(response: &ProduceResponse) -> Vec<(TopicPartition, Leader)> {
    let mut leaders = Vec::new();
    for topic in &response.responses {
        for answer in &topic.partition_responses {
            let hint = &answer.current_leader;
            if hint.leader_id >= 0 {
                let leader = Leader {
                    broker: BrokerId(hint.leader_id),
                    leader_epoch: LeaderEpoch(hint.leader_epoch),
                };
                leaders.push((TopicPartition::new(topic.name.as_str(), answer.index), leader));
            }
        }
    }
    leaders
}
