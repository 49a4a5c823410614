//! How far sources have read: records of the offsets topic, and what they fold to.
//!
//! Kafka Connect's format: key `["<connector>",{<source partition>}]`, value `{<source offset>}`, both JSON; no
//! value forgets the partition. Partitions are equal when their JSON is, with keys in order. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sdk::SourceOffset;

/// A record of the offsets topic for `offset` of `connector`: key and value.
pub(crate) fn encode(connector: &str, offset: &SourceOffset) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = Value::from(vec![Value::from(connector), offset.partition.clone()]);
    (
        key.to_string().into_bytes(),
        offset.offset.as_ref().map(|offset| offset.to_string().into_bytes()),
    )
}

/// The offsets of one connector, folded from records in the order of the topic.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    connector: String,
    by_partition: BTreeMap<String, SourceOffset>,
}

impl Offsets {
    /// None yet, of `connector`.
    pub(crate) fn new(connector: &str) -> Self {
        Self { connector: connector.to_owned(), by_partition: BTreeMap::new() }
    }

    /// Takes in one record. Those of other connectors, and foreign ones, are passed over: the topic is shared.
    pub(crate) fn apply(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(Ok((connector, partition))) = key.map(serde_json::from_slice::<(String, Value)>)
        else {
            return;
        };
        if connector != self.connector {
            return;
        }
        let name = partition.to_string();
        match value.map(serde_json::from_slice::<Value>) {
            None | Some(Ok(Value::Null)) => drop(self.by_partition.remove(&name)),
            Some(Ok(offset)) => {
                self.by_partition.insert(name, SourceOffset { partition, offset: Some(offset) });
            }
            // Not ours, or damaged: the last good one stands.
            Some(Err(_)) => {}
        }
    }

    /// All offsets, by partition.
    pub(crate) fn into_vec(self) -> Vec<SourceOffset> {
        self.by_partition.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_have_kafka_connects_format() {
        let offset = SourceOffset {
            partition: json!({"filename": "a"}),
            offset: Some(json!({"position": 30})),
        };
        let (key, value) = encode("local", &offset);
        assert_eq!(String::from_utf8(key).unwrap(), r#"["local",{"filename":"a"}]"#);
        assert_eq!(String::from_utf8(value.unwrap()).unwrap(), r#"{"position":30}"#);
    }

    #[test]
    fn the_last_offset_of_each_partition_stands_and_null_forgets() {
        let mut offsets = Offsets::new("mine");
        for (key, value) in [
            (r#"["mine",{"b":1,"a":2}]"#, Some(r#"{"pos":1}"#)),
            (r#"["mine",{"a":2,"b":1}]"#, Some(r#"{"pos":2}"#)),
            (r#"["mine",{"c":1}]"#, Some(r#"{"pos":3}"#)),
            (r#"["mine",{"c":1}]"#, None),
            (r#"["other",{"d":1}]"#, Some(r#"{"pos":4}"#)),
            ("no json", Some("{}")),
            (r#"["mine",{"a":2,"b":1}]"#, Some("no json")),
        ] {
            offsets.apply(Some(key.as_bytes()), value.map(str::as_bytes));
        }
        offsets.apply(None, None);
        let want =
            SourceOffset { partition: json!({"a": 2, "b": 1}), offset: Some(json!({"pos": 2})) };
        assert_eq!(offsets.into_vec(), [want]);
    }
}
