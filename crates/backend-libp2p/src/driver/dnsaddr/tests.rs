//! Look-ups at a name server of the test's own, on loopback.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};
use libp2p::identity::Keypair;
use tokio::net::UdpSocket;

use super::*;
use crate::driver::resolve::resolve;
use crate::{NetworkKey, Peers, RoleChoice};

/// Answers for the names that it knows, and says that all others do not exist.
struct Server {
    at: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Vec<String>>>>,
    /// The names that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self { at: socket.local_addr().unwrap(), zone: Arc::default(), asked: Arc::default() };
        let (zone, asked) = (Arc::clone(&server.zone), Arc::clone(&server.asked));
        tokio::spawn(async move {
            let mut bytes = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                let answer = answer(&bytes[..length], &zone, &asked);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        server
    }

    /// `records` of `_dnsaddr.NAME`, instead of what there was.
    fn set(&self, name: &str, records: &[&str]) {
        let records = records.iter().map(ToString::to_string).collect();
        self.zone.lock().unwrap().insert(format!("_dnsaddr.{name}."), records);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn records(&self) -> TextRecords {
        TextRecords::at(self.at)
    }

    /// What `/dnsaddr/…` leads to.
    async fn resolve(&self, address: &str) -> Result<Vec<String>, String> {
        let found = resolve(&self.records(), &address.parse().unwrap()).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}

fn answer(
    question: &[u8],
    zone: &Mutex<HashMap<String, Vec<String>>>,
    asked: &Mutex<Vec<String>>,
) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    let name = message.queries[0].name().clone();
    asked.lock().unwrap().push(name.to_string());
    match zone.lock().unwrap().get(&name.to_string()) {
        Some(records) => message.add_answers(records.iter().map(|text| {
            // As long ones travel: in strings of at most 255 bytes.
            let strings = text.as_bytes().chunks(200).collect();
            Record::from_rdata(name.clone(), 3600, RData::TXT(TXT::from_bytes(strings)))
        })),
        None => {
            message.metadata.response_code = ResponseCode::NXDomain;
            &mut message
        }
    };
    message.to_vec().unwrap()
}

fn id() -> String {
    Keypair::generate_ed25519().public().to_peer_id().to_string()
}

#[tokio::test]
async fn records_that_hold_an_address_of_ours_are_followed_and_all_else_is_passed_over() {
    let server = Server::start().await;
    let (one, long) = (id(), "a".repeat(60));
    let named = format!("/ip4/10.0.0.1/tcp/9100/p2p/{one}");
    let text = |address: &str| format!("dnsaddr={address}");
    server.set(
        "peers.test",
        &[
            &text(&named),
            &text("/ip6/fd00::1/tcp/9100"),
            "v=spf1 -all",
            "/ip4/10.0.0.2/tcp/9100",
            &text("/ip4/10.0.0.3/udp/9100/quic-v1"),
            &text("/ip4/169.254.169.254/tcp/80"),
            &text("nonsense"),
            &text(&format!("/dnsaddr/{long}.{long}.{long}.{long}.test")),
        ],
    );
    let nested = text("/ip4/10.0.0.4/tcp/9100");
    server.set(&format!("{long}.{long}.{long}.{long}.test"), &[&nested]);
    let found = server.resolve("/dnsaddr/peers.test").await.unwrap();
    assert_eq!(found, [named.as_str(), "/ip6/fd00::1/tcp/9100"]);
    assert_eq!(
        server.resolve("/dnsaddr/nobody.test").await.unwrap_err(),
        "no text record of _dnsaddr.nobody.test holds an address that is used here"
    );
}

#[tokio::test]
async fn the_name_of_a_peer_picks_its_records() {
    let server = Server::start().await;
    let (wanted, other) = (id(), id());
    let of = |last: u8, peer: &str| format!("dnsaddr=/ip4/10.0.0.{last}/tcp/9100/p2p/{peer}");
    server.set(
        "peers.test",
        &[&of(1, &wanted), &of(2, &other), "dnsaddr=/ip4/10.0.0.3/tcp/9100", "dnsaddr=/dnsaddr/more.test"],
    );
    server.set("more.test", &[&of(4, &other), &of(5, &wanted)]);
    let found = server.resolve(&format!("/dnsaddr/peers.test/p2p/{wanted}")).await.unwrap();
    // Who is not named may be the one: only that one is talked to there.
    let expected = [1, 3, 5].map(|last| format!("/ip4/10.0.0.{last}/tcp/9100/p2p/{wanted}"));
    assert_eq!(found, expected);
    let nobody = id();
    server.set("more.test", &[&of(4, &other)]);
    server.set("peers.test", &[&of(1, &wanted)]);
    let error = server.resolve(&format!("/dnsaddr/peers.test/p2p/{nobody}")).await.unwrap_err();
    assert_eq!(error, format!("no text record of _dnsaddr.peers.test holds an address of {nobody}"));
}

#[tokio::test]
async fn names_lead_to_names_and_not_for_ever() {
    let server = Server::start().await;
    for at in 0..10 {
        let next = format!("dnsaddr=/dnsaddr/n{}.test", at + 1);
        server.set(&format!("n{at}.test"), &[&next, &format!("dnsaddr=/ip4/10.0.0.{at}/tcp/1")]);
    }
    let found = server.resolve("/dnsaddr/n0.test").await.unwrap();
    assert_eq!(found, [0, 1, 2, 3].map(|at| format!("/ip4/10.0.0.{at}/tcp/1")));
    assert_eq!(server.asked(), DEPTH);
    // Round in a circle.
    server.set("a.test", &["dnsaddr=/dnsaddr/b.test"]);
    server.set("b.test", &["dnsaddr=/dnsaddr/a.test"]);
    let before = server.asked();
    assert!(server.resolve("/dnsaddr/a.test").await.is_err());
    assert_eq!(server.asked(), before + 2);
    // To many at once.
    let many: Vec<_> = (0..20).map(|at| format!("dnsaddr=/dnsaddr/m{at}.test")).collect();
    server.set("many.test", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let before = server.asked();
    assert!(server.resolve("/dnsaddr/many.test").await.is_err());
    assert_eq!(server.asked(), before + MOST_NAMES);
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_says_nothing_is_waited_for_so_long() {
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let records = TextRecords::at(silent.local_addr().unwrap());
    let begun = tokio::time::Instant::now();
    let error = resolve(&records, &"/dnsaddr/peers.test".parse().unwrap()).await.unwrap_err();
    assert_eq!(error, "no name server answered for _dnsaddr.peers.test within 2 s");
    assert!(begun.elapsed() < LIMIT);
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(),
        "it never came about that {what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_its_peers_by_records_that_come_later() {
    let server = Server::start().await;
    let key = NetworkKey::new([1; 32], Some([2; 32]), *b"testnet1");
    let anchor = Peers::builder(key.clone()).role(RoleChoice::Anchor).listen_port(Some(0));
    let anchor = anchor.listen_ips(vec![Ipv4Addr::LOCALHOST.into()]).start().await.unwrap();
    let limits = crate::Limits { connect_wait: Duration::ZERO, ..Default::default() };
    let leaf = Peers::builder(key).bootstrap(vec!["/dnsaddr/peers.test".parse().unwrap()]).limits(limits);
    let leaf = leaf.records(server.records()).start().await.unwrap();
    let trouble = || leaf.report().bootstrap.first().and_then(|it| it.trouble.clone());
    until("it says what is missing", || trouble().is_some()).await;
    assert_eq!(
        trouble().unwrap(),
        "no text record of _dnsaddr.peers.test holds an address that is used here"
    );
    server.set("peers.test", &[&format!("dnsaddr={}", anchor.addresses()[0])]);
    until("it is connected", || leaf.report().connected == 1).await;
}
