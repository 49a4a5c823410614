//! The settings of a file source. Pure.

use std::time::Duration;

use connect::sdk::{ConfigErrors, Reader};

/// 900 000: a line and its key fit into a record batch of Kafka's default `max.message.bytes`, 1 048 588.
const LINE_BYTES_DEFAULT: usize = 900_000;

/// What to do, once no more is awaited, with a last line that has no newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLine {
    /// It is a line: it is delivered.
    Deliver,
    /// It is held back until its newline comes, in a later run.
    Hold,
}

/// Which files to read, and how.
#[derive(Clone, Debug)]
pub struct FileSourceConfig {
    /// Files, directories (with all below them) and patterns with `*`, `?`, `[..]` and `**`.
    pub paths: Vec<glob::Pattern>,
    /// Patterns on whole paths, or on file names: files that match one are not read.
    pub exclude: Vec<glob::Pattern>,
    /// Where the lines go.
    pub topic: String,
    /// How often files are looked for, and growth noticed.
    pub poll_interval: Duration,
    /// Longer lines are delivered in pieces.
    pub line_bytes_max: usize,
    /// About how many bytes of lines make a batch.
    pub batch_bytes: usize,
    /// True: wait for more for ever. False: end when all files have been read to their ends.
    pub follow: bool,
    /// Without `follow`: what becomes of a last line without newline. With it, such a line is held back.
    pub last_line: LastLine,
}

impl FileSourceConfig {
    /// Reads the settings: `paths`, `exclude`, `topic`, `poll_interval_ms`, `max_line_bytes`, `batch_bytes`,
    /// `follow`, `unterminated_last_line`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigErrors> {
        let paths: Vec<String> =
            reader.required("paths", "a list of paths, with wildcards or without");
        if paths.is_empty() {
            reader.reject("paths", "at least one path", "none");
        }
        let exclude = reader.or("exclude", Vec::new(), "a list of patterns");
        let last_line: String =
            reader.or("unterminated_last_line", "deliver".to_owned(), "`deliver` or `hold`");
        let config = Self {
            paths: patterns(reader, "paths", &paths),
            exclude: patterns(reader, "exclude", &exclude),
            topic: reader.required("topic", "a topic's name"),
            poll_interval: Duration::from_millis(reader.within(
                "poll_interval_ms",
                500,
                10..=3_600_000,
            )),
            line_bytes_max: reader.within(
                "max_line_bytes",
                LINE_BYTES_DEFAULT,
                1..=64 * 1024 * 1024,
            ),
            batch_bytes: reader.within("batch_bytes", 1024 * 1024, 1..=64 * 1024 * 1024),
            follow: reader.or("follow", true, "true or false"),
            last_line: match last_line.as_str() {
                "deliver" => LastLine::Deliver,
                "hold" => LastLine::Hold,
                other => {
                    reader.reject(
                        "unterminated_last_line",
                        "`deliver` or `hold`",
                        &format!("`{other}`"),
                    );
                    LastLine::Deliver
                }
            },
        };
        reader.finish()?;
        Ok(config)
    }
}

fn patterns(reader: &mut Reader, key: &str, texts: &[String]) -> Vec<glob::Pattern> {
    let mut patterns = Vec::new();
    for text in texts {
        match glob::Pattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => reader.reject(key, "a pattern", &format!("`{text}`: {error}")),
        }
    }
    patterns
}
