//! What a line of a log says: when, where, who, how bad.
//!
//! Knows syslog (with the old dates and with ISO 8601), dpkg, apt's history, Apache's and nginx's
//! access and error logs, and JSON lines; anything else is kept as text. Nothing is lost: the whole
//! line stays in `line`. Old dates have no year: it is the one that puts them at most a day after
//! the line was read.
//!
//! Pure.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// One line, understood as far as it can be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The file it stood in.
    pub(crate) file: String,
    /// `syslog`, `dpkg`, `apt`, `access`, `error`, `json` or `text`.
    pub(crate) format: String,
    /// When it happened, in milliseconds since 1970 UTC; none when the line does not say.
    pub(crate) time: Option<i64>,
    /// The machine.
    pub(crate) host: Option<String>,
    /// The program, service or package tool.
    pub(crate) unit: Option<String>,
    /// `error`, `warning`, `info` or `debug`.
    pub(crate) severity: String,
    /// What is left to say; the beginning of it, if that is long.
    pub(crate) message: String,
    /// The line as it stood there; bytes that are no UTF-8 are replaced.
    pub(crate) line: String,
}

/// Its fields, as columns of a lake.
pub(crate) const COLUMNS: &[(&str, &str)] = &[
    ("file", "string"),
    ("format", "string"),
    ("time", "timestamp"),
    ("host", "string"),
    ("unit", "string"),
    ("severity", "string"),
    ("message", "string"),
    ("line", "string"),
];

/// Understands `line` of `file`, read at `read_at` (milliseconds since 1970 UTC).
pub(crate) fn parse(file: &str, line: &str, read_at: i64) -> Line {
    let known = json(line)
        .or_else(|| syslog(line, read_at))
        .or_else(|| dpkg(line))
        .or_else(|| access(line))
        .or_else(|| server_error(line))
        .or_else(|| apt(file, line))
        .unwrap_or_else(|| text(line));
    let message = beginning(known.message);
    Line { file: file.to_owned(), line: line.to_owned(), message, ..known }
}

/// At most so many bytes of a message: the whole line is there besides.
const MESSAGE_BYTES_MAX: usize = 4096;

fn beginning(mut message: String) -> String {
    if MESSAGE_BYTES_MAX < message.len() {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

fn text(line: &str) -> Line {
    Line {
        format: "text".into(),
        severity: severity_in(line).into(),
        message: line.to_owned(),
        ..Line::default()
    }
}

/// How bad a message sounds.
fn severity_in(message: &str) -> &'static str {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["error", "fail", "fatal", "panic", "critical", "segfault"]) {
        "error"
    } else if has(&["warn"]) {
        "warning"
    } else if has(&["debug"]) {
        "debug"
    } else {
        "info"
    }
}

/// A level as programs write it, in our four words.
fn level(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "emerg" | "alert" | "crit" | "critical" | "fatal" | "panic" | "err" | "error" => {
            Some("error")
        }
        "warn" | "warning" => Some("warning"),
        "notice" | "info" | "information" => Some("info"),
        "debug" | "trace" | "verbose" => Some("debug"),
        _ => None,
    }
}

/// `{"ts": …, "level": …, "msg": …}` under the names that loggers use.
fn json(line: &str) -> Option<Line> {
    if !line.trim_start().starts_with('{') {
        return None;
    }
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let found = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
    let text_of = |names: &[&str]| found(names).and_then(|it| it.as_str()).map(str::to_owned);
    let severity = text_of(&["level", "severity", "lvl", "log.level"]);
    let message = text_of(&["message", "msg", "MESSAGE", "event"]);
    Some(Line {
        format: "json".into(),
        time: found(&["time", "timestamp", "ts", "@timestamp", "date"]).and_then(json_time),
        host: text_of(&["host", "hostname", "_HOSTNAME"]),
        unit: text_of(&["unit", "service", "logger", "name", "program", "target"]),
        severity: severity.as_deref().and_then(level).unwrap_or("info").into(),
        message: message.unwrap_or_else(|| line.to_owned()),
        ..Line::default()
    })
}

/// When the year 9999 ends: no log speaks of what comes after.
const YEAR_9999_MS: i64 = 253_402_300_799_999;

fn json_time(value: &serde_json::Value) -> Option<i64> {
    if let Some(text) = value.as_str() {
        return iso(text);
    }
    // Seconds, or milliseconds when they would lie beyond the year 5000 as seconds.
    let number = value.as_f64()?;
    let millis = if number < 1e11 { number * 1000.0 } else { number };
    let whole = format!("{millis:.0}").parse::<i64>().ok()?;
    (0..=YEAR_9999_MS).contains(&whole).then_some(whole)
}

fn iso(text: &str) -> Option<i64> {
    let exact = text.parse::<jiff::Timestamp>().ok();
    let local = || text.parse::<DateTime>().ok().and_then(utc);
    exact.map(jiff::Timestamp::as_millisecond).or_else(local)
}

fn utc(at: DateTime) -> Option<i64> {
    at.to_zoned(TimeZone::UTC).ok().map(|it| it.timestamp().as_millisecond())
}

/// `Nov 21 10:59:44 host unit[123]: message`, or the same with an ISO date.
fn syslog(line: &str, read_at: i64) -> Option<Line> {
    let (time, rest) = syslog_date(line, read_at)?;
    let (host, rest) = rest.split_once(' ')?;
    let (tag, message) = rest.split_once(": ").or_else(|| rest.split_once(':'))?;
    let unit = tag.split_once('[').map_or(tag, |(unit, _)| unit);
    if unit.is_empty() || unit.contains(' ') || host.is_empty() {
        return None;
    }
    Some(Line {
        format: "syslog".into(),
        time: Some(time),
        host: Some(host.into()),
        unit: Some(unit.into()),
        severity: severity_in(message).into(),
        message: message.trim().into(),
        ..Line::default()
    })
}

fn syslog_date(line: &str, read_at: i64) -> Option<(i64, &str)> {
    if line.as_bytes().first()?.is_ascii_digit() {
        let (date, rest) = line.split_once(' ')?;
        return date.contains('T').then(|| iso(date)).flatten().map(|time| (time, rest));
    }
    let head = line.get(..15)?;
    let rest = line.get(15..)?.strip_prefix(' ')?;
    let month = month(head.get(..3)?)?;
    let day = head.get(4..6)?.trim().parse().ok()?;
    let clock = clock(head.get(7..15)?)?;
    let read = jiff::Timestamp::from_millisecond(read_at).ok()?.to_zoned(TimeZone::UTC);
    let tomorrow = read_at.saturating_add(24 * 3600 * 1000);
    [read.year(), read.year() - 1].into_iter().find_map(|year| {
        let time = utc(Date::new(year, month, day).ok()?.to_datetime(clock))?;
        (time <= tomorrow).then_some((time, rest))
    })
}

fn month(name: &str) -> Option<i8> {
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = months.iter().position(|it| *it == name)?;
    i8::try_from(at + 1).ok()
}

fn clock(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|it| it.parse::<i8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    Time::new(hour, minute, second, 0).ok()
}

/// `2026-11-21 10:59:44 status installed kcat:amd64 1.7.1-2`.
fn dpkg(line: &str) -> Option<Line> {
    let (date, rest) = (line.get(..19)?, line.get(19..)?.strip_prefix(' ')?);
    let time = date.parse::<DateTime>().ok().and_then(utc)?;
    let verbs = [
        "startup",
        "status",
        "install",
        "upgrade",
        "configure",
        "remove",
        "purge",
        "trigproc",
        "conffile",
        "disappear",
    ];
    let is_dpkg = verbs.contains(&rest.split(' ').next()?);
    let is_alternatives = line.starts_with("update-alternatives");
    Some(Line {
        format: if is_dpkg { "dpkg" } else { "text" }.into(),
        time: Some(time),
        unit: (is_dpkg || is_alternatives).then(|| "dpkg".into()),
        severity: if is_dpkg { "info" } else { severity_in(rest) }.into(),
        message: rest.into(),
        ..Line::default()
    })
}

/// `127.0.0.1 - - [21/Nov/2026:10:59:44 +0000] "GET / HTTP/1.1" 200 612 "-" "curl"`.
fn access(line: &str) -> Option<Line> {
    let (client, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (date, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let status: u16 = rest.split(' ').next()?.parse().ok()?;
    let severity = match status {
        500.. => "error",
        400..500 => "warning",
        _ => "info",
    };
    Some(Line {
        format: "access".into(),
        time: Some(access_date(date)?),
        host: Some(client.into()),
        unit: Some("http".into()),
        severity: severity.into(),
        message: format!("{status} {request}"),
        ..Line::default()
    })
}

/// `21/Nov/2026:10:59:44 +0000`.
fn access_date(text: &str) -> Option<i64> {
    let (date, zone) = text.split_once(' ')?;
    let (day, time) = date.split_once(':')?;
    let mut parts = day.split('/');
    let (day, name, year) = (parts.next()?, parts.next()?, parts.next()?);
    let date = Date::new(year.parse().ok()?, month(name)?, day.parse().ok()?).ok()?;
    let local = utc(date.to_datetime(clock(time)?))?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let hours: i64 = zone.get(1..3)?.parse().ok()?;
    let minutes: i64 = zone.get(3..5)?.parse().ok()?;
    Some(local - sign * (hours * 60 + minutes) * 60_000)
}

/// nginx's `2026/11/21 10:59:44 [error] 12#12: …`.
fn server_error(line: &str) -> Option<Line> {
    let date = line.get(..19)?.replacen('/', "-", 2);
    let rest = line.get(19..)?.strip_prefix(" [")?;
    let (name, message) = rest.split_once("] ")?;
    Some(Line {
        format: "error".into(),
        time: Some(date.parse::<DateTime>().ok().and_then(utc)?),
        unit: Some("http".into()),
        severity: level(name)?.into(),
        message: message.into(),
        ..Line::default()
    })
}

/// apt's `history.log` and `term.log`: `Start-Date: 2026-11-21  10:59:44`, `Install: …`.
fn apt(file: &str, line: &str) -> Option<Line> {
    if !file.contains("/apt/") {
        return None;
    }
    let date = |names: &[&str]| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        let (day, time) = rest.trim().split_once("  ")?;
        utc(day.parse::<Date>().ok()?.to_datetime(clock(time)?))
    };
    Some(Line {
        format: "apt".into(),
        time: date(&["Start-Date:", "End-Date:", "Log started:", "Log ended:"]),
        unit: Some("apt".into()),
        severity: severity_in(line).into(),
        message: line.to_owned(),
        ..Line::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 11:00:00 UTC.
    const READ_AT: i64 = 1_795_258_800_000;

    fn check(file: &str, line: &str, want: (&str, Option<&str>, Option<&str>, &str, &str)) {
        let got = parse(file, line, READ_AT);
        let time = got.time.map(|it| jiff::Timestamp::from_millisecond(it).unwrap().to_string());
        let (format, time_want, unit, severity, message) = want;
        assert_eq!(got.format, format, "{line}");
        assert_eq!(time.as_deref(), time_want, "{line}");
        assert_eq!(got.unit.as_deref(), unit, "{line}");
        assert_eq!(got.severity, severity, "{line}");
        assert_eq!(got.message, message, "{line}");
        assert_eq!(got.line, line);
    }

    #[test]
    fn syslog_with_either_date() {
        check(
            "/var/log/syslog",
            "Nov 21 10:59:44 web-1 sshd[312]: Failed password for root",
            (
                "syslog",
                Some("2026-11-21T10:59:44Z"),
                Some("sshd"),
                "error",
                "Failed password for root",
            ),
        );
        check(
            "/var/log/syslog",
            "2026-11-21T10:59:44.123456+01:00 web-1 cron: started",
            ("syslog", Some("2026-11-21T09:59:44.123Z"), Some("cron"), "info", "started"),
        );
    }

    #[test]
    fn a_date_without_a_year_lies_in_the_past() {
        let got = parse("f", "Dec 31 23:59:59 h u: m", READ_AT).time.unwrap();
        assert_eq!(
            jiff::Timestamp::from_millisecond(got).unwrap().to_string(),
            "2025-12-31T23:59:59Z"
        );
    }

    #[test]
    fn package_tools() {
        check(
            "/var/log/dpkg.log",
            "2026-11-21 10:59:44 status installed kcat:amd64 1.7.1-2",
            (
                "dpkg",
                Some("2026-11-21T10:59:44Z"),
                Some("dpkg"),
                "info",
                "status installed kcat:amd64 1.7.1-2",
            ),
        );
        check(
            "/var/log/apt/history.log",
            "Start-Date: 2026-11-21  10:59:44",
            (
                "apt",
                Some("2026-11-21T10:59:44Z"),
                Some("apt"),
                "info",
                "Start-Date: 2026-11-21  10:59:44",
            ),
        );
    }

    #[test]
    fn web_servers() {
        check(
            "/var/log/nginx/access.log",
            r#"10.0.0.7 - - [21/Nov/2026:10:59:44 +0100] "GET /x HTTP/1.1" 404 0 "-" "curl""#,
            (
                "access",
                Some("2026-11-21T09:59:44Z"),
                Some("http"),
                "warning",
                "404 GET /x HTTP/1.1",
            ),
        );
        check(
            "/var/log/nginx/error.log",
            "2026/11/21 10:59:44 [crit] 12#12: *1 open() failed",
            (
                "error",
                Some("2026-11-21T10:59:44Z"),
                Some("http"),
                "error",
                "12#12: *1 open() failed",
            ),
        );
    }

    #[test]
    fn json_lines() {
        check(
            "app.log",
            r#"{"ts":1795258784.5,"level":"WARN","service":"pay","msg":"slow"}"#,
            ("json", Some("2026-11-21T10:59:44.5Z"), Some("pay"), "warning", "slow"),
        );
        check("app.log", "{not json", ("text", None, None, "info", "{not json"));
        // No lake could hold it as a time.
        assert_eq!(parse("app.log", r#"{"ts":1e17,"msg":"m"}"#, READ_AT).time, None);
    }

    #[test]
    fn anything_else_is_kept_as_text_and_nothing_panics() {
        for line in ["", " ", "é", "Nov", "Nov 99 10:59:44 h u: m", "\u{fffd}\u{0}", "[x] \" 5"] {
            assert_eq!(parse("f", line, READ_AT).format, "text", "{line}");
        }
        check("f", "kernel panic now", ("text", None, None, "error", "kernel panic now"));
        let long = parse("f", &"é".repeat(100_000), READ_AT);
        assert_eq!((long.message.len(), long.line.len()), (4096 + '…'.len_utf8(), 200_000));
    }
}
