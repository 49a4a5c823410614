//! What options accept, and how values are shown: durations, moments, sizes, partitions, pairs.
//!
//! What is shown can be given again. Every refusal says what would be accepted. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::time::Timestamp;

/// A duration: `500ms`, `10s`, `5m`, `2h`, `7d`, several of them in a row, ISO 8601's `PT5M`, or a
/// bare number of milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 500ms, 10s, 5m, 2h, 7d or PT1H30M, or a number of milliseconds";
    let text = text.trim();
    if let Ok(milliseconds) = text.parse::<u64>() {
        return Ok(Duration::from_millis(milliseconds));
    }
    let span: jiff::Span = text.parse().map_err(|_| EXPECTED)?;
    let days_are_24_hours = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days_are_24_hours).map_err(|_| EXPECTED)?;
    Duration::try_from(duration).map_err(|_| EXPECTED.to_owned())
}

/// A moment: `2026-11-21T14:00:00Z`, the same without zone (UTC) or with another one, a date, or a
/// number of milliseconds since 1970.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    const EXPECTED: &str = "expected a moment such as 2026-11-21T14:00:00.000Z (UTC unless it says otherwise), or a number of milliseconds since 1970";
    let text = text.trim();
    if let Ok(milliseconds) = text.parse::<u32>().map(i64::from).or_else(|_| text.parse::<i64>()) {
        return if milliseconds >= 0 {
            Ok(Timestamp(milliseconds))
        } else {
            Err(EXPECTED.to_owned())
        };
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(moment.as_millisecond()));
    }
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| EXPECTED)?;
    let moment = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| EXPECTED)?;
    Ok(Timestamp(moment.timestamp().as_millisecond()))
}

/// `KEY=VALUE`, trimmed.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        Some(_) | None => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Partitions: `0`, `0,2`, `0-3`, or a mixture.
pub(crate) fn partitions(text: &str) -> Result<BTreeSet<i32>, String> {
    const EXPECTED: &str = "expected partitions such as 0 or 0,2,4-6";
    /// More partitions than a topic may have.
    const COUNT_MAX: i32 = 1_000_000;
    let mut found = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: i32 = first.trim().parse().map_err(|_| EXPECTED)?;
        let last: i32 = last.trim().parse().map_err(|_| EXPECTED)?;
        if first < 0 || first > last || last >= COUNT_MAX {
            return Err(EXPECTED.to_owned());
        }
        found.extend(first..=last);
    }
    Ok(found)
}

/// A topic, and those of its partitions that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSelection {
    /// Its name.
    pub(crate) topic: String,
    /// `None`: all.
    pub(crate) partitions: Option<BTreeSet<i32>>,
}

/// `TOPIC`, or `TOPIC:0,1,2` for some of its partitions.
pub(crate) fn topic_selection(text: &str) -> Result<TopicSelection, String> {
    let (topic, indexes) = match text.split_once(':') {
        Some((topic, indexes)) => (topic, Some(partitions(indexes)?)),
        None => (text, None),
    };
    if topic.trim().is_empty() {
        return Err("expected TOPIC or TOPIC:0,1,2".to_owned());
    }
    Ok(TopicSelection { topic: topic.trim().to_owned(), partitions: indexes })
}

/// A size in the largest unit in which it is at least 1.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    // In hundredths, so that no rounding of floats shows.
    let mut hundredths = u128::from(bytes) * 100 / 1024;
    while hundredths >= 102_400 && unit + 1 < UNITS.len() {
        hundredths /= 1024;
        unit += 1;
    }
    format!("{}.{:02} {}", hundredths / 100, hundredths % 100, UNITS[unit])
}

/// A moment in UTC.
pub(crate) fn show_time(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0)
        .map_or_else(|_| time.0.to_string(), |it| it.to_string())
}

/// A duration in its two largest units.
pub(crate) fn show_span(span: Duration) -> String {
    let milliseconds = span.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let seconds = span.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0);
    shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units_or_are_milliseconds() {
        for (text, milliseconds) in [
            ("1500", 1_500),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1d 2h", 93_600_000),
            ("PT1H30M", 5_400_000),
            ("P1D", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "soon", "-5s", "5 parsecs", "P"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_without_zone_are_utc() {
        for (text, want) in [
            ("1700000000000", 1_700_000_000_000),
            ("0", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000),
            ("2023-11-14T22:13:20.250", 1_700_000_000_250),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
            ("2023-11-14", 1_699_920_000_000),
        ] {
            assert_eq!(moment(text), Ok(Timestamp(want)), "{text}");
        }
        for text in ["", "yesterday", "-1", "2023-13-01"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn partitions_are_listed_or_ranged() {
        assert_eq!(partitions("0"), Ok([0].into()));
        assert_eq!(partitions("4-6, 0,2"), Ok([0, 2, 4, 5, 6].into()));
        for text in ["", "-1", "a", "3-1", "0-", "1,,2", "0-2000000000"] {
            assert!(partitions(text).is_err(), "{text}");
        }
        let some = topic_selection("orders:0,1").unwrap();
        assert_eq!(some.partitions, Some([0, 1].into()));
        assert_eq!(topic_selection("orders").unwrap().partitions, None);
        assert!(topic_selection(":1").is_err());
    }

    #[test]
    fn pairs_keep_what_follows_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair(" a = "), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=a").is_err());
    }

    #[test]
    fn sizes_and_spans_are_shown_in_units_that_fit() {
        for (bytes, want) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.50 KiB"), (1 << 30, "1.00 GiB")]
        {
            assert_eq!(show_bytes(bytes), want);
        }
        for (milliseconds, want) in [
            (0, "0ms"),
            (999, "999ms"),
            (60_000, "1m"),
            (3_725_000, "1h 2m"),
            (604_800_000, "7d"),
            (86_460_000, "1d"),
        ] {
            assert_eq!(show_span(Duration::from_millis(milliseconds)), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_of_a_moment_is_the_same_moment_again(time in 0_i64..4_000_000_000_000) {
            prop_assert_eq!(moment(&show_time(Timestamp(time))), Ok(Timestamp(time)));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = (duration(&text), moment(&text), partitions(&text), pair(&text));
        }
    }
}
