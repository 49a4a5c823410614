//! Answers that lie in files, by sockets of the machine. Shell.

use super::*;
use crate::disk::{Disk, Open, RealDisk};
use crate::limits::OpenFiles;
use crate::net::Listener;
use crate::net::tcp::TcpListener;
use crate::stretch::Stretch;

/// Three stretches of the file, each of `FILE_BYTES`, and what lies between them in memory.
pub(super) fn answer(budget: &Budget, path: &Path, takes_files: bool) -> Serving {
    assert!(takes_files, "it came by a socket");
    let files = OpenFiles::unbounded();
    let file = RealDisk.open(path, Open::Existing).unwrap();
    let stretch =
        |at| Arc::new(Stretch::new(Arc::clone(&file), at, FILE_BYTES, files.lend().unwrap()));
    let stretches: Vec<_> = (0..3).map(stretch).collect();
    let response = between(|number| stretches[number].stand_in());
    let grant = budget.nothing(Use::Answer);
    Serving::ready(Answer::Records(response.into(), Held { grant, stretches }))
}

/// More than a socket takes at once.
const FILE_BYTES: usize = 8 << 20;

/// An answer of records that are large, few, large, few and large.
fn between(large: impl Fn(usize) -> Bytes) -> FetchResponse {
    let few = || Bytes::from(vec![7; 5000]);
    let records = [large(0), few(), large(1), few(), large(2)];
    let partition = |it| PartitionData { records: Some(it), ..Default::default() };
    let partitions = records.into_iter().map(partition).collect();
    let topic = FetchableTopicResponse { partitions, ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

/// By a socket of the machine.
async fn fixture_by_tcp(budget: &Budget) -> Fixture {
    let mut listener = TcpListener::bind("PLAINTEXT", "127.0.0.1", 0).await.unwrap();
    let port = listener.endpoint().port;
    let client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    fixture_by(stream, Box::new(client), budget, &Lines::default(), 1 << 16)
}

#[tokio::test]
async fn what_lies_in_a_file_is_sent_from_there_in_its_place_and_without_memory() {
    let content: Vec<u8> = (0..=250).cycle().take(FILE_BYTES + 2).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, &content).unwrap();
    let whole = Bytes::from(content);
    let want = between(|number| whole.slice(number..number + FILE_BYTES));
    let want = encode_response(&want.into(), 4, 9).unwrap().into_bytes();
    // So little that nothing of it could be read.
    let budget = Budget::new(1 << 20, None);
    let mut it = fixture_by_tcp(&budget).await;
    it.send(&frame_in(4, 9, &format!("file{}", path.display()))).await;
    let mut got = vec![0; want.len()];
    it.client.read_exact(&mut got).await.unwrap();
    assert!(got == want, "it is another frame");
    it.send(&frame(10, "now10")).await;
    assert_eq!(it.receive(3).await, (10, 10));
}

#[tokio::test]
async fn a_file_that_ends_too_early_ends_the_connection_and_zeros_are_never_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, vec![1; FILE_BYTES - 1]).unwrap();
    let mut it = fixture_by_tcp(&Budget::new(64 << 20, None)).await;
    it.send(&frame_in(4, 9, &format!("file{}", path.display()))).await;
    let mut got = Vec::new();
    it.client.read_to_end(&mut got).await.unwrap();
    let (head, records) = got.split_at(got.len() - (FILE_BYTES - 1));
    assert!(head.len() < 100 && records.iter().all(|it| *it == 1));
}
