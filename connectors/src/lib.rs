//! The connectors that come with Millstream.
//!
//! - [`file`]: lines of files into a topic
//! - [`lake`]: topics into Parquet files in a directory or a bucket
//!
//! Pure.

pub mod file;
pub mod lake;

use connect::registry::Registry;

/// All of them, by the names under which settings ask for them.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(file::FILE_SOURCE, file::file_source)
        .with(lake::LAKE_SINK, lake::lake_sink)
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_ask_for_connectors_by_these_names() {
        let registry = super::registry();
        assert_eq!(registry.names().collect::<Vec<_>>(), ["file-source", "lake-sink"]);
    }
}
