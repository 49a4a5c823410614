//! `millstream broker`: runs a broker until it is asked to end.
//!
//! Settings come from a file, then from --data-dir and --listen, then from --set: what is named
//! later holds. The first line on stdout names where it listens, as soon as it does. Shell.

mod check;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use broker::config::{BrokerConfig, ListenerSettings};
use broker::{Broker, BrokerHandle, Outside};

use tracing::warn;

use super::advice::Problem;
use super::output::{Cell, Format, Sheet};
use super::{output, settings_file, values};
use check::{CertificateFact, Facts, FileFact};

/// Run a broker. Without options it keeps its data in ./data and listens on localhost:9092.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A file of settings by their Kafka names: TOML when it ends in .toml, else as Kafka's
    /// server.properties. Default: none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the data lie; created if missing. Default: ./data, or log.dir of the file.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen. Port 0 takes a free one; the line that says "broker started" names it.
    /// Default: localhost:9092, or listeners of the file.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// A setting by its Kafka name, over those of the file; may be given often.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    set: Vec<(String, String)>,
    /// Print every setting with its default, range and meaning, and end.
    #[arg(long)]
    settings: bool,
    /// Tell which doors the settings and the files that they name leave open, with what to do, and
    /// end: with 0 when there is none, 1 when there are some.
    #[arg(long)]
    check: bool,
    /// How --check tells it.
    #[arg(long, value_enum, default_value_t, requires = "check")]
    output: Format,
}

/// Runs the broker.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.settings {
        output::write(&format!("{}\n", protocol::config::markdown(BrokerConfig::DEFS)))?;
        return Ok(());
    }
    let file = match &arguments.config {
        Some(path) => {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.with_context(|| path.display().to_string())?;
            let read = settings_file::read(path, &text);
            read.map_err(|error| Problem::usage(format!("{}: {error}", path.display())))?
        }
        None => Vec::new(),
    };
    let [in_file, in_arguments] = [&file, &arguments.set].map(|pairs| secrets(pairs));
    let config = BrokerConfig::from_pairs(pairs(&arguments, file));
    let config = config.map_err(|errors| Problem::usage(format!("the settings:\n{errors}")))?;
    if arguments.check {
        return tell_findings(
            &config,
            &facts(&config, arguments.config.as_deref(), (in_file, in_arguments)),
            arguments.output,
        );
    }
    for name in in_arguments {
        warn!(name, "given as an argument: {}", check::SEEN_BY_ALL);
    }
    let data_dir = config.data_dir();
    let node_id = config.node_id;
    let handle = Broker::start(config, Outside::real()).await.context("the broker")?;
    // Whoever started us may have stopped listening after the first line: that is no failure.
    let _ = output::write(&greeting(&handle, &data_dir, node_id));
    tokio::select! {
        biased;
        asked = super::asked_to_end() => asked?,
        () = handle.closed() => {}
    }
    handle.shutdown().await.context("shutdown")
}

/// The names of those whose values nobody is to see.
fn secrets(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().map(|(name, _)| name).filter(|name| is_secret(name)).cloned().collect()
}

/// True for the name of a setting whose value nobody is to see.
fn is_secret(name: &str) -> bool {
    let own = name.strip_prefix("listener.name.");
    let is_sensitive = |name: &str| {
        protocol::config::find(BrokerConfig::DEFS, name).is_some_and(|def| def.is_sensitive())
    };
    match own {
        None => is_sensitive(name),
        // The listener's and the mechanism's names stand before it.
        Some(rest) => rest.match_indices('.').any(|(at, _)| is_sensitive(&rest[at + 1..])),
    }
}

/// What is known of the files that the settings name, and of that which they stand in.
fn facts(
    config: &BrokerConfig,
    settings: Option<&Path>,
    (in_file, in_arguments): (Vec<String>, Vec<String>),
) -> Facts {
    let file = |path: &Path| {
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        Some(FileFact { path: path.display().to_string(), mode })
    };
    let files =
        |paths: Vec<String>| paths.iter().filter_map(|path| file(Path::new(path))).collect();
    let certificate = |(listener, settings): (String, ListenerSettings)| {
        let tls = settings.tls.expect("of those that are encrypted");
        let shown = client::net::tls::identity(&tls.identity).map_err(|error| error.to_string());
        let expires = shown.and_then(|(chain, _)| {
            let times = chain.iter().map(|it| broker::auth::expires_at(it));
            let first = times.min().flatten();
            first.ok_or_else(|| "the end of its certificate's time cannot be read".to_owned())
        });
        CertificateFact { listener, expires }
    };
    Facts {
        now: client::time::real_clock().now().wall,
        settings: settings.and_then(|path| Some((file(path)?, in_file))),
        arguments: in_arguments,
        data: file(&config.data_dir()),
        keys: files(check::key_files(config)),
        issuers: files(check::issuer_files(config)),
        certificates: check::encrypted(config).into_iter().map(certificate).collect(),
    }
}

fn tell_findings(config: &BrokerConfig, facts: &Facts, format: Format) -> anyhow::Result<()> {
    let found = check::findings(config, facts);
    match format {
        Format::Json => {
            let mut sheet = Sheet::new(&["kind", "subject", "found", "advice"]);
            for it in &found {
                let cells = [it.kind, &it.subject, &it.found, &it.advice];
                sheet.push(cells.map(Cell::text).to_vec());
            }
            output::print(format, &sheet)?;
        }
        Format::Table if found.is_empty() => output::write("no door is open\n")?,
        Format::Table => {
            let told = found.iter().map(|it| {
                format!("{}: {} ({})\n    {}\n", it.subject, it.found, it.kind, it.advice)
            });
            output::write(&told.collect::<String>())?;
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Problem::Open { doors: found.len() }.into()) }
}

/// All settings that are given, the later of equal names to hold.
fn pairs(arguments: &Arguments, file: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut given = Vec::new();
    if let Some(dir) = &arguments.data_dir {
        given.push(("log.dir".to_owned(), dir.display().to_string()));
    }
    if let Some(listen) = &arguments.listen {
        given.push(("listeners".to_owned(), format!("PLAINTEXT://{listen}")));
    }
    given.extend(arguments.set.iter().cloned());
    // log.dirs is stronger than log.dir: that of the file must not beat that of the command line.
    let is_placed = given.iter().any(|(name, _)| name == "log.dir");
    let mut pairs = file;
    pairs.retain(|(name, _)| !(is_placed && name == "log.dirs"));
    pairs.extend(given);
    pairs
}

/// What is printed once the broker runs: a line for programs, then what people want to know.
fn greeting(handle: &BrokerHandle, data_dir: &Path, node_id: i32) -> String {
    let mut text = String::new();
    for endpoint in handle.endpoints() {
        text.push_str(&format!("broker started: {endpoint}\n"));
    }
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let facts = [
        ("version", format!("millstream {}", env!("CARGO_PKG_VERSION"))),
        ("cluster id", handle.cluster_id().to_string()),
        ("node id", node_id.to_string()),
        ("data", data_dir.display().to_string()),
    ];
    for (name, value) in facts {
        text.push_str(&format!("  {name:<12}{value}\n"));
    }
    if let Some(endpoint) = handle.metrics_endpoint() {
        let server = reachable(endpoint);
        text.push_str(&format!("  {:<12}http://{server}/metrics\n", "metrics"));
    }
    if let Some(endpoint) = handle.endpoints().first() {
        let server = reachable(endpoint);
        text.push_str(&format!(
            "  {:<12}millstream topic list --bootstrap-server {server}\n  {:<12}kcat -L -b {server}\n",
            "connect", ""
        ));
    }
    text
}

/// What a client on this machine connects to.
fn reachable(endpoint: &client::net::Endpoint) -> String {
    match &*endpoint.host {
        "" | "::" | "0.0.0.0" => format!("localhost:{}", endpoint.port),
        _ => endpoint.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            config: None,
            data_dir: None,
            listen: None,
            set: Vec::new(),
            settings: false,
            check: false,
            output: Format::default(),
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_set_on_the_command_line_wins_over_the_file() {
        let file = vec![
            pair("num.partitions", "3"),
            pair("node.id", "7"),
            pair("log.dirs", "/var/lib/kafka"),
        ];
        let arguments = Arguments {
            data_dir: Some("/srv/data".into()),
            set: vec![pair("num.partitions", "5")],
            ..arguments()
        };
        let config = BrokerConfig::from_pairs(pairs(&arguments, file)).unwrap();
        assert_eq!((config.num_partitions, config.node_id), (5, 7));
        assert_eq!(config.data_dir(), PathBuf::from("/srv/data"));
    }

    #[test]
    fn a_misspelt_setting_is_refused_with_the_one_that_was_meant() {
        let arguments = Arguments { set: vec![pair("num.partitons", "5")], ..arguments() };
        let errors = BrokerConfig::from_pairs(pairs(&arguments, Vec::new())).unwrap_err();
        assert!(errors.to_string().contains("did you mean num.partitions?"), "{errors}");
    }

    #[test]
    fn secrets_are_known_by_their_names_also_those_of_one_listener() {
        for (name, want) in [
            ("initial.scram.credentials", true),
            ("metrics.bearer.token", true),
            ("listener.name.sasl_ssl.plain.sasl.jaas.config", true),
            ("listener.name.ssl.ssl.keystore.key", true),
            ("listener.name.ssl.ssl.keystore.location", false),
            ("ssl.keystore.location", false),
            ("num.partitions", false),
        ] {
            assert_eq!(is_secret(name), want, "{name}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_reached_at_localhost() {
        for (host, want) in
            [("", "localhost:1"), ("0.0.0.0", "localhost:1"), ("::1", "[::1]:1"), ("a", "a:1")]
        {
            assert_eq!(reachable(&client::net::Endpoint::new(host, 1)), want);
        }
    }
}
