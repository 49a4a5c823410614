//! The line of settings in which Kafka's users write down names and passwords.
//!
//! `org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b";`
//! names a module, a word without meaning here, and options. A module is a word and no more: the
//! three that have a meaning are known by name, and nothing is ever loaded (CVE-2023-25194). Pure.

use std::collections::BTreeMap;

use super::Mechanism;
use crate::secret::Secret;
use crate::security::store::{Given, Pem, StoreError};

/// A line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jaas {
    /// Which module it names.
    pub module: Module,
    options: BTreeMap<String, Secret>,
}

/// The modules that have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// Names and passwords, for PLAIN.
    Plain,
    /// A name and a password, for SCRAM.
    Scram,
    /// Tokens.
    OAuthBearer,
}

impl Module {
    fn from_class(class: &str) -> Option<Self> {
        match class {
            "org.apache.kafka.common.security.plain.PlainLoginModule" => Some(Self::Plain),
            "org.apache.kafka.common.security.scram.ScramLoginModule" => Some(Self::Scram),
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule" => {
                Some(Self::OAuthBearer)
            }
            _ => None,
        }
    }

    /// True when it is for `mechanism`.
    #[must_use]
    pub fn is_for(self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain => self == Self::Plain,
            Mechanism::Scram(_) => self == Self::Scram,
            Mechanism::OAuthBearer => self == Self::OAuthBearer,
        }
    }
}

/// Why a line cannot be read. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JaasError {
    /// The module is none of the three.
    #[error(
        "the login module is not known: PlainLoginModule, ScramLoginModule and \
         OAuthBearerLoginModule of Kafka's are"
    )]
    UnknownModule,
    /// The word after the module is missing.
    #[error("expected required, requisite, sufficient or optional after the login module")]
    NoFlag,
    /// Something is no option.
    #[error("expected options as name=\"value\"")]
    NoOption,
    /// An option is given twice.
    #[error("an option is given twice")]
    Twice,
    /// The end is missing, or something comes after it.
    #[error("expected one login module, and a semicolon at its end")]
    NoEnd,
}

impl Jaas {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, JaasError> {
        let mut words = Words { rest: text };
        let class = words.word().ok_or(JaasError::UnknownModule)?;
        let module = Module::from_class(class).ok_or(JaasError::UnknownModule)?;
        let flag = words.word().unwrap_or_default().to_ascii_lowercase();
        if !matches!(flag.as_str(), "required" | "requisite" | "sufficient" | "optional") {
            return Err(JaasError::NoFlag);
        }
        let mut options = BTreeMap::new();
        while !words.take(';') {
            if words.rest.is_empty() {
                return Err(JaasError::NoEnd);
            }
            let name = words.word().filter(|name| !name.is_empty()).ok_or(JaasError::NoOption)?;
            if !words.take('=') {
                return Err(JaasError::NoOption);
            }
            let value = words.value().ok_or(JaasError::NoOption)?;
            if options.insert(name.to_owned(), Secret::new(value)).is_some() {
                return Err(JaasError::Twice);
            }
        }
        words.skip_space();
        if words.rest.is_empty() { Ok(Self { module, options }) } else { Err(JaasError::NoEnd) }
    }

    /// The option of this name.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&Secret> {
        self.options.get(name)
    }

    /// The roots of the certificate of whoever issues tokens, or tells the keys of them: the
    /// options `ssl.truststore.location` or `ssl.truststore.certificates`. `None`: there are none.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn roots(&self) -> Result<Option<Pem>, StoreError> {
        let text = |name: &str| self.option(name).map(Secret::expose);
        let given = Given {
            kind: text("ssl.truststore.type").unwrap_or("PEM"),
            location: text("ssl.truststore.location"),
            certificates: self.option("ssl.truststore.certificates"),
            key: None,
            has_password: self.option("ssl.truststore.password").is_some(),
        };
        given.roots()
    }

    /// The names of all users, with their passwords: options of the form `user_NAME`.
    pub fn users(&self) -> impl Iterator<Item = (&str, &Secret)> {
        let users = self.options.iter();
        users.filter_map(|(name, password)| Some((name.strip_prefix("user_")?, password)))
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let taken = self.rest.strip_prefix(wanted);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    /// All up to a space, an equals sign or a semicolon.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let is_end = |it: char| it.is_whitespace() || matches!(it, '=' | ';' | '"');
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// A word, or a text in quotation marks in which a backslash takes the next character as it is.
    fn value(&mut self) -> Option<String> {
        if !self.take('"') {
            return self.word().map(str::to_owned);
        }
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, it)) = chars.next() {
            match it {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

    #[test]
    fn a_line_of_kafkas_documentation_is_read() {
        let text = format!(
            "  {PLAIN} required\n  username=\"admin\" password=\"admin-\\\"secret\"\n\
             user_admin=\"a;b=c\" user_älice = plain ; "
        );
        let jaas = Jaas::parse(&text).unwrap();
        assert_eq!(jaas.module, Module::Plain);
        assert_eq!(jaas.option("password").unwrap().expose(), "admin-\"secret");
        let users: Vec<_> = jaas.users().map(|(name, it)| (name, it.expose())).collect();
        assert_eq!(users, [("admin", "a;b=c"), ("älice", "plain")]);
        assert!(!format!("{jaas:?}").contains("secret"));
    }

    #[test]
    fn the_roots_of_who_issues_tokens_stand_in_the_line() {
        let class = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
        let roots =
            |options: &str| Jaas::parse(&format!("{class} required {options};")).unwrap().roots();
        assert_eq!(roots("clientId=\"a\""), Ok(None));
        let file = Pem::File("/ca.pem".into());
        assert_eq!(roots("ssl.truststore.location=\"/ca.pem\""), Ok(Some(file)));
        let jks = "ssl.truststore.location=\"/ca.jks\" ssl.truststore.type=\"JKS\"";
        assert_eq!(roots(jks), Err(StoreError::NoPem));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for (text, want) in [
            ("", JaasError::UnknownModule),
            ("com.sun.security.auth.module.JndiLoginModule required;", JaasError::UnknownModule),
            (&format!("{PLAIN};"), JaasError::NoFlag),
            (&format!("{PLAIN} a=b;"), JaasError::NoFlag),
            (&format!("{PLAIN} required"), JaasError::NoEnd),
            (&format!("{PLAIN} required a=\"b\""), JaasError::NoEnd),
            (&format!("{PLAIN} required a=\"b\"; {PLAIN} required;"), JaasError::NoEnd),
            (&format!("{PLAIN} required a;"), JaasError::NoOption),
            (&format!("{PLAIN} required a=;"), JaasError::NoOption),
            (&format!("{PLAIN} required a=\"b;"), JaasError::NoOption),
            (&format!("{PLAIN} required a=b a=c;"), JaasError::Twice),
        ] {
            assert_eq!(Jaas::parse(text), Err(want), "{text}");
        }
    }
}
