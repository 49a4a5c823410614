//! DescribeClientQuotas and AlterClientQuotas, and what requests are charged.
//!
//! Quotas are described from the Image: an entity fits when it has every part that is asked for,
//! and with `strict` no others. KIP-546. A request is charged when its answer is known: what was
//! produced by its size, what was fetched by the bytes of its records, every request by the time
//! that it took. KIP-13, KIP-124. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::AnyResponse;
use protocol::api::quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterQuotaEntry, AlteredQuotaEntry,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, QuotaComponent,
    QuotaEntity as WireEntity, QuotaEntry, QuotaOp, QuotaValue,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;

use super::serving::{Context, Spent};
use crate::controller::{AlterQuotas, AlterQuotasError, ControllerHandle};
use crate::metadata::{Image, QuotaEntity, QuotaName, QuotaType};
use crate::quota::{Client, QuotaHandle, QuotaKind};

/// A code and the words for it.
type Refusal = (ErrorCode, String);

/// Describes the quotas of the entities that fit.
pub(crate) fn describe_client_quotas(
    image: &Image,
    request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match Filter::of(request) {
        Ok(filter) => filter,
        Err((code, message)) => {
            return DescribeClientQuotasResponse {
                error_code: code.to_wire(),
                error_message: Some(message),
                entries: None,
                throttle_time_ms: 0,
            };
        }
    };
    let entry = |(entity, values): (&QuotaEntity, &BTreeMap<Arc<str>, f64>)| QuotaEntry {
        entity: wire_entity(entity),
        values: values
            .iter()
            .map(|(key, &value)| QuotaValue { key: key.to_string(), value })
            .collect(),
    };
    let fitting = image.quotas().iter().filter(|(entity, _)| filter.fits(entity));
    DescribeClientQuotasResponse {
        entries: Some(fitting.map(entry).collect()),
        ..DescribeClientQuotasResponse::default()
    }
}

/// Which entities are asked for.
struct Filter {
    /// What each part must name. `None`: anyone.
    parts: BTreeMap<QuotaType, Option<QuotaName>>,
    is_strict: bool,
}

impl Filter {
    fn of(request: &DescribeClientQuotasRequest) -> Result<Self, Refusal> {
        let refuse = |message: String| (ErrorCode::InvalidRequest, message);
        let mut parts = BTreeMap::new();
        for component in &request.components {
            let QuotaComponent { entity_type, match_type, match_name } = component;
            if entity_type.is_empty() {
                return Err(refuse("a type of quota entity is needed".to_owned()));
            }
            let kind = QuotaType::from_name(entity_type).ok_or_else(|| {
                let message = format!("{entity_type:?} is no type of quota entity");
                (ErrorCode::UnsupportedVersion, message)
            })?;
            let wanted = match (match_type, match_name) {
                (0, Some(name)) => Some(QuotaName::from_wire(Some(name))),
                (1, None) => Some(QuotaName::Default),
                (2, None) => None,
                (0, None) => return Err(refuse(format!("{entity_type}: a name is needed"))),
                (1 | 2, Some(_)) => {
                    return Err(refuse(format!("{entity_type}: no name must be given")));
                }
                (other, _) => {
                    return Err(refuse(format!("{entity_type}: unknown match type {other}")));
                }
            };
            if parts.insert(kind, wanted).is_some() {
                return Err(refuse(format!("{entity_type} is named twice")));
            }
        }
        if parts.contains_key(&QuotaType::Ip) && parts.len() > 1 {
            return Err(refuse("ip stands alone, without user or client-id".to_owned()));
        }
        Ok(Self { parts, is_strict: request.strict })
    }

    fn fits(&self, entity: &QuotaEntity) -> bool {
        if self.is_strict && entity.parts().len() != self.parts.len() {
            return false;
        }
        self.parts.iter().all(|(&kind, wanted)| {
            let part = entity.part(kind);
            part.is_some_and(|name| wanted.as_ref().is_none_or(|wanted| wanted == name))
        })
    }
}

/// Sets and removes quotas.
pub(crate) async fn alter_client_quotas(
    controller: &ControllerHandle,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let AlterClientQuotasRequest { entries, validate_only } = request;
    let parsed: Vec<_> = entries.iter().map(alter_quotas).collect();
    let lawful = parsed.iter().flatten().cloned().collect();
    let asked = controller.alter_quotas(lawful, validate_only).await;
    let mut altered = asked.map(Vec::into_iter);
    let mut answer = |parsed: Result<AlterQuotas, AlterQuotasError>| -> Result<(), Refusal> {
        let refusal = |error: AlterQuotasError| (error.code(), error.to_string());
        parsed.map_err(refusal)?;
        match &mut altered {
            Ok(altered) => altered.next().expect("one answer per entity").map_err(refusal),
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    let entries = entries.into_iter().zip(parsed).map(|(entry, parsed)| {
        let (code, error_message) = answer(parsed).err().unzip();
        let error_code = code.unwrap_or(ErrorCode::None).to_wire();
        AlteredQuotaEntry { error_code, error_message, entity: entry.entity }
    });
    AlterClientQuotasResponse { throttle_time_ms: 0, entries: entries.collect() }
}

fn alter_quotas(entry: &AlterQuotaEntry) -> Result<AlterQuotas, AlterQuotasError> {
    let parts = entry.entity.iter();
    let parts = parts.map(|part| (part.entity_type.as_str(), part.entity_name.as_deref()));
    let entity = QuotaEntity::new(parts)?;
    let change = |op: &QuotaOp| {
        let value = (!op.remove).then_some(op.value);
        (op.key.clone(), value)
    };
    Ok(AlterQuotas { entity, changes: entry.ops.iter().map(change).collect() })
}

fn wire_entity(entity: &QuotaEntity) -> Vec<WireEntity> {
    let part = |(kind, name): (QuotaType, &QuotaName)| WireEntity {
        entity_type: kind.name().to_owned(),
        entity_name: name.to_wire(),
    };
    entity.parts().map(part).collect()
}

/// Charges what a request cost; says how long its client must be silent for it.
pub(super) fn charge(quotas: &QuotaHandle, spent: &Spent<'_>, fetched_bytes: usize) -> Duration {
    let client = Client { user: spent.user, client_id: spent.client_id.unwrap_or_default() };
    let mut silent = Duration::ZERO;
    let mut spend = |kind, amount: f64| {
        silent = silent.max(quotas.spend(spent.now, kind, client, amount));
    };
    if quotas.has(QuotaKind::Produce) && spent.api == ApiKey::Produce {
        spend(QuotaKind::Produce, bytes(spent.request_bytes));
    }
    if quotas.has(QuotaKind::Fetch) && spent.api == ApiKey::Fetch {
        spend(QuotaKind::Fetch, bytes(fetched_bytes));
    }
    if quotas.has(QuotaKind::Request) {
        spend(QuotaKind::Request, spent.busy.as_secs_f64() * 100.0);
    }
    silent
}

/// Bytes of the records in an answer.
pub(super) fn fetched_bytes(response: &AnyResponse) -> usize {
    let AnyResponse::Fetch(response) = response else { return 0 };
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|it| it.records.as_ref()).map(Bytes::len).sum()
}

/// Saturates at 4 GiB, which no frame reaches.
fn bytes(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Charges a client for partitions that it creates and deletes. KIP-599.
pub(super) struct Mutations<'a> {
    quotas: &'a QuotaHandle,
    user: &'a str,
    client_id: &'a str,
    now: Duration,
    /// True: what is beyond the quota is refused. False: it is done, and the client silenced.
    is_strict: bool,
    silent: Duration,
}

impl<'a> Mutations<'a> {
    /// Those of one request; `strict_from` is the first version whose clients know the refusal.
    pub(super) fn new(quotas: &'a QuotaHandle, context: &'a Context, strict_from: i16) -> Self {
        Self {
            quotas,
            user: context.session.user(),
            client_id: context.client_id.as_deref().unwrap_or_default(),
            now: context.now.monotonic,
            is_strict: context.version >= strict_from,
            silent: Duration::ZERO,
        }
    }

    /// Charges for `partition_count` partitions of `topic`.
    ///
    /// # Errors
    /// When the quota is used up.
    pub(super) fn charge(&mut self, topic: &str, partition_count: i32) -> Result<(), Refusal> {
        if !self.is_strict {
            self.spend(partition_count);
            return Ok(());
        }
        let (kind, amount) = (QuotaKind::Mutation, f64::from(partition_count.max(0)));
        self.quotas.try_spend(self.now, kind, self.client(), amount).map_err(|silent| {
            self.silent = self.silent.max(silent);
            let key = kind.key();
            let message = format!("topic {topic}: the quota {key} is used up: wait {silent:?}");
            (ErrorCode::ThrottlingQuotaExceeded, message)
        })
    }

    /// Charges for `partition_count` partitions that are made in any case; beyond the quota the client is
    /// silenced.
    pub(super) fn spend(&mut self, partition_count: i32) {
        let (kind, amount) = (QuotaKind::Mutation, f64::from(partition_count.max(0)));
        let silent = self.quotas.spend(self.now, kind, self.client(), amount);
        self.silent = self.silent.max(silent);
    }

    fn client(&self) -> Client<'a> {
        Client { user: self.user, client_id: self.client_id }
    }

    /// What to tell the client.
    pub(super) fn throttle_time_ms(&self) -> i32 {
        throttle_ms(self.silent)
    }
}

/// A time to be silent as the wire tells it, rounded up.
pub(super) fn throttle_ms(silent: Duration) -> i32 {
    i32::try_from(silent.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
