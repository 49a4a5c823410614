//! From a setting's text to a value of a type, and back.
//!
//! Each type reads what its definition's checks let through, and shows itself as a text that reads
//! back as the same value. Durations are counted in the unit that the setting's name ends in.
//! Pure.

use std::time::Duration;

use super::{ConfigDef, elements};

/// A type that a setting's text can be read into.
pub trait ConfigValue: Sized {
    /// The value of `text`, which has passed `def.check`. `None`: not a value of this type.
    fn read(def: &ConfigDef, text: &str) -> Option<Self>;
    /// The text that reads back as `self`. `None`: null.
    fn show(&self, def: &ConfigDef) -> Option<String>;
    /// The value of a setting that is null. `None`: it must not be.
    #[must_use]
    fn null() -> Option<Self> {
        None
    }
}

macro_rules! plain_values {
    ($($kind:ty),*) => {$(
        impl ConfigValue for $kind {
            fn read(_: &ConfigDef, text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
            fn show(&self, _: &ConfigDef) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
plain_values!(i16, i32, i64, u16, u32, u64, usize);

/// As Java shows it: in scientific notation from ten million on and below a thousandth.
impl ConfigValue for f64 {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
    fn show(&self, _: &ConfigDef) -> Option<String> {
        let is_plain = *self == 0.0 || (1e-3..1e7).contains(&self.abs());
        if is_plain {
            return Some(format!("{self:?}"));
        }
        let text = format!("{self:E}");
        let (digits, exponent) = text.split_once('E')?;
        let point = if digits.contains('.') { "" } else { ".0" };
        Some(format!("{digits}{point}E{exponent}"))
    }
}

impl ConfigValue for bool {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("true") => Some(true),
            text if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(self.to_string())
    }
}

impl ConfigValue for String {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(self.clone())
    }
}

impl ConfigValue for Vec<String> {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        Some(elements(text).map(str::to_owned).collect())
    }
    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(self.join(","))
    }
}

/// In the unit that the setting's name ends in: `ms`, `seconds`, `minutes` or `hours`.
impl ConfigValue for Duration {
    fn read(def: &ConfigDef, text: &str) -> Option<Self> {
        let count: u64 = text.trim().parse().ok()?;
        let millis = u128::from(count) * def.unit().as_millis();
        Some(Self::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
    fn show(&self, def: &ConfigDef) -> Option<String> {
        Some((self.as_millis() / def.unit().as_millis()).to_string())
    }
}

/// A setting that may be null. For unsigned numbers and durations, `-1` is null: "no limit".
impl<T: ConfigValue + Unset> ConfigValue for Option<T> {
    fn read(def: &ConfigDef, text: &str) -> Option<Self> {
        if T::UNSET == Some(text.trim()) { Some(None) } else { T::read(def, text).map(Some) }
    }
    fn show(&self, def: &ConfigDef) -> Option<String> {
        match self {
            Some(value) => value.show(def),
            None => T::UNSET.map(str::to_owned),
        }
    }
    fn null() -> Option<Self> {
        Some(None)
    }
}

/// Which text means "not set" for an optional setting of this type.
pub trait Unset {
    /// That text. `None`: only leaving it out does.
    const UNSET: Option<&'static str> = None;
}

impl Unset for String {}
impl Unset for i16 {}
impl Unset for i32 {}
impl Unset for i64 {}
impl Unset for Duration {
    const UNSET: Option<&'static str> = Some("-1");
}
impl Unset for u32 {
    const UNSET: Option<&'static str> = Some("-1");
}
impl Unset for u64 {
    const UNSET: Option<&'static str> = Some("-1");
}
