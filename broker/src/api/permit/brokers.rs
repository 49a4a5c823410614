//! Requests that brokers send to each other: refused wherever brokers do not speak.
//!
//! Markers end transactions, and who fetches as a follower says how far the others may read: on a
//! listener that clients reach, nobody is believed to be a broker. Where brokers speak, an
//! authorizer asks for CLUSTER_ACTION. Operators who may alter the cluster end hanging transactions
//! from anywhere, as they may do anything else. KIP-664, CVE-2018-1288. Pure.

use protocol::api::fetch::FetchRequest;
use protocol::api::{AnyRequest, AnyResponse};

use super::{Gate, txns};
use crate::auth::audit::Target;
use crate::controller::CLUSTER_NAME;
use crate::metadata::{AclOperation, ResourceType};

/// True for a request of a follower: it does not read as a consumer does.
pub(in crate::api) fn is_followers(body: &FetchRequest) -> bool {
    body.replica_id >= 0 || body.replica_state.replica_id >= 0
}

/// What is denied to who speaks as a broker where brokers do not.
pub(in crate::api) fn denied() -> Target {
    Target {
        kind: ResourceType::Cluster.to_string(),
        name: CLUSTER_NAME.to_owned(),
        operation: AclOperation::ClusterAction.to_string(),
    }
}

/// Judges a request that came by a listener by which brokers do not speak: the request, if it is
/// none of theirs. Fetch alone is not judged here: its partitions are found later.
///
/// # Errors
/// Its answer, if it is.
pub(in crate::api) fn judge(
    gate: Option<&Gate>,
    version: i16,
    body: AnyRequest,
) -> Result<AnyRequest, Box<AnyResponse>> {
    let is_operators = || gate.is_some_and(|gate| gate.quiet().cluster(AclOperation::Alter));
    match body {
        AnyRequest::WriteTxnMarkers(_) if is_operators() => Ok(body),
        AnyRequest::WriteTxnMarkers(body) => Err(Box::new(txns::unwritten(body).into())),
        AnyRequest::AddPartitionsToTxn(_) if version >= txns::ADDED_BY_BROKERS => {
            Err(Box::new(txns::not_added().into()))
        }
        body => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::fetch::ReplicaState;
    use protocol::api::txn::{
        AddPartitionsToTxnRequest, WritableTxnMarker, WritableTxnMarkerTopic,
        WriteTxnMarkersRequest,
    };
    use protocol::error_code::ErrorCode;

    use super::*;

    fn codes(judged: Result<AnyRequest, Box<AnyResponse>>) -> Option<Vec<i16>> {
        let response = judged.err()?;
        let mut codes = Vec::new();
        response.each_error(&mut |code| codes.push(code));
        Some(codes)
    }

    #[test]
    fn who_is_no_broker_writes_no_markers_and_adds_nothing_as_one() {
        let topic = WritableTxnMarkerTopic { name: "t".to_owned(), partition_indexes: vec![0] };
        let marker = WritableTxnMarker { topics: vec![topic], ..Default::default() };
        let markers = WriteTxnMarkersRequest { markers: vec![marker] };
        let denied = ErrorCode::ClusterAuthorizationFailed.to_wire();
        assert_eq!(codes(judge(None, 1, markers.into())), Some(vec![denied]));
        let adding = || AddPartitionsToTxnRequest::default().into();
        assert!(codes(judge(None, 4, adding())).is_some_and(|it| it.contains(&denied)));
        assert_eq!(codes(judge(None, 3, adding())), None, "that is a client's");
    }

    #[test]
    fn a_follower_is_known_by_its_id_in_each_version() {
        let consumer = FetchRequest::default();
        assert!(!is_followers(&consumer));
        assert!(!is_followers(&FetchRequest { replica_id: -2, ..consumer.clone() }));
        assert!(is_followers(&FetchRequest { replica_id: 0, ..consumer.clone() }));
        let replica_state = ReplicaState { replica_id: 0, replica_epoch: 1 };
        assert!(is_followers(&FetchRequest { replica_state, ..consumer }));
    }
}
