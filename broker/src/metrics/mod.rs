//! What a broker did and how it is: counters that every room may raise, and their names.
//!
//! Counters and histograms are atomics in fixed arrays: to raise one costs an addition, allocates
//! nothing and orders nothing. What can be asked of the rooms (sizes, counts) is asked only when
//! somebody reads. [`TABLE`] names every metric with its unit and meaning; names follow Kafka's
//! beans as its exporters write them. Pure.

mod counters;
pub(crate) mod disk;
mod histogram;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use counters::Metrics;
pub(crate) use text::{Page, seconds, write_counters};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only rises, until the process ends.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How often which durations were seen.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name; the unit is its end, `_total` after it for counters.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it tells, for people.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $constant: Metric =
                Metric { name: $name, kind: MetricKind::$kind, help: $help };
        )*

        /// Every metric, in the order in which they are told.
        pub const TABLE: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    MESSAGES_IN Counter "kafka_server_brokertopicmetrics_messagesin_total" "Records that producers sent and that were found good.";
    BYTES_IN Counter "kafka_server_brokertopicmetrics_bytesin_bytes_total" "Bytes of their batches, as they were sent.";
    BYTES_OUT Counter "kafka_server_brokertopicmetrics_bytesout_bytes_total" "Bytes of batches that were fetched.";
    REQUESTS Counter "kafka_network_requestmetrics_requests_total" "Requests answered, by API.";
    ERRORS Counter "kafka_network_requestmetrics_errors_total" "Error codes in answers, by API and code.";
    LATENCY Histogram "kafka_network_requestmetrics_totaltime_seconds" "From a request's being read to its answer's being known, waiting for records among it, by API.";
    THROTTLED Counter "kafka_network_requestmetrics_throttletime_seconds_total" "For how long clients were told to be silent, by API.";
    RECEIVED Counter "kafka_network_socketserver_received_bytes_total" "Bytes of requests.";
    SENT Counter "kafka_network_socketserver_sent_bytes_total" "Bytes of answers.";
    CONNECTIONS Gauge "kafka_network_socketserver_connections" "Connections that are open.";
    ACCEPTED Counter "kafka_network_socketserver_connections_accepted_total" "Connections that were served.";
    REFUSED Counter "kafka_network_socketserver_connections_refused_total" "Connections that were closed at once: too many, or too fast.";
    MEMORY_TOTAL Gauge "kafka_network_socketserver_memorypoolsize_bytes" "Memory that connections, requests and answers may take: memory.budget.bytes.";
    MEMORY_USED Gauge "kafka_network_socketserver_memorypoolused_bytes" "What they take of it.";
    MEMORY_AVAILABLE Gauge "kafka_network_socketserver_memorypoolavailable_bytes" "What is left of it.";
    MEMORY_WAITING Gauge "kafka_network_socketserver_memorypoolwaiting" "Requests and answers that wait for memory.";
    MEMORY_WAITS Counter "kafka_network_socketserver_memorypoolwaits_total" "Requests and answers that had to wait for memory.";
    MEMORY_CLOSED Counter "kafka_network_socketserver_memorypoolclosed_total" "Connections that were closed for sending or taking too slowly what others waited for memory behind.";
    AUTHENTICATED Counter "kafka_network_socketserver_successful_authentication_total" "Times that a client proved who it is, by SASL.";
    UNAUTHENTICATED Counter "kafka_network_socketserver_failed_authentication_total" "Times that a client could not prove who it is, by SASL.";
    AUDITED Counter "millstream_audit_events_total" "Failed authentications, denials and changes, by event, whether written or withheld.";
    AUDIT_WITHHELD Counter "millstream_audit_withheld_total" "Those of them that were not written one by one, as their source had too many.";
    FLUSH Histogram "kafka_log_logflushstats_logflushtime_seconds" "How long it took to make writes durable, of logs and of metadata.";
    PARTITIONS Gauge "kafka_server_replicamanager_partitioncount" "Partitions that this broker holds.";
    LEADERS Gauge "kafka_server_replicamanager_leadercount" "Partitions that this broker leads.";
    UNDER_MIN_ISR Gauge "kafka_server_replicamanager_underminisrpartitioncount" "Partitions led here with fewer replicas in sync than min.insync.replicas.";
    UNDER_REPLICATED Gauge "kafka_server_replicamanager_underreplicatedpartitions" "Partitions led here with fewer replicas in sync than assigned.";
    OFFLINE_PARTITIONS Gauge "kafka_controller_kafkacontroller_offlinepartitionscount" "Partitions that nobody leads.";
    TOPICS Gauge "kafka_controller_kafkacontroller_globaltopiccount" "Topics of the cluster.";
    ACTIVE_CONTROLLER Gauge "kafka_controller_kafkacontroller_activecontrollercount" "1 on the broker that is the active controller.";
    METADATA_END Gauge "kafka_server_metadataloader_currentmetadataoffset" "The end of the metadata log that this broker has applied.";
    LOG_SIZE Gauge "kafka_log_log_size_bytes" "Bytes of the partitions held here, by topic.";
    OFFLINE_DIRS Gauge "kafka_log_logmanager_offlinelogdirectorycount" "Log directories that failed.";
    FREE_BYTES Gauge "kafka_log_logmanager_usable_bytes" "Bytes that can still be written to the log directory.";
    GROUPS Gauge "kafka_coordinator_group_groups" "Groups coordinated here, by state.";
    TRANSACTIONS Gauge "kafka_coordinator_transaction_transactions" "Transactional ids coordinated here, by state.";
    RESIDENT Gauge "process_resident_memory_bytes" "Memory of the process.";
    CPU Counter "process_cpu_seconds_total" "Time that the process ran, in user and kernel mode.";
    OPEN_FILES Gauge "process_open_fds" "File descriptors that are open.";
    BUILD Gauge "millstream_build_info" "1, labelled by the release.";
}
