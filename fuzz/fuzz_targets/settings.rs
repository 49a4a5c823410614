//! See `src/settings.rs`.
#![no_main]

millstream_fuzz::target!(settings);
