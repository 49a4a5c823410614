//! Users of SCRAM that exist from the first start on: `initial.scram.credentials`.
//!
//! Written as `kafka-storage format --add-scram` takes them:
//! `SCRAM-SHA-256=[name=admin,password=secret,iterations=8192]`, several separated by semicolons. What a
//! password is leads to no other place than its credential. KIP-900. Pure.

use protocol::sasl::Hash;
use protocol::sasl::scram::{ITERATIONS_MAX, ITERATIONS_MIN};
use protocol::secret::Secret;

/// A user who is to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialUser {
    /// Of which mechanism.
    pub hash: Hash,
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// How often it is to be hashed.
    pub iterations: u32,
}

/// Why a text names no users. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitialUserError {
    /// Not of the form.
    #[error(
        "expected SCRAM-SHA-256=[name=NAME,password=PASSWORD] or SCRAM-SHA-512, separated by \
         semicolons"
    )]
    Form,
    /// Something is missing.
    #[error("a user needs a name and a password")]
    Incomplete,
    /// Too few or too many.
    #[error("iterations: expected a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations,
}

/// The users that `text` names.
///
/// # Errors
/// When it is not of the form.
pub(super) fn initial_users(text: &str) -> Result<Vec<InitialUser>, InitialUserError> {
    let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(initial_user).collect()
}

fn initial_user(entry: &str) -> Result<InitialUser, InitialUserError> {
    let (mechanism, rest) = entry.split_once('=').ok_or(InitialUserError::Form)?;
    let hash = [Hash::Sha256, Hash::Sha512].into_iter();
    let hash = hash.clone().find(|it| it.mechanism() == mechanism.trim());
    let hash = hash.ok_or(InitialUserError::Form)?;
    let inner = rest.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let (mut name, mut password, mut iterations) = (None, None, ITERATIONS_MIN);
    for pair in inner.ok_or(InitialUserError::Form)?.split(',') {
        let (key, value) = pair.split_once('=').ok_or(InitialUserError::Form)?;
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = bare.unwrap_or(value);
        match key.trim() {
            "name" => name = Some(value.to_owned()),
            "password" => password = Some(Secret::new(value)),
            "iterations" => {
                let range = ITERATIONS_MIN..=ITERATIONS_MAX;
                let count = value.parse().ok().filter(|count| range.contains(count));
                iterations = count.ok_or(InitialUserError::Iterations)?;
            }
            _ => return Err(InitialUserError::Form),
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or(InitialUserError::Incomplete)?;
    let password = password.filter(|it| !it.expose().is_empty());
    let password = password.ok_or(InitialUserError::Incomplete)?;
    Ok(InitialUser { hash, name, password, iterations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_written_as_for_kafkas_tool() {
        let text = "SCRAM-SHA-256=[name=admin,password=a=b]; SCRAM-SHA-512=[name=\"x\",iterations=8192,password=\"p\"]";
        let users = initial_users(text).unwrap();
        let told: Vec<_> = users
            .iter()
            .map(|it| (it.hash, it.name.as_str(), it.password.expose(), it.iterations))
            .collect();
        let want = [(Hash::Sha256, "admin", "a=b", 4096), (Hash::Sha512, "x", "p", 8192)];
        assert_eq!(told, want);
        assert_eq!(initial_users(""), Ok(Vec::new()));
    }

    #[test]
    fn what_names_no_user_is_refused() {
        for (text, want) in [
            ("admin", InitialUserError::Form),
            ("SCRAM-SHA-1=[name=a,password=b]", InitialUserError::Form),
            ("SCRAM-SHA-256=name=a,password=b", InitialUserError::Form),
            ("SCRAM-SHA-256=[name=a,password=b,x=y]", InitialUserError::Form),
            ("SCRAM-SHA-256=[name=a]", InitialUserError::Incomplete),
            ("SCRAM-SHA-256=[name=,password=b]", InitialUserError::Incomplete),
            ("SCRAM-SHA-256=[name=a,password=]", InitialUserError::Incomplete),
            ("SCRAM-SHA-256=[name=a,password=b,iterations=4095]", InitialUserError::Iterations),
        ] {
            assert_eq!(initial_users(text), Err(want), "{text}");
        }
    }
}
