//! What an open makes of the intents that it finds. Pure.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::super::layout::{Format, KeyFormat};
use super::*;

fn layout() -> Arc<Layout> {
    Arc::new(Layout {
        format: Format::Inferred,
        key: KeyFormat::Text,
        metadata_prefix: "_".to_owned(),
        compression_level: 3,
    })
}

fn intent(start: i64, end: i64) -> Intent {
    Intent {
        partition: TopicPartition::new("logs", 0),
        topic_id: TopicId([7; 16]),
        start: Offset(start),
        first: Offset(start),
        end: Offset(end),
        writer: "lake-0".into(),
        layout: layout(),
        files: vec![AnnouncedFile { path: format!("file {start}"), rows: 1, bytes: 10 }],
    }
}

fn assigned(committed: Option<i64>) -> Assigned {
    Assigned {
        partition: TopicPartition::new("logs", 0),
        committed: committed.map(Offset),
        topic_id: TopicId([7; 16]),
        log_start: Offset(0),
        log_end: Offset(1000),
    }
}

/// Opens `assigned` over a store with `intents`, of which those that start at one of `incomplete` lack files.
fn open(
    assigned: &Assigned,
    intents: &[Intent],
    incomplete: &[i64],
) -> Result<(usize, Resumption), OpenError> {
    let starts: Vec<Offset> = intents.iter().map(|it| it.start).collect();
    let mut chain = Chain::new(assigned, &starts);
    let mut reads = 0;
    while let Some(start) = chain.next() {
        reads += 1;
        chain.add(intents.iter().find(|it| it.start == start).unwrap().clone())?;
    }
    let announced = chain.finish()?;
    let complete: Vec<bool> =
        announced.open.iter().map(|it| !incomplete.contains(&it.start.0)).collect();
    Ok((reads, announced.resume(assigned, &complete)?))
}

fn check(assigned: &Assigned, intents: &[Intent], incomplete: &[i64], want: &Expect) {
    let said = match open(assigned, intents, incomplete) {
        Err(error) => error.to_string(),
        Ok((reads, resumption)) => {
            let Resumption { unfinished, start, durable, position } = resumption;
            let again: Vec<String> =
                unfinished.iter().map(|it| format!("[{}, {})", it.start, it.end)).collect();
            format!(
                "read {reads}, write again {again:?}, next start {start}, durable {durable:?}, read from {position:?}"
            )
        }
    };
    want.assert_eq(&said);
}

#[test]
fn without_intents_a_partition_starts_at_the_committed_offset_or_under_the_name_zero() {
    check(
        &assigned(None),
        &[],
        &[],
        &expect!["read 0, write again [], next start 0, durable None, read from None"],
    );
    check(
        &assigned(Some(50)),
        &[],
        &[],
        &expect!["read 0, write again [], next start 50, durable None, read from None"],
    );
}

#[test]
fn an_intent_that_is_committed_is_not_looked_into_further() {
    let chain = [intent(0, 10), intent(10, 20), intent(20, 30)];
    check(
        &assigned(Some(30)),
        &chain,
        &[0, 10, 20],
        &expect!["read 1, write again [], next start 30, durable None, read from None"],
    );
    // Markers behind the last record are committed, too: the next range is named by the chain all the same.
    check(
        &assigned(Some(35)),
        &chain,
        &[],
        &expect!["read 1, write again [], next start 30, durable None, read from None"],
    );
}

#[test]
fn ranges_above_the_committed_offset_are_completed_from_the_first_that_is_not() {
    let chain = [intent(0, 10), intent(10, 20), intent(20, 30)];
    check(
        &assigned(Some(20)),
        &chain,
        &[20],
        &expect![[
            r#"read 1, write again ["[20, 30)"], next start 30, durable None, read from Some(Offset(20))"#
        ]],
    );
    check(
        &assigned(Some(20)),
        &chain,
        &[],
        &expect![
            "read 1, write again [], next start 30, durable Some(Offset(30)), read from Some(Offset(30))"
        ],
    );
    check(
        &assigned(Some(0)),
        &chain,
        &[10],
        &expect![[
            r#"read 3, write again ["[10, 20)", "[20, 30)"], next start 30, durable Some(Offset(10)), read from Some(Offset(10))"#
        ]],
    );
    check(
        &assigned(None),
        &chain,
        &[0],
        &expect![[
            r#"read 3, write again ["[0, 10)", "[10, 20)", "[20, 30)"], next start 30, durable None, read from Some(Offset(0))"#
        ]],
    );
}

#[test]
fn an_offset_committed_within_a_range_does_not_split_it() {
    check(
        &assigned(Some(14)),
        &[intent(0, 10), intent(10, 20)],
        &[10],
        &expect![[
            r#"read 1, write again ["[10, 20)"], next start 20, durable None, read from Some(Offset(10))"#
        ]],
    );
    check(
        &assigned(Some(14)),
        &[intent(0, 10), intent(10, 20)],
        &[],
        &expect![
            "read 1, write again [], next start 20, durable Some(Offset(20)), read from Some(Offset(20))"
        ],
    );
}

#[test]
fn lost_offsets_resume_where_the_lake_ends() {
    check(
        &assigned(None),
        &[intent(80, 90), intent(90, 120)],
        &[],
        &expect![
            "read 2, write again [], next start 120, durable Some(Offset(120)), read from Some(Offset(120))"
        ],
    );
}

#[test]
fn what_a_writer_left_that_had_slept_is_not_looked_at() {
    let left = [intent(0, 50), intent(10, 20), intent(20, 30)];
    check(
        &assigned(Some(20)),
        &left,
        &[0, 20],
        &expect![[
            r#"read 1, write again ["[20, 30)"], next start 30, durable None, read from Some(Offset(20))"#
        ]],
    );
    check(
        &assigned(Some(30)),
        &left,
        &[0],
        &expect!["read 1, write again [], next start 30, durable None, read from None"],
    );
    check(
        &assigned(None),
        &left,
        &[0],
        &expect![
            "read 3, write again [], next start 30, durable Some(Offset(30)), read from Some(Offset(30))"
        ],
    );
    check(
        &assigned(None),
        &[intent(0, 3), intent(10, 20), intent(20, 30)],
        &[0],
        &expect![
            "read 3, write again [], next start 30, durable Some(Offset(30)), read from Some(Offset(30))"
        ],
    );
}

#[test]
fn what_is_not_of_this_log_stops_the_sink() {
    let other = Assigned { topic_id: TopicId([8; 16]), ..assigned(None) };
    check(
        &other,
        &[intent(0, 10)],
        &[],
        &expect![
            "the lake holds offsets up to 10 of an earlier topic of this name (id 07070707070707070707070707070707; now 08080808080808080808080808080808): give the sink another location, or remove the topic's files and its intents"
        ],
    );
    let unknown = Assigned { topic_id: TopicId::ZERO, ..assigned(Some(10)) };
    check(
        &unknown,
        &[intent(0, 10)],
        &[],
        &expect!["read 1, write again [], next start 10, durable None, read from None"],
    );
    let short = Assigned { log_end: Offset(5), ..assigned(Some(0)) };
    check(
        &short,
        &[intent(0, 10)],
        &[],
        &expect![
            "the lake holds offsets up to 10, but the log ends at 5: the topic was created again, or has lost records"
        ],
    );
    let gone = Assigned { log_start: Offset(5), ..assigned(Some(0)) };
    check(
        &gone,
        &[intent(0, 10)],
        &[0],
        &expect![
            "the files for offsets 0 to 10 are not complete, and the log starts at 5: the records are gone; remove the intent 0 to go on without them"
        ],
    );
    check(
        &gone,
        &[intent(0, 10)],
        &[],
        &expect![
            "read 1, write again [], next start 10, durable Some(Offset(10)), read from Some(Offset(10))"
        ],
    );
}

#[test]
fn offsets_set_back_and_missing_intents_stop_the_sink() {
    check(
        &assigned(Some(5)),
        &[intent(80, 90), intent(90, 120)],
        &[],
        &expect![
            "the committed offset 5 lies before 80, up to where all is in the lake: to write it again, give the sink another location"
        ],
    );
    check(
        &assigned(Some(10)),
        &[intent(10, 20), intent(30, 40)],
        &[],
        &expect!["an announced range ends at 20, and the next begins at 30: they do not join"],
    );
}

#[test]
fn an_intent_is_read_back_as_it_was_stored_and_nothing_else_is_one() {
    let it = intent(3, 9);
    let partition = it.partition.clone();
    let json = it.to_json();
    assert_eq!(Intent::from_json(&partition, Offset(3), &json).unwrap(), it);
    let text = String::from_utf8(json).unwrap();
    for (broken, want) in [
        (text.replace("\"version\": 1", "\"version\": 2"), "version 2"),
        (text.replace("\"end\": 9", "\"end\": 3"), "does not fit"),
        (text.replace("\"topic\": \"logs\"", "\"topic\": \"other\""), "does not fit"),
        (text.replace("\"0707", "\"07 7"), "does not fit"),
        (text.replace("\"first\"", "\"frist\""), "not an intent"),
        (String::new(), "not an intent"),
    ] {
        let error = Intent::from_json(&partition, Offset(3), broken.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    assert!(Intent::from_json(&partition, Offset(4), text.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn an_open_of_a_whole_chain_never_fails_and_covers_all_that_is_incomplete(
        lengths in prop::collection::vec(1_i64..20, 0..8),
        committed_up_to in 0_usize..9,
        incomplete_from in 0_usize..9,
    ) {
        let mut chain = Vec::new();
        let mut end = 0;
        for length in lengths {
            chain.push(intent(end, end + length));
            end += length;
        }
        let committed_up_to = committed_up_to.min(chain.len());
        let committed = committed_up_to.checked_sub(1).map(|last| chain[last].end.0);
        let incomplete_from = incomplete_from.clamp(committed_up_to, chain.len());
        let incomplete: Vec<i64> = chain[incomplete_from..].iter().map(|it| it.start.0).collect();
        let (_, resumption) = open(&assigned(committed), &chain, &incomplete).unwrap();
        let again: Vec<i64> = resumption.unfinished.iter().map(|it| it.start.0).collect();
        prop_assert_eq!(again, incomplete);
        prop_assert_eq!(resumption.start, Offset(end));
        let complete_end =
            (incomplete_from > committed_up_to).then(|| chain[incomplete_from - 1].end);
        prop_assert_eq!(resumption.durable, complete_end);
    }
}
