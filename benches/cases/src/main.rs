//! `bench-cases`: lists the cases; `bench-cases NAME TIMES`: does that work so often.
//!
//! For `benches/counts`, which runs it twice under valgrind: what `TIMES` adds is the work alone.
//!
//! Shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, times] = arguments.as_slice() else {
        for case in bench_cases::all() {
            println!("{}", case.name);
        }
        return ExitCode::SUCCESS;
    };
    let case = bench_cases::all().find(|case| case.name == name);
    let (Some(case), Ok(times)) = (case, times.parse::<u32>()) else {
        eprintln!("no case {name}, or {times} is no number");
        return ExitCode::FAILURE;
    };
    let mut work = (case.prepare)();
    for _ in 0..times {
        work();
    }
    ExitCode::SUCCESS
}
