//! May they? Asked of every request before it is served, where an authorizer is configured.
//!
//! A request is refused as a whole, served as a whole, or served without the parts that its sender
//! may not touch; those are then put into the answer with the code that says so, as if they had
//! been served. What exists and may not be seen is not told apart from what does not exist, but by
//! that code. Each API stands in one table, so that none can be forgotten. Fetch alone is asked
//! where partitions are found: a session holds more of them than a request names. KIP-11. Pure.

pub(super) mod brokers;
mod cluster;
mod groups;
mod topics;
mod txns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{AnyRequest, AnyResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::TopicId;

use crate::auth::audit::Target;
use crate::auth::{Authorizer, Who};
use crate::controller::CLUSTER_NAME;
use crate::group::beat::Sight;
use crate::metadata::{AclOperation, Image, ResourceType};

/// Asks for one request's sender.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    authorizer: Arc<Authorizer>,
    image: Arc<Image>,
    who: Who,
    noting: Noting,
    /// What was asked, as far as it is noted, and whether it was permitted.
    asked: RefCell<BTreeMap<Question, bool>>,
}

/// Which questions are to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noting {
    /// None: what is asked decides what is shown, and denies nothing that was wanted.
    Nothing,
    /// Those whose answer is no.
    Denials,
    /// All.
    All,
}

/// Something that was asked.
type Question = (ResourceType, String, AclOperation);

impl Gate {
    pub(super) fn new(
        authorizer: Arc<Authorizer>,
        image: Arc<Image>,
        who: Who,
        noting: Noting,
    ) -> Self {
        Self { authorizer, image, who, noting, asked: RefCell::default() }
    }

    /// The same for questions that nobody is to be told of.
    fn quiet(&self) -> Self {
        let Self { authorizer, image, who, .. } = self;
        Self::new(authorizer.clone(), image.clone(), who.clone(), Noting::Nothing)
    }

    /// What was asked and is to be told of, each thing once.
    pub(super) fn take_asked(&self) -> impl Iterator<Item = (Target, bool)> + use<> {
        let asked = self.asked.take().into_iter();
        asked.map(|((resource, name, operation), is_permitted)| {
            let (kind, operation) = (resource.to_string(), operation.to_string());
            (Target { kind, name, operation }, is_permitted)
        })
    }

    fn may(&self, operation: AclOperation, resource: ResourceType, name: &str) -> bool {
        let acls = self.image.acls();
        let may = self.authorizer.permits(acls, &self.who, operation, resource, name);
        let is_noted = match self.noting {
            Noting::Nothing => false,
            Noting::Denials => !may,
            Noting::All => true,
        };
        if is_noted {
            self.asked.borrow_mut().insert((resource, name.to_owned(), operation), may);
        }
        may
    }

    pub(super) fn topic(&self, operation: AclOperation, name: &str) -> bool {
        self.may(operation, ResourceType::Topic, name)
    }

    /// Whether they may know of a topic; nobody is to be told that this was asked.
    pub(super) fn sees(&self, name: &str) -> bool {
        let acls = self.image.acls();
        let (describe, topic) = (AclOperation::Describe, ResourceType::Topic);
        self.authorizer.permits(acls, &self.who, describe, topic, name)
    }

    /// The same for whoever asks later, by the lists of that time.
    pub(super) fn sight(&self) -> Sight {
        let (authorizer, who) = (self.authorizer.clone(), self.who.clone());
        let (describe, topic) = (AclOperation::Describe, ResourceType::Topic);
        Sight::of(move |image, name| authorizer.permits(image.acls(), &who, describe, topic, name))
    }

    /// A topic by its id; one that is not known is left to whoever looks for it.
    pub(super) fn topic_id(&self, operation: AclOperation, id: TopicId) -> bool {
        self.image.topic_by_id(id).is_none_or(|topic| self.topic(operation, &topic.name))
    }

    /// A topic by its id, or where there is none by its name.
    fn either(&self, operation: AclOperation, id: TopicId, name: &str) -> bool {
        if id.is_some() { self.topic_id(operation, id) } else { self.topic(operation, name) }
    }

    fn group(&self, operation: AclOperation, id: &str) -> bool {
        self.may(operation, ResourceType::Group, id)
    }

    fn txn(&self, operation: AclOperation, id: &str) -> bool {
        self.may(operation, ResourceType::TransactionalId, id)
    }

    pub(super) fn cluster(&self, operation: AclOperation) -> bool {
        self.may(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    /// True when there can be a topic with which they may do this.
    fn some_topic(&self, operation: AclOperation) -> bool {
        let acls = self.image.acls();
        self.authorizer.permits_some(acls, &self.who, operation, ResourceType::Topic)
    }

    /// Those of the operations in a bit set of Kafka's numbers that they may do. KIP-430.
    fn operations(&self, bits: i32, resource: ResourceType, name: &str) -> i32 {
        // Nobody asked: see `i32::MIN` as the default of such fields.
        if bits < 0 {
            return bits;
        }
        let gate = self.quiet();
        let allowed = AclOperation::ALL.iter().filter(|it| gate.may(**it, resource, name));
        allowed.fold(0, |set, it| set | (1 << it.to_wire())) & bits
    }
}

/// Puts into an answer what was left out of its request.
type Amend = Box<dyn FnOnce(&mut AnyResponse) + Send>;

/// What becomes of a request.
pub(super) enum Verdict {
    /// It is served, or what is left of it.
    Serve(AnyRequest, Option<Amend>),
    /// It is answered without being served.
    Refuse(AnyResponse),
    /// Its sender expects no answer: the end of the connection is the only way to tell.
    Close(&'static str),
}

fn serve(body: impl Into<AnyRequest>) -> Verdict {
    Verdict::Serve(body.into(), None)
}

fn refuse(response: impl Into<AnyResponse>) -> Verdict {
    Verdict::Refuse(response.into())
}

/// Serves, and changes the answer, which is of the API named.
macro_rules! serve_and_amend {
    ($name:ident, $body:expr, $change:expr) => {{
        let change = $change;
        let amend = move |answer: &mut protocol::api::AnyResponse| {
            if let protocol::api::AnyResponse::$name(answer) = answer {
                change(answer);
            }
        };
        Verdict::Serve($body.into(), Some(Box::new(amend)))
    }};
}
use serve_and_amend;

/// Serves if it is permitted, and refuses otherwise.
fn if_permitted<R: Into<AnyResponse>>(
    is_permitted: bool,
    body: impl Into<AnyRequest>,
    response: impl FnOnce() -> R,
) -> Verdict {
    if is_permitted { serve(body) } else { refuse(response()) }
}

/// What a part may be served and what not, each in the order of the request.
fn split<T>(parts: Vec<T>, may: impl FnMut(&T) -> bool) -> (Vec<T>, Vec<T>) {
    parts.into_iter().partition(may)
}

fn words(code: ErrorCode) -> Option<String> {
    Some(code.to_string())
}

/// Judges a request.
pub(super) fn judge(gate: &Gate, version: i16, body: AnyRequest) -> Verdict {
    match body {
        // Who they are is not known yet, or what they ask is open to all.
        AnyRequest::ApiVersions(_)
        | AnyRequest::SaslHandshake(_)
        | AnyRequest::SaslAuthenticate(_)
        | AnyRequest::Fetch(_) => Verdict::Serve(body, None),

        AnyRequest::Produce(body) => topics::produce(gate, body),
        AnyRequest::ListOffsets(body) => topics::list_offsets(gate, body),
        AnyRequest::OffsetForLeaderEpoch(body) => topics::offset_for_leader_epoch(gate, body),
        AnyRequest::DeleteRecords(body) => topics::delete_records(gate, body),
        AnyRequest::Metadata(body) => topics::metadata(gate, version, body),
        AnyRequest::DescribeTopicPartitions(body) => topics::describe_partitions(gate, body),
        AnyRequest::CreateTopics(body) => topics::create(gate, body),
        AnyRequest::DeleteTopics(body) => topics::delete(gate, body),
        AnyRequest::CreatePartitions(body) => topics::create_partitions(gate, body),
        AnyRequest::DescribeProducers(body) => topics::describe_producers(gate, body),

        AnyRequest::OffsetCommit(body) => groups::offset_commit(gate, body),
        AnyRequest::OffsetFetch(body) => groups::offset_fetch(gate, version, body),
        AnyRequest::OffsetDelete(body) => groups::offset_delete(gate, body),
        AnyRequest::FindCoordinator(body) => groups::find_coordinator(gate, version, body),
        AnyRequest::JoinGroup(body) => groups::join(gate, body),
        AnyRequest::SyncGroup(body) => groups::sync(gate, body),
        AnyRequest::Heartbeat(body) => groups::heartbeat(gate, body),
        AnyRequest::LeaveGroup(body) => groups::leave(gate, body),
        AnyRequest::DescribeGroups(body) => groups::describe(gate, version, body),
        AnyRequest::ListGroups(body) => groups::list(gate, body),
        AnyRequest::DeleteGroups(body) => groups::delete(gate, body),
        AnyRequest::ConsumerGroupHeartbeat(body) => groups::consumer_heartbeat(gate, body),
        AnyRequest::ConsumerGroupDescribe(body) => groups::consumer_describe(gate, body),

        AnyRequest::InitProducerId(body) => txns::init_producer_id(gate, body),
        AnyRequest::AddPartitionsToTxn(body) => txns::add_partitions(gate, version, body),
        AnyRequest::AddOffsetsToTxn(body) => txns::add_offsets(gate, body),
        AnyRequest::EndTxn(body) => txns::end(gate, body),
        AnyRequest::TxnOffsetCommit(body) => txns::offset_commit(gate, body),
        AnyRequest::WriteTxnMarkers(body) => txns::write_markers(gate, body),
        AnyRequest::DescribeTransactions(body) => txns::describe(gate, body),
        AnyRequest::ListTransactions(body) => txns::list(gate, body),

        AnyRequest::DescribeCluster(body) => cluster::describe(gate, body),
        AnyRequest::DescribeConfigs(body) => cluster::describe_configs(gate, body),
        AnyRequest::AlterConfigs(body) => cluster::alter_configs(gate, body),
        AnyRequest::IncrementalAlterConfigs(body) => cluster::incremental_alter_configs(gate, body),
        AnyRequest::ListConfigResources(body) => cluster::list_config_resources(gate, body),
        AnyRequest::DescribeAcls(body) => cluster::describe_acls(gate, body),
        AnyRequest::CreateAcls(body) => cluster::create_acls(gate, body),
        AnyRequest::DeleteAcls(body) => cluster::delete_acls(gate, body),
        AnyRequest::AlterReplicaLogDirs(body) => cluster::alter_replica_log_dirs(gate, body),
        AnyRequest::DescribeLogDirs(body) => cluster::describe_log_dirs(gate, body),
        AnyRequest::ElectLeaders(body) => cluster::elect_leaders(gate, version, body),
        AnyRequest::AlterPartitionReassignments(body) => cluster::reassign(gate, body),
        AnyRequest::ListPartitionReassignments(body) => cluster::list_reassignments(gate, body),
        AnyRequest::DescribeClientQuotas(body) => cluster::describe_quotas(gate, body),
        AnyRequest::AlterClientQuotas(body) => cluster::alter_quotas(gate, body),
        AnyRequest::DescribeUserScramCredentials(body) => cluster::describe_credentials(gate, body),
        AnyRequest::AlterUserScramCredentials(body) => cluster::alter_credentials(gate, body),
        AnyRequest::DescribeQuorum(body) => cluster::describe_quorum(gate, body),
        AnyRequest::UpdateFeatures(body) => cluster::update_features(gate, body),
        AnyRequest::UnregisterBroker(body) => cluster::unregister_broker(gate, body),
    }
}

#[cfg(test)]
mod tests;
