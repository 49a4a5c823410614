//! What went wrong, in words that say what to do next, and with which code to end. Pure.

use client::RequestError;
use client::net::connection::CallError;
use protocol::error_code::ErrorCode;

/// What commands find wrong by themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens there.
    #[error("no broker answers at {servers}: {reason}")]
    Unreachable {
        /// Where we asked.
        servers: String,
        /// What the network said.
        reason: String,
    },
    /// There is no such thing in the cluster.
    #[error("{kind} {name} does not exist")]
    Unknown {
        /// What it would be: topic, group, transactional id.
        kind: &'static str,
        /// Its name, as given.
        name: String,
        /// The name of the thing that was meant, perhaps.
        near: Option<String>,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {index}: it has {count}, from 0 on")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition, as given.
        index: i32,
        /// How many there are.
        count: usize,
    },
    /// What may be done to a group without members alone.
    #[error("group {group} has {count} members: its offsets can be moved when it has none")]
    HasMembers {
        /// The group.
        group: String,
        /// How many there are.
        count: usize,
    },
    /// A broker has doors that are open.
    #[error("{doors} doors are open")]
    Open {
        /// How many.
        doors: usize,
    },
    /// Some of several things could not be done.
    #[error("{failed} of {all} failed")]
    Partly {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
}

impl Problem {
    /// One of usage.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// A thing that is not among `names`.
    pub(crate) fn unknown<'a>(
        kind: &'static str,
        name: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let near = near(name, names).map(str::to_owned);
        Self::Unknown { kind, name: name.to_owned(), near }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Usage(_) => Some("for what there is, add --help".to_owned()),
            Self::Unreachable { .. } => Some(
                "start a broker: millstream broker\nor name another one: --bootstrap-server \
                 HOST:PORT, or MILLSTREAM_BOOTSTRAP in the environment"
                    .to_owned(),
            ),
            Self::Unknown { near: Some(near), .. } => Some(format!("did you mean {near}?")),
            Self::Unknown { kind, near: None, .. } => {
                let list = match *kind {
                    "topic" => "millstream topic list",
                    "group" => "millstream group list",
                    "transactional id" => "millstream txn list",
                    _ => return None,
                };
                Some(format!("those that there are: {list}"))
            }
            Self::UnknownPartition { topic, .. } => {
                Some(format!("its partitions: millstream topic describe {topic}"))
            }
            Self::HasMembers { group, .. } => Some(format!(
                "stop them first; who they are: millstream group describe {group} --members"
            )),
            Self::Partly { .. } | Self::Open { .. } => None,
        }
    }
}

/// The name nearest to `name`, unless all are far from it.
pub(crate) fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// One slip in so many characters is still the same name.
    const CHARS_PER_SLIP: usize = 3;
    let lower = name.to_lowercase();
    let distance = |it: &&str| strsim::damerau_levenshtein(&it.to_lowercase(), &lower);
    let found = names.into_iter().min_by_key(distance)?;
    (distance(&found) <= (found.chars().count() / CHARS_PER_SLIP).max(1)).then_some(found)
}

/// The causes, outermost first: the last one usually says what to do. One that repeats what was said
/// already is left out.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

/// With which code the process ends: 2 for what makes no sense, 1 for what failed.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Problem>() {
        Some(Problem::Usage(_)) => 2,
        Some(_) | None => 1,
    }
}

/// True when whoever read our output has had enough.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|it| it.downcast_ref::<std::io::Error>());
    causes.any(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
}

/// What to do about an error, where there is something.
pub(crate) fn advice(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(problem) = cause.downcast_ref::<Problem>() {
            return problem.advice();
        }
        cause.downcast_ref::<RequestError>().and_then(of_request)
    })
}

fn of_request(error: &RequestError) -> Option<String> {
    match error {
        RequestError::Call(CallError::Unsupported { .. }) => {
            Some("the broker is too old for this, or does not offer it".to_owned())
        }
        RequestError::UnknownBroker { .. } => {
            Some("those that there are: millstream cluster describe".to_owned())
        }
        RequestError::Refused { code, .. } => of_code(*code).map(str::to_owned),
        RequestError::TimedOut { last, .. } => {
            let of_last = last.as_ref().and_then(|it| of_request(it));
            of_last.or_else(|| Some("to wait longer: --request-timeout 2m".to_owned()))
        }
        RequestError::Call(_) | RequestError::Missing { .. } | RequestError::NoLeader { .. } => {
            None
        }
    }
}

fn of_code(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::TopicAlreadyExists => Some("to pass over topics that exist: --if-not-exists"),
        ErrorCode::UnknownTopicOrPartition => Some("those that there are: millstream topic list"),
        ErrorCode::InvalidReplicationFactor => {
            Some("as many as there are brokers at most: millstream cluster describe")
        }
        ErrorCode::NonEmptyGroup => {
            Some("stop its members first; who they are: millstream group describe GROUP --members")
        }
        ErrorCode::GroupSubscribedToTopic => {
            Some("a member still consumes the topic: stop it first")
        }
        ErrorCode::GroupIdNotFound => Some("those that there are: millstream group list"),
        ErrorCode::TransactionalIdNotFound => Some("those that there are: millstream txn list"),
        ErrorCode::PolicyViolation => {
            Some("see the topic's settings: millstream config describe topic NAME")
        }
        ErrorCode::InvalidConfig => {
            Some("the settings that there are: millstream config describe topic NAME --all")
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed => {
            Some("ask whoever keeps the cluster for the right to do this")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_name_that_was_meant() {
        let names = ["orders", "payments", "Shipments"];
        for (typed, want) in [
            ("ordres", Some("orders")),
            ("payment", Some("payments")),
            ("shipments", Some("Shipments")),
            ("customers", None),
            ("", None),
        ] {
            assert_eq!(near(typed, names), want, "{typed}");
        }
    }

    #[test]
    fn what_makes_no_sense_ends_with_2_and_what_failed_with_1() {
        let unknown = Problem::unknown("topic", "ordres", ["orders"]);
        assert_eq!(exit_code(&Problem::usage("no").into()), 2);
        assert_eq!(exit_code(&anyhow::Error::new(Problem::usage("no")).context("--set")), 2);
        assert_eq!(exit_code(&unknown.clone().into()), 1);
        assert_eq!(advice(&unknown.into()).as_deref(), Some("did you mean orders?"));
    }

    #[test]
    fn the_innermost_refusal_of_attempts_that_timed_out_decides_on_the_advice() {
        let code = ErrorCode::NonEmptyGroup;
        let refused = RequestError::Refused {
            api: protocol::api_key::ApiKey::DeleteGroups,
            subject: "group readers".to_owned(),
            code,
            message: None,
        };
        let last = Some(Box::new(refused));
        let timeout = std::time::Duration::from_secs(1);
        let late = RequestError::TimedOut { what: "delete group", timeout, last };
        let advice = advice(&anyhow::Error::new(late).context("group readers")).unwrap();
        assert!(advice.contains("--members"), "{advice}");
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("the disk is full")]
        struct Inner;
        #[derive(Debug, thiserror::Error)]
        #[error("orders-0: {0}")]
        struct Outer(#[source] Inner);
        let error = anyhow::Error::new(Outer(Inner)).context("line 7");
        assert_eq!(told(&error), "line 7: orders-0: the disk is full");
    }

    #[test]
    fn a_closed_pipe_is_recognised_below_other_words() {
        let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&anyhow::Error::new(error).context("printing")));
        assert!(!is_closed_pipe(&Problem::usage("no").into()));
    }
}
