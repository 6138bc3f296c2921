//! What every request shares: the store, the upstream, and what is counted and remembered.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use peercache::Cache;
use tokio_util::task::TaskTracker;

use crate::areas::Areas;
use crate::budget::{Budget, Reservation, SECONDARY_PAUSE, Spender};
use crate::budget_share::BudgetShare;
use crate::build_cache::BuildCache;
use crate::charge::Charge;
use crate::client_label::ClientLabel;
use crate::coalesce::Flights;
use crate::graphql_answers::Answers;
use crate::history::History;
use crate::hosts::Hosts;
use crate::ledger::Ledger;
use crate::limits::RateLimits;
use crate::own::LivePages;
use crate::pace::Pace;
use crate::refusal::{Refusal, pause};
use crate::route_table::RouteTable;
use crate::stats::Stats;
use crate::store::Store;
use crate::token::TokenHasher;
use crate::upstream::{Upstream, UpstreamError};
use crate::validator::SelfCheck;
use crate::webhook::Webhook;

/// The state of a proxy. Requests run in tasks of their own, which hold it.
pub(crate) struct Shared {
    pub(crate) hosts: Hosts,
    pub(crate) hasher: TokenHasher,
    pub(crate) store: Store,
    pub(crate) upstream: Upstream,
    /// Requests under way, by grant: for those with the same token.
    pub(crate) flights: Flights,
    /// Requests under way, by what is asked for: for tokens that may know of it.
    pub(crate) variant_flights: Flights,
    /// Proofs under way that a repository is public.
    pub(crate) proof_flights: Flights,
    pub(crate) routes: RouteTable,
    pub(crate) self_check: SelfCheck,
    /// For how long after its validation an answer may be served when GitHub gives none.
    pub(crate) max_stale: Duration,
    /// Whether answers about public repositories are given to tokens that did not fetch them.
    pub(crate) share_public: bool,
    pub(crate) rate_limits: RateLimits,
    pub(crate) tasks: TaskTracker,
    pub(crate) stats: Arc<Stats>,
    pub(crate) history: History,
    pub(crate) live: LivePages,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) graphql: Answers,
    /// The label of clients that give none.
    pub(crate) default_client: Option<ClientLabel>,
    pub(crate) budget: Arc<Budget>,
    budget_share: Arc<BudgetShare>,
    pace: Pace,
    pub(crate) build_cache: BuildCache,
    pub(crate) webhook: Webhook,
}

/// What a builder decides about the semantics.
pub(crate) struct Semantics {
    pub(crate) routes: RouteTable,
    pub(crate) areas: Arc<Areas>,
    pub(crate) max_stale: Duration,
    pub(crate) share_public: bool,
    /// For how long after a proof what is fetched counts as public.
    pub(crate) public_for: Duration,
    pub(crate) webhook: Webhook,
    pub(crate) default_client: Option<ClientLabel>,
    /// In hundredths of a rate limit.
    pub(crate) reserve: u8,
    pub(crate) pace: Duration,
}

impl Shared {
    pub(crate) fn new(
        cache: Cache,
        hosts: Hosts,
        hasher: TokenHasher,
        upstream: Upstream,
        semantics: Semantics,
        stats: Arc<Stats>,
        build_cache: BuildCache,
    ) -> Self {
        let store = Store::new(cache, semantics.areas, semantics.public_for, Arc::clone(&stats));
        let budget_share = Arc::new(BudgetShare::new(store.cache().clone()));
        let ledger = Arc::new(Ledger::new(store.now(), semantics.routes.classes().to_vec()));
        Self {
            hosts,
            hasher,
            store,
            upstream,
            flights: Flights::default(),
            variant_flights: Flights::default(),
            proof_flights: Flights::default(),
            routes: semantics.routes,
            self_check: SelfCheck::default(),
            max_stale: semantics.max_stale,
            share_public: semantics.share_public,
            rate_limits: RateLimits::new(),
            tasks: TaskTracker::new(),
            stats,
            history: History::default(),
            live: LivePages::default(),
            ledger,
            graphql: Answers::new(),
            budget: Arc::new(Budget::new(semantics.reserve)),
            budget_share,
            pace: Pace::new(semantics.pace),
            default_client: semantics.default_client,
            build_cache,
            webhook: semantics.webhook,
        }
    }

    /// Takes one request of what is left for this spender, when its turn has come. Cancel-safe.
    pub(crate) async fn begin_spending(&self, spender: &Spender) -> Result<Reservation, UpstreamError> {
        let now = self.store.now();
        if let Some(id) = self.budget_share.to_read(&self.budget, spender, now) {
            let (share, budget) = (Arc::clone(&self.budget_share), Arc::clone(&self.budget));
            self.tasks.spawn(async move { share.read(&budget, &id).await });
        }
        let reserve = || self.budget.reserve(spender, self.store.now()).map_err(UpstreamError::Spent);
        let reservation = reserve().inspect_err(|_| self.stats.held_back.add(1))?;
        if !spender.urgent && !self.pace.turn(&spender.token, self.upstream.limits().queue).await {
            return Err(UpstreamError::Busy);
        }
        Ok(reservation)
    }

    /// What `Cache-Status` says where an answer that is known is served instead of a refusal;
    /// `None` where none is. A secondary limit is the client's to wait out, unless it has left the
    /// pace to this proxy.
    pub(crate) fn stale_detail(&self, refusal: Option<Refusal>) -> Option<&'static str> {
        let is_ours = |refusal: &Refusal| *refusal != Refusal::SecondaryLimit || self.pace.is_set();
        refusal.filter(is_ours).and_then(Refusal::stale_detail)
    }

    /// Takes note of what the answer to a request says, and gives back what was reserved for it.
    pub(crate) fn settle_spending(
        &self,
        reservation: Reservation,
        headers: &HeaderMap,
        charge: Charge,
        refusal: Option<Refusal>,
    ) {
        let now = self.store.now();
        if refusal == Some(Refusal::SecondaryLimit) && self.pace.is_set() {
            let wait = pause(headers, now).unwrap_or(SECONDARY_PAUSE);
            self.budget.pause(reservation.token(), wait, now);
        }
        let Some((id, used)) = reservation.answered(headers, charge == Charge::Charged, now) else { return };
        if self.budget_share.is_to_write(&id, used, now) {
            let share = Arc::clone(&self.budget_share);
            self.tasks.spawn(async move { share.write(&id, used, now).await });
        }
    }
}
