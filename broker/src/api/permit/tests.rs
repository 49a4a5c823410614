//! Laws of the gate, over random requests of every API and version. Pure.

use std::collections::BTreeSet;

use protocol::api_key::ApiKey;
use protocol::primitive::Writer;
use protocol::rng::Rng;

use super::*;
use crate::config::BrokerConfig;

/// Of each version of each API.
const SAMPLES: u64 = 60;

fn gate(settings: &[(&str, &str)]) -> Gate {
    let class = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let settings = [("authorizer.class.name", class)].into_iter().chain(settings.iter().copied());
    let config = BrokerConfig::from_pairs(settings).unwrap();
    let authorizer = Arc::new(Authorizer::new(&config).unwrap());
    let who = Who { principal: "User:a".to_owned(), host: "h".to_owned() };
    Gate::new(authorizer, Arc::new(Image::empty("c")), who, Noting::All)
}

fn each_request(mut check: impl FnMut(ApiKey, i16, AnyRequest, &mut Rng)) {
    let mut rng = Rng::new(7);
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..SAMPLES {
                let request = AnyRequest::sample(key, version, &mut rng);
                check(key, version, request, &mut rng);
            }
        }
    }
}

/// True when some part of the response says that something is not authorised.
fn denies(response: &AnyResponse) -> bool {
    use ErrorCode::{
        ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed,
        TransactionalIdAuthorizationFailed,
    };
    let codes = [
        ClusterAuthorizationFailed,
        GroupAuthorizationFailed,
        TopicAuthorizationFailed,
        TransactionalIdAuthorizationFailed,
    ];
    let mut denies = false;
    response.each_error(&mut |code| denies |= codes.iter().any(|it| it.to_wire() == code));
    denies
}

fn assert_encodes(response: &AnyResponse, version: i16) {
    let encoded = response.encode(version, &mut Writer::new());
    assert!(encoded.is_ok(), "{:?} version {version}: {encoded:?}", response.api_key());
}

#[test]
fn whom_nothing_is_denied_is_served_as_if_nobody_had_asked() {
    let gate = gate(&[("super.users", "User:a")]);
    each_request(|key, version, request, rng| {
        let Verdict::Serve(served, amend) = judge(&gate, version, request.clone()) else {
            panic!("{key} version {version} is refused");
        };
        assert_eq!(served, request, "{key} version {version}");
        let response = AnyResponse::sample(key, version, rng);
        let mut amended = response.clone();
        if let Some(amend) = amend {
            amend(&mut amended);
        }
        // Bits that are no operations on the resource are nobody's.
        let tells_operations = [
            ApiKey::Metadata,
            ApiKey::DescribeCluster,
            ApiKey::DescribeGroups,
            ApiKey::ConsumerGroupDescribe,
            ApiKey::DescribeTopicPartitions,
        ];
        assert!(tells_operations.contains(&key) || amended == response, "{key} version {version}");
    });
}

#[test]
fn who_may_nothing_is_denied_by_every_api_but_those_that_are_open_to_all() {
    let gate = gate(&[]);
    let mut denied = BTreeSet::new();
    each_request(|key, version, request, rng| {
        let response = match judge(&gate, version, request) {
            Verdict::Serve(_, None) | Verdict::Close(_) => return,
            Verdict::Serve(_, Some(amend)) => {
                let mut response = AnyResponse::sample(key, version, rng);
                if denies(&response) {
                    return;
                }
                amend(&mut response);
                response
            }
            Verdict::Refuse(response) => response,
        };
        assert_eq!(response.api_key(), key);
        assert_encodes(&response, version);
        if denies(&response) {
            denied.insert(key);
        }
    });
    let open: Vec<_> = ApiKey::ALL.iter().filter(|key| !denied.contains(key)).collect();
    let want = [
        &ApiKey::Fetch,
        &ApiKey::ListGroups,
        &ApiKey::SaslHandshake,
        &ApiKey::ApiVersions,
        &ApiKey::SaslAuthenticate,
        &ApiKey::DescribeCluster,
        &ApiKey::ListTransactions,
    ];
    assert_eq!(open, want, "Fetch asks where it finds partitions; lists leave out");
}

#[test]
fn who_may_nothing_has_no_operations_and_sees_nothing_in_lists() {
    use protocol::api::group::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
    let gate = gate(&[]);
    assert_eq!(gate.operations(i32::MIN, ResourceType::Topic, "t"), i32::MIN, "not asked for");
    assert_eq!(gate.operations(0b1101_1111_1000, ResourceType::Topic, "t"), 0);
    let Verdict::Serve(_, Some(amend)) = judge(&gate, 4, ListGroupsRequest::default().into())
    else {
        panic!("lists are served");
    };
    let listed = ListedGroup { group_id: "g".to_owned(), ..ListedGroup::default() };
    let mut answer = ListGroupsResponse { groups: vec![listed], ..Default::default() }.into();
    amend(&mut answer);
    assert_eq!(answer, ListGroupsResponse::default().into());
}

#[test]
fn a_producer_that_expects_no_answer_is_told_by_the_end_of_its_connection() {
    use protocol::api::produce::{ProduceRequest, TopicProduceData};
    let topic = TopicProduceData { name: "t".to_owned(), ..Default::default() };
    let request = ProduceRequest { acks: 0, topic_data: vec![topic], ..Default::default() };
    let verdict = judge(&gate(&[]), 9, request.clone().into());
    assert!(matches!(verdict, Verdict::Close(_)));
    let verdict = judge(&gate(&[]), 9, ProduceRequest { acks: 1, ..request }.into());
    assert!(matches!(verdict, Verdict::Refuse(_)));
}
