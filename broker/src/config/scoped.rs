//! Settings of single listeners: `listener.name.NAME.SETTING`.
//!
//! Their names are not known beforehand, so they are kept together as one value, which reads back
//! as it shows itself. What they mean is for [`super::listener`] to say. Pure.

use std::collections::BTreeMap;
use std::fmt;

use protocol::config::{ConfigDef, ConfigValue};

/// What their names begin with.
pub(super) const PREFIX: &str = "listener.name.";

/// Which listener a setting is for, and what it is called there. `None`: it is for all of them.
pub(super) fn parts(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PREFIX)?.split_once('.')
}

/// Settings of single listeners, by listener, in small letters, and name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scoped(BTreeMap<(String, String), String>);

impl Scoped {
    /// Takes the settings that are for one listener out of `pairs`. What is not so named is
    /// given back.
    pub(super) fn split(
        pairs: impl Iterator<Item = (String, String)>,
    ) -> (Self, Vec<(String, String)>) {
        let (mut scoped, mut others) = (BTreeMap::new(), Vec::new());
        for (name, text) in pairs {
            match parts(&name) {
                Some((listener, setting)) => {
                    let key = (listener.to_ascii_lowercase(), setting.to_owned());
                    scoped.insert(key, text);
                }
                None => others.push((name, text)),
            }
        }
        (Self(scoped), others)
    }

    /// These with `others` over them.
    pub(super) fn with(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Each by its full name, with what it is set to.
    pub(super) fn named(&self) -> impl Iterator<Item = (String, &str)> {
        let name = |(listener, setting): &(String, String)| format!("{PREFIX}{listener}.{setting}");
        self.0.iter().map(move |(key, text)| (name(key), text.as_str()))
    }

    /// The settings of `listener`, in letters of either case.
    pub(super) fn of(&self, listener: &str) -> BTreeMap<&str, &str> {
        let listener = listener.to_ascii_lowercase();
        let own = self.0.iter().filter(|((of, _), _)| *of == listener);
        own.map(|((_, name), text)| (name.as_str(), text.as_str())).collect()
    }

    /// The listeners that have settings of their own, in small letters; some more than once.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|(listener, _)| listener.as_str())
    }
}

impl fmt::Debug for Scoped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One line per setting, its parts separated by tabs; line ends and tabs within them are written as
/// `%0A` and `%09`, percent signs as `%25`.
impl ConfigValue for Scoped {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        let mut scoped = BTreeMap::new();
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let mut parts = line.splitn(3, '\t').map(decoded);
            let (listener, name, text) = (parts.next()?, parts.next()?, parts.next()?);
            scoped.insert((listener, name), text);
        }
        Some(Self(scoped))
    }

    fn show(&self, _: &ConfigDef) -> Option<String> {
        let line = |((listener, name), text): (&(String, String), &String)| {
            format!("{}\t{}\t{}\n", coded(listener), coded(name), coded(text))
        };
        Some(self.0.iter().map(line).collect())
    }

    fn null() -> Option<Self> {
        Some(Self::default())
    }
}

fn coded(text: &str) -> String {
    text.replace('%', "%25").replace('\n', "%0A").replace('\t', "%09")
}

fn decoded(text: &str) -> String {
    text.replace("%09", "\t").replace("%0A", "\n").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_names_and_values_reads_back() {
        let parts = ["a", "a\tb", "a\nb", "%0A", "%09%", "\t", "\n%25"];
        let mut pairs = Vec::new();
        for name in parts {
            for text in parts {
                pairs.push((format!("{PREFIX}x{name}.{name}{text}"), text.to_owned()));
            }
        }
        let (scoped, others) = Scoped::split(pairs.into_iter());
        assert_eq!((scoped.0.len(), others.len()), (49, 0));
        let def = ConfigDef::password(PREFIX);
        let shown = scoped.show(&def).unwrap();
        assert!(Scoped::read(&def, &shown) == Some(scoped));
        // A setting's name does not end where a tab stands in it.
        let named = format!("{PREFIX}x.ssl.client.auth\tnone");
        let (scoped, _) = Scoped::split([(named, "required".to_owned())].into_iter());
        let again = Scoped::read(&def, &scoped.show(&def).unwrap()).unwrap();
        assert_eq!(again.of("x").get("ssl.client.auth"), None);
    }
}
