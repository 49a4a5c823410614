//! `millstream txn`: transactions, and those that hang. Shell.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use client::Admin;
use client::admin::{AbortSpec, ProducerDescription, TransactionFilter};
use client::time::real_clock;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, Offset, ProducerEpoch, ProducerId, TopicPartition};

use super::advice::Problem;
use super::output::{self, Cell, Format, Outcomes, Sheet};
use super::reach::{self, Cluster};
use super::values::{self, TopicSelection};

/// List, describe and end transactions; find those that hang.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List transactional ids with their producers and states.
    List(List),
    /// Describe transactional ids: state, timeout, since when, and the partitions written to.
    Describe {
        /// The transactional ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Describe the producers that the leader of a partition knows.
    DescribeProducers {
        /// Of which topic, or of which of its partitions, as orders:0,2.
        #[arg(value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
        topic: TopicSelection,
    },
    /// Find open transactions that no coordinator will end: they hold back read_committed.
    FindHanging(FindHanging),
    /// Abort a transaction in one partition, which its coordinator does not know any more.
    Abort(Abort),
    /// End the open transaction of a transactional id; its producer is fenced.
    ForceTerminate {
        /// The transactional id.
        id: String,
    },
}

#[derive(clap::Args)]
struct List {
    /// Only in these states, separated by commas: Empty, Ongoing, PrepareCommit, PrepareAbort,
    /// CompleteCommit, CompleteAbort, PrepareEpochFence, Dead. Default: in any state.
    #[arg(long, value_name = "STATE,…", value_delimiter = ',')]
    state: Vec<String>,
    /// Only of these producers, separated by commas. Default: of any producer.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    producer_id: Vec<i64>,
    /// Only those open for longer than this: 10s, 15m, or milliseconds. Default: all.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    longer_than: Option<Duration>,
    /// Only ids that match this regular expression as a whole. Default: all.
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
}

#[derive(clap::Args)]
struct FindHanging {
    /// In which topics, or in which of their partitions, as orders:0,2; may be given often.
    /// Default: in all.
    #[arg(long, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    topic: Vec<TopicSelection>,
    /// Only in partitions of which this broker has a replica. Default: of any broker.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// The longest transaction timeout in use: younger transactions do not hang yet.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = values::duration)]
    max_transaction_timeout: Duration,
}

#[derive(clap::Args)]
struct Abort {
    /// The topic.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Which of its partitions.
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Where the transaction begins: its producer and epochs are then asked of the leader.
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["producer_id", "producer_epoch", "coordinator_epoch"])]
    start_offset: Option<i64>,
    /// The producer, as describe-producers tells it.
    #[arg(long, value_name = "ID", requires_all = ["producer_epoch"])]
    producer_id: Option<i64>,
    /// The producer's epoch, as describe-producers tells it.
    #[arg(long, value_name = "EPOCH", requires = "producer_id")]
    producer_epoch: Option<i16>,
    /// The coordinator's epoch, as describe-producers tells it. Default: 0.
    #[arg(long, value_name = "EPOCH", requires = "producer_id")]
    coordinator_epoch: Option<i32>,
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin = arguments.cluster.admin().await?;
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::List(list) => list_transactions(&admin, list, format).await,
        Verb::Describe { ids } => describe(&admin, &ids, format).await,
        Verb::DescribeProducers { topic } => producers(&admin, topic, format).await,
        Verb::FindHanging(find) => find_hanging(&admin, &find, format).await,
        Verb::Abort(abort) => abort_one(&admin, &abort, format).await,
        Verb::ForceTerminate { id } => force_terminate(&admin, &id, format).await,
    }
}

async fn list_transactions(admin: &Admin, list: List, format: Format) -> anyhow::Result<()> {
    let filter = TransactionFilter {
        states: list.state.into_iter().collect(),
        producer_ids: list.producer_id.into_iter().map(ProducerId).collect(),
        longer_than: list.longer_than,
        id_pattern: list.pattern,
    };
    let mut sheet = Sheet::new(&["transactional_id", "coordinator", "producer_id", "state"]);
    for (id, it) in admin.list_transactions(&filter).await? {
        sheet.push(vec![
            Cell::text(id),
            Cell::Number(it.coordinator.0.into()),
            Cell::Number(it.producer_id.0),
            Cell::text(it.state),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn describe(admin: &Admin, ids: &[String], format: Format) -> anyhow::Result<()> {
    let columns = [
        "transactional_id",
        "state",
        "producer_id",
        "producer_epoch",
        "timeout",
        "started",
        "open_for",
        "partitions",
    ];
    let mut sheet = Sheet::new(&columns);
    let now = real_clock().now().wall;
    for id in ids {
        let it = match admin.describe_transaction(id).await {
            Ok(described) => described,
            Err(error) => return Err(unknown_id(admin, id, error).await),
        };
        let open_for = it.started.map(|it| now.0.saturating_sub(it.0).max(0));
        let open_for = open_for.and_then(|it| u64::try_from(it).ok()).map(Duration::from_millis);
        sheet.push(vec![
            Cell::text(id),
            Cell::text(it.state),
            Cell::Number(it.producer_id.0),
            Cell::Number(it.producer_epoch.0.into()),
            Cell::Span(it.timeout),
            it.started.map_or(Cell::None, Cell::Time),
            open_for.map_or(Cell::None, Cell::Span),
            Cell::List(it.partitions.iter().map(ToString::to_string).collect()),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

/// Says of a transactional id that nobody knows what was meant.
async fn unknown_id(admin: &Admin, id: &str, error: client::RequestError) -> anyhow::Error {
    if error.error_code() != Some(ErrorCode::TransactionalIdNotFound) {
        return anyhow::Error::new(error).context(format!("transactional id {id}"));
    }
    let known = admin.list_transactions(&TransactionFilter::default()).await.unwrap_or_default();
    Problem::unknown("transactional id", id, known.keys().map(String::as_str)).into()
}

async fn producers(admin: &Admin, topic: TopicSelection, format: Format) -> anyhow::Result<()> {
    let partitions = reach::partitions(admin, &[topic]).await?;
    let columns = [
        "topic",
        "partition",
        "producer_id",
        "producer_epoch",
        "coordinator_epoch",
        "last_sequence",
        "last_timestamp",
        "txn_start_offset",
    ];
    let mut sheet = Sheet::new(&columns);
    for (partition, producers) in admin.describe_producers(partitions).await {
        for it in producers.with_context(|| partition.to_string())? {
            sheet.push(vec![
                Cell::text(&partition.topic),
                Cell::Number(partition.partition.0.into()),
                Cell::Number(it.producer_id.0),
                Cell::Number(it.producer_epoch.into()),
                Cell::number(it.coordinator_epoch.map(i64::from)),
                Cell::Number(it.last_sequence.into()),
                Cell::time(it.last_timestamp),
                Cell::number(it.txn_start.map(|it| it.0)),
            ]);
        }
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn find_hanging(admin: &Admin, find: &FindHanging, format: Format) -> anyhow::Result<()> {
    let mut partitions = if find.topic.is_empty() {
        let topics = admin.describe_all_topics().await?;
        let of = |(name, topic): (String, Result<client::admin::TopicDescription, _>)| {
            let indexes = topic.map(|it| it.partitions.into_keys().collect::<Vec<_>>());
            let name: std::sync::Arc<str> = name.into();
            indexes.into_iter().flatten().map(move |it| TopicPartition::new(name.clone(), it.0))
        };
        topics.into_iter().flat_map(of).collect()
    } else {
        reach::partitions(admin, &find.topic).await?
    };
    if let Some(id) = find.broker {
        keep_replicas_of(admin, BrokerId(id), &mut partitions).await?;
    }
    let timeout = find.max_transaction_timeout;
    let hanging = admin.find_hanging_transactions(partitions, timeout).await?;
    let columns = [
        "topic",
        "partition",
        "txn_start_offset",
        "producer_id",
        "producer_epoch",
        "coordinator_epoch",
        "last_timestamp",
        "transactional_id",
    ];
    let mut sheet = Sheet::new(&columns);
    for it in &hanging {
        sheet.push(vec![
            Cell::text(&it.partition.topic),
            Cell::Number(it.partition.partition.0.into()),
            Cell::number(it.producer.txn_start.map(|it| it.0)),
            Cell::Number(it.producer.producer_id.0),
            Cell::Number(it.producer.producer_epoch.into()),
            Cell::number(it.producer.coordinator_epoch.map(i64::from)),
            Cell::time(it.producer.last_timestamp),
            Cell::maybe(it.transactional_id.as_ref()),
        ]);
    }
    output::print(format, &sheet)?;
    if !hanging.is_empty() {
        eprintln!(
            "to end one: millstream txn abort --topic TOPIC --partition INDEX --start-offset OFFSET"
        );
    }
    Ok(())
}

async fn keep_replicas_of(
    admin: &Admin,
    broker: BrokerId,
    partitions: &mut BTreeSet<TopicPartition>,
) -> anyhow::Result<()> {
    let topics = admin.describe_all_topics().await?;
    partitions.retain(|it| {
        let topic = topics.get(&*it.topic).and_then(|it| it.as_ref().ok());
        let partition = topic.and_then(|topic| topic.partitions.get(&it.partition));
        partition.is_some_and(|it| it.replicas.contains(&broker))
    });
    Ok(())
}

async fn abort_one(admin: &Admin, abort: &Abort, format: Format) -> anyhow::Result<()> {
    let selection =
        TopicSelection { topic: abort.topic.clone(), partitions: Some([abort.partition].into()) };
    reach::partitions(admin, &[selection]).await?;
    let partition = TopicPartition::new(abort.topic.as_str(), abort.partition);
    let spec = match (abort.start_offset, abort.producer_id, abort.producer_epoch) {
        (Some(offset), _, _) => open_at(admin, &partition, Offset(offset)).await?,
        (None, Some(producer_id), Some(producer_epoch)) => AbortSpec {
            producer_id: ProducerId(producer_id),
            producer_epoch: ProducerEpoch(producer_epoch),
            coordinator_epoch: abort.coordinator_epoch.unwrap_or(0),
        },
        (None, _, _) => {
            let text =
                "which transaction? give --start-offset, or --producer-id and --producer-epoch";
            return Err(Problem::usage(text).into());
        }
    };
    let aborted = admin.abort_transaction(&partition, spec).await;
    aborted.with_context(|| format!("producer {} in {partition}", spec.producer_id))?;
    let mut outcomes = Outcomes::default();
    outcomes.done(&partition, format!("transaction of producer {} aborted", spec.producer_id));
    outcomes.finish(format)
}

/// The open transaction that begins at `offset`.
async fn open_at(
    admin: &Admin,
    partition: &TopicPartition,
    offset: Offset,
) -> anyhow::Result<AbortSpec> {
    let mut described = admin.describe_producers([partition.clone()]).await;
    let producers = described.remove(partition).context("every partition is told of")?;
    let producers = producers.with_context(|| partition.to_string())?;
    let begins_there = |it: &&ProducerDescription| it.txn_start == Some(offset);
    let Some(producer) = producers.iter().find(begins_there) else {
        let open: Vec<_> =
            producers.iter().filter_map(|it| Some(it.txn_start?.to_string())).collect();
        let open = if open.is_empty() {
            "none is open".to_owned()
        } else {
            format!("open ones begin at {}", open.join(", "))
        };
        anyhow::bail!("{partition}: no transaction begins at offset {offset}: {open}");
    };
    Ok(AbortSpec {
        producer_id: producer.producer_id,
        producer_epoch: ProducerEpoch(
            i16::try_from(producer.producer_epoch).context("the producer's epoch")?,
        ),
        coordinator_epoch: producer.coordinator_epoch.unwrap_or(0),
    })
}

async fn force_terminate(admin: &Admin, id: &str, format: Format) -> anyhow::Result<()> {
    // Taking over an id that nobody has would create it: a slip must not.
    if let Err(error) = admin.describe_transaction(id).await {
        return Err(unknown_id(admin, id, error).await);
    }
    let taken = admin.force_terminate_transaction(id).await;
    let (producer_id, epoch) = taken.with_context(|| format!("transactional id {id}"))?;
    let mut outcomes = Outcomes::default();
    let what = format!("terminated; producers before epoch {epoch} of {producer_id} are fenced");
    outcomes.done(format!("transactional id {id}"), what);
    outcomes.finish(format)
}
