//! `auto.offset.reset`: where to start where no offset is committed, or the committed one is gone.
//! Pure.

use std::time::Duration;

use protocol::config::{ConfigDef, ConfigValue};

/// Where to start where no offset is committed, or the committed one is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end: new records only. A partition that came into being after the consumer had asked
    /// about its topic has nothing but new records, and is read from its beginning.
    #[default]
    Latest,
    /// At the first record that is at most so old; at the end where there is none. Written as
    /// `by_duration:P1DT2H`. KIP-1106.
    ByDuration(Duration),
    /// Nowhere: an error.
    None,
}

/// Before a duration in ISO 8601.
const BY_DURATION: &str = "by_duration:";

impl ConfigValue for OffsetReset {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            "none" => Some(Self::None),
            lower => duration(&lower.strip_prefix(BY_DURATION)?.to_ascii_uppercase())
                .map(Self::ByDuration),
        }
    }

    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(match self {
            Self::Earliest => "earliest".to_owned(),
            Self::Latest => "latest".to_owned(),
            Self::None => "none".to_owned(),
            Self::ByDuration(ago) => {
                format!("{BY_DURATION}PT{}.{:03}S", ago.as_secs(), ago.subsec_millis())
            }
        })
    }
}

/// A duration as Java's: `PnDTnHnMn.nS`, without signs, to the millisecond.
fn duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut millis: u64 = 0;
    for (text, units) in
        [(days, &[('D', 86_400_000)][..]), (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)])]
    {
        let mut rest = text;
        for &(unit, unit_millis) in units {
            let Some((number, after)) = rest.split_once(unit) else { continue };
            millis = millis.checked_add(in_millis(number, unit, unit_millis)?)?;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(Duration::from_millis(millis))
}

/// `number` units; seconds alone may have a fraction.
fn in_millis(number: &str, unit: char, unit_millis: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |it: &str| it.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    if number.contains('.') && (unit != 'S' || fraction.is_empty()) {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    let millis: u64 = padded.get(..3)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(unit_millis)?.checked_add(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        for (text, millis) in [
            ("PT1H", Some(3_600_000)),
            ("P1D", Some(86_400_000)),
            ("P2DT3H4M5.678S", Some(183_845_678)),
            ("PT0.5S", Some(500)),
            ("PT0S", Some(0)),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1H", None),
            ("PT1.5H", None),
            ("PT-1H", None),
            ("PT1S1H", None),
            ("PTH", None),
            ("PT99999999999999999999S", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        let def = ConfigDef::string("auto.offset.reset", "latest");
        for text in ["earliest", "latest", "none", "by_duration:P1DT2H0.25S"] {
            let read = OffsetReset::read(&def, text).unwrap();
            assert_eq!(OffsetReset::read(&def, &read.show(&def).unwrap()), Some(read));
        }
        assert_eq!(OffsetReset::read(&def, "by_duration:-PT1H"), None);
        assert_eq!(OffsetReset::read(&def, "smallest"), None);
    }
}
