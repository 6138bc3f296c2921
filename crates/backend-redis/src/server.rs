//! The server as a store of named byte strings.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use peercache_api::{Error, ErrorKind, Operation, util};
use peercache_blob::{Blob, BlobStore, BlobStoreInfo, Condition, Conditions, Naming, Revision, Written};
use redis::{Cmd, RedisError, Value};

use crate::keys::Keys;
use crate::known_keys::KnownKeys;
use crate::link::Link;
use crate::request_error::{Extent, explain};

/// Arguments of the longest command, and the bytes of all of them but a value: room is made once.
const ARGUMENTS: usize = 16;
const ROOM: usize = 512;
/// Where the kind stands in an envelope, and the kind of a value.
const KIND: usize = 5;
const VALUE: u8 = 0;
/// Where the checksum stands in an envelope.
const CHECKSUM: std::ops::Range<usize> = 96..104;

/// A script: run by its hash, and sent whole to a server that does not know it.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// The servers, and how keys are named there.
#[derive(Debug)]
pub(crate) struct Server {
    info: BlobStoreInfo,
    pub(crate) link: Arc<Link>,
    pub(crate) keys: Keys,
    /// Marks what this process writes, so that it does not tell itself of its own removals.
    pub(crate) id: [u8; 8],
    pub(crate) known: KnownKeys,
    put: Script,
}

impl Server {
    pub(crate) fn new(link: Arc<Link>, keys: Keys, id: [u8; 8]) -> Self {
        let info = BlobStoreInfo::shared("redis")
            // A server may save its data or not; what it evicts is gone in any case.
            .with_durable(true)
            .with_native_ttl()
            .with_conditions(Conditions::Versions)
            .with_naming(Naming::Flat);
        Self {
            info,
            link,
            keys,
            id,
            known: KnownKeys::new(),
            put: Script::new(include_str!("scripts/put.lua")),
        }
    }

    /// The error for a caller. A connection that leads to the wrong server is replaced.
    pub(crate) fn fail(&self, error: &RedisError, operation: Operation) -> (Error, Extent) {
        let (told, extent) = explain(error, operation, &self.link.address().to_string());
        if extent == Extent::Connection {
            self.link.discard_current();
        }
        (told, extent)
    }

    /// Runs a script on the keys of the blob called `name`. `arguments` adds its arguments, of
    /// which the largest has `room` bytes.
    pub(crate) async fn run(
        &self,
        script: &Script,
        name: &str,
        room: usize,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let command = |how: &str, what: &str| {
            let mut command = Cmd::with_capacity(ARGUMENTS, ROOM + room);
            command.arg(how).arg(what).arg(2).arg(self.keys.blob(name)).arg(self.keys.lease(name));
            arguments(&mut command);
            command
        };
        match self.link.call(&command("EVALSHA", &script.hash), false).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.link.call(&command("EVAL", script.text), false).await
            }
            answer => answer,
        }
    }

    /// Stores a value where nothing is. Whether it was stored.
    async fn write_new(&self, name: &str, bytes: &Bytes, ttl: u64) -> Result<bool, RedisError> {
        let mut command = Cmd::with_capacity(ARGUMENTS, ROOM + bytes.len());
        command.arg("SET").arg(self.keys.blob(name)).arg(&bytes[..]).arg("NX").arg("PX").arg(ttl);
        Ok(self.link.call(&command, false).await? == Value::Okay)
    }

    fn unexpected(operation: Operation) -> Error {
        Error::new(ErrorKind::Unavailable, operation, "the server's answer is not of the expected type")
            .with_help("see whether something stands between here and the server")
    }
}

/// What the server holds, as a blob.
pub(crate) fn blob_of(value: Value, operation: Operation) -> Result<Option<Blob>, Error> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) if bytes.len() > Blob::MAX_BYTES => {
            Ok(Some(Blob::too_large(bytes.len() as u64).with_revision(Some(revision(&bytes)))))
        }
        Value::BulkString(bytes) => Ok(Some(Blob::new(bytes).with_derived_revision(revision))),
        _ => Err(Server::unexpected(operation)),
    }
}

/// As the script computes it: the checksum of the envelope, and the length.
fn revision(bytes: &[u8]) -> Revision {
    let sum = bytes.get(CHECKSUM.start..CHECKSUM.end.min(bytes.len())).unwrap_or_default();
    Revision::new(format!("{}-{}", util::hex(sum), bytes.len()))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Server {
    fn info(&self) -> &BlobStoreInfo {
        &self.info
    }

    async fn read(&self, name: &str) -> Result<Option<Blob>, Error> {
        let mut command = Cmd::with_capacity(2, ROOM);
        command.arg("GET").arg(self.keys.blob(name));
        match self.link.call(&command, false).await {
            Ok(value) => {
                self.known.note(name, value != Value::Nil);
                blob_of(value, Operation::Get)
            }
            Err(error) => Err(self.fail(&error, Operation::Get).0),
        }
    }

    async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        // The backend always gives one, since the store declares that it honours it.
        let ttl = ttl.unwrap_or(peercache_api::MAX_LIFETIME).as_millis().max(1);
        let ttl = u64::try_from(ttl).unwrap_or(u64::MAX);
        let (how, argument): (&str, Vec<u8>) = match &condition {
            Condition::Always => ("always", Vec::new()),
            Condition::IfAbsent => ("absent", Vec::new()),
            Condition::IfRevision(revision) => ("revision", revision.as_str().into()),
            Condition::IfNewer(newer) => ("newer", newer.latest.as_millis().to_be_bytes().to_vec()),
            _ => return Ok(Written::Unsupported),
        };
        let arguments = |command: &mut Cmd| {
            command.arg(&bytes[..]).arg(ttl).arg(how).arg(&argument);
            command.arg(self.keys.removals()).arg(self.keys.leases()).arg(&self.id[..]);
        };
        // The usual write follows a miss. Where nothing is, there are no versions to compare: the
        // plain command is several times cheaper for the server than the script. A removal needs
        // the script, which publishes it, and so does a value with which a lease ends.
        let is_value = bytes.get(KIND) == Some(&VALUE);
        let written = if how == "newer" && is_value && self.known.is_new(name) {
            self.write_new(name, &bytes, ttl).await
        } else {
            Ok(false)
        };
        let answer = match written {
            Ok(true) => Ok(Value::Int(1)),
            // On the heap, so that what a usual write needs stays small.
            Ok(false) => Box::pin(self.run(&self.put, name, bytes.len(), arguments)).await,
            Err(error) => Err(error),
        };
        if answer.is_ok() {
            self.known.note(name, true);
            if is_value {
                self.known.note_lease(name, false);
            }
        }
        match answer {
            Ok(Value::Int(1)) => {
                let revision = (how != "newer").then(|| revision(&bytes));
                Ok(Written::Stored(revision))
            }
            Ok(Value::Int(0)) => Ok(Written::Conflict),
            Ok(_) => Err(Self::unexpected(Operation::Put)),
            Err(error) => match self.fail(&error, Operation::Put) {
                (told, Extent::Writes) => Ok(Written::ReadOnly(told)),
                (told, _) => Err(told),
            },
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        // What a lookup does: it needs the same permission, and a cluster whose slots are all
        // served.
        let mut command = redis::cmd("GET");
        command.arg(self.keys.blob("peercache-probe"));
        match self.link.call(&command, true).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(&error, Operation::Probe).0),
        }
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{Entry, Key, NodeId, Timestamp, Version, envelope};

    #[test]
    fn offsets_of_the_script_are_those_of_the_envelope() {
        let key = Key::new("k").unwrap();
        let version = Version {
            wall: Timestamp::from_millis(0x0102_0304_0506_0708),
            counter: 0x1112_1314,
            node: NodeId::from_u64(0x2122_2324_2526_2728),
        };
        let created = Timestamp::from_millis(0x3132_3334_3536_3738);
        let bytes = envelope::encode(&key, &Entry::builder("v", version, created).build().unwrap());
        // Lua counts from one, and `sub` includes its end.
        let sub = |first: usize, last: usize| bytes[first - 1..last].to_vec();
        assert_eq!(sub(1, 4), envelope::MAGIC);
        assert_eq!(sub(5, 5), [envelope::FORMAT_VERSION]);
        assert_eq!(sub(6, 6), [0], "a value");
        assert_eq!(bytes[KIND], VALUE);
        assert_eq!(sub(17, 24), 0x3132_3334_3536_3738_u64.to_be_bytes());
        assert_eq!(sub(41, 48), 0x0102_0304_0506_0708_u64.to_be_bytes());
        assert_eq!(sub(49, 56), 0x2122_2324_2526_2728_u64.to_be_bytes());
        assert_eq!(sub(57, 60), 0x1112_1314_u32.to_be_bytes());
        assert_eq!(sub(65, 96), key.digest());
        let tombstone = envelope::encode(&key, &Entry::tombstone(version, created));
        assert_eq!(tombstone[5], 1, "a tombstone");
        assert_eq!(CHECKSUM.end, envelope::HEADER_BYTES);
    }
}
