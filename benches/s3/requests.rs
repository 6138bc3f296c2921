//! Requests, one at a time.

use bytes::Bytes;

use crate::clients::{Clients, Get, Put};
use crate::table::{Bar, Times, turns};

/// The most that a tier's request may take, as a multiple of the SDK's, at p50.
const BAR: Bar = Bar::AtMost(1.1);
/// Connections, volumes and the probe of the conditions are not what is measured.
const WARM: usize = 8;

/// The tier first. What has a bar is the SDK doing the same: a write that must not replace a newer
/// one has to ask for it. The others say where the time goes.
const PUTS: [(Put, &str, Bar); 7] = [
    (Put::Tier, "", Bar::None),
    (Put::Sdk, "SDK", Bar::None),
    (Put::SdkIfNone, "SDK, If-None-Match", Bar::None),
    (Put::SdkFolders, "SDK, our names", Bar::None),
    (Put::SdkSame, "SDK, our request", BAR),
    (Put::Objects, "object_store", Bar::None),
    (Put::ObjectsIfNone, "object_store, create", Bar::None),
];
const GETS: [(Get, &str, Bar); 3] =
    [(Get::Tier, "", Bar::None), (Get::Sdk, "SDK", BAR), (Get::Objects, "object_store", Bar::None)];

pub(crate) async fn compare(clients: &Clients, small: usize, large: usize) {
    println!("one at a time, taking turns on one SeaweedFS: {small} of each of 1 KiB, {large} of 1 MiB\n");
    println!("operation  size  reference               ours p50    its p50 ratio p50 ratio p99");
    for (size, name, rounds) in [(1 << 10, "1 KiB", small), (1 << 20, "1 MiB", large)] {
        sized(clients, size, name, rounds).await;
    }
    misses(clients, small).await;
    println!("\nThe bar: at most 1.1 times the SDK at p50, for the same request.\n");
}

async fn sized(clients: &Clients, size: usize, shown: &str, rounds: usize) {
    let value =
        Bytes::from((0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    for n in 0..WARM {
        for (how, _, _) in PUTS {
            clients.put(how, &format!("{size} warm {n}"), &value).await;
        }
    }

    let (mut times, sent) = (Times::for_each(&PUTS), clients.sent());
    for n in 0..rounds {
        for side in turns(n, PUTS.len()) {
            times.add(side, clients.put(PUTS[side].0, &format!("{size} {n}"), &value).await);
        }
    }
    assert_eq!(clients.sent() - sent, rounds as u64, "a put is one request");
    times.print("put", shown, &PUTS.map(|(_, name, bar)| (name, bar)));

    let (mut times, sent) = (Times::for_each(&GETS), clients.sent());
    for n in 0..rounds {
        for side in turns(n, GETS.len()) {
            times.add(side, clients.get(GETS[side].0, &format!("{size} {n}"), Some(size)).await);
        }
    }
    assert_eq!(clients.sent() - sent, rounds as u64, "a hit is one request");
    times.print("hit", shown, &GETS.map(|(_, name, bar)| (name, bar)));
}

async fn misses(clients: &Clients, rounds: usize) {
    let (mut times, sent) = (Times::for_each(&GETS), clients.sent());
    for n in 0..rounds {
        for side in turns(n, GETS.len()) {
            times.add(side, clients.get(GETS[side].0, &format!("nothing {n}"), None).await);
        }
    }
    assert_eq!(clients.sent() - sent, rounds as u64, "a miss is one request");
    times.print("miss", "", &GETS.map(|(_, name, bar)| (name, bar)));
}
