//! The port of metrics and health: where it is, who may ask there, and how it is encrypted.
//!
//! It is one listener more, of the name [`METRICS`], that speaks HTTP: encrypted where
//! `listener.security.protocol.map` has `METRICS:SSL`, with the settings `listener.name.metrics.…`.
//! What others than this machine reach without authentication is refused at the start, unless it is
//! wanted in so many words. Pure.

use protocol::secret::Secret;
use protocol::security::SecurityProtocol;

use super::endpoint::{endpoint, is_loopback};
use super::listener::{ClientAuth, ListenerError, ListenerSettings};
use super::{BrokerConfig, Endpoint};

/// The name of the listener that tells metrics and health.
pub const METRICS: &str = "METRICS";

impl BrokerConfig {
    /// Where to tell metrics and health. `None`: nowhere.
    #[must_use]
    pub fn metrics_endpoint(&self) -> Option<Endpoint> {
        endpoint(&format!("{METRICS}://{}", self.metrics_listener.as_ref()?.trim()))
    }

    /// How the port of metrics is encrypted. `None`: not.
    ///
    /// # Errors
    /// What of it cannot work.
    pub fn metrics_security(&self) -> Result<Option<ListenerSettings>, ListenerError> {
        match self.protocol_of(METRICS) {
            Some(SecurityProtocol::Ssl) => self.listener(METRICS).map(Some),
            Some(
                SecurityProtocol::Plaintext
                | SecurityProtocol::SaslPlaintext
                | SecurityProtocol::SaslSsl,
            )
            | None => Ok(None),
        }
    }

    /// True when who asks for metrics must say who it is, or show a certificate.
    #[must_use]
    pub fn metrics_are_guarded(&self) -> bool {
        let asks_for_certificates = || {
            let tls = self.metrics_security().ok().flatten().and_then(|it| it.tls);
            tls.is_some_and(|tls| tls.client_auth == ClientAuth::Required)
        };
        self.metrics_basic_auth.is_some()
            || self.metrics_bearer_token.is_some()
            || asks_for_certificates()
    }

    /// What is wrong with the port of metrics, each with the setting to change.
    pub(super) fn metrics_conflicts(&self) -> Vec<(&'static str, String)> {
        let mut conflicts = Vec::new();
        let Some(text) = &self.metrics_listener else { return conflicts };
        let Some(endpoint) = self.metrics_endpoint() else {
            let reason = format!("{text:?} is not of the form host:port");
            return vec![("metrics.listener", reason)];
        };
        if self.protocol_of(METRICS).is_some_and(SecurityProtocol::has_sasl) {
            let reason = format!("{METRICS} speaks HTTP: PLAINTEXT or SSL alone");
            conflicts.push(("listener.security.protocol.map", reason));
        }
        if let Err(error) = self.metrics_security() {
            conflicts.push(("metrics.listener", error.to_string()));
        }
        let is_named = |secret: &Secret| {
            secret.expose().split_once(':').is_some_and(|(name, _)| !name.is_empty())
        };
        if self.metrics_basic_auth.as_ref().is_some_and(|secret| !is_named(secret)) {
            conflicts.push(("metrics.basic.auth", "expected NAME:PASSWORD".to_owned()));
        }
        if self.metrics_bearer_token.as_ref().is_some_and(|token| token.expose().is_empty()) {
            conflicts.push(("metrics.bearer.token", "is empty".to_owned()));
        }
        let is_open = !is_loopback(&endpoint.host) && !self.metrics_are_guarded();
        if is_open && !self.metrics_open_to_all {
            let reason = format!(
                "{text:?} is reached from other machines, and open to all of them: set \
                 metrics.basic.auth or metrics.bearer.token, listen on localhost, or say \
                 metrics.open.to.all=true"
            );
            conflicts.push(("metrics.listener", reason));
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], want: Option<&str>) {
        let read = BrokerConfig::from_pairs(pairs.iter().copied());
        match (read, want) {
            (Ok(_), None) => {}
            (Err(errors), Some(want)) => {
                let told = errors.to_string();
                assert!(told.contains(want), "{pairs:?}: {told}");
                assert!(!told.contains("canary"), "{told}");
            }
            (Ok(_), Some(want)) => panic!("{pairs:?}: not refused by {want}"),
            (Err(errors), None) => panic!("{pairs:?}: {errors}"),
        }
    }

    #[test]
    fn a_port_that_others_reach_is_refused_without_authentication_unless_that_is_wanted() {
        let open = Some("reached from other machines");
        for local in
            ["localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"]
        {
            check(&[("metrics.listener", local)], None);
        }
        for far in [":1", "0.0.0.0:1", "[::]:1", "10.0.0.7:1", "metrics.example:1"] {
            let far = ("metrics.listener", far);
            check(&[far], open);
            check(&[far, ("metrics.open.to.all", "true")], None);
            check(&[far, ("metrics.basic.auth", "a:canary")], None);
            check(&[far, ("metrics.bearer.token", "canary")], None);
        }
    }

    #[test]
    fn credentials_that_nobody_could_bring_are_refused() {
        let port = ("metrics.listener", "localhost:1");
        check(&[port, ("metrics.basic.auth", "canary")], Some("expected NAME:PASSWORD"));
        check(&[port, ("metrics.basic.auth", ":canary")], Some("expected NAME:PASSWORD"));
        check(&[port, ("metrics.bearer.token", "")], Some("metrics.bearer.token"));
    }

    #[test]
    fn the_port_is_encrypted_as_other_listeners_are() {
        let port = ("metrics.listener", ":1");
        let map = |protocol| ("listener.security.protocol.map", protocol);
        let (ssl, sasl) =
            (map("PLAINTEXT:PLAINTEXT,METRICS:SSL"), "PLAINTEXT:PLAINTEXT,METRICS:SASL_SSL");
        let key = ("listener.name.metrics.ssl.keystore.location", "/broker.pem");
        check(&[port, ssl], Some("listener METRICS speaks TLS"));
        check(&[port, ssl, key], Some("reached from other machines"));
        let roots = ("listener.name.metrics.ssl.truststore.location", "/ca.pem");
        let auth = ("listener.name.metrics.ssl.client.auth", "required");
        check(&[port, ssl, key, roots, auth], None);
        check(&[port, map(sasl), key], Some("speaks HTTP"));
        check(&[key], Some("there is no listener METRICS"));
    }
}
