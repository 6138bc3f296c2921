//! The least time between two requests of one token, where that is asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::token::TokenId;

/// How many tokens are remembered; above it those whose turn has passed are forgotten.
const MAX_TOKENS: usize = 10_000;

/// Gives each token's requests their turns.
#[derive(Debug)]
pub(crate) struct Pace {
    least: Duration,
    turns: Mutex<HashMap<TokenId, Instant>>,
}

impl Pace {
    /// A pace of one request in `least`; zero is no pace.
    pub(crate) fn new(least: Duration) -> Self {
        Self { least, turns: Mutex::default() }
    }

    pub(crate) const fn is_set(&self) -> bool {
        !self.least.is_zero()
    }

    /// Waits for the turn of a request of this token. `false`, at once, if that is later than
    /// `most` from now. Cancel-safe; a turn that is not taken passes.
    pub(crate) async fn turn(&self, token: &TokenId, most: Duration) -> bool {
        if !self.is_set() {
            return true;
        }
        let now = Instant::now();
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= MAX_TOKENS {
                turns.retain(|_, next| *next > now);
            }
            let turn = turns.get(token).copied().map_or(now, |next| next.max(now));
            if turn.saturating_duration_since(now) > most || turns.len() >= MAX_TOKENS {
                return false;
            }
            turns.insert(token.clone(), turn + self.least);
            turn
        };
        sleep_until(turn).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;

    fn token(n: usize) -> TokenId {
        let value = http::HeaderValue::from_str(&format!("token {n}")).unwrap();
        TokenHasher::new([1; 32]).id(Some(&value))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_one_token_are_spaced_and_those_of_others_are_not() {
        let pace = Pace::new(Duration::from_secs(1));
        let most = Duration::from_secs(3);
        let start = Instant::now();
        let mut turns = Vec::new();
        for n in [1, 1, 2, 1] {
            assert!(pace.turn(&token(n), most).await);
            turns.push(start.elapsed().as_secs());
        }
        assert_eq!(turns, [0, 1, 1, 2]);
        let third = token(3);
        let waiting = futures_util::future::join_all((0..6).map(|_| pace.turn(&third, most))).await;
        assert_eq!(waiting, [true, true, true, true, false, false], "no queue is longer than the bound");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_nobody_waits_and_nothing_is_remembered() {
        let pace = Pace::new(Duration::ZERO);
        for _ in 0..10 {
            assert!(pace.turn(&token(1), Duration::ZERO).await);
        }
        assert!(pace.turns.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_bounded() {
        let pace = Pace::new(Duration::from_secs(1));
        for n in 0..MAX_TOKENS {
            assert!(pace.turn(&token(n), Duration::ZERO).await);
        }
        assert!(!pace.turn(&token(MAX_TOKENS), Duration::ZERO).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(pace.turn(&token(MAX_TOKENS), Duration::ZERO).await);
    }
}
