//! The settings of one topic: its own over the broker's that are their synonyms. Pure.

use std::time::Duration;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors};
use protocol::configs;

use super::{
    BrokerConfig, CLEANUP_POLICIES, COMPRESSION_TYPES, CompressionType, FLUSH_MODES, FlushMode,
    TIMESTAMP_TYPES, TimestampType,
};

configs! {
    /// What holds for one topic: its overrides over the broker's settings.
    pub struct TopicConfig {
        /// What happens to old segments: delete, compact, or both.
        cleanup_policy: Vec<String> = ConfigDef::list("cleanup.policy", "delete").one_of(CLEANUP_POLICIES).dynamic().synonym("log.cleanup.policy"),
        /// The level of gzip when the broker compresses.
        compression_gzip_level: i32 = ConfigDef::int("compression.gzip.level", "-1").between(-1, 9).dynamic().synonym("compression.gzip.level"),
        /// Accepted for compatibility: there is one level of lz4 when the broker compresses.
        compression_lz4_level: i32 = ConfigDef::int("compression.lz4.level", "9").between(1, 17).dynamic().synonym("compression.lz4.level"),
        /// How batches are compressed on disk.
        compression_type: CompressionType = ConfigDef::string("compression.type", "producer").one_of(COMPRESSION_TYPES).dynamic().synonym("compression.type"),
        /// The level of zstd when the broker compresses.
        compression_zstd_level: i32 = ConfigDef::int("compression.zstd.level", "3").between(-131_072, 22).dynamic().synonym("compression.zstd.level"),
        /// How long tombstones and transaction markers stay after compaction.
        delete_retention: Duration = ConfigDef::long("delete.retention.ms", "86400000").at_least(0).dynamic().synonym("log.cleaner.delete.retention.ms"),
        /// Accepted for compatibility: the files of a deleted segment go at once; who is reading one reads on.
        file_delete_delay: Duration = ConfigDef::long("file.delete.delay.ms", "60000").at_least(0).dynamic().synonym("log.segment.delete.delay.ms"),
        /// How many records may be written before they are made durable, where flush.mode is async.
        flush_messages: i64 = ConfigDef::long("flush.messages", "9223372036854775807").at_least(1).dynamic().synonym("log.flush.interval.messages"),
        /// When an acknowledged record is durable: ack = on disk before the acknowledgement; async = handed to the operating system before it.
        flush_mode: FlushMode = ConfigDef::string("flush.mode", "ack").one_of(FLUSH_MODES).dynamic().synonym("flush.mode"),
        /// How long written records may wait to be made durable, where flush.mode is async; some seconds at most in any case.
        flush_ms: i64 = ConfigDef::long("flush.ms", "9223372036854775807").at_least(0).dynamic().synonym("log.flush.interval.ms"),
        /// Accepted for compatibility: a single node copies nothing from others.
        follower_replication_throttled_replicas: Vec<String> = ConfigDef::list("follower.replication.throttled.replicas", "").dynamic(),
        /// How many bytes of log lie between two entries of its index.
        index_interval_bytes: u32 = ConfigDef::int("index.interval.bytes", "4096").at_least(0).dynamic().synonym("log.index.interval.bytes"),
        /// Accepted for compatibility: a single node copies nothing to others.
        leader_replication_throttled_replicas: Vec<String> = ConfigDef::list("leader.replication.throttled.replicas", "").dynamic(),
        /// Tiered storage is not offered: all that is kept is local.
        local_retention_bytes: i64 = ConfigDef::long("local.retention.bytes", "-2").at_least(-2).dynamic(),
        /// Tiered storage is not offered: all that is kept is local.
        local_retention_ms: i64 = ConfigDef::long("local.retention.ms", "-2").at_least(-2).dynamic(),
        /// How long a record stays uncompacted at most.
        max_compaction_lag: Duration = ConfigDef::long("max.compaction.lag.ms", "9223372036854775807").at_least(1).dynamic().synonym("log.cleaner.max.compaction.lag.ms"),
        /// How large a batch may be, in bytes.
        max_message_bytes: u32 = ConfigDef::int("max.message.bytes", "1048588").at_least(0).dynamic().synonym("message.max.bytes"),
        /// How far after the broker's clock a record may be dated.
        message_timestamp_after_max: Duration = ConfigDef::long("message.timestamp.after.max.ms", "3600000").at_least(0).dynamic().synonym("log.message.timestamp.after.max.ms"),
        /// How far before the broker's clock a record may be dated.
        message_timestamp_before_max: Duration = ConfigDef::long("message.timestamp.before.max.ms", "9223372036854775807").at_least(0).dynamic().synonym("log.message.timestamp.before.max.ms"),
        /// Who dates records: the producer or the broker.
        message_timestamp_type: TimestampType = ConfigDef::string("message.timestamp.type", "CreateTime").one_of(TIMESTAMP_TYPES).dynamic().synonym("log.message.timestamp.type"),
        /// Which part of a log must be uncompacted before it is compacted.
        min_cleanable_dirty_ratio: f64 = ConfigDef::double("min.cleanable.dirty.ratio", "0.5").within(0.0, 1.0).dynamic().synonym("log.cleaner.min.cleanable.ratio"),
        /// How long a record stays uncompacted at least.
        min_compaction_lag: Duration = ConfigDef::long("min.compaction.lag.ms", "0").at_least(0).dynamic().synonym("log.cleaner.min.compaction.lag.ms"),
        /// How many replicas must be in sync for acks=all to be accepted.
        min_insync_replicas: i32 = ConfigDef::int("min.insync.replicas", "1").at_least(1).dynamic().synonym("min.insync.replicas"),
        /// Accepted for compatibility: files grow as they are written.
        preallocate: bool = ConfigDef::boolean("preallocate", "false").dynamic(),
        /// Tiered storage is not offered.
        remote_log_copy_disable: bool = ConfigDef::boolean("remote.log.copy.disable", "false").dynamic(),
        /// Tiered storage is not offered.
        remote_log_delete_on_disable: bool = ConfigDef::boolean("remote.log.delete.on.disable", "false").dynamic(),
        /// Tiered storage is not offered.
        remote_storage_enable: bool = ConfigDef::boolean("remote.storage.enable", "false").one_of(&["false"]).dynamic(),
        /// How many bytes of a partition are kept, -1 for all.
        retention_bytes: Option<u64> = ConfigDef::long("retention.bytes", "-1").at_least(-1).dynamic().synonym("log.retention.bytes"),
        /// How long records are kept, -1 for ever.
        retention: Option<Duration> = ConfigDef::long("retention.ms", "604800000").at_least(-1).dynamic().synonym("log.retention.ms"),
        /// How many bytes a segment of the log holds at most.
        segment_bytes: u32 = ConfigDef::int("segment.bytes", "1073741824").at_least(1024).dynamic().synonym("log.segment.bytes"),
        /// How many bytes an index file may take.
        segment_index_bytes: u32 = ConfigDef::int("segment.index.bytes", "10485760").at_least(4).dynamic().synonym("log.index.size.max.bytes"),
        /// By how much at most a segment ends earlier than segment.ms says, by chance.
        segment_jitter: Duration = ConfigDef::long("segment.jitter.ms", "0").at_least(0).dynamic(),
        /// How old a segment may become before a new one is begun.
        segment_roll: Duration = ConfigDef::long("segment.ms", "604800000").at_least(1).dynamic().synonym("log.roll.ms"),
        /// Whether a replica that is not in sync may become leader, losing records, when no other can.
        unclean_leader_election_enable: bool = ConfigDef::boolean("unclean.leader.election.enable", "false").dynamic().synonym("unclean.leader.election.enable"),
    }
}

impl TopicConfig {
    /// What holds for a topic with `overrides` on a broker of `broker` settings.
    ///
    /// # Errors
    /// Everything that is wrong with the overrides, at once.
    pub fn of<'a>(
        broker: &BrokerConfig,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigErrors> {
        let defaults = broker.topic_defaults().into_iter();
        let defaults = defaults.filter_map(|(def, text)| Some((def.name.to_owned(), text?)));
        let overrides =
            overrides.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
        let config = Self::parse(defaults.chain(overrides))?;
        if config.max_compaction_lag < config.min_compaction_lag {
            let reason = "is larger than max.compaction.lag.ms".to_owned();
            let conflict = ConfigError::Conflict { name: "min.compaction.lag.ms", reason };
            return Err(ConfigErrors(vec![conflict]));
        }
        Ok(config)
    }

    /// True when old segments are deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "delete")
    }

    /// True when only the newest record of each key is kept.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "compact")
    }
}
