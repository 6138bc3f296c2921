//! The requests: messages to the service, receipts, and bytes to and from storage nodes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ed25519_dalek::{SigningKey, VerifyingKey};
use futures_util::StreamExt as _;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use peercache_api::{Clock as _, Error, ErrorKind, Operation, SystemClock};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use url::{Host, Url};

use crate::report::{Counters, count};
use crate::request_error::RequestError;
use crate::token::Token;
use crate::ucan::car::{Car, MAX_CAR_BYTES};
use crate::ucan::delegation::{Capability, Delegation};
use crate::ucan::did::Did;
use crate::ucan::message::{self, Answer, CONTENT_TYPE};
use crate::ucan::receipt::Receipt;
use crate::ucan::{Malformed, bytes, fields, link, list, map, signature, text};

/// The longest that making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one host that stay open while nothing is asked.
const IDLE_CONNECTIONS: usize = 16;
/// How long an invocation can be used, in seconds: clocks may differ by as much.
const INVOCATION_SECONDS: u64 = 600;
/// The wait before a receipt that is not there yet is asked for again; doubled up to the longest.
const RECEIPT_WAIT: Duration = Duration::from_millis(10);
const RECEIPT_WAIT_MAX: Duration = Duration::from_millis(500);
/// The waits before a request is made again.
const RETRY_WAITS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// Requests that are made at once.
const MAX_REQUESTS: usize = 16;
/// The longest document that names the service's key, in bytes.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Where the service is, and who.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) url: Url,
    pub(crate) receipts: Url,
    pub(crate) did: Did,
    /// The key behind a DID that is none, where it was given.
    pub(crate) key: Option<VerifyingKey>,
}

pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) service: Service,
    token: Token,
    agent: Did,
    service_key: OnceCell<VerifyingKey>,
    /// How long the receipt of an upload may take.
    receipt_within: Duration,
    places: Semaphore,
    counters: Arc<Counters>,
}

/// An invocation that has to be made: of what, with which parameters.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) can: &'static str,
    pub(crate) nb: Ipld,
}

/// A verified receipt and the blocks that came with it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) receipt: Receipt,
    pub(crate) answer: Arc<Answer>,
}

impl Outcome {
    /// What the service says, or why it refused.
    pub(crate) fn ok(&self) -> Result<&Ipld, RequestError> {
        self.receipt.result.as_ref().map_err(|failure| RequestError::Refused(failure.clone()))
    }
}

impl Client {
    pub(crate) fn new(
        service: Service,
        token: Token,
        receipt_within: Duration,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another thread that installs one is as good.
            let _either = rustls::crypto::ring::default_provider().install_default();
        }
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
        };
        let http = builder().build().or_else(|error| {
            tracing::info!(%error, "no CA certificates on this system; using those of this build");
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .map(|root| reqwest::Certificate::from_der(root))
                .collect::<reqwest::Result<Vec<_>>>()?;
            builder().tls_certs_only(bundled).build()
        });
        let http = http.map_err(|error| {
            Error::new(
                ErrorKind::Config,
                Operation::Open,
                "the HTTP client of the Storacha tier cannot start",
            )
            .with_backend("storacha")
            .with_source(error)
        })?;
        let agent = Did::of(&token.key.verifying_key());
        let service_key = OnceCell::new_with(service.did.key().or(service.key));
        let places = Semaphore::new(MAX_REQUESTS);
        Ok(Self { http, service, token, agent, service_key, receipt_within, places, counters })
    }

    /// The space, for reports.
    pub(crate) fn space(&self) -> String {
        self.token.space.to_string()
    }

    /// Sends these invocations in one message and gives the verified receipt of each, in their
    /// order. The service carries them out side by side.
    ///
    /// Tried again where the connection broke: every ability that is used can be carried out twice.
    pub(crate) async fn invoke(&self, tasks: &[Task]) -> Result<Vec<Outcome>, RequestError> {
        persistently(|| self.invoke_once(tasks)).await
    }

    async fn invoke_once(&self, tasks: &[Task]) -> Result<Vec<Outcome>, RequestError> {
        let mut car = Car::default();
        let mut invocations = Vec::with_capacity(tasks.len());
        for task in tasks {
            let capability = Capability {
                can: task.can.into(),
                with: self.token.space.to_string(),
                nb: Some(task.nb.clone()),
            };
            invocations.push(self.invocation(capability, true, &mut car)?);
        }
        self.send(invocations, car).await
    }

    /// Tells the service that the bytes of an upload are where they belong.
    async fn conclude(&self, put: Cid, key: &SigningKey) -> Result<(), RequestError> {
        persistently(|| self.conclude_once(put, key)).await
    }

    async fn conclude_once(&self, put: Cid, key: &SigningKey) -> Result<(), RequestError> {
        let mut car = Car::default();
        let receipt = Receipt::issue_ok(key, put, &mut car)?;
        let capability = Capability {
            can: "ucan/conclude".into(),
            with: self.agent.to_string(),
            nb: Some(map([("receipt", Ipld::Link(receipt))])),
        };
        let invocation = self.invocation(capability, false, &mut car)?;
        for outcome in self.send(vec![invocation], car).await? {
            outcome.ok()?;
        }
        Ok(())
    }

    fn invocation(&self, capability: Capability, proven: bool, car: &mut Car) -> Result<Cid, RequestError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| Malformed("the system gives no random bytes"))?;
        if proven {
            let blocks = &self.token.proof.blocks.blocks;
            car.blocks.extend(blocks.iter().map(|(cid, block)| (*cid, block.clone())));
        }
        // Not the clock of the tier: the service goes by the true time.
        let now = SystemClock::new().now().as_millis() / 1000;
        let invocation = Delegation {
            issuer: self.agent.clone(),
            audience: self.service.did.clone(),
            capabilities: vec![capability],
            expiration: Some(now + INVOCATION_SECONDS),
            not_before: None,
            proofs: if proven { vec![self.token.proof.cid] } else { Vec::new() },
            facts: Vec::new(),
            // The service answers an invocation that it knows with the receipt of the first time.
            nonce: Some(bs58::encode(nonce).into_string()),
            signature: Vec::new(),
        };
        Ok(invocation.issue(&self.token.key, car)?)
    }

    async fn send(&self, invocations: Vec<Cid>, car: Car) -> Result<Vec<Outcome>, RequestError> {
        let body = message::request(&invocations, car)?;
        let _place = self.place().await;
        count(&self.counters.messages);
        let sent = self
            .http
            .post(self.service.url.clone())
            .header(reqwest::header::CONTENT_TYPE, CONTENT_TYPE)
            .header(reqwest::header::ACCEPT, CONTENT_TYPE)
            .body(body)
            .send();
        let answer = self.message_of(sent.await.map_err(of_reqwest)?).await?;
        let answer = Arc::new(self.checked(message::receipts(&answer))?);
        let key = self.key_of_service().await?;
        let mut outcomes = Vec::with_capacity(invocations.len());
        for invocation in invocations {
            let receipt = self.checked(answer.receipt(&invocation))?;
            self.checked(self.by_service(&receipt, &key))?;
            outcomes.push(Outcome { receipt, answer: Arc::clone(&answer) });
        }
        Ok(outcomes)
    }

    fn by_service(&self, receipt: &Receipt, key: &VerifyingKey) -> Result<(), Malformed> {
        if receipt.issuer != self.service.did && receipt.issuer.key().as_ref() != Some(key) {
            return Err(Malformed("a receipt has another issuer than the service"));
        }
        receipt.verify(key)
    }

    /// Counts what is refused.
    fn checked<T>(&self, result: Result<T, Malformed>) -> Result<T, RequestError> {
        result.map_err(|why| {
            count(&self.counters.receipts_refused);
            RequestError::Malformed(why)
        })
    }

    /// Announces bytes as a blob of the space; [`Client::finish`] sends them.
    pub(crate) async fn upload(&self, envelope: &Bytes, digest: [u8; 32]) -> Result<Pending, RequestError> {
        let size = Ipld::Integer(envelope.len() as i128);
        let blob = map([("digest", Ipld::Bytes(multihash(digest))), ("size", size)]);
        let task = Task { can: "space/blob/add", nb: map([("blob", blob)]) };
        let added = self.invoke(&[task]).await?.remove(0);
        added.ok()?;
        let effects = self.checked(Effects::read(&added.receipt, &added.answer.car))?;
        Ok(Pending { effects })
    }

    /// Sends the bytes to where the service wants them, and gives their address.
    pub(crate) async fn finish(
        &self,
        pending: Pending,
        envelope: Bytes,
        digest: [u8; 32],
    ) -> Result<Url, RequestError> {
        let Pending { effects } = pending;
        if let Some(address) = &effects.address {
            let url = self.address(&address.url)?;
            persistently(|| self.put(&url, &address.headers, envelope.clone())).await?;
        }
        if let Some((put, key)) = &effects.put
            && !effects.concluded
        {
            self.conclude(*put, key).await?;
        }
        let accepted = self.receipt_of(effects.accept, &effects.node).await?;
        self.location(&accepted, digest)
    }

    async fn put(
        &self,
        url: &Url,
        headers: &[(String, String)],
        envelope: Bytes,
    ) -> Result<(), RequestError> {
        let _place = self.place().await;
        let mut request = self.http.put(url.clone()).body(envelope);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        count(&self.counters.requests);
        let answered = request.send().await.map_err(|error| RequestError::StorageNode(innermost(&error)))?;
        match answered.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(self.redirected()),
            status => Err(RequestError::StorageNode(format!("it answers {} to a PUT", status.as_u16()))),
        }
    }

    fn redirected(&self) -> RequestError {
        count(&self.counters.locations_refused);
        RequestError::Location("it redirects to another address")
    }

    /// Waits for one of the places for requests.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.places.acquire().await.ok()
    }

    /// The address of a blob that the space has.
    pub(crate) async fn locate(&self, digest: [u8; 32]) -> Result<Url, RequestError> {
        let task = Task { can: "space/blob/get/0/1", nb: map([("digest", Ipld::Bytes(multihash(digest)))]) };
        let found = self.invoke(&[task]).await?.remove(0);
        let cause = self.checked(
            fields(found.ok()?).and_then(|ok| link(ok, "cause").ok_or(Malformed("a blob has no cause"))),
        )?;
        let added = self.receipt_of(cause, &self.service.did).await?;
        added.ok()?;
        let effects = self.checked(Effects::read(&added.receipt, &added.answer.car))?;
        let accepted = self.receipt_of(effects.accept, &effects.node).await?;
        self.location(&accepted, digest)
    }

    /// The verified receipt of something that is or will be carried out by `issuer`; waits for it.
    async fn receipt_of(&self, ran: Cid, issuer: &Did) -> Result<Outcome, RequestError> {
        let url = self
            .service
            .receipts
            .join(&ran.to_string())
            .map_err(|_| Malformed("the address of receipts is no base"))?;
        let (mut wait, asked) = (RECEIPT_WAIT, Instant::now());
        loop {
            if let Some(found) = persistently(|| self.receipt_message(&url)).await? {
                let answer = Arc::new(self.checked(message::receipts(&found))?);
                let receipt = self.checked(answer.receipt(&ran))?;
                let key = match issuer.key() {
                    Some(key) => key,
                    None if *issuer == self.service.did => self.key_of_service().await?,
                    None => return self.checked(Err(Malformed("the key of a storage node is not known"))),
                };
                let by_issuer = receipt.issuer == *issuer || receipt.issuer.key() == Some(key);
                if by_issuer {
                    self.checked(receipt.verify(&key))?;
                } else {
                    let service = self.key_of_service().await?;
                    self.checked(self.by_service(&receipt, &service))?;
                }
                return Ok(Outcome { receipt, answer });
            }
            if asked.elapsed() >= self.receipt_within {
                count(&self.counters.timeouts);
                return Err(RequestError::NoReceipt);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RECEIPT_WAIT_MAX);
        }
    }

    /// The message with a receipt; `None` where there is none yet.
    async fn receipt_message(&self, url: &Url) -> Result<Option<Bytes>, RequestError> {
        let _place = self.place().await;
        count(&self.counters.requests);
        let response = self.http.get(url.clone()).send().await.map_err(of_reqwest)?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.message_of(response).await.map(Some)
    }

    /// The body, which has to be as short as messages are.
    async fn message_of(&self, response: reqwest::Response) -> Result<Bytes, RequestError> {
        let body = body_of(response, MAX_CAR_BYTES).await;
        if matches!(body, Err(RequestError::TooLong(_))) {
            count(&self.counters.receipts_refused);
        }
        body
    }

    /// The address in the claim that an accepted blob comes with.
    fn location(&self, accepted: &Outcome, digest: [u8; 32]) -> Result<Url, RequestError> {
        let car = &accepted.answer.car;
        let site = self.checked(
            fields(accepted.ok()?)
                .and_then(|ok| link(ok, "site").ok_or(Malformed("an accepted blob has no site"))),
        )?;
        let claim = self.checked(Delegation::read(car, site))?;
        let capability = claim.capabilities.first().filter(|capability| capability.can == "assert/location");
        let parts = self.checked(
            capability.ok_or(Malformed("a site is no claim of a location")).and_then(Capability::parameters),
        )?;
        let named = match parts.get("content") {
            Some(Ipld::Link(cid)) => Some(cid.hash().to_bytes()),
            Some(Ipld::Map(content)) => bytes(content, "digest").map(<[u8]>::to_vec),
            _ => None,
        };
        if named != Some(multihash(digest)) {
            count(&self.counters.locations_refused);
            return Err(RequestError::Location("the claim is about other bytes"));
        }
        match list(parts, "location").first() {
            Some(Ipld::String(url)) => self.address(url),
            _ => {
                count(&self.counters.locations_refused);
                Err(RequestError::Location("the claim names no address"))
            }
        }
    }

    /// An address that is followed: https, or plain http on this machine to a service on this
    /// machine. A service elsewhere cannot point at what only this machine can reach.
    fn address(&self, text: &str) -> Result<Url, RequestError> {
        let refuse = |why| {
            count(&self.counters.locations_refused);
            RequestError::Location(why)
        };
        let url = Url::parse(text).map_err(|_| refuse("it is no URL"))?;
        let here = is_loopback(&self.service.url);
        match url.scheme() {
            "https" if !here && is_internal(&url) => Err(refuse("it is in a network of this machine")),
            "https" => Ok(url),
            "http" if here && is_loopback(&url) => Ok(url),
            _ => Err(refuse("it is not https")),
        }
    }

    /// The bytes at `url`, if they have this SHA-256. No redirect is followed.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        digest: [u8; 32],
        most: usize,
    ) -> Result<Bytes, RequestError> {
        persistently(|| self.fetch_once(url, digest, most)).await
    }

    async fn fetch_once(&self, url: &Url, digest: [u8; 32], most: usize) -> Result<Bytes, RequestError> {
        let _place = self.place().await;
        count(&self.counters.requests);
        let response = self
            .http
            .get(url.clone())
            .send()
            .await
            .map_err(|error| RequestError::StorageNode(innermost(&error)))?;
        if response.status().is_redirection() {
            return Err(self.redirected());
        }
        if !response.status().is_success() {
            return Err(RequestError::StorageNode(format!(
                "it answers {} to a GET",
                response.status().as_u16()
            )));
        }
        let bytes = match body_of(response, most).await {
            Err(RequestError::TooLong(_)) => {
                count(&self.counters.corrupt);
                return Err(RequestError::Bytes);
            }
            Err(RequestError::BrokenOff(why)) => return Err(RequestError::StorageNode(why)),
            other => other?,
        };
        if Sha256::digest(&bytes)[..] != digest {
            count(&self.counters.corrupt);
            return Err(RequestError::Bytes);
        }
        Ok(bytes)
    }

    /// The key of a service whose DID is none: as it was given, else as the service itself says
    /// over a connection that proves its host.
    async fn key_of_service(&self) -> Result<VerifyingKey, RequestError> {
        self.service_key.get_or_try_init(|| self.look_up_key()).await.copied()
    }

    async fn look_up_key(&self) -> Result<VerifyingKey, RequestError> {
        if self.service.url.scheme() != "https" && !is_loopback(&self.service.url) {
            return Err(RequestError::NoServiceKey("the service is asked in clear".into()));
        }
        for path in ["/.well-known/did.json", "/version"] {
            let mut url = self.service.url.clone();
            url.set_path(path);
            url.set_query(None);
            count(&self.counters.requests);
            let response = self.http.get(url).send().await.map_err(of_reqwest)?;
            if response.status().is_success()
                && let Ok(body) = body_of(response, MAX_DOCUMENT_BYTES).await
                && let Some(key) = key_in(&body, &self.service.did)
            {
                return Ok(key);
            }
        }
        Err(RequestError::NoServiceKey("the service names none".into()))
    }
}

/// Tries again where trying again can help: a service that closes idle connections breaks those
/// that are used at that moment, and one that is busy fails by itself.
async fn persistently<T, F>(attempt: impl Fn() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, RequestError>>,
{
    for wait in RETRY_WAITS {
        match attempt().await {
            Err(error) if error.is_transient() => {
                tracing::debug!(?error, "a request to the upload service is made again");
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
    attempt().await
}

/// A DID document (<https://www.w3.org/TR/did-1.0/>), or what the upload service says of itself.
#[derive(Deserialize)]
struct Document {
    #[serde(alias = "did")]
    id: Option<String>,
    #[serde(rename = "publicKey")]
    public_key: Option<String>,
    #[serde(default, rename = "verificationMethod")]
    methods: Vec<Method>,
}

#[derive(Deserialize)]
struct Method {
    #[serde(rename = "publicKeyMultibase")]
    key: Option<String>,
}

fn key_in(body: &[u8], did: &Did) -> Option<VerifyingKey> {
    let document: Document = serde_json::from_slice(body).ok()?;
    if document.id? != did.to_string() {
        return None;
    }
    let listed =
        document.methods.into_iter().filter_map(|method| method.key).map(|key| format!("did:key:{key}"));
    listed.chain(document.public_key).find_map(|text| text.parse::<Did>().ok()?.key())
}

/// An upload that the service knows of.
#[derive(Debug)]
pub(crate) struct Pending {
    effects: Effects,
}

/// What follows from `space/blob/add`.
struct Effects {
    /// Where the bytes go; `None` when they are there.
    address: Option<Address>,
    /// The task of putting them there, and the key that says so.
    put: Option<(Cid, SigningKey)>,
    /// Whether somebody has said so already.
    concluded: bool,
    /// The task of accepting them, and who does.
    accept: Cid,
    node: Did,
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects").field("accept", &self.accept).finish_non_exhaustive()
    }
}

struct Address {
    url: String,
    headers: Vec<(String, String)>,
}

impl Effects {
    /// The tasks are named by the service's receipt and are blocks of the same message, so each is
    /// known to be what the service means.
    fn read(receipt: &Receipt, car: &Car) -> Result<Self, Malformed> {
        let mut tasks = HashMap::new();
        let mut concluded = HashMap::new();
        for cid in &receipt.forks {
            let task = Delegation::read(car, *cid)?;
            let Some(capability) = task.capabilities.first() else { continue };
            if capability.can == "ucan/conclude" {
                let of = link(capability.parameters()?, "receipt")
                    .ok_or(Malformed("a conclusion has no receipt"))?;
                let of = Receipt::read(car, of)?;
                concluded.insert(of.ran, of);
            } else {
                let can = capability.can.trim_start_matches("web3.storage/").to_owned();
                tasks.entry(can).or_insert_with(Vec::new).push((*cid, task));
            }
        }
        let find = |can: &str| tasks.get(can).into_iter().flatten();
        let (accept, node) = find("blob/accept")
            .next()
            .map(|(cid, task)| (*cid, task.audience.clone()))
            .ok_or(Malformed("nothing accepts the blob"))?;
        let put =
            find("http/put").next().map(|(cid, task)| put_key(task).map(|key| (*cid, key))).transpose()?;
        let allocated = find("blob/allocate").find_map(|(cid, _)| concluded.get(cid));
        let address = match allocated.map(|receipt| &receipt.result) {
            Some(Ok(ok)) => address(ok)?,
            Some(Err(failure)) => {
                tracing::debug!(name = failure.name, "a blob could not be allocated");
                return Err(Malformed("no storage node took the blob"));
            }
            None => return Err(Malformed("the blob was allocated nowhere")),
        };
        let concluded = put.as_ref().is_some_and(|(cid, _)| concluded.contains_key(cid));
        Ok(Self { address, put, concluded, accept, node })
    }
}

fn address(allocated: &Ipld) -> Result<Option<Address>, Malformed> {
    let Some(Ipld::Map(address)) = fields(allocated)?.get("address") else { return Ok(None) };
    let url = text(address, "url").ok_or(Malformed("the address of the blob has no URL"))?.to_owned();
    let headers = match address.get("headers") {
        Some(Ipld::Map(headers)) => headers
            .iter()
            .filter_map(|(name, value)| match value {
                Ipld::String(value) => Some((name.clone(), value.clone())),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    Ok(Some(Address { url, headers }))
}

/// The key that the service made for this one upload.
fn put_key(task: &Delegation) -> Result<SigningKey, Malformed> {
    let missing = Malformed("the task of the upload has no key");
    let keys = task.facts.iter().find_map(|fact| fields(fact).ok()?.get("keys")).ok_or(missing.clone())?;
    let keys = match fields(keys)?.get("keys") {
        Some(Ipld::Map(keys)) => keys,
        _ => return Err(missing),
    };
    match keys.values().next() {
        Some(Ipld::Bytes(key)) => signature::key_from_bytes(key),
        _ => Err(missing),
    }
}

/// Multihash of a SHA-256.
pub(crate) fn multihash(digest: [u8; 32]) -> Vec<u8> {
    [&[0x12, 32][..], &digest].concat()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether the host is an address that means something else on each machine.
fn is_internal(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        Some(Host::Domain(name)) => return name == "localhost" || name.ends_with(".localhost"),
        None => return true,
    };
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// The body of a success, at most `most` bytes.
async fn body_of(response: reqwest::Response, most: usize) -> Result<Bytes, RequestError> {
    if !response.status().is_success() {
        return Err(RequestError::Status(response.status().as_u16()));
    }
    let mut body = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| RequestError::BrokenOff(innermost(&error)))?;
        if body.len() + piece.len() > most {
            return Err(RequestError::TooLong(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn of_reqwest(error: reqwest::Error) -> RequestError {
    RequestError::Unreachable(innermost(&error))
}

/// The cause below all others: the outer ones repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_address_is_told_from_a_public_one() {
        let internal = |text: &str| is_internal(&Url::parse(text).unwrap());
        for url in [
            "https://127.0.0.1/x",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://localhost/",
        ] {
            assert!(internal(url), "{url}");
        }
        assert!(!internal("https://storage.example.org/x") && !internal("https://203.0.113.9/"));
    }

    #[test]
    fn the_key_of_a_service_is_read_from_its_document_if_it_is_its_own() {
        let key = SigningKey::from_bytes(&[4; 32]).verifying_key();
        let did_key = Did::of(&key).to_string();
        let did: Did = "did:web:up.example.org".parse().unwrap();
        let multibase = did_key.strip_prefix("did:key:").unwrap();
        let document =
            format!(r#"{{"id":"{did}","verificationMethod":[{{"publicKeyMultibase":"{multibase}"}}]}}"#);
        assert_eq!(key_in(document.as_bytes(), &did), Some(key));
        let version = format!(r#"{{"did":"{did}","publicKey":"{did_key}","name":"x"}}"#);
        assert_eq!(key_in(version.as_bytes(), &did), Some(key));
        assert_eq!(key_in(version.as_bytes(), &"did:web:other".parse().unwrap()), None);
    }
}
