//! `millstream config`: the settings of topics, brokers, groups and clients. Shell.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use client::Admin;
use client::admin::{ConfigChange, ConfigEntry, ConfigResource, QuotaMatch, QuotaPart};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::advice::{self, Problem};
use super::output::{self, Cell, Format, Outcomes, Sheet};
use super::reach::{self, Cluster};
use super::{quota, values};

/// Describe, alter and list the settings of topics, brokers, groups and clients.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Describe settings: their values, whence they come, and what they mean.
    Describe(Describe),
    /// Set, unset, extend or shorten settings; those that are not named stay.
    Alter(Alter),
    /// List what has settings.
    List {
        /// Only of this type. Default: all types.
        #[arg(value_enum, value_name = "TYPE")]
        kind: Option<Kind>,
    },
}

/// What has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A topic.
    Topic,
    /// A broker by its id, or `default` for all brokers at once.
    Broker,
    /// The loggers of a broker, by its id.
    BrokerLogger,
    /// A group.
    Group,
    /// A client by its client id, or `default` for all without their own: its quotas.
    Client,
    /// A subscription to the metrics of clients.
    ClientMetrics,
}

#[derive(clap::Args)]
struct Describe {
    /// What has the settings.
    #[arg(value_enum, value_name = "TYPE")]
    kind: Kind,
    /// Its name or id.
    name: String,
    /// Show all settings. Default: those that somebody set.
    #[arg(long)]
    all: bool,
    /// Show what each setting means. Default: names, values and sources.
    #[arg(long)]
    documentation: bool,
}

#[derive(clap::Args)]
struct Alter {
    /// What has the settings.
    #[arg(value_enum, value_name = "TYPE")]
    kind: Kind,
    /// Its name or id.
    name: String,
    /// Set a setting, by its Kafka name; may be given often.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    set: Vec<(String, String)>,
    /// Unset a setting: what would hold without it holds again; may be given often.
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
    /// Add elements to a setting that is a list; may be given often.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    append: Vec<(String, String)>,
    /// Take elements out of a setting that is a list; may be given often.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    subtract: Vec<(String, String)>,
    /// Ask the cluster whether it would, and change nothing. Default: change.
    #[arg(long)]
    dry_run: bool,
}

impl Alter {
    fn changes(&self) -> Result<BTreeMap<String, ConfigChange>, Problem> {
        let sets = self.set.iter().map(|(key, value)| (key, ConfigChange::Set(value.clone())));
        let deletes = self.delete.iter().map(|key| (key, ConfigChange::Delete));
        let appends =
            self.append.iter().map(|(key, value)| (key, ConfigChange::Append(value.clone())));
        let subtracts =
            self.subtract.iter().map(|(key, value)| (key, ConfigChange::Subtract(value.clone())));
        let mut changes = BTreeMap::new();
        for (key, change) in sets.chain(deletes).chain(appends).chain(subtracts) {
            if changes.insert(key.clone(), change).is_some() {
                return Err(Problem::usage(format!("{key} is given twice")));
            }
        }
        if changes.is_empty() {
            let text = "nothing to alter: give --set, --delete, --append or --subtract";
            return Err(Problem::usage(text));
        }
        Ok(changes)
    }
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::Describe(describe) => {
            let resource = resource(describe.kind, &describe.name)?;
            let admin = arguments.cluster.admin().await?;
            match resource {
                Some(resource) => describe_resource(&admin, &resource, &describe, format).await,
                None => describe_client(&admin, &describe.name, format).await,
            }
        }
        Verb::Alter(alter) => {
            let resource = resource(alter.kind, &alter.name)?;
            let changes = alter.changes()?;
            let admin = arguments.cluster.admin().await?;
            match resource {
                Some(resource) => {
                    alter_resource(&admin, &resource, &changes, alter.dry_run, format).await
                }
                None => alter_client(&admin, &alter, &changes, format).await,
            }
        }
        Verb::List { kind } => list(&arguments.cluster.admin().await?, kind, format).await,
    }
}

/// What is meant; `None`: a client, whose settings are quotas.
fn resource(kind: Kind, name: &str) -> Result<Option<ConfigResource>, Problem> {
    let id = || {
        let parsed = name.parse().map(BrokerId);
        parsed.map_err(|_| Problem::usage(format!("broker {name:?}: expected a broker's id")))
    };
    Ok(Some(match kind {
        Kind::Topic => ConfigResource::Topic(name.to_owned()),
        Kind::Broker if name == "default" => ConfigResource::AllBrokers,
        Kind::Broker => ConfigResource::Broker(id()?),
        Kind::BrokerLogger => ConfigResource::BrokerLogger(id()?),
        Kind::Group => ConfigResource::Group(name.to_owned()),
        Kind::ClientMetrics => ConfigResource::ClientMetrics(name.to_owned()),
        Kind::Client => return Ok(None),
    }))
}

async fn describe_resource(
    admin: &Admin,
    resource: &ConfigResource,
    describe: &Describe,
    format: Format,
) -> anyhow::Result<()> {
    let configs = match (resource, admin.describe_configs(resource).await) {
        (_, Ok(configs)) => configs,
        (ConfigResource::Topic(name), Err(error)) => {
            return Err(reach::unknown_topic(admin, name, error).await);
        }
        (_, Err(error)) => return Err(error.into()),
    };
    let shown = configs.iter().filter(|(_, it)| describe.all || !it.is_default);
    let sheet = sheet(shown, describe.documentation, format);
    if sheet.is_empty() && format == Format::Table {
        output::write(&format!("nobody set anything for {resource}: --all shows what holds\n"))?;
        return Ok(());
    }
    output::print(format, &sheet)?;
    Ok(())
}

fn sheet<'a>(
    configs: impl Iterator<Item = (&'a String, &'a ConfigEntry)>,
    documentation: bool,
    format: Format,
) -> Sheet {
    let mut columns = vec!["name", "value", "source", "read_only", "sensitive"];
    // A table has no room for synonyms; `topic explain` shows them.
    if format == Format::Json {
        columns.push("synonyms");
    }
    if documentation {
        columns.push("documentation");
    }
    let mut sheet = Sheet::new(&columns);
    for (name, entry) in configs {
        let mut row = vec![
            Cell::text(name),
            if entry.is_sensitive {
                Cell::text("(hidden)")
            } else {
                Cell::maybe(entry.value.as_ref())
            },
            Cell::text(entry.source.name()),
            Cell::Flag(entry.is_read_only),
            Cell::Flag(entry.is_sensitive),
        ];
        if format == Format::Json {
            let synonym = entry.synonyms.iter().map(|it| {
                let value = it.value.as_deref().unwrap_or("null");
                format!("{}:{}={value}", it.source.name(), it.name)
            });
            row.push(Cell::List(synonym.collect()));
        }
        if documentation {
            row.push(Cell::maybe(entry.documentation.as_ref()));
        }
        sheet.push(row);
    }
    sheet
}

async fn alter_resource(
    admin: &Admin,
    resource: &ConfigResource,
    changes: &BTreeMap<String, ConfigChange>,
    dry_run: bool,
    format: Format,
) -> anyhow::Result<()> {
    if let Err(error) = admin.incremental_alter_configs(resource, changes, dry_run).await {
        if let ConfigResource::Topic(name) = resource
            && error.error_code() == Some(ErrorCode::UnknownTopicOrPartition)
        {
            return Err(reach::unknown_topic(admin, name, error).await);
        }
        let hint = unknown_setting(admin, resource, changes).await;
        let error = anyhow::Error::new(error);
        return match hint {
            Some(hint) => Err(error.context(hint)),
            None => Err(error).with_context(|| resource.to_string()),
        };
    }
    let mut outcomes = Outcomes::default();
    for (name, change) in changes {
        let what = match change {
            ConfigChange::Set(value) => format!("{name} set to {value}"),
            ConfigChange::Delete => format!("{name} unset"),
            ConfigChange::Append(value) => format!("{value} appended to {name}"),
            ConfigChange::Subtract(value) => format!("{value} taken out of {name}"),
        };
        outcomes.done(resource, if dry_run { format!("would be: {what}") } else { what });
    }
    outcomes.finish(format)
}

/// The first of the settings that the resource does not have, with the one that was meant.
async fn unknown_setting(
    admin: &Admin,
    resource: &ConfigResource,
    changes: &BTreeMap<String, ConfigChange>,
) -> Option<String> {
    let known = admin.describe_configs(resource).await.ok().filter(|it| !it.is_empty())?;
    let name = changes.keys().find(|it| !known.contains_key(*it))?;
    let near = advice::near(name, known.keys().map(String::as_str));
    let meant = near.map(|it| format!(", did you mean {it}?")).unwrap_or_default();
    Some(format!("{resource} has no setting {name}{meant}"))
}

/// The parts that name a client.
fn client_part(name: &str) -> Option<String> {
    (name != "default").then(|| name.to_owned())
}

async fn describe_client(admin: &Admin, name: &str, format: Format) -> anyhow::Result<()> {
    let wanted = client_part(name).map_or(QuotaMatch::Default, QuotaMatch::Exactly);
    let filter = [(QuotaPart::ClientId, wanted)].into();
    output::print(format, &quota::sheet(&admin.describe_quotas(&filter, true).await?))?;
    Ok(())
}

async fn alter_client(
    admin: &Admin,
    alter: &Alter,
    changes: &BTreeMap<String, ConfigChange>,
    format: Format,
) -> anyhow::Result<()> {
    let mut quotas = BTreeMap::new();
    for (key, change) in changes {
        let change = match change {
            ConfigChange::Set(value) => quota::set(key, value)?,
            ConfigChange::Delete => client::admin::QuotaChange::Remove,
            ConfigChange::Append(_) | ConfigChange::Subtract(_) => {
                return Err(Problem::usage(format!("{key} is no list: use --set")).into());
            }
        };
        quotas.insert(key.clone(), change);
    }
    let of = [(QuotaPart::ClientId, client_part(&alter.name))].into();
    quota::alter(admin, &of, &quotas, alter.dry_run, format).await
}

async fn list(admin: &Admin, kind: Option<Kind>, format: Format) -> anyhow::Result<()> {
    let mut sheet = Sheet::new(&["type", "name"]);
    for resource in admin.list_config_resources().await? {
        let (of, name) = match &resource {
            ConfigResource::Topic(name) => (Kind::Topic, name.clone()),
            ConfigResource::Broker(id) => (Kind::Broker, id.to_string()),
            ConfigResource::AllBrokers => (Kind::Broker, "default".to_owned()),
            ConfigResource::BrokerLogger(id) => (Kind::BrokerLogger, id.to_string()),
            ConfigResource::ClientMetrics(name) => (Kind::ClientMetrics, name.clone()),
            ConfigResource::Group(id) => (Kind::Group, id.clone()),
        };
        if kind.is_none_or(|it| it == of) {
            let of = of.to_possible_value().map(|it| it.get_name().to_owned());
            sheet.push(vec![Cell::maybe(of), Cell::text(name)]);
        }
    }
    output::print(format, &sheet)?;
    Ok(())
}
