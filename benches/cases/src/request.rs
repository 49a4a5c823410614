//! Whole requests through a whole broker, from the frame that comes in to the one that goes out.
//!
//! The broker is embedded, its network is within the process, and all of it runs on one thread:
//! what is counted is everything that a request needs but the socket. Logs are real files that
//! nothing waits to be synced of. Shell.

use std::hint::black_box;

use broker::config::BrokerConfig;
use broker::{Broker, BrokerHandle, Mode, Outside};
use bytes::{Bytes, BytesMut};
use client::net::memory::MemoryNetwork;
use client::net::{BoxStream, Connector, Endpoint};
use protocol::api::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::api_key::ApiKey;
use protocol::header::RequestHeader;
use protocol::message::{Versioned, encode_message};
use protocol::primitive::Writer;
use protocol::record::Codec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::batch::batch;
use crate::codec::produce_request;
use crate::{Case, Scratch, Work, runtime};

/// All of this file.
pub const CASES: [Case; 4] = [
    Case { name: "request: Produce 1 KiB", prepare: produce_small },
    Case { name: "request: Produce 16 KiB", prepare: produce_batch },
    Case { name: "request: Produce 1 KiB, five in flight", prepare: produce_pipelined },
    Case { name: "request: Fetch 1 KiB", prepare: fetch },
];

const TOPIC: &str = "orders";
const ERROR_NONE: [u8; 2] = [0, 0];

/// A broker and one connection to it; dropped in this order.
struct Connected {
    stream: BoxStream,
    runtime: Runtime,
    _broker: BrokerHandle,
    _scratch: Scratch,
    answer: BytesMut,
}

impl Connected {
    /// A broker with the topic, and a connection that knows of it.
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let settings = [
            ("log.dir", scratch.0.display().to_string()),
            ("flush.mode", "async".to_owned()),
            ("listeners", "PLAINTEXT://bench:1".to_owned()),
        ];
        let config = BrokerConfig::from_pairs(settings).expect("the settings are sound");
        let (network, endpoint) = (MemoryNetwork::new(), Endpoint::new("bench", 1));
        let listener = network.listen(endpoint.clone()).expect("nobody else listens");
        let outside = Outside::embedded(vec![Box::new(listener)]);
        let outside = Outside { writer: Mode::Inline, seed: 1, ..outside };
        let runtime = runtime();
        let (broker, stream) = runtime.block_on(async {
            let broker = Broker::start(config, outside).await.expect("the directory is new");
            (broker, network.connect(&endpoint).await.expect("it listens"))
        });
        let mut connected =
            Self { stream, runtime, _broker: broker, _scratch: scratch, answer: BytesMut::new() };
        connected.create_topic();
        connected
    }

    /// Asks for the topic until it is led.
    fn create_topic(&mut self) {
        let topic = MetadataRequestTopic {
            name: Some(TOPIC.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        let ask = frame(ApiKey::Metadata, 4, &request);
        let append = frame(ApiKey::Produce, 3, &appending(1, 10));
        for _ in 0..1000 {
            self.call(&ask, 1);
            self.call(&append, 1);
            if self.produced() {
                return;
            }
        }
        panic!("the topic was not created");
    }

    /// Sends `requests` and reads `count` answers; the last stays.
    fn call(&mut self, requests: &[u8], count: usize) {
        let Self { stream, runtime, answer, .. } = self;
        runtime.block_on(async {
            stream.write_all(requests).await.expect("the broker reads");
            for _ in 0..count {
                let length = stream.read_u32().await.expect("the broker answers");
                answer.resize(usize::try_from(length).expect("it is short"), 0);
                stream.read_exact(answer).await.expect("the broker answers");
            }
        });
    }

    /// Whether the last answer, to Produce 3, says that the batch was appended.
    fn produced(&self) -> bool {
        // Correlation id, topics, name, partitions, index; then the error.
        let at = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
        self.answer.get(at..at + 2) == Some(&ERROR_NONE[..])
    }
}

fn appending(records: i64, bytes: usize) -> protocol::api::produce::ProduceRequest {
    produce_request(TOPIC, -1, batch(records, bytes, Codec::None).into_bytes())
}

fn frame<T: Versioned>(api: ApiKey, version: i16, message: &T) -> Bytes {
    let header = RequestHeader {
        api_key: api.to_wire(),
        api_version: version,
        correlation_id: 1,
        client_id: Some("bench".to_owned()),
    };
    let mut writer = Writer::new();
    header.encode(&mut writer).expect("a short client id");
    encode_message(version, message, &mut writer).expect("a message of this version");
    writer.finish_frame().expect("it is small").into_bytes()
}

fn producing(name: &str, records: i64, bytes: usize, in_flight: usize) -> Work {
    let mut connected = Connected::new(name);
    let requests = frame(ApiKey::Produce, 3, &appending(records, bytes)).repeat(in_flight);
    Box::new(move || {
        connected.call(&requests, in_flight);
        assert!(connected.produced());
    })
}

fn produce_small() -> Work {
    producing("small", 1, 1000, 1)
}

fn produce_batch() -> Work {
    producing("batch", 16, 1000, 1)
}

fn produce_pipelined() -> Work {
    producing("pipelined", 1, 1000, 5)
}

fn fetch() -> Work {
    let mut connected = Connected::new("fetch");
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic {
        topic: TOPIC.to_owned(),
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    let request = FetchRequest { min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
    let request = frame(ApiKey::Fetch, 11, &request);
    connected.call(&frame(ApiKey::Produce, 3, &appending(1, 1000)), 1);
    Box::new(move || {
        connected.call(&request, 1);
        black_box(&connected.answer);
        assert!(connected.answer.len() > 1000);
    })
}
