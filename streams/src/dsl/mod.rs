//! What users write. Each call adds a node to a graph; nothing runs.
//!
//! Read [`builder`] first, then [`stream`], [`grouped`], [`window`] and [`table`]. Pure.

pub mod builder;
pub mod grouped;
pub mod stream;
pub mod table;
pub mod window;
