//! Setting and removing credentials of SCRAM.
//!
//! All that a request asks for one user happens or none of it. What arrives is the password as it
//! was salted elsewhere; what is committed verifies it and cannot be turned back into it. KIP-554.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::error_code::ErrorCode;
use protocol::sasl::Hash;
use protocol::sasl::scram::{Credential, ITERATIONS_MAX, ITERATIONS_MIN};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::limits::SCRAM_CREDENTIALS_MAX;
use crate::metadata::{Image, Record, RemoveUserScramCredentialRecord, credential_record};

/// What is to become of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterCredential {
    /// Whose.
    pub user: String,
    /// Of which mechanism, by its number on the wire.
    pub mechanism: i8,
    /// `None`: it is removed.
    pub set: Option<SaltedPassword>,
}

/// A password as it was salted by who sets it.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedPassword {
    /// What it was salted with.
    pub salt: Vec<u8>,
    /// The result.
    pub salted: Vec<u8>,
    /// After how many iterations.
    pub iterations: i32,
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaltedPassword")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Why a user's credentials stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlterCredentialError {
    /// The user has no name.
    #[error("the user's name must not be empty")]
    EmptyName,
    /// No mechanism has this number.
    #[error("unknown SCRAM mechanism")]
    UnknownMechanism,
    /// Stolen, it would be too easy to try passwords on.
    #[error("too few iterations: {ITERATIONS_MIN} are needed at least")]
    FewIterations,
    /// It would take too long to verify.
    #[error("too many iterations: {ITERATIONS_MAX} are accepted at most")]
    ManyIterations,
    /// The salt or the password is not what the mechanism makes.
    #[error("the salt must not be empty, and the salted password as long as the mechanism's hash")]
    Length,
    /// There is none to remove.
    #[error("attempt to delete a user credential that does not exist")]
    Missing,
    /// One credential is named twice.
    #[error("a user credential cannot be altered twice in the same request")]
    Twice,
    /// There are as many as may be.
    #[error("there are {SCRAM_CREDENTIALS_MAX} credentials already")]
    TooMany,
}

impl AlterCredentialError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::EmptyName | Self::FewIterations | Self::ManyIterations | Self::Length => {
                ErrorCode::UnacceptableCredential
            }
            Self::UnknownMechanism => ErrorCode::UnsupportedSaslMechanism,
            Self::Missing => ErrorCode::ResourceNotFound,
            Self::Twice => ErrorCode::DuplicateResource,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }
}

/// What became of each user.
pub(crate) type AlteredUsers = BTreeMap<String, Result<(), AlterCredentialError>>;

impl Core {
    /// Changes credentials.
    pub(crate) fn alter_credentials(
        &self,
        image: &Image,
        alterations: &[AlterCredential],
    ) -> Outcome<AlteredUsers> {
        let mut seen = BTreeSet::new();
        let mut count = image.credential_count();
        let mut users = BTreeMap::<String, Result<Vec<Record>, AlterCredentialError>>::new();
        for alteration in alterations {
            let key = (alteration.user.as_str(), alteration.mechanism);
            let is_twice = !seen.insert(key);
            let mut decide = || {
                if is_twice {
                    return Err(AlterCredentialError::Twice);
                }
                count += 1;
                // Counts too much where one is replaced; it is a bound, not a sum.
                if alteration.set.is_some() && count > SCRAM_CREDENTIALS_MAX {
                    return Err(AlterCredentialError::TooMany);
                }
                record(image, alteration)
            };
            let user = users.entry(alteration.user.clone()).or_insert(Ok(Vec::new()));
            if let Ok(records) = user {
                match decide() {
                    Ok(record) => records.push(record),
                    Err(error) => *user = Err(error),
                }
            }
        }
        let records = users.values().flatten().flatten().cloned().collect();
        let reply = users.into_iter().map(|(user, altered)| (user, altered.map(drop))).collect();
        Outcome { records, reply }
    }

    /// Sets the credentials of users that do not have them: the first administrator must be able
    /// to come in. Those that are there stay, whatever was altered since.
    pub(crate) fn ensure_credentials(
        &self,
        image: &Image,
        wanted: &[(Hash, String, Credential)],
    ) -> Outcome<()> {
        let missing =
            wanted.iter().filter(|(hash, user, _)| image.credential(*hash, user).is_none());
        let records =
            missing.map(|(hash, user, own)| credential_record(user, *hash, own)).collect();
        Outcome { records, reply: () }
    }
}

fn record(image: &Image, alteration: &AlterCredential) -> Result<Record, AlterCredentialError> {
    let AlterCredential { user, mechanism, set } = alteration;
    if user.is_empty() {
        return Err(AlterCredentialError::EmptyName);
    }
    let hash = Hash::from_wire(*mechanism).ok_or(AlterCredentialError::UnknownMechanism)?;
    let Some(SaltedPassword { salt, salted, iterations }) = set else {
        image.credential(hash, user).ok_or(AlterCredentialError::Missing)?;
        let (name, mechanism) = (user.clone(), *mechanism);
        return Ok(RemoveUserScramCredentialRecord { name, mechanism }.into());
    };
    let iterations = u32::try_from(*iterations).unwrap_or(0);
    if iterations < ITERATIONS_MIN {
        return Err(AlterCredentialError::FewIterations);
    }
    if iterations > ITERATIONS_MAX {
        return Err(AlterCredentialError::ManyIterations);
    }
    if salt.is_empty() || salted.len() != hash.bytes() {
        return Err(AlterCredentialError::Length);
    }
    let credential = Credential::of_salted(hash, salted, salt, iterations);
    Ok(credential_record(user, hash, &credential))
}
