//! Quotas: how much users, clients and addresses may ask of a broker. KIP-546. Shell.

use std::collections::BTreeMap;

use protocol::api::quotas::{
    AlterClientQuotasRequest, AlterQuotaEntry, DescribeClientQuotasRequest, QuotaComponent,
    QuotaEntity as WireEntity, QuotaOp,
};
use protocol::api_key::ApiKey;

use super::Admin;
use super::topics::verdict;
use crate::error::RequestError;

/// The kinds of parts that name an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaPart {
    /// A user.
    User,
    /// A client id.
    ClientId,
    /// An address.
    Ip,
}

impl QuotaPart {
    /// The name in Kafka's words: `user`, `client-id`, `ip`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }
}

/// Whom quotas are for: by the kind of each part its name as on the wire; no name: the default for
/// all who have no quota of their own.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Which entities are meant, by one kind of part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// The one of this name.
    Exactly(String),
    /// The default.
    Default,
    /// Any, the default included.
    Any,
}

/// What to do with a quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuotaChange {
    /// Set it; most are bytes per second.
    Set(f64),
    /// Remove it.
    Remove,
}

impl Admin {
    /// The quotas of the entities that have all the parts of `filter`; with `strict`, no other
    /// parts besides. KIP-546.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn describe_quotas(
        &self,
        filter: &BTreeMap<QuotaPart, QuotaMatch>,
        strict: bool,
    ) -> Result<BTreeMap<QuotaEntity, BTreeMap<String, f64>>, RequestError> {
        let attempt = || async {
            let components = filter.iter().map(component).collect();
            let request = DescribeClientQuotasRequest { components, strict };
            let response = self.router.ask_any(move |_| request).await?;
            let (code, message) = (response.error_code, response.error_message);
            verdict(ApiKey::DescribeClientQuotas, "quotas".to_owned(), code, message)?;
            let entries = response.entries.unwrap_or_default().into_iter();
            Ok(entries
                .map(|it| {
                    let values = it.values.into_iter().map(|it| (it.key, it.value)).collect();
                    (entity(it.entity), values)
                })
                .collect())
        };
        self.router.retry(self.timeout, "describe quotas", attempt).await
    }

    /// Changes quotas of one entity, all of them or none; others stay. With `validate_only` it
    /// says what it would, and changes nothing. KIP-546.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn alter_quotas(
        &self,
        of: &BTreeMap<QuotaPart, Option<String>>,
        changes: &BTreeMap<String, QuotaChange>,
        validate_only: bool,
    ) -> Result<(), RequestError> {
        let attempt = || async {
            let entity = of.iter().map(|(part, name)| WireEntity {
                entity_type: part.name().to_owned(),
                entity_name: name.clone(),
            });
            let op = |(key, change): (&String, &QuotaChange)| match change {
                QuotaChange::Set(value) => {
                    QuotaOp { key: key.clone(), value: *value, remove: false }
                }
                QuotaChange::Remove => QuotaOp { key: key.clone(), value: 0.0, remove: true },
            };
            let entry =
                AlterQuotaEntry { entity: entity.collect(), ops: changes.iter().map(op).collect() };
            let request = AlterClientQuotasRequest { entries: vec![entry], validate_only };
            let response = self.router.ask_controller(move |_| request).await?;
            let api = ApiKey::AlterClientQuotas;
            let missing = || RequestError::Missing { api, subject: "quotas".to_owned() };
            let result = response.entries.into_iter().next().ok_or_else(missing)?;
            let subject = "quotas".to_owned();
            self.heed_controller(verdict(api, subject, result.error_code, result.error_message))
        };
        self.router.retry(self.timeout, "alter quotas", attempt).await
    }
}

fn component((part, wanted): (&QuotaPart, &QuotaMatch)) -> QuotaComponent {
    let (match_type, match_name) = match wanted {
        QuotaMatch::Exactly(name) => (0, Some(name.clone())),
        QuotaMatch::Default => (1, None),
        QuotaMatch::Any => (2, None),
    };
    QuotaComponent { entity_type: part.name().to_owned(), match_type, match_name }
}

fn entity(parts: Vec<WireEntity>) -> QuotaEntity {
    parts.into_iter().map(|it| (it.entity_type, it.entity_name)).collect()
}
