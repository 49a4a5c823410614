//! `millstream group describe`: offsets and lag, members, or state. Shell.

use std::collections::{BTreeMap, BTreeSet};

use client::admin::{GroupDescription, GroupFilter, PerPartition};
use client::offsets::{ListedOffset, OffsetSpec};
use client::{Admin, IsolationLevel, OffsetAndMetadata};
use protocol::ids::{Offset, TopicPartition};

use super::super::advice::Problem;
use super::super::output::{self, Cell, Format, Sheet};
use super::super::{progress, reach};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Their ids.
    #[arg(value_name = "GROUP", required_unless_present = "all_groups")]
    groups: Vec<String>,
    /// Describe all groups. Default: those that are named.
    #[arg(long, conflicts_with = "groups")]
    all_groups: bool,
    /// Describe the members and what is assigned to them. Default: offsets and lag.
    #[arg(long, conflicts_with = "state")]
    members: bool,
    /// Describe the state: coordinator, assignor, epochs. Default: offsets and lag.
    #[arg(long)]
    state: bool,
}

pub(super) async fn run(admin: &Admin, arguments: Arguments, format: Format) -> anyhow::Result<()> {
    let groups: Vec<String> = if arguments.all_groups {
        let listed = admin.list_groups_in(&GroupFilter::default()).await?;
        listed.into_iter().map(|it| it.group_id).collect()
    } else {
        arguments.groups.clone()
    };
    let mut sheet = if arguments.members {
        Sheet::new(&MEMBER_COLUMNS)
    } else if arguments.state {
        Sheet::new(&STATE_COLUMNS)
    } else {
        Sheet::new(&OFFSET_COLUMNS)
    };
    let progress = progress::bar(groups.len(), "groups");
    for group in &groups {
        let described = match admin.describe_group(group).await {
            Ok(described) => described,
            Err(error) => return Err(reach::unknown_group(admin, group, error).await),
        };
        if described.state == "Dead" {
            let listed = admin.list_groups().await?;
            let names = listed.iter().map(|it| it.group_id.as_str());
            return Err(Problem::unknown("group", group, names).into());
        }
        if arguments.members {
            members(&described, &mut sheet);
        } else if arguments.state {
            state(admin, &described, &mut sheet).await?;
        } else {
            let committed = admin.committed_offsets(group).await?;
            let ends = ends(admin, &described, &committed).await;
            offsets(&described, &committed, &ends, &mut sheet);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    output::print(format, &sheet)?;
    Ok(())
}

const STATE_COLUMNS: [&str; 9] = [
    "group",
    "type",
    "protocol",
    "state",
    "coordinator",
    "assignor",
    "group_epoch",
    "assignment_epoch",
    "members",
];

async fn state(admin: &Admin, group: &GroupDescription, sheet: &mut Sheet) -> anyhow::Result<()> {
    let coordinator = admin.group_coordinator(&group.group_id).await?;
    sheet.push(vec![
        Cell::text(&group.group_id),
        Cell::text(group.group_type),
        Cell::text(&group.protocol_type),
        Cell::text(&group.state),
        Cell::text(coordinator),
        Cell::text(&group.assignor),
        Cell::number(group.epochs.map(|it| it.group_epoch.into())),
        Cell::number(group.epochs.map(|it| it.assignment_epoch.into())),
        Cell::number(i64::try_from(group.members.len()).ok()),
    ]);
    Ok(())
}

const MEMBER_COLUMNS: [&str; 9] = [
    "group",
    "consumer_id",
    "instance_id",
    "host",
    "client_id",
    "member_epoch",
    "partitions",
    "assignment",
    "target",
];

fn members(group: &GroupDescription, sheet: &mut Sheet) {
    let list = |partitions: &[TopicPartition]| {
        Cell::List(partitions.iter().map(ToString::to_string).collect())
    };
    for (id, member) in &group.members {
        let target =
            if member.target == member.assignment { Cell::None } else { list(&member.target) };
        sheet.push(vec![
            Cell::text(&group.group_id),
            Cell::text(id),
            Cell::maybe(member.instance_id.as_ref()),
            Cell::text(&member.client_host),
            Cell::text(&member.client_id),
            Cell::number(member.member_epoch.map(i64::from)),
            Cell::number(i64::try_from(member.assignment.len()).ok()),
            list(&member.assignment),
            target,
        ]);
    }
}

const OFFSET_COLUMNS: [&str; 9] = [
    "group",
    "topic",
    "partition",
    "current_offset",
    "log_end_offset",
    "lag",
    "consumer_id",
    "host",
    "client_id",
];

/// Where the partitions end that the group has committed, or is assigned.
async fn ends(
    admin: &Admin,
    group: &GroupDescription,
    committed: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> PerPartition<ListedOffset> {
    let assigned = group.members.values().flat_map(|it| &it.assignment);
    let partitions: BTreeSet<_> = committed.keys().chain(assigned).cloned().collect();
    let wanted = partitions.into_iter().map(|it| (it, OffsetSpec::Latest)).collect();
    admin.list_offsets_each(&wanted, IsolationLevel::ReadUncommitted).await
}

fn offsets(
    group: &GroupDescription,
    committed: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ends: &PerPartition<ListedOffset>,
    sheet: &mut Sheet,
) {
    let mut owners = BTreeMap::new();
    for (id, member) in &group.members {
        owners.extend(member.assignment.iter().map(|it| (it, (id, member))));
    }
    for (partition, end) in ends {
        let current = committed.get(partition).map(|it| it.offset);
        // A topic that is gone has no end.
        let end = end.as_ref().ok().and_then(|it| it.offset);
        let owner = owners.get(partition);
        sheet.push(vec![
            Cell::text(&group.group_id),
            Cell::text(&partition.topic),
            Cell::Number(partition.partition.0.into()),
            Cell::number(current.map(|it| it.0)),
            Cell::number(end.map(|it| it.0)),
            Cell::number(current.zip(end).map(|(current, end)| lag(current, end))),
            Cell::maybe(owner.map(|(id, _)| id)),
            Cell::maybe(owner.map(|(_, it)| &it.client_host)),
            Cell::maybe(owner.map(|(_, it)| &it.client_id)),
        ]);
    }
}

/// How far a group is behind; never less than 0, though a log may have been cut.
fn lag(current: Offset, end: Offset) -> i64 {
    (end.0 - current.0).max(0)
}

#[cfg(test)]
mod tests {
    use client::admin::GroupMember;
    use expect_test::expect;
    use protocol::ids::LeaderEpoch;
    use protocol::time::Timestamp;

    use super::*;

    fn listed(offset: i64) -> ListedOffset {
        let (timestamp, leader_epoch) = (Timestamp::NONE, LeaderEpoch::NONE);
        ListedOffset { offset: Some(Offset(offset)), timestamp, leader_epoch }
    }

    #[test]
    fn lag_is_told_by_partition_with_its_owner_and_without_for_what_is_gone() {
        let orders = |index| TopicPartition::new("orders", index);
        let member = GroupMember {
            instance_id: None,
            client_id: "reader".to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            member_epoch: None,
            subscribed: ["orders".to_owned()].into(),
            assignment: vec![orders(0), orders(1)],
            target: vec![orders(0), orders(1)],
        };
        let group = GroupDescription {
            group_id: "readers".to_owned(),
            state: "Stable".to_owned(),
            group_type: "classic",
            protocol_type: "consumer".to_owned(),
            assignor: "range".to_owned(),
            epochs: None,
            members: [("reader-1".to_owned(), member)].into(),
        };
        let gone = TopicPartition::new("gone", 0);
        let committed = [(orders(0), Offset(7).into()), (gone.clone(), Offset(3).into())].into();
        let missing = client::RequestError::NoLeader { subject: gone.to_string() };
        let ends = [(orders(0), Ok(listed(10))), (orders(1), Ok(listed(5))), (gone, Err(missing))];
        let mut sheet = Sheet::new(&OFFSET_COLUMNS);
        offsets(&group, &committed, &ends.into_iter().collect(), &mut sheet);
        expect![[r#"
            GROUP    TOPIC   PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST       CLIENT-ID
            readers  gone            0               3               -    -  -            -          -
            readers  orders          0               7              10    3  reader-1     /10.0.0.1  reader
            readers  orders          1               -               5    -  reader-1     /10.0.0.1  reader
        "#]]
        .assert_eq(&sheet.table());
    }
}
