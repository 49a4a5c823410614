//! Nothing: the package is its benchmark, `benches/cases.rs`. Pure.
