//! What lies between the broker and its clients: messages that come late, twice, or never. Pure.

use std::collections::BTreeMap;

use protocol::ids::Offset;

use super::actors::{Answer, Call, Do, offsets_at};
use super::node::Then;
use super::{DATA, Link, What, World};
use crate::group;
use crate::partition::Isolation;

impl World {
    pub(super) fn answer(&mut self, to: usize, number: u64, answer: Answer) {
        if self.faults.lost && self.is_busy() && self.rng.chance(40) {
            return;
        }
        let delay = 100 + self.rng.below(2_000);
        self.after(delay, What::Answer { to, number, answer });
    }

    /// A client hears something, and does something.
    pub(super) fn answered(&mut self, to: usize, number: u64, answer: Option<Answer>) {
        let is_busy = self.is_busy();
        let mut todo = Vec::new();
        let actor = &mut self.actors[to];
        actor.on(number, answer, is_busy, &mut self.rng, &mut self.history, &mut todo);
        for it in todo {
            match it {
                Do::Wake { after_us, number } => {
                    self.after(after_us, What::Wake { actor: to, number });
                }
                Do::Reconnect => {
                    self.links[to].connection += 1;
                    self.links[to].is_broken = false;
                }
                Do::Send { number, call } => self.send(to, number, call),
            }
        }
    }

    fn send(&mut self, from: usize, number: u64, call: Call) {
        let is_busy = self.is_busy();
        let is_ordered = self.actors[from].is_ordered(&call);
        let Link { connection, last_us, is_broken } = self.links[from];
        if is_ordered && is_broken {
            return;
        }
        let mut delay = 100 + self.rng.below(3_000);
        if self.faults.late && is_busy && self.rng.chance(12) {
            delay += self.rng.below(600_000);
        }
        if is_ordered {
            delay = delay.max((last_us + 1).saturating_sub(self.at_us));
            self.links[from].last_us = self.at_us + delay;
        }
        if !is_ordered && self.faults.twice && is_busy && self.rng.chance(10) {
            let later = delay + self.rng.below(300_000);
            let call = call.clone();
            self.after(later, What::Request { from, number, connection, call });
        }
        if self.faults.lost && is_busy && !is_ordered && self.rng.chance(40) {
            return;
        }
        self.after(delay, What::Request { from, number, connection, call });
    }

    /// What the transactional clients committed of their input, by client.
    pub(super) fn committed_offsets(&mut self) -> BTreeMap<usize, i64> {
        let group = "offsets".into();
        let fetch = group::Fetch { group, member: None, partitions: None, require_stable: true };
        self.ask_groups(group::Request::Fetch(fetch), Then::Test);
        let Some(group::Reply::Fetched(Ok(found))) = self.told.take() else {
            panic!("answered at once, as nothing is under way")
        };
        let actor = |at| (0..3).find(|it| offsets_at(*it) == at).expect("one of ours");
        let offset = |it: Option<group::Committed>| it.expect("only what there is").offset.0;
        found
            .into_iter()
            .map(|(at, committed)| (actor(at), offset(committed.expect("nothing is pending"))))
            .collect()
    }

    /// All that the logs hold, committed or not.
    pub(super) fn log(&self) -> BTreeMap<(usize, Offset), u64> {
        let all = |part: usize| {
            let (found, _) = self.parts[part].read(Offset::ZERO, Isolation::LogEnd);
            found.into_iter().map(move |it| ((part, it.offset), it.value))
        };
        DATA.into_iter().flat_map(all).collect()
    }
}
