//! Records as lines of text, in both directions: what `consume` prints, `produce` reads.
//!
//! In JSON a key or value that is UTF-8 is a string, any other `{"hex": "00ff"}`; so every record
//! comes back as it was. Nothing read can panic; refusals say what was expected. Pure.

use protocol::ids::TopicPartition;
use protocol::record::RecordRef;
use protocol::time::Timestamp;
use serde_json::{Map, Value, json};

/// How records are printed, one per line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RecordFormat {
    /// The value alone.
    #[default]
    Value,
    /// The key, a separator, and the value.
    KeyValue,
    /// An object with topic, partition, offset, timestamp, key, value and headers.
    Json,
}

/// How null is printed, as Kafka's own consumer does.
const NULL: &[u8] = b"null";

/// Appends one record and a newline.
pub(crate) fn render(
    line: &mut Vec<u8>,
    format: RecordFormat,
    separator: &str,
    partition: &TopicPartition,
    record: &RecordRef<'_>,
) {
    match format {
        RecordFormat::Value => line.extend_from_slice(record.value.unwrap_or(NULL)),
        RecordFormat::KeyValue => {
            line.extend_from_slice(record.key.unwrap_or(NULL));
            line.extend_from_slice(separator.as_bytes());
            line.extend_from_slice(record.value.unwrap_or(NULL));
        }
        RecordFormat::Json => {
            let header = |it: protocol::record::Header<'_>| json!({ "key": it.key, "value": bytes_json(it.value) });
            let object = json!({
                "topic": &*partition.topic,
                "partition": partition.partition.0,
                "offset": record.offset.0,
                "timestamp": record.timestamp.0,
                "key": bytes_json(record.key),
                "value": bytes_json(record.value),
                "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
            });
            line.extend_from_slice(object.to_string().as_bytes());
        }
    }
    line.push(b'\n');
}

fn bytes_json(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|it| format!("{it:02x}")).collect::<String>() }),
    }
}

/// How lines are read as records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineFormat {
    /// The line is the value, what comes before a separator the key, and what comes before a tab
    /// the headers, as far as these are asked for.
    Text {
        /// What ends the key; `None`: there are no keys.
        key_separator: Option<String>,
        /// Whether lines begin with headers, `key:value,key:value`, and a tab.
        has_headers: bool,
        /// The text that stands for null; `None`: nothing does.
        null_marker: Option<String>,
    },
    /// The line is an object as `consume --format json` prints it: `value`, and as far as wanted
    /// `key`, `headers`, `partition` and `timestamp`.
    Json,
}

/// A header of a record: key, and value or null.
pub(crate) type Header = (String, Option<Vec<u8>>);

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// The key's end is not found.
    #[error("no key: expected {0:?} between key and value")]
    NoKey(String),
    /// The headers' end is not found.
    #[error("no headers: expected key:value,key:value and a tab")]
    NoHeaders,
    /// It is not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// A member of the object has another type than it must.
    #[error("{member}: expected {expected}")]
    Member {
        /// The member.
        member: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

impl LineFormat {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// When it is no record.
    pub(crate) fn read(&self, line: &[u8]) -> Result<Line, LineError> {
        match self {
            Self::Json => json_line(line),
            Self::Text { key_separator, has_headers, null_marker } => {
                let mut rest = line;
                let mut read = Line::default();
                if *has_headers {
                    let (before, after) = split(rest, b"\t").ok_or(LineError::NoHeaders)?;
                    read.headers = headers(before)?;
                    rest = after;
                }
                let null = null_marker.as_ref().map(String::as_bytes);
                let bytes = |bytes: &[u8]| (Some(bytes) != null).then(|| bytes.to_vec());
                if let Some(separator) = key_separator {
                    let parts = split(rest, separator.as_bytes());
                    let (key, after) = parts.ok_or_else(|| LineError::NoKey(separator.clone()))?;
                    read.key = bytes(key);
                    rest = after;
                }
                read.value = bytes(rest);
                Ok(read)
            }
        }
    }
}

/// What stands before and after the first `separator`.
fn split<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let length = separator.len().max(1);
    let at = text.windows(length).position(|it| it == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

fn headers(text: &[u8]) -> Result<Vec<Header>, LineError> {
    let header = |pair: &[u8]| {
        let (key, value) = split(pair, b":").ok_or(LineError::NoHeaders)?;
        Ok((String::from_utf8_lossy(key).into_owned(), Some(value.to_vec())))
    };
    text.split(|it| *it == b',').filter(|it| !it.is_empty()).map(header).collect()
}

fn json_line(line: &[u8]) -> Result<Line, LineError> {
    let parsed = serde_json::from_slice::<Map<String, Value>>(line);
    let object = parsed.map_err(|error| LineError::NotJson(error.to_string()))?;
    if !object.contains_key("value") {
        return Err(LineError::Member { member: "value", expected: "one; null for a tombstone" });
    }
    let number = |member: &'static str, expected| match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(it) => it.as_i64().map(Some).ok_or(LineError::Member { member, expected }),
    };
    let partition = number("partition", "a partition's index")?;
    let partition = partition.map(i32::try_from).transpose();
    let refuse = |_| LineError::Member { member: "partition", expected: "a partition's index" };
    Ok(Line {
        partition: partition.map_err(refuse)?,
        timestamp: number("timestamp", "milliseconds since 1970")?.map(Timestamp),
        key: json_bytes("key", object.get("key"))?,
        value: json_bytes("value", object.get("value"))?,
        headers: json_headers(object.get("headers"))?,
    })
}

/// A text is its bytes, `{"hex": …}` what it says, any other JSON its own text.
fn json_bytes(member: &'static str, value: Option<&Value>) -> Result<Option<Vec<u8>>, LineError> {
    let refuse = || LineError::Member { member, expected: "an even number of hexadecimal digits" };
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone().into_bytes()),
        Some(other) => match hex_of(other) {
            Some(text) => Some(unhex(text).ok_or_else(refuse)?),
            None => Some(other.to_string().into_bytes()),
        },
    })
}

fn hex_of(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|it| it.len() == 1)?;
    object.get("hex")?.as_str()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|it| it.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let digits = digits.filter(|it| it.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn json_headers(value: Option<&Value>) -> Result<Vec<Header>, LineError> {
    const EXPECTED: LineError = LineError::Member {
        member: "headers",
        expected: "a list of {\"key\": …, \"value\": …}",
    };
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(EXPECTED),
    };
    let header = |it: &Value| {
        let key = it.get("key").and_then(Value::as_str).ok_or(EXPECTED)?;
        Ok((key.to_owned(), json_bytes("headers", it.get("value"))?))
    };
    list.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::ids::Offset;

    use super::*;

    fn text(key_separator: Option<&str>, has_headers: bool) -> LineFormat {
        let key_separator = key_separator.map(str::to_owned);
        LineFormat::Text { key_separator, has_headers, null_marker: Some("NULL".to_owned()) }
    }

    fn rendered(format: RecordFormat, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let record = RecordRef {
            offset: Offset(5),
            timestamp: Timestamp(1_000),
            key,
            value,
            headers: Default::default(),
        };
        let mut line = Vec::new();
        render(&mut line, format, "=", &TopicPartition::new("orders", 2), &record);
        line
    }

    #[test]
    fn records_are_printed_as_asked_for() {
        let line = |format, key, value| String::from_utf8(rendered(format, key, value)).unwrap();
        assert_eq!(line(RecordFormat::Value, Some(b"k"), Some(b"v")), "v\n");
        assert_eq!(line(RecordFormat::KeyValue, Some(b"k"), Some(b"v")), "k=v\n");
        assert_eq!(line(RecordFormat::KeyValue, None, None), "null=null\n");
        expect_test::expect![[r#"
            {"headers":[],"key":"k","offset":5,"partition":2,"timestamp":1000,"topic":"orders","value":{"hex":"ff00"}}
        "#]]
        .assert_eq(&line(RecordFormat::Json, Some(b"k"), Some(&[0xff, 0])));
    }

    #[test]
    fn lines_are_split_into_headers_key_and_value() {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let whole = text(None, false).read(b"a:b\tc").unwrap();
        assert_eq!((whole.key, whole.value), (None, bytes("a:b\tc")));
        let keyed = text(Some("::"), false).read(b"k::v::w").unwrap();
        assert_eq!((keyed.key, keyed.value), (bytes("k"), bytes("v::w")));
        let nulls = text(Some(":"), false).read(b"NULL:NULL").unwrap();
        assert_eq!((nulls.key, nulls.value), (None, None));
        let all = text(Some(":"), true).read(b"h:1,i:2:3\tk:v").unwrap();
        assert_eq!(all.headers, [("h".to_owned(), bytes("1")), ("i".to_owned(), bytes("2:3"))]);
        assert_eq!((all.key, all.value), (bytes("k"), bytes("v")));
        assert_eq!(text(Some("::"), false).read(b"v"), Err(LineError::NoKey("::".to_owned())));
        assert_eq!(text(None, true).read(b"v"), Err(LineError::NoHeaders));
    }

    #[test]
    fn json_lines_are_records_and_what_is_no_record_is_refused() {
        let read = |line: &str| LineFormat::Json.read(line.as_bytes());
        let line = r#"{"key":"k","value":{"id":1},"partition":3,"timestamp":5,"headers":[{"key":"h","value":null}]}"#;
        let want = Line {
            partition: Some(3),
            timestamp: Some(Timestamp(5)),
            key: Some(b"k".to_vec()),
            value: Some(br#"{"id":1}"#.to_vec()),
            headers: vec![("h".to_owned(), None)],
        };
        assert_eq!(read(line), Ok(want));
        assert_eq!(read(r#"{"value":null}"#).unwrap().value, None);
        for line in [
            "",
            "[]",
            "{}",
            r#"{"value":"v","partition":"0"}"#,
            r#"{"value":"v","partition":4294967296}"#,
            r#"{"value":{"hex":"abc"}}"#,
            r#"{"value":"v","headers":{}}"#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_as_json_is_read_back_as_it_was(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        ) {
            let line = rendered(RecordFormat::Json, key.as_deref(), value.as_deref());
            let read = LineFormat::Json.read(&line).unwrap();
            prop_assert_eq!((read.key, read.value), (key, value));
            prop_assert_eq!(read.partition, Some(2));
        }

        #[test]
        fn no_line_makes_a_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            for format in [text(Some(""), true), text(Some(":"), false), LineFormat::Json] {
                let _ = format.read(&line);
            }
        }
    }
}
