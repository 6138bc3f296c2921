//! What is left of a rate limit, and who may spend it.
//!
//! Nothing is counted here: how much of a limit is used is what GitHub last said about it. A
//! request that is under way holds a **reservation** besides, which it gives back when its answer
//! begins: that says how much is used, which is no more than before for a 304.
//!
//! GitHub does not say whose limit it is. A limit is told apart by its size and by the second at
//! which it is reset: tokens of one owner share both. Tokens of different owners may share them by
//! chance. One of them is then told less than was known before it asked, which no token of the same
//! owner can be: from then on it has a limit of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use peercache::backend::Timestamp;

use crate::quota::{Quota, Resource};
use crate::token::TokenId;

/// How many limits, and how many pairs of token and resource, are remembered. Those that have been
/// reset go first, then those that are reset next.
pub(crate) const MAX_REMEMBERED: usize = 10_000;
/// How many observations of one limit are remembered, to tell owners apart.
const MAX_OBSERVATIONS: usize = 8;
/// For how long a token is left alone that GitHub refused for asking too much at once, where GitHub
/// does not say.
pub(crate) const SECONDARY_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that is believed.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// A limit, as far as it can be told apart from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowId {
    pub(crate) authority: Arc<str>,
    pub(crate) resource: Resource,
    pub(crate) limit: u64,
    /// Seconds since the Unix epoch.
    pub(crate) reset: u64,
    /// Set when this token was found to have another owner than those that share the rest.
    pub(crate) alone: Option<TokenId>,
}

#[derive(Debug, Default)]
struct Window {
    used: u64,
    in_flight: u64,
    /// When, by the number of the latest reservation, how much was known to be used.
    observations: VecDeque<(u64, u64)>,
}

impl Window {
    fn observe(&mut self, used: u64, at: u64) {
        if used <= self.used && !self.observations.is_empty() {
            return;
        }
        self.used = self.used.max(used);
        if self.observations.len() == MAX_OBSERVATIONS {
            self.observations.pop_front();
        }
        self.observations.push_back((at, self.used));
    }

    /// What was known to be used before this reservation was made.
    fn known_before(&self, reservation: u64) -> u64 {
        let before = self.observations.iter().rev().find(|(at, _)| *at < reservation);
        before.map_or(0, |(_, used)| *used)
    }
}

/// Why a request is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) reason: SpentReason,
    pub(crate) resource: Resource,
    pub(crate) quota: Option<Quota>,
    /// In whole seconds, at least 1.
    pub(crate) retry_after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpentReason {
    /// Nothing is left until the reset.
    Quota,
    /// What is left is kept for urgent requests.
    Reserve,
    /// GitHub asked for a pause: too much at once.
    Pause,
}

impl SpentReason {
    /// What `Cache-Status` says about it.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Quota => "rate-limited",
            Self::Reserve => "reserve",
            Self::Pause => "secondary-limit",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Numbers reservations and observations.
    clock: u64,
    windows: HashMap<WindowId, Window>,
    tokens: HashMap<(TokenId, Resource), WindowId>,
    /// Requests under way of which it was not known whose limit they take of. No more than there
    /// are requests.
    unknown: HashMap<(TokenId, Resource), u64>,
    pauses: HashMap<TokenId, Timestamp>,
}

impl State {
    /// The limit that a request would take of, if that is known, or why it is not to be sent.
    fn judge(&self, spender: &Spender, reserve: u64, now: Timestamp) -> Result<Option<WindowId>, Spent> {
        let resource = spender.resource;
        if !spender.urgent
            && let Some(until) = self.pauses.get(&spender.token).filter(|until| **until > now)
        {
            let left = until.saturating_since(now).as_millis().div_ceil(1000).max(1);
            let retry_after = u64::try_from(left).unwrap_or(u64::MAX);
            return Err(Spent { reason: SpentReason::Pause, resource, quota: None, retry_after });
        }
        let key = (spender.token.clone(), resource);
        let Some(id) = self.tokens.get(&key).filter(|id| !is_reset(id, now)) else { return Ok(None) };
        let (used, in_flight) = self.windows.get(id).map_or((0, 0), |window| (window.used, window.in_flight));
        let in_flight = in_flight + self.unknown.get(&key).copied().unwrap_or_default();
        let left = id.limit.saturating_sub(used);
        let kept = (id.limit * reserve).div_ceil(100);
        let reason = match (left, spender.urgent) {
            (0, _) => SpentReason::Quota,
            (_, true) => return Ok(Some(id.clone())),
            _ if left.saturating_sub(in_flight) > kept => return Ok(Some(id.clone())),
            _ if kept == 0 => SpentReason::Quota,
            _ => SpentReason::Reserve,
        };
        let quota = Some(Quota { limit: id.limit, used, reset: id.reset });
        let retry_after = id.reset.saturating_sub(now.as_millis() / 1000).max(1);
        Err(Spent { reason, resource, quota, retry_after })
    }
}

/// What is left of each limit.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In hundredths of a limit.
    reserve: u64,
    state: Mutex<State>,
}

/// Who asks for what.
#[derive(Clone, Debug)]
pub(crate) struct Spender {
    pub(crate) token: TokenId,
    pub(crate) authority: Arc<str>,
    pub(crate) resource: Resource,
    pub(crate) urgent: bool,
}

impl Budget {
    /// A budget of which so many hundredths of each limit are kept for urgent requests.
    pub(crate) fn new(reserve_percent: u8) -> Self {
        Self { reserve: u64::from(reserve_percent.min(100)), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one request of what is left for this spender, until its answer begins.
    ///
    /// An urgent request is refused only when GitHub has said that nothing is left. Another one is
    /// refused, too, while GitHub asked its token for a pause, and when what is left, less what is
    /// under way, is no more than the reserve.
    pub(crate) fn reserve(self: &Arc<Self>, spender: &Spender, now: Timestamp) -> Result<Reservation, Spent> {
        let mut state = self.lock();
        let id = state.judge(spender, self.reserve, now)?;
        state.clock += 1;
        let number = state.clock;
        match &id {
            Some(id) => state.windows.entry(id.clone()).or_default().in_flight += 1,
            None => *state.unknown.entry((spender.token.clone(), spender.resource)).or_default() += 1,
        }
        Ok(Reservation { budget: Arc::clone(self), spender: spender.clone(), number, id })
    }

    /// Why a request of this spender would not be sent now.
    pub(crate) fn refusal(&self, spender: &Spender, now: Timestamp) -> Option<Spent> {
        self.lock().judge(spender, self.reserve, now).err()
    }

    /// What is known of the limit of a spender: limit, used and under way.
    pub(crate) fn known(&self, spender: &Spender, now: Timestamp) -> Option<(Quota, u64)> {
        let state = self.lock();
        let id =
            state.tokens.get(&(spender.token.clone(), spender.resource)).filter(|id| !is_reset(id, now))?;
        let window = state.windows.get(id)?;
        Some((Quota { limit: id.limit, used: window.used, reset: id.reset }, window.in_flight))
    }

    /// The limit that a spender is known to share.
    pub(crate) fn window(&self, spender: &Spender, now: Timestamp) -> Option<WindowId> {
        let state = self.lock();
        state.tokens.get(&(spender.token.clone(), spender.resource)).filter(|id| !is_reset(id, now)).cloned()
    }

    /// GitHub said to another machine that so much of a limit is used.
    pub(crate) fn observed_elsewhere(&self, id: &WindowId, used: u64) {
        let mut state = self.lock();
        state.clock += 1;
        let at = state.clock;
        if let Some(window) = state.windows.get_mut(id) {
            window.observe(used.min(id.limit), at);
        }
    }

    /// Takes note of a pause that GitHub asks a token for.
    pub(crate) fn pause(&self, token: &TokenId, wait: Duration, now: Timestamp) {
        let mut state = self.lock();
        if state.pauses.len() >= MAX_REMEMBERED {
            state.pauses.retain(|_, until| *until > now);
            if state.pauses.len() >= MAX_REMEMBERED {
                return;
            }
        }
        let until = now.saturating_add(wait.min(MAX_PAUSE));
        let known = state.pauses.entry(token.clone()).or_insert(until);
        *known = until.max(*known);
    }

    /// Takes note of what an answer says, and how much is then used.
    fn observe(
        &self,
        reservation: &Reservation,
        quota: Quota,
        charged: bool,
        now: Timestamp,
    ) -> (WindowId, u64) {
        let spender = &reservation.spender;
        let mut state = self.lock();
        state.clock += 1;
        let at = state.clock;
        let shared = WindowId {
            authority: Arc::clone(&spender.authority),
            resource: spender.resource,
            limit: quota.limit,
            reset: quota.reset,
            alone: None,
        };
        let key = (spender.token.clone(), spender.resource);
        let known = state.tokens.get(&key).filter(|id| id.limit == quota.limit && id.reset == quota.reset);
        let is_alone = known.is_some_and(|id| id.alone.is_some());
        let before = state.windows.get(&shared).map_or(0, |window| window.known_before(reservation.number));
        // Whoever shares the limit is told at least what was known before, and its own request.
        let is_other = quota.used < before + u64::from(charged);
        let id = match is_alone || is_other {
            true => WindowId { alone: Some(spender.token.clone()), ..shared },
            false => shared,
        };
        make_room(&mut state, &id, &key, now);
        state.tokens.insert(key, id.clone());
        let window = state.windows.entry(id.clone()).or_default();
        window.observe(quota.used, at);
        let used = window.used;
        (id, used)
    }

    fn give_back(&self, reservation: &Reservation) {
        let mut state = self.lock();
        if let Some(id) = &reservation.id {
            if let Some(window) = state.windows.get_mut(id) {
                window.in_flight = window.in_flight.saturating_sub(1);
            }
            return;
        }
        let key = (reservation.spender.token.clone(), reservation.spender.resource);
        let left = state.unknown.get(&key).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => drop(state.unknown.remove(&key)),
            left => drop(state.unknown.insert(key, left)),
        }
    }
}

fn is_reset(id: &WindowId, now: Timestamp) -> bool {
    id.reset <= now.as_millis() / 1000
}

fn make_room(state: &mut State, id: &WindowId, key: &(TokenId, Resource), now: Timestamp) {
    if state.tokens.len() >= MAX_REMEMBERED && !state.tokens.contains_key(key) {
        state.tokens.retain(|_, id| !is_reset(id, now));
        if state.tokens.len() >= MAX_REMEMBERED {
            let next = state.tokens.iter().min_by_key(|(_, id)| id.reset).map(|(key, _)| key.clone());
            next.and_then(|key| state.tokens.remove(&key));
        }
    }
    if state.windows.len() >= MAX_REMEMBERED && !state.windows.contains_key(id) {
        state.windows.retain(|id, _| !is_reset(id, now));
        if state.windows.len() >= MAX_REMEMBERED {
            let next = state.windows.keys().min_by_key(|id| id.reset).cloned();
            next.and_then(|id| state.windows.remove(&id));
        }
    }
}

/// One request of what is left, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    spender: Spender,
    number: u64,
    id: Option<WindowId>,
}

impl Reservation {
    /// Whose request it is for.
    pub(crate) const fn token(&self) -> &TokenId {
        &self.spender.token
    }

    /// Its answer began: what that says is known before the reservation is given back. Gives the
    /// limit that the answer is about, and how much of it is used.
    pub(crate) fn answered(
        self,
        headers: &HeaderMap,
        charged: bool,
        now: Timestamp,
    ) -> Option<(WindowId, u64)> {
        let quota = Quota::of(headers).filter(|_| self.spender.resource.is_named(headers))?;
        Some(self.budget.observe(&self, quota, charged, now))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;
    use http::HeaderValue;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const RESET: u64 = 1_800_003_600;

    fn spender(token: &str, urgent: bool) -> Spender {
        let value = HeaderValue::from_str(token).unwrap();
        let token = TokenHasher::new([1; 32]).id(Some(&value));
        Spender { token, authority: "api.github.com".into(), resource: Resource::Core, urgent }
    }

    fn headers_with(limit: u64, used: u64, reset: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit", HeaderValue::from(limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(limit - used));
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
        headers.insert("x-ratelimit-resource", HeaderValue::from_static("core"));
        headers
    }

    /// A request and its answer.
    fn ask(budget: &Arc<Budget>, token: &str, used: u64) {
        let reservation = budget.reserve(&spender(token, true), NOW).unwrap();
        reservation.answered(&headers_with(100, used, RESET), true, NOW);
    }

    fn refused(budget: &Arc<Budget>, token: &str, urgent: bool) -> Option<SpentReason> {
        budget.reserve(&spender(token, urgent), NOW).err().map(|spent| spent.reason)
    }

    #[test]
    fn reserve_is_kept_for_urgent_requests_until_nothing_is_left() {
        let budget = Arc::new(Budget::new(10));
        assert_eq!(refused(&budget, "token a", false), None, "nothing is known yet");
        ask(&budget, "token a", 89);
        assert_eq!(refused(&budget, "token a", false), None);
        ask(&budget, "token a", 90);
        assert_eq!(refused(&budget, "token a", false), Some(SpentReason::Reserve));
        assert_eq!(refused(&budget, "token a", true), None);
        ask(&budget, "token a", 100);
        assert_eq!(refused(&budget, "token a", true), Some(SpentReason::Quota));
        let spent = budget.reserve(&spender("token a", false), NOW).unwrap_err();
        assert_eq!(spent.retry_after, 3600);
        assert_eq!(spent.quota, Some(Quota { limit: 100, used: 100, reset: RESET }));
    }

    #[test]
    fn what_is_under_way_is_not_there_for_others_until_it_is_given_back() {
        let budget = Arc::new(Budget::new(10));
        ask(&budget, "token a", 80);
        let under_way: Vec<_> =
            (0..20).map_while(|_| budget.reserve(&spender("token a", false), NOW).ok()).collect();
        assert_eq!(under_way.len(), 10, "no more than what is left above the reserve");
        // A 304 says that nothing more was used; a reservation that is dropped says nothing.
        let mut under_way = under_way.into_iter();
        under_way.next().unwrap().answered(&headers_with(100, 80, RESET), false, NOW);
        drop(under_way.next());
        let more: Vec<_> =
            (0..20).map_while(|_| budget.reserve(&spender("token a", false), NOW).ok()).collect();
        assert_eq!(more.len(), 2);
    }

    #[test]
    fn what_was_sent_before_anything_was_known_counts_as_under_way() {
        let budget = Arc::new(Budget::new(0));
        let under_way: Vec<_> =
            (0..30).map(|_| budget.reserve(&spender("token a", false), NOW).unwrap()).collect();
        let mut under_way = under_way.into_iter();
        under_way.next().unwrap().answered(&headers_with(100, 60, RESET), true, NOW);
        let more: Vec<_> =
            (0..90).map_while(|_| budget.reserve(&spender("token a", false), NOW).ok()).collect();
        assert_eq!(more.len(), 11, "40 are left, and 29 are under way");
        drop(under_way);
        drop(more);
        assert!(budget.lock().unknown.is_empty());
    }

    #[test]
    fn new_reset_frees_it() {
        let budget = Arc::new(Budget::new(0));
        ask(&budget, "token a", 100);
        assert_eq!(refused(&budget, "token a", false), Some(SpentReason::Quota));
        let later = NOW.saturating_add(Duration::from_secs(3600));
        let reservation = budget.reserve(&spender("token a", false), later).unwrap();
        reservation.answered(&headers_with(100, 1, RESET + 3600), true, later);
        assert!(budget.reserve(&spender("token a", false), later).is_ok());
    }

    #[test]
    fn tokens_of_one_owner_share_what_is_left() {
        let budget = Arc::new(Budget::new(0));
        ask(&budget, "token a", 98);
        ask(&budget, "token b", 99);
        ask(&budget, "token c", 100);
        for token in ["token a", "token b", "token c"] {
            assert_eq!(refused(&budget, token, false), Some(SpentReason::Quota), "{token}");
        }
    }

    #[test]
    fn token_with_less_used_than_was_known_has_a_limit_of_its_own() {
        let budget = Arc::new(Budget::new(0));
        ask(&budget, "token a", 100);
        ask(&budget, "token b", 3);
        assert_eq!(refused(&budget, "token a", false), Some(SpentReason::Quota));
        assert_eq!(refused(&budget, "token b", false), None, "another owner's");
        // By chance as much as was known: its own request would have made that more.
        let budget = Arc::new(Budget::new(0));
        ask(&budget, "token a", 5);
        ask(&budget, "token b", 5);
        assert_eq!(budget.known(&spender("token a", false), NOW).unwrap().0.used, 5);
        ask(&budget, "token a", 100);
        assert_eq!(refused(&budget, "token b", false), None);
    }

    #[test]
    fn answers_that_overtake_each_other_make_no_other_owner() {
        let budget = Arc::new(Budget::new(0));
        ask(&budget, "token a", 1);
        let slow = budget.reserve(&spender("token b", false), NOW).unwrap();
        ask(&budget, "token a", 3);
        ask(&budget, "token a", 4);
        slow.answered(&headers_with(100, 2, RESET), true, NOW);
        ask(&budget, "token a", 100);
        assert_eq!(refused(&budget, "token b", false), Some(SpentReason::Quota));
    }

    #[test]
    fn pause_is_for_its_token_and_not_for_urgent_requests() {
        let budget = Arc::new(Budget::new(0));
        budget.pause(&spender("token a", false).token, Duration::from_secs(60), NOW);
        let spent = budget.reserve(&spender("token a", false), NOW).unwrap_err();
        assert_eq!((spent.reason, spent.retry_after), (SpentReason::Pause, 60));
        assert_eq!(refused(&budget, "token a", true), None);
        assert_eq!(refused(&budget, "token b", false), None);
        let later = NOW.saturating_add(Duration::from_secs(60));
        assert!(budget.reserve(&spender("token a", false), later).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let budget = Arc::new(Budget::new(0));
        for n in 0..MAX_REMEMBERED + 100 {
            let one = spender(&format!("token {n}"), false);
            budget.pause(&one.token, Duration::from_secs(1), NOW);
            let reservation = budget.reserve(&one, NOW);
            if let Ok(reservation) = reservation {
                reservation.answered(&headers_with(100 + n as u64, 1, RESET), true, NOW);
            }
            let urgent = Spender { urgent: true, ..one };
            budget.reserve(&urgent, NOW).unwrap().answered(
                &headers_with(100 + n as u64, 1, RESET),
                true,
                NOW,
            );
        }
        let state = budget.lock();
        assert!(state.windows.len() <= MAX_REMEMBERED && state.tokens.len() <= MAX_REMEMBERED);
        assert!(state.pauses.len() <= MAX_REMEMBERED);
    }
}
