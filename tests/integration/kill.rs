//! `log_lake` killed at random moments loses nothing and repeats nothing.
//!
//! Shell.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::process::{binary, output, python};
use protocol::rng::Rng;

/// Kills before the run that may finish.
const KILLS: usize = 10;
const FILES: usize = 6;
/// Lines of each file, written in two halves: before the first run and in the middle of them.
const LINES: usize = 20_000;

fn write_half(dir: &Path, half: usize) -> anyhow::Result<()> {
    for file in 0..FILES {
        let path = dir.join(format!("app-{file}.log"));
        let mut text = String::new();
        for line in half * LINES / 2..(half + 1) * LINES / 2 {
            let at = 1_763_700_000 + line;
            text += &format!("{{\"ts\":{at},\"level\":\"info\",\"msg\":\"{file}-{line}\"}}\n");
        }
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened?.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn start(root: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(binary("log_lake")?);
    command.arg(root.join("logs")).arg("--lake").arg(root.join("lake"));
    command.arg("--data-dir").arg(root.join("data"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("log_lake")
}

/// Rows of the lake by their message, read by somebody else.
fn rows(root: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let program = "import sys, collections, json, pyarrow.dataset as d\n\
        t = d.dataset(sys.argv[1], partitioning='hive').to_table(columns=['message'])\n\
        print(json.dumps(collections.Counter(t['message'].to_pylist())))";
    let lake = root.join("lake/logs.parsed");
    let said = output(Command::new(python()?).arg("-c").arg(program).arg(lake))?;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn log_lake_killed_ten_times_has_every_line_once() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    std::fs::create_dir(root.path().join("logs"))?;
    write_half(&root.path().join("logs"), 0)?;
    let mut rng = Rng::new(std::process::id().into());
    for kill in 0..KILLS {
        let mut child = start(root.path())?;
        // Not a wait for something: the moment of the kill is what is drawn here.
        let moment = Duration::from_millis(50 + rng.below(1500));
        let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let _ = ended.recv_timeout(moment);
        drop(done);
        child.kill().context("kill -9")?;
        child.wait()?;
        if kill == KILLS / 2 {
            write_half(&root.path().join("logs"), 1)?;
        }
    }
    let status = start(root.path())?.wait()?;
    ensure!(status.success(), "the last run ended with {status}");
    let rows = rows(root.path())?;
    let wrong: Vec<_> = (0..FILES)
        .flat_map(|file| (0..LINES).map(move |line| format!("{file}-{line}")))
        .map(|message| (rows.get(&message).copied().unwrap_or(0), message))
        .filter(|(count, _)| *count != 1)
        .take(10)
        .collect();
    ensure!(wrong.is_empty(), "rows that are not there once: {wrong:?}");
    ensure!(rows.len() == FILES * LINES, "{} rows of {}", rows.len(), FILES * LINES);
    Ok(())
}
