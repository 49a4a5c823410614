//! What is shown: bars while it works, a table at the end.
//!
//! Shell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use millstream::client::bootstrap::Bootstrap;
use millstream::client::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use millstream::client::consumer::{Consumer, Polled};
use millstream::protocol::ids::{Offset, TopicPartition};

use crate::topology::{PER_MINUTE, PerMinute};

/// Rows of the closing table.
const TOP: usize = 12;

/// One line per stage. On something that is no terminal nothing is drawn.
pub(crate) struct Bars {
    lines: ProgressBar,
    processed: ProgressBar,
    rows: ProgressBar,
}

impl Bars {
    pub(crate) fn new() -> Self {
        let all = MultiProgress::new();
        let bar = |stage: &'static str| {
            let style = "{spinner} {prefix:<28} {pos:>12}  {per_sec}";
            let style = ProgressStyle::with_template(style).expect("a template that was tried");
            let bar = all.add(ProgressBar::new_spinner().with_style(style).with_prefix(stage));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        };
        Self {
            lines: bar("lines read into the broker"),
            processed: bar("records processed"),
            rows: bar("rows for the lake"),
        }
    }

    pub(crate) fn show(&self, lines: u64, processed: u64, rows: u64) {
        self.lines.set_position(lines);
        self.processed.set_position(processed);
        self.rows.set_position(rows);
    }

    pub(crate) fn finish(&self) {
        for bar in [&self.lines, &self.processed, &self.rows] {
            bar.finish();
        }
    }
}

/// The newest count of every file, severity and minute, summed over the minutes.
pub(crate) async fn totals(
    bootstrap: Bootstrap,
) -> anyhow::Result<BTreeMap<(String, String), i64>> {
    let config = ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::connect(bootstrap, config).await.context("read the counts")?;
    let ends = ends_of(&mut consumer, PER_MINUTE).await?;
    consumer.assign(ends.keys().cloned());
    let mut newest: BTreeMap<(String, String, i64), i64> = BTreeMap::new();
    let at = |consumer: &Consumer, of| consumer.position(of).unwrap_or(Offset::ZERO);
    while ends.iter().any(|(of, end)| at(&consumer, of) < *end) {
        let Polled::Batches(batches) = consumer.poll(Duration::from_secs(1)).await? else {
            continue;
        };
        for batch in batches {
            for record in batch.records() {
                let Some(value) = record?.value else { continue };
                let PerMinute { file, severity, minute, count } = serde_json::from_slice(value)?;
                newest.insert((file, severity, minute), count);
            }
        }
    }
    consumer.close().await?;
    let mut sums = BTreeMap::new();
    for ((file, severity, _), count) in newest {
        *sums.entry((file, severity)).or_default() += count;
    }
    Ok(sums)
}

/// Where the partitions of `topic` end now. Not the end for readers of committed records: that
/// stays behind while the markers of a transaction that is committed are still being written.
pub(crate) async fn ends_of(
    consumer: &mut Consumer,
    topic: &str,
) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let partitions = consumer.partitions_of(topic).await?;
    Ok(consumer.end_offsets(partitions, IsolationLevel::ReadUncommitted).await?)
}

/// What lies in the lake below `directory`: Parquet files and their bytes.
pub(crate) fn measure(directory: &Path) -> (u64, u64) {
    let Ok(entries) = std::fs::read_dir(directory) else { return (0, 0) };
    let paths: Vec<PathBuf> = entries.filter_map(|it| it.ok().map(|it| it.path())).collect();
    paths.iter().fold((0, 0), |(files, bytes), path| {
        if path.is_dir() {
            let (more, larger) = measure(path);
            (files + more, bytes + larger)
        } else if path.extension().is_some_and(|it| it == "parquet") {
            (files + 1, bytes + path.metadata().map_or(0, |it| it.len()))
        } else {
            (files, bytes)
        }
    })
}

/// The closing table.
pub(crate) fn print(totals: &BTreeMap<(String, String), i64>, lake: &Path) {
    let mut top: Vec<_> = totals.iter().collect();
    top.sort_by_key(|(group, count)| (std::cmp::Reverse(**count), *group));
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["file", "severity", "lines"]);
    for ((file, severity), count) in top.iter().take(TOP) {
        table.add_row([file, severity, &count.to_string()]);
    }
    if TOP < top.len() {
        table.add_row([&format!("… and {} more", top.len() - TOP), "", ""]);
    }
    table.column_mut(2).expect("the third column").set_cell_alignment(CellAlignment::Right);
    println!("{table}");
    let lines: i64 = totals.values().sum();
    let files = totals.keys().map(|(file, _)| file).collect::<std::collections::BTreeSet<_>>();
    let (parquet, bytes) = measure(lake);
    println!("{lines} lines of {} files; {parquet} Parquet files, {bytes} bytes", files.len());
    let lake = lake.display();
    println!("query them, for example with DuckDB:");
    println!(
        "  SELECT severity, count(*) FROM read_parquet('{lake}/logs.parsed/**/*.parquet', \
         hive_partitioning=true, union_by_name=true) GROUP BY 1;"
    );
}
