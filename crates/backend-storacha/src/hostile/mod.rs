//! Services and storage nodes that lie: whatever they answer is refused and counted, and a reader
//! gets a miss or the true value, never another one. Over the real upload service, behind a server
//! that changes what it answers.

mod forge;
mod front;
mod reads;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_chain::{Chain, Skip, TierOptions};
use peercache_testkit::servers::StorachaService;

use self::forge::Signed;
use self::front::{Asked, Front, Lie, Told};
use crate::ucan::did::Did;
use crate::ucan::sample::printed;
use crate::{Storacha, StorachaBuilder, StorachaCounts, Token};

/// What never happens on a machine however busy, so that a test that waits in vain ends.
const FOR_EVER: Duration = Duration::from_secs(120);
/// The path below which a lie has bytes of its own, as a storage node has them.
const NODE: &str = "/node/";

/// The service, with a space of its own and one entry in it.
struct World {
    service: StorachaService,
    credentials: (String, String),
    key: Key,
    entry: Entry,
    versions: VersionClock,
}

impl World {
    /// `None` where the service is missing, which was said.
    async fn start() -> Option<Self> {
        let service = StorachaService::start().await.unwrap()?;
        let credentials = printed(&["space/blob/*", "upload/*"], None);
        let versions = VersionClock::new(NodeId::from_u64(1));
        let now = SystemClock::new().now();
        let entry = Entry::builder("the true value", versions.next(now), now);
        let entry = entry.fresh_for(Duration::from_secs(3600)).build().unwrap();
        let world = Self { service, credentials, key: Key::new("k").unwrap(), entry, versions };
        let token = world.token(world.service.url(), world.service.did().to_owned());
        world.service.provision(&token.grant().space).await.unwrap();
        let tier = open(Storacha::builder(token));
        tier.put(&world.key, world.entry.clone()).await.unwrap();
        Some(world)
    }

    fn token(&self, url: String, did: String) -> Token {
        Token::new(&self.credentials.0, &self.credentials.1, Some(url), Some(did)).unwrap()
    }

    /// A server before the service.
    async fn front(&self) -> Front {
        Front::start(self.service.address()).await
    }

    /// A tier that asks through this server and knows the key of the true service.
    fn tier(&self, front: &Front) -> Storacha {
        open(Storacha::builder(self.token(front.url(), self.service.did().to_owned())))
    }

    /// A tier for which the holder of [`liar`] is the service.
    fn trusting_tier(&self, front: &Front) -> StorachaBuilder {
        let key = Did::of(&liar().verifying_key());
        Storacha::builder(self.token(front.url(), format!("{}={key}", self.service.did())))
    }

    /// Signed by the service that a trusting tier asks.
    fn by_liar(&self) -> Signed {
        Signed::By(Box::new(liar()), self.service.did().to_owned())
    }

    fn newer(&self, value: &str) -> Entry {
        let now = SystemClock::new().now();
        let entry = Entry::builder(value.to_owned(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(3600)).build().unwrap()
    }
}

fn open(builder: StorachaBuilder) -> Storacha {
    builder.allow_private(true).request_timeout(FOR_EVER).open().unwrap()
}

/// The key of a service that lies in its own name.
fn liar() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A key that nobody trusts.
fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[66; 32])
}

/// Changes the answers to POSTs.
fn messages(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Lie {
    Arc::new(move |asked: &Asked, truth: Told| match asked.method.as_str() {
        "POST" => truth.map(|body| change(&body)),
        _ => truth,
    })
}

/// Changes the answers to GETs of receipts.
fn receipts(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Lie {
    Arc::new(move |asked: &Asked, truth: Told| match asked.path.starts_with("/receipt/") {
        true => truth.map(|body| change(&body)),
        false => truth,
    })
}

/// What a lookup through a chain finds, and the error of the tier where it failed.
async fn looked_up(tier: Arc<Storacha>, key: &Key) -> (Option<Entry>, Option<peercache_api::Error>) {
    let options = TierOptions { read_deadline: Some(FOR_EVER), ..TierOptions::default() };
    let chain = Chain::builder().tier_with(tier, options).read_budget(FOR_EVER).build();
    let lookup = chain.lookup(key).await;
    let failed = lookup.trace.iter().find_map(|trace| match &trace.skip {
        Skip::Failed(error) => Some(error.clone()),
        _ => None,
    });
    (lookup.hit(), failed)
}

/// Everything that a report counts as refused.
fn refused(counts: &StorachaCounts) -> u64 {
    counts.receipts_refused + counts.locations_refused + counts.corrupt
}
