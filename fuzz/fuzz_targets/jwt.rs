//! See `src/jwt.rs`.
#![no_main]

millstream_fuzz::target!(jwt);
