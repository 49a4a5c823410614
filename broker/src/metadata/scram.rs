//! Credentials of SCRAM, as the metadata log holds them: what verifies a password, never itself.
//! KIP-554, KIP-900. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::sasl::Hash;
use protocol::sasl::scram::Credential;

use super::error::ApplyError;
use super::image::Image;
use super::record::{Record, RemoveUserScramCredentialRecord, UserScramCredentialRecord};

/// Credentials by user and mechanism.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ScramUsers(BTreeMap<Arc<str>, BTreeMap<Hash, Credential>>);

impl ScramUsers {
    /// Adds a credential, or replaces it.
    pub(super) fn set(&mut self, record: &UserScramCredentialRecord) -> Result<(), ApplyError> {
        let hash = hash(record.mechanism, &record.name)?;
        let credential = Credential {
            salt: record.salt.to_vec(),
            stored_key: record.stored_key.to_vec(),
            server_key: record.server_key.to_vec(),
            iterations: u32::try_from(record.iterations).unwrap_or(0),
        };
        self.0.entry(record.name.as_str().into()).or_default().insert(hash, credential);
        Ok(())
    }

    /// Removes a credential, if it is there.
    pub(super) fn remove(
        &mut self,
        record: &RemoveUserScramCredentialRecord,
    ) -> Result<(), ApplyError> {
        let hash = hash(record.mechanism, &record.name)?;
        if let Some(own) = self.0.get_mut(record.name.as_str()) {
            own.remove(&hash);
            if own.is_empty() {
                self.0.remove(record.name.as_str());
            }
        }
        Ok(())
    }

    /// The records whose fold this is.
    pub(super) fn to_records(&self) -> Vec<Record> {
        let of_user = |(name, own): (&Arc<str>, &BTreeMap<Hash, Credential>)| {
            own.iter().map(|(&hash, own)| credential_record(name, hash, own)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_user).collect()
    }
}

impl Image {
    /// The credential of a user.
    #[must_use]
    pub fn credential(&self, hash: Hash, user: &str) -> Option<&Credential> {
        self.scram_users().0.get(user)?.get(&hash)
    }

    /// All users with credentials, by name, with these.
    pub fn credentials(&self) -> impl Iterator<Item = (&str, &BTreeMap<Hash, Credential>)> {
        self.scram_users().0.iter().map(|(name, own)| (&**name, own))
    }

    /// How many credentials there are.
    #[must_use]
    pub fn credential_count(&self) -> usize {
        self.credentials().map(|(_, own)| own.len()).sum()
    }
}

fn hash(mechanism: i8, user: &str) -> Result<Hash, ApplyError> {
    let unknown = || ApplyError::UnknownMechanism { mechanism, user: user.to_owned() };
    Hash::from_wire(mechanism).ok_or_else(unknown)
}

/// The record that sets a user's credential.
#[must_use]
pub fn credential_record(user: &str, hash: Hash, credential: &Credential) -> Record {
    UserScramCredentialRecord {
        name: user.to_owned(),
        mechanism: hash.to_wire(),
        salt: Bytes::copy_from_slice(&credential.salt),
        stored_key: Bytes::copy_from_slice(&credential.stored_key),
        server_key: Bytes::copy_from_slice(&credential.server_key),
        iterations: i32::try_from(credential.iterations).unwrap_or(i32::MAX),
    }
    .into()
}
