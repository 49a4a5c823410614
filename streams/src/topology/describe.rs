//! The picture of a topology, and the number that stands for it. Pure.

use std::fmt::Write;

use super::{NodeId, NodeKind, TopicKind, Topology};

/// Each sub-topology as a tree. A node below several parents is drawn under the first of them;
/// the others point to it by its number.
pub(super) fn describe(topology: &Topology) -> String {
    let mut out = String::new();
    for part in topology.subtopologies() {
        let joined = if part.copartitioned { " (inputs co-partitioned)" } else { "" };
        writeln!(out, "sub-topology {}{joined}", part.name).expect("a String takes all");
        for &source in &part.sources {
            draw(topology, source, None, 1, &mut out);
        }
    }
    out
}

fn draw(topology: &Topology, id: NodeId, from: Option<NodeId>, depth: usize, out: &mut String) {
    let node = &topology.graph.nodes[id.0];
    let indent = "  ".repeat(depth);
    let shared = node.parents.len() > 1;
    let mark = if shared { format!(" #{}", id.0) } else { String::new() };
    if shared && from != node.parents.first().copied() {
        writeln!(out, "{indent}-> {}{mark}", node.label).expect("a String takes all");
        return;
    }
    write!(out, "{indent}{}{mark}", node.label).expect("a String takes all");
    if let NodeKind::Source(topic) | NodeKind::Sink(topic) = node.kind {
        let spec = topology.topic(topic);
        let made = if spec.kind == TopicKind::Repartition { " (repartition)" } else { "" };
        write!(out, " {}{made}", spec.name).expect("a String takes all");
    }
    for store in &node.stores {
        write!(out, " [{}]", topology.graph.stores[store.0].name).expect("a String takes all");
    }
    out.push('\n');
    for &child in &node.children {
        draw(topology, child, Some(id), depth + 1, out);
    }
}

/// FNV-1a of the text: the same on every machine and in every version.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
