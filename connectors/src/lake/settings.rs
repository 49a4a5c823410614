//! The settings of a lake sink. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connect::sdk::{ConfigErrors, Reader};
use object_store::path::Path;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::gathering::Limits;
use super::layout::{DeclaredColumn, Format, KeyFormat, Layout, Undeclared};

/// Where the lake lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a local directory.
    Directory(PathBuf),
    /// In a bucket.
    S3(S3Location),
}

/// Where in S3, or in what speaks its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Location {
    pub(crate) bucket: String,
    /// May be empty.
    pub(crate) prefix: Path,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<Secret>,
    pub(crate) allow_http: Option<bool>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => directory.display().fmt(f),
            Self::S3(s3) if s3.prefix.as_ref().is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

/// How a sink writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LakeConfig {
    pub(crate) location: Location,
    pub(crate) layout: Arc<Layout>,
    pub(crate) limits: Limits,
    /// What gathered rows of all partitions may take before the largest is flushed.
    pub(crate) memory_bytes: usize,
}

impl LakeConfig {
    /// Reads the settings; the table in the room's header.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, ConfigErrors> {
        let location = location(reader);
        let layout = Arc::new(layout(reader));
        let limits = Limits {
            rows: reader.within("file_max_rows", 1_000_000, 1..=100_000_000),
            bytes: reader.within("file_max_bytes", 256 * MIB, 1..=1024 * MIB),
            age: Duration::from_millis(reader.within("file_max_age_ms", 60_000, 1..=86_400_000)),
        };
        let memory_bytes = reader.within("memory_bytes", 256 * MIB, MIB..=64 * 1024 * MIB);
        reader.finish()?;
        Ok(Self { location, layout, limits, memory_bytes })
    }
}

const MIB: usize = 1024 * 1024;

fn location(reader: &mut Reader) -> Location {
    let expected = "a directory, or `s3://bucket/prefix`";
    let text: String = reader.required("location", expected);
    let endpoint: Option<String> = reader.optional("endpoint", "the address of an S3 service");
    let region: Option<String> = reader.optional("region", "a region of S3");
    let access_key_id: Option<String> = reader.optional("access_key_id", "a key's id");
    let secret_access_key: Option<Secret> = reader.optional("secret_access_key", "a key");
    let allow_http: Option<bool> = reader.optional("allow_http", "true or false");
    let Some(place) = text.strip_prefix("s3://") else {
        let given = [
            ("endpoint", endpoint.is_some()),
            ("region", region.is_some()),
            ("access_key_id", access_key_id.is_some()),
            ("secret_access_key", secret_access_key.is_some()),
            ("allow_http", allow_http.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            reader.reject(key, "nothing: the location is a directory", "a value");
        }
        let path = text.strip_prefix("file://").unwrap_or(&text);
        if path.contains("://") {
            reader.reject("location", expected, &format!("`{text}`"));
        }
        return Location::Directory(PathBuf::from(path));
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let parsed = Path::parse(prefix.trim_end_matches('/'));
    if bucket.is_empty() || parsed.is_err() {
        reader.reject("location", expected, &format!("`{text}`"));
    }
    Location::S3(S3Location {
        bucket: bucket.to_owned(),
        prefix: parsed.unwrap_or_default(),
        endpoint,
        region,
        access_key_id,
        secret_access_key,
        allow_http,
    })
}

fn layout(reader: &mut Reader) -> Layout {
    #[derive(Clone, Copy, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum FormatName {
        Json,
        Text,
        Bytes,
    }
    let format = reader.or("format", FormatName::Json, "`json`, `text` or `bytes`");
    let columns: Option<Vec<DeclaredColumn>> = optional(
        reader,
        "columns",
        "a list of { name, type } with type `bool`, `int64`, `float64`, `string`, `timestamp` or `json`",
    );
    let undeclared: Option<Undeclared> =
        optional(reader, "undeclared", "`keep`, `drop` or `reject`");
    if format != FormatName::Json && columns.is_some() {
        reader.reject("columns", "nothing: values are not JSON", "a list");
    }
    if columns.is_none() && undeclared.is_some() {
        reader.reject("undeclared", "nothing: no columns are declared", "a value");
    }
    let layout = Layout {
        format: match (format, columns) {
            (FormatName::Text, _) => Format::Text,
            (FormatName::Bytes, _) => Format::Bytes,
            (FormatName::Json, None) => Format::Inferred,
            (FormatName::Json, Some(columns)) => {
                Format::Declared { columns, undeclared: undeclared.unwrap_or(Undeclared::Keep) }
            }
        },
        key: reader.or("key", KeyFormat::Text, "`text`, `bytes` or `none`"),
        metadata_prefix: reader.or("metadata_prefix", "_".to_owned(), "text"),
        compression_level: reader.within("compression_level", 3, 1..=22),
    };
    check_columns(reader, &layout);
    layout
}

fn check_columns(reader: &mut Reader, layout: &Layout) {
    let Format::Declared { columns, .. } = &layout.format else { return };
    let expected = "columns with different names, none of them the sink's own";
    let mut names = BTreeSet::new();
    for DeclaredColumn { name, .. } in columns {
        if name.is_empty() || layout.is_reserved(name) || !names.insert(name.to_ascii_lowercase()) {
            reader.reject("columns", expected, &format!("`{name}`"));
        }
    }
}

fn optional<T: DeserializeOwned>(reader: &mut Reader, key: &str, expected: &str) -> Option<T> {
    reader.optional(key, expected)
}

#[cfg(test)]
mod tests {
    use connect::sdk::Config;
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, want: &Expect) {
        let mut reader = Config::parse("lake.toml", text).unwrap().reader();
        match LakeConfig::read(&mut reader) {
            Ok(config) => want.assert_eq(&format!("{}\n{config:#?}\n", config.location)),
            Err(errors) => want.assert_eq(&errors.to_string()),
        }
    }

    #[test]
    fn only_the_location_must_be_given() {
        check(
            "location = '/var/lake'",
            &expect![[r#"
            /var/lake
            LakeConfig {
                location: Directory(
                    "/var/lake",
                ),
                layout: Layout {
                    format: Inferred,
                    key: Text,
                    metadata_prefix: "_",
                    compression_level: 3,
                },
                limits: Limits {
                    rows: 1000000,
                    bytes: 268435456,
                    age: 60s,
                },
                memory_bytes: 268435456,
            }
        "#]],
        );
    }

    #[test]
    fn a_bucket_with_declared_columns_is_read_and_its_key_never_printed() {
        check(
            "location = 's3://bucket/a/b/'\nendpoint = 'http://localhost:1'\nregion = 'r'\naccess_key_id = 'me'\nsecret_access_key = 'hush'\nallow_http = true\nundeclared = 'reject'\nkey = 'none'\n[[columns]]\nname = 'status'\ntype = 'int64'",
            &expect![[r#"
                s3://bucket/a/b
                LakeConfig {
                    location: S3(
                        S3Location {
                            bucket: "bucket",
                            prefix: Path {
                                raw: "a/b",
                            },
                            endpoint: Some(
                                "http://localhost:1",
                            ),
                            region: Some(
                                "r",
                            ),
                            access_key_id: Some(
                                "me",
                            ),
                            secret_access_key: Some(
                                Secret,
                            ),
                            allow_http: Some(
                                true,
                            ),
                        },
                    ),
                    layout: Layout {
                        format: Declared {
                            columns: [
                                DeclaredColumn {
                                    name: "status",
                                    kind: Int64,
                                },
                            ],
                            undeclared: Reject,
                        },
                        key: None,
                        metadata_prefix: "_",
                        compression_level: 3,
                    },
                    limits: Limits {
                        rows: 1000000,
                        bytes: 268435456,
                        age: 60s,
                    },
                    memory_bytes: 268435456,
                }
            "#]],
        );
    }

    #[test]
    fn all_errors_come_at_once() {
        check(
            "location = 'gs://x'\nregion = 'r'\nformat = 'text'\nundeclared = 'keep'\nfile_max_bytes = 0\nfile_max_row = 1",
            &expect![[r#"
                lake.toml: `region`: expected nothing: the location is a directory, found a value
                lake.toml: `location`: expected a directory, or `s3://bucket/prefix`, found `gs://x`
                lake.toml: `undeclared`: expected nothing: no columns are declared, found a value
                lake.toml: `file_max_bytes`: expected a number from 1 to 1073741824, found 0
                lake.toml: `file_max_row` is not a setting; did you mean `file_max_rows`?"#]],
        );
        check(
            "location = 's3:///x'\nformat = 'avro'\nkey = 'x'\n[[columns]]\nname = 'Date'\ntype = 'int64'\n[[columns]]\nname = 'a'\ntype = 'int64'\n[[columns]]\nname = 'A'\ntype = 'int64'",
            &expect![[r#"
                lake.toml: `location`: expected a directory, or `s3://bucket/prefix`, found `s3:///x`
                lake.toml: `format`: expected `json`, `text` or `bytes`, found a string
                lake.toml: `key`: expected `text`, `bytes` or `none`, found a string
                lake.toml: `columns`: expected columns with different names, none of them the sink's own, found `Date`
                lake.toml: `columns`: expected columns with different names, none of them the sink's own, found `A`"#]],
        );
        check(
            "location = 'x'\n[[columns]]\nname = 'a'\ntype = 'int'",
            &expect![
                "lake.toml: `columns`: expected a list of { name, type } with type `bool`, `int64`, `float64`, `string`, `timestamp` or `json`, found a list"
            ],
        );
    }
}
