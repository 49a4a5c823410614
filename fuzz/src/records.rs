//! Records of the coordinators' logs: what is understood is written so that it is understood the
//! same, and a coordinator that loads a log survives whatever stands in it. What members of groups
//! tell one another is read likewise.
//!
//! Input: records, each a key with its length before it (a byte), and a value with its length
//! before it (two bytes; all ones: none). Pure.

use std::sync::Arc;
use std::time::Duration;

use broker::config::BrokerConfig;
use broker::coordinator::{KeyValue, Logged, Shard, Token};
use broker::group::assignor::Assignor;
use broker::group::beat::ConsumerSettings;
use broker::group::consumer_record::Change;
use broker::group::member::JoinSettings;
use broker::group::record::{GroupRecord, group_record, offset_record};
use broker::group::{self, GroupShard};
use broker::txn::{self, TxnShard};
use bytes::Bytes;
use protocol::consumer_protocol::{self, ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use protocol::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::message::{Versioned, encode_record};
use protocol::primitive::Context;
use protocol::rng::Rng;
use protocol::sample::Sample;
use protocol::time::{Now, Timestamp};

use crate::input::{Input, long, short};
use crate::memory::in_proportion;

/// Records that are read, of one input.
const RECORDS_MAX: usize = 24;
/// The length that stands for no value.
const NO_VALUE: usize = 0xffff;

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut entries = Vec::new();
    while !input.is_empty() && entries.len() < RECORDS_MAX {
        let key = Bytes::copy_from_slice(input.short());
        let length = input.number();
        let value = (length != NO_VALUE).then(|| Bytes::copy_from_slice(input.take(length)));
        entries.push(KeyValue { key, value });
    }
    in_proportion(bytes.len(), 0, || {
        for entry in &entries {
            check_group(entry);
            check_txn(entry);
            if let Some(value) = &entry.value {
                check_told::<ConsumerProtocolSubscription>(value);
                check_told::<ConsumerProtocolAssignment>(value);
            }
        }
        load_groups(&entries);
        load_txns(&entries);
    });
}

fn check_group(entry: &KeyValue) {
    let Ok(record) = GroupRecord::read(entry) else { return };
    let written = match &record {
        GroupRecord::Offset { group, partition, committed } => {
            offset_record(group, partition, committed.as_ref())
        }
        GroupRecord::Classic { group, metadata } => group_record(group, metadata.as_ref()),
        GroupRecord::Consumer { group, change } => change.record(group),
        GroupRecord::Unknown => return,
    };
    assert_eq!(GroupRecord::read(&written), Ok(record));
}

fn check_txn(entry: &KeyValue) {
    let Ok((id, txn)) = txn::record::read(entry) else { return };
    let written = txn::record::write(&id, txn.as_ref());
    assert_eq!(txn::record::read(&written), Ok((id, txn)));
}

fn check_told<T: Versioned + PartialEq + std::fmt::Debug>(bytes: &Bytes) {
    let Ok(told) = consumer_protocol::decode::<T>(bytes.clone()) else { return };
    let newest = *T::VERSIONS.end();
    let version = i16::from_be_bytes([bytes[0], bytes[1]]).min(newest);
    let written = consumer_protocol::encode(version, &told).expect("what was read can be written");
    assert_eq!(consumer_protocol::decode(written), Ok(told));
}

fn now(seconds: u64) -> Now {
    let wall = i64::try_from(seconds).expect("a small number");
    Now {
        monotonic: Duration::from_secs(seconds),
        wall: Timestamp(1_800_000_000_000 + wall * 1000),
    }
}

fn logged(number: i64, entry: &KeyValue) -> Logged {
    let producer = (number % 8 == 7).then_some((ProducerId(number), ProducerEpoch(0)));
    let timestamp = Timestamp(1_800_000_000_000 - number * 1000);
    Logged { offset: Offset(number), timestamp, entry: entry.clone(), producer }
}

fn load<S: Shard>(mut shard: S, entries: &[KeyValue]) -> S {
    for (number, entry) in (0..).zip(entries) {
        shard.replay(now(1), &logged(number, entry));
    }
    let mut outcomes = Vec::new();
    shard.loaded(now(2), &mut outcomes);
    for seconds in [3, 60, 3600, 86_400 * 30] {
        outcomes.clear();
        shard.tick(now(seconds), &mut outcomes);
        for (number, entry) in (100..).zip(outcomes.iter().flat_map(written)) {
            shard.replay(now(seconds), &logged(number, &entry));
        }
        let _ = shard.wake_at();
    }
    shard
}

fn written<S: Shard>(outcome: &broker::coordinator::Outcome<S>) -> Vec<KeyValue> {
    outcome.records.as_ref().map(|records| records.entries.clone()).unwrap_or_default()
}

thread_local! {
    static GROUPS: group::Limits = group_limits();
}

fn group_limits() -> group::Limits {
    let broker = BrokerConfig::default();
    group::Limits {
        join: JoinSettings { members_max: 100, initial_delay: Duration::from_secs(3) },
        consumer: ConsumerSettings {
            session_timeout: broker.group_consumer_session_timeout,
            heartbeat_interval: broker.group_consumer_heartbeat_interval,
            members_max: 100,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: broker.group_consumer_migration_policy,
        },
        session_timeout_min: broker.group_min_session_timeout,
        session_timeout_max: broker.group_max_session_timeout,
        metadata_bytes_max: 4096,
        retention: broker.offsets_retention,
        retention_check: broker.offsets_retention_check_interval,
        groups_max: 100,
        broker: Arc::new(broker),
    }
}

fn load_groups(entries: &[KeyValue]) {
    let limits = GROUPS.with(Clone::clone);
    let mut shard = load(GroupShard::new(limits, 1), entries);
    let mut outcomes = Vec::new();
    shard.handle(now(10), Token(1), group::Request::List, &mut outcomes);
    let names: Vec<_> = entries.iter().filter_map(group_of).collect();
    for group in names {
        let asked = [
            group::Request::Describe(Arc::clone(&group)),
            group::Request::DescribeConsumer(Arc::clone(&group)),
            group::Request::Delete(group),
        ];
        for request in asked {
            shard.handle(now(10), Token(2), request, &mut outcomes);
        }
    }
}

fn group_of(entry: &KeyValue) -> Option<Arc<str>> {
    match GroupRecord::read(entry).ok()? {
        GroupRecord::Offset { group, .. }
        | GroupRecord::Classic { group, .. }
        | GroupRecord::Consumer { group, .. } => Some(group),
        GroupRecord::Unknown => None,
    }
}

fn load_txns(entries: &[KeyValue]) {
    let limits = txn::Limits {
        timeout_max: Duration::from_secs(900),
        expiration: Duration::from_secs(7 * 86_400),
        expiration_check: Duration::from_secs(3600),
        ids_max: 100,
    };
    let mut shard = load(TxnShard::new(limits, CoordinatorEpoch(1)), entries);
    let mut outcomes = Vec::new();
    for id in entries.iter().filter_map(|entry| Some(txn::record::read(entry).ok()?.0)) {
        let init = txn::Init {
            id: Arc::clone(&id),
            timeout: Duration::from_secs(60),
            current: None,
            fresh: ProducerId(1),
        };
        shard.handle(now(10), Token(1), txn::Request::Init(init), &mut outcomes);
        shard.handle(now(10), Token(2), txn::Request::Describe(id), &mut outcomes);
    }
}

fn seed(entries: &[KeyValue]) -> Vec<u8> {
    let mut seed = Vec::new();
    for KeyValue { key, value } in entries {
        seed.extend(short(key));
        match value {
            Some(value) => seed.extend(long(value)),
            None => seed.extend([0xff, 0xff]),
        }
    }
    seed
}

fn samples<T: Versioned + Sample>(rng: &mut Rng) -> Vec<Bytes> {
    let mut written = Vec::new();
    for version in T::VERSIONS {
        let cx = Context { version, flexible: T::is_flexible(version) };
        for _ in 0..3 {
            written.push(encode_record(version, &T::sample(rng, cx)).expect("a sample"));
        }
    }
    written
}

/// Every kind of record, with and without a value; and logs of a few.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    use broker::group::consumer_record as consumer;
    use broker::group::record as classic;
    let mut rng = Rng::new(5);
    let rng = &mut rng;
    let mut entries = Vec::new();
    let mut pair = |keys: Vec<Bytes>, values: Vec<Bytes>| {
        for key in keys.iter().take(2) {
            entries.push(KeyValue { key: key.clone(), value: None });
            for value in &values {
                entries.push(KeyValue { key: key.clone(), value: Some(value.clone()) });
            }
        }
    };
    pair(samples::<classic::OffsetCommitKey>(rng), samples::<classic::OffsetCommitValue>(rng));
    pair(samples::<classic::GroupMetadataKey>(rng), samples::<classic::GroupMetadataValue>(rng));
    let keyed = |version: i16, key: Bytes| {
        [Bytes::copy_from_slice(&version.to_be_bytes()), key.slice(2..)].concat().into()
    };
    let of_group: Bytes = samples::<consumer::ConsumerGroupKey>(rng).remove(0);
    let of_member: Bytes = samples::<consumer::ConsumerGroupMemberKey>(rng).remove(0);
    let of_group = |version| vec![keyed(version, of_group.clone())];
    let of_member = |version| vec![keyed(version, of_member.clone())];
    pair(of_group(3), samples::<consumer::ConsumerGroupMetadataValue>(rng));
    pair(of_member(5), samples::<consumer::ConsumerGroupMemberMetadataValue>(rng));
    pair(of_group(6), samples::<consumer::ConsumerGroupTargetAssignmentMetadataValue>(rng));
    pair(of_member(7), samples::<consumer::ConsumerGroupTargetAssignmentMemberValue>(rng));
    pair(of_member(8), samples::<consumer::ConsumerGroupCurrentMemberAssignmentValue>(rng));
    pair(
        samples::<consumer::ConsumerGroupRegularExpressionKey>(rng),
        samples::<consumer::ConsumerGroupRegularExpressionValue>(rng),
    );
    pair(
        samples::<txn::record::TransactionLogKey>(rng),
        samples::<txn::record::TransactionLogValue>(rng),
    );
    pair(Vec::new(), Vec::new());
    let mut seeds: Vec<_> = entries.iter().map(|it| seed(std::slice::from_ref(it))).collect();
    let at = TopicPartition::new("t", 1);
    let history = [
        offset_record("g", &at, None),
        Change::Epoch(Some((group::modern::Epoch(3), 5))).record("g"),
        Change::TargetEpoch(Some(group::modern::Epoch(3))).record("g"),
        Change::Epoch(None).record("g"),
        group_record("g", None),
    ];
    seeds.push(seed(&history));
    seeds.extend(entries.chunks(6).map(seed));
    seeds.extend(
        samples::<ConsumerProtocolSubscription>(rng).into_iter().map(|value| {
            seed(&[KeyValue { key: Bytes::from_static(b"\0\x30"), value: Some(value) }])
        }),
    );
    seeds
}
