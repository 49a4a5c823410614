//! Our client against Apache Kafka's broker, and in one group with its Java clients.
//!
//! Each promise of the matrix is tried against Apache Kafka's broker and against ours: what holds
//! there must hold here. All tests share one broker of each kind, and have topics, groups and
//! transactional ids of their own.
//!
//! Shell.

#![allow(clippy::unwrap_used, reason = "tests may, and so may what they call")]

mod admin;
mod beside_java;
mod cluster;
mod consume;
mod groups;
mod produce;
mod secured;
mod transactions;
