//! Committed entries on their way to the metadata; snapshots of the Image on disk.
//!
//! The state itself is the Image, which lives in the metadata room: here is only how far it has
//! come. It starts from the snapshot's Image, and openraft hands it the entries after that. A
//! snapshot replaces the one before at once: a crash leaves either. Shell.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend};
use protocol::ids::Offset;
use tokio::sync::{mpsc, oneshot};

use super::log_file::{LogFileError, read_frame, write_frame};
use super::log_store::patiently;
use super::record::{Applied, decode_snapshot, encode_snapshot, pack, unpack};
use super::{LogId, Membership, SnapshotMeta, Types};
use crate::disk::Disk;
use crate::metadata::Feed;

type Snapshot = SnapshotOf<Types, Bytes>;

/// Where the state machine's snapshot is kept.
#[derive(Clone, Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// How far the metadata have followed the log.
#[derive(Debug)]
pub(super) struct StateMachine {
    place: Place,
    feed: mpsc::Sender<Feed>,
    last_applied: Option<LogId>,
    last_membership: Membership,
}

impl StateMachine {
    /// Starts from the snapshot at `path`, if there is one, and hands its records to `feed`.
    pub(super) async fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        feed: mpsc::Sender<Feed>,
    ) -> Result<Self, LogFileError> {
        let place = Place { disk, path };
        let (last_applied, last_membership) = (None, Membership::default());
        let mut machine = Self { place, feed, last_applied, last_membership };
        if let Some((meta, records)) = machine.place.read()? {
            let unreadable = |error: io::Error| LogFileError::Unreadable {
                path: machine.place.path.clone(),
                reason: error.to_string(),
            };
            machine.show(&meta, records).await.map_err(unreadable)?;
            machine.follow(meta);
        }
        Ok(machine)
    }

    /// Replaces the Image by the fold of `records`.
    async fn show(&self, meta: &SnapshotMeta, records: Bytes) -> io::Result<()> {
        let records = unpack(records).map_err(io::Error::other)?;
        let end = meta.last_log_id.as_ref().map_or(Offset::ZERO, end_of);
        self.ask(|installed| Feed::Install { end, records, installed }).await
    }

    fn follow(&mut self, meta: SnapshotMeta) {
        self.last_applied = meta.last_log_id;
        self.last_membership = meta.last_membership;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Feed) -> io::Result<T> {
        let gone = || io::Error::other("the metadata no longer follow the log");
        let (reply, answer) = oneshot::channel();
        self.feed.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.last_applied, self.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let log_id = entry.log_id();
            let mut applied = Applied::default();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    let records = unpack(proposal.0).map_err(io::Error::other)?;
                    let end = end_of(&log_id);
                    self.ask(|applied| Feed::Apply { end, records, applied }).await?;
                    applied = Applied(end.0);
                }
                EntryPayload::Membership(membership) => {
                    self.last_membership = Membership::new(Some(log_id), membership);
                }
            }
            self.last_applied = Some(log_id);
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (last_log_id, last_membership) = (self.last_applied, self.last_membership.clone());
        let meta = SnapshotMeta { last_log_id, last_membership };
        // Asked for here, not in the builder: the next entry may be applied while it builds.
        let records = self.ask(|reply| Feed::Snapshot { reply }).await;
        Builder { place: self.place.clone(), meta, records: records.map(|(_, records)| records) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, records: Bytes) -> io::Result<()> {
        self.place.write(meta, records.clone()).await?;
        self.show(meta, records).await?;
        self.follow(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let read = self.place.read().map_err(io::Error::other)?;
        Ok(read.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one snapshot.
#[derive(Debug)]
pub(super) struct Builder {
    place: Place,
    meta: SnapshotMeta,
    records: io::Result<Vec<Bytes>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let records = std::mem::replace(&mut self.records, Ok(Vec::new()))?;
        let snapshot = pack(records);
        self.place.write(&self.meta, snapshot.clone()).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

impl Place {
    fn read(&self) -> Result<Option<(SnapshotMeta, Bytes)>, LogFileError> {
        let Some(payload) = read_frame(&*self.disk, &self.path)? else { return Ok(None) };
        let snapshot = decode_snapshot(payload).map_err(|error| LogFileError::Unreadable {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Some(snapshot))
    }

    async fn write(&self, meta: &SnapshotMeta, records: Bytes) -> io::Result<()> {
        let payload = encode_snapshot(meta, records);
        let write = || write_frame(&*self.disk, &self.path, &payload);
        patiently("the quorum's snapshot", write).await
    }
}

/// The end of the metadata log with the entry `log_id`.
fn end_of(log_id: &LogId) -> Offset {
    Offset(
        i64::try_from(log_id.index() + 1).expect("indices count what happens in a cluster's life"),
    )
}
