//! What is asked over HTTPS, of a server that does what a test tells it. Shell.

use super::testing::{HttpsServer, Reply};
use super::*;
use crate::net::sasl::{TokenEndpoint, TokenProvider};

#[test]
fn urls_are_taken_apart() {
    let check = |url: &str, want: Option<(&str, &str)>| {
        let got = parts(url).map(|(endpoint, path)| (endpoint.to_string(), path));
        assert_eq!(got, want.map(|(endpoint, path)| (endpoint.to_owned(), path)), "{url}");
    };
    check("https://id.example/keys?x=1", Some(("id.example:443", "/keys?x=1")));
    check("https://id.example:8443", Some(("id.example:8443", "/")));
    check("https://[::1]:1/a", Some(("[::1]:1", "/a")));
    for url in
        ["http://id.example/", "file:///etc/passwd", "https://a:b@c/", "https://a/b c", "https://"]
    {
        check(url, None);
    }
}

#[test]
fn bodies_come_whole_by_length_by_chunks_or_by_the_end() {
    let check = |answer: &str, want: Option<&str>| {
        let got = body_of(answer.as_bytes(), 10).ok();
        assert_eq!(got.as_deref(), want.map(str::as_bytes), "{answer}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", Some("ab"));
    check("HTTP/1.1 200 OK\r\n\r\nabc", Some("abc"));
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        Some("abc"),
    );
    check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", None);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab\r\n", None);
    check("HTTP/1.1 200 OK\r\n\r\n12345678901", None);
    check("HTTP/1.1 302 Found\r\nLocation: http://x\r\n\r\n", None);
    check("SSH-2.0\r\n\r\n", None);
}

const MAX: usize = 1000;

/// What a client that trusts `roots` is told.
async fn told(server: &HttpsServer, roots: Pem, reply: Reply) -> Result<Vec<u8>, HttpsError> {
    server.reply(reply);
    let https = Https { patience: Duration::from_secs(2), ..Https::with_roots(Some(roots)) };
    https.get(&server.url("/keys"), MAX).await
}

#[tokio::test]
async fn an_answer_is_believed_only_from_a_server_whose_certificate_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = HttpsServer::start(elsewhere.path()).await;
    let good = told(&server, server.root(), Reply::ok("canary")).await;
    assert_eq!(good.unwrap(), b"canary");
    assert!(server.asked()[0].starts_with("GET /keys HTTP/1.1\r\n"), "{:?}", server.asked());
    let refused = told(&server, stranger.root(), Reply::ok("canary")).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    // The machine trusts neither.
    let refused = Https::default().get(&server.url("/keys"), MAX).await.unwrap_err();
    assert!(matches!(refused, HttpsError::Io(_) | HttpsError::Tls(_)), "{refused}");
    assert_eq!(server.asked().len(), 1, "who is not trusted is asked nothing");
    // In clear it would be anyone's.
    let clear = server.url("/keys").replace("https:", "http:");
    let refused = Https::with_roots(Some(server.root())).get(&clear, MAX).await.unwrap_err();
    assert!(matches!(refused, HttpsError::Url), "{refused}");
}

#[tokio::test]
async fn what_is_no_answer_is_refused_in_time_and_never_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    let elsewhere = format!("Location: {}\r\nContent-Length: 6\r\n\r\ncanary", server.url("/b"));
    let long = "canary".repeat(MAX);
    for (reply, want) in [
        (Reply::Raw(format!("HTTP/1.1 302 Found\r\n{elsewhere}")), "status 302"),
        (Reply::Raw(format!("HTTP/1.1 307 Temporary Redirect\r\n{elsewhere}")), "status 307"),
        (Reply::Raw("HTTP/1.1 500 canary\r\n\r\ncanary".to_owned()), "status 500"),
        (Reply::ok(&long), "longer than 1000 bytes"),
        (Reply::Raw(format!("HTTP/1.1 200 OK\r\nX: {long}{long}{long}")), "1000 bytes"),
        (Reply::Raw(format!("HTTP/1.1 200 OK\r\n\r\n{long}")), "1000 bytes"),
        (Reply::Raw("canary".to_owned()), "not HTTP"),
        (Reply::Silence, "no answer within 2s"),
    ] {
        let told = told(&server, server.root(), reply).await.unwrap_err().to_string();
        assert!(told.contains(want), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
    assert!(server.asked().iter().all(|it| it.starts_with("GET /keys")), "{:?}", server.asked());
}

fn endpoint(server: &HttpsServer, url: String) -> TokenEndpoint {
    TokenEndpoint {
        url,
        client_id: "me & you".to_owned(),
        client_secret: Secret::new("canary"),
        scope: Some("kafka read".to_owned()),
        https: Https::with_roots(Some(server.root())),
    }
}

#[tokio::test]
async fn a_token_is_had_for_the_clients_own_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    server.reply(Reply::ok(r#"{"access_token": "ey.J0.x", "token_type": "Bearer"}"#));
    let endpoint = endpoint(&server, server.url("/token"));
    assert_eq!(endpoint.token().await.unwrap().expose(), "ey.J0.x");
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
    // me%20%26%20you:canary
    assert!(asked.contains("\r\nAuthorization: Basic bWUlMjAlMjYlMjB5b3U6Y2FuYXJ5\r\n"), "{asked}");
    let form = "grant_type=client_credentials&scope=kafka%20read";
    assert!(asked.ends_with(&format!("\r\n\r\n{form}")), "{asked}");
    assert!(asked.contains(&format!("\r\nContent-Length: {}\r\n", form.len())), "{asked}");
    assert!(!format!("{endpoint:?}").contains("canary"));
}

#[tokio::test]
async fn without_a_token_the_endpoint_is_named_and_nothing_that_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(dir.path()).await;
    let url = server.url("/token");
    for reply in [
        Reply::ok("canary"),
        Reply::ok(r#"{"error": "canary"}"#),
        Reply::ok(r#"{"access_token": 7, "canary": 1}"#),
        Reply::Raw("HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\": \"canary\"}".to_owned()),
        Reply::Raw("HTTP/1.1 302 Found\r\nLocation: file:///canary\r\n\r\n".to_owned()),
    ] {
        server.reply(reply);
        let told = endpoint(&server, url.clone()).token().await.unwrap_err().to_string();
        assert!(told.contains(&url) && !told.contains("canary"), "{told}");
    }
    let clear = endpoint(&server, url.replace("https:", "http:"));
    let told = clear.token().await.unwrap_err().to_string();
    assert!(told.contains("expected https://"), "{told}");
}
