//! The ledger: every call to the API is booked to a client, a token and a route, with what was sent
//! for it and what it was charged.
//!
//! What is sent and charged is booked when it happens, so a request that goes on after its client
//! went away is booked, too. A client or token for which there is no room takes the place of the
//! one that was booked longest ago, whose numbers go to `other`: the sums stay right.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, StatusCode};
use peercache::backend::Timestamp;
use serde::Serialize;

use crate::charge::{Charge, charge};
use crate::client_label::{ClientLabel, OTHER, ShortId};
use crate::iso_date::format_iso_date;
use crate::refusal::Refusal;

/// How many clients are told apart.
pub(crate) const MAX_CLIENTS: usize = 256;
/// How many tokens are told apart.
pub(crate) const MAX_TOKENS: usize = 256;
/// How many routes of one client are told apart.
const MAX_ROUTES_OF_CLIENT: usize = 32;

/// The class of a route: where its name stands in the list that the ledger was made with. The first
/// one is `other`.
pub(crate) type RouteClass = u16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    asked: u64,
    sent: u64,
    unanswered: u64,
    charged: u64,
    unserved: u64,
}

impl Counts {
    const fn add(&mut self, more: Self) {
        self.asked += more.asked;
        self.sent += more.sent;
        self.unanswered += more.unanswered;
        self.charged += more.charged;
        self.unserved += more.unserved;
    }
}

/// What was booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Booked {
    /// Calls of clients to the API.
    pub asked: u64,
    /// Requests that were sent upstream for them, repeated ones and proofs included.
    pub sent: u64,
    /// Requests that count against a rate limit.
    pub charged: u64,
    /// `asked` less `charged` and `unserved`. Negative where more was charged than asked: for a
    /// request that had to be sent twice, or a proof.
    pub saved: i64,
    /// Of the requests that were sent, those to which no answer began. Whether they were charged is
    /// not known.
    pub unanswered: u64,
    /// Calls that were answered with a failure and cost nothing.
    pub unserved: u64,
}

impl From<Counts> for Booked {
    fn from(counts: Counts) -> Self {
        let Counts { asked, sent, unanswered, charged, unserved } = counts;
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let saved = signed(asked).saturating_sub(signed(charged)).saturating_sub(signed(unserved));
        Self { asked, sent, charged, saved, unanswered, unserved }
    }
}

/// What was booked to one route.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RouteRow {
    /// The path of the rule in the route table, or `other`.
    pub route: String,
    /// The numbers.
    #[serde(flatten)]
    pub booked: Booked,
}

/// What was booked to one client.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ClientRow {
    /// Its label: `X-Peercache-Client`, else the server's own, else the token's short id or
    /// `anonymous`. `other` stands for those that are not told apart any more.
    pub client: String,
    /// The numbers.
    #[serde(flatten)]
    pub booked: Booked,
    /// By route.
    pub routes: Vec<RouteRow>,
}

/// What was booked to one token.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TokenRow {
    /// The first digits of the token's keyed hash, `anonymous` or `other`.
    pub token: String,
    /// The numbers.
    #[serde(flatten)]
    pub booked: Booked,
}

/// Who spent what. Each list adds up to `total`; the dearest come first.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LedgerReport {
    /// All of it.
    pub total: Booked,
    /// By client.
    pub clients: Vec<ClientRow>,
    /// By route.
    pub routes: Vec<RouteRow>,
    /// By token.
    pub tokens: Vec<TokenRow>,
}

/// What has been booked under names, of which the least recently used give way.
#[derive(Debug)]
struct Table<K, V> {
    most: usize,
    clock: u64,
    rows: HashMap<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V: Default> Table<K, V> {
    fn new(most: usize) -> Self {
        Self { most, clock: 0, rows: HashMap::new() }
    }

    /// The row under this name, and the one that had to go for it.
    fn row(&mut self, key: &K) -> (&mut V, Option<V>) {
        self.clock += 1;
        let mut gone = None;
        if self.rows.len() >= self.most && !self.rows.contains_key(key) {
            let oldest = self.rows.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            gone = oldest.and_then(|key| self.rows.remove(&key)).map(|(_, row)| row);
        }
        let row = self.rows.entry(key.clone()).or_default();
        row.0 = self.clock;
        (&mut row.1, gone)
    }
}

#[derive(Debug, Default)]
struct Account {
    counts: Counts,
    routes: BTreeMap<RouteClass, Counts>,
}

impl Account {
    fn add(&mut self, route: RouteClass, counts: Counts, most: usize) {
        self.counts.add(counts);
        let is_told_apart = self.routes.contains_key(&route) || self.routes.len() < most;
        self.routes.entry(if is_told_apart { route } else { 0 }).or_default().add(counts);
    }
}

#[derive(Debug)]
struct State {
    clients: Table<ClientLabel, Account>,
    other_clients: Account,
    tokens: Table<Option<ShortId>, Counts>,
    other_tokens: Counts,
    routes: BTreeMap<RouteClass, Counts>,
}

/// Who spent what since the server started. Bounded by [`MAX_CLIENTS`], [`MAX_TOKENS`] and the
/// routes that it was made with.
#[derive(Debug)]
pub(crate) struct Ledger {
    since: Timestamp,
    /// The names of the classes of routes.
    routes: Vec<Arc<str>>,
    state: Mutex<State>,
}

impl Ledger {
    pub(crate) fn new(since: Timestamp, routes: Vec<Arc<str>>) -> Self {
        let state = State {
            clients: Table::new(MAX_CLIENTS),
            other_clients: Account::default(),
            tokens: Table::new(MAX_TOKENS),
            other_tokens: Counts::default(),
            routes: BTreeMap::new(),
        };
        Self { since, routes, state: Mutex::new(state) }
    }

    /// Since when it books, as RFC 3339 has it.
    pub(crate) fn since(&self) -> String {
        format_iso_date(self.since)
    }

    fn book(&self, call: &Call, counts: Counts) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { clients, other_clients, tokens, other_tokens, routes } = &mut *state;
        if call.client == ClientLabel::Other {
            other_clients.add(call.route, counts, usize::MAX);
        } else {
            let (account, gone) = clients.row(&call.client);
            account.add(call.route, counts, MAX_ROUTES_OF_CLIENT);
            for (route, counts) in gone.into_iter().flat_map(|gone| gone.routes) {
                other_clients.add(route, counts, usize::MAX);
            }
        }
        let (token, gone) = tokens.row(&call.token);
        token.add(counts);
        other_tokens.add(gone.unwrap_or_default());
        routes.entry(call.route).or_default().add(counts);
    }

    pub(crate) fn total(&self) -> Booked {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        total(&state)
    }

    pub(crate) fn report(&self) -> LedgerReport {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients: Vec<ClientRow> = state
            .clients
            .rows
            .iter()
            .map(|(label, (_, account))| (label.as_str(), account))
            .chain(Some((OTHER, &state.other_clients)).filter(|(_, other)| other.counts != Counts::default()))
            .map(|(label, account)| ClientRow {
                client: label.to_owned(),
                booked: account.counts.into(),
                routes: self.route_rows(&account.routes),
            })
            .collect();
        let mut tokens: Vec<TokenRow> = state
            .tokens
            .rows
            .iter()
            .map(|(id, (_, counts))| (id.as_ref().map_or("anonymous", ShortId::as_str), *counts))
            .chain(Some((OTHER, state.other_tokens)).filter(|(_, other)| *other != Counts::default()))
            .map(|(token, counts)| TokenRow { token: token.to_owned(), booked: counts.into() })
            .collect();
        clients.sort_by(|left, right| dearest(&left.booked, &left.client, &right.booked, &right.client));
        tokens.sort_by(|left, right| dearest(&left.booked, &left.token, &right.booked, &right.token));
        LedgerReport { total: total(&state), clients, routes: self.route_rows(&state.routes), tokens }
    }

    fn route_rows(&self, routes: &BTreeMap<RouteClass, Counts>) -> Vec<RouteRow> {
        let name = |class: RouteClass| self.routes.get(usize::from(class)).map_or(OTHER, |name| name);
        let mut rows: Vec<RouteRow> = routes
            .iter()
            .map(|(class, counts)| RouteRow { route: name(*class).to_owned(), booked: (*counts).into() })
            .collect();
        rows.sort_by(|left, right| dearest(&left.booked, &left.route, &right.booked, &right.route));
        rows
    }
}

fn total(state: &State) -> Booked {
    let mut total = Counts::default();
    state.routes.values().for_each(|counts| total.add(*counts));
    total.into()
}

fn dearest(left: &Booked, left_name: &str, right: &Booked, right_name: &str) -> std::cmp::Ordering {
    let key = |booked: &Booked| (booked.charged, booked.asked);
    key(right).cmp(&key(left)).then_with(|| left_name.cmp(right_name))
}

/// A call of a client's to the API, and to whom it is booked. Each method books one event.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) client: ClientLabel,
    /// `None`: it had no credentials.
    pub(crate) token: Option<ShortId>,
    pub(crate) route: RouteClass,
    /// Whether answers of its route cost nothing.
    pub(crate) free: bool,
    /// Whether a client waits for it: not for a proof.
    pub(crate) of_client: bool,
}

impl Call {
    /// The client asked.
    pub(crate) fn asked(&self) {
        self.ledger.book(self, Counts { asked: 1, ..Counts::default() });
    }

    /// A request goes upstream.
    pub(crate) fn sent(&self) {
        self.ledger.book(self, Counts { sent: 1, ..Counts::default() });
    }

    /// No answer to it began.
    pub(crate) fn unanswered(&self) {
        self.ledger.book(self, Counts { unanswered: 1, ..Counts::default() });
    }

    /// An answer to it began.
    pub(crate) fn answered(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        refusal: Option<Refusal>,
    ) -> Charge {
        let charge = charge(status, headers, refusal, self.token.is_some(), self.free);
        if charge == Charge::Charged {
            self.ledger.book(self, Counts { charged: 1, ..Counts::default() });
        }
        charge
    }

    /// The client was given a failure that cost nothing.
    pub(crate) fn unserved(&self) {
        if self.of_client {
            self.ledger.book(self, Counts { unserved: 1, ..Counts::default() });
        }
    }

    /// A request of the proxy's own for this client.
    pub(crate) fn of_proxy(&self, route: RouteClass) -> Self {
        Self { route, of_client: false, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;
    use http::HeaderValue;

    fn ledger() -> Arc<Ledger> {
        let routes = ["other", "/a", "/b"].map(Arc::from).to_vec();
        Arc::new(Ledger::new(Timestamp::from_millis(1_796_020_429_000), routes))
    }

    fn call(ledger: &Arc<Ledger>, client: &str, token: &str, route: RouteClass) -> Call {
        let id = TokenHasher::new([1; 32]).id(Some(&HeaderValue::from_str(token).unwrap()));
        Call {
            ledger: Arc::clone(ledger),
            client: ClientLabel::clean(client).unwrap(),
            token: Some(ShortId::of(&id)),
            route,
            free: false,
            of_client: true,
        }
    }

    fn sums<'a>(rows: impl Iterator<Item = &'a Booked>) -> (u64, u64, u64, i64) {
        rows.fold((0, 0, 0, 0), |sum, row| {
            (sum.0 + row.asked, sum.1 + row.sent, sum.2 + row.charged, sum.3 + row.saved)
        })
    }

    #[test]
    fn each_list_adds_up_to_the_total_also_beyond_the_bounds() {
        let ledger = ledger();
        for n in 0..MAX_CLIENTS + 50 {
            let call = call(&ledger, &format!("c{n}"), &format!("token {n}"), 1 + (n % 2) as u16);
            call.asked();
            call.sent();
            if n % 3 == 0 {
                call.answered(StatusCode::OK, &HeaderMap::new(), None);
            } else {
                call.answered(StatusCode::NOT_MODIFIED, &HeaderMap::new(), None);
            }
        }
        let report = ledger.report();
        let total = sums(std::iter::once(&report.total));
        assert_eq!((total.0, total.1, total.2), (306, 306, 102));
        assert_eq!(sums(report.clients.iter().map(|row| &row.booked)), total);
        assert_eq!(sums(report.tokens.iter().map(|row| &row.booked)), total);
        assert_eq!(sums(report.routes.iter().map(|row| &row.booked)), total);
        assert_eq!(report.clients.len(), MAX_CLIENTS + 1);
        assert_eq!(report.tokens.len(), MAX_TOKENS + 1);
        let nested = report.clients.iter().flat_map(|row| &row.routes).map(|row| &row.booked);
        assert_eq!(sums(nested), total);
        let other = report.clients.iter().find(|row| row.client == OTHER).unwrap();
        assert_eq!(other.booked.asked, 50, "those that were booked longest ago");
    }

    #[test]
    fn failure_that_cost_nothing_is_not_saved_and_a_proof_costs() {
        let ledger = ledger();
        let call = call(&ledger, "c", "token t", 1);
        call.asked();
        call.sent();
        call.unanswered();
        call.unserved();
        let proof = call.of_proxy(2);
        proof.sent();
        proof.answered(StatusCode::OK, &HeaderMap::new(), None);
        proof.unserved();
        let expected = Booked { asked: 1, sent: 2, charged: 1, saved: -1, unanswered: 1, unserved: 1 };
        assert_eq!(ledger.total(), expected);
        assert_eq!(ledger.report().routes[0].route, "/b");
        assert_eq!(ledger.since(), "2026-11-30T06:33:49Z");
    }

    #[test]
    fn routes_of_one_client_are_bounded() {
        let names = std::iter::once("other".to_owned()).chain((1..100).map(|n| format!("/{n}")));
        let ledger = Arc::new(Ledger::new(Timestamp::EPOCH, names.map(Arc::from).collect()));
        for route in 1..100 {
            call(&ledger, "c", "token t", route).asked();
        }
        let report = ledger.report();
        assert_eq!(report.routes.len(), 99);
        assert_eq!(report.clients[0].routes.len(), MAX_ROUTES_OF_CLIENT + 1);
        assert_eq!(report.clients[0].booked.asked, 99);
    }
}
