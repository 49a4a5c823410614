//! `millstream group reset-offsets`: moves what a group has committed, within what is there.
//!
//! A target outside of a log is moved to its nearer end; one that cannot be computed, as a shift of
//! nothing, refuses the whole command before anything is committed. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use client::offsets::OffsetSpec;
use client::time::real_clock;
use client::{Admin, IsolationLevel, OffsetAndMetadata};
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use super::super::advice::Problem;
use super::super::output::{self, Cell, Format, Sheet};
use super::super::reach;
use super::super::values::{self, TopicSelection};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The group's id.
    group: String,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    to: To,
    /// Commit the new offsets. Default: print them and change nothing.
    #[arg(long)]
    execute: bool,
    /// Print the new offsets and change nothing, which is the default.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
}

/// Of which partitions.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// Of which topic, or of which of its partitions, as orders:0,2; may be given often.
    #[arg(long, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    topic: Vec<TopicSelection>,
    /// Of all topics of which the group has committed something.
    #[arg(long)]
    all_topics: bool,
}

/// Whither.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the beginning of each log.
    #[arg(long)]
    to_earliest: bool,
    /// To the end of each log.
    #[arg(long)]
    to_latest: bool,
    /// To what is committed now: for seeing it, or for committing it again.
    #[arg(long)]
    to_current: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record at or after a moment: 2026-11-21T14:00:00.000Z (UTC unless it says
    /// otherwise), or milliseconds since 1970. To the end where no record is so young.
    #[arg(long, value_name = "MOMENT", value_parser = values::moment)]
    to_datetime: Option<Timestamp>,
    /// To the first record that is at most so old: 90m, 7d, PT1H30M, or milliseconds.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    by_duration: Option<Duration>,
    /// By so many offsets from what is committed: forward, or back when negative.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

/// Where to move to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Current,
    Offset(Offset),
    Time(Timestamp),
    Shift(i64),
}

impl To {
    fn target(&self, now: Timestamp) -> Target {
        if let Some(offset) = self.to_offset {
            Target::Offset(Offset(offset))
        } else if let Some(time) = self.to_datetime {
            Target::Time(time)
        } else if let Some(age) = self.by_duration {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Target::Time(Timestamp(now.0.saturating_sub(age).max(0)))
        } else if let Some(count) = self.shift_by {
            Target::Shift(count)
        } else if self.to_latest {
            Target::Latest
        } else if self.to_current {
            Target::Current
        } else {
            Target::Earliest
        }
    }
}

/// What is known of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    committed: Option<Offset>,
    start: Offset,
    end: Offset,
    /// The first offset at or after the target's time, if that was asked.
    at_time: Option<Offset>,
}

/// The new offset. `None`: it depends on what is committed, and nothing is.
fn moved(target: Target, place: Place) -> Option<Offset> {
    let wanted = match target {
        Target::Earliest => place.start,
        Target::Latest => place.end,
        Target::Current => place.committed?,
        Target::Offset(offset) => offset,
        Target::Time(_) => place.at_time.unwrap_or(place.end),
        Target::Shift(count) => Offset(place.committed?.0.saturating_add(count)),
    };
    Some(wanted.max(place.start).min(place.end))
}

pub(super) async fn run(admin: &Admin, arguments: Arguments, format: Format) -> anyhow::Result<()> {
    let group = &arguments.group;
    let committed = admin.committed_offsets(group).await;
    let committed = committed.with_context(|| format!("group {group}"))?;
    let partitions: BTreeSet<TopicPartition> = if arguments.scope.all_topics {
        committed.keys().cloned().collect()
    } else {
        reach::partitions(admin, &arguments.scope.topic).await?
    };
    if partitions.is_empty() {
        let listed = admin.list_groups().await?;
        if listed.iter().any(|it| it.group_id == *group) {
            return Err(Problem::usage(format!("group {group} has committed nothing")).into());
        }
        let names = listed.iter().map(|it| it.group_id.as_str());
        return Err(Problem::unknown("group", group, names).into());
    }
    let target = arguments.to.target(real_clock().now().wall);
    let places = places(admin, &partitions, &committed, target).await?;
    let mut sheet = Sheet::new(&["group", "topic", "partition", "current_offset", "new_offset"]);
    let mut offsets = BTreeMap::new();
    for (partition, place) in places {
        let new = moved(target, place).ok_or_else(|| {
            let text = format!("group {group} has committed nothing of {partition}");
            Problem::usage(format!("{text}: there is no offset to begin from"))
        })?;
        sheet.push(vec![
            Cell::text(group),
            Cell::text(&partition.topic),
            Cell::Number(partition.partition.0.into()),
            Cell::number(place.committed.map(|it| it.0)),
            Cell::Number(new.0),
        ]);
        offsets.insert(partition, OffsetAndMetadata::from(new));
    }
    if arguments.execute {
        refuse_members(admin, group).await?;
        let altered = admin.alter_committed_offsets(group, &offsets).await;
        altered.with_context(|| format!("group {group}"))?;
    }
    output::print(format, &sheet)?;
    if !arguments.execute {
        eprintln!("nothing was changed: add --execute to commit the new offsets");
    }
    Ok(())
}

/// A group with members would overwrite what we commit, and refuse it besides.
async fn refuse_members(admin: &Admin, group: &str) -> anyhow::Result<()> {
    match admin.describe_group(group).await {
        Ok(described) if described.members.is_empty() => Ok(()),
        Ok(described) => {
            let (group, count) = (group.to_owned(), described.members.len());
            Err(Problem::HasMembers { group, count }.into())
        }
        // A group that nobody knows comes to be by our commit.
        Err(error) if error.error_code() == Some(ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context(format!("group {group}"))),
    }
}

async fn places(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    target: Target,
) -> anyhow::Result<BTreeMap<TopicPartition, Place>> {
    let list = async |spec: OffsetSpec| {
        let wanted: BTreeMap<_, _> = partitions.iter().map(|it| (it.clone(), spec)).collect();
        admin.list_offsets_each(&wanted, IsolationLevel::ReadUncommitted).await
    };
    let mut starts = list(OffsetSpec::Earliest).await;
    let mut ends = list(OffsetSpec::Latest).await;
    let mut at_times = match target {
        Target::Time(time) => list(OffsetSpec::AtOrAfter(time)).await,
        Target::Earliest
        | Target::Latest
        | Target::Current
        | Target::Offset(_)
        | Target::Shift(_) => BTreeMap::new(),
    };
    let mut places = BTreeMap::new();
    for partition in partitions {
        let take = |from: &mut client::admin::PerPartition<_>| {
            from.remove(partition).transpose().with_context(|| partition.to_string())
        };
        let offset = |it: Option<client::offsets::ListedOffset>| it.and_then(|it| it.offset);
        let place = Place {
            committed: committed.get(partition).map(|it| it.offset),
            start: offset(take(&mut starts)?).unwrap_or_default(),
            end: offset(take(&mut ends)?).unwrap_or_default(),
            at_time: offset(take(&mut at_times)?),
        };
        places.insert(partition.clone(), place);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place {
        committed: Some(Offset(50)),
        start: Offset(10),
        end: Offset(100),
        at_time: Some(Offset(70)),
    };

    #[test]
    fn each_target_moves_within_the_log() {
        for (target, want) in [
            (Target::Earliest, 10),
            (Target::Latest, 100),
            (Target::Current, 50),
            (Target::Offset(Offset(60)), 60),
            (Target::Offset(Offset(3)), 10),
            (Target::Offset(Offset(300)), 100),
            (Target::Time(Timestamp(0)), 70),
            (Target::Shift(-20), 30),
            (Target::Shift(-200), 10),
            (Target::Shift(i64::MAX), 100),
        ] {
            assert_eq!(moved(target, PLACE), Some(Offset(want)), "{target:?}");
        }
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        let place = Place { at_time: None, ..PLACE };
        assert_eq!(moved(Target::Time(Timestamp(1)), place), Some(Offset(100)));
    }

    #[test]
    fn what_was_never_committed_can_not_be_shifted() {
        let place = Place { committed: None, ..PLACE };
        assert_eq!(moved(Target::Shift(1), place), None);
        assert_eq!(moved(Target::Current, place), None);
        assert_eq!(moved(Target::Latest, place), Some(Offset(100)));
    }

    proptest! {
        #[test]
        fn no_target_leaves_the_log(offset in any::<i64>(), committed in 0_i64..1000) {
            let place = Place { committed: Some(Offset(committed)), ..PLACE };
            for target in [Target::Offset(Offset(offset)), Target::Shift(offset), Target::Current] {
                let new = moved(target, place).unwrap();
                prop_assert!(new >= place.start);
                prop_assert!(new <= place.end);
            }
        }
    }
}
