//! The audit trail: who could not prove who they are, what was denied, and what was changed.
//!
//! An [`Event`] has the same fields whatever it tells, empty where they do not apply, so that
//! programs can read all of them alike. What comes from outside is written without control
//! characters and cut at a length: nobody adds a line to a log by choosing a name. A [`Ledger`]
//! bounds how many events one source, and all of them, can have written in a window; those beyond
//! are counted, and the count is told when the window ends. Changes that were made are never
//! withheld. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::{Principal, Session};
use crate::limits::{
    AUDIT_EVENTS_MAX, AUDIT_EVENTS_OF_SOURCE_MAX, AUDIT_SOURCES_MAX, AUDIT_TEXT_MAX, AUDIT_WINDOW,
};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Somebody proved who they are, or could not.
    Authentication,
    /// Something was allowed or denied.
    Authorization,
    /// Something was changed, or could not be.
    Change,
    /// Events that were not written one by one: `count` says how many.
    Withheld,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Authentication, Self::Authorization, Self::Change, Self::Withheld];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Change => "change",
            Self::Withheld => "withheld",
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was proved, or done.
    Success,
    /// It was not.
    Failure,
    /// It was permitted.
    Allowed,
    /// It was not.
    Denied,
}

impl Outcome {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// What something was done with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The type, in the words of access control lists where they have one: `TOPIC`.
    pub(crate) kind: String,
    /// The name.
    pub(crate) name: String,
    /// What was to be done: `WRITE`.
    pub(crate) operation: String,
}

/// Something that is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    /// Who: of who could not prove it, who they claim to be.
    pub(crate) principal: String,
    /// From where, without the port.
    pub(crate) address: String,
    /// By which listener.
    pub(crate) listener: String,
    /// By which API. Empty: none.
    pub(crate) api: &'static str,
    pub(crate) target: Target,
    /// What went wrong. Empty: nothing.
    pub(crate) error: String,
    /// What was changed, without secrets.
    pub(crate) change: String,
}

impl Event {
    fn of(session: &Session, kind: Kind, outcome: Outcome) -> Self {
        Self {
            kind,
            outcome,
            principal: session.principal.to_string(),
            address: session.host().to_owned(),
            listener: session.listener.to_string(),
            api: "",
            target: Target::default(),
            error: String::new(),
            change: String::new(),
        }
    }

    /// Somebody proved who they are.
    pub(crate) fn proved(session: &Session) -> Self {
        Self::of(session, Kind::Authentication, Outcome::Success)
    }

    /// Somebody could not prove who they are; `claimed` is the name that they gave.
    pub(crate) fn unproved(session: &Session, claimed: Option<&str>, error: String) -> Self {
        let mut event = Self::of(session, Kind::Authentication, Outcome::Failure);
        if let Some(name) = claimed {
            event.principal = Principal::user(name).to_string();
        }
        Self { error, ..event }
    }

    /// Something was allowed or denied.
    pub(crate) fn decided(
        session: &Session,
        api: &'static str,
        target: Target,
        is_allowed: bool,
    ) -> Self {
        let outcome = if is_allowed { Outcome::Allowed } else { Outcome::Denied };
        Self { api, target, ..Self::of(session, Kind::Authorization, outcome) }
    }

    /// Something was changed, or could not be: then `error` says why.
    pub(crate) fn changed(
        session: &Session,
        api: &'static str,
        target: Target,
        change: String,
        error: String,
    ) -> Self {
        let outcome = if error.is_empty() { Outcome::Success } else { Outcome::Failure };
        Self { api, target, change, error, ..Self::of(session, Kind::Change, outcome) }
    }

    /// True for what is told only to those who ask for everything.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.kind {
            Kind::Authentication | Kind::Authorization => {
                matches!(self.outcome, Outcome::Success | Outcome::Allowed)
            }
            Kind::Change | Kind::Withheld => false,
        }
    }

    /// True for what a peer can cause as often as it likes: it may be withheld.
    fn is_bounded(&self) -> bool {
        let is_made = self.kind == Kind::Change && self.outcome == Outcome::Success;
        !self.is_quiet() && !is_made
    }

    /// Whose share of the trail it takes. Names that were not proved are anybody's to choose: such
    /// events count for their address alone.
    fn source(&self) -> (String, String) {
        let principal = match self.kind {
            Kind::Authentication => String::new(),
            Kind::Authorization | Kind::Change | Kind::Withheld => plain(&self.principal),
        };
        (principal, plain(&self.address))
    }
}

/// `text` without control characters, and cut where it is long: what it stands for cannot be
/// mistaken for more than one value on one line.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(AUDIT_TEXT_MAX));
    for it in text.chars() {
        if plain.len() >= AUDIT_TEXT_MAX {
            plain.push('…');
            break;
        }
        // Whatever moves a cursor, ends a line or turns the direction of writing.
        let is_seen = !it.is_control() && (it.is_ascii() || it.is_alphanumeric());
        if is_seen && it != '\\' {
            plain.push(it);
        } else {
            write!(plain, "{}", it.escape_default()).expect("writing into a text does not fail");
        }
    }
    plain
}

/// Events of one source that were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// Who. Empty: all from the address who had not proved who they are.
    pub(crate) principal: String,
    /// From where. Empty: of all other sources.
    pub(crate) address: String,
    /// How many.
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    written: u32,
    withheld: u64,
}

/// How much of the trail was written in this window, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// When the window began. `None`: there is none.
    began: Option<Duration>,
    written: u32,
    shares: BTreeMap<(String, String), Share>,
    /// Of sources for which there was no more room.
    others: u64,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// What was withheld in the window that this event ended: to be written before it.
    pub(crate) before: Vec<Withheld>,
    /// Whether the event itself is written now.
    pub(crate) is_written: bool,
    /// True when it is the first of its window that is not: the window's end must be waited for.
    pub(crate) must_close: bool,
}

impl Ledger {
    /// Takes an event.
    pub(crate) fn note(&mut self, now: Duration, event: &Event) -> Noted {
        if event.is_bounded() {
            return self.take(now, event.source());
        }
        Noted { before: self.close_over(now), is_written: true, must_close: false }
    }

    /// Takes one of a source, a principal and an address, that may be withheld.
    pub(crate) fn take(&mut self, now: Duration, source: (String, String)) -> Noted {
        let before = self.close_over(now);
        self.began.get_or_insert(now);
        let had_withheld = self.has_withheld();
        let is_full = self.shares.len() >= AUDIT_SOURCES_MAX;
        let share = if is_full && !self.shares.contains_key(&source) {
            None
        } else {
            Some(self.shares.entry(source).or_default())
        };
        let is_written = match share {
            None => {
                self.others = self.others.saturating_add(1);
                false
            }
            Some(share)
                if share.written < AUDIT_EVENTS_OF_SOURCE_MAX
                    && self.written < AUDIT_EVENTS_MAX =>
            {
                share.written += 1;
                self.written += 1;
                true
            }
            Some(share) => {
                share.withheld = share.withheld.saturating_add(1);
                false
            }
        };
        assert!(self.written <= AUDIT_EVENTS_MAX);
        Noted { before, is_written, must_close: !is_written && !had_withheld }
    }

    /// When the window began. `None`: there is none.
    pub(crate) fn began(&self) -> Option<Duration> {
        self.began
    }

    /// Ends the window if it is over.
    fn close_over(&mut self, now: Duration) -> Vec<Withheld> {
        let is_over = self.began.is_some_and(|began| now >= began.saturating_add(AUDIT_WINDOW));
        if is_over { self.close() } else { Vec::new() }
    }

    fn has_withheld(&self) -> bool {
        self.others > 0 || self.shares.values().any(|share| share.withheld > 0)
    }

    /// Ends the window: what was withheld in it.
    pub(crate) fn close(&mut self) -> Vec<Withheld> {
        let Self { shares, others, .. } = std::mem::take(self);
        let of_source = |((principal, address), share): ((String, String), Share)| Withheld {
            principal,
            address,
            count: share.withheld,
        };
        let mut withheld: Vec<_> = shares.into_iter().map(of_source).collect();
        withheld.push(Withheld { principal: String::new(), address: String::new(), count: others });
        withheld.retain(|it| it.count > 0);
        withheld
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
