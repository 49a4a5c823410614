//! A coordinator's shard over its partition: what the shell does, without tasks. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{Offset, ProducerEpoch, ProducerId};
use protocol::time::Now;

use super::part::Part;
use crate::config::GroupMigration;
use crate::coordinator::parked::Parked;
use crate::coordinator::shell::{batch_of, replay_bytes};
use crate::coordinator::{Logged, Outcome, Release, Shard, Token, refusal};
use crate::group::assignor::Assignor;
use crate::group::beat::ConsumerSettings;
use crate::group::member::JoinSettings;
use crate::partition::EndTxnMarker;
use crate::{group, txn};

/// What waits for its turn while a marker is being committed.
#[derive(Debug)]
pub(super) enum Turn<S: Shard, C> {
    Ask(S::Request, C),
    Mark(EndTxnMarker, Option<u64>),
}

/// A shard, and who waits for it: `C` says what to do with a reply.
#[derive(Debug)]
pub(super) struct Seat<S: Shard, C> {
    pub(super) shard: S,
    parked: Parked<Release<S>>,
    rollbacks: u64,
    tokens: u64,
    asked: BTreeMap<Token, C>,
    pub(super) turns: VecDeque<Turn<S, C>>,
    /// The marker being committed: its token at the partition, and who waits.
    pub(super) marking: Option<(u64, EndTxnMarker, Option<u64>)>,
    /// Set when something was written since it was last looked at.
    pub(super) has_written: bool,
    /// When the next tick lies on the heap.
    pub(super) tick_at_us: Option<u64>,
}

/// What is let go.
pub(super) type Free<S, C> = (Vec<(C, <S as Shard>::Reply)>, Vec<<S as Shard>::Effect>);

impl<S: Shard, C> Seat<S, C> {
    /// Loads the shard from its partition.
    pub(super) fn load(mut shard: S, part: &mut Part, now: Now) -> (Self, Free<S, C>) {
        let at = part.watermarks();
        replay_bytes(&mut shard, now, part.bytes(), Offset::ZERO).unwrap();
        let mut seat = Self {
            shard,
            parked: Parked::new(at.log_end, at.high_watermark),
            rollbacks: at.rollbacks,
            tokens: 0,
            asked: BTreeMap::new(),
            turns: VecDeque::new(),
            marking: None,
            has_written: false,
            tick_at_us: None,
        };
        let mut outcomes = Vec::new();
        seat.shard.loaded(now, &mut outcomes);
        let free = seat.settle(part, now, outcomes);
        (seat, free)
    }

    pub(super) fn ask(
        &mut self,
        part: &mut Part,
        now: Now,
        request: S::Request,
        then: C,
    ) -> Free<S, C> {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.asked.insert(token, then);
        let mut outcomes = Vec::new();
        self.shard.handle(now, token, request, &mut outcomes);
        self.settle(part, now, outcomes)
    }

    pub(super) fn tick(&mut self, part: &mut Part, now: Now) -> Free<S, C> {
        let mut outcomes = Vec::new();
        if self.shard.wake_at().is_some_and(|at| at <= now.monotonic) {
            self.shard.tick(now, &mut outcomes);
        }
        self.settle(part, now, outcomes)
    }

    /// The marker being committed is, or was refused.
    pub(super) fn marked(&mut self, now: Now, end: Option<Offset>) -> Option<u64> {
        let (_, marker, job) = self.marking.take().expect("one was under way");
        if let Some(end) = end {
            self.shard.replay_marker(now, marker, end.plus(-1));
            self.parked.accept(end);
        }
        job
    }

    /// The positions moved: what is let go.
    pub(super) fn moved(&mut self, part: &Part) -> Free<S, C> {
        let held = self.parked.release(part.watermarks().high_watermark);
        self.free(held)
    }

    /// The partition took back what this shard has replayed: it must be loaded anew.
    pub(super) fn is_lost(&self, part: &Part) -> bool {
        part.watermarks().rollbacks != self.rollbacks
    }

    /// All who wait for an answer of it.
    pub(super) fn into_asked(self) -> impl Iterator<Item = C> {
        self.asked.into_values()
    }

    fn settle(&mut self, part: &mut Part, now: Now, outcomes: Vec<Outcome<S>>) -> Free<S, C> {
        let mut passed = Vec::new();
        for Outcome { records, releases } in outcomes {
            let releases = match records.filter(|it| !it.entries.is_empty()) {
                None => releases,
                Some(records) => match part.log(now, batch_of(&records, now.wall), records.guard) {
                    Ok(appended) => {
                        self.parked.accept(appended.end);
                        self.has_written = true;
                        for (at, entry) in (0..).zip(records.entries) {
                            let producer: Option<(ProducerId, ProducerEpoch)> = records.producer;
                            let offset = appended.base_offset.plus(at);
                            let timestamp = now.wall;
                            self.shard.replay(now, &Logged { offset, timestamp, entry, producer });
                        }
                        releases
                    }
                    Err(error) => self.shard.refused(now, refusal(&error), releases),
                },
            };
            passed.extend(releases.into_iter().filter_map(|it| self.parked.park(it)));
        }
        self.shard.check();
        self.free(passed)
    }

    fn free(&mut self, held: Vec<Release<S>>) -> Free<S, C> {
        let mut free = (Vec::new(), Vec::new());
        for release in held {
            match release {
                Release::Reply(token, reply) => {
                    let then = self.asked.remove(&token).expect("each is answered once");
                    free.0.push((then, reply));
                }
                Release::Effect(effect) => free.1.push(effect),
            }
        }
        free
    }
}

pub(super) fn txn_limits() -> txn::Limits {
    let expiration = Duration::from_secs(86_400);
    txn::Limits {
        timeout_max: Duration::from_secs(60),
        expiration,
        expiration_check: Duration::from_secs(3600),
        ids_max: 100,
    }
}

pub(super) fn group_limits() -> group::Limits {
    group::Limits {
        join: JoinSettings { members_max: 100, initial_delay: Duration::from_millis(50) },
        session_timeout_min: Duration::from_millis(100),
        session_timeout_max: Duration::from_secs(60),
        metadata_bytes_max: 4096,
        consumer: ConsumerSettings {
            session_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            members_max: 100,
            assignors: vec![Assignor::Uniform],
            migration: GroupMigration::Bidirectional,
        },
        broker: Arc::default(),
        retention: Duration::from_secs(86_400),
        retention_check: Duration::from_secs(600),
        groups_max: 100,
        memory: group::memory::Memory::new(usize::MAX),
    }
}
