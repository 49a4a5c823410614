//! Fetch sessions: a reader that polls many partitions says only what changed, and is told only
//! what changed. KIP-227.
//!
//! A request with epoch 0 states all its partitions and opens a session, if there is room; the next
//! ones carry epoch 1, 2, … (after the largest comes 1 again) and only differences. Session id 0,
//! or epoch -1, means no session: always legal. A session that was not used for a while yields its
//! place to a new one; its reader is told that it is not found and starts anew. A session is its
//! owner's alone: to everybody else it is unknown, as it would tell them what is read.
//!
//! | session id, epoch | becomes |
//! |---|---|
//! | any, 0 | the named session is closed; a full fetch, with a new session if there is room |
//! | any, -1 | the named session is closed; a full fetch without one |
//! | known, the next | an incremental fetch |
//! | known, another | `INVALID_FETCH_SESSION_EPOCH` |
//! | unknown, above 0 | `FETCH_SESSION_ID_NOT_FOUND` |
//! | known, but by names now where it was by ids (or the reverse) | `FETCH_SESSION_TOPIC_ID_ERROR` |
//!
//! All sessions together keep no more than [`FETCH_SESSIONS_BYTES_MAX`], whatever partitions their
//! readers made up: beyond it new sessions are not opened, and one that would grow is closed.
//!
//! Partitions that yielded records move to the end of a session's order, so that none starves when
//! a response is full. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use protocol::rng::Lot;

use crate::auth::Principal;
use crate::limits::FETCH_SESSIONS_BYTES_MAX;

/// How long a session must have been unused before a new one may take its place, as in Kafka.
const UNUSED_MIN: Duration = Duration::from_secs(120);

/// The epoch of a request that states all its partitions.
const EPOCH_INITIAL: i32 = 0;
/// The epoch of a request that wants no session afterwards.
const EPOCH_FINAL: i32 = -1;

/// A topic as a request names it: by name up to version 12, by id from 13 on. KIP-516.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// A partition as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) partition: PartitionIndex,
}

impl PartitionKey {
    /// What a session takes to remember it.
    fn bytes(&self) -> usize {
        match &self.topic {
            TopicKey::Name(name) => PARTITION_BYTES + name.len(),
            TopicKey::Id(_) => PARTITION_BYTES,
        }
    }
}

/// What a reader wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: PartitionKey,
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
    pub(crate) bytes_max: usize,
}

/// The part of a fetch request that sessions are about.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The principal that asks.
    pub(crate) owner: Principal,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) by_topic_id: bool,
    /// All partitions of a full fetch; the added and changed ones of an incremental one.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// What to fetch, and under which session to answer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// All partitions to look at, in the order in which bytes are given out.
    pub(crate) wanted: Vec<Wanted>,
    session: Option<Membership>,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    id: i32,
    /// Tells a session apart from a later one of the same id, and this fetch from a later one.
    next_epoch: i32,
    is_incremental: bool,
}

impl Plan {
    /// A fetch without a session.
    pub(crate) fn sessionless(wanted: Vec<Wanted>) -> Self {
        Self { wanted, session: None }
    }

    /// The session id to answer with; 0 for none.
    pub(crate) fn session_id(&self) -> i32 {
        self.session.map_or(0, |session| session.id)
    }

    /// True when the answer needs [`FetchSessions::tells`].
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }
}

/// What was found of one partition, as far as a session compares it with the last answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) has_records: bool,
    pub(crate) is_error: bool,
    pub(crate) is_diverging: bool,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

/// 256: what a partition of a session takes beside its topic's name: its key twice, what is wanted
/// and what was told, in trees that are not full.
const PARTITION_BYTES: usize = 256;

/// Every session of a broker. `count_max` bounds them; more readers go without.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    /// What all of them keep.
    bytes: usize,
    sessions: BTreeMap<i32, Session>,
    count_max: usize,
    ids: Lot,
}

#[derive(Debug)]
struct Session {
    /// The principal that opened it.
    owner: Principal,
    by_topic_id: bool,
    next_epoch: i32,
    last_used: Duration,
    /// Where each partition stands in `order`.
    places: BTreeMap<PartitionKey, u64>,
    order: BTreeMap<u64, Cached>,
    next_place: u64,
    /// What its partitions take.
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// As last told; `None` before the first time and after an error, so that it is told again.
    told: Option<(Offset, Offset)>,
}

impl FetchSessions {
    /// No sessions yet. Their numbers are drawn from `ids`.
    pub(crate) fn new(count_max: usize, ids: Lot) -> Self {
        Self { bytes: 0, sessions: BTreeMap::new(), count_max, ids }
    }

    /// Begins a fetch: opens, continues or closes a session.
    ///
    /// # Errors
    /// The three codes of the table above; the reader then starts with a full fetch.
    pub(crate) fn begin(&mut self, now: Duration, ask: Ask) -> Result<Plan, ErrorCode> {
        match ask.session_epoch {
            EPOCH_FINAL => {
                self.close(&ask);
                Ok(Plan::sessionless(ask.wanted))
            }
            EPOCH_INITIAL => {
                self.close(&ask);
                Ok(self.open(now, ask))
            }
            _ => self.proceed(now, ask),
        }
    }

    fn close(&mut self, ask: &Ask) {
        if self.sessions.get(&ask.session_id).is_some_and(|it| it.owner == ask.owner) {
            self.remove(ask.session_id);
        }
    }

    fn open(&mut self, now: Duration, ask: Ask) -> Plan {
        let bytes = ask.wanted.iter().map(|wanted| wanted.key.bytes()).sum();
        if ask.wanted.is_empty() || !self.has_room(now, bytes) {
            return Plan::sessionless(ask.wanted);
        }
        let id = self.unused_id();
        let mut session = Session::new(now, ask.owner, ask.by_topic_id);
        for wanted in &ask.wanted {
            session.put(wanted.clone());
        }
        self.bytes += session.bytes;
        self.sessions.insert(id, session);
        assert!(self.sessions.len() <= self.count_max);
        assert!(self.bytes <= FETCH_SESSIONS_BYTES_MAX);
        let session = Some(Membership { id, next_epoch: 1, is_incremental: false });
        Plan { wanted: ask.wanted, session }
    }

    fn proceed(&mut self, now: Duration, ask: Ask) -> Result<Plan, ErrorCode> {
        let id = ask.session_id;
        let session = self.sessions.get_mut(&id).filter(|it| it.owner == ask.owner);
        let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != ask.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_topic_id != ask.by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.bytes -= session.bytes;
        for key in &ask.forgotten {
            session.forget(key);
        }
        for wanted in ask.wanted {
            session.put(wanted);
        }
        self.bytes += session.bytes;
        if FETCH_SESSIONS_BYTES_MAX < self.bytes {
            // Its reader states all of them anew, and goes without a session.
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        session.last_used = now;
        session.next_epoch = epoch_after(session.next_epoch);
        let next_epoch = session.next_epoch;
        let wanted = session.order.values().map(|cached| cached.wanted.clone()).collect();
        if session.order.is_empty() {
            // Nothing is left to remember.
            self.remove(id);
            return Ok(Plan::sessionless(wanted));
        }
        Ok(Plan { wanted, session: Some(Membership { id, next_epoch, is_incremental: true }) })
    }

    /// Whether the answer of `plan` says what was found of `key`, and remembers that it was said.
    ///
    /// A full fetch says everything; an incremental one records, errors, and changed positions.
    pub(crate) fn tells(&mut self, plan: &Plan, key: &PartitionKey, found: Found) -> bool {
        let Some(membership) = plan.session else { return true };
        let Some(session) = self.sessions.get_mut(&membership.id) else { return true };
        if session.next_epoch != membership.next_epoch {
            // A later request overtook this one: its reader is confused, so it hears everything.
            return true;
        }
        let tells = session.found(key, found);
        tells || !membership.is_incremental
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.bytes -= session.bytes;
        }
    }

    /// True when there is room for one more session of so many bytes, if need be after unused ones
    /// were dropped.
    fn has_room(&mut self, now: Duration, bytes: usize) -> bool {
        if FETCH_SESSIONS_BYTES_MAX < bytes {
            return false;
        }
        while self.count_max <= self.sessions.len() || FETCH_SESSIONS_BYTES_MAX - bytes < self.bytes
        {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
            let Some((&id, session)) = oldest else { return false };
            if now.saturating_sub(session.last_used) < UNUSED_MIN {
                return false;
            }
            self.remove(id);
        }
        true
    }

    fn unused_id(&mut self) -> i32 {
        loop {
            let id = i32::try_from(self.ids.next_u64() >> 33).expect("31 bits");
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Asserts the invariants.
    #[cfg(test)]
    fn check(&self) {
        assert!(self.sessions.len() <= self.count_max);
        let bytes =
            |session: &Session| session.places.keys().map(PartitionKey::bytes).sum::<usize>();
        assert!(self.sessions.values().all(|it| it.bytes == bytes(it)));
        assert_eq!(self.bytes, self.sessions.values().map(|it| it.bytes).sum::<usize>());
        assert!(self.bytes <= FETCH_SESSIONS_BYTES_MAX);
        for (id, session) in &self.sessions {
            assert!(*id > 0);
            assert!(session.next_epoch > 0);
            assert_eq!(session.places.len(), session.order.len());
            for (key, place) in &session.places {
                assert_eq!(&session.order[place].wanted.key, key);
            }
        }
    }
}

impl Session {
    fn new(now: Duration, owner: Principal, by_topic_id: bool) -> Self {
        Self {
            owner,
            by_topic_id,
            next_epoch: 1,
            last_used: now,
            places: BTreeMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
            bytes: 0,
        }
    }

    /// Adds a partition at the end, or changes what is wanted of it where it stands.
    fn put(&mut self, wanted: Wanted) {
        if let Some(place) = self.places.get(&wanted.key) {
            let cached = self.order.get_mut(place).expect("each place holds a partition");
            cached.wanted = wanted;
            return;
        }
        self.append(Cached { wanted, told: None });
    }

    fn append(&mut self, cached: Cached) {
        self.bytes += cached.wanted.key.bytes();
        self.places.insert(cached.wanted.key.clone(), self.next_place);
        self.order.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn forget(&mut self, key: &PartitionKey) -> Option<Cached> {
        let place = self.places.remove(key)?;
        self.bytes -= key.bytes();
        self.order.remove(&place)
    }

    /// Remembers what was found; true when it differs from what was told.
    fn found(&mut self, key: &PartitionKey, found: Found) -> bool {
        let Some(place) = self.places.get(key) else { return true };
        let cached = self.order.get_mut(place).expect("each place holds a partition");
        let positions = Some((found.high_watermark, found.log_start));
        let is_news =
            found.has_records || found.is_error || found.is_diverging || cached.told != positions;
        cached.told = if found.is_error { None } else { positions };
        if found.has_records {
            let cached = self.forget(key).expect("it was there a line ago");
            self.append(cached);
        }
        is_news
    }
}

/// 1, 2, …, 2^31-1, 1, …: 0 and -1 have meanings of their own.
fn epoch_after(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey {
            topic: TopicKey::Name("orders".into()),
            partition: PartitionIndex(partition),
        }
    }

    fn wanted(partition: i32, offset: i64) -> Wanted {
        Wanted {
            key: key(partition),
            offset: Offset(offset),
            leader_epoch: None,
            last_fetched_epoch: None,
            bytes_max: 1 << 20,
        }
    }

    fn ask(session_id: i32, session_epoch: i32, partitions: &[i32]) -> Ask {
        let wanted = partitions.iter().map(|it| wanted(*it, 0)).collect();
        let (by_topic_id, forgotten) = (false, Vec::new());
        Ask {
            owner: Principal::user("a"),
            session_id,
            session_epoch,
            by_topic_id,
            wanted,
            forgotten,
        }
    }

    fn partitions(plan: &Plan) -> Vec<i32> {
        plan.wanted.iter().map(|it| it.key.partition.0).collect()
    }

    const QUIET: Found = Found {
        has_records: false,
        is_error: false,
        is_diverging: false,
        high_watermark: Offset(5),
        log_start: Offset(0),
    };

    fn sessions(count_max: usize) -> FetchSessions {
        FetchSessions::new(count_max, Lot::of_seed(1))
    }

    const T0: Duration = Duration::ZERO;

    #[test]
    fn an_incremental_fetch_looks_at_all_partitions_and_tells_only_news() {
        let mut sessions = sessions(4);
        let full = sessions.begin(T0, ask(0, 0, &[0, 1, 2])).unwrap();
        let id = full.session_id();
        assert!(id > 0);
        for partition in 0..3 {
            assert!(sessions.tells(&full, &key(partition), QUIET), "a full fetch tells all");
        }
        let next = sessions.begin(T0, ask(id, 1, &[])).unwrap();
        assert_eq!(partitions(&next), [0, 1, 2]);
        assert!(!sessions.tells(&next, &key(0), QUIET));
        assert!(sessions.tells(&next, &key(1), Found { high_watermark: Offset(6), ..QUIET }));
        assert!(sessions.tells(&next, &key(2), Found { log_start: Offset(1), ..QUIET }));
        let after = sessions.begin(T0, ask(id, 2, &[])).unwrap();
        assert!(sessions.tells(&after, &key(0), Found { has_records: true, ..QUIET }));
        assert!(sessions.tells(&after, &key(1), Found { is_diverging: true, ..QUIET }));
        sessions.check();
    }

    #[test]
    fn after_an_error_the_recovery_is_told_though_nothing_else_changed() {
        let mut sessions = sessions(4);
        let full = sessions.begin(T0, ask(0, 0, &[0])).unwrap();
        assert!(sessions.tells(&full, &key(0), QUIET));
        let id = full.session_id();
        let failing = sessions.begin(T0, ask(id, 1, &[])).unwrap();
        assert!(sessions.tells(&failing, &key(0), Found { is_error: true, ..QUIET }));
        let healed = sessions.begin(T0, ask(id, 2, &[])).unwrap();
        assert!(sessions.tells(&healed, &key(0), QUIET));
    }

    #[test]
    fn a_partition_that_yielded_records_comes_last_next_time() {
        let mut sessions = sessions(4);
        let full = sessions.begin(T0, ask(0, 0, &[0, 1, 2])).unwrap();
        sessions.tells(&full, &key(0), Found { has_records: true, ..QUIET });
        let next = sessions.begin(T0, ask(full.session_id(), 1, &[])).unwrap();
        assert_eq!(partitions(&next), [1, 2, 0]);
    }

    #[test]
    fn partitions_are_added_changed_and_forgotten() {
        let mut sessions = sessions(4);
        let id = sessions.begin(T0, ask(0, 0, &[0, 1])).unwrap().session_id();
        let mut change = ask(id, 1, &[]);
        change.wanted = vec![wanted(0, 42), wanted(7, 0)];
        change.forgotten = vec![key(1)];
        let plan = sessions.begin(T0, change).unwrap();
        assert_eq!(partitions(&plan), [0, 7]);
        assert_eq!(plan.wanted[0].offset, Offset(42));
        let mut last = ask(id, 2, &[]);
        last.forgotten = vec![key(0), key(7)];
        assert_eq!(sessions.begin(T0, last).unwrap().session_id(), 0, "an empty session ends");
        sessions.check();
    }

    #[test]
    fn each_wrong_continuation_has_its_error() {
        let mut sessions = sessions(4);
        let id = sessions.begin(T0, ask(0, 0, &[0])).unwrap().session_id();
        let code = |sessions: &mut FetchSessions, ask| sessions.begin(T0, ask).unwrap_err();
        let unknown = ask(id ^ 1, 1, &[]);
        assert_eq!(code(&mut sessions, unknown), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(code(&mut sessions, ask(0, 1, &[])), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(code(&mut sessions, ask(id, 2, &[])), ErrorCode::InvalidFetchSessionEpoch);
        let by_id = Ask { by_topic_id: true, ..ask(id, 1, &[]) };
        assert_eq!(code(&mut sessions, by_id), ErrorCode::FetchSessionTopicIdError);
        assert!(sessions.begin(T0, ask(id, 1, &[])).is_ok(), "a refusal changes nothing");
    }

    #[test]
    fn epoch_minus_one_ends_the_session_and_fetches_without_one() {
        let mut sessions = sessions(4);
        let id = sessions.begin(T0, ask(0, 0, &[0])).unwrap().session_id();
        let plan = sessions.begin(T0, ask(id, -1, &[3])).unwrap();
        assert_eq!((plan.session_id(), partitions(&plan)), (0, vec![3]));
        let gone = sessions.begin(T0, ask(id, 1, &[])).unwrap_err();
        assert_eq!(gone, ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn to_whoever_is_not_its_owner_a_session_is_unknown_and_stays_open() {
        let mut sessions = sessions(4);
        let id = sessions.begin(T0, ask(0, 0, &[0, 1])).unwrap().session_id();
        let theirs = |epoch| Ask { owner: Principal::user("b"), ..ask(id, epoch, &[7]) };
        let unknown = sessions.begin(T0, theirs(1)).unwrap_err();
        assert_eq!(unknown, ErrorCode::FetchSessionIdNotFound);
        let wrong = sessions.begin(T0, theirs(5)).unwrap_err();
        assert_eq!(wrong, unknown, "nor does the epoch tell that it is there");
        for epoch in [EPOCH_FINAL, EPOCH_INITIAL] {
            assert_eq!(partitions(&sessions.begin(T0, theirs(epoch)).unwrap()), [7]);
        }
        assert_eq!(partitions(&sessions.begin(T0, ask(id, 1, &[])).unwrap()), [0, 1]);
        sessions.check();
    }

    #[test]
    fn a_full_cache_yields_only_what_was_long_unused() {
        let mut sessions = sessions(1);
        let old = sessions.begin(T0, ask(0, 0, &[0])).unwrap().session_id();
        let soon = UNUSED_MIN - Duration::from_millis(1);
        assert_eq!(sessions.begin(soon, ask(0, 0, &[0])).unwrap().session_id(), 0);
        let new = sessions.begin(UNUSED_MIN, ask(0, 0, &[0])).unwrap().session_id();
        assert!(new > 0);
        assert_ne!(new, old);
        sessions.check();
    }

    #[test]
    fn sessions_keep_no_more_than_their_share_however_many_partitions_are_made_up() {
        let named = |length: usize, number: i32| {
            let mut wanted = wanted(number, 0);
            wanted.key.topic = TopicKey::Name("t".repeat(length).into());
            wanted
        };
        let ask = |session_id, session_epoch, wanted| Ask {
            wanted,
            ..ask(session_id, session_epoch, &[])
        };
        // A quarter of what there is.
        let many =
            || -> Vec<_> { (0..64).map(|it| named(FETCH_SESSIONS_BYTES_MAX / 260, it)).collect() };
        let mut sessions = sessions(1000);
        let open: Vec<_> = (0..4)
            .map(|_| sessions.begin(T0, ask(0, 0, many())).unwrap().session_id())
            .filter(|id| *id != 0)
            .collect();
        sessions.check();
        assert_eq!(open.len(), 4);
        let without = sessions.begin(T0, ask(0, 0, many())).unwrap();
        assert_eq!((without.session_id(), without.wanted.len()), (0, 64));
        let grown =
            sessions.begin(T0, ask(open[0], 1, vec![named(FETCH_SESSIONS_BYTES_MAX / 16, 99)]));
        assert_eq!(grown.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        sessions.check();
        assert_ne!(sessions.begin(T0, ask(0, 0, many())).unwrap().session_id(), 0);
        assert_eq!(sessions.begin(T0, ask(0, 0, many())).unwrap().session_id(), 0);
        // What was not used for long yields.
        assert_ne!(sessions.begin(UNUSED_MIN, ask(0, 0, many())).unwrap().session_id(), 0);
        let forgotten = Ask { forgotten: (0..64).map(key).collect(), ..ask(open[1], 1, vec![]) };
        let _ = sessions.begin(UNUSED_MIN, forgotten);
        sessions.check();
    }

    #[test]
    fn after_the_largest_epoch_comes_one() {
        assert_eq!(epoch_after(1), 2);
        assert_eq!(epoch_after(i32::MAX), 1);
    }
}
