//! See `src/decompress.rs`.
#![no_main]

millstream_fuzz::target!(decompress);
