//! Starts the quorum, takes proposals, stops it.
//!
//! A directory without a log becomes a quorum of one voter. A sole voter does not wait for an
//! election timeout, which exists to keep candidates apart: it elects itself at once, and leads
//! before `start` returns. Shell.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use openraft::impls::EmptyNode;
use openraft::raft::Raft;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{Config, ReadPolicy, SnapshotPolicy};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, Offset};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::info;

use super::Types;
use super::log_file::LogFileError;
use super::log_store::LogStore;
use super::network::Network;
use super::record::{Proposal, pack};
use super::state_machine::StateMachine;
use crate::disk::Disk;
use crate::limits::PROPOSAL_BYTES_MAX;
use crate::metadata::Feed;

/// A snapshot is taken when so many entries have come since the last: about the changes of a busy
/// day, replayed in well under a second at the start.
const SNAPSHOT_ENTRIES: u64 = 5_000;
/// Entries that stay in the log though a snapshot covers them.
const COVERED_ENTRIES: u64 = 500;

/// What the quorum needs to know.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// This node.
    pub node_id: BrokerId,
    /// The directory of the quorum's files. Created when absent.
    pub dir: PathBuf,
    /// Where all its chance comes from.
    pub seed: u64,
}

/// Why the quorum does not start. Only an operator can help.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] LogFileError),
    /// The directory cannot be made.
    #[error("{}: {source}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// openraft refused what it found, or failed on the way.
    #[error("quorum of node {node_id}: {reason}")]
    Raft {
        /// This node.
        node_id: BrokerId,
        /// Its words.
        reason: String,
    },
}

/// Why a proposal is not known to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Another node leads, or none: nothing was proposed. Ask the leader.
    #[error("node {node_id} does not lead the quorum: {leader} does")]
    NotLeader {
        /// This node.
        node_id: BrokerId,
        /// Who leads; [`BrokerId::NONE`] when nobody is known to.
        leader: BrokerId,
    },
    /// Leadership was lost on the way: the proposal may yet be committed.
    #[error("node {node_id} lost the quorum's lead: the outcome is not known")]
    Unknown {
        /// This node.
        node_id: BrokerId,
    },
    /// The proposal is too large. No retry will help.
    #[error("proposal of {bytes} bytes is larger than {PROPOSAL_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// This node's part in the quorum has ended, by shutdown or by a broken disk.
    #[error("the quorum has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ProposeError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } => ErrorCode::NotController,
            Self::Unknown { .. } | Self::Stopped { .. } => ErrorCode::RequestTimedOut,
            Self::TooLarge { .. } => ErrorCode::InvalidRequest,
        }
    }
}

/// What there is to know of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumFacts {
    /// Who leads; [`BrokerId::NONE`] when nobody is known to.
    pub leader: BrokerId,
    /// The leader's term.
    pub term: u64,
    /// The end of what is applied here.
    pub applied: Offset,
    /// Who votes.
    pub voters: Vec<BrokerId>,
    /// How far each node of the quorum is, as its leader knows; elsewhere, how far this one is.
    pub replicas: Vec<QuorumReplica>,
}

/// How far one node of the quorum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// The node.
    pub id: BrokerId,
    /// True when it votes, false when it only follows.
    pub is_voter: bool,
    /// The end of its log. `None`: nothing is known of it.
    pub log_end: Option<Offset>,
}

/// Access to the quorum. Cheap to clone.
#[derive(Clone)]
pub struct QuorumHandle {
    node_id: BrokerId,
    raft: Raft<Types, StateMachine>,
}

impl std::fmt::Debug for QuorumHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QuorumHandle({})", self.node_id)
    }
}

/// Starts this node's part in the quorum; committed records go to `feed`. A sole voter leads, and
/// has applied all that was ever committed, when this returns.
///
/// # Errors
/// When the directory cannot be used: nothing was lost, and nothing is running.
pub async fn start(
    config: QuorumConfig,
    disk: Arc<dyn Disk>,
    feed: mpsc::Sender<Feed>,
) -> Result<QuorumHandle, StartError> {
    let QuorumConfig { node_id, dir, seed } = config;
    let make_dir = || {
        disk.create_dir_all(&dir)?;
        dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
    };
    make_dir().map_err(|source| StartError::Dir { dir: dir.clone(), source })?;
    let log = LogStore::open(disk.clone(), &dir.join("log"))?;
    let machine = StateMachine::open(disk, dir.join("snapshot"), feed).await?;
    let starting = start_raft(node_id, log, machine);
    // What openraft spawns inherits the seed from the task that spawns it.
    let raft = DeterministicRng::<openraft::impls::TokioRuntime>::scope(seed, starting).await;
    let raft = raft.map_err(|reason| StartError::Raft { node_id, reason })?;
    Ok(QuorumHandle { node_id, raft })
}

async fn start_raft(
    node_id: BrokerId,
    log: LogStore,
    machine: StateMachine,
) -> Result<Raft<Types, StateMachine>, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let me = raft_id(node_id);
    let is_pristine = log.is_pristine();
    let config = Arc::new(raft_config().validate().map_err(|error| say(&error))?);
    let raft = Raft::new(me, config, Network, log, machine).await.map_err(|error| say(&error))?;
    if is_pristine {
        let members = BTreeMap::from([(me, EmptyNode {})]);
        raft.initialize(members).await.map_err(|error| say(&error))?;
    }
    let voters = raft.with_raft_state(|state| {
        state.membership_state.effective().voter_ids().collect::<Vec<_>>()
    });
    let voters = voters.await.map_err(|error| say(&error))?;
    if voters == [me] {
        raft.trigger().elect(false).await.map_err(|error| say(&error))?;
        raft.wait(None).current_leader(me, "sole voter").await.map_err(|error| say(&error))?;
        let read = raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        read.map_err(|error| say(&error))?;
    }
    info!(node = %node_id, ?voters, "quorum started");
    Ok(raft)
}

/// Kafka's timeouts of the controller quorum; a sole voter waits for none of them.
fn raft_config() -> Config {
    Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: COVERED_ENTRIES,
        // Proposals come one at a time: to wait for more of them would cost a timer's tick each.
        api_batch_capacity: 1,
        enable_pre_vote: Some(true),
        ..Config::default()
    }
}

impl QuorumHandle {
    /// Commits `records` as one batch: all of them or none. Answers with the end of the metadata
    /// log once they are committed, applied here and visible in the Image. For as long as the disk
    /// is full this waits.
    ///
    /// # Errors
    /// See [`ProposeError`]; only `NotLeader` and `TooLarge` promise that nothing was committed.
    pub async fn propose(&self, records: Vec<Bytes>) -> Result<Offset, ProposeError> {
        let proposal = pack(records);
        if proposal.len() > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: proposal.len() });
        }
        match self.raft.client_write(Proposal(proposal)).await {
            Ok(written) => Ok(Offset(written.data.0)),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Waits until this node leads and has applied all that was committed before it did.
    ///
    /// # Errors
    /// `NotLeader` when another leads or none does; `Stopped`.
    pub async fn settle(&self) -> Result<(), ProposeError> {
        let settled = self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        let not_leader =
            || ProposeError::NotLeader { node_id: self.node_id, leader: self.facts().leader };
        match settled {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(fatal)) => {
                Err(ProposeError::Stopped { reason: fatal.to_string() })
            }
            Err(RaftError::APIError(_)) => Err(not_leader()),
        }
    }

    /// What there is to know of the quorum at this moment.
    #[must_use]
    pub fn facts(&self) -> QuorumFacts {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let end = |index: u64| Offset(i64::try_from(index + 1).expect("indices fit"));
        let own_end = metrics.last_log_index.map_or(Offset::ZERO, end);
        let log_end = |id: u64| {
            if broker_id(id) == self.node_id {
                return Some(own_end);
            }
            let matching = metrics.replication.as_ref()?.get(&id)?;
            Some(matching.as_ref().map_or(Offset::ZERO, |last| end(last.index())))
        };
        let replica = |id: u64, is_voter| {
            let log_end = log_end(id);
            QuorumReplica { id: broker_id(id), is_voter, log_end }
        };
        let membership = &metrics.membership_config;
        let voters = membership.voter_ids().map(|id| replica(id, true));
        let learners = membership.membership().learner_ids().map(|id| replica(id, false));
        QuorumFacts {
            leader: metrics.current_leader.map_or(BrokerId::NONE, broker_id),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(Offset::ZERO, |last| end(last.index())),
            voters: membership.voter_ids().map(broker_id).collect(),
            replicas: voters.chain(learners).collect(),
        }
    }

    /// Takes a snapshot now and lets go of all it covers, instead of when enough entries have come.
    #[cfg(test)]
    pub(super) async fn snapshot(&self) {
        let metrics = self.raft.metrics();
        let last = {
            use openraft::async_runtime::watch::WatchReceiver;
            metrics.borrow_watched().last_applied
        };
        self.raft.trigger().snapshot().await.unwrap();
        self.raft.wait(None).snapshot(last.unwrap(), "taken").await.unwrap();
        self.raft.trigger().purge_log(last.unwrap().index()).await.unwrap();
        self.raft.wait(None).purged(last, "purged").await.unwrap();
    }

    /// Ends this node's part in the quorum. What was answered is on disk already.
    pub async fn shutdown(&self) {
        // It can only fail by having ended.
        let _ = self.raft.shutdown().await;
    }

    fn explain(&self, error: RaftError<Types, ClientWriteError<Types>>) -> ProposeError {
        let node_id = self.node_id;
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                let leader = forward.leader_id.map_or(BrokerId::NONE, broker_id);
                ProposeError::NotLeader { node_id, leader }
            }
            RaftError::APIError(_) => ProposeError::Unknown { node_id },
            RaftError::Fatal(fatal) => ProposeError::Stopped { reason: fatal.to_string() },
        }
    }
}

fn raft_id(id: BrokerId) -> u64 {
    u64::try_from(id.0).expect("node.id begins at 0")
}

fn broker_id(id: u64) -> BrokerId {
    BrokerId(i32::try_from(id).expect("every voter's id began as a broker's"))
}
