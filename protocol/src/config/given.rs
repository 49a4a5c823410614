//! Which settings somebody gave, as opposed to those that hold by default.
//!
//! It matters to who explains where a value comes from, and to nobody else: two sets of settings
//! under which the same holds are equal, whatever was written down to get there. Pure.

use std::collections::BTreeSet;

/// The names of settings that were given.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeSet<String>);

impl Given {
    /// True when the setting of this name was given, its default's text or another.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

impl<'a> FromIterator<&'a String> for Given {
    fn from_iter<I: IntoIterator<Item = &'a String>>(names: I) -> Self {
        Self(names.into_iter().cloned().collect())
    }
}

impl PartialEq for Given {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
