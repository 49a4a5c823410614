//! The settings of a broker and of its topics, by Kafka's names.
//!
//! [`BrokerConfig`] is read once, at start, with every error reported at once; what was altered
//! since lies over it ([`BrokerConfig::with`]). [`TopicConfig`] is what holds for one topic: its own
//! overrides over the broker's settings that are their synonyms; [`GroupConfig`] the same for one
//! group. Rooms receive these, or plain structs cut from them. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, ConfigValue, Kind, find};
use protocol::sasl::Mechanism;
use protocol::secret::Secret;
use protocol::security::SecurityProtocol;
use protocol::{config_words, configs};

use crate::limits::BUDGET_BYTES_MIN;

mod dynamic;
mod endpoint;
mod group;
mod initial;
mod listener;
mod mapping;
mod metrics;
mod scoped;
#[cfg(test)]
mod tests;
mod topic;

pub use endpoint::Endpoint;
pub use endpoint::is_loopback;
pub use group::GroupConfig;
pub use initial::{InitialUser, InitialUserError};
pub use listener::{
    ClientAuth, ListenerConfig, ListenerError, ListenerSettings, MechanismSettings, TlsSettings,
};
pub use mapping::{MappingError, PrincipalRules};
pub use metrics::METRICS;
pub use scoped::Scoped;
pub use topic::TopicConfig;

/// When an acknowledged record is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// On disk before it is acknowledged: a power cut loses nothing that was acknowledged.
    #[default]
    Ack,
    /// In the operating system's hands before it is acknowledged: a crash of the process loses
    /// nothing, a power cut may lose the newest records.
    Async,
}
config_words!(FlushMode { Ack = "ack", Async = "async" });

/// Who dates a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appends.
    LogAppendTime,
}
config_words!(TimestampType { CreateTime = "CreateTime", LogAppendTime = "LogAppendTime" });

/// How batches are compressed on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    /// Not at all.
    Uncompressed,
    /// By gzip.
    Gzip,
    /// By snappy.
    Snappy,
    /// By lz4.
    Lz4,
    /// By zstd.
    Zstd,
}
config_words!(CompressionType {
    Producer = "producer",
    Uncompressed = "uncompressed",
    Gzip = "gzip",
    Snappy = "snappy",
    Lz4 = "lz4",
    Zstd = "zstd",
});

/// Which changes between the protocols of groups are made under members' feet. KIP-848.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupMigration {
    /// In both directions.
    #[default]
    Bidirectional,
    /// From classic to consumer.
    Upgrade,
    /// From consumer to classic.
    Downgrade,
    /// None: a group changes while it is empty.
    Disabled,
}
config_words!(GroupMigration {
    Bidirectional = "bidirectional",
    Upgrade = "upgrade",
    Downgrade = "downgrade",
    Disabled = "disabled",
});

const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
const FLUSH_MODES: &[&str] = &["ack", "async"];
/// None, and the one that Kafka has since its controllers are a quorum. KIP-801.
const AUTHORIZERS: &[&str] = &["", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"];
const GROUP_ASSIGNORS: &[&str] = &["uniform", "range"];
const GROUP_MIGRATIONS: &[&str] = &["bidirectional", "upgrade", "downgrade", "disabled"];
const CLIENT_AUTHS: &[&str] = &["none", "requested", "required"];
const TLS_VERSIONS: &[&str] = &["TLSv1.2", "TLSv1.3"];
const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];

configs! {
    /// The settings of one broker. Immutable once read.
    pub struct BrokerConfig {
        /// The id of this broker, unique in its cluster.
        node_id: i32 = ConfigDef::int("node.id", "1").at_least(0),
        /// The id of the cluster. Generated at the first start and kept in the log directory unless set.
        cluster_id: Option<String> = ConfigDef::null(Kind::String, "cluster.id").non_empty(),
        /// The directory of all data, when log.dirs is not set.
        log_dir: String = ConfigDef::list("log.dir", "data").non_empty(),
        /// The directory of all data. One entry.
        log_dirs: Option<String> = ConfigDef::null(Kind::List, "log.dirs").non_empty(),
        /// Where to listen: NAME://host:port, separated by commas. An empty host means every interface, port 0 a free port.
        listeners: Vec<String> = ConfigDef::list("listeners", "PLAINTEXT://localhost:9092").non_empty(),
        /// What clients are told to connect to, per listener. By default what is listened on.
        advertised_listeners: Vec<String> = ConfigDef::list("advertised.listeners", ""),
        /// What is spoken at each listener: NAME:PROTOCOL, separated by commas; the protocols are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL.
        listener_security_protocol_map: Vec<String> = ConfigDef::list("listener.security.protocol.map", "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        /// By which listener brokers speak with each other: requests that only brokers send are refused by all others. By default the one that is named as security.inter.broker.protocol, else the first.
        inter_broker_listener_name: Option<String> = ConfigDef::null(Kind::String, "inter.broker.listener.name").non_empty(),
        /// The listener by which brokers speak with each other, by its protocol, where inter.broker.listener.name does not name it.
        security_inter_broker_protocol: String = ConfigDef::string("security.inter.broker.protocol", "PLAINTEXT").one_of(SecurityProtocol::NAMES),
        /// Settings of one listener alone, as listener.name.NAME.SETTING; those of one mechanism as listener.name.NAME.MECHANISM.SETTING; names in small letters.
        listener_settings: Scoped = ConfigDef::password("listener.name."),
        /// Listeners that are for controllers alone. None is needed here: they are not opened.
        controller_listener_names: Vec<String> = ConfigDef::list("controller.listener.names", ""),
        /// The format of certificates and keys: PEM alone.
        ssl_keystore_type: String = ConfigDef::string("ssl.keystore.type", "PEM").dynamic(),
        /// A file with the private key and the certificate, and those that lead from it to its root. It is read again when it changes.
        ssl_keystore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.keystore.location").non_empty().dynamic(),
        /// The certificate and those that lead from it to its root, in place of a file.
        ssl_keystore_certificate_chain: Option<Secret> = ConfigDef::password("ssl.keystore.certificate.chain").dynamic(),
        /// The private key, in place of a file.
        ssl_keystore_key: Option<Secret> = ConfigDef::password("ssl.keystore.key").dynamic(),
        /// Not for PEM.
        ssl_keystore_password: Option<Secret> = ConfigDef::password("ssl.keystore.password").dynamic(),
        /// Encrypted keys are not read: decrypt them and protect their files.
        ssl_key_password: Option<Secret> = ConfigDef::password("ssl.key.password").dynamic(),
        /// The format of the roots of clients' certificates: PEM alone.
        ssl_truststore_type: String = ConfigDef::string("ssl.truststore.type", "PEM").dynamic(),
        /// A file with the roots of clients' certificates. It is read again when it changes.
        ssl_truststore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.truststore.location").non_empty().dynamic(),
        /// The roots of clients' certificates, in place of a file.
        ssl_truststore_certificates: Option<Secret> = ConfigDef::password("ssl.truststore.certificates").dynamic(),
        /// Not for PEM.
        ssl_truststore_password: Option<Secret> = ConfigDef::password("ssl.truststore.password").dynamic(),
        /// Whether clients must show certificates: none, requested, required.
        ssl_client_auth: ClientAuth = ConfigDef::string("ssl.client.auth", "none").one_of(CLIENT_AUTHS),
        /// Which versions of TLS are spoken.
        ssl_enabled_protocols: Vec<String> = ConfigDef::list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3").non_empty().one_of(TLS_VERSIONS),
        /// Which cipher suites are used, by their IANA names. Empty: all that are safe.
        ssl_cipher_suites: Vec<String> = ConfigDef::list("ssl.cipher.suites", ""),
        /// How a client's name follows from the subject of its certificate: RULE:pattern/replacement/ with L or U after it, or DEFAULT, separated by commas; the first that fits decides.
        ssl_principal_mapping_rules: String = ConfigDef::string("ssl.principal.mapping.rules", "DEFAULT"),
        /// By which mechanisms clients may authenticate.
        sasl_enabled_mechanisms: Vec<String> = ConfigDef::list("sasl.enabled.mechanisms", "").one_of(Mechanism::NAMES),
        /// The users of PLAIN: a line of JAAS with user_NAME="password". Better set for one listener and mechanism.
        sasl_jaas_config: Option<Secret> = ConfigDef::password("sasl.jaas.config"),
        /// How large requests may be, in bytes, before their client has authenticated.
        sasl_server_max_receive_size: u32 = ConfigDef::int("sasl.server.max.receive.size", "524288").at_least(1),
        /// How long a client that could not authenticate waits for its refusal.
        connection_failed_authentication_delay: Duration = ConfigDef::int("connection.failed.authentication.delay.ms", "100").at_least(0),
        /// After which time a client must authenticate anew, 0 for never. KIP-368.
        connections_max_reauth: Duration = ConfigDef::long("connections.max.reauth.ms", "0").at_least(0),
        /// Users of SCRAM that are made at a start where they do not exist: SCRAM-SHA-256=[name=NAME,password=PASSWORD], separated by semicolons.
        initial_scram_credentials: Option<Secret> = ConfigDef::password("initial.scram.credentials"),
        /// Where the keys are by which tokens are verified: a file:// or https:// URL of a JWKS.
        sasl_oauthbearer_jwks_endpoint_url: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.jwks.endpoint.url").non_empty(),
        /// How often these keys are looked at again.
        sasl_oauthbearer_jwks_endpoint_refresh: Duration = ConfigDef::long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000").at_least(1000),
        /// From which URLs keys may be had; nothing is asked for elsewhere.
        sasl_oauthbearer_allowed_urls: Vec<String> = ConfigDef::list("sasl.oauthbearer.allowed.urls", ""),
        /// For whom a token must be, one of these at least.
        sasl_oauthbearer_expected_audience: Vec<String> = ConfigDef::list("sasl.oauthbearer.expected.audience", ""),
        /// Who must have issued a token.
        sasl_oauthbearer_expected_issuer: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.expected.issuer").non_empty(),
        /// How far the clock of the issuer of tokens may be off.
        sasl_oauthbearer_clock_skew: Duration = ConfigDef::int("sasl.oauthbearer.clock.skew.seconds", "30").at_least(0),
        /// Which claim of a token names its user.
        sasl_oauthbearer_sub_claim_name: String = ConfigDef::string("sasl.oauthbearer.sub.claim.name", "sub").non_empty(),
        /// How many partitions a topic gets when its creator does not say.
        num_partitions: i32 = ConfigDef::int("num.partitions", "1").at_least(1),
        /// How many replicas a topic gets when its creator does not say.
        default_replication_factor: i16 = ConfigDef::int("default.replication.factor", "1").between(1, 32_767),
        /// Whether asking for a topic that does not exist creates it.
        auto_create_topics_enable: bool = ConfigDef::boolean("auto.create.topics.enable", "true"),
        /// How long the answer to who asked waits for the topics that this creates, and with it what the client sends after. With 0 it says at once that they do not exist yet, as Kafka does.
        auto_create_topics_wait: Duration = ConfigDef::int("auto.create.topics.wait.ms", "5000").at_least(0),
        /// Whether topics may be deleted.
        delete_topic_enable: bool = ConfigDef::boolean("delete.topic.enable", "true"),
        /// Who decides what clients may do: nobody (everybody may do everything), or the access control lists.
        authorizer_class_name: String = ConfigDef::string("authorizer.class.name", "").one_of(AUTHORIZERS),
        /// Whether everybody may do everything with what no access control list is about.
        allow_everyone_if_no_acl_found: bool = ConfigDef::boolean("allow.everyone.if.no.acl.found", "false"),
        /// Who may do everything: principals such as User:alice, separated by semicolons.
        super_users: String = ConfigDef::string("super.users", ""),
        /// When an acknowledged record is durable: ack = on disk before the acknowledgement; async = handed to the operating system before it.
        flush_mode: FlushMode = ConfigDef::string("flush.mode", "ack").one_of(FLUSH_MODES).dynamic(),
        /// How many replicas must be in sync for acks=all to be accepted.
        min_insync_replicas: i32 = ConfigDef::int("min.insync.replicas", "1").at_least(1).dynamic(),
        /// Whether a replica that is not in sync may become leader, losing records, when no other can.
        unclean_leader_election_enable: bool = ConfigDef::boolean("unclean.leader.election.enable", "false").dynamic(),
        /// How far behind in time a follower may be and still count as in sync.
        replica_lag_time_max: Duration = ConfigDef::long("replica.lag.time.max.ms", "30000").at_least(1),

        /// How many bytes a segment of a log holds at most.
        log_segment_bytes: u32 = ConfigDef::int("log.segment.bytes", "1073741824").at_least(1024).dynamic(),
        /// How old a segment may become before a new one is begun. By default log.roll.hours holds.
        log_roll_ms: Option<i64> = ConfigDef::null(Kind::Long, "log.roll.ms").at_least(1).dynamic(),
        /// How old a segment may become before a new one is begun, in hours.
        log_roll_hours: i32 = ConfigDef::int("log.roll.hours", "168").at_least(1),
        /// How many records may be written before they are made durable, where flush.mode is async.
        log_flush_interval_messages: i64 = ConfigDef::long("log.flush.interval.messages", "9223372036854775807").at_least(1).dynamic(),
        /// How long written records may wait to be made durable, where flush.mode is async; some seconds at most in any case.
        log_flush_interval_ms: Option<i64> = ConfigDef::null(Kind::Long, "log.flush.interval.ms").at_least(0).dynamic(),
        /// How long records are kept, -1 for ever. By default log.retention.minutes holds.
        log_retention_ms: Option<i64> = ConfigDef::null(Kind::Long, "log.retention.ms").at_least(-1).dynamic(),
        /// How long records are kept, in minutes, -1 for ever. By default log.retention.hours holds.
        log_retention_minutes: Option<i32> = ConfigDef::null(Kind::Int, "log.retention.minutes").at_least(-1),
        /// How long records are kept, in hours, -1 for ever.
        log_retention_hours: i32 = ConfigDef::int("log.retention.hours", "168").at_least(-1),
        /// How many bytes of a partition are kept, -1 for all.
        log_retention_bytes: Option<u64> = ConfigDef::long("log.retention.bytes", "-1").at_least(-1).dynamic(),
        /// How often to look for segments that may go.
        log_retention_check_interval: Duration = ConfigDef::long("log.retention.check.interval.ms", "300000").at_least(1),
        /// Accepted for compatibility: the files of a deleted segment go at once; who is reading one reads on.
        log_segment_delete_delay: Duration = ConfigDef::long("log.segment.delete.delay.ms", "60000").at_least(0).dynamic(),
        /// What happens to old segments: delete, compact, or both.
        log_cleanup_policy: Vec<String> = ConfigDef::list("log.cleanup.policy", "delete").one_of(CLEANUP_POLICIES).dynamic(),
        /// Whether compacted logs are compacted.
        log_cleaner_enable: bool = ConfigDef::boolean("log.cleaner.enable", "true"),
        /// How long to wait when there is nothing to compact.
        log_cleaner_backoff: Duration = ConfigDef::long("log.cleaner.backoff.ms", "15000").at_least(0).dynamic(),
        /// How many bytes the map of keys of one compaction may take.
        log_cleaner_dedupe_buffer_size: u64 = ConfigDef::long("log.cleaner.dedupe.buffer.size", "134217728").at_least(1_048_576).dynamic(),
        /// How many bytes per second compaction reads and writes at most.
        log_cleaner_io_max_bytes_per_second: f64 = ConfigDef::double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308").within(1.0, f64::MAX).dynamic(),
        /// Which part of a log must be uncompacted before it is compacted.
        log_cleaner_min_cleanable_ratio: f64 = ConfigDef::double("log.cleaner.min.cleanable.ratio", "0.5").within(0.0, 1.0).dynamic(),
        /// How long tombstones and transaction markers stay after compaction.
        log_cleaner_delete_retention: Duration = ConfigDef::long("log.cleaner.delete.retention.ms", "86400000").at_least(0).dynamic(),
        /// How long a record stays uncompacted at least.
        log_cleaner_min_compaction_lag: Duration = ConfigDef::long("log.cleaner.min.compaction.lag.ms", "0").at_least(0).dynamic(),
        /// How long a record stays uncompacted at most.
        log_cleaner_max_compaction_lag: Duration = ConfigDef::long("log.cleaner.max.compaction.lag.ms", "9223372036854775807").at_least(1).dynamic(),
        /// How many bytes of log lie between two entries of its index.
        log_index_interval_bytes: u32 = ConfigDef::int("log.index.interval.bytes", "4096").at_least(0).dynamic(),
        /// How many bytes an index file may take.
        log_index_size_max_bytes: u32 = ConfigDef::int("log.index.size.max.bytes", "10485760").at_least(4).dynamic(),
        /// How large a batch may be, in bytes.
        message_max_bytes: u32 = ConfigDef::int("message.max.bytes", "1048588").at_least(0).dynamic(),
        /// Who dates records: the producer or the broker.
        log_message_timestamp_type: TimestampType = ConfigDef::string("log.message.timestamp.type", "CreateTime").one_of(TIMESTAMP_TYPES).dynamic(),
        /// How far before the broker's clock a record may be dated.
        log_message_timestamp_before_max: Duration = ConfigDef::long("log.message.timestamp.before.max.ms", "9223372036854775807").at_least(0).dynamic(),
        /// How far after the broker's clock a record may be dated.
        log_message_timestamp_after_max: Duration = ConfigDef::long("log.message.timestamp.after.max.ms", "3600000").at_least(0).dynamic(),
        /// How batches are compressed on disk.
        compression_type: CompressionType = ConfigDef::string("compression.type", "producer").one_of(COMPRESSION_TYPES).dynamic(),
        /// The level of gzip when the broker compresses.
        compression_gzip_level: i32 = ConfigDef::int("compression.gzip.level", "-1").between(-1, 9).dynamic(),
        /// Accepted for compatibility: there is one level of lz4 when the broker compresses.
        compression_lz4_level: i32 = ConfigDef::int("compression.lz4.level", "9").between(1, 17).dynamic(),
        /// The level of zstd when the broker compresses.
        compression_zstd_level: i32 = ConfigDef::int("compression.zstd.level", "3").between(-131_072, 22).dynamic(),

        /// How many bytes one fetch answers with at most.
        fetch_max_bytes: u32 = ConfigDef::int("fetch.max.bytes", "57671680").at_least(1024),
        /// How many partitions one answer describes at most; clients ask for the rest.
        max_request_partition_size_limit: u32 = ConfigDef::int("max.request.partition.size.limit", "2000").at_least(1),
        /// How many incremental fetch sessions are remembered.
        max_incremental_fetch_session_cache_slots: u32 = ConfigDef::int("max.incremental.fetch.session.cache.slots", "1000").at_least(0),
        /// How many bytes a request may have; larger ones end the connection.
        socket_request_max_bytes: u32 = ConfigDef::int("socket.request.max.bytes", "104857600").at_least(1),
        /// How many connections are held at once; more are closed at once.
        max_connections: u32 = ConfigDef::int("max.connections", "2147483647").at_least(0).dynamic(),
        /// How many connections are held at once from one address; more are closed at once.
        max_connections_per_ip: u32 = ConfigDef::int("max.connections.per.ip", "2147483647").at_least(0).dynamic(),
        /// Other bounds for some addresses: address:count, separated by commas.
        max_connections_per_ip_overrides: Vec<String> = ConfigDef::string("max.connections.per.ip.overrides", "").dynamic(),
        /// How many connections are accepted per second; more wait.
        max_connection_creation_rate: u32 = ConfigDef::int("max.connection.creation.rate", "2147483647").at_least(1).dynamic(),
        /// How long a connection may be silent.
        connections_max_idle: Duration = ConfigDef::long("connections.max.idle.ms", "600000").at_least(1),
        /// Accepted for compatibility: requests are begun as they are read, in the bounds of memory.budget.bytes.
        queued_max_requests: u32 = ConfigDef::int("queued.max.requests", "500").at_least(1),
        /// How many bytes requests may take in all before reading stops, small ones not counted; -1: as many as memory.budget.bytes leaves them.
        queued_max_request_bytes: Option<u64> = ConfigDef::long("queued.max.request.bytes", "-1").at_least(-1),
        /// How many bytes of memory connections, requests and answers may take; -1: a quarter of what the machine has, or its control group.
        memory_budget_bytes: Option<u64> = ConfigDef::long("memory.budget.bytes", "-1").at_least(-1),

        /// How many windows a quota of bytes or time looks back on, the present one among them.
        quota_window_num: u32 = ConfigDef::int("quota.window.num", "11").at_least(1),
        /// How long each of these windows is.
        quota_window_size: Duration = ConfigDef::int("quota.window.size.seconds", "1").at_least(1),
        /// How many windows of changes to topics may be saved up, the present one among them.
        controller_quota_window_num: u32 = ConfigDef::int("controller.quota.window.num", "11").at_least(1),
        /// How long each of these windows is.
        controller_quota_window_size: Duration = ConfigDef::int("controller.quota.window.size.seconds", "1").at_least(1),
        /// Where to tell metrics and health over HTTP: host:port. Beyond this machine only to who authenticates, unless metrics.open.to.all says otherwise. Encrypted where listener.security.protocol.map has METRICS:SSL. Null: nowhere.
        metrics_listener: Option<String> = ConfigDef::null(Kind::String, "metrics.listener").non_empty(),
        /// Who may ask for metrics: NAME:PASSWORD, as HTTP's Basic authentication has them.
        metrics_basic_auth: Option<Secret> = ConfigDef::password("metrics.basic.auth"),
        /// Who may ask for metrics: whoever brings this token, as HTTP's Bearer authentication has it.
        metrics_bearer_token: Option<Secret> = ConfigDef::password("metrics.bearer.token"),
        /// Whether all who reach metrics.listener may ask, also from other machines.
        metrics_open_to_all: bool = ConfigDef::boolean("metrics.open.to.all", "false"),
        /// Accepted for compatibility: how many threads there are follows from the machine.
        background_threads: i32 = ConfigDef::int("background.threads", "10").at_least(1).dynamic(),
        /// Accepted for compatibility: Kerberos is not offered.
        sasl_kerberos_min_time_before_relogin: i64 = ConfigDef::long("sasl.kerberos.min.time.before.relogin", "60000").at_least(0).dynamic(),
        /// Where this broker stands.
        broker_rack: Option<String> = ConfigDef::null(Kind::String, "broker.rack").non_empty(),
        /// Accepted for compatibility: a single node copies nothing to others.
        leader_replication_throttled_rate: i64 = ConfigDef::long("leader.replication.throttled.rate", "9223372036854775807").at_least(0).dynamic(),
        /// Accepted for compatibility: a single node copies nothing from others.
        follower_replication_throttled_rate: i64 = ConfigDef::long("follower.replication.throttled.rate", "9223372036854775807").at_least(0).dynamic(),

        /// How many partitions the topic of committed offsets has.
        offsets_topic_num_partitions: i32 = ConfigDef::int("offsets.topic.num.partitions", "50").at_least(1),
        /// How many replicas the topic of committed offsets has; as many as there are brokers when they are fewer.
        offsets_topic_replication_factor: i16 = ConfigDef::short("offsets.topic.replication.factor", "3").at_least(1),
        /// How many bytes a segment of the topic of committed offsets holds.
        offsets_topic_segment_bytes: u32 = ConfigDef::int("offsets.topic.segment.bytes", "104857600").at_least(1024),
        /// How long the offsets of a group without members are kept.
        offsets_retention: Duration = ConfigDef::int("offsets.retention.minutes", "10080").at_least(1),
        /// How often to look for offsets that may go.
        offsets_retention_check_interval: Duration = ConfigDef::long("offsets.retention.check.interval.ms", "600000").at_least(1),
        /// How many bytes of metadata a committed offset may carry.
        offset_metadata_max_bytes: u32 = ConfigDef::int("offset.metadata.max.bytes", "4096").at_least(0),
        /// How long an empty group waits for more members before it first balances.
        group_initial_rebalance_delay: Duration = ConfigDef::int("group.initial.rebalance.delay.ms", "3000").at_least(0),
        /// The shortest session timeout that a member may ask for.
        group_min_session_timeout: Duration = ConfigDef::int("group.min.session.timeout.ms", "6000").at_least(1),
        /// The longest session timeout that a member may ask for.
        group_max_session_timeout: Duration = ConfigDef::int("group.max.session.timeout.ms", "1800000").at_least(1),
        /// How long a member of the protocol of KIP-848 may be silent before it is put out.
        group_consumer_session_timeout: Duration = ConfigDef::int("group.consumer.session.timeout.ms", "45000").at_least(1),
        /// The shortest session timeout that a group may be given.
        group_consumer_min_session_timeout: Duration = ConfigDef::int("group.consumer.min.session.timeout.ms", "45000").at_least(1),
        /// The longest session timeout that a group may be given.
        group_consumer_max_session_timeout: Duration = ConfigDef::int("group.consumer.max.session.timeout.ms", "60000").at_least(1),
        /// How often a member of the protocol of KIP-848 is to say that it lives.
        group_consumer_heartbeat_interval: Duration = ConfigDef::int("group.consumer.heartbeat.interval.ms", "5000").at_least(1),
        /// The shortest heartbeat interval that a group may be given.
        group_consumer_min_heartbeat_interval: Duration = ConfigDef::int("group.consumer.min.heartbeat.interval.ms", "5000").at_least(1),
        /// The longest heartbeat interval that a group may be given.
        group_consumer_max_heartbeat_interval: Duration = ConfigDef::int("group.consumer.max.heartbeat.interval.ms", "15000").at_least(1),
        /// How many members a group of the protocol of KIP-848 may have.
        group_consumer_max_size: u32 = ConfigDef::int("group.consumer.max.size", "2147483647").at_least(1),
        /// Which assignors members may choose from, the default first.
        group_consumer_assignors: Vec<String> = ConfigDef::list("group.consumer.assignors", "uniform,range").non_empty().one_of(GROUP_ASSIGNORS),
        /// Which changes between the classic and the consumer protocol are made while a group has members.
        group_consumer_migration_policy: GroupMigration = ConfigDef::string("group.consumer.migration.policy", "bidirectional").one_of(GROUP_MIGRATIONS),
        /// How many members a group may have.
        group_max_size: u32 = ConfigDef::int("group.max.size", "2147483647").at_least(1),

        /// How many partitions the topic of transactions has.
        transaction_state_log_num_partitions: i32 = ConfigDef::int("transaction.state.log.num.partitions", "50").at_least(1),
        /// How many replicas the topic of transactions has; as many as there are brokers when they are fewer.
        transaction_state_log_replication_factor: i16 = ConfigDef::short("transaction.state.log.replication.factor", "3").at_least(1),
        /// How many bytes a segment of the topic of transactions holds.
        transaction_state_log_segment_bytes: u32 = ConfigDef::int("transaction.state.log.segment.bytes", "104857600").at_least(1024),
        /// The longest transaction timeout that a producer may ask for.
        transaction_max_timeout: Duration = ConfigDef::int("transaction.max.timeout.ms", "900000").at_least(1),
        /// How long a transactional id without transactions is remembered.
        transactional_id_expiration: Duration = ConfigDef::int("transactional.id.expiration.ms", "604800000").at_least(1),
        /// Accepted for compatibility: a transaction that runs out of time is aborted at once.
        transaction_abort_timed_out_cleanup_interval: Duration = ConfigDef::int("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000").at_least(1),
        /// How often to look for transactional ids that may be forgotten.
        transaction_remove_expired_cleanup_interval: Duration = ConfigDef::int("transaction.remove.expired.transaction.cleanup.interval.ms", "3600000").at_least(1),
        /// Whether a partition asks the coordinator before it accepts a transaction's first batch.
        transaction_partition_verification_enable: bool = ConfigDef::boolean("transaction.partition.verification.enable", "true").dynamic(),
        /// How long a partition remembers a producer that writes nothing.
        producer_id_expiration: Duration = ConfigDef::int("producer.id.expiration.ms", "86400000").at_least(1).dynamic(),
    }
}

/// Settings of Kafka that mean nothing here and do no harm when given: a `server.properties`
/// written for Kafka starts Millstream too. Names ending in a dot stand for all that begin so.
const IGNORED: &[&str] = &[
    "controller.",
    "group.consumer.regex.refresh.interval.ms",
    "group.coordinator.",
    "log.cleaner.io.buffer.",
    "log.cleaner.threads",
    "log.flush.",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "process.roles",
    "replica.",
    "sasl.kerberos.",
    "sasl.login.",
    "sasl.mechanism.controller.protocol",
    "sasl.mechanism.inter.broker.protocol",
    "share.",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.endpoint.identification.algorithm",
    "ssl.keymanager.algorithm",
    "ssl.protocol",
    "ssl.trustmanager.algorithm",
    "transaction.state.log.min.isr",
];

impl BrokerConfig {
    /// Reads a broker's settings: those of `pairs` over the defaults.
    ///
    /// Settings of Kafka that have no meaning here are passed over.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors> {
        let pairs = pairs.into_iter().map(|(name, text)| (name.into(), text.into()));
        let (scoped, mut pairs) = Scoped::split(pairs);
        pairs.retain(|(name, _)| find(Self::DEFS, name).is_some() || !is_ignored(name));
        let def = find(Self::DEFS, scoped::PREFIX).expect("declared above");
        if scoped != Scoped::default() {
            pairs.extend(scoped.show(def).map(|text| (def.name.to_owned(), text)));
        }
        let config = Self::parse::<String, String>(pairs)?;
        let conflicts = config.conflicts();
        if conflicts.is_empty() { Ok(config) } else { Err(ConfigErrors(conflicts)) }
    }

    /// The directory of all data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        Path::new(self.log_dirs.as_ref().unwrap_or(&self.log_dir).trim()).to_owned()
    }

    /// How much memory larger requests may take in all. `None`: as much as their share.
    #[must_use]
    pub fn queued_request_bytes_max(&self) -> Option<u64> {
        // Nothing is no bound in Kafka, either.
        self.queued_max_request_bytes.filter(|bytes| *bytes > 0)
    }

    /// How long records are kept when their topic does not say. `None`: for ever.
    #[must_use]
    pub fn log_retention(&self) -> Option<Duration> {
        u64::try_from(self.log_retention_millis()).ok().map(Duration::from_millis)
    }

    /// How old a segment may become when its topic does not say.
    #[must_use]
    pub fn log_roll(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.log_roll_millis()).expect("the range begins at 1"))
    }

    /// What holds for each of a topic's settings while the topic says nothing. `None`: null.
    #[must_use]
    pub fn topic_defaults(&self) -> Vec<(&'static ConfigDef, Option<String>)> {
        let own: BTreeMap<_, _> =
            self.pairs().into_iter().map(|(def, text)| (def.name, text)).collect();
        let default = |def: &'static ConfigDef| {
            let text = match def.synonym {
                Some("log.retention.ms") => Some(self.log_retention_millis().to_string()),
                Some("log.roll.ms") => Some(self.log_roll_millis().to_string()),
                Some("log.flush.interval.ms") => {
                    Some(self.log_flush_interval_ms.unwrap_or(i64::MAX).to_string())
                }
                Some(name) => own.get(name).cloned().flatten(),
                None => def.default.map(str::to_owned),
            };
            (def, text)
        };
        TopicConfig::DEFS.iter().map(default).collect()
    }

    fn log_retention_millis(&self) -> i64 {
        let scaled = |count: i32, unit: i64| if count < 0 { -1 } else { i64::from(count) * unit };
        match (self.log_retention_ms, self.log_retention_minutes) {
            (Some(ms), _) => ms,
            (None, Some(minutes)) => scaled(minutes, 60_000),
            (None, None) => scaled(self.log_retention_hours, 3_600_000),
        }
    }

    fn log_roll_millis(&self) -> i64 {
        self.log_roll_ms.unwrap_or(i64::from(self.log_roll_hours) * 3_600_000)
    }

    /// Users of SCRAM that are to exist from the first start on.
    ///
    /// # Errors
    /// When the setting names none.
    pub fn initial_users(&self) -> Result<Vec<InitialUser>, InitialUserError> {
        let text = self.initial_scram_credentials.as_ref().map_or("", Secret::expose);
        initial::initial_users(text)
    }

    /// What each setting's own range cannot see.
    fn conflicts(&self) -> Vec<ConfigError> {
        let mut conflicts = Vec::new();
        let mut refuse =
            |name, reason: String| conflicts.push(ConfigError::Conflict { name, reason });
        if self.log_dirs.as_ref().is_some_and(|dirs| dirs.contains(',')) {
            refuse("log.dirs", "more than one directory is not supported".to_owned());
        }
        for (name, reason) in self.listener_conflicts() {
            refuse(name, reason);
        }
        if let Err(error) = self.initial_users() {
            refuse("initial.scram.credentials", error.to_string());
        }
        for (name, reason) in self.metrics_conflicts() {
            refuse(name, reason);
        }
        let request_bytes_max = u64::from(self.socket_request_max_bytes);
        if self.queued_max_request_bytes.is_some_and(|bytes| 0 < bytes && bytes < request_bytes_max)
        {
            let reason = "is smaller than socket.request.max.bytes".to_owned();
            refuse("queued.max.request.bytes", reason);
        }
        if self.memory_budget_bytes.is_some_and(|bytes| bytes < BUDGET_BYTES_MIN) {
            let reason = format!("is smaller than {BUDGET_BYTES_MIN}");
            refuse("memory.budget.bytes", reason);
        }
        if self.group_min_session_timeout > self.group_max_session_timeout {
            let reason = "is larger than group.max.session.timeout.ms".to_owned();
            refuse("group.min.session.timeout.ms", reason);
        }
        conflicts
    }
}

fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|known| *known == name || (known.ends_with('.') && name.starts_with(known)))
}
