//! Cuts a graph into sub-topologies: what is connected runs together.
//!
//! Two nodes are connected by an edge, by a store that both use, or by reading the same topic. A
//! repartition topic connects nothing: its writer and its reader share no edge. Sub-topologies are
//! named after the first topic they read, not numbered, so adding a branch renames nothing. Pure.

use super::{Graph, NodeId, NodeKind, Subtopology};

/// The sub-topologies of `graph`, in the order of their first nodes.
pub(super) fn split(graph: &Graph) -> Vec<Subtopology> {
    let group = connect(graph);
    let mut parts: Vec<(usize, Subtopology)> = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Source(topic) = node.kind else { continue };
        let part = match parts.iter_mut().find(|(root, _)| *root == group[number]) {
            Some((_, part)) => part,
            None => {
                let name = graph.topics[topic.0].name.clone();
                parts.push((group[number], empty(name)));
                &mut parts.last_mut().expect("it was pushed just now").1
            }
        };
        part.sources.push(NodeId(number));
        add(&mut part.inputs, topic);
    }
    for (number, node) in graph.nodes.iter().enumerate() {
        let Some((_, part)) = parts.iter_mut().find(|(root, _)| *root == group[number]) else {
            continue;
        };
        if let NodeKind::Sink(topic) = node.kind {
            add(&mut part.outputs, topic);
        }
        for &store in &node.stores {
            add(&mut part.stores, store);
            add(&mut part.changelogs, graph.stores[store.0].changelog);
        }
    }
    let finish = |(_, mut part): (usize, Subtopology)| {
        // State is kept by key: the records of a key must come from one partition number alone.
        part.copartitioned = part.inputs.len() > 1 && !part.stores.is_empty();
        part
    };
    parts.into_iter().map(finish).collect()
}

fn empty(name: std::sync::Arc<str>) -> Subtopology {
    Subtopology {
        name,
        inputs: Vec::new(),
        outputs: Vec::new(),
        changelogs: Vec::new(),
        copartitioned: false,
        sources: Vec::new(),
        stores: Vec::new(),
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// For each node the smallest node it is connected with.
fn connect(graph: &Graph) -> Vec<usize> {
    let mut group: Vec<usize> = (0..graph.nodes.len()).collect();
    let mut first_with_store = vec![None; graph.stores.len()];
    let mut first_with_topic = vec![None; graph.topics.len()];
    for (number, node) in graph.nodes.iter().enumerate() {
        for parent in &node.parents {
            union(&mut group, parent.0, number);
        }
        for store in &node.stores {
            let first = *first_with_store[store.0].get_or_insert(number);
            union(&mut group, first, number);
        }
        if let NodeKind::Source(topic) = node.kind {
            let first = *first_with_topic[topic.0].get_or_insert(number);
            union(&mut group, first, number);
        }
    }
    (0..group.len()).map(|number| root(&group, number)).collect()
}

fn root(group: &[usize], mut number: usize) -> usize {
    while group[number] != number {
        number = group[number];
    }
    number
}

fn union(group: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(group, a), root(group, b));
    group[a.max(b)] = a.min(b);
}
