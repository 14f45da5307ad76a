//! Benchmarks live in the `[[bench]]` targets of this package; each names its target. `cargo bench` runs all of them.
