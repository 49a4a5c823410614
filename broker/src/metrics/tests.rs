//! What is told of what was counted. Shell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::api_key::ApiKey;

use super::disk::TimedDisk;
use super::*;
use crate::disk::{Disk, Open, SimDisk};

fn text(metrics: &Metrics) -> String {
    let mut page = Page::default();
    write_counters(&mut page, metrics);
    page.into_text()
}

fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
}

#[test]
fn every_metric_has_a_name_of_its_own_with_its_unit_and_a_meaning() {
    let names: BTreeSet<_> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for metric in TABLE {
        let is_lawful = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(metric.name.chars().all(is_lawful), "{}", metric.name);
        let is_counter = metric.name.ends_with("_total");
        assert_eq!(is_counter, metric.kind == MetricKind::Counter, "{}", metric.name);
        assert!(metric.help.trim().ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn what_was_counted_is_told() {
    let metrics = Metrics::default();
    metrics.answered(ApiKey::Produce, 100, Duration::from_micros(100));
    metrics.answered(ApiKey::Produce, 50, Duration::from_micros(101));
    metrics.answered(ApiKey::Fetch, 10, Duration::from_secs(100));
    metrics.failed(ApiKey::Fetch, 3);
    metrics.failed(ApiKey::Fetch, -1);
    metrics.failed(ApiKey::Fetch, i16::MAX);
    metrics.throttled(ApiKey::Fetch, Duration::from_millis(1500));
    metrics.produced(7, 90);
    metrics.connected();
    metrics.connected();
    metrics.disconnected();
    let text = text(&metrics);
    let latency = "kafka_network_requestmetrics_totaltime_seconds";
    for line in [
        "# TYPE kafka_server_brokertopicmetrics_messagesin_total counter",
        "kafka_server_brokertopicmetrics_messagesin_total 7",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 2",
        &format!("{latency}_bucket{{request=\"Produce\",le=\"0.000100\"}} 1"),
        &format!("{latency}_bucket{{request=\"Produce\",le=\"0.000250\"}} 2"),
        &format!("{latency}_bucket{{request=\"Produce\",le=\"+Inf\"}} 2"),
        &format!("{latency}_sum{{request=\"Produce\"}} 0.000201"),
        &format!("{latency}_bucket{{request=\"Fetch\",le=\"10.000000\"}} 0"),
        &format!("{latency}_count{{request=\"Fetch\"}} 1"),
        "kafka_network_requestmetrics_errors_total{request=\"Fetch\",error=\"UnknownTopicOrPartition\"} 1",
        "kafka_network_requestmetrics_throttletime_seconds_total{request=\"Fetch\"} 1.500000",
        "kafka_network_socketserver_received_bytes_total 160",
        "kafka_network_socketserver_connections 1",
        "kafka_network_socketserver_connections_accepted_total 2",
    ] {
        assert_has(&text, line);
    }
    assert!(!text.contains("Heartbeat"), "nobody asked for it");
}

#[test]
fn labels_cannot_break_out_of_their_quotes() {
    let mut page = Page::default();
    page.each(LOG_SIZE, "topic", [("a\"b\\c\nd", 1)]);
    assert_has(&page.into_text(), "kafka_log_log_size_bytes{topic=\"a\\\"b\\\\c\\nd\"} 1");
}

#[tokio::test(start_paused = true)]
async fn syncs_are_timed_and_all_else_passes_through() {
    let metrics = Arc::new(Metrics::default());
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let disk = TimedDisk::new(Arc::new(SimDisk::new(1)), metrics.clone(), clock);
    let path = std::path::Path::new("/d");
    disk.create_dir_all(path).unwrap();
    let file = disk.open(&path.join("f"), Open::CreateNew).unwrap();
    file.write_at(&[b"abc"], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    assert_eq!(disk.list(path).unwrap(), ["f"]);
    assert_has(&text(&metrics), "kafka_log_logflushstats_logflushtime_seconds_count 2");
}
