//! The simulator: brokers, clients and applications in one process, on a paused clock, from one
//! seed. The very code that ships runs here; only the seams are others. Same seed, same trace.
//!
//! Shell.

pub mod mounted;
pub mod net;
pub mod world;
