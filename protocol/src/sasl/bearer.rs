//! SASL OAUTHBEARER: a token that somebody else has signed (RFC 7628). What the token says, and
//! whether it may be believed, is judged elsewhere. KIP-255, KIP-342. Pure.

use super::SaslError;
use crate::secret::Secret;

const OAUTHBEARER: &str = "OAUTHBEARER";

/// What separates the parts of a message.
const SEPARATOR: char = '\u{1}';

/// What a client says that was refused, to end the exchange.
pub const GIVEN_UP: &[u8] = b"\x01";

/// What a broker says to a token that it does not believe; the client then gives up.
pub const INVALID_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;

/// A client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For whom the client asks to act; empty: for itself.
    pub authzid: String,
    /// The token. Not verified yet.
    pub token: Secret,
}

impl Claim {
    /// The message of a client with `token`.
    #[must_use]
    pub fn encode(token: &Secret) -> Vec<u8> {
        format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.expose()).into_bytes()
    }

    /// Reads a client's first message. Extensions are passed over.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(message: &[u8]) -> Result<Self, SaslError> {
        let malformed = |reason| SaslError::malformed(OAUTHBEARER, reason);
        let text = str::from_utf8(message).map_err(|_| malformed("the message is not UTF-8"))?;
        let (header, rest) =
            text.split_once(SEPARATOR).ok_or_else(|| malformed("expected a header"))?;
        let mut parts = header.split(',');
        let (Some("n" | "y"), Some(identity), Some(""), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("expected a header without binding to a channel"));
        };
        let authzid = match identity {
            "" => "",
            text => text.strip_prefix("a=").ok_or_else(|| malformed("expected an identity"))?,
        };
        let rest = rest.strip_suffix(SEPARATOR).and_then(|it| it.strip_suffix(SEPARATOR));
        let pairs = rest.ok_or_else(|| malformed("the message has no end"))?.split(SEPARATOR);
        let mut token = None;
        for pair in pairs {
            let (key, value) = pair.split_once('=').ok_or_else(|| malformed("expected a pair"))?;
            if key != "auth" {
                continue;
            }
            let (scheme, text) =
                value.split_once(' ').ok_or_else(|| malformed("expected a scheme and a token"))?;
            if !scheme.eq_ignore_ascii_case("bearer") || token.replace(text.trim()).is_some() {
                return Err(malformed("expected one token of the scheme Bearer"));
            }
        }
        let token = token.filter(|token| !token.is_empty());
        let token = Secret::new(token.ok_or_else(|| malformed("there is no token"))?);
        Ok(Self { authzid: authzid.to_owned(), token })
    }

    /// Checks that the client asks to act for `principal`, or for nobody by name.
    ///
    /// # Errors
    /// When it asks for somebody else.
    pub fn check(&self, principal: &str) -> Result<(), SaslError> {
        super::check_authzid(OAUTHBEARER, &self.authzid, principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_understood() {
        let token = Secret::new("ey.J0.x");
        let claim = Claim { authzid: String::new(), token: token.clone() };
        assert_eq!(Claim::decode(&Claim::encode(&token)), Ok(claim));
        let with_more = b"n,a=me,\x01host=h\x01auth=bearer ey.J0.x\x01traceId=1\x01\x01";
        let claim = Claim::decode(with_more).unwrap();
        assert_eq!((claim.authzid.as_str(), claim.token.expose()), ("me", "ey.J0.x"));
        assert_eq!(claim.check("me"), Ok(()));
        assert_eq!(claim.check("you"), Err(SaslError::OtherIdentity(OAUTHBEARER)));
    }

    #[test]
    fn what_is_no_claim_is_refused() {
        for message in [
            &b""[..],
            b"n,,",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer x",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Bearer\x01\x01",
            b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            b"n,,\x01nonsense\x01\x01",
            b"p=x,,\x01auth=Bearer x\x01\x01",
            b"n,b=x,\x01auth=Bearer x\x01\x01",
            b"\xff",
        ] {
            assert!(matches!(Claim::decode(message), Err(SaslError::Malformed { .. })));
        }
    }
}
