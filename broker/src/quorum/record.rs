//! What the quorum writes to its files, byte-exact: a kind, a version, then the fields.
//!
//! Raft counts terms, nodes and indices as unsigned 64-bit numbers; here they stand as the signed
//! ones of Kafka's types, which no cluster outlives. Membership is written as JSON, as it is
//! openraft's own structure and changes a few times in a cluster's life. Pure.

use std::fmt;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::type_config::alias::CommittedLeaderIdOf;
use protocol::message::{Versioned, decode_record, encode_record};
use protocol::primitive::DecodeError;
use protocol::wire;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Entry, LogId, Membership, SnapshotMeta, Types, Vote};

/// A batch of encoded records to commit: what `Batch` looks like encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Proposal(pub(super) Bytes);

impl From<Vec<u8>> for Proposal {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Proposal> for Vec<u8> {
    fn from(proposal: Proposal) -> Self {
        proposal.0.into()
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The end of the metadata log with the proposal; 0 for entries that hold none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied(pub(super) i64);

wire! {
    /// Some encoded records.
    pub struct Batch (versions 0..=0, flexible 0..) {
        /// The records.
        records: Vec<Bytes>;
    }

    /// An entry's place in the log, and who proposed it.
    pub struct Position (versions 0..=0, flexible 0..) {
        /// The proposer's term.
        term: i64;
        /// The proposer.
        node_id: i64;
        /// The index.
        index: i64;
    }

    /// For whom this node voted.
    pub struct VoteRecord (versions 0..=0, flexible 0..) {
        /// In which term.
        term: i64;
        /// For whom.
        node_id: i64;
        /// Whether a majority did.
        committed: bool;
    }

    /// Entries are appended.
    pub struct EntriesRecord (versions 0..=0, flexible 0..) {
        /// The entries, by ascending index without a gap.
        entries: Vec<EntryRecord>;
    }

    /// One entry.
    pub struct EntryRecord {
        /// Its place.
        position: Position;
        /// 0: nothing; 1: records; 2: a membership.
        kind: i8;
        /// The `Batch`, or the membership as JSON.
        body: Bytes;
    }

    /// Every entry from an index on is taken back.
    pub struct TruncateRecord (versions 0..=0, flexible 0..) {
        /// The first index taken back.
        from: i64;
    }

    /// Entries are covered by a snapshot and go.
    pub struct PurgeRecord (versions 0..=0, flexible 0..) {
        /// The last entry to go.
        last: Position;
    }

    /// The fold of the log up to some entry.
    pub struct SnapshotRecord (versions 0..=0, flexible 0..) {
        /// That entry; none in a snapshot of nothing.
        last: Vec<Position>;
        /// The membership as of then, as JSON.
        membership: Bytes;
        /// The `Batch` of records whose fold it is.
        records: Bytes;
    }
}

/// One change of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// This node voted.
    Vote(Vote),
    /// Entries are appended.
    Entries(Vec<Entry>),
    /// Every entry from this index on is taken back.
    Truncate(u64),
    /// Every entry up to this one, included, goes.
    Purge(LogId),
}

/// Why bytes are not what the quorum wrote: damaged, or written by a newer release.
#[derive(Debug, Error)]
pub(super) enum CodecError {
    /// The fields do not fit.
    #[error("quorum record: {0}")]
    Malformed(#[from] DecodeError),
    /// The membership is not one.
    #[error("quorum record: membership: {0}")]
    Membership(#[from] serde_json::Error),
    /// A kind of a newer release.
    #[error("quorum record: unknown kind {0}")]
    Kind(u8),
    /// A number that must not be negative is.
    #[error("quorum record: negative number {0}")]
    Negative(i64),
}

const VOTE: u8 = 1;
const ENTRIES: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const BLANK: i8 = 0;
const NORMAL: i8 = 1;
const MEMBERSHIP: i8 = 2;

impl Change {
    /// The bytes of this change.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Vote(vote) => {
                let term = signed(vote.leader_id.term);
                let node_id = signed(vote.leader_id.node_id);
                tagged(VOTE, &VoteRecord { term, node_id, committed: vote.committed })
            }
            Self::Entries(entries) => {
                let entries = entries.iter().map(entry_record).collect();
                tagged(ENTRIES, &EntriesRecord { entries })
            }
            Self::Truncate(from) => tagged(TRUNCATE, &TruncateRecord { from: signed(*from) }),
            Self::Purge(last) => tagged(PURGE, &PurgeRecord { last: position(last) }),
        }
    }

    /// Reads one change, all of `bytes`.
    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        let kind = *bytes.first().ok_or(DecodeError::Short { at: 0, wanted: 1 })?;
        let body = bytes.split_off(1);
        match kind {
            VOTE => {
                let record: VoteRecord = decode_record(body)?.1;
                let (term, node_id) = (unsigned(record.term)?, unsigned(record.node_id)?);
                let vote = if record.committed { Vote::new_committed } else { Vote::new };
                Ok(Self::Vote(vote(term, node_id)))
            }
            ENTRIES => {
                let record: EntriesRecord = decode_record(body)?.1;
                let entries = record.entries.into_iter().map(entry);
                Ok(Self::Entries(entries.collect::<Result<_, _>>()?))
            }
            TRUNCATE => {
                let record: TruncateRecord = decode_record(body)?.1;
                Ok(Self::Truncate(unsigned(record.from)?))
            }
            PURGE => {
                let record: PurgeRecord = decode_record(body)?.1;
                Ok(Self::Purge(log_id(&record.last)?))
            }
            _ => Err(CodecError::Kind(kind)),
        }
    }
}

/// The proposal that holds `records`.
pub(super) fn pack(records: Vec<Bytes>) -> Bytes {
    encode_record(0, &Batch { records }).expect("a batch has one version, which holds it")
}

/// The records that a proposal holds.
pub(super) fn unpack(proposal: Bytes) -> Result<Vec<Bytes>, CodecError> {
    let batch: Batch = decode_record(proposal)?.1;
    Ok(batch.records)
}

/// The bytes of a snapshot: what `records`, packed, is the fold of.
pub(super) fn encode_snapshot(meta: &SnapshotMeta, records: Bytes) -> Vec<u8> {
    let last = meta.last_log_id.iter().map(position).collect();
    let membership = json(&meta.last_membership);
    let record = SnapshotRecord { last, membership, records };
    encode_record(0, &record).expect("a snapshot has one version, which holds it").into()
}

/// What [`encode_snapshot`] wrote.
pub(super) fn decode_snapshot(bytes: Bytes) -> Result<(SnapshotMeta, Bytes), CodecError> {
    let record: SnapshotRecord = decode_record(bytes)?.1;
    let last_log_id = record.last.first().map(log_id).transpose()?;
    let last_membership: Membership = serde_json::from_slice(&record.membership)?;
    Ok((SnapshotMeta { last_log_id, last_membership }, record.records))
}

fn tagged(kind: u8, record: &impl Versioned) -> Vec<u8> {
    let body = encode_record(0, record).expect("records here have one version, which holds them");
    let mut bytes = Vec::with_capacity(1 + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&body);
    bytes
}

fn entry_record(entry: &Entry) -> EntryRecord {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(proposal) => (NORMAL, proposal.0.clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, json(membership)),
    };
    EntryRecord { position: position(&entry.log_id), kind, body }
}

fn entry(record: EntryRecord) -> Result<Entry, CodecError> {
    let payload = match record.kind {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Proposal(record.body)),
        MEMBERSHIP => EntryPayload::Membership(serde_json::from_slice(&record.body)?),
        other => return Err(CodecError::Kind(other.to_be_bytes()[0])),
    };
    Ok(Entry::new(log_id(&record.position)?, payload))
}

fn position(log_id: &LogId) -> Position {
    let proposer = log_id.committed_leader_id();
    let (term, node_id) = (signed(proposer.term), signed(proposer.node_id));
    Position { term, node_id, index: signed(log_id.index()) }
}

fn log_id(position: &Position) -> Result<LogId, CodecError> {
    let (term, node_id) = (unsigned(position.term)?, unsigned(position.node_id)?);
    let proposer = CommittedLeaderIdOf::<Types> { term, node_id };
    Ok(LogId::new(proposer, unsigned(position.index)?))
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("a membership has only numbers as keys").into()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("terms and indices count what happens in a cluster's life")
}

fn unsigned(number: i64) -> Result<u64, CodecError> {
    u64::try_from(number).map_err(|_| CodecError::Negative(number))
}
