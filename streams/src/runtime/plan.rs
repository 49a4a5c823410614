//! Which internal topics there must be, how many partitions each, and how many tasks.
//!
//! A repartition topic has as many partitions as the topics its reader joins it with, or else as
//! the largest input of its writers; a changelog as many as its sub-topology has tasks. Topics that
//! exist already are taken as they are and checked. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::TopicError;
use crate::record::TopicIndex;
use crate::topology::{Subtopology, TopicKind, Topology};

/// An internal topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) name: Arc<str>,
    pub(crate) partition_count: i32,
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// What an application needs before it can run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) create: Vec<Missing>,
    /// How many tasks each sub-topology has.
    pub(crate) task_counts: Vec<i32>,
}

/// Plans for the topics that exist, given by name with their numbers of partitions.
///
/// # Errors
/// With everything that does not fit.
pub(crate) fn plan(
    topology: &Topology,
    app: &str,
    existing: &BTreeMap<Arc<str>, i32>,
) -> Result<Plan, Vec<TopicError>> {
    let mut errors = Vec::new();
    let mut counts: BTreeMap<TopicIndex, i32> = BTreeMap::new();
    for part in topology.subtopologies() {
        for &topic in &part.inputs {
            let spec = topology.topic(topic);
            match existing.get(&spec.full_name(app)) {
                Some(&count) => drop(counts.insert(topic, count)),
                None if spec.kind == TopicKind::External => {
                    errors.push(TopicError::Missing(spec.name.clone()));
                }
                None => {}
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    count_repartitions(topology, &mut counts);
    let mut task_counts = Vec::new();
    for part in topology.subtopologies() {
        let inputs: Vec<i32> = part.inputs.iter().map(|topic| counts[topic]).collect();
        if part.copartitioned && inputs.iter().any(|count| *count != inputs[0]) {
            errors.push(TopicError::NotCopartitioned {
                subtopology: part.name.clone(),
                counts: show(topology, app, part, &counts),
            });
        }
        task_counts.push(inputs.into_iter().max().unwrap_or(1));
    }
    let mut create = Vec::new();
    for internal in topology.internal_topics(app) {
        let wanted = match internal.kind {
            TopicKind::Changelog => task_counts[internal.subtopology],
            TopicKind::Repartition | TopicKind::External => counts[&internal.topic],
        };
        match existing.get(&internal.name) {
            Some(&found) if found != wanted => {
                let topic = internal.name.clone();
                errors.push(TopicError::WrongPartitionCount { topic, found, wanted });
            }
            Some(_) => {}
            None => create.push(Missing {
                name: internal.name.clone(),
                partition_count: wanted,
                settings: internal.settings(),
            }),
        }
    }
    if errors.is_empty() { Ok(Plan { create, task_counts }) } else { Err(errors) }
}

/// Counts the repartition topics that do not exist yet, writers before readers; one that feeds only
/// itself gets one partition.
fn count_repartitions(topology: &Topology, counts: &mut BTreeMap<TopicIndex, i32>) {
    loop {
        let mut open = Vec::new();
        let mut settled = Vec::new();
        for part in topology.subtopologies() {
            for &topic in part.inputs.iter().filter(|topic| !counts.contains_key(*topic)) {
                match count_of(topology, part, topic, counts) {
                    Some(count) => settled.push((topic, count)),
                    None => open.push(topic),
                }
            }
        }
        if settled.is_empty() {
            counts.extend(open.into_iter().map(|topic| (topic, 1)));
            return;
        }
        counts.extend(settled);
    }
}

/// The number of partitions of a repartition topic, if it follows from what is counted already.
fn count_of(
    topology: &Topology,
    reader: &Subtopology,
    topic: TopicIndex,
    counts: &BTreeMap<TopicIndex, i32>,
) -> Option<i32> {
    if reader.copartitioned {
        let beside = reader.inputs.iter().find_map(|other| counts.get(other));
        if beside.is_some() {
            return beside.copied();
        }
    }
    let writers = topology.subtopologies().iter().filter(|part| part.outputs.contains(&topic));
    let inputs = writers.flat_map(|part| &part.inputs).filter(|input| **input != topic);
    let known: Option<Vec<i32>> = inputs.map(|input| counts.get(input).copied()).collect();
    known?.into_iter().max()
}

fn show(
    topology: &Topology,
    app: &str,
    part: &Subtopology,
    counts: &BTreeMap<TopicIndex, i32>,
) -> String {
    let each = part
        .inputs
        .iter()
        .map(|topic| format!("{} has {}", topology.topic(*topic).full_name(app), counts[topic]));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{I64, Store, StreamsBuilder, Topic, Unit, Utf8};

    /// words: lines -> repartition -> count; joined: orders -> repartition -> join with users.
    fn topology() -> Topology {
        let builder = StreamsBuilder::new();
        let text = |name: &str| Topic::new(name, Utf8, Utf8);
        builder
            .stream(&text("lines"))
            .flat_map(|_, line| vec![(line, ())])
            .repartition("words", Utf8, Unit)
            .group_by_key()
            .count(Store::kv("counts", Utf8, I64));
        let users = builder.table(&text("users"), Store::kv("users", Utf8, Utf8));
        builder
            .stream(&text("orders"))
            .select_key(|_, value| value.clone())
            .repartition("by-user", Utf8, Utf8)
            .join_table(&users, |_, order, _| order)
            .to(&text("out"));
        builder.build().unwrap()
    }

    fn existing(topics: &[(&str, i32)]) -> BTreeMap<Arc<str>, i32> {
        topics.iter().map(|(name, count)| (Arc::from(*name), *count)).collect()
    }

    fn created(plan: &Plan) -> Vec<(&str, i32)> {
        plan.create.iter().map(|topic| (&*topic.name, topic.partition_count)).collect()
    }

    #[test]
    fn internal_topics_get_the_partitions_their_neighbours_have() {
        let plan =
            plan(&topology(), "app", &existing(&[("lines", 3), ("users", 4), ("orders", 8)]));
        let plan = plan.unwrap();
        assert_eq!(
            created(&plan),
            [
                ("app-words-repartition", 3),
                ("app-counts-changelog", 3),
                ("app-by-user-repartition", 4),
                ("app-users-changelog", 4),
            ]
        );
        assert_eq!(plan.task_counts, [3, 3, 4, 8]);
    }

    #[test]
    fn what_exists_is_taken_as_it_is() {
        let existing = existing(&[
            ("lines", 3),
            ("users", 4),
            ("orders", 8),
            ("app-words-repartition", 5),
            ("app-counts-changelog", 5),
            ("app-by-user-repartition", 4),
            ("app-users-changelog", 4),
        ]);
        let plan = plan(&topology(), "app", &existing).unwrap();
        assert_eq!(created(&plan), []);
        assert_eq!(plan.task_counts, [3, 5, 4, 8]);
    }

    #[test]
    fn everything_that_does_not_fit_is_reported() {
        let errors = plan(&topology(), "app", &existing(&[("lines", 3)])).unwrap_err();
        let missing = ["users", "orders"].map(|name| TopicError::Missing(Arc::from(name)));
        assert_eq!(errors, missing);
        let wrong = existing(&[
            ("lines", 3),
            ("users", 4),
            ("orders", 8),
            ("app-counts-changelog", 2),
            ("app-by-user-repartition", 8),
        ]);
        let errors: Vec<String> =
            plan(&topology(), "app", &wrong).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "sub-topology `users` keeps state by the keys of several topics, which must have \
                 equally many partitions: users has 4, app-by-user-repartition has 8",
                "the internal topic `app-counts-changelog` has 2 partitions and must have 3",
            ]
        );
    }
}
