//! For tests: a server over HTTPS that does what it is told.
//!
//! It listens on a free port of this machine, with a certificate of its own root, both made by
//! openssl in a directory that the test brings, and answers every request alike until it is told
//! otherwise. Shell.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::security::store::{Identity, Pem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::net::tls::{identity, provider, versions};

/// What is answered to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes, and the end of the connection.
    Raw(String),
    /// Nothing, and the connection stays open.
    Silence,
}

impl Reply {
    /// Success, with this body.
    #[must_use]
    pub fn ok(body: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }
}

#[derive(Debug)]
struct State {
    reply: Reply,
    asked: Vec<String>,
}

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct HttpsServer {
    port: u16,
    root: PathBuf,
    /// A lock, as a test and its server's connections look at it in turn.
    state: Arc<Mutex<State>>,
    running: AbortHandle,
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl HttpsServer {
    /// Makes certificates in `dir` and listens.
    ///
    /// # Panics
    /// When there is no openssl, or no port.
    pub async fn start(dir: &Path) -> Self {
        make_certificates(dir);
        let (chain, key) = (Pem::File(dir.join("server.crt")), Pem::File(dir.join("server.key")));
        let (chain, key) = identity(&Identity { chain, key }).expect("openssl made both");
        let all = ["TLSv1.2", "TLSv1.3"].map(str::to_owned);
        let provider = provider(&[]).expect("all ciphers");
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(&all))
            .expect("versions that are known")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State { reply: Reply::Silence, asked: Vec::new() }));
        let shared = Arc::clone(&state);
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        let root = dir.join("ca.pem");
        Self { port, root, state, running: running.abort_handle() }
    }

    /// Where `path` is.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// The root that signed its certificate.
    #[must_use]
    pub fn root(&self) -> Pem {
        Pem::File(self.root.clone())
    }

    /// From now on every request is answered so.
    pub fn reply(&self, reply: Reply) {
        lock(&self.state).reply = reply;
    }

    /// All requests so far, as they came.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever does not like our certificate has gone before it asks anything.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut request = Vec::new();
    while !is_whole(&request) {
        let mut room = [0; 4096];
        match stream.read(&mut room).await {
            Ok(count) if count > 0 => request.extend_from_slice(&room[..count]),
            Ok(_) | Err(_) => return,
        }
    }
    let reply = {
        let mut state = lock(&state);
        state.asked.push(String::from_utf8_lossy(&request).into_owned());
        state.reply.clone()
    };
    match reply {
        Reply::Raw(text) => {
            // Who has heard enough hangs up.
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Silence => std::future::pending().await,
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some((head, body)) = super::head_of(request) else { return false };
    let length = super::header(head, "content-length").and_then(|it| it.parse().ok());
    length.is_none_or(|length: usize| body.len() >= length)
}

fn make_certificates(dir: &Path) {
    let run = |line: &str| {
        let done = Command::new("openssl").args(line.split(' ')).current_dir(dir).output();
        let done = done.expect("openssl is installed");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
    // Roots of one name would be taken for one another, and told apart by their signatures alone.
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca{name} -days 3650"));
    run(&format!("req -new {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        .expect("the test's own directory");
    run("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.crt \
         -extfile names -days 365");
}
