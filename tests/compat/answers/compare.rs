//! Two runs of the script, field by field, and the list of differences that may stay.
//!
//! A line of the list is a pattern, four spaces or more, and the reason. The pattern is held
//! against `API vN step: field: kafka=… ours=…`, `*` standing for anything. A difference that no
//! line names fails, and so does a line that no difference needs.
//!
//! Pure.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::script::Answer;
use super::tree::Tree;

/// A difference, and in which versions it is seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    api: String,
    step: String,
    field: String,
    kafka: String,
    ours: String,
}

/// Lists whose order is that of one of Kafka's hash maps, by their API.
const UNORDERED: [(&str, &str); 31] = [
    ("AddPartitionsToTxn", "results_by_partition"),
    ("AddPartitionsToTxn", "results_by_topic_v3_and_below"),
    ("AddPartitionsToTxn", "topic_results"),
    ("AlterUserScramCredentials", "results"),
    ("ApiVersions", "finalized_features"),
    ("ApiVersions", "supported_features"),
    ("ConsumerGroupDescribe", "groups"),
    ("CreateTopics", "topics"),
    ("DeleteAcls", "matching_acls"),
    ("DeleteGroups", "results"),
    ("DeleteRecords", "partitions"),
    ("DeleteTopics", "responses"),
    ("DescribeAcls", "resources"),
    ("DescribeClientQuotas", "entries"),
    ("DescribeConfigs", "configs"),
    ("DescribeGroups", "groups"),
    ("DescribeGroups", "members"),
    ("DescribeLogDirs", "partitions"),
    ("DescribeLogDirs", "topics"),
    ("DescribeUserScramCredentials", "credential_infos"),
    ("DescribeUserScramCredentials", "results"),
    ("ElectLeaders", "replica_election_results"),
    ("JoinGroup", "members"),
    ("ListConfigResources", "config_resources"),
    ("ListGroups", "groups"),
    ("ListTransactions", "transaction_states"),
    ("Metadata", "topics"),
    ("Produce", "partition_responses"),
    ("Produce", "responses"),
    ("TxnOffsetCommit", "partitions"),
    ("UpdateFeatures", "results"),
];

fn is_unordered(api: &str, difference: &str) -> bool {
    let list = difference.strip_suffix(": order").and_then(|path| path.rsplit('.').next());
    list.is_some_and(|list| UNORDERED.contains(&(api, list)))
}

/// Longest text of a value in a difference.
const TEXT_MAX: usize = 300;

/// What differs between the answers to the same questions, one line each.
pub(super) fn differences(kafka: &[Answer], ours: &[Answer]) -> anyhow::Result<Vec<String>> {
    let mut order: Vec<Difference> = Vec::new();
    let mut versions: BTreeMap<Difference, Vec<i16>> = BTreeMap::new();
    for (theirs, ours) in kafka.iter().zip(ours) {
        let question = |it: &Answer| format!("{} v{} {}", it.api, it.version, it.step);
        ensure!(question(theirs) == question(ours), "{} / {}", question(theirs), question(ours));
        let mut found = Vec::new();
        compare("", &theirs.tree, &ours.tree, &mut found);
        for (field, kafka, own) in found {
            if is_unordered(&ours.api, &field) {
                continue;
            }
            let (api, step) = (ours.api.clone(), ours.step.clone());
            let difference = Difference { api, step, field, kafka, ours: own };
            let seen = versions.entry(difference.clone()).or_default();
            if seen.is_empty() {
                order.push(difference);
            }
            if !seen.contains(&ours.version) {
                seen.push(ours.version);
            }
        }
    }
    ensure!(kafka.len() == ours.len(), "{} and {} answers", kafka.len(), ours.len());
    let line = |it: &Difference| {
        let Difference { api, step, field, kafka, ours } = it;
        let versions = ranges(&versions[it]);
        format!("{api} v{versions} {step}: {field}: kafka={} ours={}", cut(kafka), cut(ours))
    };
    Ok(order.iter().map(line).collect())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `0-3,5`.
fn ranges(versions: &[i16]) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut rest = versions.to_vec();
    rest.sort_unstable();
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(version, want)| *version == want).count();
        let last = rest[run - 1];
        texts.push(if run == 1 { first.to_string() } else { format!("{first}-{last}") });
        rest.drain(..run);
    }
    texts.join(",")
}

fn compare(path: &str, kafka: &Tree, ours: &Tree, found: &mut Vec<(String, String, String)>) {
    match (kafka, ours) {
        (Tree::Fields(theirs), Tree::Fields(own)) if theirs.len() == own.len() => {
            for ((name, kafka), (_, ours)) in theirs.iter().zip(own) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, kafka, ours, found);
            }
        }
        (Tree::List(theirs), Tree::List(own))
            if theirs.iter().chain(own).all(|it| matches!(it, Tree::Fields(_))) =>
        {
            compare_lists(path, &keyed(theirs), &keyed(own), found);
        }
        (kafka, ours) if kafka == ours => {}
        (kafka, ours) => found.push((path.to_owned(), kafka.to_string(), ours.to_string())),
    }
}

/// Elements by what tells them apart; by number where several share that.
fn keyed(elements: &[Tree]) -> Vec<(String, &Tree)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut with_key = |element: &Tree| {
        let key = element.key().unwrap_or_default();
        let count = seen.entry(key.clone()).or_default();
        *count += 1;
        if *count == 1 && !key.is_empty() { key } else { format!("{key}#{count}") }
    };
    elements.iter().map(|it| (with_key(it), it)).collect()
}

fn compare_lists(
    path: &str,
    kafka: &[(String, &Tree)],
    ours: &[(String, &Tree)],
    found: &mut Vec<(String, String, String)>,
) {
    let has = |side: &[(String, &Tree)], key: &str| side.iter().any(|(it, _)| it == key);
    for (key, theirs) in kafka {
        let path = format!("{path}[{}]", key.trim_matches('"'));
        match ours.iter().find(|(it, _)| it == key) {
            Some((_, ours)) => compare(&path, theirs, ours, found),
            None => found.push((path, theirs.to_string(), "absent".to_owned())),
        }
    }
    for (key, own) in ours.iter().filter(|(key, _)| !has(kafka, key)) {
        let path = format!("{path}[{}]", key.trim_matches('"'));
        found.push((path, "absent".to_owned(), own.to_string()));
    }
    let common = |side: &[(String, &Tree)], other: &[(String, &Tree)]| {
        let keys = side.iter().map(|(key, _)| key.clone());
        keys.filter(|key| has(other, key)).collect::<Vec<_>>().join(" ")
    };
    let (theirs, own) = (common(kafka, ours), common(ours, kafka));
    if theirs != own {
        found.push((format!("{path}: order"), theirs, own));
    }
}

/// The list of differences that may stay.
pub(super) struct Allowed<'a> {
    lines: Vec<(&'a str, usize)>,
}

impl<'a> Allowed<'a> {
    pub(super) fn parse(text: &'a str) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (pattern, reason) = line.split_once("    ").with_context(|| line.to_owned())?;
            ensure!(!reason.trim().is_empty(), "no reason: {line}");
            lines.push((pattern, 0));
        }
        Ok(Self { lines })
    }

    /// Whether a line of the list names `difference`.
    pub(super) fn has(&mut self, difference: &str) -> bool {
        let named = self.lines.iter_mut().find(|(pattern, _)| fits(pattern, difference));
        named.map(|(_, uses)| *uses += 1).is_some()
    }

    /// Lines that nothing needed.
    pub(super) fn idle(&self) -> Vec<&'a str> {
        self.lines.iter().filter(|(_, uses)| *uses == 0).map(|(pattern, _)| *pattern).collect()
    }
}

/// Whether `pattern`, in which `*` stands for anything, is all of `text`.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, text) in [("a", "a"), ("*", "abc"), ("a*c", "abc"), ("a*b*c", "axbxbc")] {
        assert!(fits(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a*c", "ab"), ("*b", "ba"), ("a*a", "a")] {
        assert!(!fits(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn fields_lists_and_their_order_are_compared_and_lines_that_nothing_needs_are_found() {
    let answer = |tree: &str| Answer {
        api: "Api".to_owned(),
        version: 0,
        step: "step".to_owned(),
        tree: Tree::parse(tree),
    };
    let kafka = answer(r#"R { a: [T { name: "x", n: 1 }, T { name: "y", n: 2 }], b: Some("") }"#);
    let ours = answer(r#"R { a: [T { name: "y", n: 3 }, T { name: "x", n: 1 }], b: None }"#);
    let found = differences(std::slice::from_ref(&kafka), &[ours]).unwrap();
    let want = [
        "Api v0 step: a[y].n: kafka=2 ours=3",
        "Api v0 step: a: order: kafka=\"x\" \"y\" ours=\"y\" \"x\"",
        "Api v0 step: b: kafka=\"\" ours=None",
    ];
    assert_eq!(found, want);
    assert!(
        differences(std::slice::from_ref(&kafka), std::slice::from_ref(&kafka)).unwrap().is_empty()
    );
    let mut allowed = Allowed::parse("Api v* step: a*    reason\nApi v9*    reason\n").unwrap();
    assert!(allowed.has(want[0]));
    assert!(!allowed.has(want[2]));
    assert_eq!(allowed.idle(), ["Api v9*"]);
}
