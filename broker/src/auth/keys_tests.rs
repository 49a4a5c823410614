//! Keys over HTTPS, from a server that does what a test tells it. Shell.

use client::net::https::testing::{HttpsServer, Reply};
use protocol::security::store::Pem;

use super::*;

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(50);

/// A set of one key, which is none of anybody's.
fn jwks(id: &str) -> String {
    let point = "A".repeat(43);
    let key = format!(r#"{{"kty":"EC","crv":"P-256","kid":"{id}","x":"{point}","y":"{point}"}}"#);
    format!(r#"{{"keys":[{key}]}}"#)
}

fn place(server: &HttpsServer, roots: Pem) -> KeyPlace {
    let https = Https { patience: Duration::from_secs(2), ..Https::with_roots(Some(roots)) };
    KeyPlace { missed_at_most_every: SOON, ..KeyPlace::new(&server.url("/keys"), https, NEVER) }
}

#[tokio::test]
async fn keys_are_had_from_a_trusted_server_alone_and_errors_name_it_and_nothing_it_said() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = HttpsServer::start(dir.path()).await;
    let stranger = HttpsServer::start(elsewhere.path()).await;
    server.reply(Reply::ok(&jwks("a")));
    let good = KeySource::start(place(&server, server.root())).await.unwrap();
    assert!(good.keys().has("a") && !good.keys().has("b"));
    let untrusted = KeySource::start(place(&server, stranger.root())).await.unwrap_err();
    assert!(untrusted.to_string().contains("UnknownIssuer"), "{untrusted}");
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n\r\ncanary", stranger.url("/canary"));
    for (reply, want) in [
        (Reply::Raw(redirect), "status 302"),
        (Reply::Raw("HTTP/1.1 503 Unavailable\r\n\r\ncanary".to_owned()), "status 503"),
        (Reply::ok(&"canary".repeat(JWKS_BYTES_MAX / 6 + 1)), "longer than 1048576 bytes"),
        (Reply::ok("canary"), "not a JSON Web Key Set"),
        (Reply::ok(r#"{"keys": [{"kty": "canary"}]}"#), "no key of the set"),
        (Reply::Silence, "no answer within"),
    ] {
        server.reply(reply);
        let told = KeySource::start(place(&server, server.root())).await.unwrap_err().to_string();
        assert!(told.contains(want) && told.contains(&server.url("/keys")), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
    assert_eq!(stranger.asked(), Vec::<String>::new(), "nobody follows");
    let clear = KeyPlace {
        url: server.url("/keys").replace("https:", "http:"),
        ..place(&server, server.root())
    };
    let told = KeySource::start(clear).await.unwrap_err().to_string();
    assert!(told.contains("expected https://"), "{told}");
}

#[tokio::test]
async fn a_key_that_is_missed_is_looked_for_and_those_before_stay_when_it_cannot_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    server.reply(Reply::ok(&jwks("old")));
    let source = KeySource::start(place(&server, server.root())).await.unwrap();
    let until_asked = async |count: usize| {
        while server.asked().len() < count {
            tokio::task::yield_now().await;
        }
    };
    server.reply(Reply::Raw("HTTP/1.1 500 canary\r\n\r\n".to_owned()));
    source.miss();
    until_asked(2).await;
    assert!(source.keys().has("old"));
    server.reply(Reply::ok(&jwks("new")));
    source.miss();
    while !source.keys().has("new") {
        tokio::task::yield_now().await;
    }
    assert!(!source.keys().has("old"), "what was taken back counts no more");
}

#[tokio::test]
async fn however_many_keys_are_missed_the_issuer_is_asked_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    server.reply(Reply::ok(&jwks("a")));
    let clock = client::time::real_clock();
    let pause = Duration::from_millis(400);
    let often = KeyPlace { missed_at_most_every: pause, ..place(&server, server.root()) };
    let source = KeySource::start(often).await.unwrap();
    let began = clock.now().monotonic;
    while server.asked().len() < 4 {
        source.miss();
        tokio::task::yield_now().await;
    }
    assert!(clock.now().monotonic - began >= pause * 3);
}

#[tokio::test]
async fn keys_are_read_from_a_regular_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let https = Https::with_roots(None);
    let ask = async |path: &Path| {
        let url = format!("file://{}", path.display());
        let place = KeyPlace::new(&url, https.clone(), NEVER);
        KeySource::start(place).await.map(|it| it.keys().has("a"))
    };
    std::fs::write(&file, jwks("a")).unwrap();
    assert!(ask(&file).await.unwrap());
    std::fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    for path in [&*file, dir.path(), Path::new("/dev/null")] {
        let error = ask(path).await.unwrap_err();
        assert!(matches!(error, KeySourceError::File { .. }), "{error:?}");
    }
}
