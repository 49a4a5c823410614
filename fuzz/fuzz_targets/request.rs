//! See `src/request.rs`.
#![no_main]

millstream_fuzz::target!(request);
