//! What passes between a connection and the rooms behind it.
//!
//! A request is served in two steps: what must happen in order of arrival happens before
//! [`Serve::serve`] returns, the rest in the future that it may return. Shell.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::{AnyRequest, AnyResponse};
use protocol::api_key::ApiKey;
use protocol::time::Now;

use crate::auth::Session;
use crate::auth::audit::Event;
use crate::budget::Grant;
use crate::stretch::Stretch;

/// A decoded request and where it came from.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) context: Context,
    pub(crate) body: AnyRequest,
}

/// Where a request came from, and in which version its answer must be.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) version: i16,
    /// What the client calls itself.
    pub(crate) client_id: Option<Arc<str>>,
    /// Who asks, and by which listener.
    pub(crate) session: Arc<Session>,
    /// When the request was read.
    pub(crate) now: Now,
    /// An answer may name a stretch of a file in the place of its bytes.
    pub(crate) takes_files: bool,
}

/// What records of an answer hold until they are sent.
#[derive(Debug)]
pub(crate) struct Held {
    /// Memory of the budget.
    pub(crate) grant: Grant,
    /// What zeros stand for in the answer, in their order.
    pub(crate) stretches: Vec<Arc<Stretch>>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(AnyResponse),
    /// Records, and what they hold until they are sent.
    Records(AnyResponse, Held),
    /// The client expects none (`acks=0`).
    Nothing,
    /// A message of SASL without a header.
    Bare(Bytes),
    /// The connection must end: no response can say what went wrong.
    Close(&'static str),
}

impl Answer {
    /// The response, if it is one.
    pub(crate) fn response_mut(&mut self) -> Option<&mut AnyResponse> {
        match self {
            Self::Response(response) | Self::Records(response, _) => Some(response),
            Self::Nothing | Self::Bare(_) | Self::Close(_) => None,
        }
    }
}

impl<R: Into<AnyResponse>> From<R> for Answer {
    fn from(response: R) -> Self {
        Self::Response(response.into())
    }
}

/// An answer, now or later. Dropping a later one cancels its waiting, not what it set going.
pub(crate) enum Serving {
    Ready(Answer),
    Later(Later),
    /// Like `Later`, but with an answer so large that a connection has no other answer in memory beside
    /// it: it is not begun before all answers before it were taken.
    Alone(Later),
}

/// The rest of serving a request.
pub(crate) type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Serving {
    /// An answer that is known already.
    pub(crate) fn ready(answer: impl Into<Answer>) -> Self {
        Self::Ready(answer.into())
    }

    /// An answer that must be waited for.
    pub(crate) fn later<A: Into<Answer>>(answer: impl Future<Output = A> + Send + 'static) -> Self {
        Self::Later(Box::pin(async move { answer.await.into() }))
    }
}

impl Serving {
    /// The same, its response changed by `change` before it is sent.
    pub(crate) fn amended(self, change: impl FnOnce(&mut AnyResponse) + Send + 'static) -> Self {
        let amend = |mut answer: Answer| {
            if let Some(response) = answer.response_mut() {
                change(response);
            }
            answer
        };
        match self {
            Self::Ready(answer) => Self::Ready(amend(answer)),
            Self::Later(later) => Self::Later(Box::pin(async move { amend(later.await) })),
            Self::Alone(later) => Self::Alone(Box::pin(async move { amend(later.await) })),
        }
    }

    /// An answer that must be waited for, and may be large.
    pub(crate) fn alone<A: Into<Answer>>(answer: impl Future<Output = A> + Send + 'static) -> Self {
        Self::Alone(Box::pin(async move { answer.await.into() }))
    }
}

/// Serves requests: the broker's APIs, or what a test puts in their place.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    /// Begins to serve `request`. Called in order of arrival on each connection.
    fn serve(&self, request: Request) -> Serving;

    /// Carries out `serve`, which serves some requests one after the other: what they lead to may be done
    /// together in the end.
    fn together<T>(serve: impl FnOnce() -> T) -> T {
        serve()
    }

    /// The answer to an ApiVersions request of a version that is not supported.
    fn unsupported_api_versions(&self) -> AnyResponse;

    /// True while requests are to be timed: their time counts against a quota.
    fn is_timed(&self) -> bool {
        false
    }

    /// Charges what a request cost, and writes into its answer how long its client is to be
    /// silent; its connection is not read for that time. KIP-219.
    fn settle(&self, _spent: &Spent<'_>, _answer: &mut Answer) -> Duration {
        Duration::ZERO
    }

    /// Counts what was sent, in bytes.
    fn sent(&self, _bytes: usize) {}

    /// Counts a connection.
    fn connected(&self) {}

    /// Counts a connection that ended.
    fn disconnected(&self) {}

    /// Counts a client that proved who it is, or could not.
    fn authenticated(&self, _is_proved: bool) {}

    /// Writes down what concerns who may do what.
    fn audit(&self, _event: &Event) {}

    /// Counts a connection that was closed as soon as it was accepted.
    fn refused(&self) {}
}

/// What a request cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent<'a> {
    pub(crate) api: ApiKey,
    /// Who asked.
    pub(crate) user: &'a str,
    /// What the client calls itself.
    pub(crate) client_id: Option<&'a str>,
    /// Of its frame.
    pub(crate) request_bytes: usize,
    /// Since it was read.
    pub(crate) taken: Duration,
    /// The part of it in which something was done for it. Zero unless requests are timed.
    pub(crate) busy: Duration,
    /// When its answer was known.
    pub(crate) now: Duration,
}
