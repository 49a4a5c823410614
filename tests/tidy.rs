//! The house rules as tests: plain text scanning, each failure printing what to do instead.
//!
//! What rustc or clippy can say is said there. Here stands the rest: who may name whom, what a
//! pure file may not touch, headers, lengths, dead files, the map of KIPs, and leftovers. The
//! arrows are read from ARCHITECTURE.md, so that the document and the code cannot drift apart.
//!
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have, its tests not counted.
const FILE_LINES_MAX: usize = 600;
const CRATES: [&str; 8] =
    ["protocol", "client", "broker", "streams", "connect", "connectors", "millstream", "tests"];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The file without its `#[cfg(test)] mod tests`, which stands last.
    fn code(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// The code without comments; strings stay.
    fn bare_code(&self) -> String {
        let keep = |line: &&str| !line.trim_start().starts_with("//");
        self.code().lines().filter(keep).collect::<Vec<_>>().join("\n")
    }

    fn header(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        lines.map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join("\n")
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path.starts_with("tests/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files_below(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().expect("a named entry").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files_below(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for dir in CRATES.iter().chain(&["examples"]) {
        files_below(&root().join(dir), ".rs", &mut found);
    }
    let relative = |path: &PathBuf| {
        path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
    };
    found.iter().map(|path| Source { path: relative(path), text: read(&relative(path)) }).collect()
}

fn report(rule: &str, instead: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}\ninstead: {instead}\n  {}", offences.join("\n  "));
}

/// True when `text` declares a test of this name.
fn declares_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let named = |line: &str| {
        let rest = line.trim_start_matches("pub(super) ").trim_start_matches("async ");
        rest.strip_prefix("fn ")
            .and_then(|it| it.strip_prefix(name))
            .is_some_and(|it| it.starts_with('('))
    };
    lines.iter().enumerate().filter(|(_, line)| named(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev();
        let mut attributes =
            above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn each_pitfall_has_a_test_where_it_says() {
    let text = read("tests/PITFALLS.md");
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| what can go wrong");
    let mut offences = Vec::new();
    let mut count = 0;
    for row in text.lines().filter(is_row) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [wrong, gets, tests] = cells[..] else {
            offences.push(format!("{row}: not three cells"));
            continue;
        };
        let tests: Vec<_> = tests.split('`').filter(|it| !it.trim().is_empty()).collect();
        if wrong.is_empty() || gets.is_empty() || tests.is_empty() {
            offences.push(format!("{row}: a cell is empty"));
        }
        for test in tests {
            count += 1;
            let found = test.split_once(": ").is_some_and(|(path, name)| {
                let text = fs::read_to_string(root().join(path));
                text.is_ok_and(|text| declares_test(&text, name))
            });
            if !found {
                offences.push(test.to_owned());
            }
        }
    }
    assert!(count > 100, "the tables were read");
    report(
        "tests/PITFALLS.md names a test that is not there",
        "name the file and the test that shows it, as `path: name`",
        &offences,
    );
}

/// `==` ends at the first byte that differs, and its time tells which (CVE-2021-38153).
#[test]
fn secrets_are_compared_in_a_time_that_tells_nothing() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|it| !it.is_test()) {
        for line in source.bare_code().lines() {
            let is_comparison = line.contains("==") || line.contains("!=");
            if is_comparison && line.contains(".expose()") {
                offences.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    // Where proofs, signatures and secrets themselves are compared.
    for (path, by, count) in [
        ("protocol/src/secret.rs", "verify_slices_are_equal(", 1),
        ("protocol/src/secret.rs", "are_equal(self.0.as_bytes(), other.0.as_bytes())", 1),
        ("protocol/src/sasl/scram.rs", "are_equal(&", 2),
    ] {
        let text = read(path);
        if text.matches(by).count() < count {
            offences.push(format!("{path}: {by} is gone"));
        }
    }
    report("a secret is compared by `==`", "compare `Secret`s, or by `are_equal`", &offences);
}

#[test]
fn each_mistake_says_by_what_it_is_caught() {
    let code = read("protocol/src/mutant.rs");
    let start = code.find("pub enum Mutant {").expect("the mistakes");
    let end = start + code[start..].find("\n}").expect("its end");
    let is_variant = |line: &&str| line.ends_with(',') && !line.starts_with("//");
    let named: BTreeSet<_> = code[start..end]
        .lines()
        .map(str::trim)
        .filter(is_variant)
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect();
    let rows = table("## Mutants that the tests must catch");
    let told: BTreeSet<_> = rows.into_iter().map(|row| row[0].clone()).collect();
    let differ: Vec<_> = named.symmetric_difference(&told).cloned().collect();
    report("the table of mutants and `Mutant` differ", "give each mistake one row", &differ);
}

/// The rows of the first table below `heading` in ARCHITECTURE.md, cells trimmed of backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = read("ARCHITECTURE.md");
    let start = text.find(heading).unwrap_or_else(|| panic!("ARCHITECTURE.md has no {heading}"));
    let rows = text[start..].lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let inner = line.trim_matches('|').split('|');
        inner.map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.map(cells).collect()
}

fn names(cell: &str) -> BTreeSet<String> {
    cell.split([',', ' ']).filter(|name| !name.is_empty() && *name != "–").map(Into::into).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<String, BTreeSet<String>> =
        table("## Crates").into_iter().map(|row| (row[0].clone(), names(&row[1]))).collect();
    let mut offences = Vec::new();
    for of in CRATES {
        let manifest = read(&format!("{of}/Cargo.toml"));
        let dependencies = manifest.split("[dev-dependencies]").next().expect("a first part");
        let named = CRATES.iter().filter(|other| {
            dependencies.lines().any(|line| {
                line.starts_with(&format!("{other}.workspace"))
                    || line.starts_with(&format!("{other} ="))
            })
        });
        let lawful = allowed.get(of).unwrap_or_else(|| panic!("{of} is not in the table"));
        offences.extend(
            named.filter(|other| !lawful.contains(**other)).map(|other| format!("{of} -> {other}")),
        );
    }
    report(
        "a crate depends on one that its row of \"Crates\" does not name",
        "move the code to the crate that may, or change the table in a commit of its own",
        &offences,
    );
}

#[test]
fn the_broker_uses_of_the_client_only_its_seams() {
    let foreign = |line: &str| {
        line.match_indices("client::").any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let own = before.is_some_and(|c| c == ':' || c == '_' || c.is_alphanumeric());
            let rest = &line[at + "client::".len()..];
            !own && !rest.starts_with("net") && !rest.starts_with("time")
        })
    };
    let broker = sources().into_iter().filter(|source| source.path.starts_with("broker/src"));
    let offences: Vec<_> = broker
        .filter(|source| !source.is_test())
        .flat_map(|source| {
            let lines: Vec<_> = source.bare_code().lines().map(str::to_owned).collect();
            lines
                .into_iter()
                .filter(|line| foreign(line))
                .map(move |line| format!("{}: {}", source.path, line.trim()))
        })
        .collect();
    report(
        "the broker names more of the client than client::net and client::time",
        "speak to other brokers through client::net",
        &offences,
    );
}

#[test]
fn rooms_of_the_broker_name_only_what_their_row_allows() {
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table("## Rooms of the broker") {
        for room in names(&row[0]) {
            allowed.entry(room).or_default().extend(names(&row[1]));
        }
    }
    let mut offences = Vec::new();
    for source in sources() {
        let Some(inside) = source.path.strip_prefix("broker/src/") else { continue };
        let room = inside.split('/').next().expect("a first part").trim_end_matches(".rs");
        if source.is_test() || room == "lib" || room == "main" {
            continue;
        }
        let Some(lawful) = allowed.get(room) else {
            offences.push(format!("{}: room {room} has no row", source.path));
            continue;
        };
        for (at, _) in source.bare_code().match_indices("crate::") {
            let code = source.bare_code();
            let rest = &code[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let other = &rest[..end];
            if !other.is_empty() && other != room && !lawful.contains(other) {
                offences.push(format!("{}: {room} -> {other}", source.path));
            }
        }
    }
    offences.dedup();
    report(
        "a room names one that its row of \"Rooms of the broker\" does not allow",
        "pass the fact in as a value, or change the table in a commit of its own",
        &offences,
    );
}

#[test]
fn every_file_has_a_header_that_ends_with_its_colour() {
    let offences: Vec<_> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .filter(|source| colour(source).is_none())
        .map(|source| source.path.clone())
        .collect();
    report(
        "a file has no `//!` header, or its header does not end with its colour",
        "say in two to six sentences what the file promises; end with Pure., Disk. or Shell.",
        &offences,
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Colour {
    Pure,
    Disk,
    Shell,
}

fn colour(source: &Source) -> Option<Colour> {
    let header = source.header();
    match header.trim_end().rsplit([' ', '\n']).next()? {
        "Pure." => Some(Colour::Pure),
        "Disk." => Some(Colour::Disk),
        "Shell." => Some(Colour::Shell),
        _ => None,
    }
}

/// What neither a pure file nor one that knows the disk may hold.
const IMPURE: [&str; 12] = [
    "async fn",
    ".await",
    "tokio::",
    "std::net",
    "std::thread",
    "std::fs",
    "Instant::now",
    "SystemTime",
    "Mutex<",
    "HashMap",
    "HashSet",
    "rand::",
];

#[test]
fn pure_files_touch_no_clock_no_chance_and_no_world() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let lawful: &[&str] = match colour(source) {
            Some(Colour::Pure) => &[],
            // The disk's own seam is where the real file system enters.
            Some(Colour::Disk) => &["std::fs", "Mutex<"],
            Some(Colour::Shell) | None => continue,
        };
        // The streams' stores hash with a fixed seed and are never iterated in hash order.
        let hashes = source.bare_code().contains("hashbrown");
        for word in IMPURE {
            let excused = lawful.contains(&word) || (hashes && word.starts_with("Hash"));
            if !excused && source.bare_code().contains(word) {
                offences.push(format!("{}: {word}", source.path));
            }
        }
    }
    report(
        "a pure file reaches for the world",
        "take time as `Now`, chance as `Rng`, and let the shell act; or call the file a shell",
        &offences,
    );
}

#[test]
fn no_file_is_longer_than_one_can_read_at_a_sitting() {
    let offences: Vec<_> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.code().lines().count(), &source.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    report(
        "a file is longer than 600 lines, tests not counted",
        "split it where a name arises",
        &offences,
    );
}

#[test]
fn choices_are_made_in_order() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        let code = source.bare_code();
        for (at, _) in code.match_indices("select! {") {
            if !code[at..].trim_start_matches("select! {").trim_start().starts_with("biased;") {
                offences.push(source.path.clone());
            }
        }
    }
    report(
        "a select! without `biased;`: its choice is random, and a simulation could not repeat it",
        "write `biased;` first and put the arms in the order that matters",
        &offences,
    );
}

#[test]
fn nothing_unfinished_is_left_lying() {
    let words = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for word in words {
            if source.text.contains(word) {
                offences.push(format!("{}: {word}", source.path));
            }
        }
    }
    report("something unfinished was left", "finish it or take it out", &offences);
}

#[test]
fn every_file_is_part_of_the_program() {
    let all = sources();
    let mut offences = Vec::new();
    for source in &all {
        let path = Path::new(&source.path);
        let stem = path.file_stem().expect("a file").to_string_lossy();
        let dir = path.parent().expect("a directory");
        let is_root = ["lib", "main"].contains(&stem.as_ref());
        if !source.path.contains("/src/") || is_root || source.is_test() {
            continue;
        }
        let (name, home) = if stem == "mod" {
            (dir.file_name().expect("a room").to_string_lossy(), dir.parent().expect("a parent"))
        } else {
            (stem, dir)
        };
        let parents = [
            home.join("mod.rs"),
            home.join("lib.rs"),
            home.join("main.rs"),
            home.with_extension("rs"),
        ];
        let declared = all.iter().any(|other| {
            parents.iter().any(|parent| parent == Path::new(&other.path))
                && other.text.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
        });
        if !declared {
            offences.push(source.path.clone());
        }
    }
    report("a file that no `mod` declares", "declare it or delete it", &offences);
}

fn kips(text: &str) -> BTreeSet<u32> {
    let numbers = text.match_indices("KIP-").filter_map(|(at, _)| {
        let digits: String = text[at + 4..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.collect()
}

#[test]
fn the_map_of_kips_and_the_code_agree() {
    let architecture = read("ARCHITECTURE.md");
    let start = architecture.find("## KIP map").expect("ARCHITECTURE.md has a KIP map");
    let end =
        architecture[start + 3..].find("\n## ").map_or(architecture.len(), |at| start + 3 + at);
    let mapped = kips(&architecture[start..end]);
    let code: BTreeSet<u32> = sources()
        .iter()
        .filter(|source| source.path != "tests/tidy.rs")
        .flat_map(|source| kips(&source.text))
        .collect();
    let missing = code.difference(&mapped).map(|kip| format!("KIP-{kip} is in the code only"));
    let stale = mapped.difference(&code).map(|kip| format!("KIP-{kip} is in the map only"));
    report(
        "the KIP map in ARCHITECTURE.md and the code differ",
        "give each KIP that the code cites one row, and take out rows that nothing cites",
        &missing.chain(stale).collect::<Vec<_>>(),
    );
}

#[test]
fn dependencies_are_pinned_with_a_reason_and_none_wraps_librdkafka() {
    let manifest = read("Cargo.toml");
    let start = manifest.find("[workspace.dependencies]").expect("the section");
    let end = manifest[start + 1..].find("\n[").map_or(manifest.len(), |at| start + 1 + at);
    let foreign = manifest[start..end]
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#') && !line.contains("path ="));
    let mut offences: Vec<String> = foreign
        .filter(|line| !line.contains("\"=") || !line.contains(" # "))
        .filter(|line| !line.starts_with("kafka-wire-core"))
        .map(Into::into)
        .collect();
    let mut manifests = Vec::new();
    files_below(&root(), "Cargo.toml", &mut manifests);
    for path in manifests {
        let text = fs::read_to_string(&path).expect("a readable manifest");
        if text.contains("rdkafka") {
            offences.push(format!("{}: rdkafka", path.display()));
        }
    }
    report("a dependency is not pinned, or gives no reason", "`=` and a `# reason`", &offences);
}

#[test]
fn documents_have_one_title() {
    let mut found = Vec::new();
    files_below(&root(), ".md", &mut found);
    let mut offences = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).expect("a readable document");
        let mut fenced = false;
        let titles = text.lines().filter(|line| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with("# ")
        });
        if titles.count() != 1 {
            offences.push(path.display().to_string());
        }
    }
    report("a document without exactly one title", "one `# ` per file", &offences);
}
