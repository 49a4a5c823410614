//! One log on real files: appended to through its directory's writer, and read.
//!
//! The writer runs as a task of the same thread, so that each piece of work is whole when it ends;
//! nothing waits for a sync. Shell.

use std::hint::black_box;
use std::sync::Arc;

use broker::disk::RealDisk;
use broker::limits::OpenFiles;
use broker::log::{DirConfig, DirHandle, Identity, LogConfig, Mode, Opened, Placed, Reader};
use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};
use protocol::record::{Codec, RecordBatch};
use tokio::runtime::Runtime;

use crate::batch::batch;
use crate::{Case, Scratch, Work, runtime};

/// All of this file.
pub const CASES: [Case; 3] = [
    Case { name: "log: append a batch of 1 KiB", prepare: append },
    Case { name: "log: read 1 MiB of batches of 16 KiB", prepare: read_bulk },
    Case { name: "log: read the last batch of 1 KiB", prepare: read_tail },
];

/// A log and what it needs to live; dropped in this order.
struct Open {
    runtime: Runtime,
    handle: DirHandle,
    opened: Opened,
    config: LogConfig,
    _scratch: Scratch,
}

impl Open {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let identity = Identity {
            cluster_id: "bench".to_owned(),
            node_id: BrokerId(1),
            directory_id: [9; 16],
        };
        let files = OpenFiles::unbounded();
        let dir = DirConfig { path: scratch.0.clone(), identity, mode: Mode::Inline, files };
        let (runtime, config) = (runtime(), LogConfig::default());
        let (handle, opened) = runtime.block_on(async {
            let handle = DirHandle::start(Arc::new(RealDisk), dir).expect("it is new").handle;
            let partition = TopicPartition::new("t", 0);
            let opened = handle.open(partition, TopicId([7; 16]), config.clone()).await;
            (handle, opened.expect("it is new"))
        });
        Self { runtime, handle, opened, config, _scratch: scratch }
    }

    /// Appends one batch and waits until it is written.
    fn append(&mut self, batch: &RecordBatch) {
        let Self { runtime, handle, opened, config, .. } = self;
        let placed = Placed::new(batch, opened.state.log_end(), LeaderEpoch(0));
        let mut writes = Vec::new();
        opened.state.admit([placed.expect("no control batch")], config, false, &mut writes);
        let end = opened.state.log_end();
        runtime.block_on(async {
            for write in writes {
                handle.submit(opened.id, write).await.expect("the writer runs");
            }
            opened.progress.wait_for(|it| it.written == end).await.expect("the writer runs");
        });
    }

    fn reader(&self) -> Reader {
        self.opened.reader.clone()
    }
}

fn append() -> Work {
    let (mut open, batch) = (Open::new("append"), batch(1, 1000, Codec::None));
    Box::new(move || open.append(&batch))
}

fn read_bulk() -> Work {
    let (mut open, batch) = (Open::new("bulk"), batch(16, 1000, Codec::None));
    for _ in 0..128 {
        open.append(&batch);
    }
    let (reader, end) = (open.reader(), open.opened.state.log_end());
    Box::new(move || {
        // Keeps the log open.
        black_box(&open);
        let slice = reader.read(Offset(160), end, 1 << 20, true).expect("it can be read");
        assert!(slice.bytes.len() > 1 << 19);
        black_box(slice);
    })
}

fn read_tail() -> Work {
    let (mut open, batch) = (Open::new("tail"), batch(1, 1000, Codec::None));
    for _ in 0..1000 {
        open.append(&batch);
    }
    let (reader, end) = (open.reader(), open.opened.state.log_end());
    Box::new(move || {
        black_box(&open);
        let slice = reader.read(Offset(end.0 - 1), end, 1 << 20, true).expect("it can be read");
        assert!(!slice.bytes.is_empty());
        black_box(slice);
    })
}
