//! Printing what was measured. Pure.

use std::fmt;
use std::time::Duration;

use super::histogram::Histogram;
use super::usage::Used;

/// What one run measured.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// What was done, in words.
    pub(super) what: String,
    pub(super) records: u64,
    /// Of values.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    /// `None`: there was no pace by which something could be late.
    pub(super) latency: Option<(&'a Histogram, Since)>,
    pub(super) used: Used,
}

/// From when latency counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// When a record was due.
    Due,
    /// When a transaction began.
    Begin,
}

impl Report<'_> {
    /// For programs: one object; times in microseconds, CPU time in seconds.
    pub(super) fn json(&self) -> serde_json::Value {
        let seconds = self.elapsed.as_secs_f64();
        let mut told = serde_json::json!({
            "what": self.what,
            "records": self.records,
            "bytes": self.bytes,
            "seconds": seconds,
            "records_per_s": float(self.records) / seconds,
            "client_cpu_s": self.used.cpu.client.as_secs_f64(),
            "peak_memory_bytes": self.used.peak_memory_bytes,
        });
        if self.used.has_broker {
            told["broker_cpu_s"] = self.used.cpu.broker.as_secs_f64().into();
        }
        if let Some((latency, _)) = self.latency.filter(|(it, _)| it.total() > 0) {
            let micros = |it: Duration| serde_json::Value::from(it.as_secs_f64() * 1e6);
            told["latency_n"] = latency.total().into();
            for (name, permille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
                told[format!("latency_{name}_us")] = micros(latency.quantile(permille));
            }
            told["latency_max_us"] = micros(latency.largest());
        }
        told
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, records, bytes, elapsed, used: Used { cpu, .. }, .. } = self;
        let seconds = elapsed.as_secs_f64();
        let gigabytes = float(*bytes) / 1e9;
        writeln!(f, "{what}")?;
        writeln!(
            f,
            "  throughput  {:.0} records/s, {:.1} MB/s ({records} records in {seconds:.3} s)",
            float(*records) / seconds,
            gigabytes * 1e3 / seconds
        )?;
        if let Some((latency, since)) = self.latency.filter(|(it, _)| it.total() > 0) {
            let since = match since {
                Since::Due => "records, from when each was due",
                Since::Begin => "transactions, from begin to committed",
            };
            writeln!(
                f,
                "  latency     p50 {}, p99 {}, p99.9 {}, max {} (of {} {since})",
                millis(latency.quantile(500)),
                millis(latency.quantile(990)),
                millis(latency.quantile(999)),
                millis(latency.largest()),
                latency.total()
            )?;
        }
        let cost = |time: Duration| {
            let (per_gigabyte, per_record) =
                (time.as_secs_f64() / gigabytes, time.as_secs_f64() * 1e6 / float(*records));
            format!("{per_gigabyte:.3} s/GB ({per_record:.2} us/record)")
        };
        write!(f, "  cpu         client {}", cost(cpu.client))?;
        if self.used.has_broker {
            write!(f, ", broker {}", cost(cpu.broker))?;
        }
        writeln!(f)?;
        let whose = if self.used.has_broker { "client and broker" } else { "client" };
        write!(f, "  memory      peak {:.1} MB ({whose})", float(self.used.peak_memory_bytes) / 1e6)
    }
}

fn millis(latency: Duration) -> String {
    format!("{:.3} ms", latency.as_secs_f64() * 1e3)
}

#[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench::usage::CpuTime;

    #[test]
    fn a_report_tells_rates_latency_cpu_and_memory() {
        let mut latency = Histogram::new();
        latency.add(Duration::from_micros(250), 10);
        let cpu = CpuTime { client: Duration::from_secs(2), broker: Duration::from_secs(1) };
        let report = Report {
            what: "produce".to_owned(),
            records: 1_000_000,
            bytes: 1_000_000_000,
            elapsed: Duration::from_secs(2),
            latency: Some((&latency, Since::Due)),
            used: Used { cpu, has_broker: true, peak_memory_bytes: 50_000_000 },
        };
        expect_test::expect![[r#"
            produce
              throughput  500000 records/s, 500.0 MB/s (1000000 records in 2.000 s)
              latency     p50 0.250 ms, p99 0.250 ms, p99.9 0.250 ms, max 0.250 ms (of 10 records, from when each was due)
              cpu         client 2.000 s/GB (2.00 us/record), broker 1.000 s/GB (1.00 us/record)
              memory      peak 50.0 MB (client and broker)"#]]
        .assert_eq(&report.to_string());
        let told = report.json();
        assert_eq!((&told["records_per_s"], &told["latency_n"]), (&500_000.0.into(), &10.into()));
        assert_eq!((&told["latency_p99_us"], &told["broker_cpu_s"]), (&250.0.into(), &1.0.into()));
    }
}
