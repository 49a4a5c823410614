//! The controller's one task, and access to it.
//!
//! Requests are decided one after the other, each on an Image in which all before it are visible.
//! Who asks waits for a limited time; the task itself waits for as long as the quorum takes, since
//! to decide again on an Image that may lack a proposal under way would create the same topic
//! twice. After a change of leadership it first makes sure to have seen all that was committed.
//! Shell.

use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerEpoch, BrokerId};
use protocol::rng::Lot;
use protocol::sasl::Hash;
use protocol::sasl::scram::Credential;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use super::scram::AlteredUsers;
use super::{
    AclError, AlterConfig, AlterCredential, AlterQuotas, AlterQuotasError, CreatedTopic,
    DeletedTopic, ElectedTopic, Election, ElectionTopic, FeatureError, FeatureUpdate,
    MorePartitions, NewTopic, Outcome, ProducerIdBlock, ProducerIdError, Reassignment,
    ReassignmentError, Registration, SettingError, TopicError, TopicRef, UnregisterError,
};
use crate::config::BrokerConfig;
use crate::limits::CONTROLLER_REQUESTS_MAX;
use crate::metadata::{Acl, AclFilter, Image, MetadataHandle, Record};
use crate::quorum::{ProposeError, QuorumFacts, QuorumHandle};

/// How long requests wait that bring no time limit of their own: Kafka's clients' default.
const WAIT: Duration = Duration::from_secs(30);

/// Why a request has no answer of the controller. Unless it says otherwise, what was asked for
/// may have happened or may yet happen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// As many requests wait as may: nothing happened. Retry later.
    #[error("{CONTROLLER_REQUESTS_MAX} requests wait for the controller already")]
    Busy,
    /// The answer did not come in time.
    #[error("the controller did not answer within {0:?}")]
    TimedOut(Duration),
    /// The quorum did not take the proposal.
    #[error(transparent)]
    Quorum(#[from] ProposeError),
    /// The controller has stopped.
    #[error("the controller has stopped")]
    Stopped,
}

impl ControllerError {
    /// What a client is told: a code that it may retry on, except where no retry can help.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy | Self::TimedOut(_) | Self::Stopped => ErrorCode::RequestTimedOut,
            Self::Quorum(error) => error.code(),
        }
    }
}

/// What is left to do once a decision's records are committed, or are known not to be.
type Finish = Box<dyn FnOnce(Result<(), ControllerError>) + Send>;
/// A request: decides, and says how to answer.
type Job = Box<dyn FnOnce(&mut Core, &Image) -> (Vec<Record>, Finish) + Send>;

/// Access to the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    jobs: mpsc::Sender<Job>,
    quorum: QuorumHandle,
}

/// Starts the controller, which places partitions by `seed` and draws ids from `ids`. It ends when every
/// handle is gone.
#[must_use]
pub fn start(
    config: Arc<BrokerConfig>,
    (seed, ids): (u64, Lot),
    quorum: QuorumHandle,
    metadata: MetadataHandle,
) -> ControllerHandle {
    let (jobs, queue) = mpsc::channel(CONTROLLER_REQUESTS_MAX);
    let core = Core::new(config, seed, ids);
    let controller = Controller { core, quorum: quorum.clone(), metadata, settled: None };
    tokio::spawn(controller.run(queue));
    ControllerHandle { jobs, quorum }
}

impl ControllerHandle {
    /// Which broker is the active controller; [`BrokerId::NONE`] when none is known.
    #[must_use]
    pub fn active(&self) -> BrokerId {
        self.quorum.facts().leader
    }

    /// What there is to know of the quorum at this moment.
    #[must_use]
    pub fn quorum(&self) -> QuorumFacts {
        self.quorum.facts()
    }

    /// Creates topics; each succeeds or fails alone. With `validate_only`, only says whether it
    /// could. Durable and visible in the Image on return.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        wait: Duration,
    ) -> Result<Vec<Result<CreatedTopic, TopicError>>, ControllerError> {
        self.ask(wait, move |core, image| core.create_topics(image, &topics, validate_only)).await
    }

    /// Makes sure that topics of these names exist, the cluster's own among them. Durable and
    /// visible in the Image on return.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn ensure_topics(
        &self,
        names: Vec<String>,
        wait: Duration,
    ) -> Result<Vec<Result<(), TopicError>>, ControllerError> {
        self.ask(wait, move |core, image| core.ensure_topics(image, &names)).await
    }

    /// Deletes topics; answers with each one's name and id.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicRef>,
        wait: Duration,
    ) -> Result<Vec<Result<DeletedTopic, TopicError>>, ControllerError> {
        self.ask(wait, move |core, image| core.delete_topics(image, &topics)).await
    }

    /// Adds partitions to topics; with `validate_only`, only says whether it could.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn create_partitions(
        &self,
        requests: Vec<MorePartitions>,
        validate_only: bool,
        wait: Duration,
    ) -> Result<Vec<Result<(), TopicError>>, ControllerError> {
        self.ask(wait, move |core, image| core.create_partitions(image, &requests, validate_only))
            .await
    }

    /// Changes settings; with `validate_only`, only says whether it could.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn alter_configs(
        &self,
        alterations: Vec<AlterConfig>,
        validate_only: bool,
    ) -> Result<Vec<Result<(), SettingError>>, ControllerError> {
        self.ask(WAIT, move |core, image| core.alter_configs(image, &alterations, validate_only))
            .await
    }

    /// Changes quotas of clients; with `validate_only`, only says whether it could. KIP-546.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn alter_quotas(
        &self,
        alterations: Vec<AlterQuotas>,
        validate_only: bool,
    ) -> Result<Vec<Result<(), AlterQuotasError>>, ControllerError> {
        self.ask(WAIT, move |core, image| core.alter_quotas(image, &alterations, validate_only))
            .await
    }

    /// Sets and removes credentials of SCRAM; answers for each user. KIP-554.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub(crate) async fn alter_credentials(
        &self,
        alterations: Vec<AlterCredential>,
    ) -> Result<AlteredUsers, ControllerError> {
        self.ask(WAIT, move |core, image| core.alter_credentials(image, &alterations)).await
    }

    /// Sets credentials of SCRAM where there are none yet.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub(crate) async fn ensure_credentials(
        &self,
        wanted: Vec<(Hash, String, Credential)>,
    ) -> Result<(), ControllerError> {
        self.ask(WAIT, move |core, image| core.ensure_credentials(image, &wanted)).await
    }

    /// Creates entries of access control lists; each succeeds or fails alone. KIP-11.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub async fn create_acls(
        &self,
        acls: Vec<Acl>,
    ) -> Result<Vec<Result<(), AclError>>, ControllerError> {
        self.ask(WAIT, move |core, image| core.create_acls(image, &acls)).await
    }

    /// Deletes the entries that fit any of `filters`; answers with those that fitted each. KIP-11.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub async fn delete_acls(
        &self,
        filters: Vec<AclFilter>,
    ) -> Result<Vec<Vec<Acl>>, ControllerError> {
        self.ask(WAIT, move |core, image| core.delete_acls(image, &filters)).await
    }

    /// Gives the next block of producer ids to this run of `broker`.
    ///
    /// # Errors
    /// When the controller gave no answer in time; the block is then lost at worst.
    pub async fn allocate_producer_ids(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Result<ProducerIdBlock, ProducerIdError>, ControllerError> {
        self.ask(WAIT, move |core, image| core.allocate_producer_ids(image, broker, epoch)).await
    }

    /// Registers a broker; it may lead from then on.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Registering again is safe.
    pub async fn register_broker(
        &self,
        registration: Registration,
    ) -> Result<BrokerEpoch, ControllerError> {
        self.ask(WAIT, move |core, image| core.register_broker(image, registration)).await
    }

    /// Forgets a broker that is gone for good.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub async fn unregister_broker(
        &self,
        id: BrokerId,
    ) -> Result<Result<(), UnregisterError>, ControllerError> {
        self.ask(WAIT, move |core, image| core.unregister_broker(image, id)).await
    }

    /// Elects leaders of these partitions, or of all that are not led as asked for. KIP-460.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub async fn elect_leaders(
        &self,
        election: Election,
        asked: Option<Vec<ElectionTopic>>,
        wait: Duration,
    ) -> Result<Vec<ElectedTopic>, ControllerError> {
        self.ask(wait, move |core, image| core.elect_leaders(image, election, asked.as_deref()))
            .await
    }

    /// Places partitions on other brokers; each succeeds or fails alone. KIP-455.
    ///
    /// # Errors
    /// When the controller gave no answer in time. Asking again is safe.
    pub async fn reassign(
        &self,
        asked: Vec<Reassignment>,
        may_change_factor: bool,
        wait: Duration,
    ) -> Result<Vec<Result<(), ReassignmentError>>, ControllerError> {
        self.ask(wait, move |core, image| core.reassign(image, &asked, may_change_factor)).await
    }

    /// Changes the levels of features, all or none; with `validate_only`, only says whether it
    /// could. KIP-584.
    ///
    /// # Errors
    /// When the controller gave no answer in time.
    pub async fn update_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
        wait: Duration,
    ) -> Result<Result<(), FeatureError>, ControllerError> {
        self.ask(wait, move |core, image| core.update_features(image, &updates, validate_only))
            .await
    }

    async fn ask<R: Send + 'static>(
        &self,
        wait: Duration,
        decide: impl FnOnce(&mut Core, &Image) -> Outcome<R> + Send + 'static,
    ) -> Result<R, ControllerError> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |core, image| {
            let Outcome { records, reply } = decide(core, image);
            // Who asked may have gone; what was decided stands all the same.
            let finish =
                |done: Result<(), ControllerError>| drop(sender.send(done.map(|()| reply)));
            (records, Box::new(finish))
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControllerError::Busy,
            mpsc::error::TrySendError::Closed(_) => ControllerError::Stopped,
        })?;
        match tokio::time::timeout(wait, answer).await {
            Ok(answered) => answered.map_err(|_| ControllerError::Stopped)?,
            Err(_) => Err(ControllerError::TimedOut(wait)),
        }
    }
}

struct Controller {
    core: Core,
    quorum: QuorumHandle,
    metadata: MetadataHandle,
    /// The term in which this node leads and has seen all that was committed before.
    settled: Option<u64>,
}

impl Controller {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.recv().await {
            let settled = self.settle().await;
            let (records, finish) = job(&mut self.core, &self.metadata.image());
            let done = match settled {
                Ok(()) => self.commit(records).await,
                Err(error) => Err(error),
            };
            finish(done.map_err(ControllerError::from));
        }
    }

    /// Makes sure that the Image holds all that was ever committed.
    async fn settle(&mut self) -> Result<(), ProposeError> {
        if self.settled != Some(self.quorum.facts().term) {
            self.quorum.settle().await?;
            self.settled = Some(self.quorum.facts().term);
        }
        Ok(())
    }

    async fn commit(&mut self, records: Vec<Record>) -> Result<(), ProposeError> {
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(Record::encode).collect();
        let end = self.quorum.propose(records).await.inspect_err(|_| self.settled = None)?;
        assert!(self.metadata.image().end >= end, "answered when applied");
        Ok(())
    }
}
