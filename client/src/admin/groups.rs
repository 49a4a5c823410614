//! Groups: list, describe, delete, and what they have committed. Shell.

use std::collections::BTreeMap;

use futures::future::join_all;
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, DescribedGroup, DescribedGroupMember,
    ListGroupsRequest,
};
use protocol::api_key::ApiKey;
use protocol::consumer_protocol::{self, ConsumerProtocolAssignment};
use protocol::ids::TopicPartition;

use super::Admin;
use super::topics::verdict;
use crate::error::RequestError;
use crate::group_offsets::{self, GroupMetadata, OffsetAndMetadata};
use crate::net::connection::Connection;
use crate::net::pool::Purpose;
use crate::router::{CoordinatorKind, Topics};

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What kind of group it is, as `consumer` or `connect`.
    pub protocol_type: String,
    /// Its state, as `Stable`; empty from brokers that do not tell.
    pub state: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its state, as `Stable` or `Empty`; `Dead` for one that does not exist.
    pub state: String,
    /// What kind of group it is.
    pub protocol_type: String,
    /// The assignor in force.
    pub assignor: String,
    /// Its members by id.
    pub members: BTreeMap<String, GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its name across restarts, if it has one. KIP-345.
    pub instance_id: Option<String>,
    /// How its client calls itself.
    pub client_id: String,
    /// Whence it connected.
    pub client_host: String,
    /// The partitions that it consumes; empty for groups of another kind.
    pub assignment: Vec<TopicPartition>,
}

impl Admin {
    /// All groups, asked of every broker.
    ///
    /// # Errors
    /// When a broker does not answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, RequestError> {
        let attempt = || async {
            self.router.refresh(Topics::These([].into()), false).await?;
            let ids: Vec<_> =
                self.router.cluster(|it| it.brokers().map(|(broker, _)| broker).collect());
            let brokers = ids.into_iter().filter_map(|it| self.router.broker(it, Purpose::General));
            let mut groups = BTreeMap::new();
            for listed in join_all(brokers.map(|it| self.list_groups_of(it))).await {
                groups.extend(listed?.into_iter().map(|it| (it.group_id.clone(), it)));
            }
            Ok(groups.into_values().collect())
        };
        self.router.retry(self.timeout, "list groups", attempt).await
    }

    async fn list_groups_of(&self, broker: Connection) -> Result<Vec<GroupListing>, RequestError> {
        let timeout = self.router.patience().request_timeout;
        let response = broker.call(ListGroupsRequest::default(), timeout).await?;
        let subject = format!("broker at {}", broker.endpoint());
        verdict(ApiKey::ListGroups, subject, response.error_code, None)?;
        let listing = |it: protocol::api::group::ListedGroup| GroupListing {
            group_id: it.group_id,
            protocol_type: it.protocol_type,
            state: it.group_state,
        };
        Ok(response.groups.into_iter().map(listing).collect())
    }

    /// Describes a group with classic members.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription, RequestError> {
        let attempt = || async {
            let request = DescribeGroupsRequest {
                groups: vec![group_id.to_owned()],
                ..DescribeGroupsRequest::default()
            };
            let kind = CoordinatorKind::Group;
            let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
            let api = ApiKey::DescribeGroups;
            let missing = || RequestError::Missing { api, subject: group_id.to_owned() };
            let group = response.groups.into_iter().next().ok_or_else(missing)?;
            self.heed(api, group_id, group.error_code)?;
            Ok(description(group))
        };
        self.router.retry(self.timeout, "describe group", attempt).await
    }

    /// Deletes a group without members, and what it committed.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), RequestError> {
        let attempt = || async {
            let request = DeleteGroupsRequest { groups_names: vec![group_id.to_owned()] };
            let kind = CoordinatorKind::Group;
            let response = self.router.ask_coordinator(kind, group_id, move |_| request).await?;
            let api = ApiKey::DeleteGroups;
            response.results.into_iter().try_for_each(|it| self.heed(api, group_id, it.error_code))
        };
        self.router.retry(self.timeout, "delete group", attempt).await
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

    fn heed(&self, api: ApiKey, group_id: &str, code: i16) -> Result<(), RequestError> {
        verdict(api, format!("group {group_id}"), code, None).inspect_err(|error| {
            if let Some(code) = error.error_code() {
                self.router.heed_coordinator(CoordinatorKind::Group, group_id, code);
            }
        })
    }
}

fn description(group: DescribedGroup) -> GroupDescription {
    let member = |it: DescribedGroupMember| {
        let member = GroupMember {
            instance_id: it.group_instance_id,
            client_id: it.client_id,
            client_host: it.client_host,
            assignment: assignment(it.member_assignment),
        };
        (it.member_id, member)
    };
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: group.protocol_type,
        assignor: group.protocol_data,
        members: group.members.into_iter().map(member).collect(),
    }
}

/// What is no consumer's assignment is somebody else's business.
fn assignment(bytes: bytes::Bytes) -> Vec<TopicPartition> {
    let decoded = consumer_protocol::decode::<ConsumerProtocolAssignment>(bytes);
    let topics = decoded.map(|it| it.assigned_partitions).unwrap_or_default();
    let of_topic = |it: consumer_protocol::ConsumerProtocolPartitions| {
        let topic: std::sync::Arc<str> = it.topic.into();
        it.partitions.into_iter().map(move |index| TopicPartition::new(topic.clone(), index))
    };
    topics.into_iter().flat_map(of_topic).collect()
}
