//! An answer as a tree of fields, made of what `Debug` writes.
//!
//! Every message of the wire is `Debug`, with each field under its name: no second declaration can
//! forget one. `Some(x)` is `x`. Record batches are shown by what is in them.

use bytes::Bytes;
use protocol::record::{RecordBatch, RecordRef};

/// A value and all that is in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// A number, a word, or a text with its quotes.
    Leaf(String),
    /// Elements in order.
    List(Vec<Tree>),
    /// Fields in order.
    Fields(Vec<(String, Tree)>),
}

/// Fields that tell elements of a list apart; the first that is there counts.
const KEYS: [&str; 25] = [
    "name",
    "topic",
    "topic_name",
    "topic_id",
    "partition_index",
    "partition",
    "index",
    "partition_id",
    "resource_name",
    "group_id",
    "group_instance_id",
    "member_id",
    "api_key",
    "feature",
    "node_id",
    "broker_id",
    "replica_id",
    "transactional_id",
    "log_dir",
    "producer_id",
    "key",
    "entity_type",
    "entity",
    "user",
    "mechanism",
];

impl Tree {
    /// What `Debug` has written.
    pub(super) fn parse(text: &str) -> Self {
        let mut parser = Parser { rest: text };
        let tree = parser.value();
        assert!(parser.rest.is_empty(), "left over: {:?} of {text:?}", parser.rest);
        tree
    }

    /// A word.
    pub(super) fn leaf(text: impl ToString) -> Self {
        Self::Leaf(text.to_string())
    }

    /// What tells this element of a list apart from others.
    pub(super) fn key(&self) -> Option<String> {
        let Self::Fields(fields) = self else { return None };
        if let [(_, name), (kind, number)] = &fields[..]
            && kind == "resource_type"
        {
            return Some(format!("{name} of type {number}"));
        }
        if let [(kind, number), (iterations, _)] = &fields[..]
            && kind == "mechanism"
            && iterations == "iterations"
        {
            return Some(format!("mechanism {number}"));
        }
        let key = KEYS.iter().find_map(|key| {
            fields.iter().find(|(name, value)| {
                name == key && !["None", "\"\""].contains(&value.to_string().as_str())
            })
        });
        // A topic by its id is the same as by its name.
        key.map(|(_, value)| {
            let text = value.to_string();
            let name = text.strip_prefix("<id of ").and_then(|it| it.strip_suffix('>'));
            name.map_or_else(|| text.clone(), |it| format!("\"{it}\""))
        })
    }

    /// Calls `change` with each leaf and the name of the field that it belongs to.
    pub(super) fn each_leaf(&mut self, field: &str, change: &mut impl FnMut(&str, &mut String)) {
        match self {
            Self::Leaf(text) => change(field, text),
            Self::List(elements) => elements.iter_mut().for_each(|it| it.each_leaf(field, change)),
            Self::Fields(fields) => {
                fields.iter_mut().for_each(|(name, value)| value.each_leaf(name, change));
            }
        }
    }

    /// Calls `change` with each field of this name, in order.
    pub(super) fn each_field(&mut self, wanted: &str, change: &mut impl FnMut(&mut Tree)) {
        match self {
            Self::Leaf(_) => {}
            Self::List(elements) => {
                elements.iter_mut().for_each(|it| it.each_field(wanted, change))
            }
            Self::Fields(fields) => fields.iter_mut().for_each(|(name, value)| {
                if name == wanted {
                    change(value);
                } else {
                    value.each_field(wanted, change);
                }
            }),
        }
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leaf(text) => f.write_str(text),
            Self::List(elements) => {
                let texts: Vec<_> = elements.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Fields(fields) => {
                let texts: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                write!(f, "{{{}}}", texts.join(", "))
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skips(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self) -> Tree {
        if self.skips("[") {
            return Tree::List(self.until("]", Self::value));
        }
        if self.rest.starts_with('"') || self.rest.starts_with("b\"") {
            return Tree::Leaf(self.quoted());
        }
        let end = self.rest.find([' ', '(', ')', ',', ']', '}']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let word = word.to_owned();
        self.rest = rest;
        if self.skips(" { ") {
            return Tree::Fields(self.until(" }", |parser| {
                let end = parser.rest.find(": ").expect("a field has a name");
                let name = parser.rest[..end].to_owned();
                parser.rest = &parser.rest[end + 2..];
                (name, parser.value())
            }));
        }
        if self.skips("(") {
            let mut inner = self.until(")", Self::value);
            return if inner.len() == 1 { inner.remove(0) } else { Tree::List(inner) };
        }
        Tree::Leaf(word)
    }

    fn until<T>(&mut self, end: &str, mut next: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut found = Vec::new();
        while !self.skips(end) {
            self.skips(", ");
            found.push(next(self));
        }
        found
    }

    fn quoted(&mut self) -> String {
        let open = self.rest.find('"').expect("a quote");
        let mut escaped = false;
        let close = self.rest[open + 1..].find(|c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let end = open + 1 + close.expect("a quote closes") + 1;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text.to_owned()
    }
}

/// The batches in `bytes`, and what is in them.
pub(super) fn batches(bytes: &Bytes) -> Tree {
    let mut rest = bytes.clone();
    let mut found = Vec::new();
    loop {
        match RecordBatch::split_first(&mut rest) {
            Ok(Some(batch)) => found.push(self::batch(&batch)),
            Ok(None) if rest.is_empty() => break,
            Ok(None) => {
                found.push(Tree::leaf("a part of a batch"));
                break;
            }
            Err(error) => {
                found.push(Tree::Leaf(format!("{error}")));
                break;
            }
        }
    }
    Tree::List(found)
}

fn batch(batch: &RecordBatch) -> Tree {
    let header = batch.header();
    let mut fields: Vec<(String, Tree)> = Vec::new();
    let mut push = |name: &str, text: String| fields.push((name.to_owned(), Tree::Leaf(text)));
    push("base_offset", header.base_offset.to_string());
    push("bytes", batch.bytes().len().to_string());
    push("leader_epoch", header.leader_epoch.to_string());
    push("attributes", header.attributes.to_wire().to_string());
    push("last_offset_delta", header.last_offset_delta.to_string());
    push("base_timestamp", header.base_timestamp.to_string());
    push("max_timestamp", header.max_timestamp.to_string());
    push("producer_id", header.producer_id.to_string());
    push("producer_epoch", header.producer_epoch.to_string());
    push("base_sequence", header.base_sequence.to_string());
    push("is_intact", batch.verify_crc().is_ok().to_string());
    let records = match batch.decode(1 << 24) {
        Ok(decoded) => decoded
            .iter()
            .map(|record| match record {
                Ok(record) => self::record(&record, header.attributes.is_control()),
                Err(error) => Tree::Leaf(error.to_string()),
            })
            .collect(),
        Err(error) => vec![Tree::Leaf(error.to_string())],
    };
    fields.push(("records".to_owned(), Tree::List(records)));
    Tree::Fields(fields)
}

fn record(record: &RecordRef<'_>, is_control: bool) -> Tree {
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "None".to_owned(),
        Some(bytes) if bytes.len() > 100 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
    };
    let fields = [
        ("offset", record.offset.to_string()),
        ("timestamp", record.timestamp.to_string()),
        // A marker's key and value say which it is, and the epoch of who wrote it.
        (if is_control { "control_key" } else { "record_key" }, text(record.key)),
        ("value", text(record.value)),
        ("header_count", record.headers.len().to_string()),
    ];
    Tree::Fields(fields.map(|(name, text)| (name.to_owned(), Tree::Leaf(text))).into())
}
