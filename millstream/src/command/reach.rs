//! How commands reach a cluster, and find what they are about in it.
//!
//! Before anything else is asked, one of the servers must take a connection: a server that is not
//! there is told at once, not after the patience for one that is slow. Names that do not exist are
//! told with the one that was meant, perhaps. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use client::admin::TopicDescription;
use client::bootstrap::SecurityError;
use client::config::SecurityConfig;
use client::net::Credentials;
use client::{Admin, Bootstrap, RequestError};
use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use protocol::secret::Secret;
use tokio::time::timeout;

use super::advice::Problem;
use super::output::Format;
use super::settings_file;
use super::values::{self, TopicSelection};

/// How to reach the cluster.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Servers {
    /// Brokers to ask first, separated by commas; the others are learned from them.
    #[arg(
        long,
        visible_alias = "bootstrap",
        global = true,
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "localhost:9092",
        value_name = "HOST:PORT,…"
    )]
    pub(crate) bootstrap_server: String,
    /// How long the cluster may take for each thing asked of it: 500ms, 10s, 2m, or a number of
    /// milliseconds.
    #[arg(
        long,
        global = true,
        value_parser = values::duration,
        default_value = "30s",
        value_name = "DURATION"
    )]
    pub(crate) request_timeout: Duration,
    /// A file of settings for security, as Kafka's tools take it: security.protocol, ssl.…, sasl.…;
    /// others in it are passed over. Default: none, connections are in clear.
    #[arg(long, global = true, env = "MILLSTREAM_COMMAND_CONFIG", value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,
    /// Who we are, for brokers that ask by SASL PLAIN; the password is read from
    /// MILLSTREAM_SASL_PASSWORD. It is sent in clear unless --command-config says otherwise.
    /// Default: as --command-config says.
    #[arg(long, global = true, env = "MILLSTREAM_SASL_USERNAME", value_name = "NAME")]
    pub(crate) sasl_username: Option<String>,
}

/// How to reach the cluster, and how to print what it says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Cluster {
    #[command(flatten)]
    pub(crate) servers: Servers,
    /// How answers are printed: a table for people, or json for programs, with times in
    /// milliseconds since 1970 and sizes in bytes.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Cluster")]
    pub(crate) output: Format,
}

impl Servers {
    /// Where a client begins, once one of the servers has taken a connection.
    ///
    /// # Errors
    /// `Unreachable` when none does.
    pub(crate) async fn bootstrap(&self) -> anyhow::Result<Bootstrap> {
        let parsed = Bootstrap::tcp(&self.bootstrap_server);
        let bootstrap =
            parsed.map_err(|error| Problem::usage(format!("--bootstrap-server: {error}")))?;
        let mut bootstrap = bootstrap.client_id("millstream");
        if let Some(path) = &self.command_config {
            bootstrap = secured(bootstrap, path).await?;
        }
        bootstrap.sasl = self.sasl()?.or(bootstrap.sasl);
        let mut reasons = Vec::new();
        for endpoint in &bootstrap.endpoints {
            match timeout(self.request_timeout, bootstrap.connector.connect(endpoint)).await {
                Ok(Ok(_)) => return Ok(bootstrap),
                Ok(Err(error)) => reasons.push(error.to_string()),
                Err(_) => {
                    let waited = values::show_span(self.request_timeout);
                    reasons.push(format!("no connection within {waited}"));
                }
            }
        }
        reasons.dedup();
        let servers = self.bootstrap_server.clone();
        Err(Problem::Unreachable { servers, reason: reasons.join(", ") }.into())
    }

    fn sasl(&self) -> Result<Option<Credentials>, Problem> {
        let Some(username) = self.sasl_username.clone() else { return Ok(None) };
        // Not an option: options of a process are seen by everybody on its machine.
        let password = std::env::var("MILLSTREAM_SASL_PASSWORD").map_err(|_| {
            Problem::usage("--sasl-username: its password is expected in MILLSTREAM_SASL_PASSWORD")
        })?;
        Ok(Some(Credentials::Plain { username, password: Secret::new(password) }))
    }

    /// A client for administration.
    ///
    /// # Errors
    /// When no broker answers.
    pub(crate) async fn admin(&self) -> anyhow::Result<Admin> {
        let admin = Admin::connect(self.bootstrap().await?, self.request_timeout).await;
        admin.with_context(|| format!("the cluster at {}", self.bootstrap_server))
    }
}

impl Cluster {
    /// A client for administration.
    ///
    /// # Errors
    /// When no broker answers.
    pub(crate) async fn admin(&self) -> anyhow::Result<Admin> {
        self.servers.admin().await
    }
}

/// The same, secured as the file at `path` says.
///
/// # Errors
/// When the file cannot be read, or its settings do not fit together.
pub(crate) async fn secured(bootstrap: Bootstrap, path: &Path) -> anyhow::Result<Bootstrap> {
    let name = || path.display().to_string();
    let text = tokio::fs::read_to_string(path).await.with_context(name)?;
    let pairs = settings_file::read(path, &text);
    let pairs = pairs.map_err(|error| Problem::usage(format!("{}: {error}", name())))?;
    let config = SecurityConfig::of(pairs);
    let config = config.map_err(|error| Problem::usage(format!("{}: {error}", name())))?;
    let secured = bootstrap.secured(&config);
    secured.map_err(|error| match error {
        SecurityError::Config(errors) => Problem::usage(format!("{}: {errors}", name())).into(),
        SecurityError::Tls(error) => anyhow::Error::new(error).context(name()),
    })
}

/// The topics of these names.
///
/// # Errors
/// At the first that does not exist.
pub(crate) async fn topics(
    admin: &Admin,
    names: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<String, TopicDescription>> {
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = BTreeMap::new();
    for (name, described) in admin.describe_topics(&asked).await? {
        match described {
            Ok(topic) => {
                found.insert(name, topic);
            }
            Err(error) => return Err(unknown_topic(admin, &name, error).await),
        }
    }
    Ok(found)
}

/// One topic.
///
/// # Errors
/// When it does not exist.
pub(crate) async fn topic(admin: &Admin, name: &str) -> anyhow::Result<TopicDescription> {
    let found = topics(admin, &[name.to_owned()].into()).await?.remove(name);
    found.with_context(|| format!("topic {name}: the cluster does not mention it"))
}

/// Says of a topic that does not exist what was meant; other errors stay what they are.
pub(crate) async fn unknown_topic(admin: &Admin, name: &str, error: RequestError) -> anyhow::Error {
    if error.error_code() != Some(ErrorCode::UnknownTopicOrPartition) {
        return anyhow::Error::new(error).context(format!("topic {name}"));
    }
    let names = admin.list_topics().await.unwrap_or_default();
    Problem::unknown("topic", name, names.iter().map(String::as_str)).into()
}

/// Says of a group that does not exist what was meant; other errors stay what they are.
pub(crate) async fn unknown_group(
    admin: &Admin,
    group: &str,
    error: RequestError,
) -> anyhow::Error {
    if error.error_code() != Some(ErrorCode::GroupIdNotFound) {
        return anyhow::Error::new(error).context(format!("group {group}"));
    }
    let groups = admin.list_groups().await.unwrap_or_default();
    Problem::unknown("group", group, groups.iter().map(|it| it.group_id.as_str())).into()
}

/// The partitions of one topic that are meant.
///
/// # Errors
/// When the topic does not have one of them.
pub(crate) fn partitions_of(
    topic: &TopicDescription,
    selected: Option<&BTreeSet<i32>>,
) -> Result<BTreeSet<TopicPartition>, Problem> {
    let all: BTreeSet<i32> = topic.partitions.keys().map(|it| it.0).collect();
    let selected = selected.unwrap_or(&all);
    if let Some(&index) = selected.difference(&all).next() {
        let (topic, count) = (topic.name.clone(), all.len());
        return Err(Problem::UnknownPartition { topic, index, count });
    }
    Ok(selected.iter().map(|&index| TopicPartition::new(topic.name.as_str(), index)).collect())
}

/// The partitions of several topics that are meant.
///
/// # Errors
/// When a topic does not exist, or does not have one of the partitions.
pub(crate) async fn partitions(
    admin: &Admin,
    selections: &[TopicSelection],
) -> anyhow::Result<BTreeSet<TopicPartition>> {
    let names = selections.iter().map(|it| it.topic.clone()).collect();
    let topics = topics(admin, &names).await?;
    let mut found = BTreeSet::new();
    for selection in selections {
        let topic = &topics[&selection.topic];
        found.extend(partitions_of(topic, selection.partitions.as_ref())?);
    }
    Ok(found)
}
