//! Settings of a connector, from TOML or JSON: all errors at once, none silent.
//!
//! A [`Config`] is what a file says; a [`Reader`] takes typed values out of it key by key, remembers which
//! keys exist and what was wrong, and [`Reader::finish`] reports everything together: missing keys, wrong
//! types, values out of range, and keys that nobody asked for with the nearest known one. Values are never
//! printed, as they may be secrets. Pure.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Below this likeness (0 to 1) a known key is not worth proposing for an unknown one.
const LIKENESS_MIN: f64 = 0.75;

/// The settings of one connector, and which file they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    origin: String,
    settings: Map<String, Value>,
}

impl Config {
    /// The settings in `text`, which is JSON if it begins with `{`, TOML otherwise. `origin` is the
    /// file's name, for errors.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(origin: impl Into<String>, text: &str) -> Result<Self, ConfigErrors> {
        let origin = origin.into();
        let parsed = if text.trim_start().starts_with('{') {
            serde_json::from_str::<Map<String, Value>>(text).map_err(|error| error.to_string())
        } else {
            toml::from_str::<Map<String, Value>>(text).map_err(|error| error.to_string())
        };
        match parsed {
            Ok(settings) => Ok(Self { origin, settings }),
            Err(reason) => Err(ConfigErrors(vec![ConfigError::Syntax { origin, reason }])),
        }
    }

    /// These settings, made by a program. `origin` names it in errors.
    pub fn new(origin: impl Into<String>, settings: Map<String, Value>) -> Self {
        Self { origin: origin.into(), settings }
    }

    /// Which file these settings come from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Sets `key`, in place of what the file says.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        self.settings.insert(key.into(), value);
    }

    /// Begins to read.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            origin: self.origin.clone(),
            prefix: String::new(),
            left: self.settings.clone(),
            known: Vec::new(),
            errors: Vec::new(),
        }
    }
}

/// Takes typed values out of a [`Config`].
///
/// A value that is missing or wrong is noted, and stands as its type's default until [`Reader::finish`]
/// returns the errors: use no value before `finish` has returned `Ok`.
#[derive(Debug)]
pub struct Reader {
    origin: String,
    /// The tables around this one, each followed by a dot.
    prefix: String,
    left: Map<String, Value>,
    known: Vec<String>,
    errors: Vec<ConfigError>,
}

impl Reader {
    /// The value of `key`, which must be given. `expected` says what it is: `a topic's name`.
    pub fn required<T: DeserializeOwned + Default>(&mut self, key: &str, expected: &str) -> T {
        let found = self.optional(key, expected);
        if found.is_none() && !self.errors.iter().any(|error| error.key() == Some(&self.path(key)))
        {
            self.errors.push(ConfigError::Missing {
                origin: self.origin.clone(),
                key: self.path(key),
                expected: expected.to_owned(),
            });
        }
        found.unwrap_or_default()
    }

    /// The value of `key`, or `default`.
    pub fn or<T: DeserializeOwned>(&mut self, key: &str, default: T, expected: &str) -> T {
        self.optional(key, expected).unwrap_or(default)
    }

    /// The number under `key`, or `default`; must lie within `range`.
    pub fn within<T>(&mut self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: DeserializeOwned + PartialOrd + Display,
    {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        match self.optional::<T>(key, &expected) {
            Some(number) if range.contains(&number) => number,
            Some(number) => {
                self.reject(key, &expected, &number.to_string());
                default
            }
            None => default,
        }
    }

    /// The value of `key`, if given.
    ///
    /// A number or bool may also be written as a string, as flat JSON of Kafka Connect has it.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str, expected: &str) -> Option<T> {
        self.known.push(key.to_owned());
        let value = self.left.remove(key)?;
        let found = kind_of(&value);
        let unquoted = value.as_str().and_then(|text| serde_json::from_str::<T>(text).ok());
        let typed = serde_json::from_value::<T>(value).ok().or(unquoted);
        if typed.is_none() {
            self.reject(key, expected, found);
        }
        typed
    }

    /// Reads the table under `key` with `read`; a missing table reads as an empty one.
    pub fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.known.push(key.to_owned());
        let left = match self.left.remove(key) {
            Some(Value::Object(table)) => table,
            None => Map::new(),
            Some(other) => {
                self.reject(key, "a table", kind_of(&other));
                Map::new()
            }
        };
        let mut inner = Self {
            origin: self.origin.clone(),
            prefix: format!("{}.", self.path(key)),
            left,
            known: Vec::new(),
            errors: Vec::new(),
        };
        let value = read(&mut inner);
        inner.report_unknown();
        self.errors.append(&mut inner.errors);
        value
    }

    /// Notes that the value of `key` is wrong: `expected` in words, and what was `found` (no secret).
    pub fn reject(&mut self, key: &str, expected: &str, found: &str) {
        self.errors.push(ConfigError::Wrong {
            origin: self.origin.clone(),
            key: self.path(key),
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All that was noted, and each key that nobody read. Nothing is kept: a second call is `Ok`.
    pub fn finish(&mut self) -> Result<(), ConfigErrors> {
        self.report_unknown();
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(std::mem::take(&mut self.errors)))
        }
    }

    /// Ends the reading early: all that was noted, without regard to keys not read.
    pub fn errors(&mut self) -> ConfigErrors {
        ConfigErrors(std::mem::take(&mut self.errors))
    }

    fn report_unknown(&mut self) {
        for (key, _) in std::mem::take(&mut self.left) {
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(&key, known), known))
                .filter(|&(likeness, _)| likeness >= LIKENESS_MIN)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, known)| known.clone());
            self.errors.push(ConfigError::Unknown {
                origin: self.origin.clone(),
                key: self.path(&key),
                nearest,
            });
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// One thing wrong in a connector's settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is neither TOML nor JSON.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// A key that must be given is not.
    #[error("{origin}: `{key}` is missing: expected {expected}")]
    Missing {
        /// The file.
        origin: String,
        /// The key, with the tables around it.
        key: String,
        /// What it should be.
        expected: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: `{key}`: expected {expected}, found {found}")]
    Wrong {
        /// The file.
        origin: String,
        /// The key, with the tables around it.
        key: String,
        /// What it should be.
        expected: String,
        /// What it is, without the value itself where that may be secret.
        found: String,
    },
    /// A key that nothing reads: most likely misspelt.
    #[error("{origin}: `{key}` is not a setting{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The file.
        origin: String,
        /// The key, with the tables around it.
        key: String,
        /// The known key most like it, if any is.
        nearest: Option<String>,
    },
}

impl ConfigError {
    fn key(&self) -> Option<&String> {
        match self {
            Self::Syntax { .. } => None,
            Self::Missing { key, .. } | Self::Wrong { key, .. } | Self::Unknown { key, .. } => {
                Some(key)
            }
        }
    }
}

/// All that is wrong in a connector's settings; never empty. Prints one error per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, want: &Expect) {
        let said = match Config::parse("logs.toml", text) {
            Ok(config) => {
                let mut reader = config.reader();
                let topic: String = reader.required("topic", "a topic's name");
                let paths: Vec<String> = reader.required("paths", "a list of globs");
                let bytes = reader.within("batch_bytes", 1000_u64, 1..=5000);
                let follow = reader.or("follow", true, "true or false");
                let retries = reader.table("retry", |retry| retry.within("max", 5_u32, 0..=9));
                match reader.finish() {
                    Ok(()) => format!("{topic} {paths:?} {bytes} {follow} {retries}"),
                    Err(errors) => errors.to_string(),
                }
            }
            Err(errors) => errors.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        want.assert_eq(&said);
    }

    #[test]
    fn toml_and_json_read_the_same_and_defaults_fill_the_rest() {
        check(
            "topic = 'logs'\npaths = ['/a']\n[retry]\nmax = 3",
            &expect![[r#"logs ["/a"] 1000 true 3"#]],
        );
        check(
            r#"{"topic": "logs", "paths": ["/a"], "batch_bytes": "20", "follow": "false"}"#,
            &expect![[r#"logs ["/a"] 20 false 5"#]],
        );
    }

    #[test]
    fn all_errors_come_at_once_each_with_file_key_and_expectation() {
        check(
            "topics = 'logs'\npaths = 'x'\nbatch_bytes = 9999\nfollow = 3\nbeer = 1\n[retry]\nmax = -1\nmaxx = 2",
            &expect![[r#"
                logs.toml: `topic` is missing: expected a topic's name
                logs.toml: `paths`: expected a list of globs, found a string
                logs.toml: `batch_bytes`: expected a number from 1 to 5000, found 9999
                logs.toml: `follow`: expected true or false, found a number
                logs.toml: `retry.max`: expected a number from 0 to 9, found a number
                logs.toml: `retry.maxx` is not a setting; did you mean `max`?
                logs.toml: `beer` is not a setting
                logs.toml: `topics` is not a setting; did you mean `topic`?"#]],
        );
    }

    #[test]
    fn a_file_that_is_neither_toml_nor_json_is_named() {
        check("{nonsense", &expect!["logs.toml: key must be a string at line 1 column 2"]);
    }
}
