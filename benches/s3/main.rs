//! The S3 tier beside the AWS SDK called directly and beside `object_store`, on the same SeaweedFS,
//! taking turns: requests one at a time, and large values through the `Cache`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

mod clients;
mod requests;
mod table;
mod throughput;

use peercache_testkit::servers::SeaweedFs;

use clients::Clients;

/// What is measured how often. The server keeps about 2.5 GiB, which bounds both.
struct Rounds {
    /// Of requests of 1 KiB.
    small: usize,
    /// Of requests of 1 MiB.
    large: usize,
    /// Of values of 64 MiB.
    values: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = match quick {
        true => Rounds { small: 200, large: 50, values: 3 },
        false => Rounds { small: 2000, large: 200, values: 7 },
    };
    // `object_store` makes a client that could speak TLS, though nobody here does.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let clients = Clients::open(&server).await;
    requests::compare(&clients, rounds.small, rounds.large).await;
    drop(server);

    // Another one: what the requests have left behind would fill the first.
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let clients = Clients::open(&server).await;
    throughput::compare(&server, &clients, rounds.values).await;
}
