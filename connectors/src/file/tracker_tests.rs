//! The table of the tracker's header, line by line. Pure.

use super::*;

/// Files in memory: place → path and content.
#[derive(Default)]
struct Files(BTreeMap<u64, (&'static str, String)>);

fn place(ino: u64) -> Place {
    Place { dev: 1, ino, btime: ino + 1 }
}

impl Files {
    fn with(mut self, ino: u64, path: &'static str, content: &str) -> Self {
        self.0.insert(ino, (path, content.to_owned()));
        self
    }

    fn seen(&self) -> Vec<Observed> {
        self.0
            .iter()
            .map(|(&ino, (path, content))| Observed {
                path: PathBuf::from(*path),
                place: place(ino),
                size: u64::try_from(content.len()).unwrap(),
                changed: Timestamp(1_000_000),
            })
            .collect()
    }
}

impl Content for Files {
    fn head(&mut self, file: &Observed) -> Option<Head> {
        let (path, content) = &self.0[&file.place.ino];
        let (is_compressed, is_broken) = (path.ends_with(".gz"), content.ends_with('~'));
        Some(Head {
            bytes: content.as_bytes()[..content.len().min(HEAD_BYTES)].to_vec(),
            is_compressed,
            is_broken,
        })
    }

    fn likeness(&mut self, file: &Observed, mark: &Mark) -> Likeness {
        let (_, content) = &self.0[&file.place.ino];
        let pos = usize::try_from(mark.pos).unwrap();
        if content.len() < pos {
            return Likeness::Shorter;
        }
        if marked(&content[..pos]) == (Mark { line_open: false, ..*mark }) {
            Likeness::Same
        } else {
            Likeness::Different
        }
    }

    fn whole(&mut self, file: &Observed) -> Option<Mark> {
        Some(marked(&self.0[&file.place.ino].1))
    }
}

fn marked(content: &str) -> Mark {
    let mut mark = Mark::START;
    mark.advance(content.as_bytes(), 0, content.len());
    mark
}

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(0) }
}

/// Observes `files` at `seconds`; reads each file that shall be read to its end; says what was decided.
fn observe(tracker: &mut Tracker, seconds: u64, files: Files) -> Vec<String> {
    let mut decisions = Vec::new();
    let mut content = files;
    let seen = content.seen();
    tracker.observe(at(seconds), &seen, &mut content, &mut decisions);
    let said = decisions.iter().map(|decision| describe(decision, tracker)).collect();
    for decision in decisions {
        if let Decision::Read(key)
        | Decision::Restarted { key, .. }
        | Decision::Adopted { by: key, .. } = decision
            && let Some((_, text)) = content.0.get(&key.place.ino)
        {
            tracker.advance(&key, marked(text), None, Timestamp(0));
        }
    }
    said
}

fn describe(decision: &Decision, tracker: &Tracker) -> String {
    let name = |key: &FileKey| format!("{}.{}", key.place.ino, key.incarnation);
    let pos = |key: &FileKey| tracker.known(key).map_or(0, |known| known.mark.pos);
    match decision {
        Decision::Read(key) => format!("read {} from {}", name(key), pos(key)),
        Decision::Gone(key) => format!("gone {}", name(key)),
        Decision::Restarted { former, key } => {
            format!("{} restarted as {}", name(former), name(key))
        }
        Decision::Adopted { from, by } => {
            format!("{} goes on in {} from {}", name(from), name(by), pos(by))
        }
        Decision::Forgotten(key) => format!("forgotten {}", name(key)),
        Decision::Waiting(path) => format!("waiting for {}", path.display()),
    }
}

const TEXT: &str = "some lines\nof a log\n";

fn long(prefix: &str) -> String {
    format!("{}{prefix}", "x".repeat(2000))
}

#[test]
fn a_new_file_is_read_and_an_empty_one_waits() {
    let mut tracker = Tracker::default();
    let files = Files::default().with(5, "/log", TEXT).with(6, "/empty", "");
    assert_eq!(observe(&mut tracker, 0, files), ["read 5.0 from 0"]);
    let files = Files::default().with(5, "/log", TEXT).with(6, "/empty", "now\n");
    assert_eq!(observe(&mut tracker, 1, files), ["read 6.0 from 0"]);
}

#[test]
fn a_renamed_file_is_not_read_again_and_keeps_its_origin() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
    let files = Files::default().with(5, "/log.1", TEXT).with(6, "/log", TEXT);
    assert_eq!(observe(&mut tracker, 1, files), ["waiting for /log"]);
    let files = Files::default().with(5, "/log.1", TEXT).with(6, "/log", "other\n");
    assert_eq!(observe(&mut tracker, 2, files), ["read 6.0 from 0"]);
    let known = tracker.known(&FileKey { place: place(5), incarnation: 0 }).unwrap();
    assert_eq!((known.path.to_str(), known.origin.to_str()), (Some("/log.1"), Some("/log")));
}

#[test]
fn files_with_the_same_beginning_are_both_read() {
    let mut tracker = Tracker::default();
    let files = Files::default().with(5, "/a", &long("1")).with(6, "/b", &long("2"));
    assert_eq!(observe(&mut tracker, 0, files), ["read 5.0 from 0", "read 6.0 from 0"]);
    let files = Files::default().with(5, "/a", &long("1")).with(6, "/b", &long("2")).with(
        7,
        "/c",
        &long("3 and more"),
    );
    assert_eq!(observe(&mut tracker, 1, files), ["read 7.0 from 0"]);
}

#[test]
fn after_a_restart_a_file_goes_on_at_its_mark_or_begins_anew() {
    for (content, want) in [
        (TEXT.to_owned() + "more\n", "read 5.0 from 20"),
        ("short\n".to_owned(), "5.0 restarted as 5.1"),
        (String::new(), "5.0 restarted as 5.1"),
        ("other lines of the same inode\n".to_owned(), "5.0 restarted as 5.1"),
    ] {
        let mut first = Tracker::default();
        observe(&mut first, 0, Files::default().with(5, "/log", TEXT));
        let key = FileKey { place: place(5), incarnation: 0 };
        let mut tracker = Tracker::restored([(key, first.known(&key).unwrap().clone())]);
        assert_eq!(observe(&mut tracker, 0, Files::default().with(5, "/log", &content)), [want]);
    }
}

#[test]
fn after_a_restart_what_was_truncated_does_not_count_beside_its_successor() {
    let mut first = Tracker::default();
    observe(&mut first, 0, Files::default().with(1, "a.log", &long("before")));
    let before = first.known.keys().next().copied().unwrap();
    let Decision::Restarted { key: after, .. } = first.truncated(before) else { panic!() };
    first.advance(&after, marked(TEXT), None, Timestamp(0));
    let stored = [before, after].map(|key| (key, first.known(&key).unwrap().clone()));
    let mut tracker = Tracker::restored(stored);
    let files = || Files::default().with(1, "a.log", TEXT);
    assert_eq!(observe(&mut tracker, 1, files()), ["read 1.1 from 20"]);
    // And truncated once more.
    let mut tracker =
        Tracker::restored(tracker.known.iter().map(|(key, (_, it))| (*key, it.clone())));
    let files = Files::default().with(1, "a.log", "short\n");
    assert_eq!(observe(&mut tracker, 2, files), ["1.1 restarted as 1.2"]);
}

#[test]
fn the_compressed_copy_of_a_vanished_file_goes_on_at_its_mark() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log.1", TEXT));
    let files = Files::default().with(6, "/log.1.gz", &(TEXT.to_owned() + "last\n"));
    assert_eq!(observe(&mut tracker, 1, files), ["gone 5.0", "5.0 goes on in 6.0 from 20"]);
}

#[test]
fn a_copy_of_a_file_in_place_waits_until_it_is_left_alone_and_is_then_read() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
    let copy = || Files::default().with(5, "/log", TEXT).with(6, "/log.1", TEXT);
    for (seconds, want) in
        [(1, "waiting for /log.1"), (5, "waiting for /log.1"), (6, "read 6.0 from 0")]
    {
        assert_eq!(observe(&mut tracker, seconds, copy()), [want]);
    }
    // What the elder does not have was not copied from it.
    let files = copy().with(7, "/log.2", &(TEXT.to_owned() + "own\n"));
    assert_eq!(observe(&mut tracker, 7, files), ["read 7.0 from 0"]);
}

#[test]
fn the_compressed_copy_of_a_vanished_file_of_which_nothing_was_read_takes_its_place() {
    let mut tracker = Tracker::default();
    let mut decisions = Vec::new();
    let mut files = Files::default().with(5, "/log", TEXT);
    tracker.observe(at(0), &files.seen(), &mut files, &mut decisions);
    let files = Files::default().with(6, "/log.1.gz", TEXT);
    assert_eq!(observe(&mut tracker, 1, files), ["gone 5.0", "5.0 goes on in 6.0 from 0"]);
}

#[test]
fn a_copy_of_a_file_that_was_then_truncated_goes_on_at_its_mark() {
    // The truncation may be found by the reader, or with the copy.
    for found_before in [true, false] {
        let mut tracker = Tracker::default();
        observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
        if found_before {
            tracker.truncated(FileKey { place: place(5), incarnation: 0 });
        }
        let files = Files::default().with(5, "/log", "new\n").with(6, "/log.1", TEXT);
        let said = observe(&mut tracker, 60, files);
        assert_eq!(said.last().unwrap(), "5.0 goes on in 6.0 from 20");
        assert_eq!(said.first().unwrap() == "5.0 restarted as 5.1", !found_before);
    }
}

#[test]
fn a_compressed_file_in_the_making_waits() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log.1", TEXT));
    let files = Files::default().with(5, "/log.1", TEXT).with(6, "/log.1.gz", "some~");
    assert_eq!(observe(&mut tracker, 1, files), ["waiting for /log.1.gz"]);
    let files = Files::default().with(6, "/log.1.gz", TEXT);
    assert_eq!(observe(&mut tracker, 2, files), ["gone 5.0", "5.0 goes on in 6.0 from 20"]);
}

#[test]
fn a_file_deleted_and_written_again_is_read_from_its_start() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
    // Equal content at the same path is a new log that begins alike.
    let said = observe(&mut tracker, 1, Files::default().with(6, "/log", TEXT));
    assert_eq!(said, ["gone 5.0", "read 6.0 from 0"]);
}

#[test]
fn a_short_equal_beginning_under_an_unrelated_name_is_another_file() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/a.log", "started\n"));
    let said = observe(&mut tracker, 1, Files::default().with(6, "/b.log", "started\n"));
    assert_eq!(said, ["gone 5.0", "read 6.0 from 0"]);
    // Much equal content is the same log, moved to another directory or device.
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/a.log", &long("")));
    let said = observe(&mut tracker, 1, Files::default().with(6, "/old/b", &long("")));
    assert_eq!(said, ["gone 5.0", "5.0 goes on in 6.0 from 2000"]);
}

#[test]
fn an_inode_used_again_is_a_new_file_with_and_without_times_of_birth() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
    let mut files = Files::default().with(5, "/log", "another log of equal or greater length\n");
    let mut seen = files.seen();
    seen[0].place.btime += 1;
    let mut decisions = Vec::new();
    tracker.observe(at(1), &seen, &mut files, &mut decisions);
    let said: Vec<String> = decisions.iter().map(|decision| describe(decision, &tracker)).collect();
    assert_eq!(said, ["gone 5.0", "read 5.0 from 0"]);
}

#[test]
fn a_file_that_comes_back_into_sight_goes_on() {
    let mut tracker = Tracker::default();
    observe(&mut tracker, 0, Files::default().with(5, "/log", TEXT));
    assert_eq!(observe(&mut tracker, 1, Files::default()), ["gone 5.0"]);
    let files = Files::default().with(5, "/back/log", &(TEXT.to_owned() + "more\n"));
    assert_eq!(observe(&mut tracker, 2, files), ["read 5.0 from 20"]);
}

#[test]
fn vanished_files_are_forgotten_beyond_a_bound_the_oldest_first() {
    let known = |read_at| Known {
        mark: marked(TEXT),
        path: "/gone".into(),
        origin: "/gone".into(),
        gzip_bytes: None,
        read_at: Timestamp(read_at),
    };
    let count = u64::try_from(FORMER_MAX).unwrap() + 1;
    let files = (0..count).map(|ino| {
        (
            FileKey { place: place(ino), incarnation: 0 },
            known(i64::try_from((ino + 7) % count).unwrap()),
        )
    });
    let mut tracker = Tracker::restored(files);
    let said = observe(&mut tracker, 0, Files::default());
    assert_eq!(said.last().unwrap(), &format!("forgotten {}.0", count - 7));
    assert_eq!(tracker.known.len(), FORMER_MAX);
}
