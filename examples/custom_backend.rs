//! A backend of your own, and the proof that it is right: a directory with one file per key, judged
//! by the conformance suite that judges every backend of peercache.
//!
//! ```sh
//! cargo run --example custom_backend
//! ```
//!
//! The backend is what stands between the two lines. It grows without bound, so it is an example
//! and not a tier to use: `peercache::Disk` is.

use std::sync::Arc;

use peercache::{CacheBackend, Clock};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

// ------------------------------------------------------------------------------------------------
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use peercache::backend::{
    Blob, BlobBackend, BlobStoreInfo, Condition, Naming, Operation, Written, async_trait,
};
use peercache::{BlobStore, Bytes, Error, ErrorKind};

#[derive(Debug)]
struct Files(PathBuf, BlobStoreInfo);

type Result<T> = std::result::Result<T, Error>;

fn failed(operation: Operation, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "the directory cannot be used").with_source(error)
}

#[async_trait]
impl BlobStore for Files {
    fn info(&self) -> &BlobStoreInfo {
        &self.1
    }

    async fn read(&self, name: &str) -> Result<Option<Blob>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(Blob::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(Operation::Get, error)),
        }
    }

    async fn write(&self, name: &str, bytes: Bytes, _: Condition, _: Option<Duration>) -> Result<Written> {
        // Readers see the old file or the new one, never half of it.
        let (path, temporary) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(temporary, path));
        written.map(|()| Written::Stored(None)).map_err(|error| failed(Operation::Put, error))
    }

    async fn probe(&self) -> Result<()> {
        fs::metadata(&self.0).map(drop).map_err(|error| failed(Operation::Probe, error))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
// ------------------------------------------------------------------------------------------------

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().to_owned();
    // With a clock that the suite can move, it also watches entries grow stale and expire.
    let clock = Arc::new(ManualClock::default());
    let time = Time::Manual(Arc::clone(&clock));
    let open = move || {
        let files = Files(place.clone(), BlobStoreInfo::local("files").with_naming(Naming::Flat));
        let backend = BlobBackend::builder(files).clock(Arc::clone(&clock) as Arc<dyn Clock>).build();
        std::future::ready(backend.map(|backend| Arc::new(backend) as Arc<dyn CacheBackend>))
    };
    let report = conformance::run(conformance::from_fn(time, open)).await;
    print!("{report}");
    if !report.conforms() {
        return Err("the backend does not conform".into());
    }
    Ok(())
}
