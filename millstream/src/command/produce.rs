//! `millstream produce`: each line of stdin becomes a record.
//!
//! It ends with success only when every record that was read has been acknowledged. Shell.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, bail};
use client::producer::{AppendError, Header};
use client::{Producer, ProducerConfig};
use indicatif::ProgressBar;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::advice::Problem;
use super::reach::{self, Servers};
use super::record_text::{Line, LineFormat};
use super::{asked_to_end, progress, values};

/// The longest line that is read: a record must be smaller, anyhow.
const LINE_BYTES_MAX: usize = 256 << 20;
/// After so many records acknowledgements are collected, before the producer forgets them.
const RECORDS_PER_LOOK: u64 = 1_000;

/// Write the lines of stdin, or of a file, into a topic, a record each.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The topic.
    topic: String,
    /// Read this file. Default: stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What ends the key in each line, as : or a tab. Default: lines have no keys.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; may be given often. Default: none.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    header: Vec<(String, String)>,
    /// Lines begin with headers, key:value,key:value, and a tab. Default: they do not.
    #[arg(long)]
    parse_headers: bool,
    /// The text that stands for a null key or value; a null value is a tombstone. Default: none
    /// does.
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// Lines are JSON objects as `consume --format json` prints them: value, and as far as wanted
    /// key, headers, partition and timestamp. Default: lines are texts.
    #[arg(long, conflicts_with_all = ["key_separator", "parse_headers", "null_marker"])]
    json: bool,
    /// Write into this partition. Default: by the key, or in turn without one.
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// When a record counts as written: all = by all in-sync replicas, 1 = by the leader, 0 = when
    /// it was sent.
    #[arg(long, value_name = "ACKS", default_value = "all", value_parser = ["all", "-1", "1", "0"])]
    acks: String,
    /// Number batches, so that none is written twice or out of order. Default: true with acks=all,
    /// else false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    idempotent: Option<bool>,
    /// How batches are compressed.
    #[arg(long, default_value = "none", value_name = "CODEC", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    /// A setting of the producer by its Kafka name, as linger.ms=50; may be given often. Default:
    /// Kafka's, but batch.size=262144.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    property: Vec<(String, String)>,
    /// Do not say how many records were written. Default: say it on stderr.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    servers: Servers,
}

impl Arguments {
    fn config(&self) -> anyhow::Result<ProducerConfig> {
        let is_all = self.acks == "all" || self.acks == "-1";
        let mut pairs = vec![
            ("acks".to_owned(), self.acks.clone()),
            ("enable.idempotence".to_owned(), self.idempotent.unwrap_or(is_all).to_string()),
            ("compression.type".to_owned(), self.compression.clone()),
        ];
        pairs.extend(self.property.iter().cloned());
        let config = ProducerConfig::parse(pairs);
        let config = config.map_err(|errors| Problem::usage(errors.to_string()))?;
        config.validate().map_err(|errors| Problem::usage(errors.to_string()))?;
        if config.transactional_id.is_some() {
            let text = "transactional.id: lines of stdin have no transactions";
            return Err(Problem::usage(text).into());
        }
        Ok(config)
    }

    fn line_format(&self) -> LineFormat {
        if self.json {
            return LineFormat::Json;
        }
        LineFormat::Text {
            key_separator: self.key_separator.clone().filter(|it| !it.is_empty()),
            has_headers: self.parse_headers,
            null_marker: self.null_marker.clone(),
        }
    }
}

/// Writes all lines.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.config()?;
    let bootstrap = arguments.servers.bootstrap().await?;
    let mut producer = Producer::connect(bootstrap, config).await?;
    let mut writer = Writer {
        format: arguments.line_format(),
        headers: arguments.header.clone(),
        partition: arguments.partition,
        written: 0,
        acknowledged: 0,
        progress: match std::io::stdin().is_terminal() && arguments.file.is_none() {
            true => ProgressBar::hidden(),
            false => progress::counter("records"),
        },
    };
    let read = match &arguments.file {
        Some(path) => {
            let file = tokio::fs::File::open(path).await;
            let file = file.with_context(|| path.display().to_string())?;
            let mut reader = BufReader::new(file);
            writer.write_all(&mut producer, &arguments, &mut reader).await
        }
        None => {
            let mut reader = BufReader::new(tokio::io::stdin());
            writer.write_all(&mut producer, &arguments, &mut reader).await
        }
    };
    // What was read is written even when a later line is refused.
    let flushed = producer.flush().await;
    writer.look(&mut producer);
    writer.progress.finish_and_clear();
    let counted = writer.acknowledged;
    if !arguments.quiet {
        let records = if counted == 1 { "record" } else { "records" };
        eprintln!("{counted} {records} written to {}", arguments.topic);
    }
    read?;
    flushed.with_context(|| format!("topic {}", arguments.topic))?;
    producer.close().await?;
    Ok(())
}

/// What turns lines into records, and counts.
struct Writer {
    format: LineFormat,
    headers: Vec<(String, String)>,
    partition: Option<i32>,
    written: u64,
    acknowledged: u64,
    progress: ProgressBar,
}

impl Writer {
    async fn write_all(
        &mut self,
        producer: &mut Producer,
        arguments: &Arguments,
        reader: &mut (impl AsyncBufRead + Unpin),
    ) -> anyhow::Result<()> {
        let mut line = Vec::new();
        let ended = asked_to_end();
        tokio::pin!(ended);
        loop {
            line.clear();
            let more = tokio::select! {
                biased;
                asked = &mut ended => return asked,
                more = read_line(reader, &mut line) => more?,
            };
            if !more {
                return Ok(());
            }
            let number = self.written + 1;
            let read = self.format.read(&line).with_context(|| format!("line {number}"))?;
            self.append(producer, arguments, read).await?;
            self.written += 1;
            self.progress.inc(1);
            if self.written.is_multiple_of(RECORDS_PER_LOOK) {
                self.look(producer);
            }
        }
    }

    async fn append(
        &self,
        producer: &mut Producer,
        arguments: &Arguments,
        line: Line,
    ) -> anyhow::Result<()> {
        let timestamp = line.timestamp.unwrap_or_else(|| producer.now().wall);
        let constant = self.headers.iter().map(|(key, value)| (&**key, Some(value.as_bytes())));
        let own = line.headers.iter().map(|(key, value)| (&**key, value.as_deref()));
        let headers: Vec<Header<'_>> = constant.chain(own).collect();
        let partition = line.partition.or(self.partition);
        let (key, value) = (line.key.as_deref(), line.value.as_deref());
        loop {
            let topic = &arguments.topic;
            match producer.append(topic, partition, timestamp, key, value, &headers) {
                Ok(()) => return Ok(()),
                Err(AppendError::TopicRefused { code, .. }) => {
                    return Err(refused(arguments, code).await);
                }
                Err(error) if error.is_retriable() => {
                    let ready = producer.ready().await;
                    ready.with_context(|| format!("topic {topic}"))?;
                }
                Err(error) => {
                    let number = self.written + 1;
                    return Err(anyhow::Error::new(error).context(format!("line {number}")));
                }
            }
        }
    }

    /// Counts what was acknowledged since the last look.
    fn look(&mut self, producer: &mut Producer) {
        let acks = producer.poll_acks().into_iter();
        self.acknowledged += acks.filter_map(|it| u64::try_from(it.record_count).ok()).sum::<u64>();
    }
}

/// Says of a topic that the cluster refuses what was meant, perhaps.
async fn refused(arguments: &Arguments, code: protocol::error_code::ErrorCode) -> anyhow::Error {
    let refused = client::RequestError::Refused {
        api: protocol::api_key::ApiKey::Metadata,
        subject: arguments.topic.clone(),
        code,
        message: None,
    };
    match arguments.servers.admin().await {
        Ok(admin) => reach::unknown_topic(&admin, &arguments.topic, refused).await,
        Err(error) => error,
    }
}

/// Reads one line without its end. False: there is none.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> anyhow::Result<bool> {
    loop {
        let available = reader.fill_buf().await.context("reading lines")?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = available.iter().position(|it| *it == b'\n');
        let taken = end.unwrap_or(available.len());
        line.extend_from_slice(&available[..taken]);
        reader.consume(end.map_or(taken, |it| it + 1));
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
        if line.len() > LINE_BYTES_MAX {
            bail!("a line is longer than {LINE_BYTES_MAX} bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_with_newlines_of_either_kind_and_the_last_may_lack_one() {
        let mut reader = BufReader::with_capacity(3, &b"one\ntwo\r\n\nlast"[..]);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while read_line(&mut reader, &mut line).await.unwrap() {
            lines.push(String::from_utf8(std::mem::take(&mut line)).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", "last"]);
    }
}
