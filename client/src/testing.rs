//! A broker that does what a test tells it, over a network in memory.
//!
//! It answers ApiVersions with the ranges of our own table unless told otherwise, and hands every
//! other request to the test's script, which answers, stays silent, or hangs up. Shell.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use protocol::api::versions::{ApiVersion, ApiVersionsResponse, FinalizedFeatureKey};
use protocol::api::{AnyRequest, AnyResponse, encode_response, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::Framer;
use protocol::header::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::memory::MemoryNetwork;
use crate::net::{BoxStream, Endpoint};

/// What the broker does about a request.
pub(crate) enum Reply {
    /// Answers it.
    Answer(AnyResponse),
    /// Answers with these bytes as the frame's content.
    Raw(Vec<u8>),
    /// Never answers it.
    Silence,
    /// Closes the connection.
    HangUp,
}

impl<T: Into<AnyResponse>> From<T> for Reply {
    fn from(response: T) -> Self {
        Self::Answer(response.into())
    }
}

/// A script: sees the version and the request.
pub(crate) type Script = Box<dyn FnMut(i16, AnyRequest) -> Reply + Send>;

/// A running broker; clones are the same. Lives as long as its runtime.
#[derive(Clone)]
pub(crate) struct FakeBroker {
    pub(crate) endpoint: Endpoint,
    /// The requests so far, ApiVersions excluded.
    log: Arc<Mutex<Vec<(i16, AnyRequest)>>>,
}

/// The ranges of our own table, and `features`.
pub(crate) fn all_versions(features: &[(&str, i16)]) -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: ApiKey::ALL
            .iter()
            .map(|api| ApiVersion {
                api_key: api.to_wire(),
                min_version: *api.versions().start(),
                max_version: *api.versions().end(),
            })
            .collect(),
        finalized_features: features
            .iter()
            .map(|&(name, level)| FinalizedFeatureKey {
                name: name.to_owned(),
                max_version_level: level,
                min_version_level: level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

impl FakeBroker {
    pub(crate) fn start(
        network: &MemoryNetwork,
        host: &str,
        versions: ApiVersionsResponse,
        script: impl FnMut(i16, AnyRequest) -> Reply + Send + 'static,
    ) -> Self {
        let endpoint = Endpoint::new(host, 9092);
        let log = Arc::new(Mutex::new(Vec::new()));
        let broker = Self { endpoint: endpoint.clone(), log: Arc::clone(&log) };
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let mut listener = network.listen(endpoint).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                tokio::spawn(serve(stream, versions.clone(), script, log));
            }
        });
        broker
    }

    /// The requests so far, taken out.
    pub(crate) fn take_log(&self) -> Vec<(i16, AnyRequest)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

async fn serve(
    mut stream: BoxStream,
    versions: ApiVersionsResponse,
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<(i16, AnyRequest)>>>,
) {
    let framer = Framer::new(1 << 24);
    let mut buffer = BytesMut::new();
    loop {
        let Some(frame) = framer.next(&mut buffer).unwrap() else {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let (header, body) = split_request(frame).unwrap();
        let reply = reply(&header, body, &versions, &script, &log);
        let frame = match reply {
            Reply::Answer(response) => {
                let version = match &response {
                    // A refusal is written in version 0.
                    AnyResponse::ApiVersions(it) if it.error_code != 0 => 0,
                    _ => header.api_version,
                };
                encode_response(&response, version, header.correlation_id).unwrap().into_bytes()
            }
            Reply::Raw(content) => {
                let length = u32::try_from(content.len()).unwrap().to_be_bytes();
                [&length[..], &content].concat().into()
            }
            Reply::Silence => continue,
            Reply::HangUp => return,
        };
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn reply(
    header: &RequestHeader,
    body: bytes::Bytes,
    versions: &ApiVersionsResponse,
    script: &Mutex<Script>,
    log: &Mutex<Vec<(i16, AnyRequest)>>,
) -> Reply {
    if header.api_key == ApiKey::ApiVersions.to_wire() {
        let own = versions.api_keys.iter().find(|it| it.api_key == header.api_key).unwrap();
        let supported = (own.min_version..=own.max_version).contains(&header.api_version);
        let error_code = if supported { 0 } else { 35 };
        return ApiVersionsResponse { error_code, ..versions.clone() }.into();
    }
    let api = header.known().expect("clients send only what was negotiated");
    let request = AnyRequest::decode(api, header.api_version, body).unwrap();
    log.lock().unwrap().push((header.api_version, request.clone()));
    (script.lock().unwrap())(header.api_version, request)
}
