//! What an operator says of a connector, beside the connector's own settings.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `name` | – | the connector's name: of its offsets, its group, its transactions |
//! | `connector` | – | which connector of the registry |
//! | `tasks` | 1 | tasks at most; a connector may allow fewer |
//! | `topics` | – | sinks: what to read |
//! | `flush_interval_ms` | 1000 | sinks: how often what is due is made durable, and offsets are committed |
//! | `commit_interval_ms` | 200 | sources: a transaction is committed when it is so old |
//! | `transaction_bytes` | 8 MiB | sources: or when it has so much |
//! | `retry.backoff_ms`, `retry.backoff_max_ms` | 300, 60000 | between attempts, and between restarts; doubling |
//! | `retry.restart` | `on-failure` | or `never`: a failed task stays failed |
//! | `errors.tolerance` | `none` | `all`: records that a sink cannot take are passed over, not fatal |
//! | `errors.max_per_minute` | – | more than so many fail the task nevertheless |
//! | `errors.dead_letter_topic` | – | where such records go; implies `tolerance = "all"` |
//!
//! A configuration is whole or refused, with all errors at once. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::bootstrap::Bootstrap;

use crate::registry::Registry;
use crate::sdk::{Config, ConfigError, ConfigErrors, Connector, Reader};

/// What a worker needs to know of the world.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// How to reach the cluster.
    pub bootstrap: Bootstrap,
    /// Where source offsets are kept; created if missing, compacted.
    pub offsets_topic: Arc<str>,
    /// Its partitions, if it is created.
    pub offsets_partitions: i32,
    /// Replicas of topics that the worker creates. `-1`: as the broker has it.
    pub replication_factor: i16,
}

impl WorkerConfig {
    /// Kafka Connect's defaults, over `bootstrap`.
    #[must_use]
    pub fn new(bootstrap: Bootstrap) -> Self {
        Self {
            bootstrap,
            offsets_topic: "connect-offsets".into(),
            offsets_partitions: 25,
            replication_factor: -1,
        }
    }
}

/// Whether a failed task is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// After a wait that doubles.
    OnFailure,
    /// It stays failed, for an operator to see.
    Never,
}

/// Waits between attempts, and what follows the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first wait.
    pub backoff: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// Whether a failed task is started again.
    pub restart: Restart,
}

/// What to do with a record that a sink cannot take. KIP-298.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The task fails.
    Fail,
    /// It is counted and passed over.
    Skip,
    /// It is written to this topic.
    DeadLetter(Arc<str>),
}

/// How many bad records are borne, and how. KIP-298.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorsConfig {
    /// What to do with one.
    pub on_bad_record: OnBadRecord,
    /// More in one minute fail the task. `None`: no bound.
    pub per_minute_max: Option<u32>,
}

/// A connector as configured.
pub struct ConnectorConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Tasks to run, as many as the connector allows.
    pub task_count: usize,
    /// What a sink reads; empty for sources.
    pub topics: BTreeSet<Arc<str>>,
    /// Sinks: how often to flush and commit.
    pub flush_interval: Duration,
    /// Sources: how old a transaction gets.
    pub commit_interval: Duration,
    /// Sources: how large a transaction gets; a batch may exceed it once.
    pub transaction_bytes: usize,
    /// Retries and restarts.
    pub retry: RetryConfig,
    /// Bad records.
    pub errors: ErrorsConfig,
    /// The connector with its own settings.
    pub connector: Connector,
}

impl ConnectorConfig {
    /// Reads `config` whole.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(config: &Config, registry: &Registry) -> Result<Self, ConfigErrors> {
        let mut reader = config.reader();
        let name: String = reader.required("name", "the connector's name");
        let kind: String = reader.required("connector", "the name of a connector of the registry");
        let tasks_max = reader.within("tasks", 1, 1..=1000);
        let topics: BTreeSet<Arc<str>> = reader
            .or("topics", Vec::<String>::new(), "a list of topics")
            .into_iter()
            .map(Into::into)
            .collect();
        let milliseconds = |reader: &mut Reader, key: &str, default: u64| {
            Duration::from_millis(reader.within(key, default, 1..=86_400_000))
        };
        let flush_interval = milliseconds(&mut reader, "flush_interval_ms", 1000);
        let commit_interval = milliseconds(&mut reader, "commit_interval_ms", 200);
        let transaction_bytes =
            reader.within("transaction_bytes", 8 * 1024 * 1024, 1..=256 * 1024 * 1024);
        let retry = reader.table("retry", |table| RetryConfig {
            backoff: milliseconds(table, "backoff_ms", 300),
            backoff_max: milliseconds(table, "backoff_max_ms", 60_000),
            restart: if one_of(table, "restart", ["on-failure", "never"]) == 0 {
                Restart::OnFailure
            } else {
                Restart::Never
            },
        });
        let errors = reader.table("errors", errors);
        let connector = match registry.constructor(&kind) {
            Ok(constructor) => constructor(&mut reader)?,
            Err(unknown) => {
                if !kind.is_empty() {
                    reader.reject("connector", "a connector of the registry", &unknown.to_string());
                }
                // The connector's own keys are unknown as long as it is.
                return Err(reader.errors());
            }
        };
        let tasks_max_allowed = match &connector {
            Connector::Source(source) => {
                if !topics.is_empty() {
                    reader.reject("topics", "nothing: this is a source", "topics");
                }
                source.tasks_max()
            }
            Connector::Sink(sink) => {
                if topics.is_empty() {
                    reader.reject("topics", "at least one topic: this is a sink", "none");
                }
                sink.tasks_max()
            }
        };
        reader.finish()?;
        Ok(Self {
            name: name.into(),
            task_count: tasks_max.min(tasks_max_allowed).max(1),
            topics,
            flush_interval,
            commit_interval,
            transaction_bytes,
            retry,
            errors,
            connector,
        })
    }

    /// Reads all of `configs`, which may not have a name in common.
    ///
    /// # Errors
    /// All that is wrong with any.
    pub fn read_all(configs: &[Config], registry: &Registry) -> Result<Vec<Self>, ConfigErrors> {
        let mut errors = Vec::new();
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for config in configs {
            match Self::read(config, registry) {
                Ok(connector) => {
                    if !names.insert(Arc::clone(&connector.name)) {
                        errors.push(ConfigError::Wrong {
                            origin: config.origin().to_owned(),
                            key: "name".to_owned(),
                            expected: "a name that no other connector has".to_owned(),
                            found: format!("`{}` again", connector.name),
                        });
                    }
                    read.push(connector);
                }
                Err(ConfigErrors(more)) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(read) } else { Err(ConfigErrors(errors)) }
    }
}

fn errors(table: &mut Reader) -> ErrorsConfig {
    let tolerates_all = one_of(table, "tolerance", ["none", "all"]) == 1;
    let per_minute_max = table.optional("max_per_minute", "a number");
    let on_bad_record = match table.optional::<String>("dead_letter_topic", "a topic's name") {
        Some(topic) => OnBadRecord::DeadLetter(topic.into()),
        None if tolerates_all => OnBadRecord::Skip,
        None => OnBadRecord::Fail,
    };
    ErrorsConfig { on_bad_record, per_minute_max }
}

/// Which of two words `key` has; the first if it is not given.
fn one_of(reader: &mut Reader, key: &str, words: [&str; 2]) -> usize {
    let expected = format!("`{}` or `{}`", words[0], words[1]);
    let given = reader.or(key, words[0].to_owned(), &expected);
    words.iter().position(|word| *word == given).unwrap_or_else(|| {
        reader.reject(key, &expected, &format!("`{given}`"));
        0
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::sdk::{SourceConnector, SourceTask, TaskContext};

    struct Nothing;

    impl SourceConnector for Nothing {
        fn task(&self, _: TaskContext) -> Box<dyn SourceTask> {
            unreachable!("only configured")
        }
    }

    fn check(texts: &[&str], want: &Expect) {
        let registry = Registry::default().with("nothing", |reader| {
            let _: String = reader.required("from", "where from");
            reader.finish()?;
            Ok(Connector::Source(Box::new(Nothing)))
        });
        let configs: Vec<Config> = texts
            .iter()
            .zip('a'..)
            .map(|(text, file)| Config::parse(format!("{file}.toml"), text).unwrap())
            .collect();
        let said = match ConnectorConfig::read_all(&configs, &registry) {
            Ok(connectors) => connectors
                .iter()
                .map(|it| {
                    format!(
                        "{} {} {:?} {:?}\n",
                        it.name, it.task_count, it.retry.restart, it.errors
                    )
                })
                .collect(),
            Err(errors) => errors.to_string(),
        };
        want.assert_eq(&said);
    }

    #[test]
    fn defaults_fill_what_is_not_said_and_a_dead_letter_topic_implies_tolerance() {
        check(
            &[
                "name = 'one'\nconnector = 'nothing'\nfrom = 'x'\ntasks = 5",
                "name = 'two'\nconnector = 'nothing'\nfrom = 'x'\n[errors]\ndead_letter_topic = 'dead'\nmax_per_minute = 5\n[retry]\nrestart = 'never'",
            ],
            &expect![[r#"
                one 1 OnFailure ErrorsConfig { on_bad_record: Fail, per_minute_max: None }
                two 1 Never ErrorsConfig { on_bad_record: DeadLetter("dead"), per_minute_max: Some(5) }
            "#]],
        );
    }

    #[test]
    fn the_errors_of_all_connectors_come_at_once() {
        check(
            &[
                "name = 'one'\nconnector = 'nothing'\nfrm = 'x'\n[errors]\ntolerance = 'some'",
                "name = 'two'\nconnector = 'nothin'",
                "name = 'three'\nconnector = 'nothing'\nfrom = 'x'\ntopics = ['a']",
                "name = 'four'\nconnector = 'nothing'\nfrom = 'x'",
                "name = 'four'\nconnector = 'nothing'\nfrom = 'x'",
            ],
            &expect![[r#"
                a.toml: `errors.tolerance`: expected `none` or `all`, found `some`
                a.toml: `from` is missing: expected where from
                a.toml: `frm` is not a setting; did you mean `from`?
                b.toml: `connector`: expected a connector of the registry, found no connector is called `nothin` (did you mean `nothing`?); there are: nothing
                c.toml: `topics`: expected nothing: this is a source, found topics
                e.toml: `name`: expected a name that no other connector has, found `four` again"#]],
        );
    }
}
