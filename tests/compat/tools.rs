//! Kafka's command-line tools against our broker: what operators type.
//!
//! One story: a topic is created, described, filled, read, measured, altered, emptied and deleted,
//! and its groups and transactions are looked at, each step by the tool that Kafka ships for it.
//! The tools are Java programs of Maven Central's; where that is out of reach they are skipped.
//!
//! Shell.

use std::time::Duration;

use anyhow::{Context, ensure};
use harness::kafka::{Running, java};
use harness::process::output;

use super::with_broker;

/// How long a tool that follows a group may take until its next line.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that such a tool may print before the one that is waited for.
const LINES_MAX: usize = 1000;

/// The tools of one broker.
struct Tools<'a> {
    endpoint: &'a str,
}

impl Tools<'_> {
    /// What `class` prints with these arguments.
    fn run(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = java(class)?.context("the tools were there a moment ago")?;
        output(command.args(["--bootstrap-server", self.endpoint]).args(arguments))
    }

    /// Runs `class`, and checks that what it prints has each of `words`.
    fn says(&self, class: &str, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        let said = self.run(class, arguments)?;
        for word in words {
            ensure!(said.contains(word), "{class} {arguments:?} does not say {word:?}:\n{said}");
        }
        Ok(())
    }

    fn topics(&self, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        self.says("org.apache.kafka.tools.TopicCommand", arguments, words)
    }

    fn configs(&self, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        self.says("kafka.admin.ConfigCommand", arguments, words)
    }

    fn groups(&self, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        self.says(class, arguments, words)
    }

    fn offsets(&self, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        self.says("org.apache.kafka.tools.GetOffsetShell", arguments, words)
    }
}

#[test]
fn kafkas_tools_administer_topics_settings_groups_and_transactions() -> anyhow::Result<()> {
    if java("org.apache.kafka.tools.TopicCommand")?.is_none() {
        return Ok(());
    }
    with_broker(|endpoint| {
        let tools = Tools { endpoint };
        topics_and_settings(&tools)?;
        records(&tools)?;
        groups(&tools)?;
        transactions(&tools)?;
        access(&tools)?;
        tools.topics(&["--delete", "--topic", "tools"], &[])?;
        let listed = tools.run("org.apache.kafka.tools.TopicCommand", &["--list"])?;
        ensure!(!listed.lines().any(|line| line == "tools"), "{listed}");
        Ok(())
    })
}

fn topics_and_settings(tools: &Tools<'_>) -> anyhow::Result<()> {
    let created = "Created topic tools.";
    let config = "retention.ms=86400000";
    let topic = ["--topic", "tools", "--partitions", "2", "--config", config];
    tools.topics(&[&["--create"], &topic[..]].concat(), &[created])?;
    tools.topics(&["--describe", "--topic", "tools"], &["PartitionCount: 2", config, "Isr: "])?;
    tools.topics(&["--alter", "--topic", "tools", "--partitions", "3"], &[])?;
    tools.topics(&["--describe", "--topic", "tools"], &["PartitionCount: 3"])?;
    tools.topics(&["--list"], &["tools"])?;
    let entity = ["--entity-type", "topics", "--entity-name", "tools"];
    let with = |rest: &[&'static str]| [rest, &entity[..]].concat();
    let alter = with(&["--alter", "--add-config", "max.message.bytes=2000000"]);
    tools.configs(&alter, &["Completed updating config for topic tools."])?;
    let dynamic = ["max.message.bytes=2000000", "DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000"];
    tools.configs(&with(&["--describe"]), &dynamic)?;
    tools.configs(&with(&["--alter", "--delete-config", "max.message.bytes"]), &["Completed"])?;
    tools.configs(&with(&["--describe", "--all"]), &["max.message.bytes=1048588", "segment.bytes="])
}

fn access(tools: &Tools<'_>) -> anyhow::Result<()> {
    let class = "org.apache.kafka.tools.AclCommand";
    let bob = ["--topic", "tools", "--operation", "Read", "--allow-principal", "User:bob"];
    let told = "principal=User:bob, host=*, operation=READ, permissionType=ALLOW";
    tools.says(class, &[&["--add"], &bob[..]].concat(), &["Adding ACLs", told])?;
    tools.says(
        class,
        &["--list", "--topic", "tools"],
        &["resourceType=TOPIC, name=tools", told],
    )?;
    tools.says(class, &[&["--remove", "--force"], &bob[..]].concat(), &[])?;
    let left = tools.run(class, &["--list"])?;
    ensure!(!left.contains("User:bob"), "{left}");
    Ok(())
}

fn records(tools: &Tools<'_>) -> anyhow::Result<()> {
    let measured = [
        "--topic",
        "tools",
        "--num-records",
        "3000",
        "--record-size",
        "100",
        "--throughput",
        "-1",
        "--command-property",
        "acks=all",
    ];
    let performance = "org.apache.kafka.tools.ProducerPerformance";
    tools.says(performance, &measured, &["3000 records sent"])?;
    let ends = tools.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", "tools"])?;
    let end = |line: &str| line.rsplit(':').next().and_then(|it| it.parse::<u64>().ok());
    ensure!(ends.lines().filter_map(end).sum::<u64>() == 3000, "{ends}");
    tools.offsets(&["--topic", "tools", "--time", "earliest"], &["tools:0:0", "tools:2:0"])?;
    let verifiable = "org.apache.kafka.tools.VerifiableProducer";
    let arguments = ["--topic", "verified", "--max-messages", "500", "--acks", "-1"];
    tools.says(verifiable, &arguments, &["\"sent\":500", "\"acked\":500"])?;

    let file = tempfile::NamedTempFile::new()?;
    let before = r#"{"partitions":[{"topic":"verified","partition":0,"offset":100}],"version":1}"#;
    std::fs::write(file.path(), before)?;
    let path = file.path().to_str().context("a path in UTF-8")?;
    let delete = "org.apache.kafka.tools.DeleteRecordsCommand";
    tools.says(delete, &["--offset-json-file", path], &["low_watermark: 100"])?;
    tools.offsets(&["--topic", "verified", "--time", "-2"], &["verified:0:100"])?;
    let dirs = "org.apache.kafka.tools.LogDirsCommand";
    tools.says(dirs, &["--describe", "--topic-list", "verified"], &["\"partition\":\"verified-0\""])
}

/// Waits until the program has said `word`.
fn heard(running: &Running, word: &str) -> anyhow::Result<()> {
    for _ in 0..LINES_MAX {
        let line = running.line(PATIENCE)?.with_context(|| format!("ended without {word:?}"))?;
        if line.contains(word) {
            return Ok(());
        }
    }
    anyhow::bail!("{LINES_MAX} lines without {word:?}")
}

fn groups(tools: &Tools<'_>) -> anyhow::Result<()> {
    for protocol in ["classic", "consumer"] {
        let class = "org.apache.kafka.tools.VerifiableConsumer";
        let mut command = java(class)?.context("the tools were there a moment ago")?;
        command.args(["--bootstrap-server", tools.endpoint, "--topic", "verified"]);
        command.args(["--group-id", protocol, "--group-protocol", protocol]);
        command.args(["--reset-policy", "earliest"]);
        let consumer = Running::start(&command, None)?;
        heard(&consumer, "\"name\":\"partitions_assigned\"")?;
        heard(&consumer, "\"offset\":500")?;
        let group = ["--describe", "--group", protocol];
        tools.groups(&group, &["verified", "500"])?;
        tools.groups(&[&group[..], &["--state"]].concat(), &["Stable", " 1"])?;
        tools.groups(&[&group[..], &["--members"]].concat(), &["consumer-"])?;
        tools.groups(&["--list"], &[protocol])?;
        drop(consumer);
    }
    // Groups without members: their offsets move at an operator's word, then they go.
    let reset = ["--topic", "verified", "--to-offset", "200", "--execute"];
    let idle = ["--reset-offsets", "--group", "idle", "--group", "emptied"];
    tools.groups(&[&idle[..], &reset[..]].concat(), &["idle", "emptied", "verified", "200"])?;
    tools.groups(&["--describe", "--group", "idle", "--offsets"], &["200", "500", "300"])?;
    let delete = ["--delete-offsets", "--group", "emptied", "--topic", "verified"];
    tools.groups(&delete, &["Successful"])?;
    tools.groups(&["--delete", "--group", "idle"], &["was successful"])
}

fn transactions(tools: &Tools<'_>) -> anyhow::Result<()> {
    let measured = [
        "--topic",
        "tools",
        "--num-records",
        "100",
        "--record-size",
        "100",
        "--throughput",
        "-1",
        "--transactional-id",
        "measured",
        "--transaction-duration-ms",
        "1000",
    ];
    let performance = "org.apache.kafka.tools.ProducerPerformance";
    tools.says(performance, &measured, &["100 records sent"])?;
    let class = "org.apache.kafka.tools.TransactionsCommand";
    tools.says(class, &["list"], &["measured", "CompleteCommit"])?;
    let describe = ["describe", "--transactional-id", "measured"];
    tools.says(class, &describe, &["measured", "CompleteCommit"])?;
    let producers = ["describe-producers", "--topic", "verified", "--partition", "0"];
    tools.says(class, &producers, &["ProducerId"])
}
