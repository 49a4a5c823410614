//! Lines of files into a topic.
//!
//! Each line becomes one record: its bytes as they are, without the newline; key is the path under which
//! the file was first seen, so a log keeps its key, its partition and its order through every rotation.
//! A line longer than `max_line_bytes` comes in pieces; pieces after the first carry the header
//! [`CONTINUES`], so lines can be counted exactly. Files may grow, be renamed, truncated, copied away,
//! compressed or written anew: every line is delivered once, across restarts too, as positions are committed
//! with the records. Compressed files (gzip, told by content) are read decompressed. Files that are not text
//! (a NUL byte near the start, or another compression) are named and passed over, like unreadable ones.
//!
//! - `mark`: what is remembered of content; `tracker`, `scene`: which file is which; `lines`: where lines end
//! - `offset`: how it is stored; `scan`, `window`: looking and reading; `source`: the task
//!
//! Pure.

mod lines;
mod mark;
mod offset;
mod scan;
mod scene;
mod settings;
mod source;
mod tracker;
mod window;

use std::sync::Arc;

use connect::sdk::{ConfigErrors, Connector, Reader, SourceConnector, SourceTask, TaskContext};
pub use settings::{FileSourceConfig, LastLine};
pub use source::CONTINUES;

/// The name under which settings ask for this source.
pub const FILE_SOURCE: &str = "file-source";

/// Builds a file source from its settings.
///
/// # Errors
/// All that is wrong with them.
pub fn file_source(reader: &mut Reader) -> Result<Connector, ConfigErrors> {
    let config = Arc::new(FileSourceConfig::read(reader)?);
    Ok(Connector::Source(Box::new(FileSource { config })))
}

/// One task reads all files: what one file's content says about another (a copy, a compressed log) is known
/// only where both are.
struct FileSource {
    config: Arc<FileSourceConfig>,
}

impl SourceConnector for FileSource {
    fn task(&self, context: TaskContext) -> Box<dyn SourceTask> {
        Box::new(source::FileSourceTask::new(Arc::clone(&self.config), context))
    }
}
