//! Whether requests may be served, and what is written down of them in the audit trail.
//!
//! Each denial is written down once, with what was denied, and each change to the cluster once it is
//! made or refused, with what was changed. By a listener by which brokers do not speak, nobody is a
//! broker. Shell.

use std::sync::Arc;

use protocol::api::AnyRequest;
use protocol::api_key::ApiKey;

use super::Api;
use super::changes::Watch;
use super::permit::{self, Gate, Noting, Verdict};
use super::serving::{Answer, Context, Serve, Serving};
use crate::auth::audit::{Event, Target};
use crate::auth::{Session, Who};

impl Api {
    /// What to ask whether the sender of a request may. `None`: nobody needs to be asked.
    pub(super) fn gate(&self, context: &Context) -> Option<Gate> {
        let authorizer = self.0.authorizer.clone()?;
        let session = &context.session;
        let who = Who { principal: session.principal.to_string(), host: session.host().to_owned() };
        let noting = if self.0.trail.wants_all() { Noting::All } else { Noting::Denials };
        Some(Gate::new(authorizer, self.image(), who, noting))
    }

    /// True for a request that came by the listener by which brokers speak with each other.
    pub(super) fn is_among_brokers(&self, context: &Context) -> bool {
        *context.session.listener == *self.0.inter_broker_listener
    }

    /// Writes down what was allowed or denied.
    pub(super) fn note_decision(
        &self,
        context: &Context,
        api: ApiKey,
        target: Target,
        is_allowed: bool,
    ) {
        self.audit(&Event::decided(&context.session, api.name(), target, is_allowed));
    }

    /// Writes down what was asked at a gate.
    pub(super) fn note_asked(&self, context: &Context, api: ApiKey, gate: Option<&Gate>) {
        for (target, is_allowed) in gate.into_iter().flat_map(Gate::take_asked) {
            self.note_decision(context, api, target, is_allowed);
        }
    }

    /// Whether a request is served, and how.
    pub(super) fn judge(&self, context: &Context, body: AnyRequest) -> Verdict {
        let (api, gate) = (body.api_key(), self.gate(context));
        let body = if self.is_among_brokers(context) {
            body
        } else {
            match permit::brokers::judge(gate.as_ref(), context.version, body) {
                Ok(body) => body,
                Err(refused) => {
                    self.note_decision(context, api, permit::brokers::denied(), false);
                    return Verdict::Refuse(*refused);
                }
            }
        };
        let Some(gate) = gate else { return Verdict::Serve(body, None) };
        let verdict = permit::judge(&gate, context.version, body);
        self.note_asked(context, api, Some(&gate));
        verdict
    }

    /// The same, with what it changes written down when it is done. Who leaves before the answer
    /// does not keep the change from being written down, so a task of its own waits for it.
    pub(super) fn watched(&self, session: Arc<Session>, watch: Watch, serving: Serving) -> Serving {
        let trail = self.0.trail.clone();
        let note = move |answer: &Answer| {
            let Answer::Response(response) = answer else { return };
            let api = response.api_key().name();
            for change in watch(response) {
                trail.note(&change.event(&session, api));
            }
        };
        match serving {
            Serving::Ready(answer) => {
                note(&answer);
                Serving::Ready(answer)
            }
            Serving::Later(later) | Serving::Alone(later) => {
                let task = tokio::spawn(async move {
                    let answer = later.await;
                    note(&answer);
                    answer
                });
                let ended = Answer::Close("the broker ends");
                Serving::Later(Box::pin(async move { task.await.unwrap_or(ended) }))
            }
        }
    }
}
