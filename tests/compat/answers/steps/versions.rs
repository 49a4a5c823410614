//! What is asked first: which versions there are; and what nobody speaks.
//!
//! Shell.

use anyhow::Context;
use bytes::Bytes;
use protocol::api::AnyResponse;
use protocol::api::metadata::MetadataRequest;
use protocol::api::versions::ApiVersionsRequest;
use protocol::api_key::ApiKey;

use crate::answers::script::Script;
use crate::answers::tree::Tree;

fn named(name: &str, version: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.to_owned(),
        client_software_version: version.to_owned(),
        ..ApiVersionsRequest::default()
    }
}

/// What each broker advertises.
pub(in crate::answers) fn handshake(script: &mut Script) -> anyhow::Result<()> {
    script.every("a client with a name", |_| named("answers", "1.0"))?;
    script.every("a client without a name", |_| ApiVersionsRequest::default())?;
    for name in ["no word", "-edge", "under_score", "dots.and-dashes"] {
        script.ask(&format!("a client called {name}"), 3, named(name, "1.0"))?;
        script.ask(&format!("a client of version {name}"), 3, named("answers", name))?;
    }
    let another = ApiVersionsRequest { cluster_id: Some("another".into()), ..named("a", "1") };
    script.ask("another cluster is meant", 5, another)?;
    let another = ApiVersionsRequest { node_id: 9, ..named("a", "1") };
    script.ask("another broker is meant", 5, another)?;
    let itself = ApiVersionsRequest { node_id: 1, ..named("a", "1") };
    script.ask("this broker is meant", 5, itself)?;
    let metadata = script.quiet(9, MetadataRequest::default())?;
    let itself = ApiVersionsRequest { cluster_id: metadata.cluster_id, ..named("a", "1") };
    script.ask("this cluster is meant, but no broker", 5, itself)?;
    Ok(())
}

/// Keys and versions that are not served.
pub(in crate::answers) fn unknown(script: &mut Script) -> anyhow::Result<()> {
    for version in [6, 99] {
        let frame = script.quiet_raw(ApiKey::ApiVersions.to_wire(), version, b"\0\x02a\x02b\0")?;
        let frame = frame.context("ApiVersions of an unknown version is answered")?;
        let answer = AnyResponse::decode(ApiKey::ApiVersions, 0, Bytes::copy_from_slice(&frame))?;
        let tree = script.tree(&answer);
        script.note("ApiVersions", version, "a version of the future, answered in version 0", tree);
    }
    for key in [4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 999, -1] {
        script.raw("a key that clients have no business with", key, 0, b"")?;
    }
    for &api in ApiKey::ALL {
        if api != ApiKey::ApiVersions {
            let version = api.versions().end() + 10;
            script.raw("a version of the future", api.to_wire(), version, b"")?;
        }
    }
    for (key, version) in
        [(0, 2), (1, 3), (2, 0), (8, 1), (9, 0), (19, 1), (20, 0), (23, 1), (32, 0)]
    {
        script.raw("a version of the past", key, version, b"")?;
    }
    script.raw("a body cut short", ApiKey::Metadata.to_wire(), 1, b"\0\0")?;
    script.raw("a count that cannot be", ApiKey::Metadata.to_wire(), 1, b"\x7f\xff\xff\xff")?;
    script.raw(
        "null where there must be a list",
        ApiKey::ListOffsets.to_wire(),
        1,
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    )?;
    script.raw(
        "null where there must be a text",
        ApiKey::Heartbeat.to_wire(),
        0,
        b"\xff\xff\0\0\0\0\xff\xff",
    )?;
    let alive = script.quiet(1, MetadataRequest::default())?;
    script.note("Metadata", 1, "still alive", Tree::leaf(alive.brokers.len()));
    Ok(())
}
