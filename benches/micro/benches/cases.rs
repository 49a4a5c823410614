//! Every case timed: `benches/times [TEXT]`.
//!
//! What guards against growing slower is `benches/counts`. Shell.

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in bench_cases::all() {
        let mut work = (case.prepare)();
        criterion.bench_function(case.name, |bencher| bencher.iter(&mut work));
    }
    criterion.final_summary();
}
