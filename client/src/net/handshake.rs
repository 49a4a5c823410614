//! The first words on a connection: what do you speak, and this is who I am.
//!
//! ApiVersions comes first (KIP-511). A broker that is older than our version of it answers in
//! version 0 with UNSUPPORTED_VERSION and, since KIP-511, with its own range: we ask again in a
//! version it has. Then, if asked for, SASL (KIP-43, KIP-152), whose broker may say for how long
//! it holds (KIP-368). Shell.

use std::time::Duration;

use bytes::Bytes;
use protocol::api::sasl::{SaslAuthenticateRequest, SaslHandshakeRequest};
use protocol::api::versions::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::api::{Request, decode_response, encode_request};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use tokio::io::AsyncWriteExt;

use super::BoxStream;
use super::error::OpenError;
use super::frames::Frames;
use super::negotiation::Negotiated;
use super::parts::Parts;
use super::sasl::{Credentials, Exchange};

/// 4: the newest version that brokers in use know; a newer one would cost most of them a second
/// question.
const API_VERSIONS_VERSION: i16 = 4;

/// Asks and answers until requests may be sent. For how long that holds; `None`: for ever.
pub(super) async fn shake(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
    sasl: Option<&Credentials>,
) -> Result<(Negotiated, Option<Duration>), OpenError> {
    let negotiated = Negotiated::new(&versions(frames, client_id).await?);
    let lifetime = match sasl {
        Some(sasl) => authenticate(frames, client_id, sasl, &negotiated).await?,
        None => None,
    };
    Ok((negotiated, lifetime))
}

async fn versions(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
) -> Result<ApiVersionsResponse, OpenError> {
    let request = ApiVersionsRequest {
        client_software_name: "millstream-client".to_owned(),
        client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ApiVersionsRequest::default()
    };
    let mut version = API_VERSIONS_VERSION;
    let mut frame = exchange(frames, client_id, request.clone(), version).await?;
    if let Some(older) = refusal(&frame) {
        let own = older.api_keys.iter().find(|it| it.api_key == ApiKey::ApiVersions.to_wire());
        version = own.map_or(0, |it| it.max_version.clamp(0, API_VERSIONS_VERSION));
        frame = exchange(frames, client_id, request, version).await?;
    }
    let response = match refusal(&frame) {
        Some(refusal) => refusal,
        None => decode::<ApiVersionsRequest>(version, frame)?,
    };
    accept(ApiKey::ApiVersions, response.error_code)?;
    Ok(response)
}

/// The answer, if it says that the version is not supported: then it is of version 0.
fn refusal(frame: &Bytes) -> Option<ApiVersionsResponse> {
    decode::<ApiVersionsRequest>(0, frame.clone())
        .ok()
        .filter(|it| it.error_code == ErrorCode::UnsupportedVersion.to_wire())
}

async fn authenticate(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
    sasl: &Credentials,
    negotiated: &Negotiated,
) -> Result<Option<Duration>, OpenError> {
    let mechanism = sasl.mechanism().name();
    let handshake = SaslHandshakeRequest { mechanism: mechanism.to_owned() };
    let frame = exchange(frames, client_id, handshake, 1).await?;
    let answer = decode::<SaslHandshakeRequest>(1, frame)?;
    if answer.error_code == ErrorCode::UnsupportedSaslMechanism.to_wire() {
        let offered = answer.mechanisms.join(", ");
        let words = format!("the broker offers {offered}: set sasl.mechanism to one of these");
        return Err(OpenError::Denied { mechanism, words });
    }
    accept(ApiKey::SaslHandshake, answer.error_code)?;
    let refused = |_| OpenError::Refused {
        api: ApiKey::SaslAuthenticate,
        code: ErrorCode::UnsupportedVersion,
    };
    let version = negotiated.version(ApiKey::SaslAuthenticate, i16::MAX).map_err(refused)?;
    let mut ours = Exchange::new(sasl).await.map_err(OpenError::Token)?;
    let mut message = ours.first();
    loop {
        let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(message) };
        let frame = exchange(frames, client_id, request, version).await?;
        let answer = decode::<SaslAuthenticateRequest>(version, frame)?;
        if answer.error_code == ErrorCode::SaslAuthenticationFailed.to_wire() {
            let said = answer.error_message.unwrap_or_default();
            let words = format!("{said}: {}", advice(sasl));
            return Err(OpenError::Denied { mechanism, words });
        }
        accept(ApiKey::SaslAuthenticate, answer.error_code)?;
        match ours.step(&answer.auth_bytes)? {
            Some(next) => message = next,
            None => {
                let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                return Ok((lifetime > 0).then(|| Duration::from_millis(lifetime)));
            }
        }
    }
}

/// What to look at when the broker does not believe it.
fn advice(sasl: &Credentials) -> &'static str {
    match sasl {
        Credentials::Plain { .. } | Credentials::Scram { .. } => {
            "look at the username and the password of sasl.jaas.config, and at sasl.mechanism"
        }
        Credentials::Bearer(_) => "look at whom the token is for, who issued it, and until when",
    }
}

async fn exchange<R: Request>(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
    request: R,
    version: i16,
) -> Result<Bytes, OpenError> {
    let chunks = encode_request(&request.into(), version, 0, Some(client_id))?;
    frames.stream.write_all_buf(&mut Parts::from(chunks)).await?;
    frames.stream.flush().await?;
    frames.next().await
}

fn decode<R: Request>(version: i16, frame: Bytes) -> Result<R::Response, OpenError> {
    let (_, response) = decode_response(R::KEY, version, frame)?;
    Ok(R::Response::try_from(response).expect("decoded as the answer to its request"))
}

fn accept(api: ApiKey, error_code: i16) -> Result<(), OpenError> {
    let code = ErrorCode::from_wire(error_code);
    code.ok().map_err(|code| OpenError::Refused { api, code })
}
