//! Looking at what is stored for a request without changing anything: nothing is decoded for later,
//! promoted or renewed.

use http::HeaderMap;
use peercache::backend::Version;
use peercache::chain::Outcome;
use peercache::{Cache, Key};

use crate::candidates::{self, Candidate};
use crate::grant::Grant;
use crate::key::representation_key;
use crate::public::Proof;
use crate::representation::Representation;
use crate::store::{Place, Store};
use crate::write_marks::decode_version;

/// A grant as it is stored.
#[derive(Debug)]
pub(crate) struct StoredGrant {
    pub(crate) grant: Grant,
    pub(crate) version: Version,
    /// The tier that has it.
    pub(crate) tier: Option<String>,
    /// The status of its representation; `None` where its bytes are gone or damaged.
    pub(crate) status: Option<u16>,
}

/// What is stored for a request.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) grant: Option<StoredGrant>,
    /// Nothing at or below these versions is believed; nothing at all without one.
    pub(crate) scope_floor: Option<Version>,
    pub(crate) token_floor: Option<Version>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) proof: Option<Proof>,
}

impl Stored {
    /// Looks at everything that is stored for `place`.
    pub(crate) async fn at(store: &Store, place: &Place, request: &HeaderMap) -> Self {
        let cache = store.cache();
        let fits = |without: &[http::HeaderName]| !without.iter().any(|name| request.contains_key(name));
        let (scope_mark, token_mark) = place.marks();
        let mut candidates = match cache.peek_entry(&place.candidates).await.hit() {
            Some(entry) => candidates::decode(entry.value()).unwrap_or_default(),
            None => Vec::new(),
        };
        candidates.retain(|one| fits(&one.without));
        let grant = grant(cache, &place.grant).await.filter(|stored| fits(&stored.grant.without));
        let proof = match place.scope.is_repository() {
            true => cache.peek_entry(&place.public_key()).await.hit(),
            false => None,
        };
        Self {
            grant,
            scope_floor: floor(cache, scope_mark).await.filter(|_| place.is_settled()),
            token_floor: floor(cache, token_mark).await,
            candidates,
            proof: proof.and_then(|entry| store.public.read(&entry)),
        }
    }

    /// Whether something of this version is believed.
    pub(crate) fn believes(&self, version: Version) -> bool {
        self.scope_floor.zip(self.token_floor).is_some_and(|(scope, token)| version > scope.max(token))
    }
}

async fn grant(cache: &Cache, key: &Key) -> Option<StoredGrant> {
    let lookup = cache.peek_entry(key).await;
    let tier = lookup.tier.as_deref().map(str::to_owned);
    let entry = lookup.hit()?;
    let grant = Grant::decode(entry.value())?;
    let body = cache.peek_entry(&representation_key(&grant.representation)).await.hit();
    let status = body
        .filter(|body| Representation::verify(&grant.representation, body.value()))
        .and_then(|body| Representation::parse(body.value()).map(|(status, ..)| status.as_u16()));
    Some(StoredGrant { grant, version: entry.version(), tier, status })
}

/// As a read takes a mark: one that has to be looked for again counts if every tier was asked and
/// none has a write above it.
async fn floor(cache: &Cache, key: &Key) -> Option<Version> {
    let lookup = cache.peek_entry(key).await;
    let is_certain = match lookup.outcome {
        Outcome::Hit => true,
        Outcome::Miss => false,
        Outcome::Stale => {
            let is_newest = lookup.entry.as_ref().is_some_and(|mark| lookup.newest <= Some(mark.version()));
            lookup.unknown().next().is_none() && is_newest
        }
    };
    lookup.entry.filter(|_| is_certain).and_then(|mark| decode_version(mark.value()))
}
