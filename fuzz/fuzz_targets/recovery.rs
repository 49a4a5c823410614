//! See `src/recovery.rs`.
#![no_main]

millstream_fuzz::target!(recovery);
