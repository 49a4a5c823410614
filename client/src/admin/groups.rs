//! Groups: list, describe, delete, remove members, and what they have committed.
//!
//! A group of the classic protocol and one of the next (KIP-848) are described by different
//! requests; whoever asks need not know which it is. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, LeaveGroupRequest, ListGroupsRequest,
    ListGroupsResponse, ListedGroup, MemberIdentity,
};
use protocol::api::group_offsets::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicPartition};

use super::group_description::{GroupDescription, of_classic, of_consumer};
use super::topics::verdict;
use super::{Admin, PerPartition};
use crate::error::RequestError;
use crate::group_offsets::{self, GroupMetadata, OffsetAndMetadata, by_topic};
use crate::net::Endpoint;
use crate::net::connection::CallError;
use crate::net::pool::Purpose;
use crate::router::CoordinatorKind;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What kind of group it is, as `consumer` or `connect`.
    pub protocol_type: String,
    /// Its state, as `Stable`; empty from brokers that do not tell. KIP-518.
    pub state: String,
    /// How its members are coordinated: `classic`, `consumer`, …; empty from brokers that do not
    /// tell. KIP-848.
    pub group_type: String,
}

/// Which groups to list; empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// Only those in one of these states, as `Empty`. KIP-518.
    pub states: BTreeSet<String>,
    /// Only those of these types, as `consumer`. KIP-848.
    pub types: BTreeSet<String>,
}

impl GroupFilter {
    /// What brokers that filter by less than we ask for have let through.
    fn lets_through(&self, listing: &GroupListing) -> bool {
        let is_among = |asked: &BTreeSet<String>, told: &str| {
            asked.is_empty() || asked.iter().any(|it| it.eq_ignore_ascii_case(told))
        };
        is_among(&self.states, &listing.state) && is_among(&self.types, &listing.group_type)
    }
}

/// A member to remove from a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberToRemove {
    /// By the id that the coordinator gave it.
    Member(String),
    /// By its name across restarts. KIP-345.
    Instance(String),
}

impl std::fmt::Display for MemberToRemove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(id) => write!(f, "member {id}"),
            Self::Instance(id) => write!(f, "instance {id}"),
        }
    }
}

impl Admin {
    /// All groups, asked of every broker.
    ///
    /// # Errors
    /// When a broker does not answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, RequestError> {
        self.list_groups_in(&GroupFilter::default()).await
    }

    /// The groups that `filter` lets through, asked of every broker.
    ///
    /// # Errors
    /// When a broker does not answer.
    pub async fn list_groups_in(
        &self,
        filter: &GroupFilter,
    ) -> Result<Vec<GroupListing>, RequestError> {
        let attempt = || async {
            let brokers = self.broker_ids_once().await?;
            let mut groups = BTreeMap::new();
            for listed in
                join_all(brokers.into_iter().map(|it| self.list_groups_of(it, filter))).await
            {
                groups.extend(listed?.into_iter().map(|it| (it.group_id.clone(), it)));
            }
            Ok(groups.into_values().filter(|it| filter.lets_through(it)).collect())
        };
        self.router.retry(self.timeout, "list groups", attempt).await
    }

    async fn list_groups_of(
        &self,
        broker: BrokerId,
        filter: &GroupFilter,
    ) -> Result<Vec<GroupListing>, RequestError> {
        let GroupFilter { states, types } = filter.clone();
        let build = move |version| ListGroupsRequest {
            states_filter: if version >= 4 { states.into_iter().collect() } else { Vec::new() },
            types_filter: if version >= 5 { types.into_iter().collect() } else { Vec::new() },
        };
        let response: ListGroupsResponse = self.ask_broker(broker, build).await?;
        verdict(ApiKey::ListGroups, format!("broker {broker}"), response.error_code, None)?;
        let listing = |it: ListedGroup| GroupListing {
            group_id: it.group_id,
            protocol_type: it.protocol_type,
            state: it.group_state,
            group_type: it.group_type,
        };
        Ok(response.groups.into_iter().map(listing).collect())
    }

    /// Describes a group, whichever protocol its members speak.
    ///
    /// # Errors
    /// `GroupIdNotFound` from brokers that say so (older ones describe it as `Dead`), another
    /// refusal, or no answer.
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription, RequestError> {
        let attempt = || async {
            match self.describe_consumer_group_once(group_id).await {
                Err(error) if is_of_another_protocol(&error) => {
                    self.describe_classic_group_once(group_id).await
                }
                described => described,
            }
        };
        self.router.retry(self.timeout, "describe group", attempt).await
    }

    /// KIP-848.
    async fn describe_consumer_group_once(
        &self,
        group_id: &str,
    ) -> Result<GroupDescription, RequestError> {
        let request = protocol::api::consumer_group::ConsumerGroupDescribeRequest {
            group_ids: vec![group_id.to_owned()],
            ..Default::default()
        };
        let kind = CoordinatorKind::Group;
        let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
        let api = ApiKey::ConsumerGroupDescribe;
        let missing = || RequestError::Missing { api, subject: format!("group {group_id}") };
        let group = response.groups.into_iter().next().ok_or_else(missing)?;
        self.heed(api, group_id, group.error_code, group.error_message.clone())?;
        Ok(of_consumer(group))
    }

    async fn describe_classic_group_once(
        &self,
        group_id: &str,
    ) -> Result<GroupDescription, RequestError> {
        let request = DescribeGroupsRequest {
            groups: vec![group_id.to_owned()],
            ..DescribeGroupsRequest::default()
        };
        let kind = CoordinatorKind::Group;
        let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
        let api = ApiKey::DescribeGroups;
        let missing = || RequestError::Missing { api, subject: format!("group {group_id}") };
        let group = response.groups.into_iter().next().ok_or_else(missing)?;
        self.heed(api, group_id, group.error_code, group.error_message.clone())?;
        Ok(of_classic(group))
    }

    /// Where the coordinator of a group listens.
    ///
    /// # Errors
    /// When there is none at present, or no answer came.
    pub async fn group_coordinator(&self, group_id: &str) -> Result<Endpoint, RequestError> {
        let attempt = || async {
            let kind = CoordinatorKind::Group;
            let found = self.router.coordinator(kind, group_id, Purpose::Coordinator).await?;
            Ok(found.endpoint().clone())
        };
        self.router.retry(self.timeout, "find a coordinator", attempt).await
    }

    /// Deletes a group without members, and what it committed. KIP-229.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), RequestError> {
        let attempt = || async {
            let request = DeleteGroupsRequest { groups_names: vec![group_id.to_owned()] };
            let kind = CoordinatorKind::Group;
            let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
            let api = ApiKey::DeleteGroups;
            let mut results = response.results.into_iter();
            results.try_for_each(|it| self.heed(api, group_id, it.error_code, None))
        };
        self.router.retry(self.timeout, "delete group", attempt).await
    }

    /// Removes members from a group, which then distributes their partitions anew. Each is removed
    /// or refused by itself; `reason` goes into the coordinator's log. KIP-345, KIP-800.
    ///
    /// # Errors
    /// When it is refused as a whole or no answer came.
    pub async fn remove_members(
        &self,
        group_id: &str,
        members: &BTreeSet<MemberToRemove>,
        reason: &str,
    ) -> Result<BTreeMap<MemberToRemove, Result<(), RequestError>>, RequestError> {
        let attempt = || async {
            let identity = |member: &MemberToRemove| {
                let (member_id, group_instance_id) = match member {
                    MemberToRemove::Member(id) => (id.clone(), None),
                    MemberToRemove::Instance(id) => (String::new(), Some(id.clone())),
                };
                MemberIdentity { member_id, group_instance_id, reason: Some(reason.to_owned()) }
            };
            let request = LeaveGroupRequest {
                group_id: group_id.to_owned(),
                members: members.iter().map(identity).collect(),
                ..LeaveGroupRequest::default()
            };
            let kind = CoordinatorKind::Group;
            let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
            let api = ApiKey::LeaveGroup;
            self.heed(api, group_id, response.error_code, None)?;
            let result = |it: protocol::api::group::MemberResponse| {
                let member = match it.group_instance_id {
                    Some(instance) if it.member_id.is_empty() => MemberToRemove::Instance(instance),
                    Some(_) | None => MemberToRemove::Member(it.member_id),
                };
                let subject = format!("group {group_id}: {member}");
                let verdict = verdict(api, subject, it.error_code, None);
                (member, verdict)
            };
            Ok(response.members.into_iter().map(result).collect())
        };
        self.router.retry(self.timeout, "remove members", attempt).await
    }

    /// What a group has committed, of all partitions.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn committed_offsets(
        &self,
        group_id: &str,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, RequestError> {
        group_offsets::fetch(&self.router, self.timeout, group_id, None, false).await
    }

    /// Sets what a group without members has committed.
    ///
    /// # Errors
    /// When it is refused, as for a group with members, or no answer came.
    pub async fn alter_committed_offsets(
        &self,
        group_id: &str,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), RequestError> {
        let member = GroupMetadata::simple(group_id);
        group_offsets::commit(&self.router, self.timeout, &member, offsets).await
    }

    /// Forgets what a group has committed of some partitions. Each is forgotten or refused by
    /// itself; `GroupSubscribedToTopic` for those of topics that a member consumes. KIP-496.
    ///
    /// # Errors
    /// When it is refused as a whole or no answer came.
    pub async fn delete_committed_offsets(
        &self,
        group_id: &str,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<PerPartition<()>, RequestError> {
        let attempt = || async {
            let index =
                |(partition_index, ()): (i32, ())| OffsetDeleteRequestPartition { partition_index };
            let topics = by_topic(partitions.iter().map(|it| (it, ()))).into_iter();
            let topics = topics.map(|(name, of)| OffsetDeleteRequestTopic {
                name,
                partitions: of.into_iter().map(index).collect(),
            });
            let request =
                OffsetDeleteRequest { group_id: group_id.to_owned(), topics: topics.collect() };
            let kind = CoordinatorKind::Group;
            let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
            let api = ApiKey::OffsetDelete;
            self.heed(api, group_id, response.error_code, None)?;
            let mut results = PerPartition::new();
            for topic in response.topics {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    let subject = format!("group {group_id}: {partition}");
                    let verdict = verdict(api, subject, it.error_code, None);
                    results.insert(partition, verdict);
                }
            }
            Ok(results)
        };
        self.router.retry(self.timeout, "delete offsets", attempt).await
    }

    fn heed(
        &self,
        api: ApiKey,
        group_id: &str,
        code: i16,
        message: Option<String>,
    ) -> Result<(), RequestError> {
        verdict(api, format!("group {group_id}"), code, message).inspect_err(|error| {
            if let Some(code) = error.error_code() {
                self.router.heed_coordinator(CoordinatorKind::Group, group_id, code);
            }
        })
    }
}

/// True when asking by the classic protocol may tell more.
fn is_of_another_protocol(error: &RequestError) -> bool {
    match error {
        RequestError::Call(CallError::Unsupported { .. }) => true,
        RequestError::Refused { code, .. } => {
            matches!(code, ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)
        }
        RequestError::Call(_)
        | RequestError::Missing { .. }
        | RequestError::NoLeader { .. }
        | RequestError::UnknownBroker { .. }
        | RequestError::TimedOut { .. } => false,
    }
}
