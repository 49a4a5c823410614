//! See `src/frame.rs`.
#![no_main]

millstream_fuzz::target!(frame);
