//! Grants, representations and marks in a [`Cache`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use peercache::{Cache, Entry, Key, Leased, MAX_LIFETIME, PutOutcome, Timestamp, Version, WritePolicy};
use tokio::time::timeout;

use crate::cache_control::CacheControl;
use crate::freshness::Freshness;
use crate::grant::{Grant, granted_headers, merge_304};
use crate::key::{NormalUrl, Variant, grant_key, mark_key, representation_key};
use crate::policy::{Keep, judge};
use crate::representation::Representation;
use crate::stats::{NotStored, Stats};
use crate::token::TokenId;
use crate::write_marks::{affected_paths, marked_path};

/// How many decoded grants are kept beside the store, about 3 KiB each; the least used go first.
const MAX_DECODED: usize = 4096;
/// The longest that the end of a body waits until other machines can find it.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(250);

/// Where one token's answer to one request is stored.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) token: TokenId,
    pub(crate) grant: Key,
    mark: Key,
}

impl Place {
    pub(crate) fn new(token: TokenId, authority: &str, url: &NormalUrl, request: &HeaderMap) -> Self {
        let grant = grant_key(&token, &Variant::new(authority, url, request));
        let mark = mark_key(&token, authority, marked_path(url));
        Self { token, grant, mark }
    }
}

/// The moment a request is sent: what it fetches is stored as of then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// When this process last noted a write, anywhere; always below [`Self::version`].
    last_write: Version,
    pub(crate) version: Version,
    pub(crate) at: Timestamp,
}

/// A grant, decoded and ready to be served.
#[derive(Debug)]
pub(crate) struct Held {
    version: Version,
    grant: Grant,
    /// Those of the grant and of the representation, and the body's length.
    headers: HeaderMap,
    /// The origin said `no-cache`: no other request may be answered with it unvalidated.
    no_cache: bool,
    representation: Key,
    body_at: usize,
}

/// What the store has for a request.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    held: Arc<Held>,
    pub(crate) body: Bytes,
    /// Whether no write is known that happened after it was validated.
    believed: bool,
    tier: Option<Cow<'static, str>>,
}

impl Found {
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.held.headers
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.held.grant.freshness
    }

    /// Whether it may be served for these directives without asking.
    pub(crate) fn satisfies(&self, directives: &CacheControl, now: Timestamp) -> bool {
        self.believed && self.freshness().satisfies(directives, now)
    }

    /// Whether it is fresh apart from what the client asks for.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.satisfies(&CacheControl::default(), now)
    }

    /// Whether a request that waited while it was fetched may have it.
    pub(crate) fn satisfies_follower(&self, directives: &CacheControl, now: Timestamp) -> bool {
        !self.held.no_cache && self.satisfies(directives, now)
    }

    /// The tier it came from.
    pub(crate) fn tier(&self) -> Option<Cow<'static, str>> {
        self.tier.clone()
    }

    /// The validator to send: the entity tag, or the date if there is none.
    pub(crate) fn validator(&self) -> Option<(HeaderName, HeaderValue)> {
        let headers = self.headers();
        let tag = headers.get(ETAG).map(|tag| (http::header::IF_NONE_MATCH, tag.clone()));
        tag.or_else(|| Some((http::header::IF_MODIFIED_SINCE, headers.get(LAST_MODIFIED)?.clone())))
    }

    /// The entity tag.
    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers().get(ETAG)
    }
}

/// The answer to a read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) found: Option<Found>,
    /// Whether the path has a mark at all. Without one, nothing is believed: it may have been evicted.
    pub(crate) marked: bool,
    /// Only a grant above this is of use.
    newest: Option<Version>,
    /// Whether other machines are worth asking.
    fleet: bool,
}

/// Grants, representations and marks over one cache.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    decoded: quick_cache::sync::Cache<[u8; 32], Arc<Held>>,
    /// The version of the last write that was noted; at first, of the start of this process.
    last_write: Mutex<Version>,
    stats: Arc<Stats>,
}

impl Store {
    pub(crate) fn new(cache: Cache, stats: Arc<Stats>) -> Self {
        let last_write = Mutex::new(cache.next_version());
        Self { cache, decoded: quick_cache::sync::Cache::new(MAX_DECODED), last_write, stats }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.cache.now()
    }

    /// To be called just before a request is sent.
    pub(crate) fn sending(&self) -> Sent {
        let last_write = *self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
        Sent { last_write, version: self.cache.next_version(), at: self.cache.now() }
    }

    /// What is stored for a request: three lookups, and nothing decoded that was before.
    pub(crate) async fn read(&self, place: &Place, request: &HeaderMap) -> Read {
        let grant = self.cache.lookup(&place.grant).await;
        let (newest, fleet) = (grant.newest, self.cache.coordinates_after(&grant));
        let mark = self.cache.lookup(&place.mark).await.hit().map(|mark| mark.version());
        let found = match grant.hit() {
            Some(entry) => self.find(place, &entry, mark, request).await,
            None => None,
        };
        Read { found, marked: mark.is_some(), newest: newest.max(mark), fleet }
    }

    /// Asks the other machines, after `read`, which of them asks GitHub with this token: only a grant for it
    /// is of use, so nobody waits for what another token may see.
    pub(crate) async fn lease(&self, place: &Place, read: &Read) -> Leased {
        match read.fleet {
            true => self.cache.lease(&place.grant, read.newest).await,
            false => Leased::Alone,
        }
    }

    async fn find(
        &self,
        place: &Place,
        entry: &Entry,
        mark: Option<Version>,
        request: &HeaderMap,
    ) -> Option<Found> {
        let version = entry.version();
        let known = self.decoded.get(place.grant.digest()).filter(|held| held.version == version);
        let grant = match &known {
            Some(held) => Cow::Borrowed(&held.grant),
            None => Cow::Owned(self.checked(Grant::decode(entry.value()))?),
        };
        if grant.without.iter().any(|name| request.contains_key(name)) {
            return None;
        }
        let key = match &known {
            Some(held) => held.representation.clone(),
            None => representation_key(&grant.representation),
        };
        let lookup = self.cache.lookup(&key).await;
        let tier = lookup.tier.clone();
        let value = lookup.hit()?.into_value();
        // Memory of this process holds what was verified when it came from elsewhere.
        if (tier.as_deref() != Some("memory") || known.is_none())
            && !Representation::verify(&grant.representation, &value)
        {
            self.stats.corrupt.add(1);
            let _outcome = self.cache.remove(&key).await;
            return None;
        }
        let held = match known {
            Some(held) => held,
            None => {
                let held = self.checked(hold(grant.into_owned(), version, key, &value))?;
                let held = Arc::new(held);
                self.decoded.insert(*place.grant.digest(), Arc::clone(&held));
                held
            }
        };
        let body = value.slice(held.body_at.min(value.len())..);
        let believed = mark.is_some_and(|mark| held.version > mark);
        Some(Found { held, body, believed, tier })
    }

    fn checked<T>(&self, decoded: Option<T>) -> Option<T> {
        if decoded.is_none() {
            self.stats.corrupt.add(1);
        }
        decoded
    }

    /// Notes, for a path that has no mark, that nothing was written to it after the last write that this
    /// process knows of.
    ///
    /// It is not a lower version, because the path may have had a mark that was evicted: what is older
    /// than the last write stays doubtful then. And it is not a higher one, because other requests for
    /// this path may be under way, and they are not.
    pub(crate) async fn begin(&self, place: &Place, sent: &Sent) {
        self.put_mark(&place.mark, sent.last_write).await;
    }

    /// Notes a successful write by `token` to `paths` and what lies above them.
    pub(crate) async fn invalidate<'a>(
        &self,
        token: &TokenId,
        authority: &str,
        paths: impl Iterator<Item = &'a str>,
    ) {
        let version = self.cache.next_version();
        {
            let mut last = self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
            *last = version.max(*last);
        }
        // At most three targets, each with a bounded number of paths.
        let keys: Vec<_> =
            paths.flat_map(affected_paths).map(|path| mark_key(token, authority, &path)).collect();
        join_all(keys.iter().map(|key| self.put_mark(key, version))).await;
        self.stats.invalidations.add(1);
    }

    async fn put_mark(&self, key: &Key, version: Version) {
        // An entry without a value is always within its bounds.
        if let Ok(entry) =
            Entry::builder(Bytes::new(), version, self.cache.now()).fresh_for(MAX_LIFETIME).build()
        {
            let _outcome = self.cache.put_entry(key, entry).await;
        }
    }

    /// Stores a response with status 200: first the representation, then the grant that names it. Where other
    /// machines wait for the grant (`awaited`), they must find the representation when they have it.
    pub(crate) async fn save(
        &self,
        place: &Place,
        sent: &Sent,
        keep: Keep,
        headers: &HeaderMap,
        body: &[Bytes],
        awaited: bool,
    ) -> Result<PutOutcome, NotStored> {
        let representation = Representation::new(headers, body).ok_or(NotStored::TooLarge)?;
        let key = representation_key(&representation.digest);
        let entry = Entry::builder(representation.value, sent.version, self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .build()
            .map_err(|_| NotStored::TooLarge)?;
        if !self.put_representation(key, entry, awaited).await {
            return Err(NotStored::Refused);
        }
        let grant = Grant {
            representation: representation.digest,
            freshness: keep.freshness,
            headers: granted_headers(headers),
            without: keep.without,
        };
        let outcome = self.put_grant(place, sent, &grant).await?;
        self.stats.stored.add(1);
        Ok(outcome)
    }

    /// Whether it is stored here.
    async fn put_representation(&self, key: Key, entry: Entry, awaited: bool) -> bool {
        if !awaited {
            return self.cache.put_entry(&key, entry).await.is_stored();
        }
        let cache = self.cache.clone();
        // In a task of its own, so that it goes on when a shared tier takes longer than the client is to wait.
        let put =
            tokio::spawn(async move { cache.put_entry_with(&key, entry, WritePolicy::Quorum(1)).await });
        match timeout(ACKNOWLEDGED_WITHIN, put).await {
            Ok(Ok(outcome)) => outcome.is_stored(),
            Ok(Err(_)) => false,
            // The local tiers come first, and what they did not take is found out by who reads it.
            Err(_) => true,
        }
    }

    async fn put_grant(&self, place: &Place, sent: &Sent, grant: &Grant) -> Result<PutOutcome, NotStored> {
        let bytes = grant.encode().ok_or(NotStored::TooLarge)?;
        let entry = Entry::builder(bytes, sent.version, self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .build()
            .map_err(|_| NotStored::TooLarge)?;
        let outcome = self.cache.put_entry(&place.grant, entry).await;
        if outcome.is_stored() { Ok(outcome) } else { Err(NotStored::Refused) }
    }

    /// Extends a grant by a 304, and gives what is now to be served. The second part says whether it
    /// was stored.
    pub(crate) async fn extend(
        &self,
        place: &Place,
        sent: &Sent,
        found: &Found,
        not_modified: &HeaderMap,
        request: &HeaderMap,
    ) -> (Found, Result<PutOutcome, NotStored>) {
        let old = &found.held.grant;
        let mut headers = merge_304(&old.headers, not_modified);
        // The age of what was stored is past; only the one that comes with the 304 counts.
        let mut judged = headers.clone();
        if let Some(age) = not_modified.get(http::header::AGE) {
            judged.insert(http::header::AGE, age.clone());
        }
        if let Some(date) = found.headers().get(LAST_MODIFIED) {
            judged.insert(LAST_MODIFIED, date.clone());
        }
        let keep = judge(http::StatusCode::OK, &judged, request, sent.at);
        headers.remove(http::header::AGE);
        let (freshness, without) = match &keep {
            Ok(keep) => (keep.freshness, keep.without.clone()),
            Err(_) => (Freshness { validated: sent.at, ..old.freshness }, old.without.clone()),
        };
        let grant = Grant { representation: old.representation, freshness, headers, without };
        let stored = match keep {
            Ok(_) => self.put_grant(place, sent, &grant).await,
            Err(reason) => Err(reason),
        };
        if stored.is_ok() {
            self.stats.extended.add(1);
        }
        let mut served = grant.headers.clone();
        for name in &crate::representation::CONTENT_HEADERS {
            for value in found.headers().get_all(name) {
                served.append(name, value.clone());
            }
        }
        served.insert(CONTENT_LENGTH, HeaderValue::from(found.body.len()));
        let held = Held {
            version: sent.version,
            no_cache: CacheControl::of_response(&served).no_cache,
            headers: served,
            grant,
            representation: found.held.representation.clone(),
            body_at: found.held.body_at,
        };
        let extended = Found {
            held: Arc::new(held),
            body: found.body.clone(),
            believed: true,
            tier: found.tier.clone(),
        };
        (extended, stored)
    }

    /// Forgets a grant as of the moment that the request which took it away was sent.
    pub(crate) async fn revoke(&self, place: &Place, sent: &Sent) {
        let _outcome =
            self.cache.put_entry(&place.grant, Entry::tombstone(sent.version, self.cache.now())).await;
    }
}

/// Makes a grant ready to be served with its representation.
fn hold(grant: Grant, version: Version, representation: Key, value: &Bytes) -> Option<Held> {
    let (content, body_at) = Representation::parse(value)?;
    let mut headers = grant.headers.clone();
    for (name, value) in &content {
        headers.append(name, value.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(value.len() - body_at));
    let no_cache = headers.contains_key(CACHE_CONTROL) && CacheControl::of_response(&headers).no_cache;
    Some(Held { version, grant, headers, no_cache, representation, body_at })
}
