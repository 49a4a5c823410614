//! The object store below the lake's location.
//!
//! A put is durable when it returns: local files and their directories are synced. A file is there whole or not at all;
//! big ones go up in parts. Errors say which object, and whether trying again can help. Shell.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connect::sdk::{Offset, TaskError};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};

use super::layout::{intent_start, probe_path};
use super::settings::{Location, S3Location};

/// Files above this go up in parts, so that a failure costs a part.
pub(crate) const PUT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// 16 MiB: S3 takes at most 10 000 parts, of at least 5 MiB.
const PART_BYTES: usize = 16 * 1024 * 1024;

/// Parts under way at once.
const PARTS_MAX: usize = 4;

/// An intent is some kilobytes: 256 files of a hundred bytes, and the columns.
const INTENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Intents of a partition: deleted when committed, so more mean that nobody commits.
const INTENTS_MAX: usize = 100_000;

/// How long one operation is retried here before the worker hears of it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Before each path; may be empty.
    prefix: Path,
    /// The location as the operator wrote it.
    place: Arc<str>,
    put_bytes_max: usize,
}

/// What became of putting an object that must not exist.
#[derive(Debug)]
pub(crate) enum Created {
    /// It was put.
    Yes,
    /// It existed; this is what it holds.
    Existed(Bytes),
}

/// Stores that cannot hold what the lake promises.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(
        "the store let an object be overwritten that was put on condition that it does not exist: exactly-once needs a store with conditional writes (S3, MinIO, R2, a local directory)"
    )]
    Overwrites,
    #[error("listed {INTENTS_MAX} intents: more than a sink that commits leaves")]
    TooManyIntents,
    #[error("{0} bytes are no intent")]
    TooLong(u64),
}

impl Store {
    /// The store at `location`; a directory is made if it does not exist.
    ///
    /// # Errors
    /// Retriable: the directory cannot be made now. Fatal: it never can be, or the settings are refused.
    pub(crate) fn open(location: &Location) -> Result<Self, TaskError> {
        let place = location.to_string();
        let error = |source: Error| TaskError::fatal(format!("lake {place}"), source);
        match location {
            Location::Directory(directory) => {
                std::fs::create_dir_all(directory).map_err(|source| {
                    let thing = format!("lake {place}");
                    if needs_operator(&source) {
                        TaskError::fatal(thing, source)
                    } else {
                        TaskError::retriable(thing, source)
                    }
                })?;
                let files = LocalFileSystem::new_with_prefix(directory).map_err(error)?;
                Ok(Self::over(Arc::new(files.with_fsync(true)), Path::default(), &place))
            }
            Location::S3(s3) => {
                let objects = s3_builder(s3).build().map_err(error)?;
                Ok(Self::over(Arc::new(objects), s3.prefix.clone(), &place))
            }
        }
    }

    /// The store `objects`, below `prefix`.
    pub(crate) fn over(objects: Arc<dyn ObjectStore>, prefix: Path, place: &str) -> Self {
        Self { objects, prefix, place: place.into(), put_bytes_max: PUT_BYTES_MAX }
    }

    /// Sends files of more than `put_bytes_max` up in parts.
    #[cfg(test)]
    pub(crate) fn in_parts_above(self, put_bytes_max: usize) -> Self {
        Self { put_bytes_max, ..self }
    }

    /// Finds out whether the store refuses to overwrite what must not exist.
    ///
    /// # Errors
    /// Fatal: it does not refuse.
    pub(crate) async fn probe(&self) -> Result<(), TaskError> {
        let path = probe_path();
        let body = || Bytes::from_static(b"tells whether this store keeps what exists\n");
        for _ in 0..2 {
            if !self.put_if_absent(&path, body()).await? {
                return Ok(());
            }
        }
        Err(TaskError::fatal(self.thing(&path), ProbeError::Overwrites))
    }

    /// Puts an object if nothing is there.
    pub(crate) async fn create(&self, path: &str, body: Bytes) -> Result<Created, TaskError> {
        if self.put_if_absent(path, body).await? {
            return Ok(Created::Yes);
        }
        Ok(Created::Existed(self.read(path).await?))
    }

    async fn put_if_absent(&self, path: &str, body: Bytes) -> Result<bool, TaskError> {
        let at = self.at(path)?;
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&at, PutPayload::from(body), options).await {
            Ok(_) => Ok(true),
            // Some stores say that the precondition failed.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.error(path, error)),
        }
    }

    /// Puts an object over whatever is there.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes) -> Result<(), TaskError> {
        let at = self.at(path)?;
        let put = async {
            if bytes.len() > self.put_bytes_max {
                self.put_parts(&at, &bytes).await
            } else {
                self.objects.put(&at, PutPayload::from(bytes)).await.map(drop)
            }
        };
        put.await.map_err(|error| self.error(path, error))
    }

    async fn put_parts(&self, at: &Path, bytes: &Bytes) -> Result<(), Error> {
        let mut upload = self.objects.put_multipart(at).await?;
        let starts = (0..bytes.len()).step_by(PART_BYTES);
        let parts: Vec<_> = starts
            .map(|start| bytes.slice(start..bytes.len().min(start + PART_BYTES)))
            .map(|part| upload.put_part(PutPayload::from(part)))
            .collect();
        let sent: Result<Vec<()>, Error> =
            futures::stream::iter(parts).buffer_unordered(PARTS_MAX).try_collect().await;
        let done = match sent {
            Ok(_) => upload.complete().await.map(drop),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // What cannot be taken back now, the store's own rules for unfinished uploads remove.
            let _left_behind = upload.abort().await.is_err();
        }
        done
    }

    /// How long the object is. `None`: there is none.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Option<u64>, TaskError> {
        match self.objects.head(&self.at(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(path, error)),
        }
    }

    /// What a small object holds.
    pub(crate) async fn read(&self, path: &str) -> Result<Bytes, TaskError> {
        let error = |error| self.error(path, error);
        let got = self.objects.get(&self.at(path)?).await.map_err(error)?;
        if got.meta.size > INTENT_BYTES_MAX {
            let too_long = ProbeError::TooLong(got.meta.size);
            return Err(TaskError::fatal(self.thing(path), too_long));
        }
        got.bytes().await.map_err(error)
    }

    /// The starts of the intents in `directory`, ascending.
    pub(crate) async fn starts(&self, directory: &str) -> Result<Vec<Offset>, TaskError> {
        let at = self.at(directory)?;
        let mut starts = Vec::new();
        let mut listed = self.objects.list(Some(&at));
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|error| self.error(directory, error))?;
            starts.extend(meta.location.filename().and_then(intent_start));
            if starts.len() > INTENTS_MAX {
                let many = ProbeError::TooManyIntents;
                return Err(TaskError::fatal(self.thing(directory), many));
            }
        }
        starts.sort_unstable();
        Ok(starts)
    }

    /// Deletes an object; one that does not exist is deleted.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), TaskError> {
        match self.objects.delete(&self.at(path)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(path, error)),
        }
    }

    fn at(&self, path: &str) -> Result<Path, TaskError> {
        let whole = if self.prefix.as_ref().is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.prefix)
        };
        Path::parse(whole).map_err(|error| TaskError::fatal(self.thing(path), error))
    }

    fn thing(&self, path: &str) -> String {
        format!("object {}/{path}", self.place)
    }

    fn error(&self, path: &str, error: Error) -> TaskError {
        let thing = self.thing(path);
        if is_final(&error) {
            TaskError::fatal(thing, error)
        } else {
            TaskError::retriable(thing, error)
        }
    }
}

/// True if trying again cannot help: the directory is a file, or not ours to write to.
fn needs_operator(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::InvalidFilename
    )
}

/// The operating system's own error below `error`: local stores wrap it.
fn io_below(error: &Error) -> Option<&io::Error> {
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        below = error.source();
    }
    None
}

/// True if an operator must act.
fn is_final(error: &Error) -> bool {
    if let Error::Generic { .. } = error {
        return io_below(error).is_some_and(needs_operator);
    }
    matches!(
        error,
        Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
            // What is asked for exists; then it is the bucket that does not.
            | Error::NotFound { .. }
    )
}

fn s3_builder(s3: &S3Location) -> AmazonS3Builder {
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 10,
        retry_timeout: RETRY_TIMEOUT,
    };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&s3.bucket).with_retry(retry);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &s3.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(key) = &s3.secret_access_key {
        builder = builder.with_secret_access_key(&key.0);
    }
    if let Some(allow_http) = s3.allow_http {
        builder = builder.with_allow_http(allow_http);
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_that_is_a_file_needs_an_operator() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lake");
        std::fs::write(&file, "not a directory").unwrap();
        for place in [file.clone(), file.join("below")] {
            let error = Store::open(&Location::Directory(place.clone())).unwrap_err();
            assert!(!error.is_retriable(), "{error}");
            assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_became_a_file_needs_an_operator() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Directory(dir.path().to_owned())).unwrap();
        std::fs::write(dir.path().join("topic"), "not a directory").unwrap();
        let error = store.put("topic/part", Bytes::from_static(b"rows")).await.unwrap_err();
        assert!(!error.is_retriable(), "{error}");
    }
}
