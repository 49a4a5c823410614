//! DescribeClientQuotas and AlterClientQuotas: how much users and clients may ask of a broker.
//!
//! An entity is named by its parts: `user`, `client-id`, `ip`; a part without a name is the default
//! for all who have none of their own. KIP-546. Pure.

use crate::wire;

wire! {
    /// Asks for the quotas of the entities that fit all components.
    pub struct DescribeClientQuotasRequest {
        /// What an entity must be made of.
        components: Vec<QuotaComponent>;
        /// Whether entities with further parts are left out.
        strict: bool;
    }

    /// What one part of an entity must be.
    pub struct QuotaComponent {
        /// The part: `user`, `client-id`, `ip`.
        entity_type: String;
        /// 0: exactly `match_name`; 1: the default; 2: any name.
        match_type: i8;
        /// The name. `None` unless one is to match.
        match_name: Option<String> = Some(String::new());
    }

    /// The quotas.
    pub struct DescribeClientQuotasResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The entities with their quotas. `None`: the request failed.
        entries: Option<Vec<QuotaEntry>> = Some(Vec::new());
    }

    /// An entity with its quotas.
    pub struct QuotaEntry {
        /// The entity's parts.
        entity: Vec<QuotaEntity>;
        /// Its quotas.
        values: Vec<QuotaValue>;
    }

    /// A part of an entity.
    pub struct QuotaEntity {
        /// The part: `user`, `client-id`, `ip`.
        entity_type: String;
        /// Its name. `None`: the default.
        entity_name: Option<String> = Some(String::new());
    }

    /// A quota.
    pub struct QuotaValue {
        /// Which one: `producer_byte_rate` and so on.
        key: String;
        /// How much.
        value: f64;
    }

    /// Sets and removes quotas.
    pub struct AlterClientQuotasRequest {
        /// The entities and their changes.
        entries: Vec<AlterQuotaEntry>;
        /// Whether to check without doing.
        validate_only: bool;
    }

    /// Changes of one entity's quotas.
    pub struct AlterQuotaEntry {
        /// The entity's parts.
        entity: Vec<QuotaEntity>;
        /// The changes.
        ops: Vec<QuotaOp>;
    }

    /// A change of one quota.
    pub struct QuotaOp {
        /// Which one.
        key: String;
        /// How much. Without meaning when it is removed.
        value: f64;
        /// Whether it is removed instead of set.
        remove: bool;
    }

    /// Which entities were changed.
    pub struct AlterClientQuotasResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each entity.
        entries: Vec<AlteredQuotaEntry>;
    }

    /// Whether one entity was changed.
    pub struct AlteredQuotaEntry {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The entity's parts.
        entity: Vec<QuotaEntity>;
    }
}
