//! Clients as small models: transactional producers of both versions, a plain idempotent producer,
//! a reader. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use protocol::ids::{Sequence, TopicPartition};
use protocol::record::{BatchBuilder, BatchOptions, RecordBatch};
use protocol::rng::Rng;
use protocol::time::Timestamp;

use super::history::History;
use super::member::Member;
use super::part::Found;
use super::{DATA, OFFSETS};
use crate::group::{self, Committed, Membership};
use crate::partition::{Appended, Isolation};
use crate::txn::{self, Add, End, Init, Producer, Version};

/// How long an answer is waited for.
pub(super) const PATIENCE_US: u64 = 100_000;
const PAUSE_US: u64 = 20_000;
const TRIES_MAX: u32 = 3;
pub(super) const TXN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client asks of the broker.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Txn(txn::Request),
    Group(group::Request),
    Produce { txn: Option<Joining>, part: usize, batch: RecordBatch },
    TxnOffsets { joining: Joining, commit: group::Commit },
    Read { part: usize, from: Offset, isolation: Isolation },
}

/// Whose transaction something belongs to.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub(super) actor: usize,
    pub(super) name: Arc<str>,
    pub(super) producer: Producer,
    pub(super) version: Version,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Txn(Result<txn::Reply, ErrorCode>),
    Group(Result<group::Reply, ErrorCode>),
    Produced(Result<Appended, ErrorCode>),
    Read { part: usize, found: Vec<Found>, next: Offset, isolation: Isolation },
}

/// What a client does.
pub(super) enum Do {
    Send {
        number: u64,
        call: Call,
    },
    Wake {
        after_us: u64,
        number: u64,
    },
    /// What it sent before does not arrive any more.
    Reconnect,
}

#[derive(Debug)]
pub(super) enum Actor {
    Txn(TxnActor),
    Plain(PlainActor),
    Reader(ReaderActor),
    Member(Member),
}

/// Everyone who takes part.
pub(super) fn cast() -> Vec<Actor> {
    let mut actors = vec![
        Actor::Txn(TxnActor::new(0, Version::V2)),
        Actor::Txn(TxnActor::new(1, Version::V1)),
        Actor::Txn(TxnActor::new(2, Version::V2)),
        Actor::Plain(PlainActor::new(3, 0)),
        Actor::Plain(PlainActor::new(4, 1)),
        Actor::Reader(ReaderActor::default()),
    ];
    for index in actors.len()..actors.len() + 3 {
        actors.push(Actor::Member(Member::new(index)));
    }
    actors
}

impl Actor {
    /// An answer came, or (`None`) the time to wake for `number`.
    pub(super) fn on(
        &mut self,
        number: u64,
        answer: Option<Answer>,
        is_busy: bool,
        rng: &mut Rng,
        history: &mut History,
        todo: &mut Vec<Do>,
    ) {
        match self {
            Self::Txn(actor) => actor.on(number, answer, is_busy, rng, history, todo),
            Self::Plain(actor) => actor.on(number, answer, is_busy, rng, history, todo),
            Self::Reader(actor) => actor.on(answer, is_busy, rng, history, todo),
            Self::Member(actor) => actor.on(number, answer, is_busy, rng, history, todo),
        }
    }

    /// Its messages arrive in order, once, and not after it has reconnected.
    pub(super) fn is_ordered(&self, call: &Call) -> bool {
        match self {
            Self::Txn(actor) => {
                // A version 1 transaction has no name of its own: only a connection that ends
                // with the request protects the next one from a late end.
                actor.version == Version::V1 && !matches!(call, Call::Produce { .. })
            }
            Self::Plain(_) => true,
            Self::Member(_) => !matches!(call, Call::Group(group::Request::Commit(_))),
            Self::Reader(_) => false,
        }
    }
}

/// What an error means to a producer.
pub(super) fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ConcurrentTransactions
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::KafkaStorageError
            | ErrorCode::RequestTimedOut
            | ErrorCode::UnstableOffsetCommit
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// True: it goes on after an error (KIP-360), and names itself.
    Init(bool),
    Add,
    Send,
    JoinOffsets,
    Offsets,
    End,
}

/// A transaction under way.
#[derive(Debug)]
struct Round {
    txn: usize,
    /// Partition and value, in order.
    sends: Vec<(usize, u64)>,
    sent: usize,
    has_offset: bool,
    commit: bool,
    /// After the abort it needs a new epoch: it does not know what became of a batch.
    bump: bool,
    /// It gives up at the first answer that does not come in time.
    hurries: bool,
}

#[derive(Debug)]
pub(super) struct TxnActor {
    index: usize,
    name: Arc<str>,
    version: Version,
    producer: Option<Producer>,
    sequences: [i32; 2],
    step: Step,
    number: u64,
    tries: u32,
    /// It waits before it asks again.
    pauses: bool,
    round: Option<Round>,
}

impl TxnActor {
    fn new(index: usize, version: Version) -> Self {
        Self {
            index,
            name: format!("t{index}").into(),
            version,
            producer: None,
            sequences: [0; 2],
            step: Step::Init(false),
            number: 0,
            tries: 0,
            pauses: true,
            round: None,
        }
    }

    fn on(
        &mut self,
        number: u64,
        answer: Option<Answer>,
        is_busy: bool,
        rng: &mut Rng,
        history: &mut History,
        todo: &mut Vec<Do>,
    ) {
        if number != self.number {
            return;
        }
        let result = match answer {
            None if self.pauses => return self.go_on(is_busy, rng, history, todo),
            None => Err(None),
            Some(answer) => self.understood(answer).map_err(Some),
        };
        self.number += 1;
        // The process is killed; another takes its place.
        if is_busy && rng.chance(80) {
            self.give_up();
            return self.pause(rng.below(PAUSE_US), todo);
        }
        match result {
            Ok(producer) => {
                self.tries = 0;
                self.succeeded(producer, history);
                self.pause(rng.below(2_000), todo);
            }
            Err(code) if code.is_none_or(is_retriable) => {
                self.tries += 1;
                if code.is_none() && self.version == Version::V1 {
                    todo.push(Do::Reconnect);
                }
                let hurries = self.round.as_ref().is_some_and(|it| it.hurries && !it.bump);
                if self.tries == TRIES_MAX || (hurries && code.is_none()) {
                    self.tries = 0;
                    self.despair();
                }
                self.pause(rng.below(PAUSE_US), todo);
            }
            Err(_) => {
                self.give_up();
                self.pause(rng.below(PAUSE_US), todo);
            }
        }
    }

    fn pause(&mut self, after_us: u64, todo: &mut Vec<Do>) {
        self.pauses = true;
        todo.push(Do::Wake { after_us, number: self.number });
    }

    /// Begins anew, as another incarnation.
    fn give_up(&mut self) {
        self.round = None;
        self.tries = 0;
        self.step = Step::Init(false);
    }

    /// No answer for long: a version 1 client aborts and asks for another epoch.
    fn despair(&mut self) {
        let Some(round) = &mut self.round else { return };
        let may_abort = self.version == Version::V1 && !(self.step == Step::End && round.commit);
        if may_abort && !round.bump {
            round.commit = false;
            round.bump = true;
            self.step = Step::End;
        } else {
            self.give_up();
        }
    }

    /// Asks what comes next.
    fn go_on(&mut self, is_busy: bool, rng: &mut Rng, history: &mut History, todo: &mut Vec<Do>) {
        if self.step == Step::Idle {
            if !is_busy {
                return;
            }
            let txn = history.begin(self.index);
            let count = 1 + rng.below(3);
            let sends = (0..count)
                .map(|_| (DATA[usize::try_from(rng.below(2)).unwrap()], history.value_of(txn)))
                .collect();
            let (has_offset, commit) = (rng.chance(2), !rng.chance(3));
            let (bump, hurries) = (false, rng.chance(3));
            let round = Round { txn, sends, sent: 0, has_offset, commit, bump, hurries };
            self.round = Some(round);
            self.step = if self.version == Version::V1 { Step::Add } else { Step::Send };
        }
        if let (Step::End, Some(round)) = (self.step, &self.round)
            && round.commit
        {
            history.asks_to_commit(round.txn);
        }
        self.pauses = false;
        todo.push(Do::Send { number: self.number, call: self.call() });
        todo.push(Do::Wake { after_us: PATIENCE_US, number: self.number });
    }

    fn joining(&self) -> Joining {
        Joining {
            actor: self.index,
            name: Arc::clone(&self.name),
            producer: self.producer.unwrap(),
            version: self.version,
        }
    }

    fn add(&self, part: TopicPartition) -> Call {
        let Joining { name: id, producer, version, .. } = self.joining();
        let partitions = [part].into();
        Call::Txn(txn::Request::Add(Add { id, producer, partitions, version }))
    }

    fn call(&self) -> Call {
        let id = Arc::clone(&self.name);
        let fresh = ProducerId::NONE;
        let round = self.round.as_ref();
        match self.step {
            Step::Idle => unreachable!("just begun"),
            Step::Init(goes_on) => {
                let current = self.producer.filter(|_| goes_on);
                Call::Txn(txn::Request::Init(Init { id, timeout: TXN_TIMEOUT, current, fresh }))
            }
            Step::Add => self.add(data(round.unwrap().sends[round.unwrap().sent].0)),
            Step::Send => {
                let (part, value) = round.unwrap().sends[round.unwrap().sent];
                let sequence = self.sequences[part];
                let batch = batch(value, self.producer.unwrap(), sequence, true);
                Call::Produce { txn: Some(self.joining()), part, batch }
            }
            Step::JoinOffsets => self.add(TopicPartition::new(group::TOPIC, 0)),
            Step::Offsets => {
                let number = i64::try_from(round.unwrap().txn).unwrap();
                let producer = self.producer.map(|it| (it.id, it.epoch));
                let commit = commit("offsets", -1, "", offsets_at(self.index), number, producer);
                Call::TxnOffsets { joining: self.joining(), commit }
            }
            Step::End => {
                let (producer, version) = (self.producer.unwrap(), self.version);
                let commit = round.unwrap().commit;
                Call::Txn(txn::Request::End(End { id, producer, commit, version, fresh }))
            }
        }
    }

    /// The producer to use from now on, if the answer names one; or what went wrong.
    fn understood(&self, answer: Answer) -> Result<Option<Producer>, ErrorCode> {
        match answer {
            Answer::Txn(reply) => match reply? {
                txn::Reply::Initialised(result) | txn::Reply::Ended(result) => result.map(Some),
                txn::Reply::Added(result) => result.map(|()| None),
                other => panic!("not asked for: {other:?}"),
            },
            Answer::Group(reply) => match reply? {
                group::Reply::Committed(codes) if codes[0].is_ok() => Ok(None),
                group::Reply::Committed(codes) => Err(codes[0]),
                other => panic!("not asked for: {other:?}"),
            },
            Answer::Produced(result) => result.map(|_| None),
            Answer::Read { .. } => panic!("not asked for"),
        }
    }

    fn succeeded(&mut self, producer: Option<Producer>, history: &mut History) {
        match self.step {
            Step::Idle => unreachable!("nothing was asked"),
            Step::Init(_) => {
                self.producer = producer;
                self.sequences = [0; 2];
                self.step = Step::Idle;
            }
            Step::Add => self.step = Step::Send,
            Step::Send => self.sent(),
            Step::JoinOffsets => self.step = Step::Offsets,
            Step::Offsets => {
                history.offset_committed(self.round.as_ref().unwrap().txn);
                self.step = Step::End;
            }
            Step::End => {
                let round = self.round.take().unwrap();
                if round.commit {
                    history.committed(round.txn);
                }
                if self.producer != producer {
                    self.sequences = [0; 2];
                    self.producer = producer;
                }
                self.step = if round.bump { Step::Init(true) } else { Step::Idle };
            }
        }
    }

    fn sent(&mut self) {
        let round = self.round.as_mut().unwrap();
        self.sequences[round.sends[round.sent].0] += 1;
        round.sent += 1;
        let is_v1 = self.version == Version::V1;
        self.step = match (round.sent < round.sends.len(), round.has_offset) {
            (true, _) if is_v1 => Step::Add,
            (true, _) => Step::Send,
            (false, true) if is_v1 => Step::JoinOffsets,
            (false, true) => Step::Offsets,
            (false, false) => Step::End,
        };
    }
}

/// The data partition at this place.
pub(super) fn data(part: usize) -> TopicPartition {
    TopicPartition::new("data", i32::try_from(part).unwrap())
}

/// What a client's transactions commit offsets for.
pub(super) fn offsets_at(actor: usize) -> TopicPartition {
    TopicPartition::new("in", i32::try_from(actor).unwrap())
}

/// The place of a partition.
pub(super) fn place_of(partition: &TopicPartition) -> usize {
    if &*partition.topic == "data" {
        usize::try_from(partition.partition.0).unwrap()
    } else {
        OFFSETS
    }
}

pub(super) fn commit(
    group: &str,
    generation: i32,
    member: &str,
    at: TopicPartition,
    offset: i64,
    producer: Option<(ProducerId, ProducerEpoch)>,
) -> group::Commit {
    let member = Membership {
        group: group.into(),
        generation: GenerationId(generation),
        member_id: member.into(),
        instance_id: None,
    };
    let committed = Committed {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch::NONE,
        metadata: "".into(),
        at: Timestamp(0),
    };
    let offsets = vec![(at, committed)];
    group::Commit { member, producer, guard: None, speaks_epochs: true, offsets }
}

fn batch(value: u64, producer: Producer, sequence: i32, is_transactional: bool) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(Timestamp(1), None, Some(&value.to_be_bytes()), &[]).unwrap();
    builder.finish(producer.id, producer.epoch, Sequence(sequence), is_transactional)
}

/// An idempotent producer with five batches on their way.
#[derive(Debug)]
pub(super) struct PlainActor {
    index: usize,
    part: usize,
    next: u64,
    sequence: i32,
    /// Number, sequence and value, oldest first.
    in_flight: VecDeque<(u64, i32, u64)>,
}

impl PlainActor {
    fn new(index: usize, part: usize) -> Self {
        // The sequence wraps around soon.
        let sequence = i32::MAX - 20;
        Self { index, part, next: 0, sequence, in_flight: VecDeque::new() }
    }

    fn producer(&self) -> Producer {
        let id = ProducerId(500 + i64::try_from(self.index).unwrap());
        Producer { id, epoch: ProducerEpoch(0) }
    }

    fn on(
        &mut self,
        number: u64,
        answer: Option<Answer>,
        is_busy: bool,
        rng: &mut Rng,
        history: &mut History,
        todo: &mut Vec<Do>,
    ) {
        let is_front = self.in_flight.front().is_some_and(|it| it.0 == number);
        let place = self.in_flight.iter().position(|it| it.0 == number);
        match (answer, place) {
            (Some(Answer::Produced(Ok(_))), Some(place)) => {
                let (_, _, value) = self.in_flight.remove(place).unwrap();
                history.plain_acked(self.index, value);
            }
            (Some(Answer::Produced(Err(code))), Some(_)) => {
                let is_lost = code == ErrorCode::OutOfOrderSequenceNumber;
                assert!(is_retriable(code) || is_lost, "{code}");
                assert!(!(is_lost && is_front), "the oldest batch is in order, or known");
                if is_front {
                    todo.push(Do::Wake { after_us: rng.below(PAUSE_US), number });
                }
            }
            (None, Some(0)) => self.send_again(todo),
            _ => {}
        }
        // Never more than five after the oldest that is not acknowledged: so many are remembered.
        if is_busy && (self.in_flight.is_empty() || rng.chance(2)) {
            while self.in_flight.front().is_none_or(|it| self.is_soon_after(it.1)) {
                self.send_one(history, todo);
            }
        }
    }

    /// Whether the next sequence is less than five after `front`.
    fn is_soon_after(&self, front: i32) -> bool {
        (0..5).any(|it| Sequence(front).plus(it) == Sequence(self.sequence))
    }

    fn send_one(&mut self, history: &mut History, todo: &mut Vec<Do>) {
        self.next += 1;
        let entry = (self.next, self.sequence, history.plain_value(self.index));
        self.sequence = if self.sequence == i32::MAX { 0 } else { self.sequence + 1 };
        self.in_flight.push_back(entry);
        self.send(entry, todo);
    }

    fn send(&self, (number, sequence, value): (u64, i32, u64), todo: &mut Vec<Do>) {
        let batch = batch(value, self.producer(), sequence, false);
        let call = Call::Produce { txn: None, part: self.part, batch };
        todo.push(Do::Send { number, call });
        todo.push(Do::Wake { after_us: PATIENCE_US, number });
    }

    fn send_again(&mut self, todo: &mut Vec<Do>) {
        todo.push(Do::Reconnect);
        for place in 0..self.in_flight.len() {
            self.next += 1;
            self.in_flight[place].0 = self.next;
            self.send(self.in_flight[place], todo);
        }
    }
}

/// Reads both partitions, both ways, again and again.
#[derive(Debug, Default)]
pub(super) struct ReaderActor {
    positions: [[Offset; 2]; 2],
    number: u64,
}

impl ReaderActor {
    fn on(
        &mut self,
        answer: Option<Answer>,
        is_busy: bool,
        rng: &mut Rng,
        history: &mut History,
        todo: &mut Vec<Do>,
    ) {
        if let Some(Answer::Read { part, found, next, isolation }) = answer {
            let is_committed = isolation == Isolation::ReadCommitted;
            history.saw(part, &found, is_committed);
            let at = &mut self.positions[usize::from(is_committed)][part];
            *at = next.max(*at);
            return;
        }
        if !is_busy {
            return;
        }
        let part = DATA[usize::try_from(rng.below(2)).unwrap()];
        let is_committed = rng.chance(2);
        let isolation =
            if is_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let from = self.positions[usize::from(is_committed)][part];
        self.number += 1;
        todo.push(Do::Send { number: self.number, call: Call::Read { part, from, isolation } });
        todo.push(Do::Wake { after_us: rng.below(10_000), number: self.number });
    }
}
