//! The producer's core against a log that numbers as a broker does, and loses what it likes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use protocol::rng::Rng;

use super::super::wire::Sent;
use super::*;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 2;

fn limits() -> Limits {
    Limits {
        codec: protocol::record::Codec::None,
        batch_bytes: 200,
        request_bytes: 1_000,
        buffer_bytes: 100_000,
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(60),
        in_flight_max: 5,
    }
}

fn cluster() -> Cluster {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..MetadataResponsePartition::default()
    };
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "one".to_owned(),
        port: 1,
        ..MetadataResponseBroker::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(TOPIC.to_owned()),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..MetadataResponseTopic::default()
    };
    let mut cluster = Cluster::default();
    let response = MetadataResponse {
        brokers: vec![broker],
        topics: vec![topic],
        ..MetadataResponse::default()
    };
    cluster.update(Duration::ZERO, &response);
    cluster
}

fn core() -> Core {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Rng::new(1));
    let mut core = Core::new(limits(), None, true, (backoff.clone(), backoff), Rng::new(2));
    core.set_stamp(Stamp { producer_id: ProducerId(7), producer_epoch: ProducerEpoch(0) });
    core.accumulator.want_topic(TOPIC);
    core.learn(&cluster());
    core
}

fn append(core: &mut Core, now: Duration, partition: i32, value: u32) {
    let value = value.to_be_bytes();
    let record = Append {
        topic: TOPIC,
        partition: Some(partition),
        timestamp: Timestamp(0),
        key: None,
        value: Some(&value),
        headers: &[],
    };
    core.append(&record, || now).unwrap();
}

/// One partition's log: what a leader keeps of its producers, and what was appended.
#[derive(Default)]
struct Log {
    records: Vec<u32>,
    /// The epoch, and by batch its first and last sequence and its base offset; five at most.
    producer: Option<(ProducerEpoch, Vec<Known>)>,
}

/// A batch as its log remembers it.
type Known = (Sequence, Sequence, Offset);

impl Log {
    fn append(&mut self, batch: &RecordBatch) -> Result<Offset, ErrorCode> {
        let header = *batch.header();
        let (first, last) = (header.base_sequence, header.last_sequence());
        let (epoch, batches) = self.producer.get_or_insert((header.producer_epoch, Vec::new()));
        if header.producer_epoch < *epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if header.producer_epoch > *epoch {
            if first != Sequence(0) {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            (*epoch, *batches) = (header.producer_epoch, Vec::new());
        }
        if let Some(known) = batches.iter().find(|it| (it.0, it.1) == (first, last)) {
            return Ok(known.2);
        }
        if batches.last().is_some_and(|it| it.1.plus(1) != first) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        let base = Offset(i64::try_from(self.records.len()).unwrap());
        for record in batch.records() {
            let value = record.unwrap().value.unwrap().try_into().unwrap();
            self.records.push(u32::from_be_bytes(value));
        }
        batches.push((first, last, base));
        let excess = batches.len().saturating_sub(5);
        batches.drain(..excess);
        Ok(base)
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Heard,
    /// Carried out, but the answer is lost, with all that come after on the connection.
    AnswerLost,
    /// Never arrives, with all that come after on the connection.
    Lost,
    /// The broker says to come back.
    Deferred(ErrorCode),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        partition: i32,
    },
    Send,
    /// The oldest answers come, so many.
    Receive(usize),
    Wait(u64),
}

struct World {
    core: Core,
    cluster: Cluster,
    logs: Vec<Log>,
    now: Duration,
    appended: Vec<Vec<u32>>,
    settled: BTreeMap<BatchId, Result<BatchAck, ProduceError>>,
    under_way: VecDeque<(BrokerId, Vec<Landed>)>,
    fates: std::vec::IntoIter<Fate>,
    /// The connection is broken: what follows is lost until all of it came back.
    is_broken: bool,
}

impl World {
    fn new(fates: Vec<Fate>) -> Self {
        Self {
            core: core(),
            cluster: cluster(),
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            now: Duration::ZERO,
            appended: vec![Vec::new(); usize::try_from(PARTITIONS).unwrap()],
            settled: BTreeMap::new(),
            under_way: VecDeque::new(),
            fates: fates.into_iter(),
            is_broken: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { partition } => {
                let appended = &mut self.appended[usize::try_from(partition).unwrap()];
                // No two partitions have a value in common: one that strays is found out.
                let value = (u32::try_from(partition).unwrap() << 16)
                    | u32::try_from(appended.len()).unwrap();
                appended.push(value);
                append(&mut self.core, self.now, partition, value);
            }
            Step::Send => self.send(),
            Step::Receive(count) => {
                for _ in 0..count {
                    self.receive();
                }
            }
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
        }
        self.core.accumulator.check();
    }

    fn send(&mut self) {
        let plan = self.core.plan(self.now, &self.cluster);
        self.settle(plan.settled);
        for request in plan.requests {
            let fate = self.fates.next().unwrap_or(Fate::Heard);
            let fate = if self.is_broken { Fate::Lost } else { fate };
            self.is_broken |= matches!(fate, Fate::Lost | Fate::AnswerLost);
            let land = |(queue, partition, outgoing)| {
                let sent = Sent::new(queue, partition, outgoing, false);
                let said = said(&mut self.logs, fate, &sent);
                sent.land(said)
            };
            let landed = request.batches.into_iter().map(land).collect();
            self.under_way.push_back((request.broker, landed));
        }
    }

    fn receive(&mut self) {
        if let Some((broker, landed)) = self.under_way.pop_front() {
            let settled = self.core.land(self.now, broker, landed);
            self.settle(settled);
            self.core.learn(&self.cluster);
        }
        self.is_broken &= !self.under_way.is_empty();
    }

    fn settle(&mut self, settled: Vec<Settled>) {
        for it in settled {
            assert_eq!(self.settled.insert(it.id, it.outcome), None, "a batch settles once");
        }
    }

    /// Lets everything come to rest.
    fn finish(&mut self) {
        self.core.accumulator.seal_all();
        for _ in 0..1_000 {
            self.send();
            self.receive();
            self.now += Duration::from_millis(100);
            if self.core.accumulator.is_done_before(self.core.accumulator.horizon()) {
                return;
            }
        }
        panic!("the producer never comes to rest");
    }
}

fn said(logs: &mut [Log], fate: Fate, sent: &Sent) -> Said {
    let log = &mut logs[usize::try_from(sent.partition.partition.0).unwrap()];
    match fate {
        Fate::Lost => Said::Nothing { is_in_doubt: true },
        Fate::AnswerLost => {
            let _ = log.append(&sent.batch);
            Said::Nothing { is_in_doubt: true }
        }
        Fate::Deferred(code) => Said::Error { code, message: None },
        Fate::Heard => match log.append(&sent.batch) {
            Ok(base_offset) => Said::Written { base_offset, append_time: Timestamp::NONE },
            Err(code) => Said::Error { code, message: None },
        },
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..PARTITIONS).prop_map(|partition| Step::Append { partition }),
        3 => Just(Step::Send),
        2 => (1_usize..4).prop_map(Step::Receive),
        1 => (1_u64..200).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

fn fates(with_refusals: bool) -> impl Strategy<Value = Vec<Fate>> {
    let refusal = if with_refusals { 2 } else { 0 };
    let fate = prop_oneof![
        8 => Just(Fate::Heard),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Deferred(ErrorCode::NotLeaderOrFollower)),
        1 => Just(Fate::Deferred(ErrorCode::NotEnoughReplicas)),
        refusal => Just(Fate::Deferred(ErrorCode::MessageTooLarge)),
    ];
    prop::collection::vec(fate, 0..200)
}

proptest! {
    #[test]
    fn whatever_is_lost_on_the_way_every_record_is_written_once_and_in_order(
        steps in steps(), fates in fates(false),
    ) {
        let mut world = World::new(fates);
        steps.into_iter().for_each(|it| world.step(it));
        world.finish();
        for (log, appended) in world.logs.iter().zip(&world.appended) {
            prop_assert_eq!(&log.records, appended);
        }
        let failed: Vec<_> = world.settled.values().filter_map(|it| it.as_ref().err()).collect();
        prop_assert!(failed.is_empty(), "{failed:?}");
        prop_assert_eq!(world.core.accumulator.used_bytes(), 0);
    }

    #[test]
    fn a_refused_batch_costs_no_other_one_its_place_and_none_is_written_twice(
        steps in steps(), fates in fates(true),
    ) {
        let mut world = World::new(fates);
        steps.into_iter().for_each(|it| world.step(it));
        world.finish();
        for log in &world.logs {
            prop_assert!(log.records.is_sorted_by(|a, b| a < b), "{:?}", log.records);
        }
        let lost = world.settled.values().filter_map(|it| it.as_ref().err());
        let lost: i32 = lost.map(|it| match it {
            ProduceError::Refused { record_count, .. } => *record_count,
            ProduceError::InDoubt { record_count, .. } => *record_count,
            other => panic!("{other}"),
        }).sum();
        let (written, appended): (usize, usize) = (
            world.logs.iter().map(|it| it.records.len()).sum(),
            world.appended.iter().map(Vec::len).sum(),
        );
        // What is in doubt may be written all the same.
        prop_assert!(written + usize::try_from(lost).unwrap() >= appended);
        prop_assert!(written <= appended);
    }
}

#[test]
fn a_batch_in_doubt_is_not_overtaken_by_more_than_a_broker_remembers() {
    let later = Fate::Deferred(ErrorCode::NotLeaderOrFollower);
    let heard = Fate::Heard;
    let fates =
        vec![heard, Fate::AnswerLost, later, heard, later, heard, heard, heard, heard, heard];
    let mut world = World::new(fates);
    for _ in 0..8 {
        world.step(Step::Append { partition: 0 });
        world.core.accumulator.seal_all();
    }
    for count in [1, 1, 2, 5] {
        for _ in 0..count {
            world.step(Step::Send);
        }
        world.step(Step::Receive(count));
        world.step(Step::Wait(2_000));
    }
    world.finish();
    assert_eq!(world.logs[0].records, (0..8).collect::<Vec<_>>());
    assert!(world.settled.values().all(Result::is_ok));
}

#[test]
fn an_acknowledgement_tells_where_the_batch_is() {
    let mut world = World::new(Vec::new());
    for _ in 0..3 {
        world.step(Step::Append { partition: 1 });
    }
    world.finish();
    world.step(Step::Append { partition: 1 });
    world.finish();
    let acks: Vec<_> =
        world.core.take_acks().into_iter().map(|it| (it.base_offset.0, it.record_count)).collect();
    assert_eq!(acks, [(0, 3), (3, 1)]);
}

#[test]
fn a_batch_waits_for_others_until_it_has_lingered_or_is_large() {
    let mut core = core();
    let cluster = cluster();
    let at = Duration::from_secs(1);
    append(&mut core, at, 0, 1);
    assert!(core.plan(at, &cluster).requests.is_empty());
    assert_eq!(core.wake_at(at), Some(at + limits().linger));
    assert_eq!(core.plan(at + limits().linger, &cluster).requests.len(), 1);
    let full = 200 / 10;
    (0..full).for_each(|it| append(&mut core, at, 1, it));
    assert_eq!(core.plan(at, &cluster).requests.len(), 1, "the first is full, the second lingers");
}

#[test]
fn a_batch_that_is_overdue_behind_its_elder_does_not_hide_when_another_is_due_again() {
    let mut core = core();
    let cluster = cluster();
    let send = |core: &mut Core, at, partition| {
        append(core, at, partition, 1);
        core.plan(at + limits().linger, &cluster).requests
    };
    let at = Duration::from_secs(1);
    assert_eq!(send(&mut core, at, 0).len(), 1);
    assert_eq!(send(&mut core, at, 0).len(), 0, "it waits for its elder");
    let now = at + limits().delivery_timeout + Duration::from_secs(1);
    let mut requests = send(&mut core, now - limits().linger, 1);
    let (queue, partition, batch) = requests[0].batches.remove(0);
    let said = Said::Error { code: ErrorCode::NotEnoughReplicas, message: None };
    let landed = Sent::new(queue, partition, batch, false).land(said);
    assert!(core.land(now, BrokerId(1), vec![landed]).is_empty());
    assert!(core.plan(now, &cluster).settled.is_empty(), "while its elder is under way");
    let wake_at = core.wake_at(now).unwrap();
    assert!(now < wake_at && wake_at < now + Duration::from_millis(200), "{wake_at:?}");
}

#[test]
fn no_more_than_five_requests_are_under_way_to_one_broker() {
    let mut sent = 0;
    let mut world = World::new(Vec::new());
    world.step(Step::Append { partition: 0 });
    world.finish();
    let at = world.now;
    for value in 0..400 {
        append(&mut world.core, at, 0, value);
        sent += world.core.plan(at, &world.cluster).requests.len();
    }
    assert_eq!(sent, 5);
}

#[test]
fn memory_is_bounded_and_says_so_and_is_free_again_once_acknowledged() {
    let mut world = World::new(Vec::new());
    let value = [0; 500];
    let record = Append {
        topic: TOPIC,
        partition: Some(0),
        timestamp: Timestamp(0),
        key: None,
        value: Some(&value),
        headers: &[],
    };
    let refused = loop {
        if let Err(refused) = world.core.append(&record, || Duration::ZERO) {
            break refused;
        }
    };
    assert!(matches!(refused, AppendError::BufferFull { .. }));
    assert!(refused.is_retriable());
    assert!(world.core.accumulator.used_bytes() <= limits().buffer_bytes);
    assert!(world.core.accumulator.is_full());
    let plan = world.core.plan(Duration::from_secs(1), &world.cluster);
    for request in plan.requests {
        let written = Said::Written { base_offset: Offset(0), append_time: Timestamp::NONE };
        let land =
            |(queue, partition, it)| Sent::new(queue, partition, it, false).land(written.clone());
        let landed = request.batches.into_iter().map(land).collect();
        world.core.land(Duration::ZERO, request.broker, landed);
    }
    assert!(world.core.append(&record, || Duration::ZERO).is_ok());
}

#[test]
fn what_is_not_delivered_in_time_is_reported_and_nothing_after_it_is_lost() {
    let mut core = core();
    append(&mut core, Duration::ZERO, 0, 1);
    let nobody = Cluster::default();
    assert!(core.plan(Duration::from_secs(1), &nobody).wants_metadata);
    let late = Duration::from_secs(61);
    let plan = core.plan(late, &nobody);
    assert!(matches!(
        plan.settled[0].outcome,
        Err(ProduceError::Expired { record_count: 1, is_in_doubt: false, .. })
    ));
    assert!(core.take_failure().is_err());
    assert!(core.take_failure().is_ok(), "it is told once");
    append(&mut core, late, 0, 2);
    assert_eq!(core.plan(late + limits().linger, &cluster()).requests.len(), 1);
}

#[test]
fn a_topic_of_which_nothing_is_known_is_asked_for() {
    let mut core = core();
    let record = Append {
        topic: "other",
        partition: None,
        timestamp: Timestamp(0),
        key: None,
        value: None,
        headers: &[],
    };
    let pending = core.append(&record, || Duration::ZERO).unwrap_err();
    assert!(matches!(pending, AppendError::TopicPending { .. }));
    assert!(core.plan(Duration::ZERO, &cluster()).wants_metadata);
}
