//! How much of the trail is written, and in which letters. Pure.

use client::net::Endpoint;
use proptest::prelude::*;
use protocol::security::SecurityProtocol;

use super::*;

fn session(address: &str) -> Session {
    let peer = Endpoint::new(address, 4711);
    Session::anonymous("OUTSIDE", SecurityProtocol::SaslPlaintext, peer)
}

fn failure(address: &str, name: &str) -> Event {
    Event::unproved(&session(address), Some(name), "wrong".to_owned())
}

fn denial(address: &str) -> Event {
    Event::decided(&session(address), "Produce", Target::default(), false)
}

fn change(error: &str) -> Event {
    let target = Target::default();
    Event::changed(&session("a"), "CreateTopics", target, String::new(), error.to_owned())
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn events_beyond_a_sources_share_are_counted_and_told_when_the_window_ends() {
    let mut ledger = Ledger::default();
    for n in 0..AUDIT_EVENTS_OF_SOURCE_MAX {
        let noted = ledger.note(at(1), &failure("a", &format!("user{n}")));
        assert!(noted.is_written);
        assert!(!noted.must_close);
    }
    // Names are anybody's to choose: they give no address another share.
    let first = ledger.note(at(2), &failure("a", "another"));
    assert!(!first.is_written);
    assert!(first.must_close);
    let second = ledger.note(at(2), &failure("a", "yet another"));
    assert!(!second.is_written);
    assert!(!second.must_close, "that is known");
    // Others have shares of their own, also who was proved to be somebody at the same address.
    assert!(ledger.note(at(2), &failure("b", "x")).is_written);
    assert!(ledger.note(at(2), &denial("a")).is_written);

    let next = ledger.note(at(1).saturating_add(AUDIT_WINDOW), &failure("a", "x"));
    let told = Withheld { principal: String::new(), address: "a".to_owned(), count: 2 };
    assert_eq!(next, Noted { before: vec![told], is_written: true, must_close: false });
    assert_eq!(ledger.close(), []);
}

#[test]
fn many_sources_together_have_no_more_than_all_may() {
    let mut ledger = Ledger::default();
    let sources = u32::try_from(AUDIT_SOURCES_MAX).unwrap() + 100;
    let written = (0..sources)
        .filter(|n| ledger.note(at(1), &failure(&format!("10.0.0.{n}"), "x")).is_written)
        .count();
    assert_eq!(u32::try_from(written).unwrap(), AUDIT_EVENTS_MAX);
    let told = ledger.close();
    let count: u64 = told.iter().map(|it| it.count).sum();
    assert_eq!(count, u64::from(sources - AUDIT_EVENTS_MAX));
    let others = Withheld { principal: String::new(), address: String::new(), count: 100 };
    assert_eq!(told.last(), Some(&others), "there was no room for more sources");
}

#[test]
fn changes_that_were_made_are_never_withheld() {
    let mut ledger = Ledger::default();
    for _ in 0..10 * AUDIT_EVENTS_MAX {
        assert!(ledger.note(at(1), &change("")).is_written);
    }
    let failed = (0..100).filter(|_| ledger.note(at(1), &change("TopicAlreadyExists")).is_written);
    assert_eq!(u32::try_from(failed.count()).unwrap(), AUDIT_EVENTS_OF_SOURCE_MAX);
}

#[test]
fn what_is_told_to_who_asks_for_everything_takes_no_share() {
    let mut ledger = Ledger::default();
    let allowed = Event::decided(&session("a"), "Fetch", Target::default(), true);
    for event in [allowed, Event::proved(&session("a"))] {
        assert!(event.is_quiet());
        assert!((0..1000).all(|_| ledger.note(at(1), &event).is_written));
    }
    assert!(!denial("a").is_quiet());
    assert!(!change("").is_quiet());
}

#[test]
fn no_name_ends_a_line_or_hides_in_one() {
    for (given, want) in [
        ("alice", "alice"),
        ("CN=Müller,O=Example", "CN=Müller,O=Example"),
        ("a\nlevel=INFO granted", "a\\nlevel=INFO granted"),
        ("a\r\n\u{1b}[2K\u{7}", "a\\r\\n\\u{1b}[2K\\u{7}"),
        ("\\n", "\\\\n"),
        // What turns the direction of writing, and what ends lines elsewhere than in ASCII.
        ("a\u{202e}b\u{2028}c\u{85}", "a\\u{202e}b\\u{2028}c\\u{85}"),
    ] {
        assert_eq!(plain(given), want);
    }
    let long = plain(&"x".repeat(AUDIT_TEXT_MAX + 1));
    assert_eq!(long.chars().count(), AUDIT_TEXT_MAX + 1);
    assert!(long.ends_with('…'));
}

proptest! {
    #[test]
    fn whatever_comes_is_one_short_line(text in any::<String>()) {
        let plain = plain(&text);
        prop_assert!(plain.len() <= AUDIT_TEXT_MAX + 16);
        prop_assert!(!plain.chars().any(char::is_control));
        prop_assert_eq!(plain.lines().count(), usize::from(!plain.is_empty()));
    }

    #[test]
    fn each_event_is_written_or_counted(
        events in proptest::collection::vec((0..60_u64, 0..40_u8, any::<bool>()), 0..600),
    ) {
        let mut ledger = Ledger::default();
        let (mut now, mut written, mut told) = (Duration::ZERO, 0_u64, 0_u64);
        let count = u64::try_from(events.len()).unwrap();
        for (later, source, is_denial) in events {
            now = now.saturating_add(Duration::from_millis(later));
            let address = format!("10.0.0.{source}");
            let event = if is_denial { denial(&address) } else { failure(&address, "x") };
            let noted = ledger.note(now, &event);
            written += u64::from(noted.is_written);
            told += noted.before.iter().map(|it| it.count).sum::<u64>();
        }
        told += ledger.close().iter().map(|it| it.count).sum::<u64>();
        prop_assert_eq!(written + told, count);
    }
}
