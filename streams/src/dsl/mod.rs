//! What users write. Each call adds a node to a graph; nothing runs.
//!
//! Read [`builder`] first, then [`stream`], [`grouped`], [`crate::window`] and [`table`]. Pure.

pub mod builder;
pub mod grouped;
pub mod stream;
pub mod table;
