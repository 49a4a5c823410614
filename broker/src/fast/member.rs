//! A member of a group that reads four partitions: joins, takes its part, commits, leaves, dies.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, TopicPartition};
use protocol::rng::Rng;

use super::actors::{Answer, Call, Do, PATIENCE_US, commit, is_retriable};
use super::history::History;
use crate::group::{self, Join, Leave, Membership, Reply, Request, Sync};

const GROUP: &str = "readers";
const PARTITIONS: u8 = 4;
/// Offsets of one round of the group lie above those of the round before.
pub(super) const ROUND: i64 = 1_000_000;
pub(super) const SESSION: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Join,
    Sync,
    Fetch,
    Commit,
    Beat,
    Leave,
}

#[derive(Debug)]
pub(super) struct Member {
    index: usize,
    step: Step,
    number: u64,
    pauses: bool,
    id: Arc<str>,
    generation: i32,
    /// For the leader: what everyone gets.
    assignments: Vec<(Arc<str>, Bytes)>,
    /// What it owns, and how far it has come there.
    owned: BTreeMap<u8, i64>,
    /// What was acknowledged of them when it asked where to go on.
    acked_when_asked: BTreeMap<u8, i64>,
    /// What it commits now.
    committing: Option<(u8, i64)>,
}

fn at(partition: u8) -> TopicPartition {
    TopicPartition::new("read", i32::from(partition))
}

impl Member {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            step: Step::Join,
            number: 0,
            pauses: true,
            id: "".into(),
            generation: -1,
            assignments: Vec::new(),
            owned: BTreeMap::new(),
            acked_when_asked: BTreeMap::new(),
            committing: None,
        }
    }

    pub(super) fn on(
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
        match answer {
            None if self.pauses => return self.go_on(is_busy, rng, history, todo),
            // A round takes as long as it takes; the rest is asked again.
            None => todo.push(Do::Reconnect),
            Some(Answer::Group(Ok(reply))) => self.understand(reply, history),
            Some(Answer::Group(Err(code))) => assert!(is_retriable(code), "{code}"),
            Some(other) => panic!("not asked for: {other:?}"),
        }
        self.number += 1;
        self.pauses = true;
        // It falls silent for longer than its session, and does not know.
        let after_us = match is_busy && rng.chance(40) {
            true => 500_000,
            false => 5_000 + rng.below(60_000),
        };
        todo.push(Do::Wake { after_us, number: self.number });
    }

    fn understand(&mut self, reply: Reply, history: &mut History) {
        match reply {
            Reply::Joined(joined) => match joined.error {
                ErrorCode::None => {
                    self.id = joined.member_id;
                    self.generation = joined.generation.0;
                    let members = joined.members.into_iter().map(|(id, _, _)| id);
                    self.assignments = shares(&members.collect::<Vec<_>>());
                    self.step = Step::Sync;
                }
                ErrorCode::MemberIdRequired => self.id = joined.member_id,
                code => self.failed(code),
            },
            Reply::Synced(synced) if synced.error.is_ok() => {
                // A round whose assignment was never handed out may be forgotten by a crash.
                history.group.round(self.generation);
                history.group.owns(self.index, self.generation, &synced.assignment);
                self.owned = synced.assignment.iter().map(|it| (*it, -1)).collect();
                self.step = if self.owned.is_empty() { Step::Beat } else { Step::Fetch };
            }
            Reply::Synced(synced) => self.failed(synced.error),
            Reply::Fetched(Ok(found)) => {
                for (partition, committed) in found {
                    let partition = u8::try_from(partition.partition.0).unwrap();
                    let offset = committed.unwrap().map_or(-1, |it| it.offset.0);
                    let acked = self.acked_when_asked.get(&partition).copied().unwrap_or(-1);
                    history.group.fetched(partition, offset, acked);
                    self.owned.insert(partition, offset);
                }
                self.step = Step::Commit;
            }
            Reply::Fetched(Err(code)) | Reply::Heartbeat(code) if !code.is_ok() => {
                self.failed(code);
            }
            Reply::Heartbeat(_) => {}
            Reply::Committed(codes) => match (codes[0], self.committing.take()) {
                (ErrorCode::None, Some((partition, offset))) => {
                    history.group.acked(partition, offset);
                    self.owned.insert(partition, offset);
                }
                (code, _) => self.failed(code),
            },
            Reply::Left(_) => self.forget(),
            other => panic!("not asked for: {other:?}"),
        }
    }

    fn forget(&mut self) {
        self.id = "".into();
        self.generation = -1;
        self.step = Step::Join;
        self.owned.clear();
    }

    fn failed(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(),
            ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress => {
                self.step = Step::Join;
            }
            code => assert!(is_retriable(code), "{code}"),
        }
    }

    fn membership(&self) -> Membership {
        Membership {
            group: GROUP.into(),
            generation: GenerationId(self.generation),
            member_id: Arc::clone(&self.id),
            instance_id: None,
        }
    }

    fn go_on(&mut self, is_busy: bool, rng: &mut Rng, history: &History, todo: &mut Vec<Do>) {
        if !is_busy {
            return;
        }
        if matches!(self.step, Step::Beat | Step::Commit) {
            self.step = match rng.below(20) {
                0 => Step::Leave,
                1..8 => Step::Beat,
                _ if self.owned.is_empty() => Step::Beat,
                _ => Step::Commit,
            };
        }
        let request = self.request(rng, history);
        self.pauses = false;
        // Rounds end when the slowest is removed.
        let patience =
            if matches!(self.step, Step::Join | Step::Sync) { 1_000_000 } else { PATIENCE_US };
        todo.push(Do::Send { number: self.number, call: Call::Group(request) });
        todo.push(Do::Wake { after_us: patience, number: self.number });
    }

    fn request(&mut self, rng: &mut Rng, history: &History) -> Request {
        match self.step {
            Step::Join => Request::Join(Join {
                group: GROUP.into(),
                member_id: Arc::clone(&self.id),
                instance_id: None,
                client_id: "c".into(),
                client_host: "h".into(),
                session_timeout: SESSION,
                rebalance_timeout: SESSION,
                protocol_type: "consumer".into(),
                protocols: vec![("range".into(), Bytes::new())],
                requires_member_id: true,
                can_skip_assignment: false,
            }),
            Step::Sync => Request::Sync(Sync {
                member: self.membership(),
                protocol_type: None,
                protocol: None,
                assignments: std::mem::take(&mut self.assignments),
            }),
            Step::Fetch => {
                let ask = |it: &u8| (*it, history.group.last_acked(*it));
                self.acked_when_asked = self.owned.keys().map(ask).collect();
                let partitions = self.owned.keys().map(|it| at(*it)).collect();
                Request::Fetch(group::Fetch {
                    group: GROUP.into(),
                    member: None,
                    partitions: Some(partitions),
                    require_stable: true,
                })
            }
            Step::Commit => {
                let place = usize::try_from(rng.below(4)).unwrap() % self.owned.len();
                let (&partition, &offset) = self.owned.iter().nth(place).unwrap();
                let least = i64::from(self.generation) * ROUND;
                let offset = offset.max(least) + 1 + i64::try_from(rng.below(5)).unwrap();
                self.committing = Some((partition, offset));
                let of = at(partition);
                Request::Commit(commit(GROUP, self.generation, &self.id, of, offset, None))
            }
            Step::Beat => Request::Heartbeat(self.membership()),
            Step::Leave => {
                let members = vec![(Arc::clone(&self.id), None)];
                Request::Leave(Leave { group: GROUP.into(), members })
            }
        }
    }
}

/// Each partition to one of the members, in turn.
fn shares(members: &[Arc<str>]) -> Vec<(Arc<str>, Bytes)> {
    let share = |place: usize| {
        let ours = (0..PARTITIONS).filter(|it| usize::from(*it) % members.len() == place);
        ours.collect::<Vec<u8>>().into()
    };
    members.iter().enumerate().map(|(place, id)| (Arc::clone(id), share(place))).collect()
}
