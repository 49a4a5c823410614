//! `millstream quorum`: who keeps the metadata log, and how far each has come. Shell.

use clap::Subcommand;
use client::admin::{QuorumDescription, QuorumReplica};
use protocol::time::Timestamp;
use serde_json::json;

use super::output::{self, Cell, Format, Sheet};
use super::reach::Cluster;

/// Describe the quorum that keeps the metadata log.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Tell who leads, since which epoch, what is committed, and how far behind others are.
    Status,
    /// Tell of each replica where its log ends and when it last had everything.
    Replication,
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin = arguments.cluster.admin().await?;
    let quorum = admin.describe_quorum().await?;
    match arguments.verb {
        Verb::Status => status(&quorum, arguments.cluster.output)?,
        Verb::Replication => output::print(arguments.cluster.output, &replication(&quorum))?,
    }
    Ok(())
}

fn leader_end(quorum: &QuorumDescription) -> Option<i64> {
    let leader = quorum.voters.iter().find(|it| Some(it.id) == quorum.leader)?;
    Some(leader.log_end_offset.0).filter(|it| *it >= 0)
}

fn lag(quorum: &QuorumDescription, replica: &QuorumReplica) -> Option<i64> {
    let end = leader_end(quorum)?;
    (replica.log_end_offset.0 >= 0).then(|| (end - replica.log_end_offset.0).max(0))
}

fn status(quorum: &QuorumDescription, format: Format) -> std::io::Result<()> {
    let max_lag = quorum.voters.iter().filter_map(|it| lag(quorum, it)).max();
    let ids = |replicas: &[QuorumReplica]| replicas.iter().map(|it| it.id.0).collect::<Vec<_>>();
    let (voters, observers) = (ids(&quorum.voters), ids(&quorum.observers));
    match format {
        Format::Json => output::print_json(&json!({
            "leader_id": quorum.leader.map(|it| it.0),
            "leader_epoch": quorum.leader_epoch.0,
            "high_watermark": quorum.high_watermark.0,
            "max_follower_lag": max_lag,
            "current_voters": voters,
            "current_observers": observers,
            "nodes": quorum.nodes.iter().map(|(id, listeners)| json!({
                "id": id.0,
                "listeners": listeners.iter().map(|(name, endpoint)| format!("{name}://{endpoint}")).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        Format::Table => {
            let list =
                |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let leader = quorum.leader.map_or("none".to_owned(), |it| it.to_string());
            let lag = max_lag.map_or("-".to_owned(), |it| it.to_string());
            output::write(&format!(
                "leader            {leader}\nleader epoch      {}\nhigh watermark    {}\n\
                 max follower lag  {lag}\nvoters            {}\nobservers         {}\n",
                quorum.leader_epoch,
                quorum.high_watermark,
                list(&voters),
                if observers.is_empty() { "-".to_owned() } else { list(&observers) },
            ))
        }
    }
}

fn replication(quorum: &QuorumDescription) -> Sheet {
    let columns =
        ["node", "role", "log_end_offset", "lag", "last_fetch", "last_caught_up", "directory_id"];
    let mut sheet = Sheet::new(&columns);
    let voters = quorum
        .voters
        .iter()
        .map(|it| (it, if Some(it.id) == quorum.leader { "Leader" } else { "Follower" }));
    let observers = quorum.observers.iter().map(|it| (it, "Observer"));
    let time = |time: Timestamp| Cell::time(time);
    for (replica, role) in voters.chain(observers) {
        sheet.push(vec![
            Cell::Number(replica.id.0.into()),
            Cell::text(role),
            Cell::number(Some(replica.log_end_offset.0).filter(|it| *it >= 0)),
            Cell::number(lag(quorum, replica)),
            time(replica.last_fetch),
            time(replica.last_caught_up),
            Cell::text(replica.directory_id),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;
    use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicId};

    use super::*;

    #[test]
    fn followers_are_told_with_what_they_lack() {
        let replica = |id, end| QuorumReplica {
            id: BrokerId(id),
            directory_id: TopicId::ZERO,
            log_end_offset: Offset(end),
            last_fetch: Timestamp::NONE,
            last_caught_up: Timestamp(1_700_000_000_000),
        };
        let quorum = QuorumDescription {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            high_watermark: Offset(90),
            voters: vec![replica(1, 100), replica(2, 97)],
            observers: vec![replica(3, -1)],
            nodes: BTreeMap::new(),
        };
        expect![[r#"
            NODE  ROLE      LOG-END-OFFSET  LAG  LAST-FETCH  LAST-CAUGHT-UP        DIRECTORY-ID
               1  Leader               100    0  -           2023-11-14T22:13:20Z  00000000000000000000000000000000
               2  Follower              97    3  -           2023-11-14T22:13:20Z  00000000000000000000000000000000
               3  Observer               -    -  -           2023-11-14T22:13:20Z  00000000000000000000000000000000
        "#]]
        .assert_eq(&replication(&quorum).table());
    }
}
