//! SASL PLAIN: name and password in clear, for connections that are encrypted (RFC 4616). Pure.

use super::{SaslError, check_authzid};
use crate::secret::Secret;

const PLAIN: &str = "PLAIN";

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name.
    pub username: String,
    /// The password. Not verified yet.
    pub password: Secret,
}

impl Claim {
    /// The one message of the client.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        format!("\0{}\0{}", self.username, self.password.expose()).into_bytes()
    }

    /// Reads the one message of the client.
    ///
    /// # Errors
    /// When it is none, or asks to act for somebody else.
    pub fn decode(message: &[u8]) -> Result<Self, SaslError> {
        let malformed = |reason| SaslError::malformed(PLAIN, reason);
        let text = str::from_utf8(message).map_err(|_| malformed("the message is not UTF-8"))?;
        let mut parts = text.split('\0');
        let (Some(authzid), Some(username), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("expected an identity, a name and a password"));
        };
        if username.is_empty() {
            return Err(malformed("the name is empty"));
        }
        if password.is_empty() {
            return Err(malformed("the password is empty"));
        }
        check_authzid(PLAIN, authzid, username)?;
        Ok(Self { username: username.to_owned(), password: Secret::new(password) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_understood() {
        let claim = Claim { username: "älice".to_owned(), password: Secret::new("pa ss") };
        assert_eq!(Claim::decode(&claim.encode()), Ok(claim.clone()));
        assert_eq!(Claim::decode("älice\0älice\0pa ss".as_bytes()), Ok(claim));
    }

    #[test]
    fn who_acts_for_somebody_else_is_refused() {
        assert_eq!(Claim::decode(b"admin\0alice\0x"), Err(SaslError::OtherIdentity(PLAIN)));
    }

    #[test]
    fn what_is_not_three_parts_is_refused() {
        for message in
            [&b""[..], b"alice", b"\0alice", b"\0alice\0", b"\0\0x", b"\0a\0b\0c", b"\0\xff\0b"]
        {
            let refused = Claim::decode(message);
            assert!(matches!(refused, Err(SaslError::Malformed { .. })), "{message:?}");
        }
    }
}
