//! How what belongs to a transaction gets into its partition: its coordinator is asked, and time
//! passes in which a marker may come. Pure.

use std::collections::VecDeque;

use protocol::error_code::ErrorCode;
use protocol::record::RecordBatch;

use super::actors::{Answer, Joining};
use super::node::{Then, UP};
use super::{OFFSETS, What, World};
use crate::group;
use crate::partition::{Standing, VerificationGuard};
use crate::txn::{self, Version};

/// A transactional batch on its way in.
#[derive(Debug)]
pub(super) struct Entering {
    pub(super) from: usize,
    pub(super) number: u64,
    pub(super) joining: Joining,
    pub(super) part: usize,
    pub(super) batch: RecordBatch,
    pub(super) guard: Option<VerificationGuard>,
}

impl World {
    /// The first batch of a lane enters at once if its transaction is open there.
    pub(super) fn join(&mut self, actor: usize) {
        let now = self.now();
        let lane = self.node.as_mut().expect(UP).lanes.get_mut(&actor).expect("it has a lane");
        let Some(first) = lane.front_mut() else { return };
        let (part, joining) = (first.part, first.joining.clone());
        let producer = (joining.producer.id, joining.producer.epoch);
        let Standing { open_from, guard } = self.parts[part].standing(now, producer);
        if joining.version == Version::V1 {
            first.guard = Some(guard);
        }
        let is_owned = self.node.as_ref().expect(UP).owned.get(&actor) == Some(&producer.0);
        if open_from.is_some() && is_owned {
            return self.let_in(actor);
        }
        self.ask_to_join(&joining, part, Then::Lane { actor });
    }

    /// The first batch of a lane may enter: it is known whose producer it is.
    pub(super) fn joined_lane(&mut self, actor: usize) {
        let node = self.node.as_mut().expect(UP);
        let first = node.lanes.get(&actor).and_then(VecDeque::front).expect("it waits");
        node.owned.insert(actor, first.joining.producer.id);
        self.let_in(actor);
    }

    /// How long it takes from where a transaction was joined to where its writes are taken.
    pub(super) fn way_in(&mut self) -> u64 {
        let is_long = self.faults.late && self.is_busy() && self.rng.chance(20);
        self.rng.below(if is_long { 200_000 } else { 2_000 })
    }

    pub(super) fn let_in(&mut self, actor: usize) {
        let delay = self.way_in();
        self.after(delay, What::Enter { id: actor, life: self.life });
    }

    /// Offsets of a transaction are committed once it is known to hold their partition.
    pub(super) fn join_offsets(
        &mut self,
        from: usize,
        number: u64,
        joining: &Joining,
        mut commit: group::Commit,
    ) {
        if joining.version == Version::V1 {
            let (now, producer) = (self.now(), (joining.producer.id, joining.producer.epoch));
            commit.guard = Some(self.parts[OFFSETS].standing(now, producer).guard);
        }
        self.ask_to_join(joining, OFFSETS, Then::Offsets { from, number, commit });
    }

    pub(super) fn commit(&mut self, from: usize, number: u64, commit: group::Commit) {
        self.reload_lost();
        self.ask_groups(group::Request::Commit(commit), Then::Reply { from, number });
        self.pump();
    }

    pub(super) fn ask_to_join(&mut self, joining: &Joining, part: usize, then: Then) {
        let at = self.parts[part].tp.clone();
        let Joining { name: id, producer, version, .. } = joining.clone();
        let add = txn::Add { id, producer, partitions: [at].into(), version };
        let request = match version {
            Version::V1 => txn::Request::Verify(add),
            Version::V2 => txn::Request::Add(add),
        };
        self.ask_txns(request, then);
    }

    /// The first batch of a lane goes to its partition, and the next follows.
    pub(super) fn enter(&mut self, actor: usize) {
        let now = self.now();
        let node = self.node.as_mut().expect(UP);
        let lane = node.lanes.get_mut(&actor).expect("it has a lane");
        let first = lane.pop_front().expect("it waits");
        let Entering { from, number, part, batch, guard, .. } = first;
        let token = self.parts[part].produce(now, batch, guard);
        node.appends.insert((part, token), (from, number));
        self.join(actor);
        self.pump();
    }

    pub(super) fn lane_refused(&mut self, actor: usize, code: ErrorCode) {
        let node = self.node.as_mut().expect(UP);
        let lane = node.lanes.get_mut(&actor).expect("it has a lane");
        let Entering { from, number, .. } = lane.pop_front().expect("it waits");
        self.answer(from, number, Answer::Produced(Err(code)));
        self.join(actor);
    }
}

/// Whether a transaction was joined, and how it ends.
pub(super) fn joined(reply: txn::Reply) -> Result<Version, ErrorCode> {
    match reply {
        txn::Reply::Added(result) => result.map(|()| Version::V2),
        txn::Reply::Verified(codes) if codes[0].is_ok() => Ok(Version::V1),
        txn::Reply::Verified(codes) => Err(codes[0]),
        other => panic!("not the answer to an addition: {other:?}"),
    }
}
