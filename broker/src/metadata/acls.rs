//! Access control lists, as the metadata log holds them.
//!
//! An entry says that a principal, from a host, may or may not do something with the resources of a
//! type whose names are, or begin with, something. No two entries say the same; each has an id, by
//! which the log removes it. What follows from the entries is the business of those who ask.
//! KIP-11, KIP-290. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::ids::TopicId;

use super::record::{AccessControlEntryRecord, Record};

/// The name of a resource that stands for all of its type, and the host that stands for all.
pub const WILDCARD: &str = "*";

macro_rules! wire_words {
    ($(#[$meta:meta])* $name:ident { $($number:literal $variant:ident $word:literal $doc:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $(
                #[doc = $doc]
                $variant,
            )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The one of this number on the wire. `None`: none, or one that stands for several.
            #[must_use]
            pub fn from_wire(number: i8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its number on the wire.
            #[must_use]
            pub fn to_wire(self) -> i8 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }
    };
}

wire_words! {
    /// What something may be done with.
    ResourceType {
        2 Topic "TOPIC" "A topic.",
        3 Group "GROUP" "A group.",
        4 Cluster "CLUSTER" "The cluster itself; its name is `kafka-cluster`.",
        5 TransactionalId "TRANSACTIONAL_ID" "A transactional id.",
        6 DelegationToken "DELEGATION_TOKEN" "A delegation token.",
        7 User "USER" "A user. KIP-373.",
    }
}

wire_words! {
    /// How the name in an entry is to be taken. KIP-290.
    PatternType {
        3 Literal "LITERAL" "As it is; `*` stands for all.",
        4 Prefixed "PREFIXED" "As the beginning of names.",
    }
}

wire_words! {
    /// What may be done.
    AclOperation {
        2 All "ALL" "Everything.",
        3 Read "READ" "Reading records, being in a group.",
        4 Write "WRITE" "Writing records.",
        5 Create "CREATE" "Creating.",
        6 Delete "DELETE" "Deleting.",
        7 Alter "ALTER" "Changing.",
        8 Describe "DESCRIBE" "Seeing that it is there, and what it is like.",
        9 ClusterAction "CLUSTER_ACTION" "What brokers do among themselves.",
        10 DescribeConfigs "DESCRIBE_CONFIGS" "Seeing its settings.",
        11 AlterConfigs "ALTER_CONFIGS" "Changing its settings.",
        12 IdempotentWrite "IDEMPOTENT_WRITE" "Writing as an idempotent producer.",
        13 CreateTokens "CREATE_TOKENS" "Creating delegation tokens for a user.",
        14 DescribeTokens "DESCRIBE_TOKENS" "Seeing delegation tokens of a user.",
        15 TwoPhaseCommit "TWO_PHASE_COMMIT" "Transactions that another system decides on.",
    }
}

wire_words! {
    /// Whether something may be done.
    Permission {
        2 Deny "DENY" "It may not.",
        3 Allow "ALLOW" "It may.",
    }
}

/// An entry: who may, or may not, do what with which resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// The type of resource.
    pub resource: ResourceType,
    /// How the name is to be taken.
    pub pattern: PatternType,
    /// The name, or its beginning.
    pub name: Arc<str>,
    /// Whom it is for: `User:alice`, or `User:*`.
    pub principal: Arc<str>,
    /// The address they come from, or `*`.
    pub host: Arc<str>,
    /// What they do.
    pub operation: AclOperation,
    /// Whether they may.
    pub permission: Permission,
}

impl Acl {
    /// The least of all entries for this pattern.
    fn first(resource: ResourceType, pattern: PatternType, name: Arc<str>) -> Self {
        let (operation, permission) = (AclOperation::All, Permission::Deny);
        let (principal, host) = ("".into(), "".into());
        Self { resource, pattern, name, principal, host, operation, permission }
    }

    pub(super) fn from_record(record: &AccessControlEntryRecord) -> Option<Self> {
        Some(Self {
            resource: ResourceType::from_wire(record.resource_type)?,
            pattern: PatternType::from_wire(record.pattern_type)?,
            name: record.resource_name.as_str().into(),
            principal: record.principal.as_str().into(),
            host: record.host.as_str().into(),
            operation: AclOperation::from_wire(record.operation)?,
            permission: Permission::from_wire(record.permission_type)?,
        })
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, pattern, name, principal, host, operation, permission } = self;
        write!(
            f,
            "{permission} {operation} on {pattern} {resource} {name} to {principal} from {host}"
        )
    }
}

/// How the pattern of an entry must relate to the name that is asked for. KIP-290.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternFilter {
    /// Any pattern, of exactly this name.
    Any,
    /// Any pattern that the name falls under.
    Match,
    /// This pattern, of exactly this name.
    Is(PatternType),
}

/// Which entries are meant; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFilter {
    /// The type of resource.
    pub resource: Option<ResourceType>,
    /// How the name of the entry must relate to `name`.
    pub pattern: PatternFilter,
    /// The resource's name.
    pub name: Option<Arc<str>>,
    /// Whom they are for.
    pub principal: Option<Arc<str>>,
    /// The address they are for.
    pub host: Option<Arc<str>>,
    /// What may be done.
    pub operation: Option<AclOperation>,
    /// Whether it may.
    pub permission: Option<Permission>,
}

impl AclFilter {
    /// True when `acl` is meant.
    #[must_use]
    pub fn fits(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, got: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == got)
        }
        is(&self.resource, &acl.resource)
            && self.fits_pattern(acl)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && is(&self.operation, &acl.operation)
            && is(&self.permission, &acl.permission)
    }

    fn fits_pattern(&self, acl: &Acl) -> bool {
        if matches!(self.pattern, PatternFilter::Is(pattern) if pattern != acl.pattern) {
            return false;
        }
        let Some(name) = &self.name else { return true };
        match (self.pattern, acl.pattern) {
            (PatternFilter::Any | PatternFilter::Is(_), _) => *name == acl.name,
            (PatternFilter::Match, PatternType::Literal) => {
                *name == acl.name || &*acl.name == WILDCARD
            }
            (PatternFilter::Match, PatternType::Prefixed) => name.starts_with(&*acl.name),
        }
    }
}

/// The record that creates an entry.
#[must_use]
pub fn acl_record(id: TopicId, acl: &Acl) -> Record {
    AccessControlEntryRecord {
        id,
        resource_type: acl.resource.to_wire(),
        resource_name: acl.name.to_string(),
        pattern_type: acl.pattern.to_wire(),
        principal: acl.principal.to_string(),
        host: acl.host.to_string(),
        operation: acl.operation.to_wire(),
        permission_type: acl.permission.to_wire(),
    }
    .into()
}

/// All entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    ids: BTreeMap<Acl, TopicId>,
    by_id: BTreeMap<TopicId, Acl>,
}

impl Acls {
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// All entries with their ids, those for one resource together.
    pub fn iter(&self) -> impl Iterator<Item = (&Acl, TopicId)> {
        self.ids.iter().map(|(acl, &id)| (acl, id))
    }

    /// The id of this entry. `None`: there is no such entry.
    #[must_use]
    pub fn id(&self, acl: &Acl) -> Option<TopicId> {
        self.ids.get(acl).copied()
    }

    /// True when an entry has this id.
    #[must_use]
    pub fn has(&self, id: TopicId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Calls `visit` with every entry that is about this resource: for its name, for all names, or
    /// for a beginning of its name.
    pub fn each_of<'a>(
        &'a self,
        resource: ResourceType,
        name: &str,
        visit: &mut dyn FnMut(&'a Acl),
    ) {
        self.each_for(resource, PatternType::Literal, name, visit);
        if name != WILDCARD {
            self.each_for(resource, PatternType::Literal, WILDCARD, visit);
        }
        // From the longest beginning to the shortest; where another name stands next below, what it
        // has in common with ours is the longest that can still be there.
        let prefixed = |name: String| Acl::first(resource, PatternType::Prefixed, name.into());
        let mut below = prefixed(format!("{name}\0"));
        while let Some((found, _)) = self.ids.range(..below).next_back() {
            if (found.resource, found.pattern) != (resource, PatternType::Prefixed) {
                break;
            }
            if name.starts_with(&*found.name) {
                self.each_for(resource, PatternType::Prefixed, &found.name, visit);
                below = prefixed(found.name.to_string());
            } else {
                let common = name.chars().zip(found.name.chars()).take_while(|(a, b)| a == b);
                let common: String = common.map(|(same, _)| same).collect();
                below = prefixed(format!("{common}\0"));
            }
        }
    }

    fn each_for<'a>(
        &'a self,
        resource: ResourceType,
        pattern: PatternType,
        name: &str,
        visit: &mut dyn FnMut(&'a Acl),
    ) {
        let first = Acl::first(resource, pattern, name.into());
        let is_it =
            |acl: &Acl| (acl.resource, acl.pattern, &*acl.name) == (resource, pattern, name);
        self.ids.range(first..).map(|(acl, _)| acl).take_while(|acl| is_it(acl)).for_each(visit);
    }

    /// Adds an entry; false when it, or its id, is there already.
    pub(super) fn add(&mut self, id: TopicId, acl: Acl) -> bool {
        if self.by_id.contains_key(&id) || self.ids.contains_key(&acl) {
            return false;
        }
        self.ids.insert(acl.clone(), id);
        self.by_id.insert(id, acl);
        true
    }

    /// Removes the entry of this id; false when there is none.
    pub(super) fn remove(&mut self, id: TopicId) -> bool {
        let Some(acl) = self.by_id.remove(&id) else { return false };
        self.ids.remove(&acl);
        true
    }

    pub(super) fn to_records(&self) -> impl Iterator<Item = Record> {
        self.iter().map(|(acl, id)| acl_record(id, acl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: PatternType, name: &str, principal: &str) -> Acl {
        let first = Acl::first(ResourceType::Topic, pattern, name.into());
        Acl { principal: principal.into(), host: WILDCARD.into(), ..first }
    }

    #[test]
    fn all_that_is_about_a_resource_is_found_and_nothing_else() {
        let literal = |name: &str| acl(PatternType::Literal, name, "User:a");
        let prefixed = |name: &str| acl(PatternType::Prefixed, name, "User:a");
        let all = [
            literal("abc"),
            literal("ab"),
            literal("*"),
            prefixed(""),
            prefixed("a"),
            prefixed("ab"),
            prefixed("aa"),
            prefixed("abb"),
            prefixed("abcd"),
            prefixed("b"),
            Acl { principal: "User:b".into(), ..prefixed("ab") },
            Acl { resource: ResourceType::Group, ..prefixed("ab") },
            Acl { resource: ResourceType::Group, ..literal("abc") },
        ];
        let mut acls = Acls::default();
        for (acl, n) in all.iter().zip(1..) {
            assert!(acls.add(TopicId([n; 16]), acl.clone()));
            assert!(!acls.add(TopicId([99; 16]), acl.clone()), "said twice");
            assert!(!acls.add(TopicId([n; 16]), literal("other")), "an id used twice");
        }
        let mut found = Vec::new();
        acls.each_of(ResourceType::Topic, "abc", &mut |acl| found.push(acl.to_string()));
        let want = [
            literal("abc"),
            literal("*"),
            prefixed("ab"),
            Acl { principal: "User:b".into(), ..prefixed("ab") },
            prefixed("a"),
            prefixed(""),
        ];
        assert_eq!(found, want.map(|acl| acl.to_string()));
        assert!(acls.remove(TopicId([1; 16])));
        assert!(!acls.remove(TopicId([1; 16])));
        assert_eq!(acls.id(&literal("abc")), None);
        assert_eq!(acls.len(), all.len() - 1);
    }

    #[test]
    fn a_filter_means_exact_names_unless_it_asks_what_a_name_falls_under() {
        let all = AclFilter {
            resource: None,
            pattern: PatternFilter::Any,
            name: None,
            principal: None,
            host: None,
            operation: None,
            permission: None,
        };
        let named = AclFilter { name: Some("abc".into()), ..all.clone() };
        let matching = AclFilter { pattern: PatternFilter::Match, ..named.clone() };
        let prefixed =
            AclFilter { pattern: PatternFilter::Is(PatternType::Prefixed), ..named.clone() };
        let acls = [
            acl(PatternType::Literal, "abc", "User:a"),
            acl(PatternType::Literal, "*", "User:a"),
            acl(PatternType::Prefixed, "abc", "User:a"),
            acl(PatternType::Prefixed, "ab", "User:a"),
            acl(PatternType::Literal, "ab", "User:a"),
        ];
        let check = |filter: &AclFilter, want: [bool; 5]| {
            assert_eq!(acls.each_ref().map(|acl| filter.fits(acl)), want, "{filter:?}");
        };
        check(&all, [true; 5]);
        check(&named, [true, false, true, false, false]);
        check(&matching, [true, true, true, true, false]);
        check(&prefixed, [false, false, true, false, false]);
        check(&AclFilter { principal: Some("User:b".into()), ..all.clone() }, [false; 5]);
        check(&AclFilter { operation: Some(AclOperation::Read), ..all.clone() }, [false; 5]);
        check(&AclFilter { permission: Some(Permission::Deny), ..all }, [true; 5]);
    }

    #[test]
    fn numbers_are_those_of_kafkas_enumerations() {
        assert_eq!(
            ResourceType::ALL.iter().map(|it| it.to_wire()).collect::<Vec<_>>(),
            [2, 3, 4, 5, 6, 7]
        );
        assert!(AclOperation::ALL.iter().map(|it| it.to_wire()).eq(2..=15));
        for number in -1..20 {
            let read = AclOperation::from_wire(number);
            assert_eq!(read.is_some(), (2..=15).contains(&number));
            assert!(read.is_none_or(|it| it.to_wire() == number));
        }
    }
}
