//! See `src/batch.rs`.
#![no_main]

millstream_fuzz::target!(batch);
