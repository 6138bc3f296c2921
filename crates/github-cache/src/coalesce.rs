//! Concurrent identical requests of one token become one upstream request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use peercache::Key;
use tokio::sync::watch;

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// What it fetched is in the store.
    Stored,
    /// There is nothing in the store for those who waited.
    Nothing,
}

type Running = Mutex<HashMap<Key, watch::Receiver<Option<Landing>>>>;

/// The upstream requests that are running, by grant. Bounded by the requests that there are: each
/// flight has one that leads it.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    running: Arc<Running>,
}

/// A request's part in a flight.
#[derive(Debug)]
pub(crate) enum Seat {
    /// It asks upstream, and tells the others how that ended.
    Lead(Leader),
    /// Another one does.
    Follow(Follower),
}

impl Flights {
    /// Whether a flight for `key` is under way.
    pub(crate) fn is_under_way(&self, key: &Key) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Joins the flight for `key`, or begins it.
    pub(crate) fn join(&self, key: &Key) -> Seat {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(key) {
            return Seat::Follow(Follower(flight.clone()));
        }
        let (landed, flight) = watch::channel(None);
        running.insert(key.clone(), flight);
        Seat::Lead(Leader { key: key.clone(), landed, running: Arc::clone(&self.running) })
    }
}

/// Ends its flight when dropped, so nobody waits for one that was given up.
#[derive(Debug)]
pub(crate) struct Leader {
    key: Key,
    landed: watch::Sender<Option<Landing>>,
    running: Arc<Running>,
}

impl Leader {
    /// Whether somebody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        // One receiver is the flight's own.
        self.landed.receiver_count() > 1
    }

    /// Tells those who wait.
    pub(crate) fn land(self, landing: Landing) {
        self.end(landing);
    }

    fn end(&self, landing: Landing) {
        // Out of the map first: whoever comes from here on looks into the store itself.
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.landed.send_if_modified(|state| {
            let first = state.is_none();
            state.get_or_insert(landing);
            first
        });
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.landed.borrow().is_none() {
            self.end(Landing::Nothing);
        }
    }
}

/// Waits for somebody else's flight.
#[derive(Debug)]
pub(crate) struct Follower(watch::Receiver<Option<Landing>>);

impl Follower {
    /// How it ended. Cancel-safe.
    pub(crate) async fn landing(mut self) -> Landing {
        match self.0.wait_for(Option::is_some).await {
            Ok(landing) => landing.unwrap_or(Landing::Nothing),
            Err(_) => Landing::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Flights, key: &Key) -> Leader {
        match flights.join(key) {
            Seat::Lead(leader) => leader,
            Seat::Follow(_) => panic!("expected to lead"),
        }
    }

    fn follow(flights: &Flights, key: &Key) -> Follower {
        match flights.join(key) {
            Seat::Follow(follower) => follower,
            Seat::Lead(_) => panic!("expected to follow"),
        }
    }

    #[tokio::test]
    async fn everyone_who_joined_hears_the_same() {
        let (flights, key) = (Flights::default(), Key::new("k").unwrap());
        let leader = lead(&flights, &key);
        let followers: Vec<_> = (0..100).map(|_| follow(&flights, &key)).collect();
        drop(lead(&flights, &Key::new("other").unwrap()));
        leader.land(Landing::Stored);
        for follower in followers {
            assert_eq!(follower.landing().await, Landing::Stored);
        }
        drop(lead(&flights, &key));
        assert!(flights.running.lock().unwrap().is_empty(), "nothing is remembered");
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_ends_its_flight() {
        let (flights, key) = (Flights::default(), Key::new("k").unwrap());
        let leader = lead(&flights, &key);
        let follower = follow(&flights, &key);
        drop(leader);
        assert_eq!(follower.landing().await, Landing::Nothing);
    }
}
