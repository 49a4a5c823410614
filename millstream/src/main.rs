//! The one binary: a command per file below `command/`.
//!
//! It ends with 0 when done, 1 when it failed, 2 when it was not understood. What went wrong goes to
//! stderr with what to do next; a reader that closed our pipe is no failure. Shell.

mod command;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use command::advice;

/// Millstream: a Kafka-compatible broker, stream processing and connectors in one binary.
///
/// The commands that ask or tell a cluster (topic, group, produce, consume, config, txn, quota,
/// quorum, log-dir, cluster) work with any Kafka cluster. They end with 0 when done, 1 when they
/// failed, 2 when they were not understood.
#[derive(Parser)]
#[command(name = "millstream", version, max_term_width = 100)]
struct Arguments {
    /// What to log to stderr: a level (error, warn, info, debug, trace), or directives such as
    /// `info,broker::net=debug`. Default: RUST_LOG, else info for broker, connect and bench, and
    /// warn for the other commands.
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_LOG",
        value_name = "LEVEL",
        help_heading = "Logs"
    )]
    log: Option<String>,
    /// How logs are written: text for people, or json, one object per line. Default: text.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_default_value = true,
        help_heading = "Logs"
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: command::Command,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let asked = arguments.log.or_else(|| std::env::var("RUST_LOG").ok());
    let filter = asked.unwrap_or_else(|| arguments.command.default_log().to_owned());
    let filter = match EnvFilter::try_new(&filter) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("millstream: --log {filter}: {error}");
            return ExitCode::from(2);
        }
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    match command::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if advice::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millstream: {}", advice::told(&error));
            if let Some(advice) = advice::advice(&error) {
                eprintln!("{advice}");
            }
            ExitCode::from(advice::exit_code(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_declared_without_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        fn mute(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_about().is_none() {
                found.push(path.clone());
            }
            let silent = command.get_arguments().filter(|it| it.get_help().is_none());
            found.extend(silent.map(|it| format!("{path} {}", it.get_id())));
            for sub in command.get_subcommands() {
                mute(sub, &path, found);
            }
        }
        let mut found = Vec::new();
        mute(&Arguments::command(), "", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
