//! The counters of a broker.
//!
//! One set per broker, shared by all of its connections and files. APIs and error codes index fixed
//! arrays by their numbers of the wire; what is beyond them shares the last place. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::api_key::ApiKey;

use super::histogram::{Histogram, Reading};

/// 128: APIs by their keys; Kafka's end below it.
const APIS: usize = 128;
/// 160: error codes from -1 on; Kafka's end below it.
const CODES: usize = 160;

/// What is counted of one API.
#[derive(Debug, Default)]
struct OfApi {
    latency: Histogram,
    throttled_millis: AtomicU64,
}

/// The counters of a broker.
#[derive(Debug)]
pub(crate) struct Metrics {
    of_apis: Vec<OfApi>,
    /// By API, then by error code.
    errors: Vec<AtomicU64>,
    flush: Histogram,
    pub(super) messages_in: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) authenticated: AtomicU64,
    pub(super) unauthenticated: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            of_apis: (0..APIS).map(|_| OfApi::default()).collect(),
            errors: (0..APIS * CODES).map(|_| zero()).collect(),
            flush: Histogram::default(),
            messages_in: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            received_bytes: zero(),
            sent_bytes: zero(),
            accepted: zero(),
            ended: zero(),
            refused: zero(),
            authenticated: zero(),
            unauthenticated: zero(),
        }
    }
}

impl Metrics {
    /// A request was answered, after `taken`.
    pub(crate) fn answered(&self, api: ApiKey, request_bytes: usize, taken: Duration) {
        self.of_apis[api_index(api)].latency.count(taken);
        add(&self.received_bytes, wide(request_bytes));
    }

    /// An answer had this error code.
    pub(crate) fn failed(&self, api: ApiKey, code: i16) {
        add(&self.errors[api_index(api) * CODES + code_index(code)], 1);
    }

    /// A client was told to be silent.
    pub(crate) fn throttled(&self, api: ApiKey, silent: Duration) {
        let millis = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        add(&self.of_apis[api_index(api)].throttled_millis, millis);
    }

    /// A batch was found good.
    pub(crate) fn produced(&self, record_count: i32, batch_bytes: usize) {
        add(&self.messages_in, u64::try_from(record_count).unwrap_or(0));
        add(&self.bytes_in, wide(batch_bytes));
    }

    /// Batches were fetched.
    pub(crate) fn fetched(&self, bytes: usize) {
        add(&self.bytes_out, wide(bytes));
    }

    /// An answer was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, wide(bytes));
    }

    /// A connection is open.
    pub(crate) fn connected(&self) {
        add(&self.accepted, 1);
    }

    /// A connection has ended.
    pub(crate) fn disconnected(&self) {
        add(&self.ended, 1);
    }

    /// A connection was closed as soon as it was accepted.
    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }

    /// A client proved who it is, or could not.
    pub(crate) fn authenticated(&self, is_proved: bool) {
        add(if is_proved { &self.authenticated } else { &self.unauthenticated }, 1);
    }

    /// Something was made durable.
    pub(crate) fn flushed(&self, taken: Duration) {
        self.flush.count(taken);
    }

    /// How long answers took, for each API that was asked for anything.
    pub(super) fn latencies(&self) -> impl Iterator<Item = (ApiKey, Reading)> {
        ApiKey::ALL
            .iter()
            .filter_map(|&api| Some((api, self.of_apis[api_index(api)].latency.read()?)))
    }

    /// For how long clients were told to be silent, for each API for which some were.
    pub(super) fn throttles(&self) -> impl Iterator<Item = (ApiKey, Duration)> {
        ApiKey::ALL.iter().filter_map(|&api| {
            let millis = read(&self.of_apis[api_index(api)].throttled_millis);
            (millis > 0).then_some((api, Duration::from_millis(millis)))
        })
    }

    /// How often each API answered with each code, where it did.
    pub(super) fn errors(&self) -> impl Iterator<Item = (ApiKey, i16, u64)> {
        let of_api = |&api: &ApiKey| {
            let first = api_index(api) * CODES;
            let counts = self.errors[first..first + CODES].iter().zip(-1_i16..);
            let counts = counts.map(move |(count, code)| (api, code, read(count)));
            counts.filter(|&(_, _, count)| count > 0)
        };
        ApiKey::ALL.iter().flat_map(of_api)
    }

    /// How long it took to make writes durable.
    pub(super) fn flushes(&self) -> Option<Reading> {
        self.flush.read()
    }
}

/// The value of a counter.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn api_index(api: ApiKey) -> usize {
    usize::try_from(api.to_wire()).unwrap_or(APIS).min(APIS - 1)
}

fn code_index(code: i16) -> usize {
    usize::try_from(code.saturating_add(1)).unwrap_or(CODES).min(CODES - 1)
}
