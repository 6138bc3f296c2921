//! Every call to the node: which there are, how they are sent, and what their answers mean.
//!
//! Nothing outside this module knows that it is HTTP, or which client sends it. [`Node`] is all the
//! rest sees. Two clients serve it through `ipfs-api-prelude`:
//!
//! - `keep_alive::KeepAlive`, over `reqwest`: connections stay open, https, `Authorization`,
//!   trailers.
//! - `ipfs_api_backend_hyper::IpfsClient`: a connection for each call, plain http.

mod keep_alive;
mod requests;
mod trouble;

use std::fmt;
use std::io::Cursor;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use common_multipart_rfc7578::client::multipart::Form;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ipfs_api_prelude::{ApiRequest, Backend, TryFromUri as _};
use peercache_api::Error;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::endpoint::{Authorization, Endpoint};
pub(crate) use trouble::Trouble;

/// How long a collection may take: it walks the whole repository.
const COLLECTION_DEADLINE: Duration = Duration::from_secs(1800);
/// How long a node is asked whether it answers at all, after a write that it did not.
const ALIVE_DEADLINE: Duration = Duration::from_millis(500);
/// How much longer we wait for a call than the node waits for other nodes.
const FETCH_SLACK: Duration = Duration::from_secs(2);

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) name: String,
    #[serde(rename = "Hash")]
    pub(crate) cid: String,
    #[serde(default)]
    pub(crate) size: u64,
}

/// A folder as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Folder {
    #[serde(rename = "Hash")]
    pub(crate) cid: String,
    /// Bytes of everything below it, folders included.
    #[serde(rename = "CumulativeSize")]
    pub(crate) bytes: u64,
}

/// A node as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Identity {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Addresses", default)]
    pub(crate) addresses: Option<Vec<String>>,
}

/// The repository of a node, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RepoSize {
    pub(crate) repo_size: u64,
    pub(crate) storage_max: u64,
}

/// Messages of a topic: who sent it, and what.
pub(crate) type Messages = BoxStream<'static, Result<Message, Trouble>>;

/// A message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The peer id of the node that published it.
    pub(crate) from: String,
    pub(crate) data: Bytes,
}

/// What the tier asks of a node. Every call but [`Node::subscribe`] ends within a deadline, and
/// every one can be repeated.
#[async_trait]
pub(crate) trait Node: fmt::Debug + Send + Sync {
    /// The version of Kubo: `0.43.1`.
    async fn version(&self) -> Result<String, Trouble>;
    /// Its peer id and addresses.
    async fn identity(&self) -> Result<Identity, Trouble>;
    /// Stores one block of at most 1 MiB, unpinned, and gives its CID.
    async fn put_block(&self, block: Bytes) -> Result<String, Trouble>;
    /// Reads a block that the node has.
    async fn block(&self, cid: &str) -> Result<Bytes, Trouble>;
    /// Reads a block, from other nodes if need be, within `wait`.
    async fn fetch_block(&self, cid: &str, wait: Duration) -> Result<Bytes, Trouble>;
    /// Links a block that the node has under a path, atomically, if that is free:
    /// [`Trouble::Exists`] otherwise. Makes the folders above it.
    async fn link(&self, cid: &str, path: &str) -> Result<(), Trouble>;
    /// As [`Node::link`], but a node that is killed before the next [`Node::flush`] may lose it.
    /// Many times as fast: the node writes the folders above it once for all links. It refuses
    /// after 256 of them.
    async fn link_unflushed(&self, cid: &str, path: &str) -> Result<(), Trouble>;
    /// Makes everything that was linked below a folder survive the end of the node.
    async fn flush(&self, folder: &str) -> Result<(), Trouble>;
    /// The files of a folder in no order; `None`: there is no such folder.
    async fn list(&self, folder: &str) -> Result<Option<Vec<Listed>>, Trouble>;
    /// Removes a file; one that is not there is no error.
    async fn remove(&self, path: &str) -> Result<(), Trouble>;
    /// Makes a folder unless it is there.
    async fn make_folder(&self, path: &str) -> Result<(), Trouble>;
    /// A folder as a whole; `None`: there is none.
    async fn folder(&self, path: &str) -> Result<Option<Folder>, Trouble>;
    /// The files of a folder with this CID, from other nodes if need be, within `wait`.
    async fn links(&self, cid: &str, wait: Duration) -> Result<Vec<Listed>, Trouble>;
    /// Drops every block that nothing links and nothing pins; gives their number.
    async fn collect(&self) -> Result<u64, Trouble>;
    /// The size of the repository and its limit.
    async fn repo_size(&self) -> Result<RepoSize, Trouble>;
    /// Connects to another node.
    async fn connect(&self, address: &str, wait: Duration) -> Result<(), Trouble>;
    /// Publishes a message.
    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), Trouble>;
    /// Receives messages until the connection ends.
    fn subscribe(&self, topic: &str) -> Messages;
}

/// A client for plain http that opens a connection for each call, or one that keeps them open.
pub(crate) fn open(
    endpoint: &Endpoint,
    authorization: Option<Authorization>,
    keep_alive: bool,
    deadline: Duration,
) -> Result<Arc<dyn Node>, Error> {
    if keep_alive || endpoint.is_tls() || authorization.is_some() {
        let backend = keep_alive::KeepAlive::new(endpoint, authorization)?;
        return Ok(Arc::new(Rpc { backend, deadline, flushing: Mutex::new(()) }));
    }
    let backend = ipfs_api_backend_hyper::IpfsClient::build_with_base_uri(endpoint.base().clone());
    Ok(Arc::new(Rpc { backend: PerCall(backend), deadline, flushing: Mutex::new(()) }))
}

/// The named client, which has no `Debug` of its own.
struct PerCall(ipfs_api_backend_hyper::IpfsClient);

impl fmt::Debug for PerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerCall")
    }
}

/// What a client has to offer, so that both serve [`Node`] by the same code.
#[async_trait]
trait Wire: fmt::Debug + Send + Sync {
    /// Sends a request and reads its whole answer; one that is no success is a [`Trouble`].
    async fn send<R: ApiRequest>(&self, request: R, upload: Option<Bytes>) -> Result<Bytes, Trouble>;
    /// Sends a request and reads its answer as it comes.
    fn stream<R: ApiRequest>(&self, request: R) -> BoxStream<'static, Result<Bytes, Trouble>>;
}

fn form(upload: Option<Bytes>) -> Option<Form<'static>> {
    upload.map(|bytes| {
        let mut form = Form::default();
        form.add_reader("data", Cursor::new(bytes));
        form
    })
}

macro_rules! wire {
    ($client:ty, $this:ident => $backend:expr) => {
        #[async_trait]
        impl Wire for $client {
            async fn send<R: ApiRequest>(&self, request: R, upload: Option<Bytes>) -> Result<Bytes, Trouble> {
                let $this = self;
                let (status, body) = $backend.request_raw(request, form(upload)).await?;
                if status.as_u16() == 200 {
                    return Ok(body);
                }
                Err(Trouble::of_answer(status.as_u16(), &body, false))
            }

            fn stream<R: ApiRequest>(&self, request: R) -> BoxStream<'static, Result<Bytes, Trouble>> {
                let $this = self;
                match $backend.build_base_request(request, None) {
                    Ok(request) => $backend
                        .request_stream_bytes(request)
                        .map(|piece| piece.map_err(Trouble::from))
                        .boxed(),
                    Err(error) => {
                        let trouble = Trouble::from(error);
                        futures_util::stream::once(std::future::ready(Err(trouble))).boxed()
                    }
                }
            }
        }
    };
}

wire!(keep_alive::KeepAlive, this => this);
wire!(PerCall, this => this.0);

/// [`Node`] over a client.
#[derive(Debug)]
struct Rpc<W> {
    backend: W,
    deadline: Duration,
    /// Held while links are flushed. Of two changes that end at the same moment the node may keep
    /// the older tree and answer both, and loses the other one when it is killed before its next
    /// change (`Republisher.Update` in boxo's `mfs/repub.go`). Removals are not acknowledged and do
    /// not wait for it.
    flushing: Mutex<()>,
}

impl<W: Wire> Rpc<W> {
    async fn once<R: ApiRequest>(
        &self,
        request: R,
        upload: Option<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, Trouble> {
        match timeout(deadline, self.backend.send(request, upload)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Timeout(deadline)),
        }
    }

    /// Sends what `request` makes, and once more if the connection was the problem.
    async fn call<R: ApiRequest>(
        &self,
        request: impl Fn() -> R + Send + Sync,
        upload: Option<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, Trouble> {
        match self.once(request(), upload.clone(), deadline).await {
            Err(trouble) if trouble.is_worth_a_retry() => self.once(request(), upload, deadline).await,
            answered => answered,
        }
    }

    async fn ask<R: ApiRequest, T: DeserializeOwned>(
        &self,
        request: impl Fn() -> R + Send + Sync,
    ) -> Result<T, Trouble> {
        json(&self.call(request, None, self.deadline).await?)
    }

    async fn copy(&self, cid: &str, path: &str, flush: bool) -> Result<(), Trouble> {
        let from = format!("/ipfs/{cid}");
        let (parents, offline) = (true, true);
        let request = || requests::FilesCp { from: &from, to: path, parents, offline, flush, marker: MARKER };
        self.write(request, None).await.map(drop)
    }

    /// As [`Rpc::call`], for what changes something: tells a node that is away from one whose
    /// writes wait.
    async fn write<R: ApiRequest>(
        &self,
        request: impl Fn() -> R + Send + Sync,
        upload: Option<Bytes>,
    ) -> Result<Bytes, Trouble> {
        match self.call(request, upload, self.deadline).await {
            Err(Trouble::Timeout(waited)) => {
                let version = requests::Version { marker: PhantomData };
                match self.once(version, None, ALIVE_DEADLINE).await {
                    Ok(_) => Err(Trouble::WritesWait(waited)),
                    Err(_) => Err(Trouble::Timeout(waited)),
                }
            }
            done => done,
        }
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    if body.is_empty() {
        return Err(Trouble::Empty);
    }
    serde_json::from_slice(body).map_err(|error| Trouble::Unreadable(error.to_string()))
}

/// A duration as the node reads it. One without a unit would be answered by 200 and nothing.
fn with_unit(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Multibase, base64url without padding: how the RPC wants topics.
fn multibase(bytes: &[u8]) -> String {
    format!("u{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The reverse of [`multibase`]; `None`: it is something else.
fn from_multibase(text: &str) -> Option<Bytes> {
    URL_SAFE_NO_PAD.decode(text.strip_prefix('u')?).ok().map(Bytes::from)
}

/// One line of a subscription.
fn message(line: &[u8]) -> Result<Message, Trouble> {
    #[derive(Deserialize)]
    struct Line {
        from: String,
        data: String,
    }
    let line: Line = json(line)?;
    let data = from_multibase(&line.data)
        .ok_or_else(|| Trouble::Unreadable("the data of a message is not base64url".to_owned()))?;
    Ok(Message { from: line.from, data })
}

/// The longest line of a subscription: a message of 1 MiB never arrives whole.
const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;

/// Cuts a stream of bytes into lines.
fn lines(pieces: BoxStream<'static, Result<Bytes, Trouble>>) -> BoxStream<'static, Result<Bytes, Trouble>> {
    let state = (pieces, Vec::new(), false);
    futures_util::stream::unfold(state, |(mut pieces, mut held, ended)| async move {
        if ended {
            return None;
        }
        loop {
            if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let rest = held.split_off(end + 1);
                held.truncate(end);
                return Some((Ok(Bytes::from(held)), (pieces, rest, false)));
            }
            match pieces.next().await {
                Some(Ok(piece)) if held.len() + piece.len() <= MAX_LINE_BYTES => {
                    held.extend_from_slice(&piece);
                }
                Some(Ok(_)) => {
                    return Some((Err(Trouble::TooLong(MAX_LINE_BYTES)), (pieces, Vec::new(), true)));
                }
                Some(Err(trouble)) => return Some((Err(trouble), (pieces, Vec::new(), true))),
                None => return None,
            }
        }
    })
    .boxed()
}

const MARKER: PhantomData<&()> = PhantomData;

#[async_trait]
impl<W: Wire> Node for Rpc<W> {
    async fn version(&self) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            version: String,
        }
        let answer: Answer = self.ask(|| requests::Version { marker: MARKER }).await?;
        Ok(answer.version)
    }

    async fn identity(&self) -> Result<Identity, Trouble> {
        self.ask(|| requests::Identity { marker: MARKER }).await
    }

    async fn put_block(&self, block: Bytes) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            key: String,
        }
        let request =
            || requests::BlockPut { cid_codec: "raw", mhtype: "sha2-256", pin: false, marker: MARKER };
        let answer: Answer = json(&self.write(request, Some(block)).await?)?;
        Ok(answer.key)
    }

    async fn block(&self, cid: &str) -> Result<Bytes, Trouble> {
        let request = || requests::BlockGet { arg: cid, offline: Some(true), timeout: None, marker: MARKER };
        let block = self.call(request, None, self.deadline).await?;
        if block.is_empty() { Err(Trouble::Empty) } else { Ok(block) }
    }

    async fn fetch_block(&self, cid: &str, wait: Duration) -> Result<Bytes, Trouble> {
        let request =
            || requests::BlockGet { arg: cid, offline: None, timeout: Some(with_unit(wait)), marker: MARKER };
        let block = self.call(request, None, wait.saturating_add(FETCH_SLACK)).await?;
        if block.is_empty() { Err(Trouble::Empty) } else { Ok(block) }
    }

    async fn link(&self, cid: &str, path: &str) -> Result<(), Trouble> {
        let _alone = self.flushing.lock().await;
        self.copy(cid, path, true).await
    }

    async fn link_unflushed(&self, cid: &str, path: &str) -> Result<(), Trouble> {
        self.copy(cid, path, false).await
    }

    async fn flush(&self, folder: &str) -> Result<(), Trouble> {
        let _alone = self.flushing.lock().await;
        self.write(|| requests::FilesFlush { arg: folder, marker: MARKER }, None).await.map(drop)
    }

    async fn list(&self, folder: &str) -> Result<Option<Vec<Listed>>, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            entries: Option<Vec<Listed>>,
        }
        let request = || requests::FilesLs { arg: folder, long: true, unsorted: true, marker: MARKER };
        match self.ask::<_, Answer>(request).await {
            Ok(answer) => Ok(Some(answer.entries.unwrap_or_default())),
            Err(Trouble::NoSuchFile) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), Trouble> {
        let request = || requests::FilesRm { arg: path, force: true, marker: MARKER };
        match self.write(request, None).await {
            Ok(_) | Err(Trouble::NoSuchFile) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn make_folder(&self, path: &str) -> Result<(), Trouble> {
        let request = || requests::FilesMkdir { arg: path, parents: true, cid_version: 1, marker: MARKER };
        self.write(request, None).await.map(drop)
    }

    async fn folder(&self, path: &str) -> Result<Option<Folder>, Trouble> {
        match self.ask(|| requests::FilesStat { arg: path, marker: MARKER }).await {
            Ok(folder) => Ok(Some(folder)),
            Err(Trouble::NoSuchFile) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn links(&self, cid: &str, wait: Duration) -> Result<Vec<Listed>, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            objects: Vec<Object>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Object {
            links: Option<Vec<Listed>>,
        }
        let path = format!("/ipfs/{cid}");
        let request = || requests::Ls {
            arg: &path,
            resolve_type: false,
            size: false,
            timeout: with_unit(wait),
            marker: MARKER,
        };
        let answer: Answer = json(&self.call(request, None, wait.saturating_add(FETCH_SLACK)).await?)?;
        Ok(answer.objects.into_iter().filter_map(|object| object.links).flatten().collect())
    }

    async fn collect(&self) -> Result<u64, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Line {
            error: Option<String>,
        }
        let counted = async {
            let mut lines =
                lines(self.backend.stream(requests::RepoGc { stream_errors: true, marker: MARKER }));
            let mut removed = 0;
            while let Some(line) = lines.next().await {
                let line: Line = json(&line?)?;
                match line.error.filter(|error| !error.is_empty()) {
                    Some(error) => return Err(Trouble::of_message(200, &error)),
                    None => removed += 1,
                }
            }
            Ok(removed)
        };
        timeout(COLLECTION_DEADLINE, counted).await.unwrap_or(Err(Trouble::Timeout(COLLECTION_DEADLINE)))
    }

    async fn repo_size(&self) -> Result<RepoSize, Trouble> {
        self.ask(|| requests::RepoStat { size_only: true, marker: MARKER }).await
    }

    async fn connect(&self, address: &str, wait: Duration) -> Result<(), Trouble> {
        let request = || requests::SwarmConnect { arg: address, timeout: with_unit(wait), marker: MARKER };
        self.call(request, None, wait.saturating_add(FETCH_SLACK)).await.map(drop)
    }

    async fn publish(&self, topic: &str, message: Bytes) -> Result<(), Trouble> {
        let topic = multibase(topic.as_bytes());
        let request = || requests::PubsubPub { arg: &topic, marker: MARKER };
        self.call(request, Some(message), self.deadline).await.map(drop)
    }

    fn subscribe(&self, topic: &str) -> Messages {
        let topic = multibase(topic.as_bytes());
        let pieces = self.backend.stream(requests::PubsubSub { arg: &topic, marker: MARKER });
        lines(pieces).map(|line| line.and_then(|line| message(&line))).boxed()
    }
}
