//! What went wrong in other transaction coordinators, one scenario each. Pure.

use super::*;
use crate::limits::COMPLETION_WAITERS_MAX;
use crate::txn::state::{Status, Txn};

fn told(id: i64, epoch: i16) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

impl World {
    fn known(&mut self) -> Txn {
        match self.ask(Request::Describe("t".into())) {
            Reply::Described(Ok(txn)) => *txn,
            other => panic!("{other:?}"),
        }
    }

    /// As if so many transactions had been ended by version 2.
    fn at_epoch(epoch: i16) -> (Self, Producer) {
        let mut world = Self::new();
        let producer = world.init(None).unwrap();
        let mut txn = world.known();
        txn.producer.epoch = ProducerEpoch(epoch);
        let entry = record::write("t", Some(&txn));
        world.log.push(Logged {
            offset: Offset(i64::try_from(world.log.len()).unwrap()),
            timestamp: world.now.wall,
            entry,
            producer: None,
        });
        world.fail_over();
        (world, Producer { epoch: ProducerEpoch(epoch), ..producer })
    }

    /// The log takes nothing for this request.
    fn ask_in_vain(&mut self, request: Request) -> Reply {
        self.tokens += 1;
        let mut outcomes = Vec::new();
        self.shard.handle(self.now, Token(self.tokens), request, &mut outcomes);
        let mut answer = None;
        for Outcome { records, mut releases } in outcomes {
            if records.is_some() {
                let error = ErrorCode::CoordinatorNotAvailable;
                releases = self.shard.refused(self.now, error, releases);
            }
            for release in releases {
                match release {
                    Release::Reply(_, reply) => answer = Some(reply),
                    Release::Effect(decided) => panic!("{decided:?} is not in the log"),
                }
            }
        }
        self.shard.check();
        answer.expect("transactions are answered at once")
    }
}

/// KAFKA-17754, KAFKA-14402: the client gave up waiting for an end, and began the next one.
#[test]
fn a_late_end_never_decides_the_next_transaction() {
    let mut world = World::new();
    let first = world.init(None).unwrap();
    world.add(first, 0).unwrap();
    let second = world.end(first, false, Version::V2).unwrap();
    world.write_markers();
    world.add(second, 1).unwrap();
    for late in [true, false] {
        assert_eq!(world.end(first, late, Version::V2), Err(ErrorCode::ProducerFenced));
    }
    assert_eq!(world.known().status, Status::Ongoing);
    assert!(world.owed.is_empty());
    world.end(second, true, Version::V2).unwrap();
    assert!(world.owed[0].commit);
}

/// KAFKA-14904: what is asked about a transaction that completes has no answer yet.
#[test]
fn a_partition_is_not_verified_while_the_transaction_completes() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    assert_eq!(world.verify(producer, 0), ErrorCode::None);
    world.end(producer, true, Version::V1).unwrap();
    assert_eq!(world.verify(producer, 0), ErrorCode::ConcurrentTransactions);
    world.write_markers();
    assert_eq!(world.verify(producer, 0), ErrorCode::TransactionAbortable);
}

/// KAFKA-18575: the first write of the next transaction overtakes the completion of the last one,
/// also where that one used the epochs up.
#[test]
fn what_comes_before_the_last_transaction_is_complete_is_to_come_again() {
    for epoch in [0, ProducerEpoch::CLIENT_MAX.0] {
        let (mut world, producer) = World::at_epoch(epoch);
        world.add(producer, 0).unwrap();
        let next = world.end(producer, true, Version::V2).unwrap();
        assert_eq!(next.id == producer.id, epoch == 0);
        let again = ErrorCode::ConcurrentTransactions;
        assert_eq!(world.add(next, 0), Err(again), "epoch {epoch}");
        assert_eq!(world.verify(next, 0), again);
        assert_eq!(world.end(next, false, Version::V2), Err(again));
        assert_eq!(world.init(Some(next)), Err(again));
        world.fail_over();
        assert_eq!(world.add(next, 0), Err(again), "epoch {epoch}, after a failover");
        world.write_markers();
        world.add(next, 0).unwrap();
    }
}

/// KAFKA-18660, KAFKA-20310: at the last epoch the client goes on with another producer id, which
/// it is told however often it asks, and whoever coordinates.
#[test]
fn the_end_of_the_last_epoch_tells_one_fresh_producer_id_also_after_a_failover() {
    let (mut world, producer) = World::at_epoch(ProducerEpoch::CLIENT_MAX.0);
    world.add(producer, 0).unwrap();
    let next = world.end(producer, true, Version::V2).unwrap();
    assert_eq!(next.epoch, ProducerEpoch(0));
    assert_ne!(next.id, producer.id);
    let decided = world.owed[0].clone();
    assert_eq!(decided.producer, told(producer.id.0, i16::MAX), "the marker fences the old id");
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    world.fail_over();
    assert_eq!(world.owed[0].producer, decided.producer);
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    world.write_markers();
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    world.fail_over();
    assert_eq!(world.end(producer, true, Version::V2), Ok(next));
    assert_eq!(world.end(producer, false, Version::V2), Err(ErrorCode::InvalidProducerIdMapping));
    let older = Producer { epoch: ProducerEpoch(7), ..producer };
    let mapping = ErrorCode::InvalidProducerIdMapping;
    assert_eq!(world.end(older, true, Version::V2), Err(mapping), "it was fenced long ago");
    world.add(next, 0).unwrap();
}

/// KAFKA-19367: an initialisation that fails half way is not counted twice.
#[test]
fn an_initialisation_raises_the_epoch_once_for_the_abort_and_once_for_itself() {
    let mut world = World::new();
    let old = world.init(None).unwrap();
    world.add(old, 0).unwrap();
    let init = |fresh| {
        let (id, fresh) = ("t".into(), ProducerId(fresh));
        Request::Init(Init { id, timeout: TIMEOUT, current: None, fresh })
    };
    let unavailable = Reply::Initialised(Err(ErrorCode::CoordinatorNotAvailable));
    for attempt in 0..3 {
        assert_eq!(world.ask_in_vain(init(attempt)), unavailable);
        assert_eq!(world.known().producer, old);
    }
    assert_eq!(world.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(world.owed[0].producer, raised(old));
    assert_eq!(world.init(None), Err(ErrorCode::ConcurrentTransactions));
    world.write_markers();
    assert_eq!(world.ask_in_vain(init(9)), unavailable);
    assert_eq!(world.init(None), Ok(raised(raised(old))));
}

/// KAFKA-20785: the coordinator's own abort and the client's commit meet.
#[test]
fn a_commit_that_comes_after_the_coordinators_abort_is_fenced_and_never_told_of_success() {
    for version in [Version::V1, Version::V2] {
        let mut world = World::new();
        let producer = world.init(None).unwrap();
        world.add(producer, 0).unwrap();
        world.pass(TIMEOUT);
        for commit in [true, false] {
            let fenced = Err(ErrorCode::ProducerFenced);
            assert_eq!(world.end(producer, commit, version), fenced, "while it completes");
        }
        world.fail_over();
        assert_eq!(world.end(producer, true, version), Err(ErrorCode::ProducerFenced));
        world.write_markers();
        assert_eq!(world.end(producer, true, version), Err(ErrorCode::ProducerFenced));
        assert_eq!(world.known().status, Status::CompleteAbort);
        let next = world.init(None).unwrap();
        assert!(raised(producer).epoch < next.epoch);
    }
}

#[test]
fn who_was_replaced_cannot_take_its_successors_epoch_by_going_on() {
    for epoch in [0, ProducerEpoch::CLIENT_MAX.0 - 1, ProducerEpoch::CLIENT_MAX.0] {
        let (mut world, old) = World::at_epoch(epoch);
        let new = world.init(None).unwrap();
        assert_ne!(new, old);
        assert_eq!(world.init(Some(old)), Err(ErrorCode::ProducerFenced), "epoch {epoch}");
        assert_eq!(world.add(new, 0), Ok(()));
    }
}

#[test]
fn who_goes_on_at_the_last_epoch_is_told_the_same_fresh_id_when_it_asks_again() {
    let (mut world, old) = World::at_epoch(ProducerEpoch::CLIENT_MAX.0);
    let new = world.init(Some(old)).unwrap();
    assert_eq!(new.epoch, ProducerEpoch(0));
    assert_eq!(world.init(Some(old)), Ok(new));
    world.fail_over();
    assert_eq!(world.init(Some(old)), Ok(new));
    let older = Producer { epoch: ProducerEpoch(3), ..old };
    assert_eq!(world.init(Some(older)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn who_missed_the_answer_to_its_end_may_go_on_from_the_epoch_that_it_knows() {
    for epoch in [0, ProducerEpoch::CLIENT_MAX.0] {
        let (mut world, producer) = World::at_epoch(epoch);
        world.add(producer, 0).unwrap();
        let next = world.end(producer, true, Version::V2).unwrap();
        assert_eq!(world.init(Some(producer)), Err(ErrorCode::ConcurrentTransactions));
        world.write_markers();
        assert_eq!(world.init(Some(producer)), Ok(next));
        assert_eq!(world.init(Some(producer)), Ok(next));
        world.add(next, 0).unwrap();
    }
}

#[test]
fn an_abort_before_anything_was_written_raises_the_epoch_and_needs_no_markers() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    let next = world.end(producer, false, Version::V2).unwrap();
    assert_eq!(next, raised(producer));
    assert!(world.owed[0].partitions.is_empty());
    assert_eq!(world.end(producer, false, Version::V2), Ok(next));
    world.write_markers();
    assert_eq!(world.add(producer, 0), Err(ErrorCode::ProducerFenced));
    world.add(next, 0).unwrap();
}

#[test]
fn an_id_that_nobody_used_for_its_time_is_forgotten_and_no_other() {
    let mut world = World::new();
    let idle = world.init(None).unwrap();
    let open: Arc<str> = "open".into();
    let (timeout, current) = (Duration::from_secs(900), None);
    let init = Init { id: Arc::clone(&open), timeout, current, fresh: ProducerId(5) };
    let Reply::Initialised(Ok(producer)) = world.ask(Request::Init(init)) else { panic!() };
    let ids = |world: &mut World| match world.ask(Request::List(Arc::default())) {
        Reply::Listed(listed) => listed.into_iter().map(|(id, ..)| id.to_string()).collect(),
        other => panic!("{other:?}"),
    };
    let hour = Duration::from_secs(3600);
    world.pass(limits().expiration - hour);
    let add = Add { id: open, ..addition(producer, 0) };
    assert_eq!(world.ask(Request::Add(add)), Reply::Added(Ok(())));
    assert_eq!(Vec::<String>::len(&ids(&mut world)), 2);
    world.pass(hour * 2);
    let left: Vec<String> = ids(&mut world);
    assert_eq!(left, ["open"], "its time counts from its last transaction");
    assert_eq!(world.add(idle, 0), Err(ErrorCode::InvalidProducerIdMapping));
    world.fail_over();
    assert_eq!(Vec::<String>::len(&ids(&mut world)), 1);
    let again = world.init(Some(idle)).unwrap();
    assert_ne!(again.id, idle.id);
}

#[test]
fn transactions_that_run_for_longer_are_told_apart() {
    let mut world = World::new();
    let producer = world.init(None).unwrap();
    let longer = |world: &mut World, millis| {
        let longer_than = Some(Duration::from_millis(millis));
        let filter = Filter { longer_than, ..Filter::default() };
        match world.ask(Request::List(Arc::new(filter))) {
            Reply::Listed(listed) => listed.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(longer(&mut world, 0), 0, "none is open");
    world.add(producer, 0).unwrap();
    world.pass(Duration::from_millis(50));
    assert_eq!((longer(&mut world, 49), longer(&mut world, 50)), (1, 0));
}

/// Who was sent away because markers are under way need not guess when to come again.
#[test]
fn who_waits_for_a_completion_is_told_when_the_markers_are_written_and_not_before() {
    let mut world = World::new();
    let done = Reply::Noted(Ok(()));
    assert_eq!(world.ask(Request::Completion("t".into())), done, "of nothing, nothing is owed");
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    assert_eq!(world.ask(Request::Completion("t".into())), done, "an open one owes nothing yet");
    let next = world.end(producer, true, Version::V2).unwrap();
    let wait = |world: &mut World, token| {
        let mut outcomes = Vec::new();
        let request = Request::Completion("t".into());
        world.shard.handle(world.now, Token(token), request, &mut outcomes);
        let answer = world.settle(outcomes);
        (token, answer)
    };
    for token in 100..100 + u64::try_from(COMPLETION_WAITERS_MAX).unwrap() {
        assert_eq!(wait(&mut world, token).1, None);
    }
    let full = Reply::Noted(Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(wait(&mut world, 99).1, Some(full));
    let decided = world.owed.remove(0);
    let mut outcomes = Vec::new();
    let request = Request::MarkersWritten(decided);
    world.shard.handle(world.now, Token(98), request, &mut outcomes);
    let told = outcomes[0].releases.iter().map(|release| match release {
        Release::Reply(token, reply) if *reply == done => token.0,
        other => panic!("{other:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), COMPLETION_WAITERS_MAX + 1);
    assert!(outcomes[0].records.is_some(), "they are told once that is committed");
    world.settle(outcomes);
    world.add(next, 0).unwrap();
}
