//! What to do when something fails: try again later, start anew, pass over, or give up.
//!
//! Retries and restarts wait longer each time, with jitter, until something succeeds. A record that
//! a sink cannot take fails the task, is passed over, or becomes a dead letter, as configured; more of them in one
//! minute than allowed fail the task after all. Dead letters carry the headers of KIP-298. Pure.

use std::sync::Arc;
use std::time::Duration;

use client::backoff::Backoff;
use protocol::rng::Rng;
use protocol::time::Now;

use crate::config::{ErrorsConfig, OnBadRecord, Restart, RetryConfig};
use crate::sdk::{ConnectRecord, Header, Rejected, SinkRecord, TopicPartition};

/// In which bad records are counted.
const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// When a failed task is started again.
#[derive(Debug)]
pub(crate) struct Restarts {
    restart: Restart,
    backoff: Backoff,
}

impl Restarts {
    pub(crate) fn new(retry: &RetryConfig, seed: u64) -> Self {
        Self {
            restart: retry.restart,
            backoff: Backoff::new(retry.backoff, retry.backoff_max, Rng::new(seed)),
        }
    }

    /// The wait before the next start. `None`: the task stays failed.
    pub(crate) fn on_failure(&mut self) -> Option<Duration> {
        match self.restart {
            Restart::OnFailure => Some(self.backoff.next_wait()),
            Restart::Never => None,
        }
    }

    /// The task did something for good: the next failure is a first one.
    pub(crate) fn on_progress(&mut self) {
        self.backoff.reset();
    }
}

/// What becomes of bad records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The task fails on the first.
    Fail,
    /// They are passed over.
    Skip,
    /// They go to the dead letter topic.
    DeadLetter,
}

/// Judges bad records.
#[derive(Debug)]
pub(crate) struct Tolerance {
    config: ErrorsConfig,
    window_start: Duration,
    in_window: u32,
}

impl Tolerance {
    pub(crate) fn new(config: ErrorsConfig) -> Self {
        Self { config, window_start: Duration::ZERO, in_window: 0 }
    }

    /// What becomes of `count` more bad records.
    pub(crate) fn judge(&mut self, now: Now, count: usize) -> Verdict {
        if now.monotonic >= self.window_start + BUDGET_WINDOW {
            self.window_start = now.monotonic;
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.config.per_minute_max.is_some_and(|max| self.in_window > max) {
            return Verdict::Fail;
        }
        match self.config.on_bad_record {
            OnBadRecord::Fail => Verdict::Fail,
            OnBadRecord::Skip => Verdict::Skip,
            OnBadRecord::DeadLetter(_) => Verdict::DeadLetter,
        }
    }

    /// The dead letter for `record` of `partition`. `None` when none are written.
    pub(crate) fn dead_letter(
        &self,
        (connector, task): (&str, usize),
        partition: &TopicPartition,
        record: &SinkRecord,
        rejected: &Rejected,
    ) -> Option<ConnectRecord> {
        let OnBadRecord::DeadLetter(topic) = &self.config.on_bad_record else { return None };
        let mut headers = record.headers.clone();
        let mut add = |name: &str, value: String| {
            let key: Arc<str> = format!("__connect.errors.{name}").into();
            headers.push(Header { key, value: Some(value.into()) });
        };
        add("topic", partition.topic.to_string());
        add("partition", partition.partition.to_string());
        add("offset", record.offset.to_string());
        add("connector.name", connector.to_owned());
        add("task.id", task.to_string());
        add("stage", "TASK_PUT".to_owned());
        add("exception.message", rejected.reason.to_string());
        Some(ConnectRecord {
            topic: Arc::clone(topic),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            timestamp: Some(record.timestamp).filter(|timestamp| timestamp.0 >= 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::time::Timestamp;

    use super::*;
    use crate::sdk::{Offset, TaskError};

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(0) }
    }

    fn tolerance(on_bad_record: OnBadRecord, per_minute_max: Option<u32>) -> Tolerance {
        Tolerance::new(ErrorsConfig { on_bad_record, per_minute_max })
    }

    #[test]
    fn bad_records_are_borne_up_to_the_budget_of_a_minute() {
        let mut tolerance = tolerance(OnBadRecord::Skip, Some(3));
        assert_eq!(tolerance.judge(at(0), 2), Verdict::Skip);
        assert_eq!(tolerance.judge(at(59), 1), Verdict::Skip);
        assert_eq!(tolerance.judge(at(59), 1), Verdict::Fail);
        assert_eq!(tolerance.judge(at(60), 3), Verdict::Skip);
    }

    #[test]
    fn without_tolerance_the_first_bad_record_fails_the_task() {
        assert_eq!(tolerance(OnBadRecord::Fail, None).judge(at(0), 1), Verdict::Fail);
    }

    #[test]
    fn a_dead_letter_is_the_record_and_says_where_it_was_and_why_it_was_refused() {
        let tolerance = tolerance(OnBadRecord::DeadLetter("dead".into()), None);
        let record = SinkRecord {
            offset: Offset(7),
            timestamp: Timestamp(5),
            key: None,
            value: Some("bad".into()),
            headers: vec![Header { key: "own".into(), value: None }],
        };
        let rejected =
            Rejected { offset: Offset(7), reason: TaskError::fatal("record 7", "no JSON") };
        let partition = TopicPartition::new("logs", 3);
        let letter = tolerance.dead_letter(("lake", 1), &partition, &record, &rejected).unwrap();
        assert_eq!((&*letter.topic, letter.value.as_deref()), ("dead", Some(b"bad".as_slice())));
        let headers: Vec<String> = letter
            .headers
            .iter()
            .map(|header| {
                format!(
                    "{}={}",
                    header.key,
                    String::from_utf8_lossy(header.value.as_deref().unwrap_or(b"-"))
                )
            })
            .collect();
        expect_test::expect![[r#"
            own=-
            __connect.errors.topic=logs
            __connect.errors.partition=3
            __connect.errors.offset=7
            __connect.errors.connector.name=lake
            __connect.errors.task.id=1
            __connect.errors.stage=TASK_PUT
            __connect.errors.exception.message=record 7: no JSON"#]]
        .assert_eq(&headers.join("\n"));
    }

    #[test]
    fn restarts_wait_longer_each_time_until_there_is_progress() {
        let retry = RetryConfig {
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            restart: Restart::OnFailure,
        };
        let mut restarts = Restarts::new(&retry, 1);
        let first = restarts.on_failure().unwrap();
        let fifth = (0..4).filter_map(|_| restarts.on_failure()).last().unwrap();
        assert!(fifth > first * 4);
        restarts.on_progress();
        assert!(restarts.on_failure().unwrap() < first * 2);
        assert_eq!(
            Restarts::new(&RetryConfig { restart: Restart::Never, ..retry }, 1).on_failure(),
            None
        );
    }
}
