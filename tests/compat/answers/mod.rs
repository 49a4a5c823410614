//! Our broker's answers beside Apache Kafka's, field by field.
//!
//! One script of requests, over every API in every version that both advertise, goes to a broker of
//! each kind. What differs and is not named in `tests/suites/answers.allow`, with the reason, fails;
//! so does a line there that no difference needs. `ANSWERS=path` writes all differences to a file.
//!
//! Shell.

mod compare;
mod line;
mod script;
mod steps;
mod tree;

use anyhow::{Context, ensure};
use harness::kafka::KafkaProcess;
use harness::process::BrokerProcess;
use protocol::api::versions::ApiVersionsResponse;
use protocol::api_key::ApiKey;

use compare::{Allowed, differences};
use script::{Answer, Common, Script, advertised};

/// The script's records are dated long ago.
const KEPT: &str = "log.retention.ms=-1";

/// Entries of access control can be kept only where they are heeded.
const AUTHORIZER: &str =
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// The script may do everything, as everybody may without an authorizer.
const SUPER_USER: &str = "super.users=User:ANONYMOUS";

/// What our broker is told: among it what `harness::kafka` tells Kafka.
const SETTINGS: [&str; 9] = [
    KEPT,
    AUTHORIZER,
    SUPER_USER,
    "node.id=1",
    "offsets.topic.replication.factor=1",
    "transaction.state.log.replication.factor=1",
    "offsets.topic.num.partitions=4",
    "transaction.state.log.num.partitions=4",
    "group.initial.rebalance.delay.ms=0",
];

/// What Kafka is told alone: its coordinator assigns at once, as ours does.
const KAFKA_SETTINGS: [&str; 5] = [
    KEPT,
    AUTHORIZER,
    SUPER_USER,
    "group.consumer.min.assignment.interval.ms=0",
    "group.consumer.assignment.interval.ms=0",
];

const ALLOWED: &str = include_str!("../../suites/answers.allow");

#[test]
fn every_field_of_every_answer_is_apache_kafkas_or_differs_for_a_reason() -> anyhow::Result<()> {
    let Some(kafka) = KafkaProcess::start(&KAFKA_SETTINGS)? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let own = BrokerProcess::start(dir.path(), &SETTINGS)?;
    let endpoint = kafka.endpoint();
    let common = common(&advertised(endpoint)?, &advertised(own.endpoint())?);
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(endpoint, &common).context("Apache Kafka"));
        (theirs.join(), run(own.endpoint(), &common).context("our broker"))
    });
    let theirs = theirs.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let ours = ours?;
    covers(&theirs, &common)?;
    let found = differences(&theirs, &ours)?;
    if let Some(path) = std::env::var_os("ANSWERS") {
        std::fs::write(path, found.join("\n"))?;
    }
    let mut allowed = Allowed::parse(ALLOWED)?;
    let unexplained: Vec<_> = found.iter().filter(|it| !allowed.has(it)).cloned().collect();
    let idle = allowed.idle();
    println!("{} answers, {} differences", theirs.len(), found.len());
    ensure!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
    ensure!(idle.is_empty(), "reasons without a difference:\n{}", idle.join("\n"));
    own.stop()
}

fn run(endpoint: &str, common: &Common) -> anyhow::Result<Vec<Answer>> {
    let mut script = Script::new(endpoint, common.clone())?;
    let asked = steps::all(&mut script);
    asked.with_context(|| format!("after {}", script.last()))?;
    Ok(script.answers())
}

/// The versions that both advertise and we speak.
fn common(theirs: &ApiVersionsResponse, ours: &ApiVersionsResponse) -> Common {
    let both = theirs.api_keys.iter().filter_map(|theirs| {
        let own = ours.api_keys.iter().find(|it| it.api_key == theirs.api_key)?;
        let first = *ApiKey::from_wire(own.api_key)?.versions().start();
        let first = first.max(own.min_version).max(theirs.min_version);
        Some((own.api_key, first..=own.max_version.min(theirs.max_version)))
    });
    both.collect()
}

/// Checks that each API was asked for in every version that both advertise.
fn covers(answers: &[Answer], common: &Common) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for (&key, versions) in common {
        let api = ApiKey::from_wire(key).context("what we advertise has a name")?;
        for version in versions.clone() {
            if !answers.iter().any(|it| it.api == api.name() && it.version == version) {
                missing.push(format!("{api} v{version}"));
            }
        }
    }
    ensure!(missing.is_empty(), "nothing was asked by {}", missing.join(", "));
    Ok(())
}
