//! Committing what is done, and asking what is.
//!
//! A commit names who commits, so that a member that was replaced is refused. Under KIP-848 the
//! coordinator raises a member's epoch by itself; a commit that crosses such a change is made again
//! under the epoch that the next heartbeat brings, and its caller notices nothing. Shell.

use std::collections::BTreeMap;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use tokio::time::{Instant, timeout_at};

use super::membership::Membership;
use super::{CommitError, Consumer, GroupMetadata, OffsetAndMetadata};
use crate::group_offsets;
use crate::time::deadline_after;

impl Consumer {
    /// Commits these offsets, trying for at most `default.api.timeout.ms`. After success they are
    /// as durable as the cluster makes them.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), CommitError> {
        let deadline = deadline_after(self.shared.config.default_api_timeout);
        self.commit_until(deadline, offsets).await
    }

    pub(super) async fn commit_until(
        &self,
        deadline: Instant,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), CommitError> {
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let Some(identity) = self.group_metadata() else { return Err(CommitError::NoGroup) };
            let refused = match self.commit_as(&identity, &offsets).await {
                Err(CommitError::RebalanceInProgress { group_id })
                    if self.is_epoch_stale_at(&identity) =>
                {
                    CommitError::RebalanceInProgress { group_id }
                }
                done => return done,
            };
            // The coordinator has raised our epoch: the next heartbeat brings it.
            while self.group_metadata().as_ref() == Some(&identity) {
                if timeout_at(deadline, progress.as_mut()).await.is_err() {
                    return Err(refused);
                }
                progress.set(self.shared.progress.notified());
                progress.as_mut().enable();
            }
        }
    }

    /// True while a refusal of `identity` may mean no more than that a newer epoch is on its way.
    fn is_epoch_stale_at(&self, identity: &GroupMetadata) -> bool {
        let core = self.shared.lock();
        matches!(&core.group, Some(Membership::Modern(it)) if it.may_outgrow(identity))
    }

    async fn commit_as(
        &self,
        identity: &GroupMetadata,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), CommitError> {
        let timeout = self.shared.config.default_api_timeout;
        let router = &self.shared.router;
        let committed = group_offsets::commit(router, timeout, identity, offsets).await;
        let Err(error) = committed else {
            self.shared.lock().committer.on_committed(offsets.clone());
            return Ok(());
        };
        let GroupMetadata { group_id, member_id, .. } = identity.clone();
        match error.error_code().filter(|it| is_about_membership(*it)) {
            None => Err(error.into()),
            Some(code) => {
                let now = self.shared.now();
                self.change(|core| core.on_commit_refused(now, identity, code));
                Err(match code {
                    ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch => {
                        CommitError::RebalanceInProgress { group_id }
                    }
                    code => CommitError::Fenced { group_id, member_id, code },
                })
            }
        }
    }

    /// What the group has committed for these partitions; those without a commit are left out.
    /// With `require_stable` it waits until no transaction can change them (KIP-447).
    ///
    /// # Errors
    /// When the coordinator does not answer within `default.api.timeout.ms`, or refuses.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        require_stable: bool,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, CommitError> {
        let config = &self.shared.config;
        let Some(group_id) = config.group_id.as_deref() else { return Err(CommitError::NoGroup) };
        let partitions: Vec<_> = partitions.into_iter().collect();
        let (router, timeout) = (&self.shared.router, config.default_api_timeout);
        let asked = Some(&partitions[..]);
        let committed =
            group_offsets::fetch(router, timeout, group_id, asked, require_stable).await;
        Ok(committed?)
    }

    /// With `enable.auto.commit`, what was processed of partitions about to be given up. That it
    /// fails is no reason to keep them: what is not committed is consumed again.
    pub(super) async fn commit_revoked(&mut self) {
        let offsets = {
            let core = self.shared.lock();
            let told = core.group.as_ref().and_then(Membership::told_to_revoke);
            let Some(told) = told.filter(|it| !it.lost && core.committer.is_enabled()) else {
                return;
            };
            let mut offsets = core.committer.uncommitted(&core.positions);
            offsets.retain(|partition, _| told.partitions.contains(partition));
            offsets
        };
        if let Err(error) = self.commit(offsets).await {
            tracing::warn!(%error, "offsets are not committed before their partitions are revoked");
        }
    }
}

/// True for the codes that say who we are not, or not any more.
pub(super) fn is_about_membership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::FencedInstanceId
            | ErrorCode::RebalanceInProgress
    )
}
