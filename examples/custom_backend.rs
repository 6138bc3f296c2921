//! A backend of your own, and the proof that it is right: a directory with one file per key, judged
//! by the conformance suite that judges every backend of peercache.
//!
//! ```sh
//! cargo run --example custom_backend
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use peercache::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key, Operation,
    async_trait, envelope,
};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

/// One file per key, for one process at a time. It grows without bound, so it is an example and not a
/// tier to use: [`peercache::Disk`] is.
#[derive(Clone, Debug)]
struct Files {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    info: BackendInfo,
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// Held while a version is compared and replaced: that is what makes writes ordered.
    writing: Mutex<()>,
    closed: AtomicBool,
}

impl Files {
    fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|error| failed(Operation::Open, error))?;
        // Promise only what holds: the suite checks exactly this.
        let capabilities = Capabilities::local().with_ordered_writes().with_native_expiry().with_durable();
        Ok(Self {
            inner: Arc::new(Inner {
                info: BackendInfo::new("files", capabilities),
                dir: dir.to_owned(),
                clock,
                writing: Mutex::new(()),
                closed: AtomicBool::new(false),
            }),
        })
    }

    /// Runs `job` where blocking is allowed. It ends even if the caller goes away, so what it writes
    /// is written wholly.
    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        job: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let job = move || {
            if inner.closed.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, operation, "closed").with_backend("files"));
            }
            job(&inner)
        };
        tokio::task::spawn_blocking(job).await.unwrap_or_else(|error| Err(failed(operation, error.into())))
    }
}

impl Inner {
    /// The name is the key's digest: any text is a key, few are file names.
    fn path(&self, key: &Key) -> PathBuf {
        let mut name = String::new();
        for byte in key.digest() {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        self.dir.join(name)
    }

    /// The envelope carries the key's digest and a checksum: damage and mix-ups are errors of kind
    /// `Corrupt`, never wrong values.
    fn read(&self, key: &Key, operation: Operation) -> Result<Option<Entry>, Error> {
        match fs::read(self.path(key)) {
            Ok(bytes) => {
                envelope::decode(key, bytes.into()).map(Some).map_err(|error| error.with_backend("files"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(operation, error)),
        }
    }

    fn write(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(key, Operation::Put) {
            // Success: what is there is newer, which is as good.
            Ok(Some(stored)) if !entry.supersedes(&stored, self.clock.now()) => return Ok(()),
            // Damage must not stand in the way of what replaces it.
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            _ => {}
        }
        // Readers see the old file or the new one, never half of it.
        let (path, temporary) = (self.path(key), self.dir.join("incoming"));
        fs::write(&temporary, envelope::encode(key, entry))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|error| failed(Operation::Put, error))
    }
}

fn failed(operation: Operation, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "the directory cannot be used")
        .with_backend("files")
        .with_source(error)
}

#[async_trait]
impl CacheBackend for Files {
    fn info(&self) -> &BackendInfo {
        &self.inner.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let wanted = key.clone();
        let found = self.run(Operation::Get, move |inner| inner.read(&wanted, Operation::Get)).await?;
        let now = self.inner.clock.now();
        Ok(found.filter(|entry| entry.freshness(now) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let key = key.clone();
        self.run(Operation::Put, move |inner| inner.write(&key, &entry)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.run(Operation::Probe, |inner| {
            fs::metadata(&inner.dir).map(drop).map_err(|error| failed(Operation::Probe, error))
        })
        .await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache::Fleet> {
        None
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().to_owned();
    // With a clock that the suite can move, it also watches entries grow stale and expire.
    let clock = Arc::new(ManualClock::default());
    let time = Time::Manual(Arc::clone(&clock));
    let open = move || {
        let opened = Files::open(&place, Arc::clone(&clock) as Arc<dyn Clock>);
        std::future::ready(opened.map(|files| Arc::new(files) as Arc<dyn CacheBackend>))
    };
    let report = conformance::run(conformance::from_fn(time, open)).await;
    print!("{report}");
    if !report.conforms() {
        return Err("the backend does not conform".into());
    }
    Ok(())
}
