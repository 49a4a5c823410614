//! Settings declared once: name, kind, default, range and meaning in one place.
//!
//! A [`ConfigDef`] is one setting by Kafka's name. [`configs!`](crate::configs) declares a struct
//! whose fields are the parsed settings together with the table of their definitions; the same
//! table parses a map of texts (reporting every error at once, unknown names with the nearest known
//! one), answers DescribeConfigs and prints the README's table. Invariant: each default passes its
//! own definition's checks. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

mod given;
mod value;
pub use given::Given;
pub use value::{ConfigValue, Unset};

/// How DescribeConfigs names the type of a setting. The numbers are the wire's. KIP-569.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A 32-bit integer.
    Int,
    /// A 16-bit integer.
    Short,
    /// A 64-bit integer.
    Long,
    /// A floating point number.
    Double,
    /// Texts separated by commas.
    List,
    /// Text that is never shown.
    Password,
}

impl Kind {
    /// The number of this type in DescribeConfigs.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Password => 9,
        }
    }
}

/// Which texts a setting accepts, beyond being of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// Everything of its kind.
    Any,
    /// Integers of this range; both ends included, as Kafka documents its ranges.
    Between(i64, i64),
    /// Numbers of this range; both ends included.
    Within(f64, f64),
    /// One of these words; for a list, each element is one of them.
    OneOf(&'static [&'static str]),
    /// At least one character; for a list, at least one element.
    NonEmpty,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type on the wire.
    pub kind: Kind,
    /// What holds when nothing is set. `None`: null.
    pub default: Option<&'static str>,
    /// Which texts are accepted.
    pub valid: Valid,
    /// What it does, for people.
    pub doc: &'static str,
    /// True when it may be altered while running.
    pub is_dynamic: bool,
    /// The broker's setting from which a topic's takes its default.
    pub synonym: Option<&'static str>,
}

impl ConfigDef {
    const fn new(kind: Kind, name: &'static str, default: Option<&'static str>) -> Self {
        Self { name, kind, default, valid: Valid::Any, doc: "", is_dynamic: false, synonym: None }
    }

    /// A setting that is `true` or `false`.
    #[must_use]
    pub const fn boolean(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::Boolean, name, Some(default))
    }

    /// A 32-bit setting.
    #[must_use]
    pub const fn int(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::Int, name, Some(default))
    }

    /// A 16-bit setting.
    #[must_use]
    pub const fn short(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::Short, name, Some(default))
    }

    /// A 64-bit setting.
    #[must_use]
    pub const fn long(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::Long, name, Some(default))
    }

    /// A floating point setting.
    #[must_use]
    pub const fn double(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::Double, name, Some(default))
    }

    /// A textual setting.
    #[must_use]
    pub const fn string(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::String, name, Some(default))
    }

    /// A setting of texts separated by commas.
    #[must_use]
    pub const fn list(name: &'static str, default: &'static str) -> Self {
        Self::new(Kind::List, name, Some(default))
    }

    /// A secret text; null unless set.
    #[must_use]
    pub const fn password(name: &'static str) -> Self {
        Self::new(Kind::Password, name, None)
    }

    /// A setting that is null unless set.
    #[must_use]
    pub const fn null(kind: Kind, name: &'static str) -> Self {
        Self::new(kind, name, None)
    }

    /// The same, restricted to integers from `min` to `max`, both included.
    #[must_use]
    pub const fn between(mut self, min: i64, max: i64) -> Self {
        self.valid = Valid::Between(min, max);
        self
    }

    /// The same, restricted to integers of at least `min`.
    #[must_use]
    pub const fn at_least(self, min: i64) -> Self {
        let max = match self.kind {
            Kind::Short => 32_767,
            Kind::Int => 2_147_483_647,
            Kind::Boolean
            | Kind::String
            | Kind::Long
            | Kind::Double
            | Kind::List
            | Kind::Password => i64::MAX,
        };
        self.between(min, max)
    }

    /// The same, restricted to numbers from `min` to `max`, both included.
    #[must_use]
    pub const fn within(mut self, min: f64, max: f64) -> Self {
        self.valid = Valid::Within(min, max);
        self
    }

    /// The same, restricted to these words.
    #[must_use]
    pub const fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.valid = Valid::OneOf(words);
        self
    }

    /// The same, refusing the empty text and the empty list.
    #[must_use]
    pub const fn non_empty(mut self) -> Self {
        self.valid = Valid::NonEmpty;
        self
    }

    /// The same, alterable while running.
    #[must_use]
    pub const fn dynamic(mut self) -> Self {
        self.is_dynamic = true;
        self
    }

    /// The same, with its default taken from the broker's setting `name`.
    #[must_use]
    pub const fn synonym(mut self, name: &'static str) -> Self {
        self.synonym = Some(name);
        self
    }

    /// The same, documented.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// True for settings whose value is never shown.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks `text` against the kind and the range.
    ///
    /// # Errors
    /// `Invalid`, which names the setting and what it accepts.
    pub fn check(&self, text: &str) -> Result<(), ConfigError> {
        if self.has_kind(text) && self.has_range(text) {
            return Ok(());
        }
        Err(self.refuse(text))
    }

    /// The error that says why `text` is no value of this setting.
    #[must_use]
    pub fn refuse(&self, text: &str) -> ConfigError {
        let value = if self.is_sensitive() { "(hidden)".to_owned() } else { text.to_owned() };
        ConfigError::Invalid { name: self.name.to_owned(), value, expected: self.expects() }
    }

    /// What the setting accepts, in words: `an integer from 0 to 50`.
    #[must_use]
    pub fn expects(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => "true or false",
            Kind::String | Kind::Password => "a text",
            Kind::Int | Kind::Short | Kind::Long => "an integer",
            Kind::Double => "a number",
            Kind::List => "texts separated by commas",
        };
        match self.valid {
            Valid::Any => kind.to_owned(),
            Valid::Between(min, i64::MAX | 2_147_483_647 | 32_767) => {
                format!("{kind} of at least {min}")
            }
            Valid::Between(min, max) => format!("{kind} from {min} to {max}"),
            Valid::Within(min, max) => format!("{kind} from {min} to {max}"),
            Valid::OneOf(words) => {
                let each = if self.kind == Kind::List { "of" } else { "one of" };
                format!("{each} {}", words.join(", "))
            }
            Valid::NonEmpty => format!("{kind}, not empty"),
        }
    }

    fn has_kind(&self, text: &str) -> bool {
        match self.kind {
            Kind::Boolean => bool::read(self, text).is_some(),
            Kind::String | Kind::Password | Kind::List => true,
            Kind::Int => text.trim().parse::<i32>().is_ok(),
            Kind::Short => text.trim().parse::<i16>().is_ok(),
            Kind::Long => text.trim().parse::<i64>().is_ok(),
            Kind::Double => text.trim().parse::<f64>().is_ok_and(f64::is_finite),
        }
    }

    fn has_range(&self, text: &str) -> bool {
        match self.valid {
            Valid::Any => true,
            Valid::Between(min, max) => {
                text.trim().parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Valid::Within(min, max) => {
                text.trim().parse::<f64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Valid::OneOf(words) if self.kind == Kind::List => {
                elements(text).all(|word| words.contains(&word))
            }
            Valid::OneOf(words) => words.contains(&text.trim()),
            Valid::NonEmpty => elements(text).next().is_some(),
        }
    }

    /// The unit of a time setting, as its name tells it.
    fn unit(&self) -> Duration {
        let seconds = |count| Duration::from_secs(count);
        match self.name.rsplit('.').next() {
            Some("seconds") => seconds(1),
            Some("minutes") => seconds(60),
            Some("hours") => seconds(3600),
            Some(_) | None => Duration::from_millis(1),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No setting has this name.
    #[error("{name}: unknown setting{}", near.map(|near| format!(", did you mean {near}?")).unwrap_or_default())]
    Unknown {
        /// The name as given.
        name: String,
        /// The nearest known name, when one is near.
        near: Option<&'static str>,
    },
    /// The value is not of the setting's kind or range.
    #[error("{name}: {value:?} is not accepted, expected {expected}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value as given; hidden for secrets.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// Settings that do not fit together.
    #[error("{name}: {reason}")]
    Conflict {
        /// The setting to change.
        name: &'static str,
        /// What it contradicts.
        reason: String,
    },
}

impl ConfigError {
    /// The name of the setting at fault.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown { name, .. } | Self::Invalid { name, .. } => name,
            Self::Conflict { name, .. } => name,
        }
    }
}

/// Everything wrong with a set of settings, one line each. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// Implements [`ConfigValue`](crate::config::ConfigValue) for an enum of words.
#[macro_export]
macro_rules! config_words {
    ($name:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $crate::config::ConfigValue for $name {
            fn read(_: &$crate::config::ConfigDef, text: &str) -> Option<Self> {
                match text.trim() {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
            fn show(&self, _: &$crate::config::ConfigDef) -> Option<String> {
                match self {
                    $(Self::$variant => Some($word.to_owned()),)*
                }
            }
        }
    };
}

/// Declares a struct of settings; the doc comment of each field is the setting's documentation.
///
/// ```
/// use protocol::config::ConfigDef;
/// protocol::configs! {
///     /// Settings of a mill.
///     pub struct MillConfig {
///         /// How many stones turn.
///         stone_count: i32 = ConfigDef::int("stone.count", "2").between(1, 16),
///     }
/// }
/// assert_eq!(MillConfig::parse([("stone.count", "4")]).unwrap().stone_count, 4);
/// assert!(MillConfig::parse([("stone.cuont", "4")]).unwrap_err().to_string().contains("did you mean stone.count?"));
/// ```
#[macro_export]
macro_rules! configs {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $def:expr,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])+ $vis $field: $kind,)+
            /// Which of them were given; the others hold by default.
            $vis given: $crate::config::Given,
        }

        impl $name {
            /// Every setting, in the order of declaration.
            $vis const DEFS: &'static [$crate::config::ConfigDef] = &[
                $($def.doc(concat!($($doc),+)),)+
            ];

            /// Reads the settings of `pairs` over the defaults; the last of equal names holds.
            ///
            /// # Errors
            /// Every unknown name and every value out of range, at once.
            $vis fn parse<K: Into<String>, V: Into<String>>(
                pairs: impl IntoIterator<Item = (K, V)>,
            ) -> Result<Self, $crate::config::ConfigErrors> {
                let mut reader = $crate::config::Reader::new(Self::DEFS, pairs);
                let given = reader.given();
                let mut defs = Self::DEFS.iter();
                $(let $field = defs.next().and_then(|def| reader.take::<$kind>(def));)+
                reader.finish()?;
                Ok(Self { $($field: $field.expect("a missing value was reported above"),)+ given })
            }

            /// Every setting's definition with its present value, in the order of declaration.
            /// `None` is null.
            #[must_use]
            $vis fn pairs(&self) -> Vec<(&'static $crate::config::ConfigDef, Option<String>)> {
                let mut defs = Self::DEFS.iter();
                let mut pairs = Vec::with_capacity(Self::DEFS.len());
                $(
                    let def = defs.next().expect("one definition per field");
                    pairs.push((def, $crate::config::ConfigValue::show(&self.$field, def)));
                )+
                pairs
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::parse(std::iter::empty::<(String, String)>())
                    .expect("a test proves that every default is valid")
            }
        }
    };
}

/// 16: unknown names for which a known one is looked for. Who mistypes has mistyped a few; a request
/// can hold a hundred thousand.
const PROPOSALS_MAX: usize = 16;

/// Collects a set of settings and everything wrong with it; [`configs!`](crate::configs) uses it.
#[derive(Debug)]
pub struct Reader {
    texts: BTreeMap<String, String>,
    errors: Vec<ConfigError>,
}

impl Reader {
    /// A reader of `pairs`; names that `defs` does not have are errors already.
    pub fn new<K: Into<String>, V: Into<String>>(
        defs: &[ConfigDef],
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let texts: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        let unknown = texts.keys().filter(|name| find(defs, name).is_none()).enumerate();
        let errors = unknown
            .map(|(index, name)| {
                let near = if index < PROPOSALS_MAX { near(defs, name) } else { None };
                ConfigError::Unknown { name: name.clone(), near }
            })
            .collect();
        Self { texts, errors }
    }

    /// The names of what was given. To be asked before the first value is taken.
    #[must_use]
    pub fn given(&self) -> Given {
        self.texts.keys().collect()
    }

    /// The value of one setting: the given one, else its default. `None`: an error was noted.
    pub fn take<T: ConfigValue>(&mut self, def: &ConfigDef) -> Option<T> {
        let given = self.texts.remove(def.name);
        let Some(text) = given.as_deref().or(def.default) else {
            return T::null().or_else(|| self.note(def.refuse("")));
        };
        if let Err(error) = def.check(text) {
            return self.note(error);
        }
        T::read(def, text).or_else(|| self.note(def.refuse(text)))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong, unknown names first.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(ConfigErrors(self.errors)) }
    }

    fn note<T>(&mut self, error: ConfigError) -> Option<T> {
        self.errors.push(error);
        None
    }
}

/// The definition named `name`.
#[must_use]
pub fn find<'a>(defs: &'a [ConfigDef], name: &str) -> Option<&'a ConfigDef> {
    defs.iter().find(|def| def.name == name)
}

/// The known name nearest to `name`, unless all are far from it. Only names of about the same length
/// are compared: they come from clients, and comparing takes the product of both lengths.
#[must_use]
pub fn near(defs: &[ConfigDef], name: &str) -> Option<&'static str> {
    /// One slip in so many characters is still the same name.
    const CHARS_PER_SLIP: usize = 4;
    let slips_max = |known: &str| known.len() / CHARS_PER_SLIP;
    let longest = defs.iter().map(|def| def.name.len()).max()?;
    // Counted no further than it matters. Each character too many or too few is a slip.
    let length = name.chars().take(2 * longest).count();
    let is_comparable = |known: &&str| length.abs_diff(known.len()) <= slips_max(known);
    let (distance, found) = defs
        .iter()
        .map(|def| def.name)
        .filter(is_comparable)
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()?;
    (distance <= slips_max(found)).then_some(found)
}

/// The settings as a markdown table: name, type, default, meaning.
#[must_use]
pub fn markdown(defs: &[ConfigDef]) -> String {
    let mut table = String::from("| setting | default | accepts | meaning |\n|---|---|---|---|\n");
    for def in defs {
        let default = def.default.map_or_else(|| "null".to_owned(), |text| format!("`{text}`"));
        let row =
            format!("| `{}` | {default} | {} | {} |\n", def.name, def.expects(), def.doc.trim());
        table.push_str(&row);
    }
    table
}

fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::configs! {
        /// Settings of the tests.
        struct TestConfig {
            /// A count.
            count: i32 = ConfigDef::int("thing.count", "1").between(1, 10),
            /// How long.
            wait: Duration = ConfigDef::int("thing.wait.minutes", "2").at_least(1),
            /// How long to keep.
            keep: Option<Duration> = ConfigDef::long("thing.keep.ms", "-1"),
            /// A name.
            name: Option<String> = ConfigDef::null(Kind::String, "thing.name"),
            /// A secret.
            secret: Option<String> = ConfigDef::password("thing.secret").non_empty(),
            /// Ways.
            ways: Vec<String> = ConfigDef::list("thing.ways", "a").one_of(&["a", "b"]),
        }
    }

    fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
        let errors = TestConfig::parse(pairs.iter().copied()).expect_err("must be refused");
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_error_is_reported_at_once_and_a_typo_names_its_neighbour() {
        let want = [
            "something.else: unknown setting",
            "thing.wiat.minutes: unknown setting, did you mean thing.wait.minutes?",
            "thing.count: \"11\" is not accepted, expected an integer from 1 to 10",
            "thing.ways: \"a,c\" is not accepted, expected of a, b",
        ];
        let got = errors(&[
            ("thing.count", "11"),
            ("thing.wiat.minutes", "1"),
            ("something.else", ""),
            ("thing.ways", "a,c"),
        ]);
        assert_eq!(got, want);
    }

    #[test]
    fn a_name_is_compared_with_names_of_about_its_length_alone() {
        let near = |name: &str| near(TestConfig::DEFS, name);
        for name in
            ["thing.wait.minuten", "thing.wait.minüüüs", "thing.wt.mintes", "thing.wait.minutes!!"]
        {
            assert_eq!(near(name), Some("thing.wait.minutes"), "{name}");
        }
        assert_eq!(near(""), None);
        assert_eq!(near(&"thing.wait.minutes".repeat(2)), None);
        // Compared, this would take minutes.
        assert_eq!(near(&"thing.wait.minutes".repeat(1 << 20)), None);
    }

    #[test]
    fn of_many_unknown_names_the_first_alone_are_proposed_for() {
        let pairs = (10..99).map(|number| (format!("thing.count{number}"), "1"));
        let errors = TestConfig::parse(pairs).expect_err("none of them is known").0;
        let is_proposed = |error: &&ConfigError| error.to_string().contains("did you mean");
        assert_eq!(errors.len(), 89);
        assert_eq!(errors.iter().filter(is_proposed).count(), PROPOSALS_MAX);
        assert!(errors[..PROPOSALS_MAX].iter().all(|error| is_proposed(&error)));
    }

    #[test]
    fn a_refused_secret_is_not_shown() {
        assert!(errors(&[("thing.secret", "")])[0].contains("(hidden)"));
    }

    #[test]
    fn names_tell_units_and_minus_one_is_no_limit() {
        let config = TestConfig::default();
        assert_eq!((config.wait, config.keep), (Duration::from_secs(120), None));
        let config = TestConfig::parse([("thing.keep.ms", "5"), ("thing.name", "x")]).unwrap();
        assert_eq!(config.keep, Some(Duration::from_millis(5)));
        assert_eq!(config.name.as_deref(), Some("x"));
    }

    #[test]
    fn fractions_are_shown_as_java_shows_them() {
        let def = ConfigDef::double("thing.ratio", "0.5");
        for (number, want) in [
            (0.0, "0.0"),
            (0.5, "0.5"),
            (10.0, "10.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (-2.5e8, "-2.5E8"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (f64::MAX, "1.7976931348623157E308"),
        ] {
            assert_eq!(number.show(&def).as_deref(), Some(want));
            assert_eq!(f64::read(&def, want), Some(number));
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        let config = TestConfig::parse([("thing.ways", "b, a"), ("thing.count", "7")]).unwrap();
        let pairs = config.pairs();
        let texts = pairs.into_iter().filter_map(|(def, text)| Some((def.name, text?)));
        let again = TestConfig::parse(texts).unwrap();
        assert_eq!(again, config);
        let given = ["thing.ways", "thing.name"].map(|name| config.given.has(name));
        assert_eq!(given, [true, false]);
    }
}
