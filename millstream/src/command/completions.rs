//! `millstream completions`: what shells need to complete our commands. Shell.

use clap::CommandFactory;
use clap_complete::Shell;

/// Print completions for a shell. For bash: millstream completions bash >
/// ~/.local/share/bash-completion/completions/millstream
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints them.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "millstream", &mut text);
    super::output::write(&String::from_utf8_lossy(&text))?;
    Ok(())
}
