//! One life of the broker: its shards, and what is between them and the clients. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId};
use protocol::time::Timestamp;

use super::actors::{Answer, Call, TXN_TIMEOUT, place_of};
use super::lanes::{Entering, joined};
use super::part::Side;
use super::seat::{Free, Seat, Turn, group_limits, txn_limits};
use super::{Link, OFFSETS, TXNS, What, World};
use crate::coordinator::shell::batch_of;
use crate::coordinator::{Records, Shard};
use crate::group::{self, GroupShard};
use crate::partition::EndTxnMarker;
use crate::partition::core::{Answer as PartitionAnswer, Token};
use crate::txn::state::{Status, Txn};
use crate::txn::{self, Decided, Producer, TxnShard, Version};

/// What to do with a shard's reply.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// Send it to a client.
    Reply { from: usize, number: u64 },
    /// Let the first batch in this client's lane into its partition.
    Lane { actor: usize },
    /// Commit these offsets, now that the transaction knows of them.
    Offsets { from: usize, number: u64, commit: group::Commit },
    /// Another try, if it was not noted.
    Noted { job: u64 },
    /// The test itself asks.
    Test,
}

/// Markers that are owed for a decision.
#[derive(Debug)]
struct Job {
    decided: Decided,
    owed: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) struct Node {
    txns: Seat<TxnShard, Then>,
    groups: Seat<GroupShard, Then>,
    /// Who waits for a partition's answer.
    pub(super) appends: BTreeMap<(usize, Token), (usize, u64)>,
    marks: BTreeMap<(usize, Token), (EndTxnMarker, Option<u64>)>,
    pub(super) lanes: BTreeMap<usize, VecDeque<Entering>>,
    /// The producer ids that are known to be of those who write in lanes.
    pub(super) owned: BTreeMap<usize, ProducerId>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
}

pub(super) const UP: &str = "only asked while the broker is up";

impl World {
    /// The transactional id `t2` has nearly used up its epochs.
    pub(super) fn seed_worn_producer(&mut self) {
        let worn = Txn {
            producer: Producer { id: ProducerId(900), epoch: ProducerEpoch(i16::MAX - 8) },
            previous: ProducerId::NONE,
            next: ProducerId::NONE,
            timeout: TXN_TIMEOUT,
            status: Status::Empty,
            partitions: BTreeSet::new(),
            started: Timestamp::NONE,
            updated: self.now().wall,
            version: Version::V2,
        };
        let entries = vec![txn::record::write("t2", Some(&worn))];
        let now = self.now();
        let part = &mut self.parts[TXNS];
        part.log(now, batch_of(&Records::own(entries), now.wall), None).unwrap();
        part.write(now, false);
        part.sync(now);
        part.sides.clear();
    }

    pub(super) fn crash(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.node = None;
        self.life += 1;
        // Connections end with it: what was sent on them in order does not arrive in part.
        self.links.iter_mut().for_each(Link::cut);
        let rng = &mut self.rng;
        for part in &mut self.parts {
            part.crash(|count| {
                usize::try_from(rng.below(u64::try_from(count).unwrap() + 1)).unwrap()
            });
        }
        let down = 1_000 + self.rng.below(200_000);
        self.after(down, What::Restart);
        let up = self.rng.below(2_000_000);
        self.after(down + up, What::Crash);
    }

    pub(super) fn start(&mut self) {
        self.life += 1;
        let now = self.now();
        self.parts.iter_mut().for_each(super::part::Part::start);
        let epoch = CoordinatorEpoch(self.parts[TXNS].watermarks().leader_epoch.0);
        let shard = TxnShard::new(txn_limits(), epoch);
        let (txns, free_txns) = Seat::load(shard, &mut self.parts[TXNS], now);
        let shard = GroupShard::new(group_limits(), self.rng.next_u64());
        let (groups, free_groups) = Seat::load(shard, &mut self.parts[OFFSETS], now);
        self.node = Some(Node {
            txns,
            groups,
            appends: BTreeMap::new(),
            marks: BTreeMap::new(),
            lanes: BTreeMap::new(),
            owned: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
        });
        self.free_txns(free_txns);
        self.free_groups(free_groups);
        self.pump();
    }

    /// Spreads what partitions did.
    pub(super) fn pump(&mut self) {
        for part in 0..self.parts.len() {
            for side in std::mem::take(&mut self.parts[part].sides) {
                match side {
                    Side::Writes => {
                        let delay = self.rng.below(1_000);
                        self.after(delay, What::Write { part, life: self.life });
                    }
                    Side::Moved if part == OFFSETS || part == TXNS => {
                        let delay = self.rng.below(200);
                        self.after(delay, What::Moved { part, life: self.life });
                    }
                    Side::Moved => {}
                    Side::Answered(token, answer) => self.partition_answered(part, token, answer),
                }
            }
        }
        self.arm();
    }

    /// Puts the shards' next ticks on the heap.
    fn arm(&mut self) {
        let Some(node) = &mut self.node else { return };
        let wakes = [
            (TXNS, node.txns.shard.wake_at(), &mut node.txns.tick_at_us),
            (OFFSETS, node.groups.shard.wake_at(), &mut node.groups.tick_at_us),
        ];
        let mut due = Vec::new();
        for (part, wake, tick) in wakes {
            let Some(wake) = wake else { continue };
            let at = u64::try_from(wake.as_micros()).unwrap().max(self.at_us + 1_000);
            if tick.is_none_or(|it| at < it) {
                *tick = Some(at);
                due.push((at - self.at_us, part));
            }
        }
        for (delay, part) in due {
            self.after(delay, What::Tick { part, life: self.life });
        }
    }

    pub(super) fn write(&mut self, part: usize) {
        let is_full = self.faults.disk_full && self.is_busy() && self.rng.chance(60);
        let now = self.now();
        self.parts[part].write(now, is_full);
        let delay = self.rng.below(self.faults.sync_us);
        self.after(delay, What::Sync { part, life: self.life });
        self.pump();
    }

    pub(super) fn sync(&mut self, part: usize) {
        let now = self.now();
        self.parts[part].sync(now);
        self.pump();
    }

    pub(super) fn tick(&mut self, part: usize) {
        let now = self.now();
        self.reload_lost();
        let node = self.node.as_mut().expect(UP);
        if part == TXNS {
            node.txns.tick_at_us = None;
            let free = node.txns.tick(&mut self.parts[TXNS], now);
            self.free_txns(free);
        } else {
            node.groups.tick_at_us = None;
            // While a marker is being committed the shard does nothing else.
            if node.groups.marking.is_none() {
                let free = node.groups.tick(&mut self.parts[OFFSETS], now);
                self.free_groups(free);
            }
        }
        self.pump();
    }

    pub(super) fn moved(&mut self, part: usize) {
        self.reload_lost();
        let node = self.node.as_mut().expect(UP);
        if part == TXNS {
            let free = node.txns.moved(&self.parts[TXNS]);
            self.free_txns(free);
        } else {
            let free = node.groups.moved(&self.parts[OFFSETS]);
            self.free_groups(free);
        }
        self.pump();
    }

    /// Loads the shards anew that have replayed what was taken back since.
    pub(super) fn reload_lost(&mut self) {
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        let (mut lost, mut again) = (Vec::new(), Vec::new());
        if node.txns.is_lost(&self.parts[TXNS]) {
            let epoch = CoordinatorEpoch(self.parts[TXNS].watermarks().leader_epoch.0);
            let shard = TxnShard::new(txn_limits(), epoch);
            let (seat, free) = Seat::load(shard, &mut self.parts[TXNS], now);
            lost.extend(std::mem::replace(&mut node.txns, seat).into_asked());
            self.free_txns(free);
        }
        let node = self.node.as_mut().expect(UP);
        if node.groups.is_lost(&self.parts[OFFSETS]) {
            // Markers do not need the shard: those on their way go on, the others come again.
            if let Some((token, marker, job)) = node.groups.marking.take() {
                node.marks.insert((OFFSETS, token), (marker, job));
            }
            let turns = std::mem::take(&mut node.groups.turns);
            for turn in turns {
                match turn {
                    Turn::Ask(_, then) => lost.push(then),
                    Turn::Mark(marker, job) => again.push((marker, job)),
                }
            }
            let shard = GroupShard::new(group_limits(), self.rng.next_u64());
            let (seat, free) = Seat::load(shard, &mut self.parts[OFFSETS], now);
            lost.extend(std::mem::replace(&mut node.groups, seat).into_asked());
            self.free_groups(free);
        }
        lost.into_iter().for_each(|then| self.coordinator_lost(then));
        for (marker, job) in again {
            self.after(50_000, What::Marker { part: OFFSETS, marker, job, life: self.life });
        }
    }
}

impl World {
    /// Whoever waited for a shard that is gone looks for its coordinator anew.
    fn coordinator_lost(&mut self, then: Then) {
        let gone = ErrorCode::NotCoordinator;
        match then {
            Then::Reply { from, number } | Then::Offsets { from, number, .. } => {
                self.answer(from, number, Answer::Group(Err(gone)));
            }
            Then::Lane { actor } => self.lane_refused(actor, gone),
            // The shard, loaded anew, says again what is owed.
            Then::Noted { job } => {
                self.node.as_mut().expect(UP).jobs.remove(&job);
            }
            Then::Test => unreachable!("nothing is under way then"),
        }
    }

    pub(super) fn request(&mut self, from: usize, number: u64, connection: u32, call: Call) {
        let is_ordered = self.actors[from].is_ordered(&call);
        if is_ordered && connection != self.links[from].connection {
            return;
        }
        if self.node.is_none() {
            // Nobody takes the connection: what follows on it does not arrive either, however late.
            if is_ordered {
                self.links[from].cut();
            }
            return;
        }
        self.reload_lost();
        let then = Then::Reply { from, number };
        match call {
            Call::Txn(request) => self.ask_txns(request, then),
            Call::Group(request) => self.ask_groups(request, then),
            Call::Produce { txn: None, part, batch } => {
                let now = self.now();
                let token = self.parts[part].produce(now, batch, None);
                self.node.as_mut().expect(UP).appends.insert((part, token), (from, number));
            }
            Call::Produce { txn: Some(joining), part, batch } => {
                let actor = joining.actor;
                let entering = Entering { from, number, joining, part, batch, guard: None };
                let lane = self.node.as_mut().expect(UP).lanes.entry(actor).or_default();
                lane.push_back(entering);
                if lane.len() == 1 {
                    self.join(actor);
                }
            }
            Call::TxnOffsets { joining, commit } => {
                self.join_offsets(from, number, &joining, commit);
            }
            Call::Read { part, from: offset, isolation } => {
                let (found, next) = self.parts[part].read(offset, isolation);
                self.answer(from, number, Answer::Read { part, found, next, isolation });
            }
        }
        self.pump();
    }

    /// Whose transaction is open in a partition has it open at the coordinator, which will end it
    /// there: otherwise it hangs.
    pub(super) fn check_backed(&self) {
        let Some(node) = &self.node else { return };
        if node.txns.is_lost(&self.parts[TXNS]) {
            return;
        }
        for part in &self.parts[..TXNS] {
            for id in part.open() {
                let is_backed = node.txns.shard.will_end(id, &part.tp);
                assert!(is_backed, "{}: nobody will end the transaction of {id}", part.tp);
            }
        }
    }

    pub(super) fn ask_txns(&mut self, mut request: txn::Request, then: Then) {
        self.ids += 1;
        match &mut request {
            txn::Request::Init(init) => init.fresh = ProducerId(self.ids),
            txn::Request::End(end) => end.fresh = ProducerId(self.ids),
            _ => {}
        }
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        let free = node.txns.ask(&mut self.parts[TXNS], now, request, then);
        self.free_txns(free);
    }

    pub(super) fn ask_groups(&mut self, request: group::Request, then: Then) {
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        if node.groups.marking.is_some() {
            node.groups.turns.push_back(Turn::Ask(request, then));
            return;
        }
        let generation = match &request {
            group::Request::Commit(it) if it.producer.is_none() => Some(it.member.generation.0),
            _ => None,
        };
        node.groups.has_written = false;
        let free = node.groups.ask(&mut self.parts[OFFSETS], now, request, then);
        let was_taken = node.groups.has_written;
        if let Some(generation) = generation.filter(|_| was_taken) {
            self.history.group.commits(generation);
        }
        self.free_groups(free);
    }

    fn free_txns(&mut self, (replies, decisions): Free<TxnShard, Then>) {
        for (then, reply) in replies {
            match then {
                Then::Reply { from, number } => self.answer(from, number, Answer::Txn(Ok(reply))),
                Then::Lane { actor } => match joined(reply) {
                    Ok(_) => self.joined_lane(actor),
                    Err(code) => self.lane_refused(actor, code),
                },
                Then::Offsets { from, number, commit } => match joined(reply) {
                    Ok(_) => {
                        let (delay, life) = (self.way_in(), self.life);
                        self.after(delay, What::Commit { from, number, commit, life });
                    }
                    Err(code) => self.answer(from, number, Answer::Txn(Err(code))),
                },
                Then::Noted { job } => match reply {
                    txn::Reply::Noted(Ok(())) => {
                        self.node.as_mut().expect(UP).jobs.remove(&job);
                    }
                    _ => self.after(50_000, What::Tell { job, life: self.life }),
                },
                Then::Test => unreachable!("transactions are not asked"),
            }
        }
        for decided in decisions {
            self.begin_job(decided);
        }
    }

    fn free_groups(&mut self, (replies, _): Free<GroupShard, Then>) {
        for (then, reply) in replies {
            match then {
                Then::Reply { from, number } => self.answer(from, number, Answer::Group(Ok(reply))),
                Then::Test => self.told = Some(reply),
                Then::Lane { .. } | Then::Offsets { .. } | Then::Noted { .. } => {
                    unreachable!("groups are not asked for it")
                }
            }
        }
    }

    fn begin_job(&mut self, decided: Decided) {
        let marker = marker_of(&decided);
        let owed: BTreeSet<usize> = decided.partitions.iter().map(place_of).collect();
        let node = self.node.as_mut().expect(UP);
        // One that is under way for the same id ends first.
        node.jobs.retain(|_, it| it.decided.id != decided.id);
        node.next_job += 1;
        let job = node.next_job;
        node.jobs.insert(job, Job { decided, owed: owed.clone() });
        if owed.is_empty() {
            self.after(100, What::Tell { job, life: self.life });
        }
        for part in owed {
            let delay = self.rng.below(3_000);
            self.after(delay, What::Marker { part, marker, job: Some(job), life: self.life });
        }
    }

    pub(super) fn marker(&mut self, part: usize, marker: EndTxnMarker, job: Option<u64>) {
        let Some(node) = &self.node else { return };
        if job.is_some_and(|it| !node.jobs.contains_key(&it)) {
            return;
        }
        self.reload_lost();
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        if part == OFFSETS && node.groups.marking.is_some() {
            node.groups.turns.push_back(Turn::Mark(marker, job));
            return;
        }
        let token = self.parts[part].mark(now, marker);
        if part == OFFSETS {
            node.groups.marking = Some((token, marker, job));
        } else {
            node.marks.insert((part, token), (marker, job));
        }
        self.pump();
    }

    fn partition_answered(&mut self, part: usize, token: Token, answer: PartitionAnswer) {
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        match answer {
            PartitionAnswer::Append(result) => {
                let Some((from, number)) = node.appends.remove(&(part, token)) else { return };
                let result = result.map_err(|error| error.code());
                self.answer(from, number, Answer::Produced(result));
            }
            PartitionAnswer::Marker(result)
                if node.groups.marking.as_ref().is_some_and(|it| it.0 == token)
                    && part == OFFSETS =>
            {
                let marker = node.groups.marking.as_ref().expect("just seen").1;
                let job = node.groups.marked(now, result.as_ref().ok().copied());
                self.marker_done(part, marker, job, result.map_err(|error| error.code()));
                self.next_turns();
            }
            PartitionAnswer::Marker(result) => {
                let (marker, job) = node.marks.remove(&(part, token)).expect("someone waits");
                self.marker_done(part, marker, job, result.map_err(|error| error.code()));
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// What waited while the marker was being committed.
    fn next_turns(&mut self) {
        loop {
            let node = self.node.as_mut().expect(UP);
            if node.groups.marking.is_some() {
                return;
            }
            match node.groups.turns.pop_front() {
                Some(Turn::Ask(request, then)) => self.ask_groups(request, then),
                Some(Turn::Mark(marker, job)) => self.marker(OFFSETS, marker, job),
                None => return,
            }
        }
    }

    fn marker_done(
        &mut self,
        part: usize,
        marker: EndTxnMarker,
        job: Option<u64>,
        result: Result<Offset, ErrorCode>,
    ) {
        let life = self.life;
        let Some(job) = job else { return };
        match result {
            // A newer epoch in the partition stands for a marker.
            Ok(_) | Err(ErrorCode::InvalidProducerEpoch) => {
                let node = self.node.as_mut().expect(UP);
                let Some(Job { owed, .. }) = node.jobs.get_mut(&job) else { return };
                owed.remove(&part);
                if owed.is_empty() {
                    let delay = self.rng.below(2_000);
                    self.after(delay, What::Tell { job, life });
                }
                // Its sender believed it lost, and sent it again. Version 1 could not tell it from
                // the end of the next transaction.
                let is_told_apart = marker.transaction_version >= 2;
                if is_told_apart && self.faults.twice && self.is_busy() && self.rng.chance(4) {
                    let delay = self.rng.below(100_000);
                    self.after(delay, What::Marker { part, marker, job: None, life });
                }
            }
            Err(ErrorCode::TransactionCoordinatorFenced) => {
                self.node.as_mut().expect(UP).jobs.remove(&job);
            }
            Err(_) => {
                self.after(50_000, What::Marker { part, marker, job: Some(job), life });
            }
        }
    }

    pub(super) fn tell(&mut self, job: u64) {
        self.reload_lost();
        let Some(found) = self.node.as_ref().expect(UP).jobs.get(&job) else { return };
        let decided = found.decided.clone();
        self.ask_txns(txn::Request::MarkersWritten(decided), Then::Noted { job });
        self.pump();
    }
}

fn marker_of(decided: &Decided) -> EndTxnMarker {
    EndTxnMarker {
        producer_id: decided.producer.id,
        producer_epoch: decided.producer.epoch,
        coordinator_epoch: decided.coordinator_epoch,
        commit: decided.commit,
        transaction_version: decided.version.to_wire(),
    }
}
