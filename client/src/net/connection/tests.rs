use protocol::api::metadata::{MetadataRequest, MetadataResponse};
use protocol::api::produce::ProduceRequest;
use protocol::api::sasl::{SaslAuthenticateResponse, SaslHandshakeResponse};
use protocol::api::versions::ApiVersionsResponse;
use protocol::error_code::ErrorCode;
use protocol::secret::Secret;

use super::*;
use crate::net::memory::MemoryNetwork;
use crate::testing::{FakeBroker, Reply, all_versions};

const SECOND: Duration = Duration::from_secs(1);

fn connect(network: &MemoryNetwork, endpoint: &Endpoint) -> Connection {
    let options = ConnectionOptions::default();
    Connection::new(Arc::new(network.clone()), endpoint.clone(), options, Rng::new(1))
}

fn controller(controller_id: i32) -> MetadataResponse {
    MetadataResponse { controller_id, ..MetadataResponse::default() }
}

/// Answers with 1, 2, 3, … as controller.
fn counting() -> impl FnMut(i16, AnyRequest) -> Reply + Send + 'static {
    let mut count = 0;
    move |_, _| {
        count += 1;
        controller(count).into()
    }
}

async fn ask(connection: &Connection) -> Result<i32, CallError> {
    connection.call(MetadataRequest::default(), SECOND).await.map(|it| it.controller_id)
}

#[tokio::test(start_paused = true)]
async fn many_calls_are_under_way_at_once_and_each_gets_its_own_answer() {
    let network = MemoryNetwork::new();
    let broker = FakeBroker::start(&network, "one", all_versions(&[]), counting());
    let connection = connect(&network, &broker.endpoint);
    let mut answers = Vec::new();
    for _ in 0..40 {
        let options = CallOptions::within(SECOND);
        answers.push(connection.send(options, |_| MetadataRequest::default()).await.unwrap());
    }
    for want in 1..=40 {
        let answer = answers.remove(0).receive().await.unwrap();
        assert_eq!(answer.controller_id, want);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_broker_is_asked_again_in_a_version_that_it_has() {
    for newest in [0, 3] {
        let network = MemoryNetwork::new();
        let mut versions = all_versions(&[]);
        for range in &mut versions.api_keys {
            match ApiKey::from_wire(range.api_key) {
                Some(ApiKey::ApiVersions) => range.max_version = newest,
                Some(ApiKey::Metadata) => range.max_version = 1,
                _ => {}
            }
        }
        let broker = FakeBroker::start(&network, "old", versions, counting());
        let connection = connect(&network, &broker.endpoint);
        assert_eq!(ask(&connection).await.unwrap(), 1);
        assert_eq!(broker.take_log()[0].0, 1, "the version that both know");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_the_api_is_named_and_not_asked() {
    let network = MemoryNetwork::new();
    let mut versions = all_versions(&[]);
    versions.api_keys.retain(|it| it.api_key != ApiKey::Metadata.to_wire());
    let broker = FakeBroker::start(&network, "odd", versions, counting());
    let error = ask(&connect(&network, &broker.endpoint)).await.unwrap_err();
    assert!(!error.is_retriable());
    assert!(matches!(error, CallError::Unsupported { .. }));
    assert!(broker.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_deadline_fails_all_that_wait_and_the_next_call_reconnects() {
    let network = MemoryNetwork::new();
    let mut count = 0;
    let broker = FakeBroker::start(&network, "slow", all_versions(&[]), move |_, _| {
        count += 1;
        if count <= 2 { Reply::Silence } else { controller(count).into() }
    });
    let connection = connect(&network, &broker.endpoint);
    let options = CallOptions::within(SECOND);
    let first = connection.send(options, |_| MetadataRequest::default()).await.unwrap();
    let later = CallOptions::within(60 * SECOND);
    let second = connection.send(later, |_| MetadataRequest::default()).await.unwrap();
    let error = first.receive().await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(error.is_in_doubt());
    let error = second.receive().await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected { .. }), "{error}");
    assert_eq!(ask(&connection).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_or_misnumbered_answer_or_none_breaks_the_connection() {
    let raw = |content: &[u8]| Reply::Raw(content.to_vec());
    for nonsense in [raw(&[0, 0, 0, 1, 9, 9]), raw(&[0x7f, 0, 0, 0]), raw(&[1]), Reply::HangUp] {
        let network = MemoryNetwork::new();
        let mut nonsense = Some(nonsense);
        let broker = FakeBroker::start(&network, "mad", all_versions(&[]), move |_, _| {
            nonsense.take().unwrap_or_else(|| controller(7).into())
        });
        let connection = connect(&network, &broker.endpoint);
        assert!(ask(&connection).await.unwrap_err().is_in_doubt());
        assert_eq!(ask(&connection).await.unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_so_the_call_was_surely_not_sent_and_a_later_one_finds_the_broker() {
    let network = MemoryNetwork::new();
    let connection = connect(&network, &Endpoint::new("late", 9092));
    let error = ask(&connection).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }));
    assert!(error.is_retriable());
    assert!(!error.is_in_doubt());
    let _broker = FakeBroker::start(&network, "late", all_versions(&[]), counting());
    assert_eq!(ask(&connection).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_leaves_the_order_of_answers_intact() {
    let network = MemoryNetwork::new();
    let broker =
        FakeBroker::start(&network, "one", all_versions(&[]), |_, request| match request {
            AnyRequest::Produce(_) => Reply::Silence,
            _ => controller(5).into(),
        });
    let connection = connect(&network, &broker.endpoint);
    let unanswered = CallOptions { has_answer: false, ..CallOptions::within(SECOND) };
    connection.call_with(unanswered, |_| ProduceRequest::default()).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), 5);
    assert_eq!(broker.take_log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_awaits_any_more_is_not_taken_for_the_next() {
    let network = MemoryNetwork::new();
    let broker = FakeBroker::start(&network, "one", all_versions(&[]), counting());
    let connection = connect(&network, &broker.endpoint);
    let options = CallOptions::within(SECOND);
    drop(connection.send(options, |_| MetadataRequest::default()).await.unwrap());
    let kept = connection.send(options, |_| MetadataRequest::default()).await.unwrap();
    let answer = kept.receive().await.unwrap().controller_id;
    let asked = i32::try_from(broker.take_log().len()).unwrap();
    assert_eq!(answer, asked);
}

#[tokio::test(start_paused = true)]
async fn the_answer_still_comes_when_the_last_handle_is_gone() {
    let network = MemoryNetwork::new();
    let broker = FakeBroker::start(&network, "one", all_versions(&[]), counting());
    let connection = connect(&network, &broker.endpoint);
    let options = CallOptions::within(SECOND);
    let answer = connection.send(options, |_| MetadataRequest::default()).await.unwrap();
    drop(connection);
    assert_eq!(answer.receive().await.unwrap().controller_id, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_handshake_says_why() {
    let network = MemoryNetwork::new();
    let versions = ApiVersionsResponse { error_code: 31, ..all_versions(&[]) };
    // The fake overwrites the code of a version that it supports; an empty range has none.
    let refuse = ApiVersionsResponse {
        api_keys: vec![protocol::api::versions::ApiVersion {
            api_key: ApiKey::ApiVersions.to_wire(),
            min_version: 9,
            max_version: 9,
        }],
        ..versions
    };
    let broker = FakeBroker::start(&network, "no", refuse, counting());
    let error = ask(&connect(&network, &broker.endpoint)).await.unwrap_err();
    let CallError::Connect { reason, .. } = error else { panic!("{error}") };
    let OpenError::Refused { api, code } = &*reason else { panic!("{reason}") };
    assert_eq!((*api, *code), (ApiKey::ApiVersions, ErrorCode::UnsupportedVersion));
}

#[tokio::test(start_paused = true)]
async fn name_and_password_are_given_before_anything_is_asked() {
    for (password, code) in
        [("right", ErrorCode::None), ("wrong", ErrorCode::SaslAuthenticationFailed)]
    {
        let network = MemoryNetwork::new();
        let broker =
            FakeBroker::start(&network, "strict", all_versions(&[]), |_, request| match request {
                AnyRequest::SaslHandshake(it) => {
                    assert_eq!(it.mechanism, "PLAIN");
                    SaslHandshakeResponse::default().into()
                }
                AnyRequest::SaslAuthenticate(it) => {
                    let is_right = &*it.auth_bytes == b"\0alice\0right";
                    let error_code = if is_right { 0 } else { 58 };
                    SaslAuthenticateResponse { error_code, ..SaslAuthenticateResponse::default() }
                        .into()
                }
                _ => controller(3).into(),
            });
        let (username, password) = ("alice".to_owned(), Secret::new(password));
        let sasl = Credentials::Plain { username, password };
        let options = ConnectionOptions { sasl: Some(sasl), ..ConnectionOptions::default() };
        let connector = Arc::new(network.clone());
        let connection = Connection::new(connector, broker.endpoint.clone(), options, Rng::new(1));
        match ask(&connection).await {
            Ok(answer) => assert_eq!((answer, code), (3, ErrorCode::None)),
            Err(error) => {
                assert!(!error.is_retriable(), "a wrong password stays wrong");
                let CallError::Connect { reason, .. } = error else { panic!("{error}") };
                assert!(matches!(*reason, OpenError::Denied { .. }), "{reason}");
                assert_eq!(code, ErrorCode::SaslAuthenticationFailed);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_throttles_hears_nothing_until_the_time_has_passed() {
    let network = MemoryNetwork::new();
    let mut count = 0;
    let broker = FakeBroker::start(&network, "one", all_versions(&[]), move |_, _| {
        count += 1;
        let throttle_time_ms = if count == 1 { 500 } else { 0 };
        MetadataResponse { throttle_time_ms, ..controller(count) }.into()
    });
    let connection = connect(&network, &broker.endpoint);
    let begun = deadline_after(Duration::ZERO);
    assert_eq!(ask(&connection).await.unwrap(), 1);
    assert!(begun.elapsed() < SECOND / 10, "the answer itself is not delayed");
    let hasty = connection.call(MetadataRequest::default(), SECOND / 10).await.unwrap_err();
    assert!(matches!(hasty, CallError::Throttled { .. } | CallError::Timeout { .. }), "{hasty:?}");
    assert_eq!(ask(&connection).await.unwrap(), 2);
    assert!(begun.elapsed() >= SECOND / 2);
    assert_eq!(broker.take_log().len(), 2, "the hasty one was never sent");
}
