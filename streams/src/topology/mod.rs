//! What will run: inert data that can be printed, compared and sent between threads.
//!
//! A topology is a graph of nodes between topics. It is cut into sub-topologies wherever records go
//! through a repartition topic; each sub-topology runs as one task per partition of its inputs.
//! Nothing here runs: each node carries a factory whose types only the processors know.
//!
//! Invariants: edges go from lower to higher node numbers; each topic is read by one sub-topology;
//! each store belongs to one sub-topology. Pure.

mod describe;
mod split;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::error::{BuildError, BuildErrors, ErrorPolicy};
use crate::record::TopicIndex;

/// 180: room for `<app>-` and `-repartition` within the 249 bytes of a topic's name.
const NAME_BYTES_MAX: usize = 180;

/// 3500 of the 4096 bytes that a broker allows for an offset's metadata.
const TIMES_BYTES_MAX: usize = 3500;

/// Which node: an index into the graph's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

/// Which store: an index into the graph's stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoreIndex(pub(crate) usize);

/// Which operators one `on_error` speaks for: an index into the graph's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PolicyScope(pub(crate) usize);

/// Something whose type only the processors know.
pub(crate) type Opaque = Arc<dyn Any + Send + Sync>;

/// What a node is to the topics around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Reads a topic.
    Source(TopicIndex),
    /// Stands between other nodes.
    Operator,
    /// Writes a topic.
    Sink(TopicIndex),
}

pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) label: String,
    pub(crate) parents: Vec<NodeId>,
    pub(crate) children: Vec<NodeId>,
    pub(crate) stores: Vec<StoreIndex>,
    pub(crate) factory: Opaque,
}

/// Who makes and names a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKind {
    /// The user, under the name in the topology.
    External,
    /// The application: `<app>-<name>-repartition`.
    Repartition,
    /// The application: `<app>-<name>-changelog`.
    Changelog,
}

/// A topic that a topology names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name in the topology.
    pub name: Arc<str>,
    /// Who makes it.
    pub kind: TopicKind,
}

impl TopicSpec {
    /// The name on the broker, for the application `app`.
    #[must_use]
    pub fn full_name(&self, app: &str) -> Arc<str> {
        match self.kind {
            TopicKind::External => self.name.clone(),
            TopicKind::Repartition => Arc::from(format!("{app}-{}-repartition", self.name)),
            TopicKind::Changelog => Arc::from(format!("{app}-{}-changelog", self.name)),
        }
    }
}

pub(crate) struct StoreSpec {
    pub(crate) name: Arc<str>,
    pub(crate) changelog: TopicIndex,
    pub(crate) factory: Opaque,
    /// The node that made it known first; others may share it.
    pub(crate) type_name: &'static str,
}

/// The graph, while it grows and after.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) stores: Vec<StoreSpec>,
    pub(crate) policies: Vec<Option<ErrorPolicy>>,
    pub(crate) errors: Vec<BuildError>,
    names: BTreeSet<Arc<str>>,
}

impl Graph {
    /// Adds a node below its parents.
    pub(crate) fn add(
        &mut self,
        kind: NodeKind,
        label: impl Into<String>,
        parents: &[NodeId],
        stores: &[StoreIndex],
        factory: Opaque,
    ) -> NodeId {
        let id = NodeId(self.nodes.len());
        for parent in parents {
            self.nodes[parent.0].children.push(id);
        }
        self.nodes.push(Node {
            kind,
            label: label.into(),
            parents: parents.to_vec(),
            children: Vec::new(),
            stores: stores.to_vec(),
            factory,
        });
        id
    }

    /// The index of a topic, known or new.
    pub(crate) fn topic(&mut self, name: &Arc<str>, kind: TopicKind) -> TopicIndex {
        let known = self.topics.iter().position(|topic| topic.name == *name && topic.kind == kind);
        TopicIndex(known.unwrap_or_else(|| {
            self.topics.push(TopicSpec { name: name.clone(), kind });
            self.topics.len() - 1
        }))
    }

    /// Takes a name that nothing else may have.
    pub(crate) fn take_name(&mut self, name: &Arc<str>) {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(good) {
            self.errors.push(BuildError::BadName(name.clone()));
        }
        if !self.names.insert(name.clone()) {
            self.errors.push(BuildError::DuplicateName(name.clone()));
        }
    }

    /// Adds a store under a name of its own.
    pub(crate) fn add_store(
        &mut self,
        name: &Arc<str>,
        nullable_key: bool,
        type_name: &'static str,
        factory: Opaque,
    ) -> StoreIndex {
        self.take_name(name);
        if nullable_key {
            self.errors.push(BuildError::NullableKey(name.clone()));
        }
        let changelog = self.topic(name, TopicKind::Changelog);
        self.stores.push(StoreSpec { name: name.clone(), changelog, factory, type_name });
        StoreIndex(self.stores.len() - 1)
    }

    /// A scope whose policy is not spoken yet.
    pub(crate) fn new_scope(&mut self) -> PolicyScope {
        self.policies.push(None);
        PolicyScope(self.policies.len() - 1)
    }
}

/// What will run. Cheap to clone.
#[derive(Clone)]
pub struct Topology {
    pub(crate) graph: Arc<Graph>,
    pub(crate) subtopologies: Arc<Vec<Subtopology>>,
}

/// A part of a topology that runs as one task per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtopology {
    /// The name of the first topic it reads, which is its alone.
    pub name: Arc<str>,
    /// The topics it reads, in order of declaration.
    pub inputs: Vec<TopicIndex>,
    /// The topics it writes, in order of declaration; changelogs apart.
    pub outputs: Vec<TopicIndex>,
    /// The changelogs of its stores.
    pub changelogs: Vec<TopicIndex>,
    /// True if its inputs must have equally many partitions: it keeps state by their keys.
    pub copartitioned: bool,
    pub(crate) sources: Vec<NodeId>,
    pub(crate) stores: Vec<StoreIndex>,
}

/// A topic that the application itself makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// Which topic of the topology.
    pub topic: TopicIndex,
    /// Its name on the broker.
    pub name: Arc<str>,
    /// Repartition topic or changelog.
    pub kind: TopicKind,
    /// The sub-topology whose tasks it must match in number of partitions.
    pub subtopology: usize,
}

impl InternalTopic {
    /// The topic's settings, under Kafka's names.
    ///
    /// Changelogs are compacted and nothing else: closed windows leave by tombstone, because a
    /// retention by age would take open windows from an application that was down for longer.
    /// Repartition topics keep all: what nobody has read yet must not age away.
    #[must_use]
    pub fn settings(&self) -> &'static [(&'static str, &'static str)] {
        match self.kind {
            TopicKind::Changelog => &[("cleanup.policy", "compact")],
            TopicKind::Repartition | TopicKind::External => {
                &[("cleanup.policy", "delete"), ("retention.ms", "-1")]
            }
        }
    }
}

impl Topology {
    /// Validates a finished graph.
    pub(crate) fn new(mut graph: Graph) -> Result<Self, BuildErrors> {
        let mut errors = std::mem::take(&mut graph.errors);
        let subtopologies = split::split(&graph);
        if subtopologies.is_empty() {
            errors.push(BuildError::NoSource);
        }
        for part in &subtopologies {
            // Names, an equals sign, a separator and up to 20 digits each.
            let bytes: usize =
                part.stores.iter().map(|store| graph.stores[store.0].name.len() + 22).sum();
            if bytes > TIMES_BYTES_MAX {
                errors.push(BuildError::TooManyTimes(part.stores.len()));
            }
        }
        if errors.is_empty() {
            Ok(Self { graph: Arc::new(graph), subtopologies: Arc::new(subtopologies) })
        } else {
            Err(BuildErrors(errors))
        }
    }

    /// The parts that run as tasks, in order of declaration.
    #[must_use]
    pub fn subtopologies(&self) -> &[Subtopology] {
        &self.subtopologies
    }

    /// The topic of an index.
    #[must_use]
    pub fn topic(&self, index: TopicIndex) -> &TopicSpec {
        &self.graph.topics[index.0]
    }

    /// All topics; a [`TopicIndex`] counts along this list.
    #[must_use]
    pub fn topics(&self) -> &[TopicSpec] {
        &self.graph.topics
    }

    /// The index of the topic that is called `name` on the broker for the application `app`.
    #[must_use]
    pub fn find_topic(&self, app: &str, name: &str) -> Option<TopicIndex> {
        self.graph.topics.iter().position(|topic| *topic.full_name(app) == *name).map(TopicIndex)
    }

    /// Which sub-topology reads `topic`.
    #[must_use]
    pub fn reader_of(&self, topic: TopicIndex) -> Option<usize> {
        self.subtopologies.iter().position(|part| part.inputs.contains(&topic))
    }

    /// The topics that the application `app` makes for itself.
    #[must_use]
    pub fn internal_topics(&self, app: &str) -> Vec<InternalTopic> {
        let mut found = Vec::new();
        for (subtopology, part) in self.subtopologies.iter().enumerate() {
            for &topic in part.inputs.iter().chain(&part.changelogs) {
                let spec = self.topic(topic);
                if spec.kind != TopicKind::External {
                    let (name, kind) = (spec.full_name(app), spec.kind);
                    found.push(InternalTopic { topic, name, kind, subtopology });
                }
            }
        }
        found
    }

    /// A picture of the topology: each sub-topology as a tree from its sources down.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(self)
    }

    /// A number that changes whenever the picture does: equal numbers, equal structure.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        describe::fingerprint(&self.describe())
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}
