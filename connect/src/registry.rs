//! Which connectors this process has: name → constructor.
//!
//! Connectors are linked statically; a program registers those it was built with. Asking for one it does
//! not have is answered with the nearest name and all that there are. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::sdk::{ConfigErrors, Connector, Constructor, Reader};

/// The connectors of this process, by the name under which settings ask for them.
#[derive(Clone, Default)]
pub struct Registry {
    constructors: BTreeMap<&'static str, Constructor>,
}

/// No connector has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connector is called `{asked}`{}; there are: {known}", nearest.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
pub struct UnknownConnector {
    /// The name asked for.
    pub asked: String,
    /// The name most like it, if any is.
    pub nearest: Option<&'static str>,
    /// All names, separated by commas.
    pub known: String,
}

impl Registry {
    /// This registry with `name` added. A name may be given once.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        constructor: impl Fn(&mut Reader) -> Result<Connector, ConfigErrors> + Send + Sync + 'static,
    ) -> Self {
        let earlier = self.constructors.insert(name, Arc::new(constructor));
        assert!(earlier.is_none(), "two connectors are called {name}");
        self
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.constructors.keys().copied()
    }

    /// The constructor of `asked`.
    ///
    /// # Errors
    /// There is none; the settings are wrong.
    pub fn constructor(&self, asked: &str) -> Result<Constructor, UnknownConnector> {
        self.constructors.get(asked).cloned().ok_or_else(|| {
            let likeness = |name: &&'static str| strsim::jaro_winkler(asked, name);
            UnknownConnector {
                asked: asked.to_owned(),
                nearest: self
                    .names()
                    .filter(|name| likeness(name) >= 0.75)
                    .max_by(|a, b| likeness(a).total_cmp(&likeness(b))),
                known: self.names().collect::<Vec<_>>().join(", "),
            }
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_connector_is_answered_with_the_nearest_and_all_names() {
        let none = |_: &mut Reader| Err(ConfigErrors(Vec::new()));
        let registry = Registry::default().with("file-source", none).with("lake-sink", none);
        assert!(registry.constructor("lake-sink").is_ok());
        let Err(error) = registry.constructor("file_source") else { panic!("there is none") };
        assert_eq!(
            error.to_string(),
            "no connector is called `file_source` (did you mean `file-source`?); there are: file-source, lake-sink"
        );
    }
}
