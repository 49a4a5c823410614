//! From the subject of a certificate to a user's name: `ssl.principal.mapping.rules`.
//!
//! Rules are tried in order; the first whose pattern fits the whole subject decides. `DEFAULT` takes
//! the subject as it is. Patterns are of the regex crate, whose time is linear in the subject: what
//! needs more (looking ahead, references back) is refused when the settings are read. KIP-371. Pure.

use regex::{Regex, RegexBuilder};

/// The most that a compiled pattern may take, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Rules, the first that fits to decide.
#[derive(Clone, Debug)]
pub struct PrincipalRules(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    /// The subject as it is.
    Default,
    Replace {
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Kept,
    Lower,
    Upper,
}

/// Why a text is no list of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A rule is of neither form.
    #[error(
        "{0:?} is no rule: expected DEFAULT, or RULE:pattern/replacement/ with L or U after it"
    )]
    NoRule(String),
    /// A pattern is none, or needs what is not offered.
    #[error("{pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PrincipalRules {
    /// Reads rules separated by commas or line ends.
    ///
    /// # Errors
    /// When a rule is none.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (rule, left) = Rule::parse(rest)?;
            rules.push(rule);
            let left = left.trim_start_matches([' ', '\t']);
            rest = match left.strip_prefix([',', '\n']) {
                Some(left) => left.trim_start(),
                None if left.is_empty() => left,
                None => return Err(MappingError::NoRule(left.to_owned())),
            };
        }
        if rules.is_empty() {
            rules.push(Rule::Default);
        }
        Ok(Self(rules))
    }

    /// The name of the user whose certificate has this subject. `None`: no rule fits.
    #[must_use]
    pub fn name(&self, subject: &str) -> Option<String> {
        self.0.iter().find_map(|rule| rule.name(subject))
    }
}

impl Rule {
    /// The first rule of `text`, and what follows it.
    fn parse(text: &str) -> Result<(Self, &str), MappingError> {
        if let Some(rest) = text.strip_prefix("DEFAULT") {
            return Ok((Self::Default, rest));
        }
        let refuse = || MappingError::NoRule(text.to_owned());
        let rest = text.strip_prefix("RULE:").ok_or_else(refuse)?;
        let (pattern, rest) = until_slash(rest).ok_or_else(refuse)?;
        let (replacement, rest) = until_slash(rest).ok_or_else(refuse)?;
        let (case, rest) = match rest.strip_prefix('L') {
            Some(rest) => (Case::Lower, rest),
            None => match rest.strip_prefix('U') {
                Some(rest) => (Case::Upper, rest),
                None => (Case::Kept, rest),
            },
        };
        let compile = |text: &str| {
            let compiled = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
            compiled.map_err(|error| MappingError::Pattern {
                pattern: pattern.to_owned(),
                reason: error.to_string(),
            })
        };
        // Alone first: `a)|(b` must not become a pattern, of parts of the subject, by what is put
        // around it. Then the whole subject must fit, as in Kafka.
        compile(pattern)?;
        let pattern = compile(&format!("^(?:{pattern})$"))?;
        Ok((Self::Replace { pattern, replacement: expandable(replacement), case }, rest))
    }

    fn name(&self, subject: &str) -> Option<String> {
        let Self::Replace { pattern, replacement, case } = self else {
            return Some(subject.to_owned());
        };
        let captures = pattern.captures(subject)?;
        let mut name = String::new();
        captures.expand(replacement, &mut name);
        match case {
            Case::Kept => Some(name),
            Case::Lower => Some(name.to_lowercase()),
            Case::Upper => Some(name.to_uppercase()),
        }
    }
}

/// All up to a slash that no backslash precedes, and what follows it.
fn until_slash(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, it) in text.char_indices() {
        if it == '/' && !is_escaped {
            return Some((&text[..at], &text[at + 1..]));
        }
        is_escaped = it == '\\' && !is_escaped;
    }
    None
}

/// A replacement as Java writes it, `$1` for a group whatever follows, as the regex crate reads it.
fn expandable(java: &str) -> String {
    let mut text = String::new();
    let mut chars = java.chars().peekable();
    while let Some(it) = chars.next() {
        match it {
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                let digit = chars.next().unwrap_or_default();
                text.push_str(&format!("${{{digit}}}"));
            }
            '$' => text.push_str("$$"),
            '\\' => match chars.next() {
                Some('$') => text.push_str("$$"),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "CN=Duke,OU=ServiceUsers,O=Org,C=US";

    fn check(rules: &str, subject: &str, want: Option<&str>) {
        let rules = PrincipalRules::parse(rules).unwrap();
        assert_eq!(rules.name(subject).as_deref(), want);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,\
                     RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L,\
                     RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L, DEFAULT";
        check(rules, SUBJECT, Some("Duke"));
        check(rules, "CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", Some("duke@sme"));
        check(rules, "OU=SME,O=mycp,L=Fulton,ST=MD,C=US,cn=JDuke", Some("jduke"));
        check(rules, "OU=JavaUsers", Some("OU=JavaUsers"));
        check("RULE:^CN=(.*?),.*$/$1/U", SUBJECT, Some("DUKE"));
        check("RULE:^CN=(.*?),.*$/$1/U", "O=Org", None);
        check("RULE:CN=/x/", SUBJECT, None);
        check("", SUBJECT, Some(SUBJECT));
    }

    #[test]
    fn replacements_are_javas() {
        check("RULE:^CN=(.*?),OU=(.*?),.*$/$1a$2\\$$/", SUBJECT, Some("DukeaServiceUsers$$"));
        check("RULE:^CN=(a\\/b)$/$1\\/c/", "CN=a/b", Some("a/b/c"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["DEFAULTS", "RULE:a", "RULE:a/b", "RULE:a/b/X", "RULE:a/b/LU", "x,DEFAULT"] {
            let refused = PrincipalRules::parse(text);
            assert!(matches!(refused, Err(MappingError::NoRule(_))), "{text}");
        }
        // The last would be two patterns, each for one end of the subject alone.
        for text in ["RULE:(a/b/", "RULE:(?=a)b/c/", r"RULE:(a)\1/c/", "RULE:CN=a)|(?:b/c/"] {
            let refused = PrincipalRules::parse(text);
            assert!(matches!(refused, Err(MappingError::Pattern { .. })), "{text}");
        }
    }
}
