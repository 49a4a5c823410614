//! Deciding where tasks run.
//!
//! - `standalone`: all of them here
//!
//! | task | meaning | next |
//! |---|---|---|
//! | Starting | connects, reads where to start | Running, Restarting, Failed |
//! | Running | moves records or waits for some | Finished, Stopped, Restarting, Failed |
//! | Restarting | failed; waits | Starting, Stopped |
//! | Failed, Finished, Stopped | over | – |
//!
//! Pure.

mod standalone;

pub use standalone::{Running, Standalone, StartError};
