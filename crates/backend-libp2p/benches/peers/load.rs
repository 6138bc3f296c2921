//! So many callers, each asking again as soon as it was answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Call = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// One side of a comparison.
#[derive(Clone)]
pub(crate) struct Side(Call);

impl Side {
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        call: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || Box::pin(call())))
    }
}

/// What a side did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Calls per second.
    pub(crate) rate: f64,
}

/// The median of `rounds` for each side, which take turns.
pub(crate) async fn measure(sides: &[Side], in_flight: usize, span: Duration, rounds: usize) -> Vec<Load> {
    let mut loads = vec![Vec::new(); sides.len()];
    for side in sides {
        once(side, in_flight, span / 4).await;
    }
    for _ in 0..rounds {
        for (side, loads) in sides.iter().zip(&mut loads) {
            loads.push(once(side, in_flight, span).await);
        }
    }
    loads.into_iter().map(median).collect()
}

fn median(mut loads: Vec<Load>) -> Load {
    let middle = loads.len() / 2;
    let mut by = |of: fn(&Load) -> f64| {
        loads.sort_by(|one, other| of(one).total_cmp(&of(other)));
        loads[middle]
    };
    Load {
        p50: by(|load| load.p50.as_secs_f64()).p50,
        p99: by(|load| load.p99.as_secs_f64()).p99,
        rate: by(|load| load.rate).rate,
    }
}

pub(crate) async fn once(side: &Side, in_flight: usize, span: Duration) -> Load {
    let (began, end) = (Instant::now(), Instant::now() + span);
    let callers = (0..in_flight).map(|_| {
        let side = side.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                (side.0)().await;
                took.push(began.elapsed());
            }
            took
        })
    });
    let mut took = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        took.extend(caller.await.unwrap());
    }
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    Load { p50: at(50), p99: at(99), rate }
}
