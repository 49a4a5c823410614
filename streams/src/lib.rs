//! The Streams DSL: typed stream processing with exactly-once over any Kafka cluster.
//!
//! A topology is written with [`StreamsBuilder`], checked as a whole by `build`, looked at with
//! `describe`, and tried without any broker in a [`TestDriver`]. Topics and stores are typed
//! values; state is always named; nothing runs while a topology is built.
//!
//! ```
//! use protocol::time::Timestamp;
//! use streams::{I64, Store, StreamsBuilder, TestDriver, Topic, Unit, Utf8};
//!
//! let lines = Topic::new("lines", Unit, Utf8);
//! let counts = Topic::new("word-counts", Utf8, I64);
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream(&lines)
//!     .flat_map(|(), line: String| {
//!         line.split_whitespace().map(|word| (word.to_lowercase(), ())).collect::<Vec<_>>()
//!     })
//!     .repartition("words", Utf8, Unit)
//!     .group_by_key()
//!     .count(Store::kv("counts", Utf8, I64))
//!     .to_stream()
//!     .to(&counts);
//! let topology = builder.build()?;
//!
//! let mut driver = TestDriver::new(&topology);
//! driver.pipe(&lines, (), "All streams lead to Kafka".to_owned(), Timestamp(0))?;
//! driver.commit()?;
//! driver.pipe(&lines, (), "all streams".to_owned(), Timestamp(1))?;
//! driver.crash_and_restore()?;
//! assert_eq!(driver.read_pairs(&counts)?.last(), Some(&("streams".to_owned(), 2)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rooms, from the outside in: [`dsl`] is what users write, [`topology`] what will run,
//! [`processor`] how each operator thinks, [`store`] what it remembers, [`task`] one sub-topology
//! for one partition, [`driver`] all of it in one process, [`runtime`] the same against a cluster.
//! Pure.

pub mod codec;
pub mod driver;
pub mod dsl;
pub mod error;
pub mod processor;
pub mod record;
pub mod runtime;
pub mod store;
pub mod task;
pub mod topology;
pub mod window;

pub use codec::{Codec, I64, Json, Nullable, Raw, Store, Topic, Unit, Utf8, WindowStore};
pub use driver::TestDriver;
pub use dsl::builder::StreamsBuilder;
pub use dsl::grouped::{KGrouped, KWindowed};
pub use dsl::stream::KStream;
pub use dsl::table::KTable;
pub use error::{BuildError, BuildErrors, ErrorPolicy, StreamsError};
pub use processor::custom::{Context, Processor, PunctuationClock};
pub use record::{Header, Headers, Record, RecordContext};
pub use runtime::{App, AppError, AppHandle, AppState, Guarantee, Metrics};
pub use store::Entry;
pub use topology::Topology;
pub use window::{Emit, Hopping, Tumbling, Windowed, Windows};
