//! The fuzz targets, and what they share.
//!
//! A target is a module with two functions: `run` takes whatever bytes come and panics when one of
//! its laws is broken, `seeds` makes examples to begin from. `fuzz_targets/` wraps each for
//! libFuzzer. Shell.

pub mod batch;
pub mod decompress;
pub mod frame;
pub mod gate;
pub mod input;
pub mod jwt;
pub mod memory;
pub mod records;
pub mod recovery;
pub mod request;
pub mod response;
pub mod scram;
pub mod settings;
#[path = "../../millstream/src/command/settings_file.rs"]
mod settings_file;

pub use libfuzzer_sys;

/// Where to write seeds instead of fuzzing.
const SEEDS_VARIABLE: &str = "FUZZ_SEEDS";

/// Writes `seeds` into the directory that [`SEEDS_VARIABLE`] names and ends the process; nothing,
/// when it names none.
///
/// # Panics
/// When a file cannot be written.
pub fn write_seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(dir) = std::env::var_os(SEEDS_VARIABLE) else { return };
    let dir = std::path::PathBuf::from(dir);
    for (number, seed) in seeds().into_iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:05}")), seed).expect("a writable directory");
    }
    std::process::exit(0);
}

/// Makes libFuzzer's entry points of a module of this crate.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        use $crate::libfuzzer_sys;
        libfuzzer_sys::fuzz_target!(
            init: $crate::write_seeds($crate::$name::seeds),
            |bytes: &[u8]| $crate::$name::run(bytes)
        );
    };
}
