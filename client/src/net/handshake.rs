//! The first words on a connection: what do you speak, and this is who I am.
//!
//! ApiVersions comes first (KIP-511). A broker that is older than our version of it answers in
//! version 0 with UNSUPPORTED_VERSION and, since KIP-511, with its own range: we ask again in a
//! version it has. Then, if asked for, SASL PLAIN (KIP-43, KIP-152). Shell.

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

/// 4: the newest version that brokers in use know; a newer one would cost most of them a second
/// question.
const API_VERSIONS_VERSION: i16 = 4;

/// A name and its password.
#[derive(Clone)]
pub struct SaslPlain {
    /// The name.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for SaslPlain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaslPlain").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Asks and answers until requests may be sent.
pub(super) async fn shake(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
    sasl: Option<&SaslPlain>,
) -> Result<Negotiated, OpenError> {
    let negotiated = Negotiated::new(&versions(frames, client_id).await?);
    if let Some(sasl) = sasl {
        authenticate(frames, client_id, sasl, &negotiated).await?;
    }
    Ok(negotiated)
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
    sasl: &SaslPlain,
    negotiated: &Negotiated,
) -> Result<(), OpenError> {
    let handshake = SaslHandshakeRequest { mechanism: "PLAIN".to_owned() };
    let frame = exchange(frames, client_id, handshake, 1).await?;
    let answer = decode::<SaslHandshakeRequest>(1, frame)?;
    accept(ApiKey::SaslHandshake, answer.error_code)?;
    let words = format!("\0{}\0{}", sasl.username, sasl.password);
    let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(words) };
    let refused = |_| OpenError::Refused {
        api: ApiKey::SaslAuthenticate,
        code: ErrorCode::UnsupportedVersion,
    };
    let version = negotiated.version(ApiKey::SaslAuthenticate, i16::MAX).map_err(refused)?;
    let frame = exchange(frames, client_id, request, version).await?;
    let answer = decode::<SaslAuthenticateRequest>(version, frame)?;
    accept(ApiKey::SaslAuthenticate, answer.error_code)
}

async fn exchange<R: Request>(
    frames: &mut Frames<BoxStream>,
    client_id: &str,
    request: R,
    version: i16,
) -> Result<Bytes, OpenError> {
    let chunks = encode_request(&request.into(), version, 0, Some(client_id))?;
    frames.stream.write_all_buf(&mut Parts::from(chunks)).await?;
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
