//! The decisions: what a request is, whether the store answers it, who asks upstream.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, AGE, ALLOW, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use peercache::chain::{Lease, Leased};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::arrival::Arrival;
use crate::body::ResponseBody;
use crate::body_rewrite::BodyUrls;
use crate::budget::Spender;
use crate::build_cache::PREFIX;
use crate::cache_control::CacheControl;
use crate::cache_status::{CacheStatus, Forward};
use crate::candidates::{Candidate, Validation};
use crate::client_label::{CLIENT, ClientLabel, ShortId};
use crate::coalesce::{Landing, Leader, Seat};
use crate::conditional::{has_it_already, is_conditional, reduce_to_304};
use crate::error::Problem;
use crate::explain::{EXPLAIN, explain, explained};
use crate::fetch::{Fetch, Fetched, RepositoryRequest, prove};
use crate::hosts::{ApiRoute, Route};
use crate::invalidation::{self, INVALIDATE, WEBHOOK};
use crate::ledger::{Call, RouteClass};
use crate::own::{Endpoint, json_answer};
use crate::passthrough::{Passed, Passing, Written};
use crate::policy::{Plan, plan};
use crate::priority::is_urgent;
use crate::quota::Resource;
use crate::report::{SavedReport, StatsReport, degraded};
use crate::request_headers::{of_client, to_send};
use crate::rewrite::Rewrite;
use crate::route_table::{Rule, Share};
use crate::scope::Scope;
use crate::shared::Shared;
use crate::shares::ClientAddress;
use crate::sharing::{Proven, fresh_enough, may_notice, may_share, proven};
use crate::store::{Found, Place, Read};
use crate::token::{TokenId, TokenKind};
use crate::upstream::{Lane, Outgoing, Upload, forwarded};
use crate::validator::{derive, quoted};

/// The methods that are passed on.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// How often a request waits for those of other tokens: for the answer, and for the proof that it
/// may have it.
const MAX_ROUNDS: u32 = 2;

/// The headers that let pages of other origins read an answer.
static CROSS_ORIGIN: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// GitHub's API behind a cache: give it requests, it answers them.
///
/// A response is served without asking only to the token that fetched or revalidated it, within the
/// lifetime that GitHub gave it, and only if no write through this cache made it doubtful since.
/// Cloning gives another handle to the same one.
///
/// # What is bounded
/// Requests to upstream ([`Limits`](crate::Limits)), the body of a stored response
/// ([`MAX_REPRESENTATION_BYTES`](crate::MAX_REPRESENTATION_BYTES); while one is fetched, that much
/// is held twice at most), bytes on the way to a client (256 KiB when nothing is collected for the
/// store), decoded grants (4,096) and rate limits remembered (10,000).
///
/// # What it does not do
/// - `max-stale` of a request is ignored: stale answers are given by the rules of this cache alone.
/// - A write that does not pass through here is seen when the lifetime ends (usually 60 s), unless
///   GitHub delivers events here (`/-/webhook`). So is what a GraphQL mutation changes of other
///   answers than those to GraphQL queries of its token.
#[derive(Clone)]
pub struct GitHubCache {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for GitHubCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubCache")
            .field("upstream", &self.shared.hosts.first().authority())
            .finish_non_exhaustive()
    }
}

impl GitHubCache {
    /// Answers a request. Never fails: what goes wrong is a response in GitHub's shape, and every
    /// response has a `Cache-Status` (RFC 9211).
    ///
    /// Cancel-safe: a request that was sent upstream is completed, for the store and for others who
    /// wait for it, and a write is always noted.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let shared = &self.shared;
        shared.stats.requests.add(1);
        shared.history.note(shared.store.cache().now(), || {
            let booked = shared.ledger.total();
            (booked.asked, booked.charged)
        });
        match self.answer(parts, body).await {
            Ok(response) => response,
            Err(problem) => {
                self.shared.stats.error.add(1);
                problem.into_response()
            }
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> StatsReport {
        let (proxy, cache) = (self.shared.stats.read(), self.shared.store.cache().report());
        let ledger = self.shared.ledger.report();
        StatsReport {
            since: self.shared.ledger.since(),
            saved: SavedReport::of(&proxy, &ledger.total),
            degraded: degraded(&cache),
            proxy,
            ledger,
            entity_tags: self.shared.self_check.report(),
            cache,
            history: self.shared.history.samples(),
        }
    }

    /// Makes everything of a repository, `OWNER/REPO`, be asked for again before it is served, for
    /// every token and on every machine that shares the store. Nothing is removed: what did not
    /// change is confirmed free of charge.
    ///
    /// Returns `false`, and does nothing, for what is no name of a repository. Completes when the
    /// local tiers have it; cancelled, it may have happened or not.
    pub async fn invalidate_repository(&self, name: &str) -> bool {
        invalidation::invalidate_repository(&self.shared, name).await
    }

    /// Waits until every request that was sent upstream has ended, also those whose client went
    /// away.
    pub async fn settle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }
}

/// What is known before upstream is asked.
struct Known {
    read: Read,
    candidates: Vec<Candidate>,
    rule: Rule,
}

/// Whom a request upstream is made for besides its client.
#[derive(Default)]
struct Leads {
    /// Others with the same token.
    flight: Option<Leader>,
    /// Tokens that may know of it.
    variant: Option<Leader>,
    /// Other machines with the same token.
    lease: Option<Lease>,
}

impl Leads {
    fn land(self, landing: Landing) {
        if let Some(leader) = self.flight {
            leader.land(landing);
        }
        if let Some(leader) = self.variant {
            leader.land(landing);
        }
    }
}

/// A request that the store may answer.
struct Ask {
    place: Place,
    directives: CacheControl,
    headers: HeaderMap,
    head: bool,
    api: ApiRoute,
    client: ClientAddress,
    call: Call,
    rule: Rule,
}

/// A call to the API, as far as it is known before its request is read.
pub(crate) struct Incoming {
    pub(crate) api: ApiRoute,
    pub(crate) client: ClientAddress,
    pub(crate) token: TokenId,
    pub(crate) call: Call,
}

impl GitHubCache {
    async fn answer<B>(&self, mut parts: Parts, body: B) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if parts.method == Method::CONNECT {
            return Err(Problem::connect());
        }
        if parts.method == Method::TRACE {
            // It would show whoever reads the answer the credentials that were added on the way.
            return Err(Problem::method_not_allowed(ALLOWED));
        }
        if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
            return Ok(self.options());
        }
        if self.shared.upstream.loops().has_passed(&parts.headers) {
            return Err(Problem::looped());
        }
        let label = ClientLabel::of_request(&parts.headers)?;
        parts.headers.remove(CLIENT);
        let arrival = parts.extensions.get::<Arrival>().cloned().unwrap_or(Arrival::IN_PROCESS);
        match self.shared.hosts.route(&parts, &arrival)? {
            Route::Own(path) => match path.strip_prefix(PREFIX) {
                Some(key) => {
                    self.shared.stats.local.add(1);
                    let (build, limits) = (&self.shared.build_cache, self.shared.upstream.limits());
                    build.answer(self.shared.store.cache(), limits, &parts, body, key, &arrival).await
                }
                None if path == WEBHOOK => {
                    self.shared.stats.local.add(1);
                    invalidation::deliver(&self.shared, &parts, body).await
                }
                None if path == INVALIDATE => {
                    self.shared.stats.local.add(1);
                    invalidation::invalidate_by_hand(&self.shared, &parts, &arrival).await
                }
                None if path == EXPLAIN => {
                    self.shared.stats.local.add(1);
                    self.explain(&parts, &arrival).await
                }
                None => self.own(&parts, &path),
            },
            Route::Other(url) => {
                let status = CacheStatus::forwarded(Forward::Bypass).detail(Some("other-host"));
                // An upload changes what the API says about its release.
                let path = parts.uri.path();
                let path = path.strip_prefix("/api/uploads").unwrap_or(path);
                let written = (!parts.method.is_safe() && Scope::of(path).is_repository()).then(|| Written {
                    token: self.shared.hasher.id(parts.headers.get(AUTHORIZATION)),
                    api: self.shared.hosts.first(),
                    path: path.to_owned(),
                });
                let outgoing = self.outgoing(Lane::Other, arrival.client, None, parts, *url, body);
                let (mutation, spender, token, api) = (None, None, None, None);
                let passing = Passing { outgoing, status, token, written, mutation, spender, api };
                self.pass(passing).await.map(|response| self.passed(response))
            }
            Route::Api(api) => {
                self.api(parts, body, api, arrival.client, label).await.map(|response| self.passed(response))
            }
        }
    }

    /// Answers a call to the API, and books it.
    async fn api<B>(
        &self,
        parts: Parts,
        body: B,
        api: ApiRoute,
        client: ClientAddress,
        label: Option<ClientLabel>,
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let token = self.shared.hasher.id(parts.headers.get(AUTHORIZATION));
        let (rule, class) = self.shared.routes.classify(&api.url.path);
        let authorized = parts.headers.contains_key(AUTHORIZATION);
        let call = self.call(label, authorized.then(|| ShortId::of(&token)), class, &api);
        call.asked();
        let incoming = Incoming { api, client, token, call: call.clone() };
        let result = self.api_call(parts, body, incoming, rule).await;
        if result.is_err() {
            call.unserved();
        }
        result
    }

    fn call(
        &self,
        label: Option<ClientLabel>,
        token: Option<ShortId>,
        route: RouteClass,
        api: &ApiRoute,
    ) -> Call {
        let own = || token.map_or(ClientLabel::Anonymous, ClientLabel::Token);
        Call {
            ledger: Arc::clone(&self.shared.ledger),
            client: label.or_else(|| self.shared.default_client.clone()).unwrap_or_else(own),
            token,
            route,
            free: api.url.path == "/rate_limit",
            of_client: true,
        }
    }

    async fn api_call<B>(
        &self,
        mut parts: Parts,
        body: B,
        mut incoming: Incoming,
        rule: Rule,
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if parts.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Problem::bad_request(
                "peercache: the request has more than one Authorization header; send one",
                "bad-authorization",
            ));
        }
        if let Some(urls) = &incoming.api.bodies {
            incoming.api.knows_rewritten = urls.restore_tags(&mut parts.headers);
        }
        if incoming.api.graphql && parts.method == Method::POST {
            return self.graphql(parts, body, incoming).await;
        }
        let Incoming { api, client, token, call } = incoming;
        let headers = of_client(&parts.headers);
        let directives = CacheControl::of_request(&headers);
        let plan = plan(&parts.method, &headers, !body.is_end_stream(), rule.store, &directives);
        match plan {
            Plan::Answer { head } => {
                let kind = TokenKind::of(headers.get(AUTHORIZATION));
                let place =
                    self.shared.store.place(token, kind, api.api.authority(), &api.url, &headers).await;
                let ask = Ask { place, directives, headers, head, api, client, call, rule };
                self.answer_from_store(ask).await
            }
            Plan::Forward(why, detail) => {
                if api.bodies.is_some() {
                    // What is compressed cannot be rewritten.
                    parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
                }
                let status = CacheStatus::forwarded(why).detail(detail);
                let safe = parts.method.is_safe() || api.graphql;
                let written = (!safe).then(|| Written {
                    token: token.clone(),
                    api: Arc::clone(&api.api),
                    path: api.url.path.clone(),
                });
                let spender = (!call.free).then(|| spender(&token, &api, &headers));
                let outgoing = self.outgoing(Lane::Api, client, Some(call), parts, api.target()?, body);
                let (token, api, mutation) = (Some(token), Some(api), None);
                self.pass(Passing { outgoing, status, token, written, mutation, spender, api }).await
            }
        }
    }

    /// Answers from the store, or asks upstream for the store.
    async fn answer_from_store(&self, ask: Ask) -> Result<Response<ResponseBody>, Problem> {
        let store = &self.shared.store;
        if let Some(found) = store.read_decoded(&ask.place, &ask.headers).await
            && let Some(response) = self.hit(&ask, Some(&found))
        {
            return Ok(response);
        }
        let read = store.read(&ask.place, &ask.headers).await;
        if let Some(response) = self.hit(&ask, read.found.as_ref()) {
            return Ok(response);
        }
        let rule = ask.rule;
        let candidates = store.candidates(&ask.place, &ask.headers).await;
        if let Some(response) = self.share(&ask, &read, &rule, &candidates).await {
            return Ok(response);
        }
        if ask.directives.only_if_cached {
            return Err(Problem::only_if_cached());
        }
        let why = self.reason(&ask, &read);
        if ask.head {
            return self.pass_head(ask, why).await;
        }
        // A client that insists must not get what was asked for before it came.
        if ask.directives.insists() {
            return self.fetch(ask, Known { read, candidates, rule }, why, Leads::default()).await;
        }
        match self.shared.flights.join(&ask.place.grant) {
            Seat::Lead(leader) => self.lead(ask, rule, why, leader).await,
            Seat::Follow(follower) => {
                let landing = timeout(self.shared.upstream.limits().coalesce, follower.landing()).await;
                let read = store.read(&ask.place, &ask.headers).await;
                if landing == Ok(Landing::Stored)
                    && let Some(found) = &read.found
                    && found.satisfies_follower(&ask.directives, store.now())
                {
                    self.shared.stats.coalesced.add(1);
                    return Ok(self.serve(&ask, found, &CacheStatus::forwarded(why).collapsed()));
                }
                let candidates = store.candidates(&ask.place, &ask.headers).await;
                self.fetch(ask, Known { read, candidates, rule }, why, Leads::default()).await
            }
        }
    }

    /// Asks upstream for all who wait for the same with the same token.
    async fn lead(
        &self,
        ask: Ask,
        rule: Rule,
        why: Forward,
        leader: Leader,
    ) -> Result<Response<ResponseBody>, Problem> {
        let store = &self.shared.store;
        let mut rounds = 0;
        let (variant, read, candidates) = loop {
            let seat = self.shared.variant_flights.join(&ask.place.candidates);
            let followed = match seat {
                Seat::Follow(follower) if rounds < MAX_ROUNDS && self.may_wait(&ask.place, &rule).await => {
                    let most = self.shared.upstream.limits().coalesce;
                    let _landed_or_not = timeout(most, follower.landing()).await;
                    None
                }
                Seat::Follow(_) => Some(None),
                Seat::Lead(leader) => Some(Some(leader)),
            };
            // Another flight may have landed between the look into the store and this.
            let read = store.read(&ask.place, &ask.headers).await;
            if let Some(response) = self.hit(&ask, read.found.as_ref()) {
                leader.land(Landing::Stored);
                return Ok(response);
            }
            let candidates = store.candidates(&ask.place, &ask.headers).await;
            if let Some(response) = self.share(&ask, &read, &rule, &candidates).await {
                leader.land(Landing::Nothing);
                return Ok(response);
            }
            match followed {
                Some(variant) => break (variant, read, candidates),
                // What is known now may be confirmed at once. What may be shared soon is waited for
                // again.
                None if rounds > 0 || !may_share(&self.shared, &ask.place, &rule, &candidates) => {
                    break (None, read, candidates);
                }
                None => rounds += 1,
            }
        };
        let selfish = read.found.is_none() && candidates.is_empty() && is_conditional(&ask.headers);
        let known = Known { read, candidates, rule };
        if selfish {
            // The answer to a condition of the client's own would be of no use to others.
            drop((leader, variant));
            return self.fetch(ask, known, why, Leads::default()).await;
        }
        let mut leads = Leads { flight: Some(leader), variant, lease: None };
        match store.lease(&ask.place, &known.read).await {
            Leased::Granted(lease) => leads.lease = Some(lease),
            Leased::Alone => {}
            Leased::Found(_) => return self.found_elsewhere(ask, known, why, leads).await,
        }
        self.fetch(ask, known, why, leads).await
    }

    /// Whether a token may wait for another one's request.
    async fn may_wait(&self, place: &Place, rule: &Rule) -> bool {
        rule.share == Share::Everyone
            || place.scope.is_repository()
                && (may_notice(&self.shared, place)
                    || self.shared.share_public && self.shared.store.public_proof(place).await.is_some())
    }

    /// Answers a token that has no grant with what another token had validated, where everybody may
    /// have it.
    async fn share(
        &self,
        ask: &Ask,
        read: &Read,
        rule: &Rule,
        candidates: &[Candidate],
    ) -> Option<Response<ResponseBody>> {
        let store = &self.shared.store;
        let place = &ask.place;
        let now = store.now();
        let newest = candidates.first()?;
        if !may_share(&self.shared, place, rule, candidates) {
            return None;
        }
        let fresh = fresh_enough(newest, place, &ask.directives, |version| read.believes(version), now);
        let validation = match rule.share {
            Share::Repository => self.proven(ask, rule, &fresh).await?,
            Share::Everyone | Share::None => **fresh.first()?,
        };
        let in_use = self.shared.self_check.is_in_use(place.kind);
        let sent = to_send(&ask.headers);
        let etag = |body: &[u8]| quoted(&derive(&sent, [body]), newest.weak).filter(|_| in_use);
        let found = store.share(newest, &validation, etag).await?;
        if rule.share == Share::Repository {
            store.publish(place, &newest.representation, validation.version).await;
        }
        self.shared.stats.shared.add(1);
        let status = CacheStatus::hit(found.freshness().remaining(now).as_secs()).detail(Some("public"));
        Some(self.serve(ask, &found, &status))
    }

    /// The newest of these validations at which the repository is known to have been public. Where
    /// there is no proof, or one that does not reach them, the request for one is sent instead of
    /// the token's own.
    async fn proven(&self, ask: &Ask, rule: &Rule, fresh: &[&Validation]) -> Option<Validation> {
        let (store, place) = (&self.shared.store, &ask.place);
        let verdict = |proof| proven(&self.shared, place, proof, fresh, store.now());
        match verdict(store.public_proof(place).await) {
            Proven::Given(validation) => return Some(validation),
            Proven::Ask if !ask.directives.only_if_cached => {}
            Proven::Ask | Proven::Withheld => return None,
        }
        let repository = self.repository(ask, rule)?;
        match self.shared.proof_flights.join(&place.public_key()) {
            Seat::Lead(leader) => {
                if store.public.is_proof_due(&place.token, &place.scope, true, store.now()) {
                    let authorization = ask.headers.get(AUTHORIZATION);
                    prove(&self.shared, &repository, place, authorization, ask.client, &ask.call).await;
                }
                leader.land(Landing::Stored);
            }
            Seat::Follow(follower) => {
                let _landed_or_not =
                    timeout(self.shared.upstream.limits().coalesce, follower.landing()).await;
            }
        }
        match verdict(store.public_proof(place).await) {
            Proven::Given(validation) => Some(validation),
            Proven::Ask | Proven::Withheld => None,
        }
    }

    /// The request for the repository itself, where its answers may be shared.
    fn repository(&self, ask: &Ask, rule: &Rule) -> Option<RepositoryRequest> {
        let Scope::Repository(name) = &ask.place.scope else { return None };
        if !self.shared.share_public || rule.share != Share::Repository {
            return None;
        }
        let api = ask.api.sibling(&format!("/repos/{name}"))?;
        let (rule, class) = self.shared.routes.classify(&api.url.path);
        Some(RepositoryRequest { url: api.target().ok()?, path: api.url, rule, class })
    }

    /// Another machine has asked GitHub with this token meanwhile: its answer is this one's.
    async fn found_elsewhere(
        &self,
        ask: Ask,
        mut known: Known,
        why: Forward,
        leads: Leads,
    ) -> Result<Response<ResponseBody>, Problem> {
        known.read = self.shared.store.read(&ask.place, &ask.headers).await;
        match &known.read.found {
            Some(found) if found.satisfies_follower(&ask.directives, self.shared.store.now()) => {
                leads.land(Landing::Stored);
                self.shared.stats.coalesced.add(1);
                Ok(self.serve(&ask, found, &CacheStatus::forwarded(why).collapsed()))
            }
            _ => self.fetch(ask, known, why, leads).await,
        }
    }

    fn hit(&self, ask: &Ask, found: Option<&Found>) -> Option<Response<ResponseBody>> {
        let now = self.shared.store.now();
        let found = found.filter(|found| found.satisfies(&ask.directives, now))?;
        self.shared.stats.fresh.add(1);
        let status = CacheStatus::hit(found.freshness().remaining(now).as_secs()).detail(found.tier());
        Some(self.serve(ask, found, &status))
    }

    fn reason(&self, ask: &Ask, read: &Read) -> Forward {
        match &read.found {
            None => Forward::UriMiss,
            Some(found) if found.is_fresh(self.shared.store.now()) || ask.directives.insists() => {
                Forward::Request
            }
            Some(_) => Forward::Stale,
        }
    }

    /// A response from the store; a 304 if the client has it already.
    fn serve(&self, ask: &Ask, found: &Found, status: &CacheStatus) -> Response<ResponseBody> {
        let mut headers = found.headers().clone();
        headers.insert(AGE, HeaderValue::from(found.freshness().age_seconds(self.shared.store.now())));
        self.shared.rate_limits.refresh(&ask.place.token, &mut headers);
        status.append_to(&mut headers);
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = found.status();
        if found.status() == StatusCode::OK && has_it_already(&ask.headers, found.headers()) {
            reduce_to_304(&mut headers);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if !ask.head {
            self.shared.stats.bytes_from_cache.add(found.body().len() as u64);
            *response.body_mut() = ResponseBody::full(found.body().clone());
        }
        *response.headers_mut() = headers;
        rewrite(&ask.api, &mut response);
        response
    }

    /// Asks upstream in a task of its own, so that nothing is lost when this client goes away.
    async fn fetch(
        &self,
        ask: Ask,
        known: Known,
        why: Forward,
        leads: Leads,
    ) -> Result<Response<ResponseBody>, Problem> {
        let Known { read, candidates, rule } = known;
        // What was not there is asked for as if nothing were known.
        let found = read.found.filter(|found| found.status() == StatusCode::OK);
        let clients_condition = found.is_none() && candidates.is_empty() && is_conditional(&ask.headers);
        let fetch = Fetch {
            shared: Arc::clone(&self.shared),
            repository: self.repository(&ask, &rule),
            place: ask.place.clone(),
            client: ask.client,
            call: ask.call.clone(),
            url: ask.api.target()?,
            request: ask.headers.clone(),
            rule,
            known: found,
            candidates,
            marked: read.marked,
            may_be_stale: !ask.directives.insists(),
            clients_condition,
            leader: leads.flight,
            variant_leader: leads.variant,
            lease: leads.lease,
            charge: None,
            spender: spender(&ask.place.token, &ask.api, &ask.headers),
            reservation: None,
        };
        let (reply, answer) = oneshot::channel();
        self.shared.tasks.spawn(fetch.run(reply));
        match answer.await.map_err(|_| Problem::internal())?.map_err(|error| error.into_problem(why))? {
            Fetched::Confirmed(found) => {
                self.shared.stats.revalidated.add(1);
                let status = CacheStatus::forwarded(why).status(StatusCode::NOT_MODIFIED);
                Ok(self.serve(&ask, &found, &status))
            }
            Fetched::Stale { found, status, detail } => {
                self.shared.stats.stale.add(1);
                let mut cache_status = CacheStatus::forwarded(Forward::Stale).detail(Some(detail));
                cache_status.forward_status = status;
                Ok(self.serve(&ask, &found, &cache_status))
            }
            Fetched::Passed { mut response, stored } => {
                self.shared.stats.miss.add(1);
                let status = CacheStatus::forwarded(why).status(response.status()).stored(stored);
                // The condition that went upstream was ours, so the client's is judged here.
                if !clients_condition
                    && response.status() == StatusCode::OK
                    && has_it_already(&ask.headers, response.headers())
                {
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    *response.body_mut() = ResponseBody::empty();
                    reduce_to_304(response.headers_mut());
                }
                rewrite(&ask.api, &mut response);
                status.append_to(response.headers_mut());
                Ok(response)
            }
        }
    }

    async fn pass_head(&self, ask: Ask, why: Forward) -> Result<Response<ResponseBody>, Problem> {
        let outgoing = Outgoing {
            lane: Lane::Api,
            client: ask.client,
            call: Some(ask.call),
            method: Method::HEAD,
            url: ask.api.target()?,
            headers: forwarded(&ask.headers),
            body: None,
        };
        let status = CacheStatus::forwarded(why);
        let spender = Some(spender(&ask.place.token, &ask.api, &ask.headers));
        let (token, api, written, mutation) = (Some(ask.place.token), Some(ask.api), None, None);
        self.pass(Passing { outgoing, status, token, written, mutation, spender, api }).await
    }

    pub(crate) fn outgoing<B>(
        &self,
        lane: Lane,
        client: ClientAddress,
        call: Option<Call>,
        parts: Parts,
        url: Uri,
        body: B,
    ) -> Outgoing
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body = (!body.is_end_stream()).then(|| Upload::new(body, self.shared.upstream.limits()));
        Outgoing { lane, client, call, method: parts.method, url, headers: forwarded(&parts.headers), body }
    }

    /// Passes a request through, in a task of its own: a write must be noted whatever its client
    /// does.
    pub(crate) async fn pass(&self, passing: Passing) -> Result<Response<ResponseBody>, Problem> {
        let status = passing.status.clone();
        let api = passing.api.clone();
        let why = status.forward.unwrap_or(Forward::Bypass);
        let (reply, answer) = oneshot::channel();
        self.shared.tasks.spawn(passing.run(Arc::clone(&self.shared), reply));
        let Passed(mut response) =
            answer.await.map_err(|_| Problem::internal())?.map_err(|error| error.into_problem(why))?;
        self.shared.stats.bypass.add(1);
        if let Some(api) = &api {
            rewrite(api, &mut response);
        }
        status.status(response.status()).append_to(response.headers_mut());
        Ok(response)
    }

    /// An answer of somebody else's says that it came through here.
    fn passed(&self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.shared.upstream.loops().add(response.headers_mut());
        response
    }

    /// What `OPTIONS *` asks for: what this server can do in general (RFC 9110, section 9.3.7).
    fn options(&self) -> Response<ResponseBody> {
        self.shared.stats.local.add(1);
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
        CacheStatus::local("local").append_to(response.headers_mut());
        response
    }

    /// Says why a URL is a hit or a miss; it changes nothing.
    async fn explain(&self, parts: &Parts, arrival: &Arrival) -> Result<Response<ResponseBody>, Problem> {
        if parts.headers.contains_key(ORIGIN) {
            return Err(Problem::other_origin());
        }
        let asked = explained(parts, arrival)?;
        let explanation = explain(&self.shared, asked, arrival).await?;
        let mut response = json_answer(&explanation)?;
        CacheStatus::local("local").append_to(response.headers_mut());
        Ok(response)
    }

    /// The proxy's own endpoints, which only look. A page of another origin sees none of them.
    fn own(&self, parts: &Parts, path: &str) -> Result<Response<ResponseBody>, Problem> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(Problem::method_not_allowed("GET, HEAD"));
        }
        if parts.headers.contains_key(ORIGIN) {
            return Err(Problem::other_origin());
        }
        let endpoint = Endpoint::of(path).ok_or(Problem::no_such_endpoint())?;
        // Counted first: a report would else count the request for it as one for the API.
        self.shared.stats.local.add(1);
        let (shared, cache) = (&self.shared, self.clone());
        let mut response = endpoint.answer(&shared.live, parts.extensions.get(), move || cache.stats())?;
        CacheStatus::local("local").append_to(response.headers_mut());
        if parts.method == Method::HEAD {
            *response.body_mut() = ResponseBody::empty();
        }
        Ok(response)
    }
}

/// Whose rate limit a request takes of.
pub(crate) fn spender(token: &TokenId, api: &ApiRoute, headers: &HeaderMap) -> Spender {
    Spender {
        token: token.clone(),
        authority: api.api.authority().into(),
        resource: Resource::of(&api.url.path),
        urgent: is_urgent(headers),
    }
}

/// Leads a client that uses a base URL back to it, and gives pages of other origins no right to
/// read what GitHub lets every page read.
pub(crate) fn rewrite(api: &ApiRoute, response: &mut Response<ResponseBody>) {
    let Some(to) = &api.base else { return };
    let status = response.status();
    let headers = response.headers_mut();
    Rewrite { from: &api.api.urls, to }.apply(headers);
    for name in &CROSS_ORIGIN {
        headers.remove(name);
    }
    let Some(urls) = &api.bodies else { return };
    if status == StatusCode::NOT_MODIFIED {
        if api.knows_rewritten {
            urls.mark(headers);
        }
    } else if status != StatusCode::PARTIAL_CONTENT && BodyUrls::applies(headers) {
        urls.mark(headers);
        let body = std::mem::replace(response.body_mut(), ResponseBody::empty());
        *response.body_mut() = body.rewritten(urls.rewriter());
    }
}
