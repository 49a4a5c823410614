//! From settings to what a listener knows of those who may authenticate there. Shell.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::rand::fill;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::net::https::Https;
use protocol::sasl::Mechanism;

use super::decoys::Shapes;
use super::jwt::Expected;
use super::keys::{KeyPlace, KeySource, KeySourceError};
use super::sasl::{Sasl, ShapesNow, Tokens};
use crate::config::ListenerSettings;
use crate::metadata::MetadataHandle;

/// What a listener with these settings knows. `None`: it asks nobody. `metadata` are known before
/// the first client is.
///
/// # Errors
/// When keys for tokens cannot be had.
pub(crate) async fn sasl(
    settings: &ListenerSettings,
    metadata: &Arc<OnceLock<MetadataHandle>>,
) -> Result<Option<Sasl>, KeySourceError> {
    if settings.mechanisms.is_empty() {
        return Ok(None);
    }
    let config = &settings.config;
    let tokens = if settings.mechanisms.contains_key(&Mechanism::OAuthBearer) {
        let url = config.sasl_oauthbearer_jwks_endpoint_url.as_deref().unwrap_or_default();
        let refresh = config.sasl_oauthbearer_jwks_endpoint_refresh;
        let jaas = settings.mechanisms.get(&Mechanism::OAuthBearer).and_then(|it| it.jaas.as_ref());
        // Refused when the settings were read, should they not fit together.
        let roots = jaas.and_then(|jaas| jaas.roots().ok().flatten());
        let place = KeyPlace::new(url, Https::with_roots(roots), refresh);
        let source = Arc::new(KeySource::start(place).await?);
        let missing = source.clone();
        let expected = Expected {
            audience: config.sasl_oauthbearer_expected_audience.clone(),
            issuer: config.sasl_oauthbearer_expected_issuer.clone().unwrap_or_default(),
            subject_claim: config.sasl_oauthbearer_sub_claim_name.clone(),
            skew: config.sasl_oauthbearer_clock_skew,
        };
        let (keys, miss) = (move || source.keys(), move || missing.miss());
        Some(Tokens { keys: Box::new(keys), miss: Box::new(miss), expected })
    } else {
        None
    };
    let plain = settings.mechanisms.get(&Mechanism::Plain).and_then(|it| it.jaas.as_ref());
    let users = plain.iter().flat_map(|jaas| jaas.users());
    let users = users.map(|(name, password)| (name.to_owned(), password.clone())).collect();
    let shapes = shapes_now(metadata.clone());
    let metadata = metadata.clone();
    Ok(Some(Sasl {
        mechanisms: settings.mechanisms.iter().map(|(&it, own)| (it, own.max_reauth)).collect(),
        users,
        credentials: Box::new(move |hash, name| {
            metadata.get()?.image().credential(hash, name).cloned()
        }),
        shapes,
        tokens,
        decoy_key: chance(),
        request_bytes_max: usize::try_from(config.sasl_server_max_receive_size)
            .unwrap_or(usize::MAX),
        refusal_delay: config.connection_failed_authentication_delay,
        nonce,
    }))
}

/// What all credentials look like: looked at anew when the metadata have changed.
fn shapes_now(metadata: Arc<OnceLock<MetadataHandle>>) -> ShapesNow {
    // A lock, as every connection asks here; held to look.
    let seen = Mutex::new((None, Arc::<Shapes>::default()));
    Box::new(move || {
        let Some(metadata) = metadata.get() else { return Arc::default() };
        let image = metadata.image();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != Some(image.end) {
            let all = image.credentials().flat_map(|(_, own)| own);
            *seen = (Some(image.end), Arc::new(Shapes::of(all.map(|(&hash, own)| (hash, own)))));
        }
        seen.1.clone()
    })
}

/// A salt for a new password.
pub(crate) fn salt() -> [u8; 24] {
    chance()
}

/// 144 bits that nobody foresees.
fn nonce() -> String {
    BASE64_STANDARD.encode(chance::<18>())
}

fn chance<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    // Not from the broker's seed: whoever knows that must still not know these.
    fill(&mut bytes).expect("the operating system offers chance");
    bytes
}
