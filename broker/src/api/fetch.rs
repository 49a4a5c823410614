//! Fetch: read each partition up to what its reader may see, wait for more if there is too little.
//!
//! Partitions are read in the order asked for (a session rotates it) until the response is full;
//! the first batch is returned even if it alone is larger (KIP-74), so every reader moves on. With
//! fewer bytes than asked for, the request waits for the partitions' bells, or its time; an error
//! is told at once. `read_committed` readers see up to the last stable offset and are told which
//! transactions in their range were aborted.
//!
//! What is read is taken of the budget of memory before. While that is short an answer holds less, a
//! first batch that does not fit waits for its room, and who waited too long is answered with
//! nothing: its client asks again. Consumers that come by a plain socket are sent large stretches of a log from its
//! file, without memory. Shell.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use tokio::sync::Notify;

use super::Api;
use super::fetch_session::{Ask, Found, PartitionKey, Plan, TopicKey, Wanted};
use super::permit::brokers;
use super::serving::{Answer, Context, Held, Serving};
use crate::budget::{Budget, Grant, Use};
use crate::config::CompressionType;
use crate::limits::{BUDGET_SMALL_BYTES, RATION_WAIT_MAX};
use crate::metadata::AclOperation;
use crate::partition::{FetchFrom, Fetched, Isolation, PartitionHandle, Watermarks};
use crate::stretch::Stretch;

/// The first version that names topics by id. KIP-516.
const BY_TOPIC_ID: i16 = 13;
/// The session epoch of requests that know no sessions.
const NO_SESSION: i32 = -1;

/// The first version that tells who leads instead. KIP-951.
const TELLS_LEADER: i16 = 12;

/// The first version whose readers know zstd. KIP-110.
const KNOWS_ZSTD: i16 = 10;

/// What holds for all partitions of a request.
#[derive(Clone, Copy)]
struct Terms {
    version: i16,
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: usize,
    wait_max: Duration,
    /// Records may stay in their files.
    by_file: bool,
}

/// A partition to read, or why it cannot be.
struct Target {
    wanted: Wanted,
    handle: Result<PartitionHandle, ErrorCode>,
}

type Outcome = Result<Fetched, ErrorCode>;

/// What was read, and the memory that it takes.
struct Reading {
    outcomes: Vec<Outcome>,
    grant: Grant,
}

pub(super) fn fetch(api: &Api, context: &Context, request: FetchRequest) -> Serving {
    let by_topic_id = context.version >= BY_TOPIC_ID;
    let bytes_max = size(request.max_bytes).min(api.fetch_bytes_max());
    let is_followers = brokers::is_followers(&request);
    let terms = Terms {
        version: context.version,
        isolation: isolation(request.isolation_level),
        bytes_min: size(request.min_bytes).min(bytes_max),
        bytes_max,
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        by_file: context.takes_files && !is_followers,
    };
    let ask = ask(context, request, by_topic_id);
    let plan = if ask.session_id == 0 && ask.session_epoch == NO_SESSION {
        Ok(Plan::sessionless(ask.wanted))
    } else {
        api.fetch_sessions().begin(context.now.monotonic, ask)
    };
    match plan {
        Ok(mut plan) => {
            let targets = find_all(api, context, is_followers, std::mem::take(&mut plan.wanted));
            let api = api.clone();
            Serving::alone(async move { serve(&api, terms, plan, targets).await })
        }
        Err(code) => {
            Serving::ready(FetchResponse { error_code: code.to_wire(), ..Default::default() })
        }
    }
}

/// What readers of this isolation level of the wire may see. KIP-98.
pub(super) fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// A count of bytes of the wire; a negative one is none.
fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn ask(context: &Context, request: FetchRequest, by_topic_id: bool) -> Ask {
    let key = |name: String, id: TopicId| {
        if by_topic_id { TopicKey::Id(id) } else { TopicKey::Name(name.into()) }
    };
    let mut wanted = Vec::new();
    for FetchTopic { topic, topic_id, partitions } in request.topics {
        let topic = key(topic, topic_id);
        wanted.extend(partitions.into_iter().map(|it| Wanted {
            key: PartitionKey { topic: topic.clone(), partition: PartitionIndex(it.partition) },
            offset: Offset(it.fetch_offset),
            leader_epoch: known_epoch(it.current_leader_epoch),
            last_fetched_epoch: known_epoch(it.last_fetched_epoch),
            bytes_max: size(it.partition_max_bytes),
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let partitions = topic.partitions;
        let topic = key(topic.topic, topic.topic_id);
        forgotten.extend(partitions.into_iter().map(|partition| PartitionKey {
            topic: topic.clone(),
            partition: PartitionIndex(partition),
        }));
    }
    let (session_id, session_epoch) = (request.session_id, request.session_epoch);
    let owner = context.session.principal.clone();
    Ask { owner, session_id, session_epoch, by_topic_id, wanted, forgotten }
}

/// A leader epoch of the wire; -1 is none.
pub(super) fn known_epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

/// Finds what is wanted, as far as whoever asks may read it: who says that it is a broker must have
/// come where brokers speak, and be permitted to act for the cluster.
fn find_all(api: &Api, context: &Context, is_followers: bool, wanted: Vec<Wanted>) -> Vec<Target> {
    let gate = api.gate(context);
    let is_believed = !is_followers
        || (api.is_among_brokers(context)
            && gate.as_ref().is_none_or(|gate| gate.cluster(AclOperation::ClusterAction)));
    let may_read = |key: &PartitionKey| {
        let gate = gate.as_ref().filter(|_| !is_followers);
        is_believed
            && gate.is_none_or(|gate| match &key.topic {
                TopicKey::Name(name) => gate.topic(AclOperation::Read, name),
                TopicKey::Id(id) => gate.topic_id(AclOperation::Read, *id),
            })
    };
    let find = |wanted: Wanted| {
        let may_read = may_read(&wanted.key);
        let denied = Err(ErrorCode::TopicAuthorizationFailed);
        let handle = if may_read { find(api, &wanted.key) } else { denied };
        Target { wanted, handle }
    };
    let targets = wanted.into_iter().map(find).collect();
    if !is_believed && !api.is_among_brokers(context) {
        api.note_decision(context, ApiKey::Fetch, brokers::denied(), false);
    }
    api.note_asked(context, ApiKey::Fetch, gate.as_ref());
    targets
}

async fn serve(api: &Api, terms: Terms, plan: Plan, targets: Vec<Target>) -> Answer {
    let mut reading = read_all(api.budget(), &targets, terms).await;
    if !is_enough(&reading.outcomes, terms) && !targets.is_empty() && !terms.wait_max.is_zero() {
        reading = wait(api.budget(), &targets, terms, reading).await;
    }
    let Reading { outcomes, grant } = reading;
    let mut stretches = Vec::new();
    let response = respond(api, terms, &plan, (targets, outcomes), &mut stretches);
    Answer::Records(response.into(), Held { grant, stretches })
}

fn find(api: &Api, key: &PartitionKey) -> Result<PartitionHandle, ErrorCode> {
    match &key.topic {
        TopicKey::Name(name) => api.partitions().get(name, key.partition),
        TopicKey::Id(id) => api.partitions().get_by_id(*id, key.partition),
    }
    .map_err(|error| error.code())
}

/// Reads what there is, in as much memory as can be had for it.
async fn read_all(budget: &Budget, targets: &[Target], terms: Terms) -> Reading {
    // While there is plenty, a first batch may be larger than what was asked for.
    let is_easy = budget.is_easy();
    let bytes_max = wide(terms.bytes_max);
    let mut grant = match budget.ration(bytes_max) {
        Some(grant) => grant,
        None => claim(budget, Use::Small, bytes_max.min(BUDGET_SMALL_BYTES)).await,
    };
    let mut outcomes = read(targets, terms, &grant, is_easy).await;
    if !is_easy && let Some(batch_bytes) = left_out(targets, &outcomes, terms) {
        // Nothing is held while more is waited for: others may be waiting for that.
        drop((outcomes, grant));
        grant = claim(budget, Use::Answer, batch_bytes).await;
        let is_granted = grant.bytes() > 0;
        outcomes = read(targets, terms, &grant, is_granted).await;
    }
    grant.set(wide(room_bytes(&outcomes)));
    Reading { outcomes, grant }
}

/// Waits for memory; not for ever: then there is none.
async fn claim(budget: &Budget, of: Use, bytes: u64) -> Grant {
    let Ok(wait) = budget.take(of, bytes) else { return budget.nothing(of) };
    let granted = tokio::time::timeout(RATION_WAIT_MAX, wait).await;
    granted.unwrap_or_else(|_| budget.nothing(of))
}

/// How large the batches may be of the first partition that has records which did not fit, where
/// nothing was read at all.
fn left_out(targets: &[Target], outcomes: &[Outcome], terms: Terms) -> Option<u64> {
    if record_bytes(outcomes) > 0 {
        return None;
    }
    targets.iter().zip(outcomes).find_map(|(Target { wanted, handle }, outcome)| {
        let (handle, fetched) = (handle.as_ref().ok()?, outcome.as_ref().ok()?);
        let has_more = wanted.offset < fetched.watermarks.readable_end(terms.isolation);
        let is_cut = has_more && fetched.diverging.is_none();
        is_cut.then(|| u64::from(handle.config().max_message_bytes))
    })
}

/// Reads into the memory of `grant`, but for what stays in its file; with `at_least_one` the first batch
/// even if it is larger.
async fn read(targets: &[Target], terms: Terms, grant: &Grant, at_least_one: bool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut left = terms.bytes_max;
    let mut room_left = usize::try_from(grant.bytes()).unwrap_or(usize::MAX);
    let mut is_empty = true;
    for Target { wanted, handle } in targets {
        let from = FetchFrom {
            offset: wanted.offset,
            leader_epoch: wanted.leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            isolation: terms.isolation,
            max_bytes: wanted.bytes_max.min(left),
            room_bytes: room_left,
            at_least_one: at_least_one && is_empty,
            by_file: terms.by_file,
        };
        let outcome = match handle {
            Ok(handle) => {
                let is_zstd = || handle.config().compression_type == CompressionType::Zstd;
                if terms.version < KNOWS_ZSTD && is_zstd() {
                    Err(ErrorCode::UnsupportedCompressionType)
                } else {
                    handle.fetch(from).await.map_err(|error| error.code())
                }
            }
            Err(code) => Err(*code),
        };
        if let Ok(fetched) = &outcome {
            left = left.saturating_sub(fetched.records.len());
            room_left = room_left.saturating_sub(fetched.room_bytes());
            is_empty &= fetched.records.is_empty();
        }
        outcomes.push(outcome);
    }
    outcomes
}

/// True when the outcomes must not wait for more: there is enough, or something to be told.
fn is_enough(outcomes: &[Outcome], terms: Terms) -> bool {
    let is_news = |outcome: &Outcome| outcome.as_ref().is_ok_and(|it| it.diverging.is_none());
    record_bytes(outcomes) >= terms.bytes_min || !outcomes.iter().all(is_news)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn record_bytes(outcomes: &[Outcome]) -> usize {
    outcomes.iter().flatten().map(|fetched| fetched.records.len()).sum()
}

/// How much memory the records take.
fn room_bytes(outcomes: &[Outcome]) -> usize {
    outcomes.iter().flatten().map(Fetched::room_bytes).sum()
}

/// Waits until there is enough, or the time is over. All outcomes are without error.
async fn wait(budget: &Budget, targets: &[Target], terms: Terms, mut reading: Reading) -> Reading {
    let mut deadline = pin!(tokio::time::sleep(terms.wait_max));
    let mut seen: Vec<Watermarks> =
        reading.outcomes.iter().flatten().map(|fetched| fetched.watermarks).collect();
    loop {
        let bell = Arc::new(Notify::new());
        let waiting: Vec<_> = handles(targets)
            .zip(&seen)
            .map(|((wanted, handle), seen)| {
                let beyond = seen.readable_end(terms.isolation).max(wanted.offset);
                handle.wait(terms.isolation, beyond, bell.clone())
            })
            .collect();
        let is_over = tokio::select! {
            biased;
            () = bell.notified() => false,
            () = &mut deadline => true,
        };
        drop(waiting);
        let now: Vec<_> =
            handles(targets).map(|(_, handle)| *handle.watermarks().borrow()).collect();
        let gained: u64 = reading
            .outcomes
            .iter()
            .flatten()
            .zip(&now)
            .map(|(before, now)| {
                now.committed_bytes.saturating_sub(before.watermarks.committed_bytes)
            })
            .sum();
        let gained = usize::try_from(gained).unwrap_or(usize::MAX);
        let may_be_enough = record_bytes(&reading.outcomes).saturating_add(gained)
            >= terms.bytes_min
            || now.iter().zip(&seen).any(|(now, seen)| has_ended(now, seen));
        if is_over && gained == 0 && !may_be_enough {
            return reading;
        }
        seen = now;
        if is_over || may_be_enough {
            reading = read_all(budget, targets, terms).await;
            if is_over || is_enough(&reading.outcomes, terms) {
                return reading;
            }
        }
    }
}

fn handles(targets: &[Target]) -> impl Iterator<Item = (&Wanted, &PartitionHandle)> {
    targets.iter().filter_map(|target| Some((&target.wanted, target.handle.as_ref().ok()?)))
}

/// True when the leadership that the reader knew is over: it must be told.
fn has_ended(now: &Watermarks, seen: &Watermarks) -> bool {
    !now.online || now.leader_epoch != seen.leader_epoch
}

fn respond(
    api: &Api,
    terms: Terms,
    plan: &Plan,
    (targets, outcomes): (Vec<Target>, Vec<Outcome>),
    stretches: &mut Vec<Arc<Stretch>>,
) -> FetchResponse {
    let mut sessions = plan.has_session().then(|| api.fetch_sessions());
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (Target { wanted, .. }, outcome) in targets.into_iter().zip(outcomes) {
        let stretch = outcome.as_ref().ok().and_then(|fetched| fetched.stretch.clone());
        let mut data = partition_data(&wanted.key, outcome);
        if terms.version >= TELLS_LEADER {
            data.current_leader = current_leader(api, &wanted.key, data.error_code);
        }
        let found = Found {
            has_records: data.records.as_ref().is_some_and(|records| !records.is_empty()),
            is_error: data.error_code != 0,
            is_diverging: data.diverging_epoch != EpochEndOffset::default(),
            high_watermark: Offset(data.high_watermark),
            log_start: Offset(data.log_start_offset),
        };
        if let Some(sessions) = &mut sessions
            && !sessions.tells(plan, &wanted.key, found)
        {
            continue;
        }
        if last.as_ref() != Some(&wanted.key.topic) {
            responses.push(topic_response(&wanted.key.topic));
        }
        let topic = responses.last_mut().expect("one was pushed for the first topic");
        topic.partitions.push(data);
        stretches.extend(stretch);
        last = Some(wanted.key.topic);
    }
    FetchResponse { session_id: plan.session_id(), responses, ..Default::default() }
}

fn topic_response(key: &TopicKey) -> FetchableTopicResponse {
    match key {
        TopicKey::Name(name) => {
            FetchableTopicResponse { topic: name.to_string(), ..Default::default() }
        }
        TopicKey::Id(id) => FetchableTopicResponse { topic_id: *id, ..Default::default() },
    }
}

fn partition_data(key: &PartitionKey, outcome: Outcome) -> PartitionData {
    let partition_index = key.partition.0;
    match outcome {
        Ok(fetched) => {
            let aborted = fetched.aborted.map(|aborted| {
                let entry = |it: crate::partition::AbortedTransaction| AbortedTransaction {
                    producer_id: it.producer_id.0,
                    first_offset: it.first_offset.0,
                };
                aborted.into_iter().map(entry).collect()
            });
            let diverging = fetched
                .diverging
                .map(|(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 });
            PartitionData {
                partition_index,
                high_watermark: fetched.watermarks.high_watermark.0,
                last_stable_offset: fetched.watermarks.last_stable.0,
                log_start_offset: fetched.watermarks.log_start.0,
                diverging_epoch: diverging.unwrap_or_default(),
                aborted_transactions: aborted,
                records: Some(fetched.records),
                ..Default::default()
            }
        }
        Err(code) => PartitionData {
            partition_index,
            error_code: code.to_wire(),
            high_watermark: -1,
            aborted_transactions: is_unknown(code).then(Vec::new),
            ..Default::default()
        },
    }
}

/// Whether there is no such partition at all.
fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
}

/// Who leads instead, for a reader whose metadata are stale. KIP-951.
fn current_leader(api: &Api, key: &PartitionKey, error_code: i16) -> LeaderIdAndEpoch {
    let is_stale = matches!(
        ErrorCode::from_wire(error_code),
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
    );
    let leader = is_stale.then(|| match &key.topic {
        TopicKey::Name(name) => api.leader(name, key.partition),
        TopicKey::Id(id) => api.leader_by_id(*id, key.partition),
    });
    leader.flatten().map_or_else(LeaderIdAndEpoch::default, |(leader, leader_epoch)| {
        LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: leader_epoch.0 }
    })
}
