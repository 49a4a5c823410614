//! Metrics as text, in the format that Prometheus reads.
//!
//! A page is written metric by metric: its meaning and type once, then a line for each set of
//! labels. Values of labels are escaped. Pure.

use std::fmt::{Display, Write};
use std::time::Duration;

use protocol::error_code::ErrorCode;

use super::counters::{Metrics, read};
use super::histogram::{BOUNDS_MICROS, Reading};
use super::{
    ACCEPTED, AUTHENTICATED, BYTES_IN, BYTES_OUT, CONNECTIONS, ERRORS, FLUSH, LATENCY, MESSAGES_IN,
    Metric, MetricKind, RECEIVED, REFUSED, REQUESTS, SENT, THROTTLED, UNAUTHENTICATED,
};

/// Labels of a line: names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// A metric of one value.
    pub(crate) fn one(&mut self, metric: Metric, value: impl Display) {
        self.begin(metric);
        self.line(metric.name, &[], value);
    }

    /// A metric of several values, one for each set of labels.
    pub(crate) fn each<'a, V: Display>(
        &mut self,
        metric: Metric,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.begin(metric);
        for (name, value) in values {
            self.line(metric.name, &[(label, name)], value);
        }
    }

    fn begin(&mut self, metric: Metric) {
        let Metric { name, kind, help } = metric;
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", help.trim()));
    }

    fn line(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.put(format_args!("{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.put(format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{after} {value}\n"));
    }

    fn histogram(&mut self, name: &str, label: Option<(&str, &str)>, reading: &Reading) {
        let bounds = BOUNDS_MICROS.iter().map(|&micros| seconds(Duration::from_micros(micros)));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut so_far = 0_u64;
        for (bound, count) in bounds.zip(reading.counts) {
            so_far = so_far.saturating_add(count);
            let labels: Vec<_> = label.into_iter().chain([("le", &*bound)]).collect();
            self.line(&format!("{name}_bucket"), &labels, so_far);
        }
        let labels: Vec<_> = label.into_iter().collect();
        self.line(&format!("{name}_sum"), &labels, seconds(reading.sum));
        self.line(&format!("{name}_count"), &labels, so_far);
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing into a text does not fail");
    }
}

/// Writes all that is counted.
pub(crate) fn write_counters(page: &mut Page, metrics: &Metrics) {
    page.one(MESSAGES_IN, read(&metrics.messages_in));
    page.one(BYTES_IN, read(&metrics.bytes_in));
    page.one(BYTES_OUT, read(&metrics.bytes_out));
    let latencies: Vec<_> = metrics.latencies().collect();
    let counts = latencies.iter().map(|(api, it)| (api.name(), it.counts.iter().sum::<u64>()));
    page.each(REQUESTS, "request", counts);
    page.begin(ERRORS);
    for (api, code, count) in metrics.errors() {
        let error = format!("{:?}", ErrorCode::from_wire(code));
        page.line(ERRORS.name, &[("request", api.name()), ("error", &error)], count);
    }
    page.begin(LATENCY);
    for (api, reading) in &latencies {
        page.histogram(LATENCY.name, Some(("request", api.name())), reading);
    }
    let throttles = metrics.throttles().map(|(api, silent)| (api.name(), seconds(silent)));
    page.each(THROTTLED, "request", throttles);
    page.one(RECEIVED, read(&metrics.received_bytes));
    page.one(SENT, read(&metrics.sent_bytes));
    // Read in this order, so that what ended was accepted before.
    let ended = read(&metrics.ended);
    let accepted = read(&metrics.accepted);
    page.one(CONNECTIONS, accepted.saturating_sub(ended));
    page.one(ACCEPTED, accepted);
    page.one(REFUSED, read(&metrics.refused));
    page.one(AUTHENTICATED, read(&metrics.authenticated));
    page.one(UNAUTHENTICATED, read(&metrics.unauthenticated));
    page.begin(FLUSH);
    if let Some(reading) = metrics.flushes() {
        page.histogram(FLUSH.name, None, &reading);
    }
}

/// A duration in seconds, to the microsecond.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}
