//! `millstream group`: the groups of any Kafka cluster. Shell.

mod describe;
mod reset;

use std::collections::BTreeSet;

use clap::Subcommand;
use client::Admin;
use client::admin::{GroupFilter, MemberToRemove};
use protocol::error_code::ErrorCode;

use super::advice::Problem;
use super::output::{self, Cell, Format, Outcomes, Sheet};
use super::reach::{self, Cluster};
use super::values::{self, TopicSelection};

/// List, describe and delete groups; move and forget what they have committed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List groups with their types and states.
    List(List),
    /// Describe groups: what they have committed and how far they are behind, their members, or
    /// their state.
    Describe(describe::Arguments),
    /// Move what a group without members has committed. Says what it would do, unless told to
    /// --execute.
    ResetOffsets(reset::Arguments),
    /// Delete groups without members, with all that they have committed.
    Delete {
        /// Their ids.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Forget what a group has committed of topics that none of its members consumes.
    DeleteOffsets(DeleteOffsets),
    /// Remove members from a group: their partitions go to the others.
    RemoveMembers(RemoveMembers),
}

#[derive(clap::Args)]
struct List {
    /// Only groups in these states, separated by commas: Stable, Empty, PreparingRebalance,
    /// CompletingRebalance, Assigning, Reconciling, Dead. Default: in any state.
    #[arg(long, value_name = "STATE,…", value_delimiter = ',')]
    state: Vec<String>,
    /// Only groups of these types, separated by commas: classic, consumer. Default: of any type.
    #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',')]
    types: Vec<String>,
}

#[derive(clap::Args)]
struct DeleteOffsets {
    /// The group's id.
    group: String,
    /// Of which topic, or of which of its partitions, as orders:0,2; may be given often.
    #[arg(long, required = true, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    topic: Vec<TopicSelection>,
}

#[derive(clap::Args)]
struct RemoveMembers {
    /// The group's id.
    group: String,
    /// A member by its id; may be given often.
    #[arg(long, value_name = "ID")]
    member: Vec<String>,
    /// A member by its name across restarts (group.instance.id); may be given often.
    #[arg(long, value_name = "ID")]
    instance: Vec<String>,
    /// All members. Default: those that are named.
    #[arg(long, conflicts_with_all = ["member", "instance"])]
    all: bool,
    /// Why, for the coordinator's log.
    #[arg(long, default_value = "removed by an operator")]
    reason: String,
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin = arguments.cluster.admin().await?;
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::List(list) => list_groups(&admin, list, format).await,
        Verb::Describe(describe) => describe::run(&admin, describe, format).await,
        Verb::ResetOffsets(reset) => reset::run(&admin, reset, format).await,
        Verb::Delete { groups } => delete(&admin, &groups, format).await,
        Verb::DeleteOffsets(delete) => delete_offsets(&admin, &delete, format).await,
        Verb::RemoveMembers(remove) => remove_members(&admin, &remove, format).await,
    }
}

async fn list_groups(admin: &Admin, list: List, format: Format) -> anyhow::Result<()> {
    let filter = GroupFilter {
        states: list.state.into_iter().collect(),
        types: list.types.into_iter().collect(),
    };
    let mut sheet = Sheet::new(&["group", "type", "protocol", "state"]);
    for group in admin.list_groups_in(&filter).await? {
        sheet.push(vec![
            Cell::text(group.group_id),
            Cell::text(group.group_type),
            Cell::text(group.protocol_type),
            Cell::text(group.state),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn delete(admin: &Admin, groups: &[String], format: Format) -> anyhow::Result<()> {
    let mut outcomes = Outcomes::default();
    for group in groups {
        match admin.delete_group(group).await {
            Err(error)
                if groups.len() == 1 && error.error_code() == Some(ErrorCode::GroupIdNotFound) =>
            {
                return Err(reach::unknown_group(admin, group, error).await);
            }
            result => outcomes.take(format!("group {group}"), "deleted", result),
        }
    }
    outcomes.finish(format)
}

async fn delete_offsets(
    admin: &Admin,
    delete: &DeleteOffsets,
    format: Format,
) -> anyhow::Result<()> {
    let DeleteOffsets { group, topic } = delete;
    let partitions = reach::partitions(admin, topic).await?;
    let results = match admin.delete_committed_offsets(group, &partitions).await {
        Ok(results) => results,
        Err(error) => return Err(reach::unknown_group(admin, group, error).await),
    };
    let mut outcomes = Outcomes::default();
    for (partition, result) in results {
        outcomes.take(&partition, "offset deleted", result);
    }
    outcomes.finish(format)
}

async fn remove_members(
    admin: &Admin,
    remove: &RemoveMembers,
    format: Format,
) -> anyhow::Result<()> {
    let group = &remove.group;
    let mut members: BTreeSet<MemberToRemove> =
        remove.member.iter().cloned().map(MemberToRemove::Member).collect();
    members.extend(remove.instance.iter().cloned().map(MemberToRemove::Instance));
    if remove.all {
        let described = match admin.describe_group(group).await {
            Ok(described) => described,
            Err(error) => return Err(reach::unknown_group(admin, group, error).await),
        };
        members.extend(described.members.into_iter().map(|(id, member)| {
            // A static member's id is the coordinator's business; its instance id is its name.
            member.instance_id.map_or(MemberToRemove::Member(id), MemberToRemove::Instance)
        }));
    } else if members.is_empty() {
        return Err(Problem::usage("whom? give --member, --instance or --all").into());
    }
    let mut outcomes = Outcomes::default();
    if !members.is_empty() {
        match admin.remove_members(group, &members, &remove.reason).await {
            Ok(results) => {
                for (member, result) in results {
                    outcomes.take(member, "removed", result);
                }
            }
            Err(error) => return Err(reach::unknown_group(admin, group, error).await),
        }
    }
    outcomes.finish(format)
}
