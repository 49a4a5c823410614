//! See `src/response.rs`.
#![no_main]

millstream_fuzz::target!(response);
