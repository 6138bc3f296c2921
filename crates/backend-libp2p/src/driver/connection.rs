//! The task of one connection: greets the peer, runs the lanes, and tidies up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::Stream;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::greet::{HELLO_LIMIT, Meeting, greet};
use super::handler::{LaneKind, Lanes};
use super::hello::{Refused, Side};
use super::lane::{Lane, LaneEnd};
use super::link::Link;
use super::{incoming, outgoing};
use crate::address::{Host, PeerAddress};
use crate::wire::{MAX_ADDRESSES, Message, PeerKey};

/// How long the dialler has to open the second lane.
const BULK_LIMIT: Duration = Duration::from_secs(5);

/// A connection that Noise has secured.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerKey,
    pub(crate) side: Side,
    /// Where the other end is.
    pub(crate) remote: String,
    pub(crate) ip: Option<IpAddr>,
}

/// Serves `connection` until it ends, for whatever reason. Says why the peer did not become a link,
/// where it or this node refused the other.
pub(crate) async fn serve(engine: Arc<Engine>, connection: Connection, mut lanes: Lanes) -> Option<Refused> {
    match establish(&engine, &connection, &mut lanes).await {
        Ok(Some(established)) => {
            let link = Arc::clone(&established.link);
            let why = run(&engine, established, lanes).await;
            tracing::debug!(peer = ?connection.peer, remote = connection.remote, why, "disconnected");
            engine.disconnect(&link);
            None
        }
        Ok(None) => {
            engine.tally.duplicates.up();
            None
        }
        Err(refused) => {
            engine.tally.refused(refused);
            let (peer, remote) = (connection.peer, &connection.remote);
            match refused {
                Refused::Unheard | Refused::Gone => {
                    tracing::debug!(?peer, remote, "the connection ended before the handshake");
                }
                _ => tracing::warn!(?peer, remote, why = %refused, "a peer was refused"),
            }
            Some(refused)
        }
    }
}

struct Established {
    link: Arc<Link>,
    small: Stream,
    bulk: Option<Stream>,
}

/// `None` when another connection with the peer is kept.
async fn establish(
    engine: &Arc<Engine>,
    connection: &Connection,
    lanes: &mut Lanes,
) -> Result<Option<Established>, Refused> {
    let Connection { peer, side, .. } = *connection;
    if side == Side::Listener {
        return welcome(engine, connection, lanes).await;
    }
    if !engine.greets(peer) {
        return Ok(None);
    }
    // Ends the greeting also when this task is aborted.
    let _greeted = scopeguard(|| engine.greeted(peer));
    welcome(engine, connection, lanes).await
}

async fn welcome(
    engine: &Arc<Engine>,
    connection: &Connection,
    lanes: &mut Lanes,
) -> Result<Option<Established>, Refused> {
    let mut bulk = None;
    let first = tokio::time::timeout(HELLO_LIMIT, async {
        loop {
            match lanes.recv().await {
                Some((LaneKind::Small, stream)) => return Ok(stream),
                Some((LaneKind::Bulk, stream)) => bulk = Some(stream),
                None => return Err(Refused::Unheard),
            }
        }
    });
    let mut small = first.await.map_err(|_| Refused::TooSlow)??;
    let mut nonce = [0; 32];
    // Without random bytes nothing can be proved; the peer will come again.
    getrandom::fill(&mut nonce).map_err(|_| Refused::Gone)?;
    let mine = engine.greeting(nonce, connection.ip.is_some_and(|ip| ip.to_canonical().is_loopback()));
    let meeting =
        Meeting { key: &engine.setup.key, side: connection.side, me: engine.me, peer: connection.peer };
    let (mut theirs, writer) = greet(&mut small, &meeting, &mine).await?;
    engine.tally.greeted.up();
    if connection.side == Side::Listener {
        theirs.addresses = with_observed(theirs.addresses, connection.ip);
    }
    let of = (connection.peer, connection.side == Side::Dialler, theirs.instance);
    let link = engine.connect(of, connection.remote.clone(), theirs.into_hello(writer));
    Ok(link.map(|link| Established { link, small, bulk }))
}

/// Puts the address that the peer came from, with the port that it announces, in front: behind NAT
/// or in a container it does not know it itself.
fn with_observed(addresses: Vec<String>, ip: Option<IpAddr>) -> Vec<String> {
    let port = addresses.iter().find_map(|text| {
        let address: PeerAddress = text.parse().ok()?;
        matches!(address.host, Host::Ip(_)).then_some(address.port)
    });
    let observed = port.zip(ip).map(|(port, ip)| PeerAddress::at(ip.to_canonical(), port).to_string());
    let known = |text: &String| addresses.contains(text);
    let mut all: Vec<_> = observed.filter(|text| !known(text)).into_iter().collect();
    all.extend(addresses);
    all.truncate(MAX_ADDRESSES);
    all
}

/// Runs both lanes until one ends or the link is closed. Says why.
async fn run(engine: &Arc<Engine>, established: Established, mut lanes: Lanes) -> String {
    let Established { link, small, bulk } = established;
    let frames = (incoming::Frames::default(), outgoing::Frames);
    let small = Lane::new(
        small,
        frames.0,
        frames.1,
        Arc::clone(&link.small),
        Arc::clone(&link.traffic),
        deliver(engine, &link),
    );
    let mut small = Ends::spawn(small);
    let bulk = match bulk {
        Some(bulk) => Ok(bulk),
        None => tokio::select! {
            biased;
            why = link.closed() => Err(why.to_owned()),
            end = &mut small.0 => return ended(engine, end),
            lane = tokio::time::timeout(BULK_LIMIT, lanes.recv()) => match lane {
                Ok(Some((LaneKind::Bulk, stream))) => Ok(stream),
                _ => Err("the second lane was not opened".to_owned()),
            },
        },
    };
    let bulk = match bulk {
        Ok(bulk) => bulk,
        Err(why) => return why,
    };
    let chunks = incoming::Chunks::new(Arc::clone(&engine.arriving));
    let bulk = Lane::new(
        bulk,
        chunks,
        outgoing::Chunks::default(),
        Arc::clone(&link.bulk),
        Arc::clone(&link.traffic),
        deliver(engine, &link),
    );
    // Until the dialler writes to it, the other side does not know the stream.
    let bulk = if link.dialled { bulk.beginning_with(&[0; outgoing::CHUNK_HEADER_BYTES]) } else { bulk };
    let mut bulk = Ends::spawn(bulk);
    tokio::select! {
        biased;
        why = link.closed() => why.to_owned(),
        end = &mut small.0 => ended(engine, end),
        end = &mut bulk.0 => ended(engine, end),
        // Nothing more comes over this channel: a third stream ends in the handler.
        () = gone(&mut lanes) => "the connection ended".to_owned(),
    }
}

async fn gone(lanes: &mut Lanes) {
    while lanes.recv().await.is_some() {}
}

fn deliver(engine: &Arc<Engine>, link: &Arc<Link>) -> impl FnMut(&mut Vec<Message>) + Unpin + Send + 'static {
    let (engine, link) = (Arc::clone(engine), Arc::clone(link));
    move |messages| engine.received(&link, messages)
}

fn ended(engine: &Engine, end: Result<LaneEnd, tokio::task::JoinError>) -> String {
    match end {
        Ok(end) => {
            engine.tally.lane_ended(&end);
            if !matches!(end, LaneEnd::Closed) {
                tracing::warn!(why = %end, "a connection was closed");
            }
            end.to_string()
        }
        Err(error) => {
            tracing::error!(%error, "a lane's task failed");
            "its task failed".to_owned()
        }
    }
}

/// A lane's task, which ends with this.
struct Ends(JoinHandle<LaneEnd>);

impl Ends {
    fn spawn(lane: impl Future<Output = LaneEnd> + Send + 'static) -> Self {
        Self(tokio::spawn(lane))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Guard<F: FnMut()>(F);

fn scopeguard<F: FnMut()>(end: F) -> Guard<F> {
    Guard(end)
}

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_was_seen_is_tried_first_with_the_port_that_was_told() {
        let told = vec!["/ip4/10.0.0.5/tcp/9100".to_owned()];
        let seen = |ip: &str| with_observed(told.clone(), Some(ip.parse().unwrap()));
        assert_eq!(seen("172.17.0.3"), ["/ip4/172.17.0.3/tcp/9100", "/ip4/10.0.0.5/tcp/9100"]);
        assert_eq!(seen("::ffff:172.17.0.3")[0], "/ip4/172.17.0.3/tcp/9100");
        assert_eq!(seen("10.0.0.5"), told);
        assert_eq!(with_observed(Vec::new(), Some("1.2.3.4".parse().unwrap())), Vec::<String>::new());
        assert_eq!(with_observed(vec![told[0].clone(); 8], Some("1.2.3.4".parse().unwrap())).len(), 8);
    }
}
