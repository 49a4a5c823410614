//! See `src/records.rs`.
#![no_main]

millstream_fuzz::target!(records);
