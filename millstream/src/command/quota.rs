//! `millstream quota`: how much users, clients and addresses may ask of a broker. Shell.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Subcommand;
use client::Admin;
use client::admin::{QuotaChange, QuotaEntity, QuotaMatch, QuotaPart};

use super::advice::Problem;
use super::output::{self, Cell, Format, Outcomes, Sheet};
use super::reach::Cluster;
use super::values;

/// Describe and alter quotas of users, client ids and addresses.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Describe quotas, of all entities or of some.
    Describe {
        #[command(flatten)]
        entity: Entity,
        /// Only entities that are named by these parts alone. Default: further parts do no harm.
        #[arg(long)]
        strict: bool,
    },
    /// Set and remove quotas of one entity.
    Alter {
        #[command(flatten)]
        entity: Entity,
        /// Set a quota: producer_byte_rate and consumer_byte_rate (bytes per second),
        /// request_percentage (percent of one thread's time), controller_mutation_rate (partitions
        /// per second), connection_creation_rate (connections per second); may be given often.
        #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
        set: Vec<(String, String)>,
        /// Remove a quota; may be given often.
        #[arg(long, value_name = "KEY")]
        delete: Vec<String>,
        /// Ask the cluster whether it would, and change nothing. Default: change.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whom quotas are for.
#[derive(clap::Args, Clone, Debug)]
struct Entity {
    /// A user's name; `default` for all users without a quota of their own.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A client id; `default` for all client ids without a quota of their own.
    #[arg(long, visible_alias = "client", value_name = "ID")]
    client_id: Option<String>,
    /// An address; `default` for all addresses without a quota of their own.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["user", "client_id"])]
    ip: Option<String>,
}

impl Entity {
    /// The parts that are given; no name: the default.
    fn parts(&self) -> BTreeMap<QuotaPart, Option<String>> {
        let name = |name: &String| (name != "default").then(|| name.clone());
        let parts = [
            (QuotaPart::User, &self.user),
            (QuotaPart::ClientId, &self.client_id),
            (QuotaPart::Ip, &self.ip),
        ];
        parts.into_iter().filter_map(|(part, it)| Some((part, name(it.as_ref()?)))).collect()
    }
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::Describe { entity, strict } => {
            let exactly =
                |name: Option<String>| name.map_or(QuotaMatch::Default, QuotaMatch::Exactly);
            let filter = entity.parts().into_iter().map(|(part, name)| (part, exactly(name)));
            let admin = arguments.cluster.admin().await?;
            let quotas = admin.describe_quotas(&filter.collect(), strict).await?;
            output::print(format, &sheet(&quotas))?;
            Ok(())
        }
        Verb::Alter { entity, set: sets, delete, dry_run } => {
            let of = entity.parts();
            if of.is_empty() {
                return Err(Problem::usage("whose quotas? give --user, --client-id or --ip").into());
            }
            let mut changes = BTreeMap::new();
            for (key, value) in &sets {
                changes.insert(key.clone(), set(key, value)?);
            }
            for key in delete {
                if changes.insert(key.clone(), QuotaChange::Remove).is_some() {
                    return Err(Problem::usage(format!("{key} is both set and deleted")).into());
                }
            }
            if changes.is_empty() {
                return Err(Problem::usage("nothing to alter: give --set or --delete").into());
            }
            alter(&arguments.cluster.admin().await?, &of, &changes, dry_run, format).await
        }
    }
}

/// A quota to set.
///
/// # Errors
/// When its value is no number that a quota can have.
pub(super) fn set(key: &str, value: &str) -> Result<QuotaChange, Problem> {
    let parsed = value.parse::<f64>().ok().filter(|it| it.is_finite() && *it >= 0.0);
    let refuse = || Problem::usage(format!("{key}={value}: expected a number from 0 on"));
    parsed.map(QuotaChange::Set).ok_or_else(refuse)
}

/// Changes quotas of one entity, and says what was changed.
pub(super) async fn alter(
    admin: &Admin,
    of: &BTreeMap<QuotaPart, Option<String>>,
    changes: &BTreeMap<String, QuotaChange>,
    dry_run: bool,
    format: Format,
) -> anyhow::Result<()> {
    let part = |(part, name): (&QuotaPart, &Option<String>)| {
        format!("{} {}", part.name(), name.as_deref().unwrap_or("default"))
    };
    let subject = of.iter().map(part).collect::<Vec<_>>().join(", ");
    let altered = admin.alter_quotas(of, changes, dry_run).await;
    altered.with_context(|| subject.clone())?;
    let mut outcomes = Outcomes::default();
    for (key, change) in changes {
        let what = match change {
            QuotaChange::Set(value) => format!("{key} set to {value}"),
            QuotaChange::Remove => format!("{key} removed"),
        };
        outcomes.done(&subject, if dry_run { format!("would be: {what}") } else { what });
    }
    outcomes.finish(format)
}

/// Quotas, a row for each.
pub(super) fn sheet(quotas: &BTreeMap<QuotaEntity, BTreeMap<String, f64>>) -> Sheet {
    let mut sheet = Sheet::new(&["entity", "quota", "value"]);
    for (entity, values) in quotas {
        let part = |(part, name): (&String, &Option<String>)| {
            format!("{part}={}", name.as_deref().unwrap_or("<default>"))
        };
        let parts: Vec<_> = entity.iter().map(part).collect();
        for (key, value) in values {
            sheet.push(vec![Cell::List(parts.clone()), Cell::text(key), Cell::Real(*value)]);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_from_0_on() {
        assert_eq!(set("request_percentage", "12.5"), Ok(QuotaChange::Set(12.5)));
        for value in ["", "fast", "-1", "inf", "NaN"] {
            assert!(set("request_percentage", value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_default_is_a_part_without_a_name() {
        let entity = Entity { user: Some("default".into()), client_id: Some("a".into()), ip: None };
        let parts = entity.parts();
        assert_eq!(parts[&QuotaPart::User], None);
        assert_eq!(parts[&QuotaPart::ClientId].as_deref(), Some("a"));
        assert!(!parts.contains_key(&QuotaPart::Ip));
    }
}
