//! How a client is secured, by Kafka's names: encryption, and who it says it is.
//!
//! Passwords come as a line of JAAS, as Kafka's users know it, or as `sasl.username` and
//! `sasl.password`. What does not fit together is refused. KIP-651. Pure.

use std::path::PathBuf;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, Kind};
use protocol::configs;
use protocol::sasl::Mechanism;
use protocol::sasl::jaas::Jaas;
use protocol::secret::Secret;
use protocol::security::SecurityProtocol;
use protocol::security::store::{Given, Pem, StoreError};

use crate::net::tls::TlsOptions;

configs! {
    /// How connections to brokers are secured.
    pub struct SecurityConfig {
        /// What brokers speak: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        security_protocol: SecurityProtocol = ConfigDef::string("security.protocol", "PLAINTEXT").one_of(SecurityProtocol::NAMES),
        /// The format of our certificate and key: PEM alone.
        ssl_keystore_type: String = ConfigDef::string("ssl.keystore.type", "PEM"),
        /// A file with our private key and certificate, for brokers that ask.
        ssl_keystore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.keystore.location").non_empty(),
        /// Our certificate, in place of a file.
        ssl_keystore_certificate_chain: Option<Secret> = ConfigDef::password("ssl.keystore.certificate.chain"),
        /// Our private key, in place of a file.
        ssl_keystore_key: Option<Secret> = ConfigDef::password("ssl.keystore.key"),
        /// Not for PEM.
        ssl_keystore_password: Option<Secret> = ConfigDef::password("ssl.keystore.password"),
        /// Encrypted keys are not read.
        ssl_key_password: Option<Secret> = ConfigDef::password("ssl.key.password"),
        /// The format of the roots of brokers' certificates: PEM alone.
        ssl_truststore_type: String = ConfigDef::string("ssl.truststore.type", "PEM"),
        /// A file with the roots of brokers' certificates. By default those that this machine trusts.
        ssl_truststore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.truststore.location").non_empty(),
        /// The roots of brokers' certificates, in place of a file.
        ssl_truststore_certificates: Option<Secret> = ConfigDef::password("ssl.truststore.certificates"),
        /// Not for PEM.
        ssl_truststore_password: Option<Secret> = ConfigDef::password("ssl.truststore.password"),
        /// Which versions of TLS are spoken.
        ssl_enabled_protocols: Vec<String> = ConfigDef::list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3").non_empty().one_of(&["TLSv1.2", "TLSv1.3"]),
        /// Which cipher suites are used, by their IANA names. Empty: all that are safe.
        ssl_cipher_suites: Vec<String> = ConfigDef::list("ssl.cipher.suites", ""),
        /// `https`: a broker's certificate must name its host; empty: it need not.
        ssl_endpoint_identification_algorithm: String = ConfigDef::string("ssl.endpoint.identification.algorithm", "https").one_of(&["https", "HTTPS", ""]),
        /// By which mechanism we prove who we are.
        sasl_mechanism: Option<Mechanism> = ConfigDef::null(Kind::String, "sasl.mechanism").one_of(Mechanism::NAMES),
        /// Our name and password: a line of JAAS.
        sasl_jaas_config: Option<Secret> = ConfigDef::password("sasl.jaas.config"),
        /// Our name, in place of a line of JAAS.
        sasl_username: Option<String> = ConfigDef::null(Kind::String, "sasl.username").non_empty(),
        /// Our password, in place of a line of JAAS.
        sasl_password: Option<Secret> = ConfigDef::password("sasl.password"),
        /// Where tokens come from: a file:// or https:// URL.
        sasl_oauthbearer_token_endpoint_url: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.token.endpoint.url").non_empty(),
        /// From which URLs tokens may be had; nothing is asked for elsewhere.
        sasl_oauthbearer_allowed_urls: Vec<String> = ConfigDef::list("sasl.oauthbearer.allowed.urls", ""),
        /// Our id, where tokens come from.
        sasl_oauthbearer_client_id: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.client.credentials.client.id").non_empty(),
        /// Our secret, where tokens come from.
        sasl_oauthbearer_client_secret: Option<Secret> = ConfigDef::password("sasl.oauthbearer.client.credentials.client.secret"),
        /// What tokens are to be for.
        sasl_oauthbearer_scope: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.scope").non_empty(),
    }
}

/// Who a client says it is, as its settings have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody: brokers do not ask, or look at its certificate.
    None,
    /// Who knows this password.
    Password {
        /// By which mechanism.
        mechanism: Mechanism,
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Whom the token in this file names.
    TokenFile(PathBuf),
    /// Whom the token of this endpoint names.
    TokenEndpoint {
        /// Where it is.
        url: String,
        /// Our id there.
        client_id: String,
        /// Our secret there.
        client_secret: Secret,
        /// What the token is to be for.
        scope: Option<String>,
        /// The roots of its certificate. `None`: those that this machine trusts.
        roots: Option<Pem>,
    },
}

impl SecurityConfig {
    /// The settings of `pairs` that are about security; all others are passed over, as those of
    /// producers and consumers stand in the same files.
    ///
    /// # Errors
    /// What is wrong with those that are, all at once.
    pub fn of<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors> {
        let pairs = pairs.into_iter().map(|(name, text)| (name.into(), text.into()));
        let known = ["ssl.", "sasl.", "security."];
        let is_known = |name: &str| known.iter().any(|prefix| name.starts_with(prefix));
        Self::parse(pairs.filter(|(name, _): &(String, String)| is_known(name)))
    }

    /// How streams are encrypted. `None`: not.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn tls(&self) -> Result<Option<TlsOptions>, ConfigErrors> {
        if !self.security_protocol.is_encrypted() {
            return Ok(None);
        }
        let refused = |name| move |error: StoreError| conflict(name, &error.to_string());
        let identity = Given {
            kind: &self.ssl_keystore_type,
            location: self.ssl_keystore_location.as_deref(),
            certificates: self.ssl_keystore_certificate_chain.as_ref(),
            key: self.ssl_keystore_key.as_ref(),
            has_password: self.ssl_keystore_password.is_some() || self.ssl_key_password.is_some(),
        };
        let roots = Given {
            kind: &self.ssl_truststore_type,
            location: self.ssl_truststore_location.as_deref(),
            certificates: self.ssl_truststore_certificates.as_ref(),
            key: None,
            has_password: self.ssl_truststore_password.is_some(),
        };
        Ok(Some(TlsOptions {
            roots: roots.roots().map_err(refused("ssl.truststore.location"))?,
            identity: identity.identity().map_err(refused("ssl.keystore.location"))?,
            versions: self.ssl_enabled_protocols.clone(),
            ciphers: self.ssl_cipher_suites.clone(),
            is_any_host: self.ssl_endpoint_identification_algorithm.is_empty(),
        }))
    }

    /// Who we say we are.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn identity(&self) -> Result<Identity, ConfigErrors> {
        if !self.security_protocol.has_sasl() {
            return Ok(Identity::None);
        }
        let mechanism = self.sasl_mechanism.ok_or_else(|| {
            let names = Mechanism::NAMES.join(", ");
            conflict("sasl.mechanism", &format!("is needed: one of {names}"))
        })?;
        let line = self.sasl_jaas_config.as_ref().map(|line| Jaas::parse(line.expose()));
        let jaas = line.transpose();
        let jaas = jaas.map_err(|error| conflict("sasl.jaas.config", &error.to_string()))?;
        if jaas.as_ref().is_some_and(|jaas| !jaas.module.is_for(mechanism)) {
            let reason = format!("its login module is not for {mechanism}");
            return Err(conflict("sasl.jaas.config", &reason));
        }
        let option = |name: &str| jaas.as_ref().and_then(|jaas| jaas.option(name)).cloned();
        match mechanism {
            Mechanism::Plain | Mechanism::Scram(_) => {
                let username = option("username").map(|name| name.expose().to_owned());
                let username = username.or_else(|| self.sasl_username.clone());
                let password = option("password").or_else(|| self.sasl_password.clone());
                let (Some(username), Some(password)) = (username, password) else {
                    let reason = "a username and a password are needed";
                    return Err(conflict("sasl.jaas.config", reason));
                };
                Ok(Identity::Password { mechanism, username, password })
            }
            Mechanism::OAuthBearer => self.token(jaas.as_ref()),
        }
    }

    fn token(&self, jaas: Option<&Jaas>) -> Result<Identity, ConfigErrors> {
        const URL: &str = "sasl.oauthbearer.token.endpoint.url";
        let url = self.sasl_oauthbearer_token_endpoint_url.clone();
        let url = url.ok_or_else(|| conflict(URL, "is needed"))?;
        if !self.sasl_oauthbearer_allowed_urls.contains(&url) {
            return Err(conflict(URL, "is not in sasl.oauthbearer.allowed.urls"));
        }
        if let Some(path) = url.strip_prefix("file://") {
            return Ok(Identity::TokenFile(path.into()));
        }
        if !url.starts_with("https://") {
            return Err(conflict(URL, "expected file:// or https://"));
        }
        let option = |name: &str| jaas.and_then(|jaas| jaas.option(name)).cloned();
        let own = |name: &str| option(name).map(|text| text.expose().to_owned());
        let client_id = self.sasl_oauthbearer_client_id.clone().or_else(|| own("clientId"));
        let client_secret =
            self.sasl_oauthbearer_client_secret.clone().or_else(|| option("clientSecret"));
        let (Some(client_id), Some(client_secret)) = (client_id, client_secret) else {
            let reason = "is needed, and the secret that belongs to it";
            return Err(conflict("sasl.oauthbearer.client.credentials.client.id", reason));
        };
        let scope = self.sasl_oauthbearer_scope.clone().or_else(|| own("scope"));
        // Brokers and issuers are seldom signed by one root: Kafka, too, takes this one from here.
        let roots = jaas.map(Jaas::roots).transpose();
        let roots = roots.map_err(|error| conflict("sasl.jaas.config", &error.to_string()))?;
        Ok(Identity::TokenEndpoint { url, client_id, client_secret, scope, roots: roots.flatten() })
    }
}

fn conflict(name: &'static str, reason: &str) -> ConfigErrors {
    ConfigErrors(vec![ConfigError::Conflict { name, reason: reason.to_owned() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\"canary\";";

    fn config(pairs: &[(&str, &str)]) -> SecurityConfig {
        SecurityConfig::of(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_file_of_kafkas_clients_is_understood() {
        let config = config(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.jaas.config", SCRAM),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "/ca.pem"),
            ("ssl.endpoint.identification.algorithm", ""),
            ("acks", "all"),
        ]);
        let tls = config.tls().unwrap().unwrap();
        assert!(tls.is_any_host && tls.roots.is_some() && tls.identity.is_none());
        let Identity::Password { mechanism, username, password } = config.identity().unwrap()
        else {
            panic!()
        };
        assert_eq!((mechanism.name(), username.as_str()), ("SCRAM-SHA-512", "alice"));
        assert_eq!(password.expose(), "canary");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let sasl = ("security.protocol", "SASL_PLAINTEXT");
        let bearer = ("sasl.mechanism", "OAUTHBEARER");
        let url = ("sasl.oauthbearer.token.endpoint.url", "https://id.example/token");
        let allowed = ("sasl.oauthbearer.allowed.urls", "https://id.example/token");
        for (pairs, want) in [
            (vec![sasl], "sasl.mechanism: is needed"),
            (vec![sasl, ("sasl.mechanism", "PLAIN")], "a username and a password"),
            (vec![sasl, ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", SCRAM)], "not for PLAIN"),
            (vec![sasl, bearer], "endpoint.url: is needed"),
            (vec![sasl, bearer, url], "allowed.urls"),
            (vec![sasl, bearer, url, allowed], "client.id: is needed"),
        ] {
            let told = config(&pairs).identity().unwrap_err().to_string();
            assert!(told.contains(want), "{told}");
        }
        let unknown = SecurityConfig::of([("ssl.truststore.locaton", "x")]).unwrap_err();
        assert!(unknown.to_string().contains("did you mean"), "{unknown}");
    }

    #[test]
    fn a_secret_shows_neither_in_prints_nor_in_what_is_wrong() {
        const CANARY: &str = "canary";
        for def in SecurityConfig::DEFS.iter().filter(|def| def.is_sensitive()) {
            for mechanism in Mechanism::NAMES {
                let config = config(&[
                    ("security.protocol", "SASL_SSL"),
                    ("sasl.mechanism", mechanism),
                    (def.name, CANARY),
                ]);
                let told = format!("{config:?} {:?} {:?}", config.tls(), config.identity());
                assert!(!told.contains(CANARY), "{} {mechanism}: {told}", def.name);
            }
        }
    }

    /// Kafka's clients replaced such words by what stands in files and in the environment.
    #[test]
    fn a_value_that_looks_like_a_reference_is_what_it_says() {
        for text in ["${file:/etc/hostname:x}", "${env:PATH}", "${directory:/etc:hostname}"] {
            let config = config(&[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", text),
                ("sasl.password", text),
            ]);
            let Identity::Password { username, password, .. } = config.identity().unwrap() else {
                panic!()
            };
            assert_eq!((username.as_str(), password.expose()), (text, text));
        }
        for name in ["config.providers", "config.providers.file.class"] {
            let refused = crate::ProducerConfig::parse([(name, "file")]).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}
