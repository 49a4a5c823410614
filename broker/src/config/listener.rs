//! Listeners: where each listens, what it tells its clients, and how it is secured.
//!
//! A listener has a name; `listener.security.protocol.map` says what is spoken there. Its settings
//! are those of the broker with its own, `listener.name.NAME.SETTING`, over them, and those of one
//! mechanism as `listener.name.NAME.MECHANISM.SETTING`. What cannot work is refused before anything
//! listens: encryption without a key, authentication without anyone who could be authenticated,
//! tokens without somebody to have issued them. Bounds on connections hold for a listener beside the
//! broker's own (KIP-402, KIP-612). KIP-103, KIP-226. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::config::{ConfigDef, ConfigError, Kind, find};
use protocol::sasl::Mechanism;
use protocol::sasl::jaas::{Jaas, JaasError};
use protocol::secret::Secret;
use protocol::security::SecurityProtocol;
use protocol::security::store::{Given, Identity, Pem, StoreError};
use protocol::{config_words, configs};

use super::endpoint::{Endpoint, endpoint, is_wildcard};
use super::mapping::{MappingError, PrincipalRules};
use super::metrics::METRICS;
use super::scoped::PREFIX;
use super::{BrokerConfig, CLIENT_AUTHS, TLS_VERSIONS};

/// Whether clients must show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Who has one shows it.
    Requested,
    /// Who has none is refused.
    Required,
}
config_words!(ClientAuth { None = "none", Requested = "requested", Required = "required" });

configs! {
    /// What can be set for one listener.
    pub struct ListenerConfig {
        /// The format of its certificate and key.
        ssl_keystore_type: String = ConfigDef::string("ssl.keystore.type", "PEM").dynamic(),
        /// The file of its certificate and key.
        ssl_keystore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.keystore.location").non_empty().dynamic(),
        /// Its certificate.
        ssl_keystore_certificate_chain: Option<Secret> = ConfigDef::password("ssl.keystore.certificate.chain").dynamic(),
        /// Its key.
        ssl_keystore_key: Option<Secret> = ConfigDef::password("ssl.keystore.key").dynamic(),
        /// Not used by PEM.
        ssl_keystore_password: Option<Secret> = ConfigDef::password("ssl.keystore.password").dynamic(),
        /// Not used: keys are read unencrypted.
        ssl_key_password: Option<Secret> = ConfigDef::password("ssl.key.password").dynamic(),
        /// The format of the roots.
        ssl_truststore_type: String = ConfigDef::string("ssl.truststore.type", "PEM").dynamic(),
        /// The file of the roots of clients' certificates.
        ssl_truststore_location: Option<String> = ConfigDef::null(Kind::String, "ssl.truststore.location").non_empty().dynamic(),
        /// The roots of clients' certificates.
        ssl_truststore_certificates: Option<Secret> = ConfigDef::password("ssl.truststore.certificates").dynamic(),
        /// Not used by PEM.
        ssl_truststore_password: Option<Secret> = ConfigDef::password("ssl.truststore.password").dynamic(),
        /// Whether clients must show certificates.
        ssl_client_auth: ClientAuth = ConfigDef::string("ssl.client.auth", "none").one_of(CLIENT_AUTHS),
        /// The versions of TLS.
        ssl_enabled_protocols: Vec<String> = ConfigDef::list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3").non_empty().one_of(TLS_VERSIONS),
        /// The cipher suites. Empty: all.
        ssl_cipher_suites: Vec<String> = ConfigDef::list("ssl.cipher.suites", ""),
        /// From subjects to names.
        ssl_principal_mapping_rules: String = ConfigDef::string("ssl.principal.mapping.rules", "DEFAULT"),
        /// The mechanisms of SASL.
        sasl_enabled_mechanisms: Vec<String> = ConfigDef::list("sasl.enabled.mechanisms", "").one_of(Mechanism::NAMES),
        /// Names and passwords, for one mechanism.
        sasl_jaas_config: Option<Secret> = ConfigDef::password("sasl.jaas.config"),
        /// How large the requests of those may be who have not been authenticated.
        sasl_server_max_receive_size: u32 = ConfigDef::int("sasl.server.max.receive.size", "524288").at_least(1),
        /// How long the refusal of a client waits.
        connection_failed_authentication_delay: Duration = ConfigDef::int("connection.failed.authentication.delay.ms", "100").at_least(0),
        /// After which time clients must authenticate anew.
        connections_max_reauth: Duration = ConfigDef::long("connections.max.reauth.ms", "0").at_least(0),
        /// Where the keys are by which tokens are verified.
        sasl_oauthbearer_jwks_endpoint_url: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.jwks.endpoint.url").non_empty(),
        /// How often they are looked at.
        sasl_oauthbearer_jwks_endpoint_refresh: Duration = ConfigDef::long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000").at_least(1000),
        /// From where they may be had.
        sasl_oauthbearer_allowed_urls: Vec<String> = ConfigDef::list("sasl.oauthbearer.allowed.urls", ""),
        /// For whom tokens must be.
        sasl_oauthbearer_expected_audience: Vec<String> = ConfigDef::list("sasl.oauthbearer.expected.audience", ""),
        /// Who must have issued them.
        sasl_oauthbearer_expected_issuer: Option<String> = ConfigDef::null(Kind::String, "sasl.oauthbearer.expected.issuer").non_empty(),
        /// How far the issuer's clock may be off.
        sasl_oauthbearer_clock_skew: Duration = ConfigDef::int("sasl.oauthbearer.clock.skew.seconds", "30").at_least(0),
        /// Which of their claims names the user.
        sasl_oauthbearer_sub_claim_name: String = ConfigDef::string("sasl.oauthbearer.sub.claim.name", "sub").non_empty(),
        /// How many connections it holds at once. Null: those of the broker are bounded alone.
        max_connections: Option<u32> = ConfigDef::null(Kind::Int, "max.connections").at_least(0),
        /// How many it accepts per second. Null: those of the broker are bounded alone.
        max_connection_creation_rate: Option<u32> = ConfigDef::null(Kind::Int, "max.connection.creation.rate").at_least(1),
    }
}

/// What a listener has of its own alone: the broker's setting of the same name bounds all listeners
/// together.
const OWN_ALONE: &[&str] = &["max.connections", "max.connection.creation.rate"];

/// How one listener is secured.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// What is spoken there.
    pub protocol: SecurityProtocol,
    /// How it is encrypted. `None`: not.
    pub tls: Option<TlsSettings>,
    /// How its clients authenticate. Empty: they do not.
    pub mechanisms: BTreeMap<Mechanism, MechanismSettings>,
    /// All that was set for it.
    pub config: ListenerConfig,
}

/// How a listener is encrypted.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Its certificate and key.
    pub identity: Identity,
    /// The roots of clients' certificates, where these are looked at.
    pub roots: Option<Pem>,
    /// Whether clients must show one.
    pub client_auth: ClientAuth,
    /// From their subjects to users' names.
    pub rules: PrincipalRules,
}

/// How clients authenticate by one mechanism.
#[derive(Clone, Debug, PartialEq)]
pub struct MechanismSettings {
    /// Names and passwords, for PLAIN.
    pub jaas: Option<Jaas>,
    /// After which time they must authenticate anew. Zero: never.
    pub max_reauth: Duration,
}

/// Why a listener cannot be as its settings say.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ListenerError {
    /// Nothing says what is spoken there.
    #[error("listener {0}: listener.security.protocol.map does not say what is spoken there")]
    NoProtocol(String),
    /// A setting of its own is none, or has a wrong value.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// A store cannot be used.
    #[error("listener {listener}: {prefix}: {source}")]
    Store {
        /// Which listener.
        listener: String,
        /// Which store: `ssl.keystore`.
        prefix: &'static str,
        /// What is wrong with it.
        source: StoreError,
    },
    /// Encryption needs a key.
    #[error(
        "listener {0} speaks TLS: ssl.keystore.location is needed, or ssl.keystore.certificate.chain \
         with ssl.keystore.key"
    )]
    NoKey(String),
    /// Certificates of clients are looked at, and none could be trusted.
    #[error(
        "listener {0}: ssl.client.auth needs ssl.truststore.location or ssl.truststore.certificates"
    )]
    NoRoots(String),
    /// The rules from subjects to names are wrong.
    #[error("listener {listener}: ssl.principal.mapping.rules: {source}")]
    Mapping {
        /// Which listener.
        listener: String,
        /// What is wrong with them.
        source: MappingError,
    },
    /// Clients are to authenticate, and cannot.
    #[error("listener {0} speaks SASL: sasl.enabled.mechanisms is needed")]
    NoMechanism(String),
    /// A line of JAAS is none, or for another mechanism.
    #[error("listener {listener}: {mechanism}: sasl.jaas.config: {source}")]
    Jaas {
        /// Which listener.
        listener: String,
        /// For which mechanism.
        mechanism: Mechanism,
        /// What is wrong with it.
        source: JaasError,
    },
    /// PLAIN without a user.
    #[error(
        "listener {listener}: PLAIN has no users: set listener.name.{small}.plain.sasl.jaas.config \
         to PlainLoginModule with user_NAME=\"password\"",
        small = listener.to_ascii_lowercase()
    )]
    NoUsers {
        /// Which listener.
        listener: String,
    },
    /// Something that tokens cannot be verified without.
    #[error("listener {listener}: OAUTHBEARER cannot verify tokens without {setting}")]
    NoVerifier {
        /// Which listener.
        listener: String,
        /// What is missing.
        setting: &'static str,
    },
    /// The keys are nowhere that they may be had from.
    #[error(
        "listener {listener}: {url} is not in sasl.oauthbearer.allowed.urls, or neither https nor \
         file"
    )]
    ForbiddenUrl {
        /// Which listener.
        listener: String,
        /// From where.
        url: String,
    },
}

impl BrokerConfig {
    /// Where to listen, in the order of the setting. Controllers need no listener here: theirs are
    /// left out.
    #[must_use]
    pub fn listen_on(&self) -> Vec<Endpoint> {
        let all = self.listeners.iter().filter_map(|text| endpoint(text));
        all.filter(|on| !self.is_controllers(&on.listener)).collect()
    }

    /// The listener by which brokers speak with each other, in capitals: the one that is named so,
    /// or the one of the protocol that is, or else the first.
    #[must_use]
    pub fn inter_broker_listener(&self) -> String {
        if let Some(name) = &self.inter_broker_listener_name {
            return name.trim().to_ascii_uppercase();
        }
        let names: Vec<_> = self.listen_on().into_iter().map(|on| on.listener).collect();
        let by_protocol = names.iter().find(|name| **name == self.security_inter_broker_protocol);
        by_protocol.or(names.first()).cloned().unwrap_or_default()
    }

    /// What is wrong with the naming of the listener by which brokers speak, with the setting to
    /// change.
    fn inter_broker_conflict(&self, names: &[String]) -> Option<(&'static str, String)> {
        const NAME: &str = "inter.broker.listener.name";
        const PROTOCOL: &str = "security.inter.broker.protocol";
        let is_protocol_given = self.given.has(PROTOCOL);
        match &self.inter_broker_listener_name {
            Some(_) if is_protocol_given => Some((NAME, format!("{PROTOCOL} is set, too"))),
            Some(name) if !names.contains(&name.trim().to_ascii_uppercase()) => {
                Some((NAME, format!("there is no listener {name}")))
            }
            None if is_protocol_given && !names.contains(&self.security_inter_broker_protocol) => {
                let reason =
                    format!("there is no listener {}", self.security_inter_broker_protocol);
                Some((PROTOCOL, reason))
            }
            Some(_) | None => None,
        }
    }

    /// True for the name of a listener that is for controllers alone.
    fn is_controllers(&self, listener: &str) -> bool {
        self.controller_listener_names.iter().any(|name| name.eq_ignore_ascii_case(listener))
    }

    /// What clients are told to connect to, given what is listened on (with ports by now known) and
    /// this machine's name, which stands in for "every interface".
    #[must_use]
    pub fn advertised(&self, bound: &[Endpoint], hostname: &str) -> Vec<Endpoint> {
        let told: Vec<_> =
            self.advertised_listeners.iter().filter_map(|text| endpoint(text)).collect();
        let advertise = |bound: &Endpoint| {
            let told = told.iter().find(|told| told.listener == bound.listener);
            let mut endpoint = told.unwrap_or(bound).clone();
            if is_wildcard(&endpoint.host) {
                hostname.clone_into(&mut endpoint.host);
            }
            if endpoint.port == 0 {
                endpoint.port = bound.port;
            }
            endpoint
        };
        bound.iter().map(advertise).collect()
    }

    /// What is spoken at each listener, by its name in capitals.
    fn protocols(&self) -> BTreeMap<String, SecurityProtocol> {
        let pairs = self.listener_security_protocol_map.iter();
        let parse = |text: &String| {
            let (name, protocol) = text.split_once(':')?;
            let protocol = SecurityProtocol::from_name(protocol.trim())?;
            Some((name.trim().to_ascii_uppercase(), protocol))
        };
        pairs.filter_map(parse).collect()
    }

    /// What is spoken at `listener`. `None`: nothing says so.
    #[must_use]
    pub fn protocol_of(&self, listener: &str) -> Option<SecurityProtocol> {
        self.protocols().get(&listener.to_ascii_uppercase()).copied()
    }

    /// How `listener` is secured.
    ///
    /// # Errors
    /// What cannot work, the first of it.
    pub fn listener(&self, listener: &str) -> Result<ListenerSettings, ListenerError> {
        let name = || listener.to_owned();
        let protocol =
            self.protocol_of(listener).ok_or_else(|| ListenerError::NoProtocol(name()))?;
        let own = self.listener_settings.of(listener);
        let mut config = self.listener_config(listener, &own)?;
        // Where SASL asks, certificates are asked for only by the listener's own word, as in Kafka.
        if protocol.has_sasl() && !own.contains_key("ssl.client.auth") {
            config.ssl_client_auth = ClientAuth::None;
        }
        let tls = if protocol.is_encrypted() { Some(tls(listener, &config)?) } else { None };
        let mut mechanisms = BTreeMap::new();
        if protocol.has_sasl() {
            let named = config.sasl_enabled_mechanisms.iter();
            for mechanism in named.filter_map(|name| Mechanism::from_name(name)) {
                mechanisms
                    .insert(mechanism, mechanism_settings(listener, mechanism, &config, &own)?);
            }
            if mechanisms.is_empty() {
                return Err(ListenerError::NoMechanism(name()));
            }
        }
        Ok(ListenerSettings { protocol, tls, mechanisms, config })
    }

    /// The broker's settings with the listener's over them.
    fn listener_config(
        &self,
        listener: &str,
        own: &BTreeMap<&str, &str>,
    ) -> Result<ListenerConfig, ListenerError> {
        for name in own.keys() {
            let (_, setting) = of_mechanism(name).unzip();
            let setting = setting.unwrap_or(name);
            if find(ListenerConfig::DEFS, setting).is_none() {
                let near = protocol::config::near(ListenerConfig::DEFS, setting);
                let name = scoped_name(listener, name);
                return Err(ConfigError::Unknown { name, near }.into());
            }
        }
        let base = self.pairs().into_iter();
        let is_base =
            |name| !OWN_ALONE.contains(&name) && find(ListenerConfig::DEFS, name).is_some();
        let base = base.filter(|(def, _)| is_base(def.name));
        let base = base.filter_map(|(def, text)| Some((def.name.to_owned(), text?)));
        let own = own.iter().filter(|(name, _)| of_mechanism(name).is_none());
        let own = own.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        ListenerConfig::parse(base.chain(own)).map_err(|errors| {
            let error = errors.0.into_iter().next().expect("errors are never empty");
            match error {
                ConfigError::Invalid { name, value, expected } => {
                    let name = scoped_name(listener, &name);
                    ConfigError::Invalid { name, value, expected }.into()
                }
                other => other.into(),
            }
        })
    }

    /// What is wrong with the listeners, each with the setting to change.
    pub(super) fn listener_conflicts(&self) -> Vec<(&'static str, String)> {
        let mut conflicts = Vec::new();
        let mut refuse = |name, reason| conflicts.push((name, reason));
        for text in self.listeners.iter().filter(|text| endpoint(text).is_none()) {
            refuse("listeners", format!("{text:?} is not of the form NAME://host:port"));
        }
        let on: Vec<_> = self.listen_on().into_iter().map(|on| on.listener).collect();
        let mut names = on.clone();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            refuse("listeners", "two listeners have the same name".to_owned());
        }
        for text in &self.advertised_listeners {
            match endpoint(text) {
                None => refuse(
                    "advertised.listeners",
                    format!("{text:?} is not of the form NAME://host:port"),
                ),
                Some(told) if self.is_controllers(&told.listener) => {}
                Some(told) if matches!(told.host.as_str(), "0.0.0.0" | "::") => {
                    refuse("advertised.listeners", format!("{text:?} is no address to connect to"));
                }
                Some(told) if !names.contains(&told.listener) => {
                    refuse("advertised.listeners", format!("{text:?} has no listener of its name"));
                }
                Some(_) => {}
            }
        }
        const MAP: &str = "listener.security.protocol.map";
        if self.protocols().len() < self.listener_security_protocol_map.len() {
            let names = SecurityProtocol::NAMES.join(", ");
            refuse(MAP, format!("expected NAME:PROTOCOL, no name twice, protocols being {names}"));
        }
        for listener in self.listener_settings.listeners() {
            let is_known = |name: &String| name.eq_ignore_ascii_case(listener);
            let is_metrics =
                self.metrics_listener.is_some() && listener.eq_ignore_ascii_case(METRICS);
            if !names.iter().any(is_known) && !self.is_controllers(listener) && !is_metrics {
                refuse(PREFIX, format!("there is no listener {}", listener.to_ascii_uppercase()));
            }
        }
        names.dedup();
        if let Some((name, reason)) = self.inter_broker_conflict(&names) {
            refuse(name, reason);
        }
        for name in &names {
            if let Err(error) = self.listener(name) {
                refuse("listeners", error.to_string());
            }
        }
        conflicts
    }
}

fn scoped_name(listener: &str, name: &str) -> String {
    format!("{PREFIX}{}.{name}", listener.to_ascii_lowercase())
}

/// The mechanism that a setting is for, and the setting's own name. `None`: for all of them.
pub(super) fn of_mechanism(name: &str) -> Option<(Mechanism, &str)> {
    let prefixed = |mechanism: Mechanism| {
        let rest = name.strip_prefix(&mechanism.name().to_ascii_lowercase())?;
        Some((mechanism, rest.strip_prefix('.')?))
    };
    Mechanism::ALL.into_iter().find_map(prefixed)
}

fn tls(listener: &str, config: &ListenerConfig) -> Result<TlsSettings, ListenerError> {
    let name = || listener.to_owned();
    let refused = |prefix| move |source| ListenerError::Store { listener: name(), prefix, source };
    let has_password = config.ssl_keystore_password.is_some() || config.ssl_key_password.is_some();
    let identity = Given {
        kind: &config.ssl_keystore_type,
        location: config.ssl_keystore_location.as_deref(),
        certificates: config.ssl_keystore_certificate_chain.as_ref(),
        key: config.ssl_keystore_key.as_ref(),
        has_password,
    };
    let identity = identity.identity().map_err(refused("ssl.keystore"))?;
    let identity = identity.ok_or_else(|| ListenerError::NoKey(name()))?;
    let roots = Given {
        kind: &config.ssl_truststore_type,
        location: config.ssl_truststore_location.as_deref(),
        certificates: config.ssl_truststore_certificates.as_ref(),
        key: None,
        has_password: config.ssl_truststore_password.is_some(),
    };
    let roots = roots.roots().map_err(refused("ssl.truststore"))?;
    let client_auth = config.ssl_client_auth;
    if client_auth != ClientAuth::None && roots.is_none() {
        return Err(ListenerError::NoRoots(name()));
    }
    let rules = PrincipalRules::parse(&config.ssl_principal_mapping_rules)
        .map_err(|source| ListenerError::Mapping { listener: name(), source })?;
    Ok(TlsSettings { identity, roots, client_auth, rules })
}

fn mechanism_settings(
    listener: &str,
    mechanism: Mechanism,
    config: &ListenerConfig,
    own: &BTreeMap<&str, &str>,
) -> Result<MechanismSettings, ListenerError> {
    let scoped = |setting: &str| {
        let name = format!("{}.{setting}", mechanism.name().to_ascii_lowercase());
        own.get(name.as_str()).copied()
    };
    let line = scoped("sasl.jaas.config");
    let line = line.or_else(|| config.sasl_jaas_config.as_ref().map(Secret::expose));
    let jaas = line.map(Jaas::parse).transpose().map_err(|source| ListenerError::Jaas {
        listener: listener.to_owned(),
        mechanism,
        source,
    })?;
    let jaas = jaas.filter(|jaas| jaas.module.is_for(mechanism));
    match mechanism {
        Mechanism::Plain => {
            if jaas.as_ref().is_none_or(|jaas| jaas.users().next().is_none()) {
                return Err(ListenerError::NoUsers { listener: listener.to_owned() });
            }
        }
        Mechanism::OAuthBearer => {
            check_bearer(listener, config)?;
            let prefix = "sasl.jaas.config: ssl.truststore";
            let listener = || listener.to_owned();
            let refused = |source| ListenerError::Store { listener: listener(), prefix, source };
            jaas.as_ref().map(Jaas::roots).transpose().map_err(refused)?;
        }
        Mechanism::Scram(_) => {}
    }
    let max_reauth = match scoped("connections.max.reauth.ms") {
        None => config.connections_max_reauth,
        Some(text) => {
            let millis = text.trim().parse().map_err(|_| ConfigError::Invalid {
                name: scoped_name(listener, "connections.max.reauth.ms"),
                value: text.to_owned(),
                expected: "an integer of at least 0".to_owned(),
            });
            Duration::from_millis(millis?)
        }
    };
    Ok(MechanismSettings { jaas, max_reauth })
}

/// Fails closed: what is missing to verify a token is missing at the start (CVE-2026-110985).
fn check_bearer(listener: &str, config: &ListenerConfig) -> Result<(), ListenerError> {
    let listener = || listener.to_owned();
    let missing = |setting| ListenerError::NoVerifier { listener: listener(), setting };
    let url = config.sasl_oauthbearer_jwks_endpoint_url.as_ref();
    let url = url.ok_or_else(|| missing("sasl.oauthbearer.jwks.endpoint.url"))?;
    if config.sasl_oauthbearer_expected_audience.is_empty() {
        return Err(missing("sasl.oauthbearer.expected.audience"));
    }
    if config.sasl_oauthbearer_expected_issuer.is_none() {
        return Err(missing("sasl.oauthbearer.expected.issuer"));
    }
    let is_known = url.starts_with("https://") || url.starts_with("file://");
    if !is_known || !config.sasl_oauthbearer_allowed_urls.contains(url) {
        return Err(ListenerError::ForbiddenUrl { listener: listener(), url: url.clone() });
    }
    Ok(())
}
