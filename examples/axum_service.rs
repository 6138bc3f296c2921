//! A small web service in front of a slow origin: typed values, stale ones while they are
//! refreshed, absence, tags, metrics, and a clock that tests can move.
//!
//! ```sh
//! cargo run --example axum_service
//! curl -i localhost:8080/quotes/ACME          # 200; X-Cache says where it came from
//! curl -i localhost:8080/quotes/NONE          # 404, and the origin is asked once in five seconds
//! curl -i -X POST localhost:8080/quotes/ACME/refresh
//! curl -i -X DELETE localhost:8080/quotes
//! curl -s localhost:8080/metrics
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use peercache::{By, Cache, FetchError, Fetched, FetchedFrom, LoadContext, Policy, Refresh, Typed};
use serde::{Deserialize, Serialize};

static QUOTES: Policy = Policy::fresh(Duration::from_secs(60))
    .stale(Duration::from_secs(600))
    .negative(Duration::from_secs(5))
    .error_backoff(Duration::from_secs(2))
    .tags(&["quotes"]);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Quote {
    symbol: String,
    cents: u64,
}

/// Stands for a slow service that is counted against a limit.
#[derive(Debug, Default)]
struct Origin {
    asked: AtomicU64,
}

impl Origin {
    async fn quote(&self, symbol: &str) -> Result<Option<Quote>, io::Error> {
        let cents = 100 + self.asked.fetch_add(1, Ordering::Relaxed);
        match symbol {
            "NONE" => Ok(None),
            "DOWN" => Err(io::Error::other("the origin is down")),
            _ => Ok(Some(Quote { symbol: symbol.to_owned(), cents })),
        }
    }
}

#[derive(Clone)]
struct Service {
    cache: Cache,
    quotes: Typed<Quote>,
    origin: Arc<Origin>,
}

impl Service {
    fn new(cache: Cache) -> Self {
        let quotes = cache.typed("quotes", &QUOTES);
        Self { cache, quotes, origin: Arc::default() }
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/quotes/{symbol}", get(quote))
            .route("/quotes/{symbol}/refresh", post(refresh))
            .route("/quotes", delete(forget))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn quote(State(service): State<Service>, Path(symbol): Path<String>) -> Result<Response, Failed> {
    let (origin, asked) = (service.origin, symbol.clone());
    let quote =
        service.quotes.load_optional(symbol, move |_| async move { origin.quote(&asked).await }).await?;
    Ok(answer(quote))
}

async fn refresh(State(service): State<Service>, Path(symbol): Path<String>) -> Result<Response, Failed> {
    let (origin, asked) = (service.origin, symbol.clone());
    let load = move |cx: LoadContext<Option<Quote>>| async move {
        let quote = origin.quote(&asked).await?;
        // A quote that did not change is not asked for again so soon.
        if cx.stale().is_some_and(|stale| stale == quote) {
            cx.ttl(Duration::from_secs(300));
        }
        Ok::<_, io::Error>(quote)
    };
    let fetch = service.cache.fetch(("quotes", symbol), &QUOTES).refresh(Refresh::Force);
    Ok(answer(fetch.load_optional(load).await?.map(|quote| quote.map(Arc::new))))
}

async fn forget(State(service): State<Service>) -> StatusCode {
    match service.cache.invalidate(By::Tag("quotes")).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn metrics(State(service): State<Service>) -> String {
    let (report, origin) = (service.cache.report(), service.origin.asked.load(Ordering::Relaxed));
    let memory = &report.backends["memory"];
    let rows = [
        ("cache_hits_total", report.chain.hits),
        ("cache_misses_total", report.chain.misses),
        ("cache_loads_total", report.loads),
        ("cache_stale_total", report.refresh.stale_while_refreshing + report.refresh.stale_on_error),
        ("cache_memory_entries", memory["entries"].as_u64().unwrap_or_default()),
        ("cache_memory_bytes", memory["bytes"].as_u64().unwrap_or_default()),
        ("cache_memory_evicted_total", memory["evicted"].as_u64().unwrap_or_default()),
        ("origin_requests_total", origin),
    ];
    rows.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn answer(quote: Fetched<Option<Arc<Quote>>>) -> Response {
    let from = match quote.from {
        FetchedFrom::Cache => "hit",
        FetchedFrom::Loaded | FetchedFrom::Joined => "miss",
        _ => "stale",
    };
    let headers = [
        (HeaderName::from_static("x-cache"), from.to_owned()),
        (HeaderName::from_static("age"), quote.age.as_secs().to_string()),
    ];
    match quote.value {
        Some(quote) => (headers, Json(&*quote)).into_response(),
        None => (StatusCode::NOT_FOUND, headers).into_response(),
    }
}

/// What the origin or the request did wrong.
struct Failed(FetchError<io::Error>);

impl From<FetchError<io::Error>> for Failed {
    fn from(error: FetchError<io::Error>) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0 {
            FetchError::Invalid(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        (status, self.0.to_string()).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder().memory(64 << 20).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, Service::new(cache.clone()).routes()).with_graceful_shutdown(stop).await?;
    cache.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

    use super::*;
    use peercache_testkit::ManualClock;

    struct World {
        clock: Arc<ManualClock>,
        service: Service,
        address: std::net::SocketAddr,
    }

    impl World {
        /// The service on a port of its own, at a time that stands still.
        async fn new() -> Self {
            let clock = Arc::new(ManualClock::default());
            let service =
                Service::new(Cache::builder().clock(clock.clone()).memory(16 << 20).build().unwrap());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = service.clone().routes();
            tokio::spawn(async move { axum::serve(listener, routes).await });
            Self { clock, service, address }
        }

        /// Status, `X-Cache` and body.
        async fn ask(&self, method: reqwest::Method, path: &str) -> (u16, String, String) {
            let url = format!("http://{}{path}", self.address);
            if rustls::crypto::CryptoProvider::get_default().is_none() {
                // The other test of this process may be faster, which is as good.
                let _either = rustls::crypto::ring::default_provider().install_default();
            }
            let answer = reqwest::Client::new().request(method, url).send().await.unwrap();
            let cache = answer.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), cache.unwrap_or_default(), answer.text().await.unwrap())
        }

        async fn get(&self, path: &str) -> (u16, String, String) {
            self.ask(reqwest::Method::GET, path).await
        }

        fn asked(&self) -> u64 {
            self.service.origin.asked.load(Ordering::Relaxed)
        }
    }

    fn quote(cache: &str, cents: u64) -> (u16, String, String) {
        (200, cache.to_owned(), format!("{{\"symbol\":\"ACME\",\"cents\":{cents}}}"))
    }

    #[tokio::test]
    async fn a_quote_is_fresh_then_stale_and_refreshed_then_gone_with_its_tag() {
        let world = World::new().await;
        assert_eq!(world.get("/quotes/ACME").await, quote("miss", 100));
        assert_eq!(world.get("/quotes/ACME").await, quote("hit", 100));
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.get("/quotes/ACME").await, quote("stale", 100));
        while world.service.cache.peek::<Quote>("quotes/ACME").await.unwrap().is_stale() {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.get("/quotes/ACME").await, quote("hit", 101));
        assert_eq!(world.ask(reqwest::Method::POST, "/quotes/ACME/refresh").await, quote("miss", 102));
        assert_eq!(world.ask(reqwest::Method::DELETE, "/quotes").await.0, 204);
        assert_eq!(world.get("/quotes/ACME").await, quote("miss", 103));
        let metrics = world.get("/metrics").await.2;
        assert!(metrics.contains("origin_requests_total 4\n"), "{metrics}");
        assert!(metrics.contains("cache_memory_entries "), "{metrics}");
    }

    #[tokio::test]
    async fn absence_and_outages_do_not_reach_the_origin_again_and_again() {
        let world = World::new().await;
        for _ in 0..5 {
            assert_eq!(world.get("/quotes/NONE").await.0, 404);
        }
        assert_eq!(world.asked(), 1);
        for _ in 0..5 {
            let (status, _, body) = world.get("/quotes/DOWN").await;
            assert_eq!((status, body.as_str()), (502, "the value could not be loaded: the origin is down"));
        }
        assert_eq!(world.asked(), 2);
        world.clock.advance(Duration::from_secs(2));
        world.get("/quotes/DOWN").await;
        assert_eq!(world.asked(), 3);
    }
}
