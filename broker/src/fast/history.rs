//! What clients did and saw, and what must be true of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::Offset;

use super::member::ROUND;
use super::part::Found;

/// How a transaction went, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody ever asked to commit it: nothing of it may be seen.
    NeverCommitted,
    /// A commit was asked for, and no answer came: all or nothing.
    Unknown,
    /// The commit was confirmed: all of it.
    Committed,
}

#[derive(Debug)]
struct Txn {
    actor: usize,
    values: Vec<u64>,
    has_offset: bool,
    fate: Fate,
}

#[derive(Debug, Default)]
pub(super) struct History {
    values: u64,
    txns: Vec<Txn>,
    /// Values sent without a transaction, by client, in order; true once acknowledged.
    plain: BTreeMap<usize, Vec<(u64, bool)>>,
    /// What was found at an offset of a partition.
    at: BTreeMap<(usize, Offset), u64>,
    /// What readers of committed records saw.
    seen: BTreeSet<u64>,
    pub(super) group: GroupHistory,
}

impl History {
    /// A transaction begins; yields its number, which is also the offset that it commits.
    pub(super) fn begin(&mut self, actor: usize) -> usize {
        let fate = Fate::NeverCommitted;
        self.txns.push(Txn { actor, values: Vec::new(), has_offset: false, fate });
        self.txns.len() - 1
    }

    /// A value that was never used.
    pub(super) fn value_of(&mut self, txn: usize) -> u64 {
        self.values += 1;
        self.txns[txn].values.push(self.values);
        self.values
    }

    pub(super) fn plain_value(&mut self, actor: usize) -> u64 {
        self.values += 1;
        self.plain.entry(actor).or_default().push((self.values, false));
        self.values
    }

    pub(super) fn plain_acked(&mut self, actor: usize, value: u64) {
        let sent = self.plain.get_mut(&actor).unwrap();
        sent.iter_mut().find(|it| it.0 == value).unwrap().1 = true;
    }

    pub(super) fn offset_committed(&mut self, txn: usize) {
        self.txns[txn].has_offset = true;
    }

    pub(super) fn asks_to_commit(&mut self, txn: usize) {
        self.txns[txn].fate = Fate::Unknown;
    }

    pub(super) fn committed(&mut self, txn: usize) {
        self.txns[txn].fate = Fate::Committed;
    }

    /// A reader found these.
    pub(super) fn saw(&mut self, part: usize, found: &[Found], is_committed: bool) {
        for Found { offset, value } in found {
            let known = *self.at.entry((part, *offset)).or_insert(*value);
            assert_eq!(known, *value, "another value at {offset} of partition {part}");
            if is_committed {
                self.seen.insert(*value);
            }
        }
    }

    /// `read`: all committed values of the data partitions, in order; `offsets`: what is committed
    /// for each client; `log`: all that the log holds.
    pub(super) fn check(
        &self,
        read: &[Vec<u64>],
        offsets: &BTreeMap<usize, i64>,
        log: &BTreeMap<(usize, Offset), u64>,
    ) {
        let mut visible = BTreeSet::new();
        for value in read.concat() {
            assert!(visible.insert(value), "value {value} is there twice");
        }
        for (place, value) in &self.at {
            assert_eq!(log.get(place), Some(value), "what a reader saw at {place:?} is gone");
        }
        for value in &self.seen {
            assert!(visible.contains(value), "value {value} was read, and was not committed");
        }
        let mut want: BTreeMap<usize, i64> = BTreeMap::new();
        for (number, txn) in self.txns.iter().enumerate() {
            let count = txn.values.iter().filter(|it| visible.contains(it)).count();
            let is_seen = match txn.fate {
                Fate::Committed => true,
                Fate::NeverCommitted => false,
                Fate::Unknown => count > 0,
            };
            let due = if is_seen { txn.values.len() } else { 0 };
            assert_eq!(count, due, "transaction {number}: {txn:?}");
            if is_seen && txn.has_offset {
                want.insert(txn.actor, i64::try_from(number).unwrap());
            }
        }
        assert_eq!(*offsets, want, "offsets and records of transactions went together");
        for (actor, sent) in &self.plain {
            let is_ours = |value: &&u64| sent.iter().any(|it| it.0 == **value);
            let got: Vec<u64> = read.iter().flatten().filter(is_ours).copied().collect();
            let acked = sent.iter().filter(|it| it.1).count();
            let want: Vec<u64> = sent.iter().map(|it| it.0).take(got.len()).collect();
            assert!(acked <= got.len(), "client {actor}: an acknowledged record is lost");
            assert_eq!(got, want, "client {actor}: records are out of order");
        }
    }
}

/// What a group's members did.
#[derive(Debug, Default)]
pub(super) struct GroupHistory {
    /// The newest round that anyone was told of.
    generation: i32,
    /// Who owns which partition, by generation.
    owners: BTreeMap<(i32, u8), usize>,
    /// The last offset that was acknowledged, by partition.
    acked: BTreeMap<u8, i64>,
    /// No commit comes late or twice: offsets never go back within a round either.
    pub(super) is_exact: bool,
}

impl GroupHistory {
    pub(super) fn round(&mut self, generation: i32) {
        self.generation = self.generation.max(generation);
    }

    pub(super) fn owns(&mut self, actor: usize, generation: i32, partitions: &[u8]) {
        for partition in partitions {
            let owner = *self.owners.entry((generation, *partition)).or_insert(actor);
            assert_eq!(owner, actor, "partition {partition} has two owners in {generation}");
        }
    }

    /// A commit under `generation` is let through.
    pub(super) fn commits(&self, generation: i32) {
        assert!(self.generation <= generation, "a commit of an old round: {generation}");
    }

    pub(super) fn acked(&mut self, partition: u8, offset: i64) {
        let last = self.acked.entry(partition).or_insert(-1);
        *last = offset.max(*last);
    }

    /// A member was told where to go on.
    pub(super) fn fetched(&self, partition: u8, offset: i64, acked_when_asked: i64) {
        let (mut least, mut found) = (acked_when_asked, offset);
        if !self.is_exact {
            (least, found) = (least / ROUND, found / ROUND);
        }
        assert!(least <= found, "partition {partition}: the group went back");
    }

    pub(super) fn last_acked(&self, partition: u8) -> i64 {
        self.acked.get(&partition).copied().unwrap_or(-1)
    }
}
