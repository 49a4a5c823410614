//! Reads the settings of a broker or client from a file, TOML or Java's properties, as pairs of texts.
//!
//! Names are Kafka's. In TOML they may be written in tables, as `[log.retention]` with `hours = 24`,
//! and lists as arrays. What the names and values mean is not judged here: the settings know. Pure.

use std::path::Path;

/// Why a file is not read. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SettingsError {
    /// Not TOML.
    #[error("{0}")]
    Toml(String),
    /// A value that no setting can have.
    #[error("{key}: expected a text, a number, true or false, or a list of these")]
    Value {
        /// Of which setting.
        key: String,
    },
    /// An escape that is cut short or means nothing.
    #[error("line {line}: \\u needs four hexadecimal digits")]
    Escape {
        /// In which line.
        line: usize,
    },
    /// A line without a name.
    #[error("line {line}: expected key=value")]
    NoKey {
        /// Which line.
        line: usize,
    },
}

/// The settings in a file, in its order: the last of equal names shall hold.
///
/// # Errors
/// When it is not what its name says that it is.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    if path.extension().is_some_and(|it| it.eq_ignore_ascii_case("toml")) {
        toml(text)
    } else {
        properties(text)
    }
}

fn toml(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| SettingsError::Toml(error.to_string()))?;
    let mut pairs = Vec::new();
    flatten("", &table, &mut pairs)?;
    Ok(pairs)
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    pairs: &mut Vec<(String, String)>,
) -> Result<(), SettingsError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, pairs)?,
            toml::Value::Array(elements) => {
                let texts: Option<Vec<_>> = elements.iter().map(scalar).collect();
                let texts = texts.ok_or_else(|| SettingsError::Value { key: key.clone() })?;
                pairs.push((key, texts.join(",")));
            }
            value => {
                let text = scalar(value);
                let text = text.ok_or_else(|| SettingsError::Value { key: key.clone() })?;
                pairs.push((key, text));
            }
        }
    }
    Ok(())
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn properties(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while goes_on(&logical) {
            logical.pop();
            // The next line's indentation is not part of the value.
            logical.push_str(lines.next().map_or("", |(_, next)| next.trim_start()));
        }
        pairs.push(property(&logical, index + 1)?);
    }
    Ok(pairs)
}

/// True when the line ends in a backslash that is not itself escaped.
fn goes_on(line: &str) -> bool {
    line.chars().rev().take_while(|it| *it == '\\').count() % 2 == 1
}

fn property(text: &str, line: usize) -> Result<(String, String), SettingsError> {
    let is_end = |it: char| it == '=' || it == ':' || it.is_whitespace();
    let mut end = text.len();
    let mut is_escaped = false;
    for (at, it) in text.char_indices() {
        if !is_escaped && is_end(it) {
            end = at;
            break;
        }
        is_escaped = it == '\\' && !is_escaped;
    }
    if end == 0 {
        return Err(SettingsError::NoKey { line });
    }
    let rest = text[end..].trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    Ok((unescape(&text[..end], line)?, unescape(rest.trim(), line)?))
}

fn unescape(text: &str, line: usize) -> Result<String, SettingsError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(it) = chars.next() {
        if it != '\\' {
            plain.push(it);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let number = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let decoded = number.and_then(char::from_u32);
                plain.push(decoded.ok_or(SettingsError::Escape { line })?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, text: &str, want: &[(&str, &str)]) {
        let want: Vec<_> = want.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut got = read(Path::new(name), text).unwrap();
        if name.ends_with(".toml") {
            got.sort();
        }
        assert_eq!(got, want);
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# a comment\n! another\n\nnode.id=1\n  log.dirs : /var/lib/a\nlisteners = \
                    PLAINTEXT://:9092,\\\n    OTHER://:9093\nempty=\nkey value\npath=C:\\\\data\nname=\\u0041\n\
                    num.partitions=3\nnum.partitions=4\n";
        check(
            "server.properties",
            text,
            &[
                ("node.id", "1"),
                ("log.dirs", "/var/lib/a"),
                ("listeners", "PLAINTEXT://:9092,OTHER://:9093"),
                ("empty", ""),
                ("key", "value"),
                ("path", "C:\\data"),
                ("name", "A"),
                ("num.partitions", "3"),
                ("num.partitions", "4"),
            ],
        );
    }

    #[test]
    fn toml_names_may_be_flat_dotted_or_in_tables() {
        let text = "\"node.id\" = 1\nlog.dir = \"/var/lib/a\"\nlisteners = [\"A://:1\", \"B://:2\"]\n\
                    [log.retention]\nhours = 24\n[auto.create.topics]\nenable = false\n";
        check(
            "broker.toml",
            text,
            &[
                ("auto.create.topics.enable", "false"),
                ("listeners", "A://:1,B://:2"),
                ("log.dir", "/var/lib/a"),
                ("log.retention.hours", "24"),
                ("node.id", "1"),
            ],
        );
    }

    #[test]
    fn what_is_no_file_of_settings_is_refused_with_its_place() {
        let refused = |name, text| read(Path::new(name), text).unwrap_err().to_string();
        assert!(refused("a.toml", "node.id = \n").contains("line 1"));
        assert!(refused("a.toml", "since = 2026-11-21\n").starts_with("since: expected"));
        assert_eq!(refused("a.properties", "a=1\n=2\n"), "line 2: expected key=value");
        assert!(refused("a.properties", "a=\\u00g1").starts_with("line 1: "));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "[\\\\=:a-z0-9u \n#!\\[\\]\"{},.-]{0,80}") {
            let _ = read(Path::new("a.toml"), &text);
            let _ = read(Path::new("a.properties"), &text);
        }

        #[test]
        fn plain_pairs_come_back_as_they_were(
            pairs in proptest::collection::vec(("[a-z.]{1,20}", "[a-zA-Z0-9/,.-]{0,20}"), 0..8),
        ) {
            let text: String = pairs.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            prop_assert_eq!(read(Path::new("a.properties"), &text).unwrap(), pairs);
        }
    }
}
