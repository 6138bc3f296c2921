//! The report in the OpenMetrics text format, version 1.0.0.

use std::fmt;

use peercache::report::TierReport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::report::StatsReport;

/// What the format is called (OpenMetrics 1.0.0, section "Content-Type").
pub(super) const MEDIA: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The report as metrics. Names and labels are listed in `docs/reference/metrics.md`.
pub(super) fn render(report: StatsReport) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("peercache");
    registry.register_collector(Box::new(Metrics(report)));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

#[derive(Debug)]
struct Metrics(StatsReport);

/// One number and the labels that tell it from others of its name.
type Row<'a> = (Vec<(&'static str, &'a str)>, f64);

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.requests(&mut families)?;
        self.clients(&mut families)?;
        self.cache(&mut families)?;
        self.tiers(&mut families)
    }
}

impl Metrics {
    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        let (proxy, saved) = (&self.0.proxy, self.0.saved);
        let results = [
            ("fresh", proxy.fresh),
            ("shared", proxy.shared),
            ("coalesced", proxy.coalesced),
            ("revalidated", proxy.revalidated),
            ("stale", proxy.stale),
            ("miss", proxy.miss),
            ("bypass", proxy.bypass),
            ("error", proxy.error),
            ("local", proxy.local),
        ];
        families.counters(
            "requests",
            "Requests of clients, by how they were answered",
            "result",
            &results,
        )?;
        families.counter("saved_requests", "Requests that no rate limit was charged for", saved.saved)?;
        let answers = [("not_modified", proxy.upstream_not_modified), ("charged", saved.charged)];
        let help = "Requests sent to the API, by whether a rate limit was charged";
        families.counters("upstream_requests", help, "answer", &answers)?;
        let not_stored = &proxy.not_stored;
        let reasons = [
            ("status", not_stored.status),
            ("no_store", not_stored.no_store),
            ("set_cookie", not_stored.set_cookie),
            ("vary", not_stored.vary),
            ("unusable", not_stored.unusable),
            ("too_large", not_stored.too_large),
            ("incomplete", not_stored.incomplete),
            ("encoding", not_stored.encoding),
            ("refused", not_stored.refused),
        ];
        families.counters("not_stored", "Responses that were not stored, by reason", "reason", &reasons)?;
        families.counter("stored_responses", "Responses stored", proxy.stored)?;
        families.counter("served_bytes", "Bytes of bodies served from the store", proxy.bytes_from_cache)?;
        families.counter(
            "invalidations",
            "Writes by clients that removed stored responses",
            proxy.invalidations,
        )
    }

    /// The ledger by client, which has at most 257 rows.
    fn clients(&self, families: &mut Families<'_>) -> fmt::Result {
        let rows = self.0.ledger.clients.iter().flat_map(|row| {
            let booked = &row.booked;
            [("asked", booked.asked), ("sent", booked.sent), ("charged", booked.charged)].map(
                |(count, number)| (vec![("client", row.client.as_str()), ("count", count)], number as f64),
            )
        });
        let help = "Calls of each client: asked, sent upstream for them, and charged";
        families.rows("client_calls", help, MetricType::Counter, None, &rows.collect::<Vec<_>>())
    }

    fn cache(&self, families: &mut Families<'_>) -> fmt::Result {
        let chain = &self.0.cache.chain;
        let lookups = [
            ("hit", chain.hits),
            ("stale", chain.stale),
            ("miss", chain.misses),
            ("cancelled", chain.cancelled),
        ];
        families.counters("lookups", "Reads of the chain of tiers, by result", "result", &lookups)?;
        families.counter("loads", "Loaders that were run to the end", self.0.cache.loads)?;
        families.counter("load_errors", "Loaders that failed", self.0.cache.load_errors)
    }

    fn tiers(&self, families: &mut Families<'_>) -> fmt::Result {
        let lookups = self.of_tiers("result", |tier| {
            vec![
                ("hit", tier.hits),
                ("stale", tier.stale),
                ("miss", tier.misses),
                ("error", tier.errors),
                ("timeout", tier.timeouts),
                ("skipped", tier.skipped),
                ("cancelled", tier.cancelled),
            ]
        });
        families.rows("tier_lookups", "Reads of a tier, by result", MetricType::Counter, None, &lookups)?;
        let writes = self.of_tiers("result", |tier| {
            vec![
                ("stored", tier.stored),
                ("error", tier.put_errors),
                ("timeout", tier.put_timeouts),
                ("skipped", tier.put_skipped),
                ("cancelled", tier.put_cancelled),
            ]
        });
        families.rows("tier_writes", "Writes to a tier, by result", MetricType::Counter, None, &writes)?;
        let bytes = self
            .of_tiers("direction", |tier| vec![("read", tier.bytes_read), ("written", tier.bytes_written)]);
        families.rows(
            "tier_value_bytes",
            "Bytes of values read and written",
            MetricType::Counter,
            None,
            &bytes,
        )?;
        let latency = self.numbered().flat_map(|(number, tier)| {
            let (get, put) = (tier.get_latency, tier.put_latency);
            [
                ("get", "0.5", get.p50_us),
                ("get", "0.99", get.p99_us),
                ("put", "0.5", put.p50_us),
                ("put", "0.99", put.p99_us),
            ]
            .map(|(operation, quantile, micros)| {
                let mut labels = tier_labels(number, tier);
                labels.extend([("operation", operation), ("quantile", quantile)]);
                (labels, micros / 1e6)
            })
        });
        let help = "How long a tier takes, since the server started";
        families.rows(
            "tier_latency",
            help,
            MetricType::Gauge,
            Some(&Unit::Seconds),
            &latency.collect::<Vec<_>>(),
        )?;
        let up = self.numbered().map(|(number, tier)| {
            (tier_labels(number, tier), f64::from(u8::from(tier.breaker.state == "closed")))
        });
        let help = "Whether a tier is asked: 1 while its breaker is closed";
        families.rows("tier_up", help, MetricType::Gauge, None, &up.collect::<Vec<_>>())?;
        let queues =
            || self.numbered().filter_map(|(number, tier)| Some((number, tier, tier.queue.as_ref()?)));
        let waiting = queues().map(|(number, tier, queue)| (tier_labels(number, tier), queue.waiting as f64));
        let help = "Writes that wait for a shared tier";
        families.rows("tier_queue_waiting", help, MetricType::Gauge, None, &waiting.collect::<Vec<_>>())?;
        let dropped = queues().flat_map(|(number, tier, queue)| {
            let dropped = &queue.dropped;
            [
                ("queue_full", dropped.queue_full),
                ("too_old", dropped.too_old),
                ("refused", dropped.refused),
                ("shutdown", dropped.shutdown),
            ]
            .map(|(reason, count)| {
                let mut labels = tier_labels(number, tier);
                labels.push(("reason", reason));
                (labels, count as f64)
            })
        });
        let help = "Writes that were given up, by reason";
        families.rows("tier_queue_dropped", help, MetricType::Counter, None, &dropped.collect::<Vec<_>>())
    }

    /// The counts of each tier, told apart by the label `label`.
    fn of_tiers(
        &self,
        label: &'static str,
        counts: impl Fn(&TierReport) -> Vec<(&'static str, u64)>,
    ) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for (number, tier) in self.numbered() {
            for (value, count) in counts(tier) {
                let mut labels = tier_labels(number, tier);
                labels.push((label, value));
                rows.push((labels, count as f64));
            }
        }
        rows
    }

    /// The tiers with their places in the chain, which tell two of one name apart.
    fn numbered(&self) -> impl Iterator<Item = (&'static str, &TierReport)> {
        const PLACES: [&str; 16] =
            ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        PLACES.into_iter().zip(&self.0.cache.chain.tiers)
    }
}

fn tier_labels<'a>(number: &'static str, tier: &'a TierReport) -> Vec<(&'static str, &'a str)> {
    vec![("place", number), ("tier", tier.name.as_str())]
}

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        encode(&mut metric, MetricType::Counter, count as f64)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        counts: &[(&'static str, u64)],
    ) -> fmt::Result {
        let rows: Vec<Row<'_>> =
            counts.iter().map(|(value, count)| (vec![(label, *value)], *count as f64)).collect();
        self.rows(name, help, MetricType::Counter, None, &rows)
    }

    fn rows(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        unit: Option<&Unit>,
        rows: &[Row<'_>],
    ) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, number) in rows {
            encode(&mut metric.encode_family(labels)?, kind, *number)?;
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: MetricType, number: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, f64, f64>(&number, None),
        _ => metric.encode_gauge(&number),
    }
}
