//! Texts that must not be seen: passwords, tokens, private keys.
//!
//! A [`Secret`] prints as `***` wherever a text is printed, in logs and errors alike; who needs the
//! text asks for it by [`Secret::expose`], which is easily searched for. Two secrets are compared
//! in a time that does not tell how much of them is equal. Pure.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::config::{ConfigDef, ConfigValue, Unset};

/// What a secret prints as.
const HIDDEN: &str = "***";

/// A text that prints as `***`.
#[derive(Clone, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text. Not to be printed, nor put into an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        are_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl ConfigValue for Secret {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        Some(Self::new(text))
    }
    /// The text itself: that it is sensitive is for the definition to say.
    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(self.expose().to_owned())
    }
}

impl Unset for Secret {}

/// True when both are the same bytes. Takes as long whichever of them differ; lengths are no
/// secret.
#[must_use]
pub fn are_equal(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "canary");
    }

    #[test]
    fn secrets_are_equal_when_their_texts_are() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
        assert_ne!(Secret::new(""), Secret::new("a"));
    }
}
