//! From settings to what a listener knows of those who may authenticate there. Shell.

use std::io;
use std::path::{Path, PathBuf};
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
use crate::disk::{Disk, read_file, replace_file};
use crate::metadata::MetadataHandle;

/// In the directory of all data: the secret from which decoys of SCRAM follow.
const DECOYS_FILE: &str = "scram-decoys.key";
/// Bytes of that file.
const DECOYS_BYTES: usize = 32;

/// What listeners know that are opened before it is there: all of it is set before the first client
/// comes.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// The users of SCRAM, and what settings are altered to.
    pub(crate) metadata: OnceLock<MetadataHandle>,
    /// See [`decoy_key`].
    pub(crate) decoy_key: OnceLock<[u8; DECOYS_BYTES]>,
}

/// Why there is no secret for decoys. The broker does not start then: a new one would tell, to who
/// has asked before, which users exist.
#[derive(Debug, thiserror::Error)]
pub enum DecoyKeyError {
    /// It cannot be read, or not be made.
    #[error("{}: the key of SCRAM's decoys cannot be read or written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{}: must hold {DECOYS_BYTES} bytes: restore it, or remove it for a new one", path.display()
    )]
    Length {
        /// Which file.
        path: PathBuf,
    },
}

/// The secret from which decoys follow, kept in the directory `dir`, which is this process's own. Made,
/// durably, where there is none. Were it another after each start, the names whose challenges stay the
/// same would be those of users.
///
/// # Errors
/// See [`DecoyKeyError`].
pub(crate) fn decoy_key(disk: &dyn Disk, dir: &Path) -> Result<[u8; DECOYS_BYTES], DecoyKeyError> {
    let path = dir.join(DECOYS_FILE);
    let read = match read_file(disk, &path, 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = chance();
            let made = replace_file(disk, &path, &key);
            return made.map(|()| key).map_err(|source| DecoyKeyError::File { path, source });
        }
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(DecoyKeyError::Length { path });
        }
        Err(source) => return Err(DecoyKeyError::File { path, source }),
    };
    read.try_into().map_err(|_| DecoyKeyError::Length { path })
}

/// What a listener with these settings knows. `None`: it asks nobody.
///
/// # Errors
/// When keys for tokens cannot be had.
pub(crate) async fn sasl(
    settings: &ListenerSettings,
    later: &Arc<Later>,
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
    let shapes = shapes_now(later.clone());
    let (users_of_scram, keys_of_decoys) = (later.clone(), later.clone());
    Ok(Some(Sasl {
        mechanisms: settings.mechanisms.iter().map(|(&it, own)| (it, own.max_reauth)).collect(),
        users,
        credentials: Box::new(move |hash, name| {
            users_of_scram.metadata.get()?.image().credential(hash, name).cloned()
        }),
        shapes,
        tokens,
        decoy_key: Box::new(move || {
            *keys_of_decoys.decoy_key.get().expect("it is set before the first client comes")
        }),
        request_bytes_max: usize::try_from(config.sasl_server_max_receive_size)
            .unwrap_or(usize::MAX),
        refusal_delay: config.connection_failed_authentication_delay,
        nonce,
    }))
}

/// What all credentials look like: looked at anew when the metadata have changed.
fn shapes_now(later: Arc<Later>) -> ShapesNow {
    // A lock, as every connection asks here; held to look.
    let seen = Mutex::new((None, Arc::<Shapes>::default()));
    Box::new(move || {
        let Some(metadata) = later.metadata.get() else { return Arc::default() };
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

/// Bytes that nobody foresees.
pub(crate) fn chance<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    // Not from the broker's seed: whoever knows that must still not know these.
    fill(&mut bytes).expect("the operating system offers chance");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn the_key_of_decoys_is_made_once_and_a_damaged_one_is_refused_by_name() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let made = decoy_key(&disk, dir).unwrap();
        disk.crash();
        assert_eq!(decoy_key(&disk, dir).unwrap(), made);
        let path = dir.join(DECOYS_FILE);
        for bytes in [&made[1..], &[0; DECOYS_BYTES + 1], &[0; 2000], &[]] {
            replace_file(&disk, &path, bytes).unwrap();
            let refused = decoy_key(&disk, dir).unwrap_err();
            assert!(matches!(refused, DecoyKeyError::Length { .. }), "{refused}");
            assert!(refused.to_string().contains("/data/scram-decoys.key"), "{refused}");
        }
        disk.remove_file(&path).unwrap();
        assert_ne!(decoy_key(&disk, dir).unwrap(), made);
    }
}
