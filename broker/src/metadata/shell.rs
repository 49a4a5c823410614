//! Applies committed records in order and tells everyone who asked.
//!
//! One task owns the Image. It takes what the quorum committed from its [`Feed`], folds it, lets
//! everyone see the new Image, hands each subscriber (Image, Delta) in order, and only then answers
//! that the records are applied. A subscriber that falls behind holds the feed back rather than
//! miss a change: it must not wait for the controller while it has an update in hand. Shell.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::Offset;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::delta::Delta;
use super::image::Image;
use super::record::Record;
use crate::config::BrokerConfig;
use crate::limits::{METADATA_SUBSCRIBERS_WAITING_MAX, METADATA_UPDATES_MAX};

/// What the quorum asks of the metadata. Each is answered when done; a dropped answer means that
/// the metadata could not follow the log, which no retry will change.
#[derive(Debug)]
pub enum Feed {
    /// Committed records: one batch, the next of the log.
    Apply {
        /// The end of the log with this batch.
        end: Offset,
        /// The encoded records.
        records: Vec<Bytes>,
        /// Answered when everyone can see them.
        applied: oneshot::Sender<()>,
    },
    /// Asks for records whose fold is the present Image.
    Snapshot {
        /// Answered with the end of the log that they stand for, and the encoded records.
        reply: oneshot::Sender<(Offset, Vec<Bytes>)>,
    },
    /// Replaces the Image by the fold of `records`.
    Install {
        /// The end of the log that they stand for.
        end: Offset,
        /// The encoded records.
        records: Vec<Bytes>,
        /// Answered when everyone can see them.
        installed: oneshot::Sender<()>,
    },
}

/// A new Image and what changed since the one before.
pub type Update = (Arc<Image>, Arc<Delta>);

/// Access to what the cluster knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MetadataHandle {
    image: watch::Receiver<Arc<Image>>,
    subscribers: mpsc::Sender<mpsc::Sender<Update>>,
}

impl MetadataHandle {
    /// The newest Image.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// The newest Image and all that follow; those in between may be skipped.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// The settings of the broker that was started with `start`, as they are altered; those in
    /// between may be skipped. Ends when the metadata end.
    #[must_use]
    pub fn broker_config(&self, start: &Arc<BrokerConfig>) -> watch::Receiver<Arc<BrokerConfig>> {
        let effective = |image: &Image, start: &Arc<BrokerConfig>| match image.broker_config(start)
        {
            Cow::Borrowed(_) => start.clone(),
            Cow::Owned(altered) => Arc::new(altered),
        };
        let mut images = self.watch();
        let image = images.borrow_and_update().clone();
        let (sender, receiver) = watch::channel(effective(&image, start));
        let start = start.clone();
        tokio::spawn(async move {
            let mut settings = image.broker_settings();
            while images.changed().await.is_ok() && !sender.is_closed() {
                let image = images.borrow_and_update().clone();
                let now = image.broker_settings();
                if now != settings {
                    sender.send_replace(effective(&image, &start));
                    settings = now;
                }
            }
        });
        receiver
    }

    /// Every change from now on, in order, none skipped. The first update is the present Image with
    /// all that it holds as its Delta. Ends when the metadata end.
    pub async fn subscribe(&self) -> mpsc::Receiver<Update> {
        let (sender, receiver) = mpsc::channel(METADATA_UPDATES_MAX);
        // When the metadata have ended, so does the stream.
        drop(self.subscribers.send(sender).await);
        receiver
    }
}

/// Starts the metadata of the cluster `image.cluster_id` with `image`. The task ends when `feed`
/// does, or when a record cannot be applied.
pub fn start(image: Image, feed: mpsc::Receiver<Feed>) -> MetadataHandle {
    let (sender, receiver) = watch::channel(Arc::new(image));
    let (subscribers, subscribing) = mpsc::channel(METADATA_SUBSCRIBERS_WAITING_MAX);
    let publisher = Publisher { image: sender, subscribers: Vec::new() };
    tokio::spawn(publisher.run(feed, subscribing));
    MetadataHandle { image: receiver, subscribers }
}

struct Publisher {
    image: watch::Sender<Arc<Image>>,
    subscribers: Vec<mpsc::Sender<Update>>,
}

impl Publisher {
    async fn run(
        mut self,
        mut feed: mpsc::Receiver<Feed>,
        mut subscribing: mpsc::Receiver<mpsc::Sender<Update>>,
    ) {
        loop {
            tokio::select! {
                biased;
                Some(subscriber) = subscribing.recv() => self.welcome(subscriber).await,
                next = feed.recv() => {
                    let Some(next) = next else { return };
                    if let Err(reason) = self.follow(next).await {
                        error!(%reason, "the metadata log cannot be followed: no change of metadata from here on");
                        return;
                    }
                }
            }
        }
    }

    async fn welcome(&mut self, subscriber: mpsc::Sender<Update>) {
        let image = self.image.borrow().clone();
        let delta = Arc::new(Delta::all_of(&image));
        if subscriber.send((image, delta)).await.is_ok() {
            self.subscribers.push(subscriber);
        }
    }

    async fn follow(&mut self, next: Feed) -> Result<(), FollowError> {
        let now = self.image.borrow().clone();
        match next {
            Feed::Apply { end, records, applied } => {
                assert!(end > now.end, "the quorum commits each entry once and in order");
                let (image, delta) = fold((*now).clone(), end, records)?;
                self.publish(image, delta).await;
                // Whoever waited may be gone.
                let _ = applied.send(());
            }
            Feed::Install { end, records, installed } => {
                let empty = Image::empty(now.cluster_id.clone());
                let (image, _) = fold(empty, end, records)?;
                let delta = Delta::between(&now, &image);
                self.publish(image, delta).await;
                let _ = installed.send(());
            }
            Feed::Snapshot { reply } => {
                let records = now.to_records().iter().map(Record::encode).collect();
                let _ = reply.send((now.end, records));
            }
        }
        Ok(())
    }

    async fn publish(&mut self, image: Image, delta: Delta) {
        let image = Arc::new(image);
        self.image.send_replace(image.clone());
        let update = (image, Arc::new(delta));
        let mut gone = Vec::new();
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            if subscriber.send(update.clone()).await.is_err() {
                gone.push(index);
            }
        }
        for index in gone.into_iter().rev() {
            self.subscribers.remove(index);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Record(#[from] super::record::RecordError),
    #[error(transparent)]
    Apply(#[from] super::ApplyError),
}

fn fold(mut image: Image, end: Offset, records: Vec<Bytes>) -> Result<(Image, Delta), FollowError> {
    let mut delta = Delta::default();
    for bytes in records {
        image.apply(&Record::decode(bytes)?, &mut delta)?;
    }
    image.end = end;
    Ok((image, delta))
}
