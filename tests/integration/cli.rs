//! The commands of the binary against our broker, each in a process of its own: what they print,
//! what they refuse, and with which code they end.
//!
//! Shell.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use harness::process::{BrokerProcess, Signal, binary, signal};
use serde_json::Value;

/// A broker of its own, and the commands that talk to it.
struct World {
    broker: BrokerProcess,
    _dir: tempfile::TempDir,
}

/// What a command said, and its code.
struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl World {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut all = vec!["group.initial.rebalance.delay.ms=0"];
        all.extend(settings);
        let broker = BrokerProcess::start(dir.path(), &all).unwrap();
        Self { broker, _dir: dir }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(binary("millstream").unwrap());
        command.args(arguments.split_whitespace());
        command.env("MILLSTREAM_BOOTSTRAP", self.broker.endpoint());
        command
    }

    /// Runs a command; `input` is its stdin.
    fn run(&self, arguments: &str, input: &str) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads no input may end before it was written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// What a command that must succeed prints.
    fn ok(&self, arguments: &str) -> String {
        let said = self.run(arguments, "");
        assert_eq!(said.code, 0, "{arguments}: {}\n{}", said.out, said.err);
        said.out
    }

    fn json(&self, arguments: &str) -> Value {
        let said = self.run(&format!("{arguments} --output json"), "");
        assert_eq!(said.code, 0, "{arguments}: {}\n{}", said.out, said.err);
        said.json()
    }

    /// What a command that must end with `code` says on stderr.
    fn refused(&self, arguments: &str, code: i32) -> String {
        let said = self.run(arguments, "");
        assert_eq!(said.code, code, "{arguments}: {}\n{}", said.out, said.err);
        said.err
    }

    fn produce(&self, arguments: &str, lines: &str) {
        let said = self.run(&format!("produce {arguments}"), lines);
        assert_eq!(said.code, 0, "{}", said.err);
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn topics_are_created_listed_described_grown_and_deleted() {
    let world = World::start();
    let created =
        world.ok("topic create orders lines --partitions 2 --config retention.ms=3600000");
    has(&created, &["topic orders: created", "topic lines: created"]);
    assert_eq!(world.ok("topic list"), "lines\norders\n");
    let described = world.ok("topic describe orders");
    has(&described, &["partitions 2", "retention.ms=3600000", "PARTITION  LEADER"]);
    let json = world.json("topic describe orders");
    assert_eq!(json[0]["partition_count"], 2);
    assert_eq!(json[0]["configs"]["retention.ms"], "3600000");
    assert_eq!(json[0]["partitions"][1]["in_sync_replicas"], serde_json::json!([1]));
    assert_eq!(world.ok("topic describe --unavailable-partitions"), "");

    has(&world.refused("topic create orders", 1), &["TopicAlreadyExists", "--if-not-exists"]);
    has(&world.ok("topic create orders --if-not-exists"), &["exists already"]);
    has(&world.ok("topic create other --dry-run"), &["would be created"]);
    assert_eq!(world.ok("topic list"), "lines\norders\n");
    has(&world.refused("topic create bad/name", 1), &["InvalidTopicException"]);
    has(&world.refused("topic create new --config retention.sm=1", 1), &["InvalidConfig"]);
    has(&world.refused("topic create new --config retention.ms", 2), &["KEY=VALUE"]);
    has(&world.refused("topic create new --partitions 0", 2), &["--partitions"]);

    has(&world.ok("topic alter orders --partitions 3"), &["3 partitions, before 2"]);
    has(&world.refused("topic alter orders --partitions 3", 2), &["cannot shrink"]);
    has(&world.refused("topic describe ordres", 1), &["does not exist", "did you mean orders?"]);
    has(&world.refused("topic delete odrers", 1), &["did you mean orders?"]);
    has(&world.ok("topic delete orders"), &["topic orders: deleted"]);
    has(&world.ok("topic delete orders --if-exists"), &["does not exist"]);
    assert_eq!(world.ok("topic list"), "lines\n");
}

#[test]
fn what_is_produced_is_consumed_with_keys_headers_and_places() {
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    world.produce("orders --key-separator :", "a:one\nb:two\n");
    world.produce("orders --header source=test --compression zstd --acks 1", "three\n");
    world.produce("orders --null-marker NULL --key-separator :", "a:NULL\n");
    let consume = "consume orders --from-beginning --exit-at-end";
    assert_eq!(world.ok(consume), "one\ntwo\nthree\nnull\n");
    let keyed = world.ok(&format!("{consume} --format key-value --key-separator ="));
    assert_eq!(keyed, "a=one\nb=two\nnull=three\na=null\n");
    assert_eq!(world.ok("consume orders --offset 1 --max-messages 2"), "two\nthree\n");
    assert_eq!(world.ok("consume orders --offset -1 -e"), "null\n");
    assert_eq!(world.ok("consume orders --offset latest --timeout 300ms"), "");
    assert_eq!(world.ok("consume orders --offset 2000-01-01 -n 1"), "one\n");
    let json = world.ok(&format!("{consume} --format json"));
    let third: Value = serde_json::from_str(json.lines().nth(2).unwrap()).unwrap();
    assert_eq!((&third["offset"], &third["partition"]), (&2.into(), &0.into()));
    assert_eq!(third["headers"][0]["key"], "source");
    // What is printed as JSON can be produced again.
    world.ok("topic create copies --partitions 1");
    world.produce("copies --json", &json);
    let copy = world.ok("consume copies --from-beginning --exit-at-end --format key-value");
    assert_eq!(copy, "a\tone\nb\ttwo\nnull\tthree\na\tnull\n");
}

#[test]
fn lines_that_are_no_records_and_topics_that_are_none_are_refused() {
    let world = World::with(&["auto.create.topics.enable=false"]);
    world.ok("topic create orders");
    let said = world.run("produce orders --key-separator :", "a:one\ntwo\n");
    assert_eq!(said.code, 1);
    has(&said.err, &["line 2: no key", "1 record written to orders"]);
    assert_eq!(world.ok("consume orders --from-beginning -e"), "one\n");
    let said = world.run("produce orders --json", "{\"value\": \"v\"}\nnot json\n");
    assert_eq!(said.code, 1);
    has(&said.err, &["line 2: not a JSON object"]);
    let said = world.run("produce ordres --property max.block.ms=2000", "one\n");
    assert_eq!(said.code, 1);
    has(&world.refused("consume ordres", 1), &["did you mean orders?"]);
    has(&world.refused("consume orders --partition 7", 1), &["has no partition 7"]);
    has(&world.refused("consume orders --offset soon", 2), &["expected an offset"]);
    has(&world.refused("produce orders --acks 2", 2), &["--acks"]);
    let contradiction = "produce orders --acks 1 --idempotent true";
    has(&world.refused(contradiction, 2), &["enable.idempotence", "acks=all"]);
    has(&world.refused("produce orders --property lingre.ms=1", 2), &["did you mean linger.ms?"]);
}

#[test]
fn offsets_are_told_by_end_and_by_time_and_records_deleted_only_when_told_to() {
    let world = World::start();
    world.ok("topic create orders --partitions 2");
    world.produce("orders --partition 1", "one\ntwo\nthree\n");
    let offsets = world.json("topic offsets orders");
    assert_eq!((&offsets[0]["end"], &offsets[1]["end"]), (&0.into(), &3.into()));
    let newest = world.json("topic offsets orders --time max-timestamp --partition 1");
    assert!(newest[0]["timestamp"].as_i64().unwrap() > 1_600_000_000_000, "{newest}");
    let future = world.json("topic offsets orders --time 2100-01-01T00:00:00Z");
    assert_eq!(future[0]["offset"], Value::Null);
    has(&world.refused("topic offsets orders --time noon", 2), &["expected a moment"]);
    has(&world.refused("topic offsets orders --partition 2", 1), &["no partition 2"]);

    has(&world.ok("topic delete-records orders --before 2 --partition 1"), &["add --execute"]);
    assert_eq!(world.json("topic offsets orders")[1]["start"], 0);
    let delete = "topic delete-records orders --partition 1 --execute --before";
    has(&world.ok(&format!("{delete} 2")), &["orders-1: begins at 2"]);
    has(&world.refused(&format!("{delete} 9"), 1), &["OffsetOutOfRange"]);
    has(&world.ok(&format!("{delete} latest")), &["begins at 3"]);
}

#[test]
fn a_topic_is_explained_with_sources_and_reasons() {
    let world = World::with(&["log.retention.hours=1", "log.segment.bytes=1048576"]);
    world.ok("topic create orders --partitions 1 --config segment.ms=60000");
    world.produce("orders", "one\ntwo\n");
    let text = world.ok("topic explain orders");
    has(
        &text,
        &["segment.ms", "DYNAMIC_TOPIC_CONFIG", "STATIC_BROKER_CONFIG", "log.segment.bytes"],
    );
    has(&text, &["orders-0\n", "retention.ms keeps 1h"]);
    let json = world.json("topic explain orders");
    let partition = &json["partitions"][0];
    assert_eq!(partition["high_watermark"], 2);
    assert!(partition["size"].as_u64().unwrap() > 0, "{json}");
    assert!(partition["oldest_timestamp"].is_i64(), "{json}");

    world.produce("orders --json", "{\"value\":\"old\",\"timestamp\":1000000000000}\n");
    world.ok("topic create states --partitions 1 --config cleanup.policy=compact");
    world.produce("states --key-separator :", "a:one\n");
    has(&world.ok("topic explain states"), &["cleanup.policy=compact", "never compacted"]);
    world.ok("topic create empty");
    has(&world.ok("topic explain empty"), &["there are no records"]);
    has(&world.refused("topic explain emty", 1), &["did you mean empty?"]);
}

#[test]
fn groups_are_listed_described_moved_and_deleted() {
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    world.produce("orders", "one\ntwo\nthree\nfour\n");
    let consume = "consume orders --group readers --from-beginning";
    assert_eq!(world.ok(&format!("{consume} --max-messages 3")), "one\ntwo\nthree\n");
    // What was printed was committed, though more had been fetched.
    let offsets = world.json("group describe readers");
    assert_eq!((&offsets[0]["current_offset"], &offsets[0]["lag"]), (&3.into(), &1.into()));
    assert_eq!(world.ok(&format!("{consume} -n 1")), "four\n");
    let listed = world.json("group list");
    assert_eq!((&listed[0]["group"], &listed[0]["state"]), (&"readers".into(), &"Empty".into()));
    assert_eq!(world.json("group list --state Stable"), serde_json::json!([]));
    has(&world.ok("group describe readers --state"), &["Empty", world.broker.endpoint()]);
    has(&world.ok("group describe --all-groups --members"), &["CONSUMER-ID"]);

    let reset = "group reset-offsets readers --topic orders";
    let said = world.run(&format!("{reset} --to-offset 2"), "");
    has(&said.err, &["--execute"]);
    assert_eq!(world.json("group describe readers")[0]["current_offset"], 4);
    for (to, want) in [
        ("--to-offset 2", 2),
        ("--shift-by -1", 1),
        ("--shift-by 100", 4),
        ("--to-earliest", 0),
        ("--to-latest", 4),
        ("--to-datetime 2000-01-01", 0),
        ("--by-duration 0ms", 4),
    ] {
        let moved = world.json(&format!("{reset} {to} --execute"));
        assert_eq!(moved[0]["new_offset"], want, "{to}");
        assert_eq!(world.json("group describe readers")[0]["current_offset"], want, "{to}");
    }
    has(&world.refused(reset, 2), &["--to-earliest"]);
    has(&world.refused(&format!("{reset} --to-latest --to-earliest"), 2), &["cannot be used"]);
    let shift = "group reset-offsets nobody --topic orders --shift-by 1";
    has(&world.refused(shift, 2), &["has committed nothing of orders-0"]);
    has(&world.refused("group reset-offsets readrs --all-topics --to-latest", 1), &["readers?"]);

    has(&world.ok("group delete-offsets readers --topic orders"), &["orders-0: offset deleted"]);
    has(&world.refused("group describe readrs", 1), &["did you mean readers?"]);
    has(&world.refused("group delete readrs", 1), &["did you mean readers?"]);
    has(&world.ok("group delete readers"), &["group readers: deleted"]);
    assert_eq!(world.json("group list"), serde_json::json!([]));
}

#[test]
fn a_member_that_is_interrupted_commits_and_leaves_at_once() -> anyhow::Result<()> {
    use std::io::{BufRead, BufReader};
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    world.produce("orders", "one\ntwo\n");
    let mut member = world.command("consume orders --group readers --from-beginning");
    let mut child = member.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    assert_eq!(lines.next().context("a line")??, "one");
    assert_eq!(lines.next().context("a line")??, "two");
    let described = world.json("group describe readers --members");
    assert_eq!(described[0]["assignment"], serde_json::json!(["orders-0"]));
    let reset = "group reset-offsets readers --topic orders --to-earliest --execute";
    has(&world.refused(reset, 1), &["has 1 members", "--members"]);
    has(&world.refused("group delete readers", 1), &["NonEmptyGroup"]);
    signal(&child, Signal::INT)?;
    let status = child.wait()?;
    ensure!(status.success(), "the member ended with {status}");
    assert_eq!(world.json("group list")[0]["state"], "Empty");
    assert_eq!(world.json("group describe readers")[0]["current_offset"], 2);
    Ok(())
}

#[test]
fn settings_are_described_with_sources_and_altered_one_by_one() {
    let world = World::with(&["log.retention.hours=24"]);
    world.ok("topic create orders");
    has(&world.ok("config describe topic orders"), &["retention.ms", "STATIC_BROKER_CONFIG"]);
    let alter = "config alter topic orders";
    has(&world.ok(&format!("{alter} --set retention.ms=1000 --dry-run")), &["would be"]);
    world.ok(&format!("{alter} --set retention.ms=1000 --set segment.bytes=1048576"));
    world.ok(&format!("{alter} --append cleanup.policy=compact --delete segment.bytes"));
    let json = world.json("config describe topic orders");
    let value = |name: &str| {
        let mut entries = json.as_array().unwrap().iter();
        entries.find(|it| it["name"] == name).map(|it| it["value"].clone())
    };
    assert_eq!(value("retention.ms"), Some("1000".into()));
    assert_eq!(value("cleanup.policy"), Some("delete,compact".into()));
    assert_eq!(value("segment.bytes"), None);
    let typo = world.refused(&format!("{alter} --set retention.sm=1"), 1);
    has(&typo, &["did you mean retention.ms?"]);
    has(&world.refused(&format!("{alter} --set retention.ms=soon"), 1), &["retention.ms"]);
    has(&world.refused(alter, 2), &["nothing to alter"]);
    has(&world.refused("config alter topic ordres --set retention.ms=1", 1), &["orders?"]);
    has(&world.refused("config describe topic ordres", 1), &["did you mean orders?"]);
    has(&world.refused("config describe shelf orders", 2), &["topic"]);

    let broker = world.ok("config describe broker 1 --all --documentation");
    has(&broker, &["log.retention.hours", "24"]);
    has(&world.refused("config describe broker 9", 1), &["broker 9", "cluster describe"]);
    has(&world.refused("config describe broker one", 2), &["expected a broker's id"]);
}

#[test]
fn the_cluster_its_quorum_and_its_directories_are_described() {
    let world = World::start();
    world.ok("topic create orders --partitions 2");
    world.produce("orders --partition 0", "one\n");
    let cluster = world.json("cluster describe");
    assert_eq!(cluster["brokers"][0]["broker"], 1);
    assert!(cluster["cluster_id"].is_string());
    has(&world.ok("cluster api-versions"), &["ApiVersions", "Produce"]);
    has(&world.ok("cluster features"), &["transaction.version"]);
    let dirs = world.json("log-dir describe --topic orders:0");
    assert_eq!(dirs[0]["log_dirs"][0]["partitions"][0]["topic"], "orders");
    has(&world.ok("log-dir describe --summary"), &["online", "DISK-FREE"]);
    has(&world.refused("log-dir describe --topic orders:5", 1), &["no partition 5"]);
    has(&world.refused("log-dir describe --broker 9", 1), &["broker 9"]);
}

#[test]
fn who_is_not_there_is_told_at_once_and_how_to_start_one() {
    let command = |arguments: &str| {
        let mut command = Command::new(binary("millstream").unwrap());
        command.args(arguments.split_whitespace()).env_remove("MILLSTREAM_BOOTSTRAP");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said, String::from_utf8(output.stdout).unwrap())
    };
    // Port 1 of this machine is nobody's.
    let (code, said, _) = command("topic list --bootstrap-server 127.0.0.1:1");
    assert_eq!(code, Some(1));
    has(&said, &["no broker answers at 127.0.0.1:1", "refused", "millstream broker"]);
    let (code, said, _) = command("topic list --bootstrap-server nowhere");
    assert_eq!(code, Some(2));
    has(&said, &["expected host:port"]);
    let (code, said, _) = command("topic list --sasl-username ada");
    assert_eq!(code, Some(2));
    has(&said, &["MILLSTREAM_SASL_PASSWORD"]);
    let (code, said, _) = command("topc list");
    assert_eq!(code, Some(2));
    has(&said, &["topic"]);
    let (code, said, _) = command("topic list --request-timeout never");
    assert_eq!(code, Some(2));
    has(&said, &["expected a duration"]);
    for shell in ["bash", "zsh", "fish"] {
        let (code, _, completions) = command(&format!("completions {shell}"));
        assert_eq!(code, Some(0));
        has(&completions, &["millstream", "reset-offsets"]);
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() -> anyhow::Result<()> {
    use std::io::{BufRead, BufReader};
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    world.produce("orders", &"a line that fills the pipe\n".repeat(20_000));
    let mut reader = world.command("consume orders --from-beginning --exit-at-end");
    let mut child = reader.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(())
}

#[test]
fn a_broker_reads_its_settings_from_a_file_and_says_how_to_connect() -> anyhow::Result<()> {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir()?;
    let start = |name: &str, text: &str, more: &[&str]| -> anyhow::Result<Command> {
        let path = dir.path().join(name);
        std::fs::write(&path, text)?;
        let mut command = Command::new(binary("millstream")?);
        command.arg("broker").arg("--config").arg(path).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    };
    let data = dir.path().join("data").display().to_string();
    let text = format!(
        "cluster.id = \"mill\"\nlog.dirs = \"{data}\"\nlisteners = [\"PLAINTEXT://127.0.0.1:0\"]\nnum.partitions = 3\n"
    );
    let more = ["--set", "num.partitions=5", "--log-format", "json"];
    let mut child = start("broker.toml", &text, &more)?.spawn()?;
    let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let greeting: Vec<String> = lines.take(6).collect::<Result<_, _>>()?;
    let endpoint = greeting[0].strip_prefix("broker started: ").context("where it listens")?;
    has(&greeting.join("\n"), &["version", "mill", &data, "--bootstrap-server"]);
    let mut described = Command::new(binary("millstream")?);
    described.args(["config", "describe", "broker", "1", "--output", "json"]);
    let described = described.args(["--bootstrap-server", endpoint]).output()?;
    has(&String::from_utf8(described.stdout)?, &["\"num.partitions\"", "\"5\""]);
    signal(&child, Signal::TERM)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the broker ended with {}", output.status);
    let logs = String::from_utf8(output.stderr)?;
    for line in logs.lines() {
        let log: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(log["level"].is_string(), "{line}");
    }

    let refused = start("server.properties", "num.partitons=3\nnode.id=x\n", &[])?.output()?;
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr)?;
    has(&said, &["did you mean num.partitions?", "node.id: \"x\" is not accepted"]);
    let missing = start("server.properties", "=3\n", &[])?.output()?;
    assert_eq!(missing.status.code(), Some(2));
    has(&String::from_utf8(missing.stderr)?, &["server.properties", "line 1"]);
    Ok(())
}

#[test]
fn the_quorum_and_transactions_are_told() {
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    let quorum = world.json("quorum status");
    assert_eq!(quorum["leader_id"], 1);
    has(&world.ok("quorum replication"), &["Leader", "LOG-END-OFFSET"]);
    assert_eq!(world.json("txn list"), serde_json::json!([]));
    assert_eq!(world.json("txn find-hanging"), serde_json::json!([]));
    world.produce("orders", "one\n");
    let producers = world.json("txn describe-producers orders");
    assert_eq!(producers[0]["last_sequence"], 0);
    assert_eq!(producers[0]["txn_start_offset"], Value::Null);
    has(&world.refused("txn describe nobody", 1), &["transactional id nobody", "txn list"]);
    has(&world.refused("txn force-terminate nobody", 1), &["transactional id nobody"]);
    let abort = "txn abort --topic orders --partition 0";
    has(&world.refused(abort, 2), &["--start-offset"]);
    has(&world.refused(&format!("{abort} --start-offset 0"), 1), &["none is open"]);
    has(&world.refused("txn list --longer-than ever", 2), &["expected a duration"]);
}

#[test]
fn leaders_reassignments_and_features_are_asked_of_the_controller() {
    let world = World::start();
    world.ok("topic create orders --partitions 2");
    has(&world.ok("cluster elect-leaders --topic orders"), &["has that leader already"]);
    assert_eq!(world.json("cluster reassignments"), serde_json::json!([]));
    has(&world.refused("cluster reassign orders --replicas 9", 1), &["InvalidReplicaAssignment"]);
    has(&world.refused("cluster reassign orders", 2), &["--replicas"]);
    let update = "cluster update-features --feature";
    has(&world.refused(&format!("{update} no.such=1"), 1), &["no.such"]);
    has(&world.refused(&format!("{update} transaction.version=two"), 2), &["expected a level"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_found_explained_and_ended() -> anyhow::Result<()> {
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    let bootstrap = client::Bootstrap::tcp(world.broker.endpoint())?;
    let config = client::ProducerConfig::parse([("transactional.id", "mover")])?;
    let mut producer = client::Producer::connect(bootstrap, config).await?;
    producer.init_transactions().await?;
    producer.partition_count("orders").await?;
    let mut open = async || -> anyhow::Result<()> {
        producer.begin()?;
        let now = producer.now().wall;
        producer.append("orders", Some(0), now, None, Some(b"value"), &[])?;
        Ok(producer.flush().await?)
    };
    open().await?;
    let listed = world.json("txn list --state Ongoing --pattern mov.*");
    assert_eq!(listed[0]["transactional_id"], "mover");
    assert_eq!(world.json("txn list --longer-than 1h"), serde_json::json!([]));
    has(&world.refused("txn list --state Waiting", 1), &["Waiting"]);
    let described = world.json("txn describe mover");
    assert_eq!(described[0]["partitions"], serde_json::json!(["orders-0"]));
    has(&world.refused("txn describe mvoer", 1), &["did you mean mover?"]);
    has(&world.ok("topic explain orders"), &["has a transaction open since offset 0"]);
    let committed = "consume orders --from-beginning -e --isolation read_committed";
    assert_eq!(world.ok(committed), "");
    assert_eq!(world.ok("consume orders --from-beginning -e"), "value\n");
    // It is open, and old enough, but its coordinator knows of it.
    let hanging = world.json("txn find-hanging --max-transaction-timeout 0ms");
    assert_eq!(hanging, serde_json::json!([]));

    let abort = "txn abort --topic orders --partition 0 --start-offset";
    has(&world.refused(&format!("{abort} 7"), 1), &["open ones begin at 0"]);
    has(&world.ok(&format!("{abort} 0")), &["orders-0: transaction of producer", "aborted"]);
    assert_eq!(
        world.json("topic explain orders")["partitions"][0]["open_transactions"],
        serde_json::json!([])
    );
    has(&world.ok("txn force-terminate mover"), &["mover: terminated"]);
    assert!(open().await.is_err(), "a producer that was fenced goes on");
    assert_eq!(world.ok(committed), "");
    Ok(())
}

#[test]
fn quotas_are_altered_and_described_for_clients_and_defaults() {
    let world = World::start();
    let alter = "quota alter --client-id mill";
    has(&world.ok(&format!("{alter} --set producer_byte_rate=1048576")), &["set to 1048576"]);
    world.ok("quota alter --client-id default --set consumer_byte_rate=5");
    world.ok("config alter client mill --set request_percentage=50");
    let described = world.json("quota describe --client-id mill");
    let values: Vec<_> = described.as_array().unwrap().iter().map(|it| &it["value"]).collect();
    assert_eq!(values, [&Value::from(1_048_576.0), &Value::from(50.0)]);
    has(&world.ok("config describe client default"), &["<default>", "consumer_byte_rate"]);
    world.ok(&format!("{alter} --delete producer_byte_rate --delete request_percentage"));
    assert_eq!(world.json("quota describe --client-id mill"), serde_json::json!([]));
    has(&world.refused(&format!("{alter} --set producer_byte_rate=fast"), 2), &["a number"]);
    has(&world.refused(&format!("{alter} --set no_such_rate=1"), 1), &["no_such_rate"]);
    has(&world.refused("quota alter --set producer_byte_rate=1", 2), &["whose quotas"]);
    has(&world.refused(alter, 2), &["nothing to alter"]);
}

#[test]
fn members_are_removed_by_name_or_all_at_once() -> anyhow::Result<()> {
    use std::io::{BufRead, BufReader};
    let world = World::start();
    world.ok("topic create orders --partitions 1");
    world.produce("orders", "one\n");
    let mut member = world.command("consume orders --group readers --from-beginning");
    let mut child = member.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
    assert_eq!(line, "one\n");
    let remove = "group remove-members readers";
    has(&world.refused(remove, 2), &["--member, --instance or --all"]);
    has(&world.refused(&format!("{remove} --member nobody"), 1), &["UnknownMemberId", "nobody"]);
    has(&world.refused("group remove-members readrs --all", 1), &["did you mean readers?"]);
    has(&world.ok(&format!("{remove} --all --reason test")), &[": removed"]);
    child.kill()?;
    child.wait()?;
    Ok(())
}
