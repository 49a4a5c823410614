//! Settings by Kafka's names, parsed once into types that cannot be wrong.
//!
//! Programs fill in the structs; pipelines and command lines bring strings, which `parse` takes
//! all at once, reporting every mistake (`protocol::config`). Relations among settings are checked
//! by `validate`, which connecting a client calls. Pure.

mod offset_reset;
mod security;

use std::time::Duration;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, ConfigValue, Kind};
use protocol::record::Codec;
use protocol::{config_words, configs};

pub use offset_reset::OffsetReset;
pub use security::{Identity, SecurityConfig};

/// How many replicas must have a record before it counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// All in-sync replicas.
    #[default]
    All,
    /// The leader alone: its loss loses records.
    Leader,
    /// None: the broker does not even answer.
    None,
}

impl Acks {
    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> i16 {
        match self {
            Self::All => -1,
            Self::Leader => 1,
            Self::None => 0,
        }
    }
}

impl ConfigValue for Acks {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        match text.trim() {
            "all" | "-1" => Some(Self::All),
            "1" => Some(Self::Leader),
            "0" => Some(Self::None),
            _ => None,
        }
    }

    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(if *self == Self::All { "all".to_owned() } else { self.to_wire().to_string() })
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip.
    Gzip,
    /// By snappy.
    Snappy,
    /// By lz4.
    Lz4,
    /// By zstd. KIP-110.
    Zstd,
}
config_words!(Compression {
    None = "none",
    Gzip = "gzip",
    Snappy = "snappy",
    Lz4 = "lz4",
    Zstd = "zstd",
});

impl Compression {
    /// The codec of batches.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

/// Which records a consumer sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum IsolationLevel {
    /// All below the high watermark, those of open and aborted transactions included.
    #[default]
    ReadUncommitted,
    /// Those below the last stable offset, without those of aborted transactions.
    ReadCommitted,
}

config_words!(IsolationLevel {
    ReadUncommitted = "read_uncommitted",
    ReadCommitted = "read_committed",
});

impl IsolationLevel {
    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// How a group's leader distributes partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignor {
    /// Consecutive partitions of each topic; equal numbers of partitions go to the same member.
    #[default]
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// Evenly, moving as few as possible; members keep what they keep while others move (KIP-429).
    CooperativeSticky,
}

config_words!(Assignor {
    Range = "range",
    RoundRobin = "roundrobin",
    CooperativeSticky = "cooperative-sticky",
});

impl Assignor {
    /// The name in Kafka's group protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// How a group's members agree on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// One of the members assigns; all stop and join again when something changes.
    #[default]
    Classic,
    /// The coordinator assigns; members keep what is not taken from them. KIP-848.
    Consumer,
}

config_words!(GroupProtocol { Classic = "classic", Consumer = "consumer" });

/// Where records go that name no partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the key's murmur2 hash, as Java's clients; without a key one partition at a time, until a
    /// batch is full. KIP-480, KIP-794.
    #[default]
    Default,
    /// One partition at a time whatever the key.
    UniformSticky,
    /// Each record to the next partition that has a leader, whatever the key.
    RoundRobin,
    /// By the key's CRC-32, as librdkafka's clients do unless told otherwise; without a key, or
    /// with an empty one, one partition at a time.
    ConsistentRandom,
}

config_words!(Partitioner {
    Default = "default",
    UniformSticky = "uniform_sticky",
    RoundRobin = "round_robin",
    ConsistentRandom = "consistent_random",
});

configs! {
    /// Settings of a producer.
    pub struct ProducerConfig {
        /// When a record counts as written.
        acks: Acks = ConfigDef::string("acks", "all").one_of(&["all", "-1", "0", "1"]),
        /// Number batches so that a retry cannot write twice, nor out of order. KIP-98.
        enable_idempotence: bool = ConfigDef::boolean("enable.idempotence", "true"),
        /// The name under which this producer's transactions continue across restarts. A new
        /// producer of the same name fences the older one. KIP-98.
        transactional_id: Option<String> = ConfigDef::null(Kind::String, "transactional.id").non_empty(),
        /// How long the broker lets a transaction stay open before it aborts it.
        transaction_timeout: Duration = ConfigDef::int("transaction.timeout.ms", "60000").at_least(0),
        /// How long a batch waits for more records. KIP-1030.
        linger: Duration = ConfigDef::int("linger.ms", "5").at_least(0),
        /// A batch of one partition is sent when its records have so many bytes, uncompressed.
        ///
        /// Larger than Java's 16 KiB: a request costs a broker more than the bytes in it.
        batch_size: usize = ConfigDef::int("batch.size", "262144").at_least(1),
        /// How batches are compressed.
        compression: Compression = ConfigDef::string("compression.type", "none").one_of(&["none", "gzip", "snappy", "lz4", "zstd"]),
        /// Where records go that name no partition. All producers of a topic should agree.
        partitioner: Partitioner = ConfigDef::string("partitioner", "default").one_of(&["default", "uniform_sticky", "round_robin", "consistent_random"]),
        /// Bytes of records that may wait to be acknowledged; then `append` refuses.
        buffer_memory: usize = ConfigDef::int("buffer.memory", "67108864").at_least(1),
        /// The largest record, and about the largest request.
        max_request_size: usize = ConfigDef::int("max.request.size", "1048576").at_least(1),
        /// Requests to one broker that may be unanswered.
        max_in_flight: usize = ConfigDef::int("max.in.flight.requests.per.connection", "5").at_least(1),
        /// From `append` until a batch that could not be delivered is reported as failed.
        delivery_timeout: Duration = ConfigDef::int("delivery.timeout.ms", "120000").at_least(0),
        /// How long `ready`, `flush` and the verbs of transactions may wait.
        max_block: Duration = ConfigDef::int("max.block.ms", "60000").at_least(0),
        /// How long a request may stay unanswered; then its connection is closed.
        request_timeout: Duration = ConfigDef::int("request.timeout.ms", "30000").at_least(0),
        /// The first wait before a retry; doubles from there. KIP-580.
        retry_backoff: Duration = ConfigDef::int("retry.backoff.ms", "100").at_least(0),
        /// The longest wait before a retry. KIP-580.
        retry_backoff_max: Duration = ConfigDef::int("retry.backoff.max.ms", "1000").at_least(0),
        /// Metadata older than this is asked for again.
        metadata_max_age: Duration = ConfigDef::int("metadata.max.age.ms", "300000").at_least(0),
    }
}

impl ProducerConfig {
    /// Checks what relates settings to one another.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let contradiction = if self.transactional_id.is_some() && !self.enable_idempotence {
            Some(("transactional.id", "needs enable.idempotence"))
        } else if self.enable_idempotence && self.acks != Acks::All {
            Some(("enable.idempotence", "needs acks=all"))
        } else if self.enable_idempotence && self.max_in_flight > 5 {
            // Brokers remember five batches of a producer, no more.
            Some(("enable.idempotence", "needs max.in.flight.requests.per.connection of at most 5"))
        } else if self.delivery_timeout < self.linger + self.request_timeout {
            Some(("delivery.timeout.ms", "must be at least linger.ms plus request.timeout.ms"))
        } else if self.max_request_size > self.buffer_memory {
            Some(("max.request.size", "must not exceed buffer.memory"))
        } else {
            None
        };
        refuse(contradiction)
    }
}

configs! {
    /// Settings of a consumer.
    pub struct ConsumerConfig {
        /// The group whose offsets are committed and whose members share partitions.
        group_id: Option<String> = ConfigDef::null(Kind::String, "group.id").non_empty(),
        /// Names this member across restarts: a short absence costs no rebalance. KIP-345.
        group_instance_id: Option<String> = ConfigDef::null(Kind::String, "group.instance.id").non_empty(),
        /// How members agree on who reads what: `consumer` needs brokers from 4.0 on. KIP-848.
        group_protocol: GroupProtocol = ConfigDef::string("group.protocol", "classic").one_of(&["classic", "consumer"]),
        /// With `group.protocol=consumer`, the coordinator's assignor; `None`: its first.
        group_remote_assignor: Option<String> = ConfigDef::null(Kind::String, "group.remote.assignor").non_empty(),
        /// How partitions are distributed. All members of a group must have one in common. Classic
        /// groups alone.
        assignor: Assignor = ConfigDef::string("partition.assignment.strategy", "range").one_of(&["range", "roundrobin", "cooperative-sticky"]),
        /// Without a heartbeat for this long a member is expelled.
        session_timeout: Duration = ConfigDef::int("session.timeout.ms", "45000").at_least(0),
        /// How often heartbeats are sent, independently of `poll`.
        heartbeat_interval: Duration = ConfigDef::int("heartbeat.interval.ms", "3000").at_least(0),
        /// Without a `poll` for this long a member leaves its group; also how long a rebalance
        /// waits for members.
        max_poll_interval: Duration = ConfigDef::int("max.poll.interval.ms", "300000").at_least(0),
        /// `poll` returns no further batch once it has so many records: a whole batch at least.
        max_poll_records: usize = ConfigDef::int("max.poll.records", "10000").at_least(1),
        /// Which records are seen.
        isolation_level: IsolationLevel = ConfigDef::string("isolation.level", "read_uncommitted").one_of(&["read_uncommitted", "read_committed"]),
        /// Where to start without a committed offset.
        auto_offset_reset: OffsetReset = ConfigDef::string("auto.offset.reset", "latest"),
        /// Commit, at `poll`, the offsets of what earlier polls returned.
        ///
        /// Off unless asked for: what is committed by a timer was not necessarily processed.
        enable_auto_commit: bool = ConfigDef::boolean("enable.auto.commit", "false"),
        /// How often `poll` commits by itself.
        auto_commit_interval: Duration = ConfigDef::int("auto.commit.interval.ms", "5000").at_least(0),
        /// A fetch is answered when so many bytes are there.
        fetch_min_bytes: usize = ConfigDef::int("fetch.min.bytes", "1").at_least(1),
        /// The most bytes of one answer, and so of what is held in advance per broker.
        fetch_max_bytes: usize = ConfigDef::int("fetch.max.bytes", "52428800").at_least(1),
        /// The most bytes of one partition in one answer.
        max_partition_fetch_bytes: usize = ConfigDef::int("max.partition.fetch.bytes", "1048576").at_least(1),
        /// A fetch is answered after this time whatever there is.
        fetch_max_wait: Duration = ConfigDef::int("fetch.max.wait.ms", "500").at_least(0),
        /// Verify the checksum of each batch.
        check_crcs: bool = ConfigDef::boolean("check.crcs", "true"),
        /// Let the broker create topics that are subscribed to and do not exist.
        allow_auto_create_topics: bool = ConfigDef::boolean("allow.auto.create.topics", "false"),
        /// Where this client is: brokers may let it read from a near replica. KIP-392.
        client_rack: String = ConfigDef::string("client.rack", ""),
        /// How long calls other than `poll` may wait.
        default_api_timeout: Duration = ConfigDef::int("default.api.timeout.ms", "60000").at_least(0),
        /// How long a request may stay unanswered; then its connection is closed.
        request_timeout: Duration = ConfigDef::int("request.timeout.ms", "30000").at_least(0),
        /// The first wait before a retry; doubles from there. KIP-580.
        retry_backoff: Duration = ConfigDef::int("retry.backoff.ms", "100").at_least(0),
        /// The longest wait before a retry. KIP-580.
        retry_backoff_max: Duration = ConfigDef::int("retry.backoff.max.ms", "1000").at_least(0),
        /// Metadata older than this is asked for again.
        metadata_max_age: Duration = ConfigDef::int("metadata.max.age.ms", "300000").at_least(0),
    }
}

impl ConsumerConfig {
    /// Checks what relates settings to one another.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let contradiction = if self.heartbeat_interval >= self.session_timeout {
            Some(("heartbeat.interval.ms", "must be below session.timeout.ms"))
        } else if self.enable_auto_commit && self.group_id.is_none() {
            Some(("enable.auto.commit", "needs group.id"))
        } else if self.group_instance_id.is_some() && self.group_id.is_none() {
            Some(("group.instance.id", "needs group.id"))
        } else if self.group_remote_assignor.is_some()
            && self.group_protocol == GroupProtocol::Classic
        {
            Some(("group.remote.assignor", "needs group.protocol=consumer"))
        } else {
            None
        };
        refuse(contradiction)
    }
}

/// What is wrong with how settings relate: the setting to change, and why.
fn refuse(contradiction: Option<(&'static str, &'static str)>) -> Result<(), ConfigErrors> {
    contradiction.map_or(Ok(()), |(name, reason)| {
        Err(ConfigErrors(vec![ConfigError::Conflict { name, reason: reason.to_owned() }]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_by_kafkas_names() {
        let config = ProducerConfig::parse([
            ("acks", "-1"),
            ("linger.ms", "20"),
            ("batch.size", "1000000"),
            ("transactional.id", "mover-1"),
            ("compression.type", "lz4"),
        ]);
        let want = ProducerConfig {
            linger: Duration::from_millis(20),
            batch_size: 1_000_000,
            transactional_id: Some("mover-1".to_owned()),
            compression: Compression::Lz4,
            ..ProducerConfig::default()
        };
        assert_eq!(config, Ok(want));
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_unknown_names_with_the_near_match() {
        let refused = ProducerConfig::parse([
            ("linger.sm", "20"),
            ("batch.size", "0"),
            ("acks", "most"),
            ("colour", "red"),
        ]);
        expect_test::expect![[r#"
            colour: unknown setting
            linger.sm: unknown setting, did you mean linger.ms?
            acks: "most" is not accepted, expected one of all, -1, 0, 1
            batch.size: "0" is not accepted, expected an integer of at least 1"#]]
        .assert_eq(&refused.unwrap_err().to_string());
    }

    #[test]
    fn the_defaults_of_both_clients_are_valid() {
        assert_eq!(ProducerConfig::default().validate(), Ok(()));
        assert_eq!(ConsumerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn contradictions_are_refused() {
        for pairs in [
            vec![("enable.idempotence", "false"), ("transactional.id", "a")],
            vec![("max.in.flight.requests.per.connection", "6")],
            vec![("acks", "1")],
            vec![("delivery.timeout.ms", "100")],
            vec![("buffer.memory", "100")],
        ] {
            let config = ProducerConfig::parse(pairs.clone()).unwrap();
            assert!(config.validate().is_err(), "{pairs:?}");
        }
        for pairs in [
            vec![("heartbeat.interval.ms", "45000")],
            vec![("enable.auto.commit", "true")],
            vec![("group.instance.id", "a")],
        ] {
            let config = ConsumerConfig::parse(pairs.clone()).unwrap();
            assert!(config.validate().is_err(), "{pairs:?}");
        }
    }
}
