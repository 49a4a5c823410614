use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::time::{Now, Timestamp};

mod markers;
mod model;
mod scenarios;

use super::*;
use crate::coordinator::{Logged, Outcome, Release, Shard, Token};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A shard with its log: outcomes are appended, replayed and answered at once; markers are
/// written when the test says so.
struct World {
    shard: TxnShard,
    now: Now,
    tokens: u64,
    fresh: i64,
    log: Vec<Logged>,
    owed: Vec<Decided>,
}

fn limits() -> Limits {
    Limits {
        timeout_max: Duration::from_secs(900),
        expiration: Duration::from_secs(7 * 24 * 3600),
        expiration_check: Duration::from_secs(3600),
        ids_max: 10,
    }
}

impl World {
    fn new() -> Self {
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp(1_000_000) };
        let shard = TxnShard::new(limits(), CoordinatorEpoch(1));
        let mut world =
            Self { shard, now, tokens: 0, fresh: 1000, log: Vec::new(), owed: Vec::new() };
        world.load();
        world
    }

    /// Another broker takes over: all it has is the log.
    fn fail_over(&mut self) {
        self.shard = TxnShard::new(limits(), CoordinatorEpoch(2));
        self.owed.clear();
        self.load();
    }

    fn load(&mut self) {
        for record in &self.log {
            self.shard.replay(self.now, record);
        }
        let mut outcomes = Vec::new();
        self.shard.loaded(self.now, &mut outcomes);
        assert!(self.settle(outcomes).is_none());
    }

    fn settle(&mut self, outcomes: Vec<Outcome<TxnShard>>) -> Option<Reply> {
        let mut answer = None;
        for Outcome { records, releases } in outcomes {
            for entry in records.into_iter().flat_map(|it| it.entries) {
                let offset = Offset(i64::try_from(self.log.len()).unwrap());
                let record = Logged { offset, timestamp: self.now.wall, entry, producer: None };
                self.shard.replay(self.now, &record);
                self.log.push(record);
            }
            for release in releases {
                match release {
                    Release::Reply(_, reply) => answer = Some(reply),
                    Release::Effect(decided) => self.owed.push(decided),
                }
            }
        }
        self.shard.check();
        answer
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.tokens += 1;
        let mut outcomes = Vec::new();
        self.shard.handle(self.now, Token(self.tokens), request, &mut outcomes);
        self.settle(outcomes).expect("transactions are answered at once")
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall = self.now.wall.plus(time);
        let mut outcomes = Vec::new();
        self.shard.tick(self.now, &mut outcomes);
        assert!(self.settle(outcomes).is_none());
    }

    fn init(&mut self, current: Option<Producer>) -> Result<Producer, ErrorCode> {
        self.fresh += 1;
        let fresh = ProducerId(self.fresh);
        let init = Init { id: "t".into(), timeout: TIMEOUT, current, fresh };
        match self.ask(Request::Init(init)) {
            Reply::Initialised(initialised) => initialised,
            other => panic!("{other:?}"),
        }
    }

    fn add(&mut self, producer: Producer, index: i32) -> Result<(), ErrorCode> {
        match self.ask(Request::Add(addition(producer, index))) {
            Reply::Added(added) => added,
            other => panic!("{other:?}"),
        }
    }

    fn verify(&mut self, producer: Producer, index: i32) -> ErrorCode {
        match self.ask(Request::Verify(addition(producer, index))) {
            Reply::Verified(codes) => codes[0],
            other => panic!("{other:?}"),
        }
    }

    fn end(
        &mut self,
        producer: Producer,
        commit: bool,
        version: Version,
    ) -> Result<Producer, ErrorCode> {
        self.fresh += 1;
        let fresh = ProducerId(self.fresh);
        let end = End { id: "t".into(), producer, commit, version, fresh };
        match self.ask(Request::End(end)) {
            Reply::Ended(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    fn write_markers(&mut self) {
        for decided in std::mem::take(&mut self.owed) {
            assert_eq!(self.ask(Request::MarkersWritten(decided)), Reply::Noted(Ok(())));
        }
    }
}

fn addition(producer: Producer, index: i32) -> Add {
    let partitions = [TopicPartition::new("p", index)].into();
    Add { id: "t".into(), producer, partitions, version: Version::V2 }
}

fn raised(producer: Producer) -> Producer {
    Producer { epoch: ProducerEpoch(producer.epoch.0 + 1), ..producer }
}

#[test]
fn a_commit_is_decided_then_marked_then_complete() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.add(producer, 1).unwrap();
    let next = world.end(producer, true, Version::V2).unwrap();
    assert_eq!(next, raised(producer));
    let decided = world.owed[0].clone();
    assert!(decided.commit);
    assert_eq!(decided.producer, next);
    assert_eq!(decided.partitions.len(), 2);
    assert_eq!(world.add(next, 0), Err(ErrorCode::ConcurrentTransactions));
    world.write_markers();
    world.add(next, 0).unwrap();
}

#[test]
fn what_was_carried_out_for_a_shard_before_is_no_news_for_the_one_loaded_anew() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.end(producer, true, Version::V1).unwrap();
    let before = world.owed.remove(0);
    // The partition took back what the shard had replayed; the leadership is the same.
    world.now.monotonic += Duration::from_secs(1);
    world.shard = TxnShard::new(limits(), CoordinatorEpoch(1));
    world.load();
    assert_eq!(world.owed.len(), 1, "it is said again what is owed");
    assert_eq!(world.ask(Request::MarkersWritten(before)), Reply::Noted(Ok(())));
    assert_eq!(world.add(producer, 0), Err(ErrorCode::ConcurrentTransactions));
    world.write_markers();
    world.add(producer, 0).unwrap();
}

#[test]
fn what_was_sent_before_the_end_cannot_join_the_next_transaction() {
    let mut world = World::new();
    let old = world.init(None).unwrap();
    world.add(old, 0).unwrap();
    let next = world.end(old, true, Version::V2).unwrap();
    world.write_markers();
    assert_eq!(world.add(old, 0), Err(ErrorCode::ProducerFenced));
    world.add(next, 0).unwrap();
    assert_eq!(world.add(old, 1), Err(ErrorCode::ProducerFenced));
}

#[test]
fn an_end_that_is_repeated_gets_the_same_answer_and_never_the_opposite() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    let next = world.end(producer, true, Version::V2).unwrap();
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    assert_eq!(world.end(producer, false, Version::V2), Err(ErrorCode::ProducerFenced));
    world.write_markers();
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    assert_eq!(world.end(producer, false, Version::V2), Err(ErrorCode::ProducerFenced));
    // A commit of the next, empty transaction is not the last one's repetition.
    assert_eq!(world.end(next, true, Version::V2), Err(ErrorCode::InvalidTxnState));
}

#[test]
fn version_1_keeps_its_epoch_and_repeats_by_state() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    assert_eq!(world.end(producer, true, Version::V1), Ok(producer));
    assert_eq!(world.end(producer, true, Version::V1), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(world.end(producer, false, Version::V1), Err(ErrorCode::InvalidTxnState));
    world.write_markers();
    assert_eq!(world.end(producer, true, Version::V1), Ok(producer));
    assert_eq!(world.verify(producer, 0), ErrorCode::TransactionAbortable);
    world.add(producer, 0).unwrap();
    assert_eq!(world.verify(producer, 0), ErrorCode::None);
    assert_eq!(world.verify(producer, 1), ErrorCode::TransactionAbortable);
}

#[test]
fn a_new_incarnation_ends_what_the_old_one_left_open() {
    let mut world = World::new();
    let old = world.init(None).unwrap();
    world.add(old, 0).unwrap();
    assert_eq!(world.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert!(!world.owed[0].commit);
    assert_eq!(world.owed[0].producer, raised(old));
    assert_eq!(world.init(None), Err(ErrorCode::ConcurrentTransactions));
    world.write_markers();
    let new = world.init(None).unwrap();
    assert!(raised(old).epoch < new.epoch);
    assert_eq!(world.end(old, true, Version::V2), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.add(old, 0), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_transaction_that_outlives_its_time_is_aborted_and_its_producer_fenced() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.pass(TIMEOUT - Duration::from_secs(1));
    assert!(world.owed.is_empty());
    world.pass(Duration::from_secs(1));
    assert!(!world.owed[0].commit);
    assert_eq!(world.end(producer, true, Version::V2), Err(ErrorCode::ProducerFenced));
    world.write_markers();
    assert_eq!(world.end(producer, true, Version::V1), Err(ErrorCode::ProducerFenced));
    // KIP-360: the client learns its new epoch by asking with the old one? No: it was fenced.
    assert_eq!(world.init(Some(producer)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_producer_that_goes_on_after_an_error_gets_its_next_epoch_once() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    let next = world.init(Some(producer)).unwrap();
    assert_eq!(next, raised(producer));
    assert_eq!(world.init(Some(producer)), Ok(next));
    assert_eq!(world.init(Some(next)), Ok(raised(next)));
    let stranger = Producer { id: ProducerId(5), epoch: ProducerEpoch(0) };
    assert_eq!(world.init(Some(stranger)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn used_up_epochs_give_a_fresh_producer_id() {
    let mut world = World::new();
    let mut producer = world.init(None).unwrap();
    let first = producer.id;
    for _ in 0..40_000 {
        world.add(producer, 0).unwrap();
        let next = world.end(producer, true, Version::V2).unwrap();
        assert_eq!(world.end(producer, true, Version::V2), Ok(next), "of {producer:?}");
        world.write_markers();
        assert_eq!(world.end(producer, true, Version::V2), Ok(next), "of {producer:?}");
        producer = next;
    }
    assert_ne!(producer.id, first);
}

#[test]
fn a_decision_survives_its_coordinator_and_is_carried_out_by_the_next() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    let next = world.end(producer, true, Version::V2).unwrap();
    world.fail_over();
    assert!(world.owed[0].commit);
    assert_eq!(world.owed[0].coordinator_epoch, CoordinatorEpoch(2));
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    world.write_markers();
    world.add(next, 0).unwrap();
    // An open one is timed out by whoever coordinates then.
    world.fail_over();
    assert!(world.owed.is_empty());
    world.pass(TIMEOUT);
    assert!(!world.owed[0].commit);
}

#[test]
fn the_word_of_a_coordinator_that_was_replaced_completes_nothing() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.end(producer, true, Version::V2).unwrap();
    let stale = world.owed[0].clone();
    world.fail_over();
    assert_eq!(world.ask(Request::MarkersWritten(stale)), Reply::Noted(Ok(())));
    assert_eq!(
        world.add(raised(producer), 0),
        Err(ErrorCode::ConcurrentTransactions),
        "the successor's markers are still owed"
    );
}

#[test]
fn limits_are_kept() {
    let mut world = World::new();
    let long = Init {
        id: "t".into(),
        timeout: Duration::from_secs(901),
        current: None,
        fresh: ProducerId(1),
    };
    assert_eq!(
        world.ask(Request::Init(long)),
        Reply::Initialised(Err(ErrorCode::InvalidTransactionTimeout))
    );
    for index in 0..11 {
        let id: Arc<str> = format!("t-{index}").into();
        let init = Init { id, timeout: TIMEOUT, current: None, fresh: ProducerId(index) };
        let Reply::Initialised(initialised) = world.ask(Request::Init(init)) else { panic!() };
        assert_eq!(initialised.is_ok(), index < 10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Two clients share an id and do what they like: per epoch there is one decision at most, and
    /// what a client was told of it never turns out otherwise.
    #[test]
    fn an_epoch_is_decided_once_and_as_its_client_was_told(
        steps in proptest::collection::vec((0_u8..8, 0_usize..2, any::<bool>()), 1..120),
    ) {
        let mut world = World::new();
        let mut clients: [Option<Producer>; 2] = [None, None];
        let mut decisions: BTreeMap<(ProducerId, ProducerEpoch), bool> = BTreeMap::new();
        let mut newest = Producer { id: ProducerId(0), epoch: ProducerEpoch(0) };
        for (what, who, flag) in steps {
            match (what, clients[who]) {
                (0, current) => {
                    if let Ok(producer) = world.init(current.filter(|_| flag)) {
                        clients[who] = Some(producer);
                        newest = producer;
                    }
                }
                (1 | 2, Some(producer)) => {
                    let added = world.add(producer, i32::from(flag));
                    prop_assert!(added.is_err() || producer == newest);
                }
                (3 | 4, Some(producer)) => {
                    if let Ok(next) = world.end(producer, flag, Version::V2) {
                        let before = decisions.insert((producer.id, producer.epoch), flag);
                        prop_assert!(before.is_none_or(|it| it == flag), "told both");
                        clients[who] = Some(next);
                        newest = next;
                    }
                }
                (5, _) => world.write_markers(),
                (6, _) => world.fail_over(),
                (7, _) => world.pass(TIMEOUT / 3),
                _ => {}
            }
            // What the markers say is what the client was told.
            for decided in &world.owed {
                let before = ProducerEpoch(decided.producer.epoch.0 - 1);
                if let Some(told) = decisions.get(&(decided.producer.id, before)) {
                    prop_assert_eq!(*told, decided.commit);
                }
            }
        }
    }
}
