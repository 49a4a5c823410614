//! Entries that come and go, one by one or by a filter, and over restarts, against a list of them
//! that is gone through from its beginning to its end (CVE-2024-27309). Pure.

use prop::sample::select;
use proptest::prelude::*;
use protocol::ids::TopicId;

use super::*;
use crate::metadata::{
    AclFilter, Delta, Image, PatternFilter, RemoveAccessControlEntryRecord, acl_record,
};

const NAMES: [&str; 5] = ["a", "ab", "abc", "b", "*"];
const OPERATIONS: [AclOperation; 5] = [
    AclOperation::All,
    AclOperation::Read,
    AclOperation::Write,
    AclOperation::Describe,
    AclOperation::Alter,
];

#[derive(Clone, Debug)]
enum Step {
    Add(Acl),
    /// The entry of this number, counted round.
    Remove(usize),
    RemoveFitting(AclFilter),
    Restart,
}

fn entry() -> impl Strategy<Value = Acl> {
    (
        select(vec![ResourceType::Topic, ResourceType::Group]),
        select(PatternType::ALL),
        select(&NAMES[..]),
        select(vec!["User:a", "User:b", EVERYBODY]),
        select(vec!["h", WILDCARD]),
        select(&OPERATIONS[..]),
        select(Permission::ALL),
    )
        .prop_map(|(resource, pattern, name, principal, host, operation, permission)| Acl {
            resource,
            pattern,
            name: name.into(),
            principal: principal.into(),
            host: host.into(),
            operation,
            permission,
        })
}

/// What is exactly as in an entry, or anything, field by field.
fn filter() -> impl Strategy<Value = AclFilter> {
    (entry(), any::<[bool; 5]>()).prop_map(|(like, is_meant)| AclFilter {
        resource: is_meant[0].then_some(like.resource),
        pattern: if is_meant[1] { PatternFilter::Is(like.pattern) } else { PatternFilter::Any },
        name: is_meant[2].then_some(like.name),
        principal: is_meant[3].then_some(like.principal),
        host: None,
        operation: None,
        permission: is_meant[4].then_some(like.permission),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => entry().prop_map(Step::Add),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => filter().prop_map(Step::RemoveFitting),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..40)
}

/// The lists, and what must be in them.
struct World {
    image: Image,
    model: Vec<(TopicId, Acl)>,
    next_id: u8,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Add(acl) => {
                if self.model.iter().all(|(_, there)| *there != acl) {
                    let id = TopicId([self.next_id; 16]);
                    self.next_id += 1;
                    self.image.apply(&acl_record(id, &acl), &mut Delta::default()).unwrap();
                    self.model.push((id, acl));
                }
            }
            Step::Remove(at) => {
                if !self.model.is_empty() {
                    let (id, _) = self.model.remove(at % self.model.len());
                    self.remove(id);
                }
            }
            Step::RemoveFitting(filter) => {
                let fits = |acl: &Acl| filter.fits(acl);
                let gone: Vec<_> =
                    self.image.acls().iter().filter(|it| fits(it.0)).map(|it| it.1).collect();
                gone.into_iter().for_each(|id| self.remove(id));
                self.model.retain(|(_, acl)| !is_meant(&filter, acl));
            }
            Step::Restart => {
                let mut again = Image::empty("c");
                for record in self.image.to_records() {
                    again.apply(&record, &mut Delta::default()).unwrap();
                }
                self.image = again;
            }
        }
    }

    fn remove(&mut self, id: TopicId) {
        let record = RemoveAccessControlEntryRecord { id }.into();
        self.image.apply(&record, &mut Delta::default()).unwrap();
    }

    /// Strict, and with what nobody speaks of open to all.
    fn permits(&self, who: &Who, operation: AclOperation, name: &str) -> (bool, bool) {
        let is_about = |acl: &&Acl| {
            acl.resource == ResourceType::Topic
                && match acl.pattern {
                    PatternType::Literal => *acl.name == *name || &*acl.name == "*",
                    PatternType::Prefixed => name.starts_with(&*acl.name),
                }
        };
        let about: Vec<_> = self.model.iter().map(|it| &it.1).filter(is_about).collect();
        let is_said = |permission: Permission, implying: &[AclOperation]| {
            about.iter().any(|acl| {
                acl.permission == permission
                    && (*acl.principal == *who.principal || &*acl.principal == "User:*")
                    && (*acl.host == *who.host || &*acl.host == "*")
                    && (implying.contains(&acl.operation) || acl.operation == AclOperation::All)
            })
        };
        let implying = match operation {
            AclOperation::Describe => &OPERATIONS[1..],
            _ => &[operation],
        };
        let is_denied = is_said(Permission::Deny, &[operation]);
        let is_allowed = is_said(Permission::Allow, implying);
        (!is_denied && is_allowed, !is_denied && (is_allowed || about.is_empty()))
    }
}

fn is_meant(filter: &AclFilter, acl: &Acl) -> bool {
    let AclFilter { resource, pattern, name, principal, permission, .. } = filter;
    resource.is_none_or(|it| it == acl.resource)
        && (*pattern == PatternFilter::Any || *pattern == PatternFilter::Is(acl.pattern))
        && name.as_ref().is_none_or(|it| *it == acl.name)
        && principal.as_ref().is_none_or(|it| *it == acl.principal)
        && permission.is_none_or(|it| it == acl.permission)
}

fn authorizer(is_lax: bool) -> Authorizer {
    let super_users = BTreeSet::new();
    Authorizer { super_users, allows_unlisted: is_lax }
}

proptest! {
    #[test]
    fn whatever_is_added_and_removed_what_is_left_decides(steps in steps()) {
        let mut world = World { image: Image::empty("c"), model: Vec::new(), next_id: 1 };
        let (strict, lax) = (authorizer(false), authorizer(true));
        for step in steps {
            world.step(step.clone());
            world.image.check();
            prop_assert_eq!(world.image.acls().len(), world.model.len());
            for (principal, host) in [("User:a", "h"), ("User:b", "h"), ("User:a", "i")] {
                let who = Who { principal: principal.to_owned(), host: host.to_owned() };
                for name in NAMES {
                    for operation in OPERATIONS {
                        let ask = |it: &Authorizer| {
                            let topic = ResourceType::Topic;
                            it.permits(world.image.acls(), &who, operation, topic, name)
                        };
                        let want = world.permits(&who, operation, name);
                        let got = (ask(&strict), ask(&lax));
                        prop_assert_eq!(got, want, "{:?}: {:?} {} {}", step, who, operation, name);
                    }
                }
            }
        }
    }
}
