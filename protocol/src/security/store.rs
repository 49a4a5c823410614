//! Where certificates and keys come from, as Kafka's settings say it: PEM, in a file or in the
//! setting itself.
//!
//! Both ends read these settings alike. What stands in the files is read elsewhere, anew whenever
//! they change. KIP-651. Pure.

use std::path::PathBuf;

use crate::secret::Secret;

/// A text in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// In the setting.
    Text(Secret),
}

/// A certificate, with those that lead from it to its root, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, one's own first.
    pub chain: Pem,
    /// The private key, not encrypted.
    pub key: Pem,
}

/// The settings of one store, as they were given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// `ssl.keystore.type`, `ssl.truststore.type`.
    pub kind: &'a str,
    /// `ssl.keystore.location`, `ssl.truststore.location`.
    pub location: Option<&'a str>,
    /// `ssl.keystore.certificate.chain`, `ssl.truststore.certificates`.
    pub certificates: Option<&'a Secret>,
    /// `ssl.keystore.key`.
    pub key: Option<&'a Secret>,
    /// True when a password is given: PEM is read without.
    pub has_password: bool,
}

/// Why settings of a store cannot be used. Names the settings without their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not PEM.
    #[error("stores are read as PEM alone: convert it, and set the store's type to PEM")]
    NoPem,
    /// Two sources for one thing.
    #[error("the store is given as a file and in the settings: leave out one of them")]
    Twice,
    /// A certificate without its key, or the reverse.
    #[error("ssl.keystore.certificate.chain and ssl.keystore.key are needed together")]
    Half,
    /// There is a password.
    #[error("PEM is read without a password: decrypt the key, and protect its file instead")]
    Password,
}

impl Given<'_> {
    fn check(&self) -> Result<(), StoreError> {
        let has_text = self.certificates.is_some() || self.key.is_some();
        if !has_text && self.location.is_none() {
            return Ok(());
        }
        if !self.kind.eq_ignore_ascii_case("PEM") {
            return Err(StoreError::NoPem);
        }
        if has_text && self.location.is_some() {
            return Err(StoreError::Twice);
        }
        if self.has_password { Err(StoreError::Password) } else { Ok(()) }
    }

    /// The certificate and key of `ssl.keystore.…`. `None`: there are none.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.check()?;
        if let Some(path) = self.location {
            let file = Pem::File(path.into());
            return Ok(Some(Identity { chain: file.clone(), key: file }));
        }
        match (self.certificates, self.key) {
            (Some(chain), Some(key)) => {
                let (chain, key) = (Pem::Text(chain.clone()), Pem::Text(key.clone()));
                Ok(Some(Identity { chain, key }))
            }
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(StoreError::Half),
        }
    }

    /// The roots of `ssl.truststore.…`. `None`: there are none.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn roots(&self) -> Result<Option<Pem>, StoreError> {
        self.check()?;
        let file = self.location.map(|path| Pem::File(path.into()));
        Ok(file.or_else(|| self.certificates.cloned().map(Pem::Text)))
    }
}

/// Puts each line of PEM where it belongs: settings are often written on one line, their line ends
/// as spaces or as `\n`.
#[must_use]
pub fn unfolded(text: &str) -> String {
    const MARK: &str = "-----";
    let text = text.replace("\\n", "\n");
    let mut lines = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(begin) = rest.find("-----BEGIN ") {
        let block = &rest[begin..];
        let Some(head) = block[MARK.len()..].find(MARK) else { break };
        let head = head + 2 * MARK.len();
        let Some(end) = block[head..].find("-----END ") else { break };
        let end = head + end;
        let Some(tail) = block[end + MARK.len()..].find(MARK) else { break };
        let tail = end + tail + 2 * MARK.len();
        let body: Vec<&str> = block[head..end].split_whitespace().collect();
        let parts = [&block[..head], &body.join("\n"), &block[end..tail]];
        lines.push_str(&parts.join("\n"));
        lines.push('\n');
        rest = &block[tail..];
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(location: Option<&'a str>, text: Option<&'a Secret>) -> Given<'a> {
        Given { kind: "PEM", location, certificates: text, key: text, has_password: false }
    }

    #[test]
    fn a_store_is_a_file_or_a_text() {
        let text = Secret::new("x");
        let file = Pem::File("/a".into());
        let identity = Identity { chain: file.clone(), key: file.clone() };
        assert_eq!(given(Some("/a"), None).identity(), Ok(Some(identity)));
        assert_eq!(given(Some("/a"), None).roots(), Ok(Some(file)));
        assert_eq!(given(None, Some(&text)).roots(), Ok(Some(Pem::Text(text.clone()))));
        assert_eq!(given(None, None).identity(), Ok(None));
        assert_eq!(given(Some("/a"), Some(&text)).identity(), Err(StoreError::Twice));
        let half = Given { key: None, ..given(None, Some(&text)) };
        assert_eq!(half.identity(), Err(StoreError::Half));
        let jks = Given { kind: "JKS", ..given(Some("/a"), None) };
        assert_eq!(jks.roots(), Err(StoreError::NoPem));
        let locked = Given { has_password: true, ..given(Some("/a"), None) };
        assert_eq!(locked.identity(), Err(StoreError::Password));
        assert_eq!(Given { kind: "JKS", ..given(None, None) }.roots(), Ok(None));
    }

    #[test]
    fn pem_on_one_line_is_unfolded() {
        let want = "-----BEGIN A B-----\nxx\nyy\n-----END A B-----\n-----BEGIN C-----\nz\n-----END C-----\n";
        let folded =
            "-----BEGIN A B----- xx yy -----END A B----- -----BEGIN C-----\\nz\\n-----END C-----";
        assert_eq!(unfolded(folded), want);
        assert_eq!(unfolded(want), want);
        assert_eq!(unfolded("-----BEGIN A----- x"), "");
    }
}
