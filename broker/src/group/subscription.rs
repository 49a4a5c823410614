//! What members of consumer groups subscribe to, looked up in the metadata.
//!
//! Regular expressions have RE2's syntax and match a topic's whole name; internal topics are never
//! matched. Compiling is bounded in memory and nesting, and matching is linear, so that no
//! expression can hurt the coordinator. The hash tells whether anything that an assignment depends
//! on has changed: a topic came, went, was made anew, or grew.
//!
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::assignor::Partitions;
use crate::limits::{PATTERN_BYTES_MAX, PATTERN_LENGTH_MAX, PATTERN_NESTING_MAX};
use crate::metadata::Image;

/// How much of an expression that is too long an error repeats, in characters.
const PATTERN_SHOWN: usize = 64;

/// A regular expression is not one, or is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("regular expression {pattern:?}: {reason}")]
pub struct PatternError {
    /// The expression.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads an expression that must match whole names.
///
/// # Errors
/// When it is not one, or is too large.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let refused = |error: &regex::Error| {
        // The reason is on the last line; above it the expression is drawn.
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_owned();
        PatternError { pattern: pattern.to_owned(), reason }
    };
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .nest_limit(PATTERN_NESTING_MAX)
            .build()
    };
    if PATTERN_LENGTH_MAX < pattern.len() {
        let pattern = pattern.chars().take(PATTERN_SHOWN).collect();
        let reason = format!("is longer than {PATTERN_LENGTH_MAX} bytes");
        return Err(PatternError { pattern, reason });
    }
    // Alone first: `a)(b` must not become one by what is put around it.
    build(pattern).map_err(|error| refused(&error))?;
    build(&format!(r"\A(?:{pattern})\z")).map_err(|error| refused(&error))
}

/// The names that `pattern` matches.
#[must_use]
pub fn matching(pattern: &Regex, image: &Image) -> BTreeSet<Arc<str>> {
    let topics = image.topics().filter(|it| !it.is_internal() && pattern.is_match(&it.name));
    topics.map(|it| Arc::clone(&it.name)).collect()
}

/// Those of the topics of these names that exist, with how many partitions they have.
#[must_use]
pub fn partitions<'a>(names: impl IntoIterator<Item = &'a Arc<str>>, image: &Image) -> Partitions {
    let known = names.into_iter().filter_map(|name| image.topic(name));
    known.map(|topic| (topic.id, topic.partition_count())).collect()
}

/// A hash over what the target depends on; 0 when nobody wants anything that exists.
#[must_use]
pub fn hash(partitions: &Partitions) -> i64 {
    /// FNV-1a's.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    if partitions.is_empty() {
        return 0;
    }
    let mut hash = BASIS;
    for (topic, count) in partitions {
        for byte in topic.0.iter().copied().chain(count.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use protocol::ids::TopicId;

    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        for (pattern, name, want) in [
            ("orders", "orders", true),
            ("orders", "orders-2", false),
            ("orders.*", "orders-2", true),
            ("a|b", "ab", false),
            ("a|b", "b", true),
            ("(?i)ORDERS", "orders", true),
            (r"\d+", "12", true),
            (r"\p{L}+", "straße", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        for pattern in ["(", "a)(b", "[", "*", r"(\w)\1", "(?=a)b", "(((((.{1000}){1000}){9}"] {
            let error = compile(pattern).unwrap_err();
            assert!(!error.reason.is_empty(), "{pattern}");
            assert_eq!(error.pattern, pattern);
        }
        let large = compile("(.{1000}){1000}").unwrap_err();
        assert!(large.reason.contains("size"), "{large}");
        let long = compile(&"a".repeat(5000)).unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
        assert!(compile(&format!("{}a{}", "(".repeat(500), ")".repeat(500))).is_err());
    }

    #[test]
    fn a_topic_that_comes_grows_or_is_made_anew_changes_the_hash() {
        let of = |topics: &[(u8, i32)]| {
            hash(&topics.iter().map(|(id, count)| (TopicId([*id; 16]), *count)).collect())
        };
        let hashes = [of(&[]), of(&[(1, 1)]), of(&[(1, 2)]), of(&[(2, 1)]), of(&[(1, 1), (2, 1)])];
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
        assert_eq!(of(&[]), 0);
    }
}
