//! Whether somebody may do something, by the access control lists.
//!
//! Who is a super user may do everything. Of the entries about a resource, one that denies wins
//! over all that allow; where none is about it, a setting decides, and otherwise what is not
//! allowed is denied. Reading, writing, deleting and altering include describing, altering settings
//! includes describing them. The rules are those of Kafka's `StandardAuthorizer`. KIP-11, KIP-290,
//! KIP-801. Pure.

use std::collections::BTreeSet;

use crate::config::BrokerConfig;
use crate::metadata::{Acl, AclOperation, Acls, PatternType, Permission, ResourceType, WILDCARD};

/// The principal of entries that are for everybody.
const EVERYBODY: &str = "User:*";

/// Whom something is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The principal: `User:alice`.
    pub principal: String,
    /// The address it comes from.
    pub host: String,
}

/// Decides by the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    super_users: BTreeSet<String>,
    allows_unlisted: bool,
}

impl Authorizer {
    /// What the settings ask for. `None`: everybody may do everything.
    #[must_use]
    pub fn new(config: &BrokerConfig) -> Option<Self> {
        if config.authorizer_class_name.is_empty() {
            return None;
        }
        let super_users = config.super_users.split(';').map(str::trim).filter(|it| !it.is_empty());
        Some(Self {
            super_users: super_users.map(str::to_owned).collect(),
            allows_unlisted: config.allow_everyone_if_no_acl_found,
        })
    }

    /// True when `who` may do this with the resource of this name.
    #[must_use]
    pub fn permits(
        &self,
        acls: &Acls,
        who: &Who,
        operation: AclOperation,
        resource: ResourceType,
        name: &str,
    ) -> bool {
        if self.super_users.contains(&who.principal) {
            return true;
        }
        let (mut is_listed, mut is_allowed, mut is_denied) = (false, false, false);
        acls.each_of(resource, name, &mut |acl| {
            is_listed = true;
            let concerns = is_for(acl, who) && covers(acl, operation);
            match acl.permission {
                Permission::Allow => is_allowed |= concerns,
                Permission::Deny => is_denied |= concerns,
            }
        });
        !is_denied && (is_allowed || (!is_listed && self.allows_unlisted))
    }

    /// True when there can be a resource of this type with which `who` may do this: one that no
    /// entry is about, or one that an entry allows and none denies.
    #[must_use]
    pub fn permits_some(
        &self,
        acls: &Acls,
        who: &Who,
        operation: AclOperation,
        resource: ResourceType,
    ) -> bool {
        // No resource has such a name: what holds for it is what holds for all without entries.
        if self.permits(acls, who, operation, resource, "\u{0}") {
            return true;
        }
        let concerns = |acl: &&Acl| {
            acl.resource == resource
                && is_for(acl, who)
                && [AclOperation::All, operation].contains(&acl.operation)
        };
        let concerning: Vec<_> = acls.iter().map(|(acl, _)| acl).filter(concerns).collect();
        let is_denied = |allowed: &Acl| {
            concerning.iter().filter(|acl| acl.permission == Permission::Deny).any(|denied| {
                match denied.pattern {
                    PatternType::Prefixed => allowed.name.starts_with(&*denied.name),
                    PatternType::Literal => {
                        &*denied.name == WILDCARD
                            || (allowed.pattern == PatternType::Literal
                                && allowed.name == denied.name)
                    }
                }
            })
        };
        let mut allowed = concerning.iter().filter(|acl| acl.permission == Permission::Allow);
        allowed.any(|acl| !is_denied(acl))
    }
}

fn is_for(acl: &Acl, who: &Who) -> bool {
    let is_them = *acl.principal == *who.principal || &*acl.principal == EVERYBODY;
    is_them && (*acl.host == *who.host || &*acl.host == WILDCARD)
}

/// True when an entry about its operation is one about `asked`.
fn covers(acl: &Acl, asked: AclOperation) -> bool {
    use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    if acl.operation == All || acl.operation == asked {
        return true;
    }
    // Who may not write may still look: what is denied includes nothing else.
    acl.permission == Permission::Allow
        && match asked {
            Describe => [Read, Write, Delete, Alter].contains(&acl.operation),
            DescribeConfigs => acl.operation == AlterConfigs,
            _ => false,
        }
}

#[cfg(test)]
#[path = "acl_model_tests.rs"]
mod model;

#[cfg(test)]
mod tests {
    use protocol::ids::TopicId;

    use super::*;
    use crate::metadata::{Delta, Image, acl_record};

    fn authorizer(pairs: &[(&str, &str)]) -> Option<Authorizer> {
        Authorizer::new(&BrokerConfig::from_pairs(pairs.iter().copied()).unwrap())
    }

    const STANDARD: (&str, &str) =
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");

    /// Entries of topics: `allow|deny OPERATION =NAME|^PREFIX PRINCIPAL HOST`.
    fn image(entries: &[&str]) -> Image {
        let mut image = Image::empty("c");
        for (entry, n) in entries.iter().zip(1..) {
            let words: Vec<_> = entry.split(' ').collect();
            let operation = |it: &&AclOperation| it.to_string() == words[1];
            let (pattern, name) = match words[2].strip_prefix('^') {
                Some(name) => (PatternType::Prefixed, name),
                None => (PatternType::Literal, &words[2][1..]),
            };
            let acl = Acl {
                resource: ResourceType::Topic,
                pattern,
                name: name.into(),
                principal: words[3].into(),
                host: words[4].into(),
                operation: *AclOperation::ALL.iter().find(operation).unwrap(),
                permission: if words[0] == "allow" { Permission::Allow } else { Permission::Deny },
            };
            image.apply(&acl_record(TopicId([n; 16]), &acl), &mut Delta::default()).unwrap();
        }
        image
    }

    fn who(principal: &str) -> Who {
        Who { principal: principal.to_owned(), host: "10.0.0.7".to_owned() }
    }

    #[test]
    fn without_an_authorizer_nobody_is_asked() {
        assert_eq!(authorizer(&[]), None);
    }

    #[test]
    fn what_is_not_allowed_is_denied_and_a_denial_wins() {
        use AclOperation::{AlterConfigs, Describe, DescribeConfigs, Read, Write};
        let strict = authorizer(&[STANDARD, ("super.users", "User:root; User:boot")]).unwrap();
        let lax = authorizer(&[STANDARD, ("allow.everyone.if.no.acl.found", "true")]).unwrap();
        let check = |entries: &[&str], user, operation, want: (bool, bool)| {
            let image = image(entries);
            let ask = |it: &Authorizer| {
                it.permits(image.acls(), &who(user), operation, ResourceType::Topic, "orders")
            };
            assert_eq!((ask(&strict), ask(&lax)), want, "{entries:?} {user} {operation}");
        };
        let (yes, no) = ((true, true), (false, false));
        check(&[], "User:a", Read, (false, true));
        check(&[], "User:boot", Read, yes);
        check(&["allow READ =orders User:a *"], "User:a", Read, yes);
        check(&["allow READ =orders User:a *"], "User:a", Describe, yes);
        check(&["allow READ =orders User:a *"], "User:a", Write, no);
        check(&["allow READ =orders User:a *"], "User:b", Read, no);
        check(&["allow READ =orders User:a 10.0.0.7"], "User:a", Read, yes);
        check(&["allow READ =orders User:a 10.0.0.8"], "User:a", Read, no);
        check(&["allow READ =other User:a *"], "User:a", Read, (false, true));
        check(&["allow READ =* User:* *"], "User:a", Read, yes);
        check(&["allow ALL ^ord User:a *"], "User:a", Write, yes);
        check(&["allow ALTER_CONFIGS =orders User:a *"], "User:a", DescribeConfigs, yes);
        check(&["allow DESCRIBE_CONFIGS =orders User:a *"], "User:a", AlterConfigs, no);
        let denied = ["allow ALL =orders User:a *", "deny WRITE ^o User:* *"];
        check(&denied, "User:a", Write, no);
        check(&denied, "User:a", Describe, yes);
        check(&["deny ALL =orders User:* *"], "User:a", Describe, no);
    }

    #[test]
    fn a_type_is_open_to_whom_some_resource_of_it_can_be() {
        use AclOperation::Write;
        let strict = authorizer(&[STANDARD]).unwrap();
        let check = |entries: &[&str], want| {
            let image = image(entries);
            let topic = ResourceType::Topic;
            let got = strict.permits_some(image.acls(), &who("User:a"), Write, topic);
            assert_eq!(got, want, "{entries:?}");
        };
        check(&[], false);
        check(&["allow WRITE =t User:a *"], true);
        check(&["allow READ =t User:a *"], false);
        check(&["allow WRITE =t User:b *"], false);
        check(&["allow WRITE =t User:a *", "deny WRITE =t User:a *"], false);
        check(&["allow WRITE ^t User:a *", "deny WRITE =t User:a *"], true);
        check(&["allow WRITE ^t User:a *", "deny ALL =* User:* *"], false);
        check(&["allow WRITE =t1 User:a *", "deny WRITE ^t User:a *"], false);
    }
}
