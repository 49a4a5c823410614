//! See `src/scram.rs`.
#![no_main]

millstream_fuzz::target!(scram);
