//! An object store that fails, or whose user is killed, at a chosen operation; and one that lies. For tests. Shell.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};

/// What goes wrong at one operation. Operations count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The process dies there, before it is done.
    KilledBefore(usize),
    /// The process dies there, once it is done.
    KilledAfter(usize),
    /// It fails, and nothing is done.
    Refused(usize),
    /// It is done, but the answer is an error.
    AnswerLost(usize),
}

/// Counts operations and decides about each.
#[derive(Debug)]
pub(crate) struct Faults {
    fault: Fault,
    operations: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Do,
    DoThenFail,
    Fail,
}

impl Faults {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, operations: AtomicUsize::new(0) })
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    fn next(&self) -> Verdict {
        let operation = self.operations.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::None => Verdict::Do,
            Fault::KilledBefore(at) if operation >= at => Verdict::Fail,
            Fault::KilledAfter(at) if operation > at => Verdict::Fail,
            Fault::KilledAfter(at) | Fault::AnswerLost(at) if operation == at => {
                Verdict::DoThenFail
            }
            Fault::Refused(at) if operation == at => Verdict::Fail,
            _ => Verdict::Do,
        }
    }

    /// Does `operation`, or not.
    pub(crate) async fn pass<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let verdict = self.next();
        if verdict == Verdict::Fail {
            return Err(injected());
        }
        let done = operation.await?;
        if verdict == Verdict::Do { Ok(done) } else { Err(injected()) }
    }
}

fn injected() -> Error {
    Error::Generic { store: "faults", source: "injected".into() }
}

/// `inner`, whose operations pass `faults`.
#[derive(Clone, Debug)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) faults: Arc<Faults>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, at: &Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.faults.pass(self.inner.put_opts(at, body, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.faults.pass(self.inner.put_multipart_opts(at, opts)).await?;
        Ok(Box::new(FaultyUpload { inner, faults: Arc::clone(&self.faults) }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.pass(self.inner.get_opts(at, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        let delete = move |location: Result<Path>| {
            let (inner, faults) = (Arc::clone(&inner), Arc::clone(&faults));
            async move {
                let location = location?;
                faults.pass(inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faults, listed) = (Arc::clone(&self.faults), self.inner.list(prefix));
        let first = async move {
            match faults.pass(async { Ok(listed) }).await {
                Ok(listed) => listed,
                Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            }
        };
        futures::stream::once(first).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.pass(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.pass(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, body: PutPayload) -> UploadPart {
        let faults = Arc::clone(&self.faults);
        let put: BoxFuture<'static, Result<()>> = self.inner.put_part(body);
        Box::pin(async move { faults.pass(put).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let faults = Arc::clone(&self.faults);
        faults.pass(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.pass(self.inner.abort()).await
    }
}

/// A store that overwrites what it was told to keep.
#[derive(Debug)]
pub(crate) struct LyingStore(pub(crate) Arc<dyn ObjectStore>);

impl fmt::Display for LyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LyingStore {
    async fn put_opts(&self, at: &Path, body: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.0.put_opts(at, body, PutOptions::from(PutMode::Overwrite)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
