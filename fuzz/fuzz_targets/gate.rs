//! See `src/gate.rs`.
#![no_main]

millstream_fuzz::target!(gate);
