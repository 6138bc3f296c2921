//! Grants, representations and what belongs to them in a [`Cache`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, LINK};
use http::{HeaderMap as Headers, StatusCode};
use peercache::backend::Class;
use peercache::backend::{MAX_LIFETIME, Timestamp, Version};
use peercache::chain::{Leased, WritePolicy};
use peercache::{Cache, Entry, Key, PutOutcome};
use tokio::time::timeout;

use crate::areas::Areas;
use crate::cache_control::CacheControl;
use crate::candidates::{self, Candidate, Validation, common_headers};
use crate::freshness::Freshness;
use crate::grant::{Grant, granted_headers, merge_304};
use crate::key::{
    NormalUrl, Variant, alias_key, candidates_key, grant_key, public_key, representation_key, revoked_key,
    scope_mark_key, token_mark_key, token_outside_mark_key,
};
use crate::pages::is_full_last_page;
use crate::policy::{Keep, judge};
use crate::public::{Proof, PublicProofs, RepositoryFacts, is_shareable, proves_public, repository_facts};
use crate::representation::{CONTENT_HEADERS, Representation};
use crate::route_table::{Rule, Share};
use crate::scope::{Scope, is_repository_root, linked_repository};
use crate::stats::{NotStored, Stats};
use crate::token::{TokenId, TokenKind};
pub(crate) use crate::write_marks::Sent;
use crate::write_marks::WriteMarks;

/// Bytes of decoded grants and representations that are kept beside the store; the least used go
/// first.
const DECODED_BYTES: u64 = 64 * 1024 * 1024;
/// What a decoded grant or representation costs besides its body, about.
const DECODED_OVERHEAD: u64 = 4 * 1024;
/// How many ids of repositories are remembered with their names.
const MAX_ALIASES: usize = 10_000;
/// How many tokens that lost a right are remembered beside the store.
const MAX_REVOKED: usize = 10_000;
/// How many representations are remembered as stored publicly; one that is forgotten is stored once
/// more.
const MAX_PUBLISHED: usize = 10_000;
/// The longest that the end of a body waits until other machines can find it.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(250);

/// Where one token's answer to one request is stored, and what makes it doubtful.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) token: TokenId,
    pub(crate) kind: TokenKind,
    pub(crate) grant: Key,
    pub(crate) candidates: Key,
    pub(crate) scope: Scope,
    /// The API's host and port.
    authority: Arc<str>,
    path: String,
    query: String,
    scope_mark: Key,
    token_mark: Key,
    /// Whether `scope` is the one that writes mark. A repository's id says nothing while its name
    /// is not known.
    settled: bool,
}

impl Place {
    /// Where the proof is stored that its repository is public.
    pub(crate) fn public_key(&self) -> Key {
        public_key(&self.authority, &self.scope)
    }

    /// The API's host and port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The marks of writes about its repository or part of the API, and about its token.
    pub(crate) const fn marks(&self) -> (&Key, &Key) {
        (&self.scope_mark, &self.token_mark)
    }

    /// Whether it is known which writes are about it.
    pub(crate) const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether it is about a repository itself, not about something in it.
    pub(crate) fn is_repository_root(&self) -> bool {
        is_repository_root(&self.path)
    }
}

/// A representation, decoded and verified.
#[derive(Debug)]
pub(crate) struct Loaded {
    status: StatusCode,
    content: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer that arrived whole and is to be stored.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) status: StatusCode,
    pub(crate) keep: Keep,
    pub(crate) headers: &'a Headers,
    pub(crate) body: &'a [Bytes],
    /// Whether it is the same for everybody, by its route.
    pub(crate) everybodys: bool,
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
    loaded: Arc<Loaded>,
}

/// What the store has for a request.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    held: Arc<Held>,
    /// Whether no write is known that happened after it was validated.
    believed: bool,
    tier: Option<Cow<'static, str>>,
}

impl Found {
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.held.headers
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.held.loaded.status
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.held.loaded.body
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.held.grant.freshness
    }

    pub(crate) fn representation(&self) -> &[u8; 32] {
        &self.held.grant.representation
    }

    /// Whether it may be served for these directives without asking.
    pub(crate) fn satisfies(&self, directives: &CacheControl, now: Timestamp) -> bool {
        self.believed && self.freshness().satisfies(directives, now)
    }

    /// Whether it is fresh apart from what the client asks for.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.satisfies(&CacheControl::default(), now)
    }

    /// Whether a request that waited while it was fetched may have it. What has to be revalidated
    /// by our own rules alone was validated while it waited.
    pub(crate) fn satisfies_follower(&self, directives: &CacheControl, now: Timestamp) -> bool {
        let Held { grant, no_cache, .. } = &*self.held;
        let response = CacheControl::of_response(&grant.headers);
        let said = Freshness::of(&grant.headers, &response, grant.freshness.validated);
        let freshness =
            Freshness { lifetime: said.lifetime.max(grant.freshness.lifetime), ..grant.freshness };
        !no_cache && self.believed && freshness.satisfies(directives, now)
    }

    /// Whether it may be served while GitHub cannot be asked.
    pub(crate) fn may_be_stale(&self, most: Duration, now: Timestamp) -> bool {
        self.status() == StatusCode::OK && self.freshness().age(now) <= most
    }

    /// Whether it can be confirmed by a condition: there is a representation, and a 304 would say
    /// all.
    pub(crate) fn is_confirmable(&self) -> bool {
        self.status() == StatusCode::OK && !self.held.grant.full_page
    }

    /// The tier it came from.
    pub(crate) fn tier(&self) -> Option<Cow<'static, str>> {
        self.tier.clone()
    }

    /// The modification date, where there is no entity tag.
    pub(crate) fn date_validator(&self) -> Option<&HeaderValue> {
        self.headers().get(LAST_MODIFIED).filter(|_| self.etag().is_none())
    }

    /// The entity tag.
    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers().get(ETAG)
    }

    /// What a 304 for it confirms.
    pub(crate) fn base(&self) -> Base {
        Base {
            representation: self.held.grant.representation,
            headers: self.held.grant.headers.clone(),
            loaded: Arc::clone(&self.held.loaded),
            full_page: self.held.grant.full_page,
            cross_token: false,
        }
    }
}

/// What a 304 confirms: a representation, and the headers that the 304 updates.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    representation: [u8; 32],
    headers: HeaderMap,
    loaded: Arc<Loaded>,
    full_page: bool,
    /// Whether another token fetched it.
    pub(crate) cross_token: bool,
}

impl Base {
    /// Whether both stand for the same bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.representation == other.representation
    }

    /// The body that a 304 stands for.
    pub(crate) fn body(&self) -> &Bytes {
        &self.loaded.body
    }
}

/// The answer to a read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) found: Option<Found>,
    /// Whether every mark is there. Without them nothing is believed.
    pub(crate) marked: bool,
    /// At or below this version nothing is believed.
    floor: Option<Version>,
    /// Only a grant above this is of use.
    newest: Option<Version>,
    /// Whether other machines are worth asking.
    fleet: bool,
}

impl Read {
    /// Whether something of this version may be believed.
    pub(crate) fn believes(&self, version: Version) -> bool {
        self.floor.is_some_and(|floor| version > floor)
    }
}

/// Grants, representations, candidates and marks over one cache.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    grants: quick_cache::sync::Cache<[u8; 32], Arc<Held>, ByBytes>,
    representations: quick_cache::sync::Cache<[u8; 32], Arc<Loaded>, ByBytes>,
    aliases: quick_cache::sync::Cache<[u8; 32], Arc<str>>,
    /// Which tokens lost a right, and when, by key.
    revoked: quick_cache::sync::Cache<[u8; 32], Version>,
    /// Representations that were stored as public.
    published: quick_cache::sync::Cache<[u8; 32], ()>,
    marks: WriteMarks,
    areas: Arc<Areas>,
    pub(crate) public: PublicProofs,
    stats: Arc<Stats>,
}

/// Weighs what is decoded by the bytes that it keeps in memory.
#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl quick_cache::Weighter<[u8; 32], Arc<Held>> for ByBytes {
    fn weight(&self, _: &[u8; 32], held: &Arc<Held>) -> u64 {
        held.loaded.body.len() as u64 + DECODED_OVERHEAD
    }
}

impl quick_cache::Weighter<[u8; 32], Arc<Loaded>> for ByBytes {
    fn weight(&self, _: &[u8; 32], loaded: &Arc<Loaded>) -> u64 {
        loaded.body.len() as u64 + DECODED_OVERHEAD
    }
}

impl Store {
    pub(crate) fn new(cache: Cache, areas: Arc<Areas>, public_for: Duration, stats: Arc<Stats>) -> Self {
        let items = usize::try_from(DECODED_BYTES / (2 * DECODED_OVERHEAD)).unwrap_or(usize::MAX);
        Self {
            grants: quick_cache::sync::Cache::with_weighter(items, DECODED_BYTES, ByBytes),
            representations: quick_cache::sync::Cache::with_weighter(items, DECODED_BYTES, ByBytes),
            aliases: quick_cache::sync::Cache::new(MAX_ALIASES),
            revoked: quick_cache::sync::Cache::new(MAX_REVOKED),
            published: quick_cache::sync::Cache::new(MAX_PUBLISHED),
            marks: WriteMarks::new(cache.clone()),
            areas,
            public: PublicProofs::new(cache.clone(), public_for),
            cache,
            stats,
        }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.cache.now()
    }

    /// To be called just before a request is sent.
    pub(crate) fn sending(&self) -> Sent {
        self.marks.sending()
    }

    /// Where the answer to a request is stored. `headers` are those of
    /// `request_headers::of_client`.
    pub(crate) async fn place(
        &self,
        token: TokenId,
        kind: TokenKind,
        authority: &str,
        url: &NormalUrl,
        headers: &Headers,
    ) -> Place {
        let variant = Variant::new(authority, url, headers);
        let (scope, settled) = match Scope::of(&url.path) {
            Scope::RepositoryId(id) => match self.name_of(authority, id).await {
                Some(name) => (Scope::Repository(name.to_string()), true),
                None => (Scope::RepositoryId(id), false),
            },
            scope => (scope, true),
        };
        let token_mark =
            if scope.is_repository() { token_mark_key(&token) } else { token_outside_mark_key(&token) };
        Place {
            grant: grant_key(&token, &variant),
            candidates: candidates_key(&variant),
            scope_mark: scope_mark_key(authority, &scope, self.area(&scope, &url.path)),
            authority: authority.into(),
            token_mark,
            path: url.path.clone(),
            query: url.query.clone(),
            token,
            kind,
            scope,
            settled,
        }
    }

    /// The area of a repository that a path belongs to.
    fn area(&self, scope: &Scope, path: &str) -> &str {
        if scope.is_repository() { self.areas.of_read(path) } else { "" }
    }

    async fn name_of(&self, authority: &str, id: u64) -> Option<Arc<str>> {
        let key = alias_key(authority, id);
        if let Some(name) = self.aliases.get(key.digest()) {
            return Some(name);
        }
        let entry = self.cache.lookup(&key).await.hit()?;
        let name: Arc<str> = std::str::from_utf8(entry.value()).ok()?.into();
        self.aliases.insert(*key.digest(), Arc::clone(&name));
        Some(name)
    }

    /// Notes which repository an id is, on every machine.
    async fn note_alias(&self, authority: &str, id: u64, name: &str) {
        let key = alias_key(authority, id);
        if self.aliases.get(key.digest()).as_deref() == Some(name) {
            return;
        }
        let version = self.cache.next_version();
        let entry = Entry::builder(Bytes::copy_from_slice(name.as_bytes()), version, self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .build();
        if let Ok(entry) = entry {
            self.aliases.insert(*key.digest(), name.into());
            let _outcome = self.cache.put_entry(&key, entry).await;
        }
    }

    /// The floor of a place: nothing at or below it is believed; nothing at all without one.
    async fn floor(&self, place: &Place) -> Option<Version> {
        let token = self.marks.recent_floor(&place.token_mark).await;
        let scope = self.marks.floor(&place.scope_mark).await;
        Some(scope?.max(token?)).filter(|_| place.settled)
    }

    /// What is decoded in this process for a request, with one look into the store for each mark.
    pub(crate) async fn read_decoded(&self, place: &Place, request: &Headers) -> Option<Found> {
        let held = self.grants.get(place.grant.digest())?;
        if held.grant.without.iter().any(|name| request.contains_key(name)) {
            return None;
        }
        let floor = self.floor(place).await;
        let believed = floor.is_some_and(|floor| held.version > floor);
        Some(Found { held, believed, tier: Some(Cow::Borrowed("memory")) })
    }

    /// What is stored for a request.
    pub(crate) async fn read(&self, place: &Place, request: &Headers) -> Read {
        let grant = self.cache.lookup(&place.grant).await;
        let (newest, fleet) = (grant.newest, self.cache.coordinates_after(&grant));
        let floor = self.floor(place).await;
        let found = match grant.hit() {
            Some(entry) => self.find(place, &entry, floor, request).await,
            None => None,
        };
        Read { found, marked: floor.is_some(), floor, newest: newest.max(floor), fleet }
    }

    /// Asks the other machines, after `read`, which of them asks GitHub with this token: only a
    /// grant for it is of use, so nobody waits for what another token may see.
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
        floor: Option<Version>,
        request: &Headers,
    ) -> Option<Found> {
        let version = entry.version();
        let known = self.grants.get(place.grant.digest()).filter(|held| held.version == version);
        let (held, tier) = match known {
            Some(held) => (held, Some(Cow::Borrowed("memory"))),
            None => {
                let grant = self.checked(Grant::decode(entry.value()))?;
                let (loaded, tier) = self.load(&grant.representation).await?;
                let held = Arc::new(hold(grant, version, loaded));
                self.grants.insert(*place.grant.digest(), Arc::clone(&held));
                (held, tier)
            }
        };
        if held.grant.without.iter().any(|name| request.contains_key(name)) {
            return None;
        }
        let believed = floor.is_some_and(|floor| held.version > floor);
        Some(Found { held, believed, tier })
    }

    /// A representation by its digest, verified, and the tier that it came from.
    async fn load(&self, digest: &[u8; 32]) -> Option<(Arc<Loaded>, Option<Cow<'static, str>>)> {
        if let Some(loaded) = self.representations.get(digest) {
            return Some((loaded, Some(Cow::Borrowed("memory"))));
        }
        let key = representation_key(digest);
        let lookup = self.cache.lookup(&key).await;
        let tier = lookup.tier.clone();
        let value = lookup.hit()?.into_value();
        if !Representation::verify(digest, &value) {
            self.stats.corrupt.add(1);
            let _outcome = self.cache.remove(&key).await;
            return None;
        }
        let loaded = Arc::new(self.checked(parse(&value))?);
        self.representations.insert(*digest, Arc::clone(&loaded));
        Some((loaded, tier))
    }

    fn checked<T>(&self, decoded: Option<T>) -> Option<T> {
        if decoded.is_none() {
            self.stats.corrupt.add(1);
        }
        decoded
    }

    /// The latest representations of a request, whoever fetched them; those that fit its headers.
    pub(crate) async fn candidates(&self, place: &Place, request: &Headers) -> Vec<Candidate> {
        let mut list = self.all_candidates(place).await;
        list.retain(|one| !one.without.iter().any(|name| request.contains_key(name)));
        list
    }

    async fn all_candidates(&self, place: &Place) -> Vec<Candidate> {
        let Some(entry) = self.cache.lookup(&place.candidates).await.hit() else { return Vec::new() };
        self.checked(candidates::decode(entry.value())).unwrap_or_default()
    }

    /// What a 304 for a candidate confirms. `None` when its bytes are gone.
    pub(crate) async fn candidate_base(&self, candidate: &Candidate) -> Option<Base> {
        let (loaded, _) = self.load(&candidate.representation).await?;
        Some(Base {
            representation: candidate.representation,
            headers: candidate.headers.clone(),
            loaded,
            full_page: candidate.full_page,
            cross_token: true,
        })
    }

    /// What a 304 for the empty list confirms. Nothing was ever received of it but its tag.
    pub(crate) fn empty_list_base() -> Option<Base> {
        let mut content = HeaderMap::new();
        content
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        content.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
        let representation = Representation::new(StatusCode::OK, &content, &[Bytes::from_static(b"[]")])?;
        Some(Base {
            representation: representation.digest,
            headers: HeaderMap::new(),
            loaded: Arc::new(parse(&representation.value)?),
            full_page: false,
            cross_token: false,
        })
    }

    /// An answer for a token that has no grant, by a candidate that everybody may have. Its
    /// validator is the one that GitHub would give this token, if that is known.
    pub(crate) async fn share(
        &self,
        candidate: &Candidate,
        validation: &Validation,
        etag: impl FnOnce(&[u8]) -> Option<HeaderValue>,
    ) -> Option<Found> {
        let (loaded, tier) = self.load(&candidate.representation).await?;
        let mut headers = candidate.headers.clone();
        if let Some(etag) = etag(&loaded.body) {
            headers.insert(ETAG, etag);
        }
        let grant = Grant {
            representation: candidate.representation,
            freshness: validation.freshness,
            headers,
            without: candidate.without.clone(),
            full_page: candidate.full_page,
        };
        let held = Arc::new(hold(grant, validation.version, loaded));
        Some(Found { held, believed: true, tier })
    }

    /// The proof that a place's repository is public.
    pub(crate) async fn public_proof(&self, place: &Place) -> Option<Proof> {
        if !place.scope.is_repository() {
            return None;
        }
        self.public.proof(&place.public_key()).await
    }

    /// Puts marks where there are none; see [`WriteMarks::begin`].
    pub(crate) async fn begin(&self, place: &Place) {
        self.marks.begin(&place.scope_mark).await;
        self.marks.begin(&place.token_mark).await;
    }

    /// Notes a successful write by `token` to the path `written`, for every token of the fleet:
    /// what is stored of the areas of its repository that it changes, or below the first two
    /// segments of a path outside of repositories, has to be revalidated. So has what it `mentions`
    /// as made by it. For the token that wrote, so has everything outside of repositories: it lists
    /// what was written under names that only GitHub knows.
    pub(crate) async fn invalidate<'a>(
        &self,
        token: &TokenId,
        authority: &str,
        written: &str,
        mentioned: impl Iterator<Item = &'a str>,
    ) {
        let mut keys = vec![token_outside_mark_key(token)];
        let scope = Scope::of(written);
        self.add_marks_of(authority, written, &self.areas.of_write(written), &mut keys).await;
        // At most two of them, each with a bounded number of scopes.
        for path in mentioned {
            let all: Vec<&str> = match Scope::of(path) == scope {
                true => vec![self.area(&scope, path)],
                false => self.areas.all().collect(),
            };
            self.add_marks_of(authority, path, &all, &mut keys).await;
        }
        self.marks.write(&keys).await;
        self.stats.invalidations.add(1);
    }

    /// Notes that something happened to a repository: what is stored of it has to be revalidated,
    /// for every token of the fleet. Where it may be seen by others now (`about_rights`), it has to
    /// be proven public again, too.
    pub(crate) async fn invalidate_repository(
        &self,
        authority: &str,
        name: &str,
        id: Option<u64>,
        about_rights: bool,
    ) {
        let all: Vec<&str> = self.areas.all().collect();
        let mut keys = Vec::new();
        if let Some(id) = id {
            add_marks(authority, &Scope::RepositoryId(id), &all, &mut keys);
        }
        if about_rights {
            self.add_marks_of(authority, &format!("/repos/{name}"), &all, &mut keys).await;
        } else {
            add_marks(authority, &Scope::Repository(name.to_owned()), &all, &mut keys);
        }
        self.marks.write(&keys).await;
        self.stats.invalidations.add(1);
    }

    /// Notes, on every machine, that this token lost a right when this was sent. What it lost may
    /// be more than what was refused, so everything that it holds has to be revalidated, and
    /// nothing from before is served while GitHub cannot be asked.
    pub(crate) async fn revoke(&self, token: &TokenId, sent: &Sent) {
        self.note_revoked(revoked_key(token, None), sent).await;
        self.marks.write(&[token_mark_key(token), token_outside_mark_key(token)]).await;
    }

    /// Notes, on every machine, that a token was refused a whole repository: nothing of it that the
    /// token got before is served while GitHub cannot be asked.
    pub(crate) async fn note_refused(&self, place: &Place, sent: &Sent) {
        self.note_revoked(revoked_key(&place.token, Some((&place.authority, &place.scope))), sent).await;
    }

    async fn note_revoked(&self, key: Key, sent: &Sent) {
        self.revoked.insert(*key.digest(), sent.version);
        let entry = Entry::builder(Bytes::new(), sent.version, self.cache.now()).fresh_for(MAX_LIFETIME);
        if let Ok(entry) = entry.build() {
            let _outcome = self.cache.put_entry(&key, entry).await;
        }
    }

    /// Whether what is known may be served while GitHub cannot be asked: it is at most `most` old,
    /// and no right that the token lost since is known, here or on another machine.
    pub(crate) async fn may_be_stale(&self, place: &Place, found: &Found, most: Duration) -> bool {
        if !found.may_be_stale(most, self.now()) {
            return false;
        }
        for scope in [None, Some((&*place.authority, &place.scope))] {
            let key = revoked_key(&place.token, scope);
            let noted = self.cache.lookup(&key).await.hit().map(|entry| entry.version());
            let revoked = noted.max(self.revoked.get(key.digest()));
            if revoked.is_some_and(|revoked| revoked >= found.held.version) {
                return false;
            }
        }
        true
    }

    async fn add_marks_of(&self, authority: &str, path: &str, areas: &[&str], keys: &mut Vec<Key>) {
        let scope = Scope::of(path);
        add_marks(authority, &scope, areas, keys);
        if let Scope::RepositoryId(id) = &scope
            && let Some(name) = self.name_of(authority, *id).await
        {
            add_marks(authority, &Scope::Repository(name.to_string()), areas, keys);
        }
        let root = is_repository_root(path) || path.ends_with("/transfer");
        if let (Scope::Repository(name), true) = (&scope, root) {
            self.public.disprove(&public_key(authority, &scope), self.cache.next_version()).await;
            let owner = name.split('/').next().unwrap_or_default();
            for part in ["orgs", "users"] {
                add_marks(authority, &Scope::Other(format!("{part}/{owner}")), areas, keys);
            }
        }
    }

    /// Stores a response: first the representation, whose digest is given back, then the grant that
    /// names it. Where other machines wait for the grant (`awaited`), they must find the
    /// representation when they have it.
    pub(crate) async fn save(
        &self,
        place: &Place,
        sent: &Sent,
        received: Received<'_>,
        awaited: bool,
    ) -> Result<(PutOutcome, [u8; 32]), NotStored> {
        let Received { status, keep, headers, body, everybodys } = received;
        let representation = Representation::new(status, headers, body).ok_or(NotStored::TooLarge)?;
        let loaded = Arc::new(self.checked(parse(&representation.value)).ok_or(NotStored::TooLarge)?);
        let key = representation_key(&representation.digest);
        let is_public = everybodys || status == StatusCode::OK && proves_public(place.kind, headers);
        let entry = Entry::builder(representation.value, sent.version, self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .class(if is_public { Class::Public } else { Class::Private })
            .build()
            .map_err(|_| NotStored::TooLarge)?;
        if is_public {
            self.published.insert(representation.digest, ());
        }
        if !self.put_representation(key, entry, awaited).await {
            return Err(NotStored::Refused);
        }
        self.representations.insert(representation.digest, Arc::clone(&loaded));
        let grant = Grant {
            representation: representation.digest,
            freshness: keep.freshness,
            headers: granted_headers(headers),
            without: keep.without,
            full_page: is_full_last_page(&place.query, headers, &loaded.body),
        };
        if status == StatusCode::OK {
            self.learn(place, sent, &grant, &loaded).await;
        }
        let outcome = self.put_grant(place, sent, grant, loaded).await?;
        self.stats.stored.add(1);
        Ok((outcome, representation.digest))
    }

    /// Marks a representation as one that everybody may read: what was validated at `version` was
    /// public then, as a proof says. Tiers that take public entries only get it from here on. Once
    /// for each representation.
    pub(crate) async fn publish(&self, place: &Place, digest: &[u8; 32], version: Version) {
        if self.published.get(digest).is_some()
            || !self.public_proof(place).await.is_some_and(|proof| proof.includes(version))
        {
            return;
        }
        let key = representation_key(digest);
        let Some(value) = self.cache.lookup(&key).await.hit().map(Entry::into_value) else { return };
        if !Representation::verify(digest, &value) {
            self.stats.corrupt.add(1);
            return;
        }
        let entry = Entry::builder(value, self.cache.next_version(), self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .class(Class::Public);
        if let Ok(entry) = entry.build() {
            self.published.insert(*digest, ());
            let _outcome = self.cache.put_entry(&key, entry).await;
        }
    }

    /// Whether it is stored here.
    async fn put_representation(&self, key: Key, entry: Entry, awaited: bool) -> bool {
        if !awaited {
            return self.cache.put_entry(&key, entry).await.is_stored();
        }
        let cache = self.cache.clone();
        // In a task of its own, so that it goes on when a shared tier takes longer than the client
        // is to wait.
        let put =
            tokio::spawn(async move { cache.put_entry_with(&key, entry, WritePolicy::Quorum(1)).await });
        match timeout(ACKNOWLEDGED_WITHIN, put).await {
            Ok(Ok(outcome)) => outcome.is_stored(),
            Ok(Err(_)) => false,
            // The local tiers come first, and what they did not take is found out by who reads it.
            Err(_) => true,
        }
    }

    async fn put_grant(
        &self,
        place: &Place,
        sent: &Sent,
        grant: Grant,
        loaded: Arc<Loaded>,
    ) -> Result<PutOutcome, NotStored> {
        let bytes = grant.encode().ok_or(NotStored::TooLarge)?;
        let entry = Entry::builder(bytes, sent.version, self.cache.now())
            .fresh_for(MAX_LIFETIME)
            .build()
            .map_err(|_| NotStored::TooLarge)?;
        let outcome = self.cache.put_entry(&place.grant, entry).await;
        if !outcome.is_stored() {
            return Err(NotStored::Refused);
        }
        let digest = place.grant.digest();
        // A slower answer that was sent earlier must not replace a newer one.
        if self.grants.peek(digest).is_none_or(|held| held.version < sent.version) {
            self.grants.insert(*digest, Arc::new(hold(grant, sent.version, loaded)));
        }
        Ok(outcome)
    }

    /// Takes from a validated answer what helps other requests: the list of representations, the id
    /// of the repository, whether it is public.
    async fn learn(&self, place: &Place, sent: &Sent, grant: &Grant, loaded: &Loaded) {
        let mut list = self.all_candidates(place).await;
        let one = Candidate {
            representation: grant.representation,
            validations: vec![Validation {
                freshness: grant.freshness,
                version: sent.version,
                kind: place.kind,
            }],
            headers: common_headers(&grant.headers),
            weak: grant.headers.get(ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/")),
            full_page: grant.full_page,
            shareable: is_shareable(&loaded.body),
            without: grant.without.clone(),
        };
        candidates::put_first(&mut list, one, self.now());
        if let Some(bytes) = candidates::encode(&list) {
            let entry = Entry::builder(bytes, sent.version, self.cache.now()).fresh_for(MAX_LIFETIME).build();
            if let Ok(entry) = entry {
                let _outcome = self.cache.put_entry(&place.candidates, entry).await;
            }
        }
        if !place.scope.is_repository() {
            return;
        }
        if is_repository_root(&place.path)
            && let Some(facts) = repository_facts(&loaded.body)
        {
            self.learn_repository(place, sent, &facts).await;
        } else if let (Scope::Repository(name), Some(link)) = (&place.scope, grant.headers.get(LINK))
            && let Some(id) = link.to_str().ok().and_then(linked_repository)
        {
            self.note_alias(&place.authority, id, name).await;
        }
        // It says nothing about any time before it, but that it is worth to ask the repository
        // itself.
        if proves_public(place.kind, &grant.headers) && self.public_proof(place).await.is_none() {
            self.public.prove(&place.public_key(), None, sent).await;
        }
    }

    async fn learn_repository(&self, place: &Place, sent: &Sent, facts: &RepositoryFacts) {
        self.note_alias(&place.authority, facts.id, &facts.full_name).await;
        let scope = Scope::Repository(facts.full_name.clone());
        // A body that names another repository than the one asked for proves nothing about that.
        if place.settled && scope != place.scope {
            return;
        }
        let key = public_key(&place.authority, &scope);
        if facts.private {
            self.public.note_private(&scope, sent.at);
            self.public.disprove(&key, sent.version).await;
        } else {
            self.public.note_shown(&scope);
            self.public.prove(&key, facts.updated, sent).await;
        }
    }

    /// Extends or makes a grant by a 304, and gives what is now to be served. The second part says
    /// whether it was stored.
    pub(crate) async fn confirm(
        &self,
        place: &Place,
        sent: &Sent,
        base: Base,
        not_modified: &Headers,
        request: &Headers,
        rule: &Rule,
    ) -> (Found, Result<PutOutcome, NotStored>) {
        let mut headers = merge_304(&base.headers, not_modified);
        let keep = judge(StatusCode::OK, &headers, request, sent.at, rule);
        headers.remove(http::header::AGE);
        let (freshness, without) = match &keep {
            Ok(keep) => (keep.freshness, keep.without.clone()),
            Err(_) => {
                let none =
                    Freshness { validated: sent.at, initial_age: Duration::ZERO, lifetime: Duration::ZERO };
                (none, Vec::new())
            }
        };
        let representation = base.representation;
        let grant = Grant { representation, freshness, headers, without, full_page: base.full_page };
        let held = Arc::new(hold(grant.clone(), sent.version, Arc::clone(&base.loaded)));
        let found = Found { held, believed: true, tier: None };
        let stored = match keep {
            Ok(_) => {
                if !base.cross_token && base.headers.is_empty() {
                    // The empty list was never stored as a representation.
                    self.put_known(&base, sent).await;
                }
                self.learn(place, sent, &grant, &base.loaded).await;
                self.put_grant(place, sent, grant, base.loaded).await
            }
            Err(reason) => Err(reason),
        };
        if stored.is_ok() {
            self.stats.extended.add(1);
        }
        (found, stored)
    }

    async fn put_known(&self, base: &Base, sent: &Sent) {
        let body = std::slice::from_ref(&base.loaded.body);
        let Some(made) = Representation::new(base.loaded.status, &base.loaded.content, body) else { return };
        let entry =
            Entry::builder(made.value, sent.version, self.cache.now()).fresh_for(MAX_LIFETIME).build();
        if let Ok(entry) = entry {
            let _outcome = self.cache.put_entry(&representation_key(&made.digest), entry).await;
        }
    }

    /// Forgets one grant.
    pub(crate) async fn forget(&self, place: &Place, sent: &Sent) {
        self.grants.remove(place.grant.digest());
        let _outcome =
            self.cache.put_entry(&place.grant, Entry::tombstone(sent.version, self.cache.now())).await;
    }

    /// Notes what a refusal says about a repository: what is refused to somebody is not public.
    pub(crate) async fn note_hidden(&self, place: &Place, sent: &Sent) {
        self.public.note_hidden(&place.scope, sent.at);
        if is_repository_root(&place.path) {
            self.public.disprove(&public_key(&place.authority, &place.scope), sent.version).await;
        }
    }

    /// Whether a rule allows to give a place's answers to tokens that did not fetch them, given a
    /// proof.
    pub(crate) fn is_shared(place: &Place, rule: &Rule) -> bool {
        match rule.share {
            Share::None => false,
            Share::Repository => place.scope.is_repository(),
            Share::Everyone => true,
        }
    }
}

/// Adds the marks of these areas of a scope; outside of repositories there is one.
fn add_marks(authority: &str, scope: &Scope, areas: &[&str], keys: &mut Vec<Key>) {
    match scope.is_repository() {
        true => keys.extend(areas.iter().map(|area| scope_mark_key(authority, scope, area))),
        false => keys.push(scope_mark_key(authority, scope, "")),
    }
}

fn parse(value: &Bytes) -> Option<Loaded> {
    let (status, content, body_at) = Representation::parse(value)?;
    Some(Loaded { status, content, body: value.slice(body_at.min(value.len())..) })
}

/// Makes a grant ready to be served with its representation.
fn hold(grant: Grant, version: Version, loaded: Arc<Loaded>) -> Held {
    let mut headers = grant.headers.clone();
    for name in &CONTENT_HEADERS {
        for value in loaded.content.get_all::<&HeaderName>(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(loaded.body.len()));
    let no_cache = CacheControl::of_response(&headers).no_cache;
    Held { version, grant, headers, no_cache, loaded }
}
