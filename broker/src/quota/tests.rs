//! What quotas promise, by tables. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Refill, TokenBucket};
use super::core::Core;
use super::*;
use crate::limits::{QUOTA_BUCKETS_MAX, THROTTLE_MAX};
use crate::metadata::{Delta, Image, QuotaEntity, Quotas, quota_record};

const WINDOWS: Windows = Windows { count: 11, size: Duration::from_secs(1) };

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn quotas(kind: QuotaKind, quotas: &[(Parts<'_>, f64)]) -> Arc<Quotas> {
    let mut image = Image::empty("c");
    for &(parts, value) in quotas {
        let entity = QuotaEntity::new(parts.iter().copied()).unwrap();
        let record = quota_record(&entity, kind.key(), Some(value));
        image.apply(&record, &mut Delta::default()).unwrap();
    }
    image.quotas().clone()
}

fn core(kind: QuotaKind, all: &[(Parts<'_>, f64)]) -> Core {
    let mut core = Core::new(WINDOWS, WINDOWS);
    core.set(quotas(kind, all));
    core
}

fn client<'a>(user: &'a str, client_id: &'a str) -> Client<'a> {
    Client { user, client_id }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_strongest_quota_that_fits_holds_and_says_who_shares_it() {
    let (u, any_u) = (("user", Some("u")), ("user", None));
    let (c, any_c) = (("client-id", Some("c")), ("client-id", None));
    // From the strongest to the weakest, with whom (u, c) shares it.
    let levels: [(Parts<'_>, bool, bool); 8] = [
        (&[u, c], false, false),
        (&[u, any_c], false, false),
        (&[u], true, false),
        (&[any_u, c], false, false),
        (&[any_u, any_c], false, false),
        (&[any_u], true, false),
        (&[c], false, true),
        (&[any_c], false, true),
    ];
    for strongest in 0..levels.len() {
        let (_, with_clients, with_users) = levels[strongest];
        // Ever weaker quotas are ever larger: which one holds shows in the time to be silent.
        let weaker = levels[strongest..]
            .iter()
            .zip([1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0]);
        let all: Vec<_> = weaker.map(|(&(parts, ..), value)| (parts, value)).collect();
        let kind = QuotaKind::Produce;
        let mut core = core(kind, &all);
        // 11,000 bytes at 1000 a second, of which 10 seconds were saved up.
        let silent = core.spend(seconds(100), kind, client("u", "c"), 11_000.0);
        assert_eq!(silent, seconds(1), "level {strongest}");
        let mut shares = |other, want: bool| {
            let silent = core.spend(seconds(100), kind, other, 1.0);
            assert_eq!(silent > Duration::ZERO, want, "level {strongest} {other:?}");
        };
        shares(client("u", "d"), with_clients);
        shares(client("v", "c"), with_users);
        shares(client("v", "d"), false);
    }
}

#[test]
fn without_a_quota_nobody_waits() {
    let mut core = core(QuotaKind::Produce, &[(&[("user", Some("u"))], 1.0)]);
    let mut check = |kind, client, want: bool| {
        assert_eq!(core.spend(seconds(9), kind, client, 1e9) > Duration::ZERO, want);
    };
    check(QuotaKind::Produce, client("u", ""), true);
    check(QuotaKind::Produce, client("v", ""), false);
    check(QuotaKind::Fetch, client("u", ""), false);
    check(QuotaKind::Mutation, client("u", ""), false);
}

#[test]
fn after_the_silence_that_was_told_nothing_is_owed_and_not_before() {
    let refill = Refill { rate: 100.0, span: WINDOWS.past() };
    let mut now = seconds(1_000);
    let mut bucket = TokenBucket::full(now, refill);
    let mut silences = 0;
    for amount in [1500.0, 10.0, 700.0, 0.0, 2500.0, 1.0, 990.0, 1010.0] {
        let silent = bucket.spend(now, refill, amount);
        let mut early = bucket;
        let early = early.spend(now + silent / 2, refill, 0.0);
        assert_eq!(early.is_zero(), silent.is_zero(), "{amount}");
        silences += u32::from(!silent.is_zero());
        now += silent;
        let left = bucket.spend(now, refill, 0.0);
        assert!(left < Duration::from_micros(1), "{amount}: {left:?}");
    }
    // All but the first burst was paid for in time.
    let sum = 6711.0;
    assert_eq!((now - seconds(1_000)).as_secs(), 57);
    assert!(sum <= refill.rate * (now - seconds(1_000) + refill.span).as_secs_f64() + 0.1);
    assert_eq!(silences, 7);
}

#[test]
fn a_bucket_gives_while_it_owes_nothing_and_saves_up_to_its_span() {
    let refill = Refill { rate: 2.0, span: seconds(11) };
    let mut bucket = TokenBucket::full(seconds(0), refill);
    let mut check = |at, amount, want: Result<(), u64>| {
        let got = bucket.try_spend(seconds(at), refill, amount);
        assert_eq!(got, want.map_err(seconds), "at {at}");
    };
    // 22 saved up; one may take more than there are.
    check(0, 30.0, Ok(()));
    check(0, 1.0, Err(4));
    check(3, 1.0, Err(1));
    check(4, 2.0, Ok(()));
    check(5, 1.0, Ok(()));
    check(1000, 24.0, Ok(()));
    check(1000, 1.0, Err(1));
    assert_eq!(bucket.spend(seconds(1000), refill, 2.0), seconds(2));
}

#[test]
fn time_on_requests_throttles_for_one_window_at_most_and_bytes_for_a_bounded_time() {
    for (kind, want) in [(QuotaKind::Request, seconds(1)), (QuotaKind::Fetch, THROTTLE_MAX)] {
        let mut core = core(kind, &[(&[("client-id", None)], 1.0)]);
        assert_eq!(core.spend(seconds(5), kind, client("", "c"), 1e12), want);
    }
}

#[test]
fn an_address_has_its_own_rate_of_connections_or_the_default() {
    let kind = QuotaKind::Connection;
    let mut core = core(kind, &[(&[("ip", Some("10.0.0.1"))], 1.0), (&[("ip", None)], 2.0)]);
    let mut admitted =
        |ip: &str| (0..40).filter(|_| core.try_connect(seconds(1), ip).is_ok()).count();
    // 11 seconds saved up, and the one that begins to owe.
    assert_eq!(admitted("10.0.0.1"), 12);
    assert_eq!(admitted("10.0.0.2"), 23);
    assert_eq!(admitted("10.0.0.3"), 23);
}

#[test]
fn as_many_accounts_as_may_be_are_kept_and_the_oldest_makes_room() {
    let kind = QuotaKind::Produce;
    let mut core = core(kind, &[(&[("client-id", None)], 1.0)]);
    let mut spend = |number: usize, amount| {
        core.spend(seconds(1), kind, client("", &number.to_string()), amount)
    };
    for number in 0..QUOTA_BUCKETS_MAX {
        assert!(spend(number, 100.0) > Duration::ZERO);
    }
    assert!(spend(5, 0.0) > Duration::ZERO);
    assert_eq!(spend(QUOTA_BUCKETS_MAX, 0.0), Duration::ZERO);
    let forgotten = (0..QUOTA_BUCKETS_MAX).filter(|&number| spend(number, 0.0).is_zero());
    assert!(forgotten.count() >= 1);
}
