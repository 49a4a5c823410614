//! `millstream topic offsets`. Shell.

use std::collections::BTreeMap;

use client::admin::PerPartition;
use client::offsets::{ListedOffset, OffsetSpec};
use client::{Admin, IsolationLevel};

use super::super::advice::Problem;
use super::super::output::{self, Cell, Format, Sheet};
use super::super::{reach, values};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The topic's name.
    name: String,
    /// Which offset: earliest, latest, max-timestamp, earliest-local, latest-tiered,
    /// earliest-pending-upload, or that of the first record at or after a moment, as
    /// 2026-11-21T14:00:00Z (UTC) or milliseconds since 1970. Default: begin, end and how many
    /// offsets lie between.
    #[arg(long, value_name = "WHEN", value_parser = spec)]
    time: Option<OffsetSpec>,
    /// Which partitions, as 0,2,4-6. Default: all.
    #[arg(long, visible_alias = "partition", value_name = "INDEXES", value_parser = super::indexes)]
    partitions: Option<super::Indexes>,
    /// What the end is: read_uncommitted = the high watermark; read_committed = the last stable
    /// offset, before which no transaction is open.
    #[arg(long, default_value = "read_uncommitted", value_parser = isolation)]
    isolation: IsolationLevel,
}

fn spec(text: &str) -> Result<OffsetSpec, String> {
    Ok(match text {
        "earliest" | "-2" => OffsetSpec::Earliest,
        "latest" | "-1" => OffsetSpec::Latest,
        "max-timestamp" | "-3" => OffsetSpec::MaxTimestamp,
        "earliest-local" | "-4" => OffsetSpec::EarliestLocal,
        "latest-tiered" | "-5" => OffsetSpec::LatestTiered,
        "earliest-pending-upload" | "-6" => OffsetSpec::EarliestPendingUpload,
        _ => OffsetSpec::AtOrAfter(
            values::moment(text)
                .map_err(|expected| format!("{expected}, or earliest, latest, max-timestamp"))?,
        ),
    })
}

/// An isolation level by its Kafka name.
pub(in crate::command) fn isolation(text: &str) -> Result<IsolationLevel, String> {
    match text {
        "read_uncommitted" => Ok(IsolationLevel::ReadUncommitted),
        "read_committed" => Ok(IsolationLevel::ReadCommitted),
        _ => Err("expected read_uncommitted or read_committed".to_owned()),
    }
}

pub(super) async fn run(admin: &Admin, arguments: Arguments, format: Format) -> anyhow::Result<()> {
    let topic = reach::topic(admin, &arguments.name).await?;
    let selected = arguments.partitions.as_ref().map(|it| &it.0);
    let partitions = reach::partitions_of(&topic, selected)?;
    let list = async |spec: OffsetSpec| {
        let wanted: BTreeMap<_, _> = partitions.iter().map(|it| (it.clone(), spec)).collect();
        admin.list_offsets_each(&wanted, arguments.isolation).await
    };
    let mut failures = Vec::new();
    let sheet = match arguments.time {
        Some(spec) => one(list(spec).await, &mut failures),
        None => {
            let ends = (list(OffsetSpec::Earliest).await, list(OffsetSpec::Latest).await);
            both(ends, &mut failures)
        }
    };
    output::print(format, &sheet)?;
    for failure in &failures {
        eprintln!("{failure}");
    }
    match failures.len() {
        0 => Ok(()),
        failed => Err(Problem::Partly { failed, all: partitions.len() }.into()),
    }
}

fn offset(listed: &ListedOffset) -> Cell {
    Cell::number(listed.offset.map(|it| it.0))
}

fn one(listed: PerPartition<ListedOffset>, failures: &mut Vec<String>) -> Sheet {
    let mut sheet = Sheet::new(&["topic", "partition", "offset", "timestamp", "leader_epoch"]);
    for (partition, listed) in listed {
        match listed {
            Ok(it) => sheet.push(vec![
                Cell::text(&partition.topic),
                Cell::Number(partition.partition.0.into()),
                offset(&it),
                Cell::time(it.timestamp),
                Cell::number(Some(i64::from(it.leader_epoch.0)).filter(|it| *it >= 0)),
            ]),
            Err(error) => failures.push(format!("{partition}: {error}")),
        }
    }
    sheet
}

fn both(
    (starts, mut ends): (PerPartition<ListedOffset>, PerPartition<ListedOffset>),
    failures: &mut Vec<String>,
) -> Sheet {
    let mut sheet = Sheet::new(&["topic", "partition", "start", "end", "between"]);
    for (partition, start) in starts {
        let end = ends.remove(&partition);
        match (start, end) {
            (Ok(start), Some(Ok(end))) => {
                let between = start.offset.zip(end.offset).map(|(it, end)| end.0 - it.0);
                sheet.push(vec![
                    Cell::text(&partition.topic),
                    Cell::Number(partition.partition.0.into()),
                    offset(&start),
                    offset(&end),
                    Cell::number(between),
                ]);
            }
            (Err(error), _) | (Ok(_), Some(Err(error))) => {
                failures.push(format!("{partition}: {error}"));
            }
            (Ok(_), None) => failures.push(format!("{partition}: nothing is known of its end")),
        }
    }
    sheet
}
