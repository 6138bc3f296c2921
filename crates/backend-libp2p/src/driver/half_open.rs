//! Bounds the connections that others opened and have not secured yet, in all and per address.
//!
//! A connection counts from its first byte until Noise has proved that the other end has the
//! network's key. When there is no room for another one, an older one makes room: whoever holds
//! connections open without the key keeps nobody else out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::task::AtomicWaker;
use libp2p::core::{ConnectedPoint, Multiaddr};
use libp2p::swarm::ConnectionId;

use crate::address::{Host, PeerAddress};

/// A connection over which something has come is not closed for another one before this age:
/// handshakes of many honest peers at once must not end one another.
const GRACE: Duration = Duration::from_millis(500);

/// How many connections may be half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HalfOpenLimits {
    pub(crate) total: usize,
    /// From one IPv4 address, or from one IPv6 network of 64 bits.
    pub(crate) per_address: usize,
}

/// What became of a connection that wanted a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    /// An older connection was closed for it.
    MadeFree,
    /// There is none: all connections that could make room are too young.
    None,
}

/// The connections that are half open. Shared by the transport, whose sockets obey it, and the
/// behaviour, which fills it.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    limits: HalfOpenLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By age, the oldest first.
    open: BTreeMap<u64, Open>,
    numbers: HashMap<ConnectionId, u64>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    id: ConnectionId,
    network: IpAddr,
    /// Local and remote.
    ends: (Multiaddr, Multiaddr),
    since: Duration,
    pass: Arc<Pass>,
}

impl HalfOpen {
    pub(crate) fn new(limits: HalfOpenLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection from `remote` wants a place.
    pub(crate) fn enter(
        &self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
        now: Duration,
    ) -> Place {
        let network = network(remote);
        let mut state = self.lock();
        let of_network = state.open.values().filter(|open| open.network == network).count();
        let crowd = if of_network >= self.limits.per_address {
            Some(network)
        } else if state.open.len() >= self.limits.total {
            state.busiest()
        } else {
            None
        };
        let place = match crowd {
            None => Place::Free,
            Some(crowd) => match state.least_worthy(crowd, now) {
                Some(number) => {
                    state.close(number);
                    Place::MadeFree
                }
                None => return Place::None,
            },
        };
        state.next += 1;
        let number = state.next;
        let ends = (local.clone(), remote.clone());
        state.numbers.insert(id, number);
        state.open.insert(number, Open { id, network, ends, since: now, pass: Arc::default() });
        place
    }

    /// The connection is secured, and counts no more. `false` when it was closed meanwhile.
    pub(crate) fn secured(&self, id: ConnectionId) -> bool {
        self.lock().take(id).is_some_and(|open| open.pass.move_on(SECURED))
    }

    /// The connection has ended.
    pub(crate) fn ended(&self, id: ConnectionId) {
        self.lock().take(id);
    }

    /// A socket that ends when its connection has to make room. Those that this node dialled do
    /// not.
    pub(crate) fn guard<S>(&self, socket: S, endpoint: &ConnectedPoint) -> Guarded<S> {
        let pass = match endpoint {
            ConnectedPoint::Dialer { .. } => None,
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                let state = self.lock();
                let is_it = |open: &&Open| open.ends.0 == *local_addr && open.ends.1 == *send_back_addr;
                let pass = state.open.values().rev().find(is_it).map(|open| Arc::clone(&open.pass));
                // It had to make room before its socket was looked at.
                Some(pass.unwrap_or_else(|| Arc::new(Pass::of(EVICTED))))
            }
        };
        Guarded { socket, pass }
    }
}

impl State {
    /// The network with the most connections.
    fn busiest(&self) -> Option<IpAddr> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for open in self.open.values() {
            *counts.entry(open.network).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        // Of several, the one with the oldest connection.
        self.open.values().map(|open| open.network).find(|network| counts.get(network) == Some(&most))
    }

    /// Which connection of `network` makes room: the oldest that has sent nothing, else the oldest.
    fn least_worthy(&self, network: IpAddr, now: Duration) -> Option<u64> {
        let of_network = || self.open.iter().filter(|(_, open)| open.network == network);
        let silent = of_network().find(|(_, open)| open.pass.is(SILENT));
        let old = || of_network().find(|(_, open)| now.saturating_sub(open.since) >= GRACE);
        silent.or_else(old).map(|(number, _)| *number)
    }

    fn close(&mut self, number: u64) {
        if let Some(open) = self.open.remove(&number) {
            self.numbers.remove(&open.id);
            open.pass.move_on(EVICTED);
            open.pass.waker.wake();
        }
    }

    fn take(&mut self, id: ConnectionId) -> Option<Open> {
        let number = self.numbers.remove(&id)?;
        self.open.remove(&number)
    }
}

/// Whom a connection counts for: who has an IPv6 address has 2^64 of them.
fn network(remote: &Multiaddr) -> IpAddr {
    let host = PeerAddress::from_multiaddr(remote).map(|address| address.host);
    let Some(Host::Ip(ip)) = host else { return Ipv6Addr::UNSPECIFIED.into() };
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

const SILENT: u8 = 0;
const HEARD: u8 = 1;
const SECURED: u8 = 2;
const EVICTED: u8 = 3;

/// How far a connection is, as its socket sees it.
#[derive(Debug, Default)]
struct Pass {
    state: AtomicU8,
    /// Of the task that reads.
    waker: AtomicWaker,
}

impl Pass {
    const fn of(state: u8) -> Self {
        Self { state: AtomicU8::new(state), waker: AtomicWaker::new() }
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) == state
    }

    /// To a later state. `false` when it is there or beyond.
    fn move_on(&self, state: u8) -> bool {
        self.state.fetch_max(state, Ordering::AcqRel) < state
    }
}

/// A socket that ends with [`io::ErrorKind::ConnectionAborted`] when its connection has to make
/// room.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    socket: S,
    /// `None` once the connection is secured.
    pass: Option<Arc<Pass>>,
}

impl<S> Guarded<S> {
    fn check(&mut self, reads: Option<&Context<'_>>) -> io::Result<()> {
        let Some(pass) = &self.pass else { return Ok(()) };
        if let Some(cx) = reads {
            pass.waker.register(cx.waker());
        }
        if pass.is(EVICTED) {
            let why = "closed to make room for another connection";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        if pass.is(SECURED) {
            self.pass = None;
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.check(Some(cx))?;
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if let (Poll::Ready(Ok(1..)), Some(pass)) = (&read, &self.pass) {
            pass.move_on(HEARD);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(None)?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::io::{AsyncReadExt, Cursor};

    use super::*;

    fn local() -> Multiaddr {
        "/ip4/10.0.0.1/tcp/9100".parse().unwrap()
    }

    fn from(host: &str, port: u16) -> Multiaddr {
        format!("{host}/tcp/{port}").parse().unwrap()
    }

    struct Crowd {
        half_open: HalfOpen,
        ports: u16,
        sockets: Vec<Guarded<Cursor<&'static [u8]>>>,
    }

    impl Crowd {
        fn new(total: usize, per_address: usize) -> Self {
            let half_open = HalfOpen::new(HalfOpenLimits { total, per_address });
            Self { half_open, ports: 0, sockets: Vec::new() }
        }

        /// Opens a connection; its number is its place in `sockets` and its id.
        fn open(&mut self, host: &str, at_ms: u64) -> Place {
            self.ports += 1;
            let remote = from(host, self.ports);
            let id = ConnectionId::new_unchecked(self.sockets.len());
            let place = self.half_open.enter(id, &local(), &remote, Duration::from_millis(at_ms));
            let endpoint = ConnectedPoint::Listener { local_addr: local(), send_back_addr: remote };
            self.sockets.push(self.half_open.guard(Cursor::new(&b"hello"[..]), &endpoint));
            place
        }

        fn is_open(&mut self, at: usize) -> bool {
            self.sockets[at].check(None).is_ok()
        }

        fn hear(&mut self, at: usize) {
            let read = futures_util::FutureExt::now_or_never(self.sockets[at].read(&mut [0]));
            assert_eq!(read.unwrap().unwrap(), 1);
        }
    }

    const HERE: &str = "/ip4/10.0.0.7";

    #[test]
    fn beyond_the_bound_of_an_address_its_oldest_silent_connection_is_closed() {
        let mut crowd = Crowd::new(10, 3);
        crowd.open("/ip4/10.0.0.8", 0);
        for _ in 0..3 {
            assert_eq!(crowd.open(HERE, 0), Place::Free);
        }
        crowd.hear(1);
        assert_eq!(crowd.open(HERE, 1), Place::MadeFree);
        let open: Vec<_> = (0..5).map(|at| crowd.is_open(at)).collect();
        assert_eq!(open, [true, true, false, true, true], "neither the other address nor who has spoken");
        assert!(!crowd.half_open.secured(ConnectionId::new_unchecked(2)), "closed meanwhile");
        assert!(crowd.half_open.secured(ConnectionId::new_unchecked(1)));
    }

    #[test]
    fn connections_that_have_sent_something_make_room_by_age_only() {
        let mut crowd = Crowd::new(10, 2);
        for at in 0..2 {
            crowd.open(HERE, 0);
            crowd.hear(at);
        }
        assert_eq!(crowd.open(HERE, 499), Place::None);
        assert!(crowd.is_open(0) && crowd.is_open(1) && !crowd.is_open(2));
        assert_eq!(crowd.open(HERE, 500), Place::MadeFree);
        assert!(!crowd.is_open(0) && crowd.is_open(1) && crowd.is_open(3));
    }

    #[test]
    fn beyond_the_total_the_address_with_the_most_makes_room() {
        let mut crowd = Crowd::new(4, 3);
        crowd.open("/ip4/10.0.0.8", 0);
        for _ in 0..3 {
            crowd.open(HERE, 0);
        }
        assert_eq!(crowd.open("/ip4/10.0.0.9", 0), Place::MadeFree);
        assert!(crowd.is_open(0) && !crowd.is_open(1) && crowd.is_open(2) && crowd.is_open(4));
    }

    #[test]
    fn secured_and_ended_connections_give_their_places_back() {
        let mut crowd = Crowd::new(10, 1);
        crowd.open(HERE, 0);
        assert!(crowd.half_open.secured(ConnectionId::new_unchecked(0)));
        assert_eq!(crowd.open(HERE, 0), Place::Free);
        crowd.half_open.ended(ConnectionId::new_unchecked(1));
        assert_eq!(crowd.open(HERE, 0), Place::Free);
        assert!(crowd.is_open(0) && crowd.sockets[0].pass.is_none(), "a secured one is checked no more");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together_and_mapped_ones_as_ipv4() {
        let of = |host: &str| network(&from(host, 1));
        assert_eq!(of("/ip6/2001:db8::1"), of("/ip6/2001:db8::ffff:1"));
        assert_ne!(of("/ip6/2001:db8::1"), of("/ip6/2001:db8:0:1::1"));
        assert_eq!(of("/ip6/::ffff:10.0.0.7"), of(HERE));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_when_its_connection_makes_room() {
        let half_open = HalfOpen::new(HalfOpenLimits { total: 1, per_address: 1 });
        let enter = |id, port| {
            half_open.enter(ConnectionId::new_unchecked(id), &local(), &from(HERE, port), Duration::ZERO)
        };
        enter(0, 1);
        let (socket, _other_end) = tokio::io::duplex(16);
        let socket = tokio_util::compat::TokioAsyncReadCompatExt::compat(socket);
        let endpoint = ConnectedPoint::Listener { local_addr: local(), send_back_addr: from(HERE, 1) };
        let mut guarded = half_open.guard(socket, &endpoint);
        let reading = tokio::spawn(async move { guarded.read(&mut [0]).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        assert_eq!(enter(1, 2), Place::MadeFree);
        assert_eq!(reading.await.unwrap(), Err(io::ErrorKind::ConnectionAborted));
    }
}
