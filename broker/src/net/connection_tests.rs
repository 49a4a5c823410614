//! What a connection promises, over a network in memory and a service that the test controls.
//! Shell.

#[path = "connection_file_tests.rs"]
mod files;

use std::path::Path;
use std::sync::Mutex;

use client::net::memory::MemoryNetwork;
use client::net::{BoxStream, Connector};
use protocol::api::versions::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::api::{decode_response, encode_request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tracing_subscriber::filter::LevelFilter;

use bytes::BytesMut;
use protocol::api::AnyResponse;
use protocol::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use protocol::frame::PREFIX_BYTES;

use super::intake::SCRATCH_BYTES;
use super::*;
use crate::api::Logged;
use crate::limits::AUDIT_EVENTS_OF_SOURCE_MAX;

/// Answers each ApiVersions request with the number in its client software name as error code,
/// once the test lets it. `"now"`-prefixed names answer at once.
#[derive(Clone)]
struct Fake {
    begun: mpsc::Sender<String>,
    gate: Arc<Semaphore>,
    dropped: Arc<Mutex<u32>>,
    budget: Budget,
}

/// Counts futures that were dropped.
struct DropCount(Arc<Mutex<u32>>);

impl Drop for DropCount {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

impl Serve for Fake {
    fn serve(&self, request: Request) -> Serving {
        let AnyRequest::ApiVersions(body) = request.body else {
            return Serving::ready(Answer::Nothing);
        };
        let name = body.client_software_name;
        self.begun.try_send(name.clone()).unwrap();
        if name == "close" {
            return Serving::ready(Answer::Close("as the test wishes"));
        }
        if let Some(path) = name.strip_prefix("file") {
            let takes_files = request.context.takes_files;
            return files::answer(&self.budget, Path::new(path), takes_files);
        }
        if let Some(mib) = name.strip_prefix("bulk") {
            return bulk(self.budget.clone(), self.begun.clone(), mib.parse().unwrap());
        }
        let (is_now, number) = match name.strip_prefix("now") {
            Some(number) => (true, number),
            None => (false, &*name),
        };
        let answer =
            ApiVersionsResponse { error_code: number.parse().unwrap(), ..Default::default() };
        if is_now {
            return Serving::Ready(Answer::Response(answer.into()));
        }
        let gate = self.gate.clone();
        let count = DropCount(self.dropped.clone());
        let is_large = request.context.version == 4;
        let (polled, name) = (self.begun.clone(), format!("polled {name}"));
        let later = async move {
            let _count = count;
            if is_large {
                polled.try_send(name).unwrap();
            }
            gate.acquire().await.unwrap().forget();
            Answer::Response(answer.into())
        };
        if is_large { Serving::alone(later) } else { Serving::later(later) }
    }

    fn unsupported_api_versions(&self) -> AnyResponse {
        ApiVersionsResponse { error_code: 35, ..Default::default() }.into()
    }

    /// An answer of the number n silences its client for n - 1000 milliseconds.
    fn settle(&self, spent: &Spent<'_>, answer: &mut Answer) -> Duration {
        let Answer::Response(AnyResponse::ApiVersions(response)) = answer else {
            return Duration::ZERO;
        };
        assert_eq!((spent.api, spent.client_id), (ApiKey::ApiVersions, Some("test")));
        let silent = u64::try_from(response.error_code - 1000).unwrap_or(0);
        Duration::from_millis(silent)
    }
}

/// So many MiB of records, charged to `budget`.
fn bulk(budget: Budget, begun: mpsc::Sender<String>, mib: usize) -> Serving {
    let bytes = mib << 20;
    Serving::alone(async move {
        begun.try_send(format!("waits for {mib}")).unwrap();
        let grant = budget.take(Use::Answer, wide(bytes)).unwrap().await;
        begun.try_send(format!("has {mib}")).unwrap();
        let data = PartitionData { records: Some(vec![0; bytes].into()), ..Default::default() };
        let topic = FetchableTopicResponse { partitions: vec![data], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        Answer::Records(response.into(), Held { grant, stretches: Vec::new() })
    })
}

struct Fixture {
    client: BoxStream,
    fake: Fake,
    begun: mpsc::Receiver<String>,
    draining: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn fixture() -> Fixture {
    fixture_in(&Budget::new(64 << 20, None)).await
}

async fn fixture_in(budget: &Budget) -> Fixture {
    fixture_of(budget, &Lines::default()).await
}

async fn fixture_of(budget: &Budget, lines: &Lines) -> Fixture {
    fixture_to(budget, lines, 1 << 16).await
}

async fn fixture_to(budget: &Budget, lines: &Lines, request_bytes_max: usize) -> Fixture {
    let network = MemoryNetwork::new();
    let endpoint = Endpoint::new("broker", 1);
    let mut listener = network.listen(endpoint.clone()).unwrap();
    let client = network.connect(&endpoint).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    fixture_by(stream.into(), client, budget, lines, request_bytes_max)
}

fn fixture_by(
    stream: Accepted,
    client: BoxStream,
    budget: &Budget,
    lines: &Lines,
    request_bytes_max: usize,
) -> Fixture {
    let (begun_sender, begun) = mpsc::channel(1024);
    let gate = Arc::new(Semaphore::new(0));
    let dropped = Arc::default();
    let fake = Fake { begun: begun_sender, gate, dropped, budget: budget.clone() };
    let terms = Terms {
        request_bytes_max,
        idle_max: Duration::from_secs(600),
        listener: "PLAINTEXT".into(),
        door: Door::default(),
        budget: budget.clone(),
        lines: lines.clone(),
    };
    let (draining, drain) = watch::channel(false);
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let peer = Endpoint::new("test", 1);
    let task =
        tokio::spawn(serve(stream, peer, terms, fake.clone(), clock, drain, Box::new(|| ())));
    Fixture { client, fake, begun, draining, task }
}

fn frame(number: i32, name: &str) -> Bytes {
    frame_in(3, number, name)
}

/// In version 4 the fake takes the answer for a large one.
fn frame_in(version: i16, number: i32, name: &str) -> Bytes {
    let request = ApiVersionsRequest {
        client_software_name: name.to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    encode_request(&request.into(), version, number, Some("test")).unwrap().into_bytes()
}

async fn receive(client: &mut (impl AsyncRead + Unpin), version: i16) -> (i32, i16) {
    let length = usize::try_from(client.read_i32().await.unwrap()).unwrap();
    let mut frame = vec![0; length];
    client.read_exact(&mut frame).await.unwrap();
    let (header, response) = decode_response(ApiKey::ApiVersions, version, frame.into()).unwrap();
    let response = ApiVersionsResponse::try_from(response).unwrap();
    (header.correlation_id, response.error_code)
}

/// As large as the fixture accepts, answered at once.
fn large_frame(number: i32) -> Bytes {
    let padded = |zeros: usize| {
        let request = ApiVersionsRequest {
            client_software_name: format!("now{}{number}", "0".repeat(zeros)),
            client_software_version: "1".repeat(32_760),
            ..Default::default()
        };
        encode_request(&request.into(), 3, number, Some("test")).unwrap().into_bytes()
    };
    let zeros = 32_000;
    padded(zeros + PREFIX_BYTES + SCRATCH_BYTES - padded(zeros).len())
}

impl Fixture {
    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// The next response's correlation id and error code.
    async fn receive(&mut self, version: i16) -> (i32, i16) {
        receive(&mut self.client, version).await
    }

    /// True when the connection ends without another byte.
    async fn ends(mut self) -> bool {
        let read = self.client.read_u8().await;
        self.task.await.unwrap();
        read.is_err()
    }
}

#[tokio::test]
async fn requests_are_begun_in_order_of_arrival_and_answered_in_that_order() {
    let mut it = fixture().await;
    // The second and third are ready at once and still wait for the first.
    for (number, name) in [(1, "1"), (2, "now2"), (3, "now3"), (4, "4")] {
        it.send(&frame(number, name)).await;
    }
    for name in ["1", "now2", "now3", "4"] {
        assert_eq!(it.begun.recv().await.unwrap(), name);
    }
    it.fake.gate.add_permits(2);
    for number in 1..=4 {
        let code = i16::try_from(number).unwrap();
        assert_eq!(it.receive(3).await, (number, code));
    }
}

#[tokio::test]
async fn of_large_answers_there_is_one_at_a_time() {
    let mut it = fixture().await;
    for number in 1..=2 {
        it.send(&frame_in(4, number, &number.to_string())).await;
    }
    it.send(&frame(3, "3")).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(it.begun.recv().await.unwrap());
    }
    assert_eq!(seen.iter().filter(|name| name.starts_with("polled")).count(), 1);
    it.fake.gate.add_permits(2);
    assert_eq!(it.receive(4).await, (1, 1));
    assert_eq!(it.begun.recv().await.unwrap(), "polled 2");
    it.fake.gate.add_permits(1);
    assert_eq!((it.receive(4).await, it.receive(3).await), ((2, 2), (3, 3)));
}

#[tokio::test]
async fn frames_may_arrive_byte_by_byte() {
    let mut it = fixture().await;
    for byte in frame(7, "now9") {
        it.send(&[byte]).await;
    }
    assert_eq!(it.receive(3).await, (7, 9));
}

#[tokio::test]
async fn frames_larger_than_one_read_come_out_whole_however_they_arrive() {
    for piece_bytes in [1000, SCRATCH_BYTES, usize::MAX] {
        let mut it = fixture().await;
        let mut stream = Vec::new();
        for number in 1..=3 {
            let large = large_frame(number);
            assert_eq!(large.len(), PREFIX_BYTES + SCRATCH_BYTES);
            stream.extend_from_slice(&large);
            stream.extend_from_slice(&frame(number + 10, &format!("now{number}")));
        }
        let (mut receiver, mut sender) = tokio::io::split(it.client);
        let sending = async {
            for piece in stream.chunks(piece_bytes) {
                sender.write_all(piece).await.unwrap();
            }
        };
        let receiving = async {
            for number in 1..=3_i16 {
                for correlation_id in [i32::from(number), i32::from(number) + 10] {
                    assert_eq!(receive(&mut receiver, 3).await, (correlation_id, number));
                }
            }
        };
        let begun = async { while it.begun.recv().await.is_some() {} };
        tokio::select! {
            biased;
            ((), ()) = async { tokio::join!(sending, receiving) } => {}
            () = begun => panic!("the connection ended"),
        }
    }
}

#[tokio::test]
async fn beyond_the_bound_in_flight_no_request_is_begun_until_one_is_answered() {
    let mut it = fixture().await;
    let count = i32::try_from(IN_FLIGHT_MAX).unwrap() + 10;
    for number in 0..count {
        it.send(&frame(number, "1")).await;
    }
    for _ in 0..IN_FLIGHT_MAX {
        it.begun.recv().await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(it.begun.try_recv().is_err());
    it.fake.gate.add_permits(1);
    assert_eq!(it.receive(3).await, (0, 1));
    assert!(it.begun.recv().await.is_some());
    it.fake.gate.add_permits(1000);
    for number in 1..count {
        assert_eq!(it.receive(3).await, (number, 1));
    }
}

#[tokio::test]
async fn an_api_versions_request_of_an_unknown_version_is_refused_in_version_0_and_life_goes_on() {
    let mut it = fixture().await;
    let mut future = BytesMut::new();
    // Length, key 18, version 99, correlation id 5, and a body that means nothing to us.
    future.extend_from_slice(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 0xff]);
    it.send(&future).await;
    assert_eq!(it.receive(0).await, (5, 35));
    it.send(&frame(6, "now0")).await;
    assert_eq!(it.receive(3).await, (6, 0));
}

#[tokio::test]
async fn bytes_after_the_body_of_a_request_are_passed_over() {
    let mut it = fixture().await;
    let mut trailing = frame(1, "now1").to_vec();
    trailing.push(0);
    trailing[3] += 1;
    it.send(&trailing).await;
    it.send(&frame(2, "now2")).await;
    assert_eq!((it.receive(3).await, it.receive(3).await), ((1, 1), (2, 2)));
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let http = b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec();
    let tls = [&[0x16, 3, 1, 2, 0][..], &[1; 600]].concat();
    let negative = vec![0xff, 0xff, 0xff, 0xff, 0];
    let too_large = vec![0, 1, 0, 1, 0];
    let unknown_key = vec![0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 1];
    let unknown_version = vec![0, 0, 0, 8, 0, 3, 0, 99, 0, 0, 0, 1];
    let no_header = vec![0, 0, 0, 2, 0, 3];
    let empty = vec![0, 0, 0, 0];
    let garbage = [http, tls, negative, too_large, unknown_key, unknown_version, no_header, empty];
    for bytes in garbage {
        let mut it = fixture().await;
        it.send(&bytes).await;
        assert!(it.ends().await, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_cancels_what_still_waits() {
    let mut it = fixture().await;
    let half = frame(2, "now2");
    it.send(&frame(1, "1")).await;
    it.send(&half[..7]).await;
    it.begun.recv().await.unwrap();
    drop(it.client);
    it.task.await.unwrap();
    assert_eq!(*it.fake.dropped.lock().unwrap(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_given_ends_the_connection_after_those_before_it() {
    let mut it = fixture().await;
    it.send(&frame(1, "1")).await;
    it.send(&frame(2, "close")).await;
    it.fake.gate.add_permits(1);
    assert_eq!(it.receive(3).await, (1, 1));
    assert!(it.ends().await);
}

#[tokio::test]
async fn draining_answers_what_was_begun_and_reads_no_more() {
    let mut it = fixture().await;
    it.send(&frame(1, "1")).await;
    it.begun.recv().await.unwrap();
    it.draining.send_replace(true);
    tokio::task::yield_now().await;
    it.send(&frame(2, "now2")).await;
    it.fake.gate.add_permits(1);
    assert_eq!(it.receive(3).await, (1, 1));
    assert!(it.ends().await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_ended_of_but_not_one_that_waits_for_its_answer() {
    let mut it = fixture().await;
    it.send(&frame(1, "1")).await;
    it.begun.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    it.fake.gate.add_permits(1);
    assert_eq!(it.receive(3).await, (1, 1));
    assert!(it.ends().await, "and now it is idle");
}

#[tokio::test(start_paused = true)]
async fn a_silenced_client_is_answered_at_once_and_not_read_until_its_time_is_over() {
    let mut silenced = fixture().await;
    let mut other = fixture().await;
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let began = clock.now().monotonic;
    silenced.send(&frame(1, "now1500")).await;
    assert_eq!(silenced.receive(3).await, (1, 1500));
    assert_eq!(clock.now().monotonic, began);
    // What was sent meanwhile waits; what others send does not.
    silenced.send(&frame(2, "now7")).await;
    other.send(&frame(1, "now8")).await;
    assert_eq!(other.receive(3).await, (1, 8));
    assert_eq!(clock.now().monotonic, began);
    assert_eq!(silenced.receive(3).await, (2, 7));
    let waited = clock.now().monotonic.saturating_sub(began);
    let slack = Duration::from_millis(2);
    assert!((Duration::from_millis(500)..=Duration::from_millis(500) + slack).contains(&waited));
}

/// Lets every other task go on as far as it can.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_frame_that_finds_no_room_waits_and_nobody_else_does() {
    let budget = Budget::new(64 << 20, None);
    let hog = budget.try_take(Use::Frame, 16 << 20).unwrap();
    let mut it = fixture_in(&budget).await;
    it.send(&frame(7, "1")).await;
    it.begun.recv().await.unwrap();
    let (mut receiver, mut sender) = tokio::io::split(it.client);
    let sending = tokio::spawn(async move {
        sender.write_all(&large_frame(1)).await.unwrap();
        sender
    });
    settle().await;
    assert_eq!(budget.waiting(), 1);
    // What was begun on the same connection goes on, and so do others.
    it.fake.gate.add_permits(1);
    assert_eq!(receive(&mut receiver, 3).await, (7, 1));
    let mut other = fixture_in(&budget).await;
    other.send(&frame(2, "now2")).await;
    assert_eq!(other.receive(3).await, (2, 2));
    assert_eq!(budget.waiting(), 1);
    drop(hog);
    assert_eq!(receive(&mut receiver, 3).await, (1, 1));
    sending.await.unwrap();
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn what_is_announced_alone_takes_nothing() {
    let budget = Budget::new(16 << 20, None);
    let mut all = Vec::new();
    for _ in 0..200 {
        let mut it = fixture_in(&budget).await;
        it.send(&large_frame(1)[..1000]).await;
        all.push(it);
    }
    settle().await;
    assert_eq!((budget.used(), budget.waiting()), (200 * 1000, 0));
    let mut honest = fixture_in(&budget).await;
    honest.send(&frame(2, "now2")).await;
    assert_eq!(honest.receive(3).await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn half_frames_hold_up_nobody_for_long() {
    let budget = Budget::new(16 << 20, None);
    let mut flood = Vec::new();
    // 4 MiB are for frames: 63 of these find room.
    for _ in 0..70 {
        let mut it = fixture_in(&budget).await;
        it.send(&large_frame(1)[..5000]).await;
        flood.push(it);
    }
    settle().await;
    assert_eq!(budget.waiting(), 7);
    let mut honest = fixture_in(&budget).await;
    honest.send(&frame(2, "now2")).await;
    assert_eq!(honest.receive(3).await, (2, 2), "what is small is not held up at all");
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let began = clock.now().monotonic;
    honest.send(&large_frame(3)).await;
    assert_eq!(honest.receive(3).await, (3, 3));
    let waited = clock.now().monotonic.saturating_sub(began);
    assert!(waited <= FRAME_LOOKED_AT_EVERY * 3, "{waited:?}");
    assert_eq!(budget.closed_slow(), 8, "as many as it takes for those who waited");
    for it in flood {
        drop(it.client);
        it.task.await.unwrap();
    }
    drop(honest.client);
    honest.task.await.unwrap();
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn who_announces_much_holds_up_nobody_who_announces_little() {
    let budget = Budget::new(16 << 20, None);
    let mut flood = Vec::new();
    for _ in 0..10 {
        let mut it = fixture_to(&budget, &Lines::default(), 3 << 20).await;
        let mut half = large_frame(1)[..5000].to_vec();
        half[..PREFIX_BYTES].copy_from_slice(&(3_u32 << 20).to_be_bytes());
        it.send(&half).await;
        flood.push(it);
    }
    settle().await;
    assert_eq!(budget.waiting(), 9);
    let mut honest = fixture_in(&budget).await;
    honest.send(&large_frame(3)).await;
    assert_eq!(honest.receive(3).await, (3, 3));
    assert_eq!(budget.closed_slow(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_which_nothing_comes_any_more_ends_its_connection() {
    let mut it = fixture().await;
    it.send(&large_frame(1)[..5000]).await;
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let began = clock.now().monotonic;
    assert!(it.ends().await);
    let waited = clock.now().monotonic.saturating_sub(began);
    assert!((30..60).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn of_those_who_do_not_take_their_answers_the_largest_is_closed_when_another_needs_the_room()
{
    let budget = Budget::new(64 << 20, None);
    let [mut large, mut small, mut next] =
        [fixture_in(&budget).await, fixture_in(&budget).await, fixture_in(&budget).await];
    for (it, name) in [(&mut large, "bulk9"), (&mut small, "bulk4")] {
        it.send(&frame_in(4, 1, name)).await;
        assert_eq!(it.begun.recv().await.unwrap(), name);
        assert!(it.begun.recv().await.unwrap().starts_with("waits"));
        assert!(it.begun.recv().await.unwrap().starts_with("has"));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(budget.closed_slow(), 0, "nobody needs what they hold");
    next.send(&frame_in(4, 1, "bulk8")).await;
    for want in ["bulk8", "waits for 8", "has 8"] {
        assert_eq!(next.begun.recv().await.unwrap(), want);
    }
    assert_eq!(budget.closed_slow(), 1);
    large.task.await.unwrap();
    // The small one can still be read to its end.
    let length = small.client.read_i32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    small.client.read_exact(&mut answer).await.unwrap();
    assert!(answer.len() > 4 << 20);
    drop((small.client, next.client));
    small.task.await.unwrap();
    next.task.await.unwrap();
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn no_records_are_read_for_who_has_not_taken_the_answers_before() {
    let budget = Budget::new(64 << 20, None);
    let mut it = fixture_in(&budget).await;
    for (number, name) in [(1, "bulk1"), (2, "bulk2")] {
        it.send(&frame_in(4, number, name)).await;
    }
    for want in ["bulk1", "bulk2", "waits for 1", "has 1"] {
        assert_eq!(it.begun.recv().await.unwrap(), want);
    }
    settle().await;
    assert!(it.begun.try_recv().is_err());
    let used = budget.used();
    assert!(((1 << 20) - (64 << 10)..(1 << 20) + 1000).contains(&used), "{used}");
    let length = usize::try_from(it.client.read_i32().await.unwrap()).unwrap();
    it.client.read_exact(&mut vec![0; length]).await.unwrap();
    assert_eq!(it.begun.recv().await.unwrap(), "waits for 2");
    drop(it.client);
    it.task.await.unwrap();
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_connection_that_ends_gives_everything_back_wherever_it_was() {
    let budget = Budget::new(64 << 20, None);
    let bulk = frame_in(4, 1, "bulk8");
    let large = large_frame(2);
    let half = [&frame(3, "1")[..], &large[..30_000]].concat();
    for (bytes, is_aborted) in
        [(&bulk[..], true), (&bulk[..], false), (&half[..], true), (&half[..], false)]
    {
        let mut it = fixture_in(&budget).await;
        it.send(bytes).await;
        it.begun.recv().await.unwrap();
        settle().await;
        assert!(budget.used() > 0);
        if is_aborted {
            it.task.abort();
            let _ = it.task.await;
        } else {
            drop(it.client);
            it.task.await.unwrap();
        }
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }
}

#[tokio::test]
async fn while_nothing_is_left_requests_wait_for_their_turn() {
    let budget = Budget::new(64 << 20, None);
    let mut hog = budget.nothing(Use::Small);
    hog.set(budget.total());
    let mut it = fixture_in(&budget).await;
    it.send(&frame(1, "now1")).await;
    settle().await;
    assert!(it.begun.try_recv().is_err());
    drop(hog);
    assert_eq!(it.receive(3).await, (1, 1));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_before_the_silence_is_answered_during_it() {
    let mut fixture = fixture().await;
    let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
    let began = clock.now().monotonic;
    fixture.send(&[frame(1, "now9000"), frame(2, "3"), frame(3, "now4")].concat()).await;
    assert_eq!(fixture.receive(3).await, (1, 9000));
    fixture.fake.gate.add_permits(1);
    assert_eq!(fixture.receive(3).await, (2, 3));
    assert_eq!(fixture.receive(3).await, (3, 4));
    assert_eq!(clock.now().monotonic, began);
    fixture.draining.send_replace(true);
    assert!(fixture.ends().await);
    assert_eq!(clock.now().monotonic, began);
}

#[tokio::test(start_paused = true)]
async fn who_sends_garbage_again_and_again_does_not_fill_the_log() {
    let logged = Logged::from(LevelFilter::WARN);
    let (budget, lines) = (Budget::new(64 << 20, None), Lines::default());
    for _ in 0..100 {
        let mut fixture = fixture_of(&budget, &lines).await;
        fixture.client.write_all(&[0, 0, 0, 4, 0x7f, 0xff, 0, 0]).await.unwrap();
        fixture.task.await.unwrap();
    }
    let text = logged.text();
    let closed = text.lines().filter(|it| it.contains("\"connection closed\"")).count();
    assert_eq!(u32::try_from(closed).unwrap(), AUDIT_EVENTS_OF_SOURCE_MAX, "{text}");
    drop(lines);
    assert!(logged.text().contains(r#""address":"test","count":80"#), "{}", logged.text());
}
