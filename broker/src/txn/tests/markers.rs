//! The task that carries markers: whom it writes to, how long it goes on, whom it tells. Shell.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures::FutureExt;
use tokio::sync::mpsc;

use super::*;
use crate::coordinator::Unavailable;
use crate::txn::shell::{MarkerSink, Teller, send_markers};

/// What happened, in order, and what is to happen.
#[derive(Default)]
struct Book {
    told: Vec<String>,
    /// What each partition answers, one answer per marker; then `None`.
    answers: BTreeMap<i32, Vec<ErrorCode>>,
    /// Partitions that do not answer at all.
    silent: BTreeSet<i32>,
    /// What the coordinator answers at first; then that it took note.
    replies: Vec<Result<Reply, Unavailable>>,
}

struct Post {
    book: Arc<Mutex<Book>>,
    decisions: mpsc::Sender<Decided>,
    _task: tokio::task::JoinHandle<()>,
}

/// Notes when a marker that is under way is given up.
struct Underway(Arc<Mutex<Book>>, Option<String>);

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(marker) = self.1.take() {
            self.0.lock().unwrap().told.push(format!("gave up {marker}"));
        }
    }
}

impl Post {
    fn new(book: Book) -> Self {
        let book = Arc::new(Mutex::new(book));
        let (decisions, decided) = mpsc::channel(16);
        let noted = Arc::clone(&book);
        let sink: MarkerSink = Arc::new(move |at, marker| {
            let book = Arc::clone(&noted);
            async move {
                let text = format!("{} of epoch {}", at.partition, marker.producer_epoch);
                let (code, is_silent) = {
                    let mut book = book.lock().unwrap();
                    book.told.push(format!("marks {text}"));
                    let answers = book.answers.entry(at.partition.0).or_default();
                    let code = if answers.is_empty() { None } else { Some(answers.remove(0)) };
                    (code, book.silent.contains(&at.partition.0))
                };
                if is_silent {
                    let _underway = Underway(book, Some(text));
                    return std::future::pending().await;
                }
                code.map_or(Ok(()), Err)
            }
            .boxed()
        });
        let noted = Arc::clone(&book);
        let teller: Teller = Arc::new(move |decided| {
            let mut book = noted.lock().unwrap();
            book.told.push(format!("tells of epoch {}", decided.producer.epoch));
            let is_empty = book.replies.is_empty();
            let reply = if is_empty { Ok(Reply::Noted(Ok(()))) } else { book.replies.remove(0) };
            std::future::ready(reply).boxed()
        });
        let task = tokio::spawn(send_markers(decided, sink, teller));
        Self { book, decisions, _task: task }
    }

    async fn decide(&self, id: &str, epoch: i16, partitions: &[i32]) {
        let at = |index: &i32| TopicPartition::new("p", *index);
        let decided = Decided {
            id: id.into(),
            producer: Producer { id: ProducerId(7), epoch: ProducerEpoch(epoch) },
            commit: true,
            version: Version::V1,
            coordinator_epoch: CoordinatorEpoch(1),
            partitions: partitions.iter().map(at).collect(),
            loaded_at: Duration::ZERO,
        };
        self.decisions.send(decided).await.unwrap();
    }

    /// What happened within the next second.
    async fn told(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::mem::take(&mut self.book.lock().unwrap().told)
    }
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_is_told_once_every_partition_has_its_marker() {
    let again = vec![ErrorCode::NotLeaderOrFollower, ErrorCode::KafkaStorageError];
    let post = Post::new(Book { answers: [(1, again)].into(), ..Book::default() });
    post.decide("t", 4, &[0, 1]).await;
    let (first, second) = ("marks 0 of epoch 4", "marks 1 of epoch 4");
    assert_eq!(post.told().await, [first, second, second, second, "tells of epoch 4"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_gone_and_a_partition_that_knows_a_newer_epoch_need_no_marker() {
    for code in [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidProducerEpoch] {
        let post = Post::new(Book { answers: [(0, vec![code])].into(), ..Book::default() });
        post.decide("t", 4, &[0]).await;
        assert_eq!(post.told().await, ["marks 0 of epoch 4", "tells of epoch 4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_was_fenced_leaves_the_decision_to_its_successor() {
    let fenced = vec![ErrorCode::TransactionCoordinatorFenced];
    let post = Post::new(Book { answers: [(0, fenced)].into(), ..Book::default() });
    post.decide("t", 4, &[0]).await;
    assert_eq!(post.told().await, ["marks 0 of epoch 4"]);
}

/// A shard that was loaded anew says again what is owed. Were both carried out at once, the marker
/// of the slower one could end the producer's next transaction.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_for_an_id_ends_before_its_next_decision_begins() {
    let post = Post::new(Book { silent: [0].into(), ..Book::default() });
    post.decide("t", 4, &[0]).await;
    assert_eq!(post.told().await, ["marks 0 of epoch 4"]);
    post.book.lock().unwrap().silent.clear();
    post.decide("t", 5, &[0]).await;
    let want = ["gave up 0 of epoch 4", "marks 0 of epoch 5", "tells of epoch 5"];
    assert_eq!(post.told().await, want);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_does_not_answer_holds_no_other_id_up() {
    let post = Post::new(Book { silent: [0].into(), ..Book::default() });
    post.decide("slow", 4, &[0]).await;
    post.decide("quick", 5, &[1]).await;
    let want = ["marks 0 of epoch 4", "marks 1 of epoch 5", "tells of epoch 5"];
    assert_eq!(post.told().await, want);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_loads_is_told_again_and_one_that_is_gone_is_not() {
    let key = || "t".to_owned();
    let not_now = [
        Err(Unavailable::Loading { key: key() }),
        Err(Unavailable::NotAvailable { key: key() }),
        Ok(Reply::Noted(Err(ErrorCode::CoordinatorNotAvailable))),
    ];
    let post = Post::new(Book { replies: not_now.into(), ..Book::default() });
    post.decide("t", 4, &[]).await;
    assert_eq!(post.told().await, ["tells of epoch 4"; 4]);
    post.book.lock().unwrap().replies.push(Err(Unavailable::NotCoordinator { key: key() }));
    post.decide("t", 5, &[]).await;
    assert_eq!(post.told().await, ["tells of epoch 5"]);
}
