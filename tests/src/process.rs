//! Real processes: the `millstream` binary, examples, and the foreign clients that talk to them.
//!
//! Binaries are looked for beside the running test; `tests/run` builds them first. Every process is
//! killed when its handle is dropped. Ports are the kernel's choice.
//!
//! Shell.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Where `name` was built: beside the test that runs, or among the examples.
///
/// # Errors
/// When it was not built; says how to.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the test's own path")?;
    let profile = test.parent().and_then(Path::parent).context("target/<profile>")?;
    let found = [profile.join(name), profile.join("examples").join(name)];
    let found = found.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run tests/run, or cargo build"))
}

/// The Python that has the foreign clients.
///
/// # Errors
/// When there is none; says how to get it.
pub fn python() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("MILLSTREAM_PYTHON");
    path.map(PathBuf::from).context("MILLSTREAM_PYTHON is not set: run the tests by tests/run")
}

/// A broker in a process of its own.
pub struct BrokerProcess {
    child: Child,
    /// One per listener, in their order.
    endpoints: Vec<String>,
}

impl BrokerProcess {
    /// Starts a broker over `data_dir` and waits until it listens.
    ///
    /// # Errors
    /// When it ends, or says something else, before it listens.
    pub fn start(data_dir: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(data_dir, "127.0.0.1:0", settings)
    }

    /// Starts a broker that listens at `endpoint`: that of one that was killed.
    ///
    /// # Errors
    /// As [`BrokerProcess::start`].
    pub fn start_at(data_dir: &Path, endpoint: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary("millstream")?);
        command.arg("broker").arg("--data-dir").arg(data_dir).args(["--listen", endpoint]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().context("millstream broker")?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut endpoints = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("the broker's first lines")?;
            match line.trim().strip_prefix("broker started: ") {
                Some(endpoint) => endpoints.push(endpoint.to_owned()),
                None if endpoints.is_empty() => anyhow::bail!("the broker said {line:?}"),
                None => break,
            }
        }
        anyhow::ensure!(!endpoints.is_empty(), "the broker ended before it listened");
        Ok(Self { child, endpoints })
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Where its listeners are, in their order.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill -9")?;
        self.child.wait().context("its end")?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it ends with a failure.
    pub fn stop(mut self) -> anyhow::Result<()> {
        signal(&self.child, Signal::TERM)?;
        let status = self.child.wait().context("its end")?;
        anyhow::ensure!(status.success(), "the broker ended with {status}");
        Ok(())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have been waited for already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process, without a command that a bare machine lacks.
///
/// # Errors
/// When it is gone.
pub fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    kill_process(Pid::from_child(child), signal).with_context(|| format!("{signal:?}"))
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// When it fails; with all that it said.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| name.clone())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{name}: {}\n{said}\n{complained}", output.status);
    Ok(said)
}
