//! Who asks: sends what the script says, and writes down every answer as it may be compared.
//!
//! What no two clusters share is replaced by what it means: the broker's port, ids of topics,
//! producers and members by the names the script gives them, times by `<now>`, words for people by
//! `<text>` (that there are some stays a fact). A step is asked again until it is settled where
//! brokers answer before all of them know.
//!
//! Shell.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use protocol::api::versions::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::api::{AnyRequest, AnyResponse, Request, decode_response, encode_request};
use protocol::api_key::ApiKey;
use protocol::ids::TopicId;
use protocol::message::Versioned;
use protocol::time::Clock;

use super::line::{Heard, Line};
use super::tree::{Tree, batches};

/// What the script calls itself.
pub(super) const CLIENT_ID: &str = "answers";

/// How often a question may be repeated until it is settled, 20 ms apart: half a minute.
const ATTEMPTS: usize = 1500;

/// A day: what lies nearer than this to now is a time of this run.
const DAY_MS: i64 = 86_400_000;

/// An answer, and to what.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Of the API.
    pub(super) api: String,
    pub(super) version: i16,
    /// What was asked, in the script's words.
    pub(super) step: String,
    pub(super) tree: Tree,
}

/// One run of the script.
pub(super) struct Script {
    lines: [Line; 2],
    port: String,
    clock: Clock,
    answers: Vec<Answer>,
    /// By id, what the script calls it.
    names: BTreeMap<String, String>,
    producers: BTreeMap<i64, String>,
    common: Common,
}

/// By API, the versions that both brokers advertise.
pub(super) type Common = BTreeMap<i16, RangeInclusive<i16>>;

/// What the broker advertises.
pub(super) fn advertised(endpoint: &str) -> anyhow::Result<ApiVersionsResponse> {
    let mut script = Script::new(endpoint, Common::new())?;
    script.quiet(0, ApiVersionsRequest::default())
}

impl Script {
    pub(super) fn new(endpoint: &str, common: Common) -> anyhow::Result<Self> {
        let port = endpoint.rsplit(':').next().unwrap_or_default().to_owned();
        let lines = [Line::open(endpoint)?, Line::open(endpoint)?];
        Ok(Self {
            lines,
            port,
            clock: client::time::real_clock(),
            answers: Vec::new(),
            names: BTreeMap::new(),
            producers: BTreeMap::new(),
            common,
        })
    }

    /// All answers so far, in order.
    pub(super) fn answers(self) -> Vec<Answer> {
        self.answers
    }

    /// The step that was written down last.
    pub(super) fn last(&self) -> String {
        let last = self.answers.last();
        last.map_or_else(String::new, |it| format!("{} v{} {}", it.api, it.version, it.step))
    }

    /// Calls an id that only this cluster knows `name`.
    pub(super) fn name(&mut self, id: &str, name: &str) {
        if !id.is_empty() {
            self.names.insert(id.to_owned(), name.to_owned());
        }
    }

    /// Calls a topic's id by the topic.
    pub(super) fn name_topic(&mut self, id: TopicId, name: &str) {
        if id.is_some() {
            self.name(&id.to_string(), name);
        }
    }

    /// Calls a producer's id `name`.
    pub(super) fn name_producer(&mut self, id: i64, name: &str) {
        if id >= 0 {
            self.producers.entry(id).or_insert_with(|| name.to_owned());
        }
    }

    /// Whether both brokers advertise this version.
    pub(super) fn is_common(&self, api: ApiKey, version: i16) -> bool {
        self.common.get(&api.to_wire()).is_some_and(|it| it.contains(&version))
    }

    /// Asks in every version.
    pub(super) fn every<R: Request<Response: Default>>(
        &mut self,
        step: &str,
        make: impl FnMut(i16) -> R,
    ) -> anyhow::Result<()> {
        self.some(step, R::VERSIONS, make)
    }

    /// Asks in some versions.
    pub(super) fn some<R: Request<Response: Default>>(
        &mut self,
        step: &str,
        versions: RangeInclusive<i16>,
        mut make: impl FnMut(i16) -> R,
    ) -> anyhow::Result<()> {
        for version in versions {
            if self.is_common(R::KEY, version) {
                self.ask(step, version, make(version))?;
            }
        }
        Ok(())
    }

    /// Asks, and writes down what is answered. The default: the broker hung up.
    pub(super) fn ask<R: Request<Response: Default>>(
        &mut self,
        step: &str,
        version: i16,
        request: R,
    ) -> anyhow::Result<R::Response> {
        if !self.is_common(R::KEY, version) {
            return Ok(R::Response::default());
        }
        self.begin(0, version, request)?;
        self.end::<R>(0, step, version)
    }

    /// Asks on one of the connections; `end` hears the answer.
    pub(super) fn begin<R: Request<Response: Default>>(
        &mut self,
        line: usize,
        version: i16,
        request: R,
    ) -> anyhow::Result<()> {
        let line = &mut self.lines[line];
        let id = line.next_id();
        let request: AnyRequest = request.into();
        let frame = encode_request(&request, version, id, Some(CLIENT_ID))?.into_bytes();
        line.send(&frame);
        Ok(())
    }

    /// Writes down the answer to what one of the connections asked.
    pub(super) fn end<R: Request<Response: Default>>(
        &mut self,
        line: usize,
        step: &str,
        version: i16,
    ) -> anyhow::Result<R::Response> {
        let response = self.hear::<R>(line, version)?;
        self.write::<R>(step, version, response)
    }

    /// Writes down what was heard. The default: the broker hung up.
    pub(super) fn write<R: Request<Response: Default>>(
        &mut self,
        step: &str,
        version: i16,
        response: Option<AnyResponse>,
    ) -> anyhow::Result<R::Response> {
        let tree = match &response {
            Some(response) => self.tree(response),
            None => Tree::leaf("closed"),
        };
        self.note(R::KEY.name(), version, step, tree);
        Ok(match response {
            Some(response) => R::Response::try_from(response)?,
            None => R::Response::default(),
        })
    }

    /// The next answer on one of the connections. `None`: the broker hung up.
    pub(super) fn hear<R: Request<Response: Default>>(
        &mut self,
        line: usize,
        version: i16,
    ) -> anyhow::Result<Option<AnyResponse>> {
        match self.lines[line].hear()? {
            Heard::Frame(frame) => Ok(Some(decode_response(R::KEY, version, frame)?.1)),
            Heard::Closed => Ok(None),
        }
    }

    /// Asks and writes nothing down.
    pub(super) fn quiet<R: Request<Response: Default>>(
        &mut self,
        version: i16,
        request: R,
    ) -> anyhow::Result<R::Response> {
        self.begin(0, version, request)?;
        Ok(match self.hear::<R>(0, version)? {
            Some(response) => R::Response::try_from(response)?,
            None => R::Response::default(),
        })
    }

    /// Asks until the answer is `settled`, and writes the last one down.
    pub(super) fn until<R: Request<Response: Default> + Clone>(
        &mut self,
        step: &str,
        version: i16,
        request: R,
        settled: impl Fn(&R::Response) -> bool,
    ) -> anyhow::Result<R::Response> {
        self.settle(version, request.clone(), settled)?;
        self.ask(step, version, request)
    }

    /// Asks until the answer is `settled`, and writes nothing down.
    pub(super) fn settle<R: Request<Response: Default> + Clone>(
        &mut self,
        version: i16,
        request: R,
        settled: impl Fn(&R::Response) -> bool,
    ) -> anyhow::Result<R::Response> {
        for _ in 0..ATTEMPTS {
            let response = self.quiet(version, request.clone())?;
            if settled(&response) {
                return Ok(response);
            }
            self.lines[0].idle()?;
        }
        anyhow::bail!("{} v{version}: not settled after {}", R::KEY, self.last())
    }

    /// Waits a little.
    pub(super) fn idle(&self) -> anyhow::Result<()> {
        self.lines[0].idle()
    }

    /// Sends a request that is not answered.
    pub(super) fn tell<R: Request<Response: Default>>(
        &mut self,
        version: i16,
        request: R,
    ) -> anyhow::Result<()> {
        self.begin(0, version, request)
    }

    /// Sends a body under any key and version; writes down how it is answered, byte by byte.
    pub(super) fn raw(
        &mut self,
        step: &str,
        key: i16,
        version: i16,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let tree = match self.quiet_raw(key, version, body)? {
            Some(body) => Tree::Leaf(format!("b\"{}\"", body.escape_ascii())),
            None => Tree::leaf("closed"),
        };
        let api = ApiKey::from_wire(key).map_or_else(|| key.to_string(), |it| it.to_string());
        self.note(&api, version, step, tree);
        Ok(())
    }

    /// Sends a body under any key and version. The answer, without the id of the request; `None`:
    /// the broker hung up.
    pub(super) fn quiet_raw(
        &mut self,
        key: i16,
        version: i16,
        body: &[u8],
    ) -> anyhow::Result<Option<Bytes>> {
        let line = &mut self.lines[0];
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(line.next_id().to_be_bytes());
        frame.extend(i16::try_from(CLIENT_ID.len())?.to_be_bytes());
        frame.extend(CLIENT_ID.as_bytes());
        frame.extend(body);
        let mut bytes = i32::try_from(frame.len())?.to_be_bytes().to_vec();
        bytes.extend(frame);
        line.send(&bytes);
        Ok(match line.hear()? {
            Heard::Frame(frame) => Some(frame.slice(4.min(frame.len())..)),
            Heard::Closed => None,
        })
    }

    /// Writes a fact down.
    pub(super) fn note(&mut self, api: &str, version: i16, step: &str, tree: Tree) {
        let (api, step) = (api.to_owned(), step.to_owned());
        self.answers.push(Answer { api, version, step, tree });
    }

    /// An answer as it may be compared.
    pub(super) fn tree(&self, response: &AnyResponse) -> Tree {
        let mut tree = Tree::parse(&format!("{response:?}"));
        if let AnyResponse::Fetch(fetched) = response {
            let partitions = fetched.responses.iter().flat_map(|topic| &topic.partitions);
            let mut records = partitions.map(|partition| match &partition.records {
                Some(bytes) => batches(bytes),
                None => Tree::leaf("None"),
            });
            tree.each_field("records", &mut |field| {
                *field = records.next().unwrap_or_else(|| Tree::leaf("?"));
            });
        }
        // The parts of an entity have no order.
        tree.each_field("entity", &mut |field| {
            if let Tree::List(parts) = field {
                parts.sort_by_key(ToString::to_string);
            }
        });
        if let AnyResponse::DescribeTransactions(_) = response {
            tree.each_field("topics", &mut |topics| {
                topics.each_field("partitions", &mut |field| {
                    if let Tree::List(indices) = field {
                        indices.sort_by_key(ToString::to_string);
                    }
                });
            });
        }
        let now = self.clock.now().wall.0;
        tree.each_leaf("", &mut |field, text| self.mask(field, text, now));
        tree
    }

    /// Replaces what no two clusters share.
    fn mask(&self, field: &str, text: &mut String, now: i64) {
        let number = text.parse::<i64>().ok();
        let is_text = text.starts_with('"') && text.len() > 2;
        if number.is_some_and(|it| (it - now).abs() < DAY_MS) {
            *text = "<now>".to_owned();
        } else if field.ends_with("error_message") || field == "documentation" {
            if is_text {
                *text = "<text>".to_owned();
            }
        } else if field.ends_with("producer_id") {
            let name = number.and_then(|it| self.producers.get(&it));
            if let Some(name) = name {
                *text = format!("<{name}>");
            } else if number.is_some_and(|it| (0..1_000_000).contains(&it)) {
                *text = "<some producer>".to_owned();
            }
        } else if field == "port" && *text == self.port {
            *text = "<port>".to_owned();
        } else if field == "cluster_id" && is_text {
            *text = "<cluster>".to_owned();
        } else if field == "session_id" && *text != "0" {
            *text = "<session>".to_owned();
        } else if field == "log_dir" && text.starts_with("\"/") {
            *text = "<absolute path>".to_owned();
        } else if ["total_bytes", "usable_bytes"].contains(&field) && *text != "-1" {
            *text = "<bytes>".to_owned();
        } else if ["topic_id", "replica_directory_id"].contains(&field) {
            *text = self.names.get(text.as_str()).map_or_else(
                || {
                    if *text == TopicId::ZERO.to_string() {
                        text.clone()
                    } else {
                        "<some id>".into()
                    }
                },
                |name| format!("<id of {name}>"),
            );
        } else if is_text {
            for (id, name) in &self.names {
                if text.contains(id.as_str()) {
                    *text = text.replace(id.as_str(), &format!("<{name}>"));
                }
            }
        }
    }
}

/// The versions of an API from `first` on.
pub(super) fn from<R: Versioned>(first: i16) -> RangeInclusive<i16> {
    first..=*R::VERSIONS.end()
}
