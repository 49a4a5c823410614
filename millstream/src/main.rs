//! The one binary: a command per file below `command/`.
//!
//! Shell.

mod command;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Millstream: a Kafka-compatible broker, stream processing and connectors in one binary.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    /// What to log: a level, or directives such as `info,broker::net=debug`.
    #[arg(long, global = true, default_value = "info,openraft=warn", env = "MILLSTREAM_LOG")]
    log: String,
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = match EnvFilter::try_new(&arguments.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("millstream: --log {}: {error}", arguments.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match command::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes, outermost first: the last one usually says what to do.
            eprintln!("millstream: {error:#}");
            ExitCode::FAILURE
        }
    }
}
