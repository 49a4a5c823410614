//! InitProducerId: who a producer is from now on. KIP-98, KIP-360. Shell.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use protocol::api::producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::{ProducerEpoch, ProducerId};
use tokio::sync::Mutex;

use super::txn::fenced_as;
use crate::txn::{Init, Producer, Reply, Request, Txns};

/// The first version that knows `ProducerFenced`. KIP-588.
const KNOWS_FENCED: i16 = 4;

/// Gets a block of producer ids that nobody else will ever have.
pub(crate) type Allocate =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Range<i64>, ErrorCode>> + Send + Sync>;

/// Hands out producer ids, block by block. KIP-730.
#[derive(Clone)]
pub(crate) struct ProducerIds {
    allocate: Allocate,
    /// An async lock: whoever finds the block used up gets the next one while the others wait.
    block: Arc<Mutex<Range<i64>>>,
}

impl ProducerIds {
    pub(crate) fn new(allocate: Allocate) -> Self {
        Self { allocate, block: Arc::new(Mutex::new(0..0)) }
    }

    /// A producer id that nobody has had.
    ///
    /// # Errors
    /// Retriable: the controller did not answer.
    pub(crate) async fn next(&self) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = (self.allocate)().await?;
        }
        let id = block.next().expect("a block has ids");
        Ok(ProducerId(id))
    }
}

/// InitProducerId.
pub(crate) async fn init(
    txns: &Txns,
    ids: &ProducerIds,
    version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let answer = match decide(txns, ids, request).await {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            ..InitProducerIdResponse::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: fenced_as(code, KNOWS_FENCED <= version).to_wire(),
            producer_epoch: ProducerEpoch::NONE.0,
            ..InitProducerIdResponse::default()
        },
    };
    tracing::debug!(
        producer_id = answer.producer_id,
        producer_epoch = answer.producer_epoch,
        error_code = answer.error_code,
        "producer initialised"
    );
    answer
}

async fn decide(
    txns: &Txns,
    ids: &ProducerIds,
    request: InitProducerIdRequest,
) -> Result<Producer, ErrorCode> {
    let Some(id) = request.transactional_id else {
        return Ok(Producer { id: ids.next().await?, epoch: ProducerEpoch(0) });
    };
    let named = (0 <= request.producer_id, 0 <= request.producer_epoch);
    let current = match named {
        (true, true) => Some(Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        }),
        (false, false) => None,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let id: Arc<str> = id.into();
    // Looked up first, lest a stranger's questions use ids up.
    txns.partition_of(&id).map_err(|error| error.code())?;
    let timeout = Duration::from_millis(u64::try_from(request.transaction_timeout_ms).unwrap_or(0));
    let init = Init { id: Arc::clone(&id), timeout, current, fresh: ids.next().await? };
    match txns.call(&id, Request::Init(init)).await {
        Ok(Reply::Initialised(initialised)) => initialised,
        Ok(other) => unreachable!("an initialisation is answered as one: {other:?}"),
        Err(error) => Err(error.code()),
    }
}
