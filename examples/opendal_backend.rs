//! Any service of [OpenDAL](https://opendal.apache.org) as a backend: the conformance suite over
//! two of them, memory and a directory. Object stores, WebDAV, databases go the same way: another
//! `Operator`, the same `OpenDal`.
//!
//! ```sh
//! cargo run --example opendal_backend
//! ```

use std::sync::Arc;
use std::time::Duration;

use opendal::{Buffer, Operator, services};
use peercache::backend::{
    Blob, BlobBackend, BlobStoreInfo, Condition, Conditions, Operation, Revision, Written, async_trait,
};
use peercache::{BlobStore, Bytes, CacheBackend, Clock, Error, ErrorKind};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

/// A service of OpenDAL as a store of named byte strings.
#[derive(Debug)]
struct OpenDal {
    operator: Operator,
    info: BlobStoreInfo,
}

impl OpenDal {
    fn new(operator: Operator) -> Self {
        let about = operator.info();
        let can = about.capability();
        // Both conditions or none: with one alone a blob cannot be replaced safely.
        let conditions = match can.write_with_if_match && can.write_with_if_not_exists {
            true => Conditions::Revisions,
            false => Conditions::None,
        };
        let scope = if can.shared { BlobStoreInfo::shared } else { BlobStoreInfo::local };
        Self { info: scope(about.scheme().to_string()).with_conditions(conditions), operator }
    }
}

fn failed(operation: Operation, error: opendal::Error) -> Error {
    let kind = match error.kind() {
        opendal::ErrorKind::PermissionDenied => ErrorKind::Denied,
        opendal::ErrorKind::RateLimited => ErrorKind::RateLimited,
        opendal::ErrorKind::ConfigInvalid => ErrorKind::Config,
        opendal::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, operation, "the service refused the request").with_source(error)
}

fn revision(about: &opendal::Metadata) -> Option<Revision> {
    about.etag().map(Revision::new)
}

#[async_trait]
impl BlobStore for OpenDal {
    fn info(&self) -> &BlobStoreInfo {
        &self.info
    }

    async fn read(&self, name: &str) -> Result<Option<Blob>, Error> {
        // The revision first: if the blob is replaced in between, the old one fits nothing any
        // more.
        let revision = match self.info.conditions {
            Conditions::None => None,
            _ => match self.operator.stat(name).await {
                Ok(about) => revision(&about),
                Err(error) if error.kind() == opendal::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(Operation::Get, error)),
            },
        };
        match self.operator.read(name).await {
            Ok(bytes) => Ok(Some(Blob::new(bytes.to_bytes()).with_revision(revision))),
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(Operation::Get, error)),
        }
    }

    async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        _ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        let write = self.operator.write_with(name, Buffer::from(bytes));
        let written = match &condition {
            Condition::Always => write.await,
            Condition::IfAbsent => write.if_not_exists(true).await,
            Condition::IfRevision(etag) => write.if_match(etag.as_str()).await,
            _ => return Ok(Written::Unsupported),
        };
        match written {
            Ok(about) => Ok(Written::Stored(revision(&about))),
            Err(error) => match error.kind() {
                opendal::ErrorKind::ConditionNotMatch => Ok(Written::Conflict),
                opendal::ErrorKind::PermissionDenied => Ok(Written::ReadOnly(failed(Operation::Put, error))),
                _ => Err(failed(Operation::Put, error)),
            },
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        self.operator.check().await.map_err(|error| failed(Operation::Probe, error))
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Judges the service that `operator` stands for.
async fn judge(operator: Operator) -> Result<(), Box<dyn std::error::Error>> {
    let clock = Arc::new(ManualClock::default());
    let time = Time::Manual(Arc::clone(&clock));
    let open = move || {
        let store = OpenDal::new(operator.clone());
        let backend = BlobBackend::builder(store).clock(Arc::clone(&clock) as Arc<dyn Clock>).build();
        std::future::ready(backend.map(|backend| Arc::new(backend) as Arc<dyn CacheBackend>))
    };
    let report = conformance::run(conformance::from_fn(time, open)).await;
    print!("{report}");
    if report.conforms() { Ok(()) } else { Err("the backend does not conform".into()) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    judge(Operator::new(services::Memory::default())?).await?;
    let dir = tempfile::tempdir()?;
    let (root, incoming) = (dir.path().join("blobs"), dir.path().join("incoming"));
    let (root, incoming) = (root.display().to_string(), incoming.display().to_string());
    // With a folder for what is not written yet, readers see whole files only.
    judge(Operator::new(services::Fs::default().root(&root).atomic_write_dir(&incoming))?).await
}
