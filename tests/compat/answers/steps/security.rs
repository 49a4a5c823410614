//! Who may come in and what they may do, as far as that is asked of a listener that lets all in.
//!
//! The authorizer is on, and the script a super user: nothing is refused to it.
//!
//! Shell.

use bytes::Bytes;
use protocol::api::acls::{
    AclCreation, AclFilter, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
    DescribeAclsResponse,
};
use protocol::api::sasl::{SaslAuthenticateRequest, SaslHandshakeRequest};
use protocol::api::scram::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, ScramCredentialDeletion,
    ScramCredentialUpsertion, ScramUser,
};

use crate::answers::script::Script;

const ANY: i8 = 1;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const ALLOW: i8 = 3;

pub(in crate::answers) fn authentication(script: &mut Script) -> anyhow::Result<()> {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "", "NO-SUCH"] {
        script.every(&format!("{mechanism:?} where nobody authenticates"), |_| {
            SaslHandshakeRequest { mechanism: mechanism.to_owned() }
        })?;
    }
    script.every("words of a mechanism where nobody authenticates", |_| {
        SaslAuthenticateRequest { auth_bytes: Bytes::from_static(b"\0user\0password") }
    })?;
    let asked = |names: Option<&[&str]>| DescribeUserScramCredentialsRequest {
        users: names
            .map(|names| names.iter().map(|name| ScramUser { name: (*name).to_owned() }).collect()),
    };
    let upsert = |name: &str, mechanism: i8, iterations: i32| ScramCredentialUpsertion {
        name: name.to_owned(),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"0123456789abcdef"),
        salted_password: Bytes::from(vec![7; if mechanism == 2 { 64 } else { 32 }]),
    };
    let set = |upsertions: Vec<ScramCredentialUpsertion>| AlterUserScramCredentialsRequest {
        upsertions,
        ..AlterUserScramCredentialsRequest::default()
    };
    let unset = |name: &str, mechanism: i8| AlterUserScramCredentialsRequest {
        deletions: vec![ScramCredentialDeletion { name: name.to_owned(), mechanism }],
        ..AlterUserScramCredentialsRequest::default()
    };
    script.ask("no users yet", 0, asked(None))?;
    script.ask("an unknown user", 0, asked(Some(&["nobody"])))?;
    for (what, request) in [
        ("too few iterations", set(vec![upsert("alice", 1, 4095)])),
        ("too many iterations", set(vec![upsert("alice", 1, 16385)])),
        ("an unknown mechanism", set(vec![upsert("alice", 9, 4096)])),
        ("a user without a name", set(vec![upsert("", 1, 4096)])),
        ("a user twice", set(vec![upsert("alice", 1, 4096), upsert("alice", 1, 8192)])),
        ("nothing", set(vec![])),
        ("a deletion of nobody", unset("nobody", 1)),
        ("a deletion of an unknown mechanism", unset("alice", 9)),
        ("credentials", set(vec![upsert("alice", 1, 4096)])),
        ("credentials of another mechanism", set(vec![upsert("alice", 2, 8192)])),
    ] {
        script.ask(what, 0, request)?;
    }
    let all = asked(None);
    script.until("all users", 0, all, |it| {
        it.results.first().is_some_and(|it| it.credential_infos.len() == 2)
    })?;
    script.ask("some users", 0, asked(Some(&["alice", "nobody", ""])))?;
    script.ask("a user asked for twice", 0, asked(Some(&["alice", "alice"])))?;
    script.ask("no users", 0, asked(Some(&[])))?;
    script.ask("a deletion", 0, unset("alice", 1))?;
    script.until("all users after a deletion", 0, asked(None), |it| {
        it.results.first().is_some_and(|it| it.credential_infos.len() == 1)
    })?;
    Ok(())
}

fn entry(kind: i8, name: &str, pattern: i8) -> AclCreation {
    AclCreation {
        resource_type: kind,
        resource_name: name.to_owned(),
        resource_pattern_type: pattern,
        principal: "User:alice".to_owned(),
        host: "*".to_owned(),
        operation: READ,
        permission_type: ALLOW,
    }
}

fn filter(kind: i8, name: Option<&str>, pattern: i8) -> AclFilter {
    AclFilter {
        resource_type: kind,
        resource_name: name.map(str::to_owned),
        pattern_type: pattern,
        principal: None,
        host: None,
        operation: ANY,
        permission_type: ANY,
    }
}

fn describe(by: AclFilter) -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type: by.resource_type,
        resource_name: by.resource_name,
        pattern_type: by.pattern_type,
        principal: by.principal,
        host: by.host,
        operation: by.operation,
        permission_type: by.permission_type,
    }
}

pub(in crate::answers) fn permissions(script: &mut Script) -> anyhow::Result<()> {
    let create = |creations: Vec<AclCreation>| CreateAclsRequest { creations };
    let of = |principal: &str| AclCreation {
        principal: principal.to_owned(),
        ..entry(TOPIC, "wrong", LITERAL)
    };
    for (what, wrong) in [
        ("an unknown resource", entry(0, "wrong", LITERAL)),
        ("any resource", entry(ANY, "wrong", LITERAL)),
        ("a resource without a name", entry(TOPIC, "", LITERAL)),
        ("any pattern", entry(TOPIC, "wrong", 1)),
        ("a pattern that matches", entry(TOPIC, "wrong", 2)),
        ("another cluster", entry(4, "wrong", LITERAL)),
        ("a principal without a type", of("alice")),
        ("no principal", of("")),
        ("an unknown operation", AclCreation { operation: 0, ..entry(TOPIC, "wrong", LITERAL) }),
        ("any operation", AclCreation { operation: ANY, ..entry(TOPIC, "wrong", LITERAL) }),
        ("any permission", AclCreation { permission_type: ANY, ..entry(TOPIC, "wrong", LITERAL) }),
        ("no host", AclCreation { host: String::new(), ..entry(TOPIC, "wrong", LITERAL) }),
    ] {
        script.every(what, |_| create(vec![wrong.clone()]))?;
    }
    script.every("nothing", |_| create(vec![]))?;
    script.every("several entries", |_| {
        create(vec![
            entry(TOPIC, "read", LITERAL),
            entry(TOPIC, "rea", PREFIXED),
            entry(TOPIC, "*", LITERAL),
            entry(GROUP, "group", LITERAL),
            entry(TOPIC, "read", LITERAL),
        ])
    })?;
    let all = filter(ANY, None, 1);
    let has = |it: &DescribeAclsResponse, kind: i8, pattern: i8| {
        it.resources.iter().any(|it| it.resource_type == kind && it.pattern_type == pattern)
    };
    script.settle(3, describe(all.clone()), |it| {
        has(it, TOPIC, PREFIXED) && has(it, GROUP, LITERAL)
    })?;
    for (what, by) in [
        ("all", all.clone()),
        ("topics", filter(TOPIC, None, 1)),
        ("literal topics", filter(TOPIC, None, LITERAL)),
        ("prefixed topics", filter(TOPIC, None, PREFIXED)),
        ("a topic", filter(TOPIC, Some("read"), LITERAL)),
        ("what matches a topic", filter(TOPIC, Some("read"), 2)),
        ("nothing", filter(TOPIC, Some("absent"), LITERAL)),
        ("of nobody", AclFilter { principal: Some("User:nobody".to_owned()), ..all.clone() }),
        ("of alice", AclFilter { principal: Some("User:alice".to_owned()), ..all.clone() }),
        ("of a host", AclFilter { host: Some("10.0.0.1".to_owned()), ..all.clone() }),
        ("writing", AclFilter { operation: 4, ..all.clone() }),
        ("denials", AclFilter { permission_type: 2, ..all.clone() }),
    ] {
        script.every(what, |_| describe(by.clone()))?;
    }
    let delete = |filters: Vec<AclFilter>| DeleteAclsRequest { filters };
    script.every("nothing", |_| delete(vec![]))?;
    script.every("what is not there", |_| delete(vec![filter(TOPIC, Some("absent"), LITERAL)]))?;
    script.ask("an entry", 1, delete(vec![filter(GROUP, None, LITERAL)]))?;
    script.settle(3, describe(all.clone()), |it| !has(it, GROUP, LITERAL))?;
    script.ask(
        "entries twice",
        2,
        delete(vec![filter(TOPIC, Some("*"), LITERAL), filter(TOPIC, None, LITERAL)]),
    )?;
    script.settle(3, describe(all.clone()), |it| !has(it, TOPIC, LITERAL))?;
    script.ask("all entries", 3, delete(vec![all.clone()]))?;
    script.until("no entries", 3, describe(all), |it| it.resources.is_empty())?;
    Ok(())
}
