//! Apache Kafka itself: its broker in a process of its own, and its Java tools.
//!
//! The jars come from Maven Central by `tests/java/pom.xml`, once, into `target/java`. Only when
//! Maven Central is out of reach there is no Kafka: then [`classpath`] says so and gives `None`,
//! for the test to be skipped. Everything else that goes wrong is an error. A process ends with its
//! handle, and also when the test that started it is killed: its life hangs on a pipe.
//!
//! Shell.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::process::output;

/// Starts a program, and kills it once standard input ends, with whoever holds the pipe; then
/// takes its directory away, if one is named first.
const WATCHED: &str = r#"dir=$1; shift; "$@" & child=$!; exec >/dev/null 2>&1
cat >/dev/null; kill -9 $child; wait; [ -z "$dir" ] || rm -rf "$dir""#;

/// What a broker says once it serves.
const STARTED: &str = "Kafka Server started";

/// How long a broker may take to start, on a machine that is busy with other tests.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// How often other ports are tried, should somebody take the free ones first.
const ATTEMPTS: usize = 3;

/// Words of Maven that say that the network is at fault.
const UNREACHABLE: [&str; 5] = [
    "Could not transfer artifact",
    "Unknown host",
    "Connection refused",
    "Connection timed out",
    "Network is unreachable",
];

/// All jars of Apache Kafka, as a class path. `None`, with the reason printed: Maven Central is
/// out of reach.
///
/// # Errors
/// When Maven fails for another reason.
pub fn classpath() -> anyhow::Result<Option<String>> {
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/pom.xml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests/ lies in the root")?;
    let dir = root.join("target/java");
    fs::create_dir_all(&dir)?;
    // Several tests may come at once; each is a process or thread of its own.
    let lock = File::create(dir.join("lock"))?;
    lock.lock().context("lock target/java")?;
    let (jars, installed) = (dir.join("jars"), dir.join("installed.xml"));
    let wanted = fs::read(&pom)?;
    if fs::read(&installed).is_ok_and(|it| it == wanted) {
        return Ok(Some(format!("{}/*", jars.display())));
    }
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom);
    maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", jars.display()));
    if let Err(error) = output(&mut maven) {
        let said = format!("{error:#}");
        if UNREACHABLE.iter().any(|it| said.contains(it)) {
            println!(
                "skipped: Apache Kafka is not installed, Maven Central is out of reach: {said}"
            );
            return Ok(None);
        }
        return Err(error).context("install Apache Kafka: run tests/run foreign");
    }
    fs::write(&installed, wanted)?;
    Ok(Some(format!("{}/*", jars.display())))
}

/// A Java program of the class path, to be given its arguments. `None` as [`classpath`].
///
/// # Errors
/// As [`classpath`].
pub fn java(class: &str) -> anyhow::Result<Option<Command>> {
    java_with(&["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"], class)
}

fn java_with(options: &[&str], class: &str) -> anyhow::Result<Option<Command>> {
    let Some(classpath) = classpath()? else { return Ok(None) };
    let mut command = Command::new("java");
    // One thread compiles and one collects: tests share a small machine.
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).args(options);
    command.args(["-cp", &classpath, class]);
    Ok(Some(command))
}

/// A program that runs beside the test, and what it prints.
pub struct Running {
    shell: Child,
    /// Its end is the program's.
    alive: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

/// Lines that may wait to be read; later ones are dropped.
const LINES_MAX: usize = 65_536;

impl Running {
    /// Starts `command`. With it ends `dir`, if there is one.
    ///
    /// # Errors
    /// When there is no shell to watch over it.
    #[expect(clippy::disallowed_methods, reason = "a pipe is read by waiting for it")]
    pub fn start(command: &Command, dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCHED, "sh"]).arg(dir.unwrap_or(Path::new("")));
        shell.arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            shell.current_dir(dir);
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().with_context(|| format!("{command:?}"))?;
        let alive = shell.stdin.take();
        let said = BufReader::new(shell.stdout.take().context("its output is piped")?);
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // When nobody reads any more, go on reading, so that the program does not block.
                drop(sender.try_send(line));
            }
        });
        Ok(Self { shell, alive, lines })
    }

    /// The next line that it prints. `None`: it has ended.
    ///
    /// # Errors
    /// When there is none within `patience`.
    pub fn line(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("no line within {patience:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.alive.take());
        // It was killed; how it ended is of no consequence.
        drop(self.shell.wait());
    }
}

/// A broker of Apache Kafka, with a controller in the same process.
pub struct KafkaProcess {
    endpoint: String,
    /// Of further listeners, in their order.
    more: Vec<String>,
    /// Its end is the broker's, and that of its files.
    _running: Running,
}

impl KafkaProcess {
    /// Starts a broker of its own over an empty directory, with `settings` besides ours, and waits
    /// until it serves. `None` as [`classpath`].
    ///
    /// # Errors
    /// When it ends, or does not serve in time; with what it said last.
    pub fn start(settings: &[&str]) -> anyhow::Result<Option<Self>> {
        Self::start_with(&[], settings)
    }

    /// The same with further listeners, each called by the protocol that it speaks.
    ///
    /// # Errors
    /// As [`KafkaProcess::start`].
    pub fn start_with(listeners: &[&str], settings: &[&str]) -> anyhow::Result<Option<Self>> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::start_once(listeners, settings) {
                Ok(started) => return Ok(started),
                Err(error) if format!("{error:#}").contains("Address already in use") => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.context("at least one attempt")?)
    }

    fn start_once(listeners: &[&str], settings: &[&str]) -> anyhow::Result<Option<Self>> {
        let Some(mut format) = java("kafka.tools.StorageTool")? else { return Ok(None) };
        let options = ["-Dorg.slf4j.simpleLogger.logFile=System.out"];
        let Some(mut broker) = java_with(&options, "kafka.Kafka")? else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        let ports = free_ports(2 + listeners.len())?;
        let properties = dir.path().join("server.properties");
        write_properties(&properties, dir.path(), listeners, &ports, settings)?;
        let config = properties.to_str().context("a path in UTF-8")?;
        let cluster_id = "MkU3OEVBNTcwNTJENDM2Qg";
        output(format.args(["format", "-t", cluster_id, "-c", config]))?;
        let running = Running::start(broker.arg(config).current_dir(dir.path()), Some(dir.path()))?;
        // From here on it is the watching shell's to take away: tests may be killed.
        drop(dir.keep());
        let mut last = Vec::new();
        loop {
            let Some(line) = running.line(START_PATIENCE)? else {
                bail!("Kafka ended: {}", last.join("\n"));
            };
            if line.contains(STARTED) {
                break;
            }
            last.push(line);
            if last.len() > 50 {
                last.remove(0);
            }
        }
        let endpoint = format!("127.0.0.1:{}", ports[0]);
        let more = ports[2..].iter().map(|port| format!("localhost:{port}")).collect();
        Ok(Some(Self { endpoint, more, _running: running }))
    }

    /// Where its further listeners are, in their order.
    #[must_use]
    pub fn more_endpoints(&self) -> &[String] {
        &self.more
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// So many ports that nobody uses at the moment.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All at once, so that they differ.
    let bound: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    bound?.iter().map(|it| Ok(it.local_addr()?.port())).collect()
}

fn write_properties(
    file: &Path,
    dir: &Path,
    listeners: &[&str],
    ports: &[u16],
    settings: &[&str],
) -> anyhow::Result<()> {
    let [port, controller_port, more @ ..] = ports else { bail!("two ports at least") };
    let more = listeners.iter().zip(more);
    let more: String = more.map(|(name, port)| format!(",{name}://localhost:{port}")).collect();
    let spoken: String = listeners.iter().map(|name| format!(",{name}:{name}")).collect();
    let log_dir: PathBuf = dir.join("data");
    let mut file = File::create(file)?;
    writeln!(
        file,
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{spoken}\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0",
        log_dir.display()
    )?;
    for setting in settings {
        ensure!(setting.contains('='), "{setting} is no setting");
        writeln!(file, "{setting}")?;
    }
    Ok(())
}
