//! Logs on standard error: as text, or with `--json` as one object a line.

use std::fmt;
use std::io::{IsTerminal as _, stderr};

use peercache::Clock as _;
use peercache::backend::SystemClock;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging; `RUST_LOG` has the last word, if it says anything.
pub(crate) fn start(verbose: u8, json: bool) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let given = std::env::var("RUST_LOG").ok().filter(|directives| !directives.trim().is_empty());
    let filter = given.and_then(|directives| EnvFilter::try_new(directives).ok());
    // Where standard error cannot be written, a complaint about that would end the process.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        .with_writer(stderr)
        .log_internal_errors(false)
        .with_ansi(stderr().is_terminal());
    match json {
        true => subscriber.event_format(Json).init(),
        false => subscriber.init(),
    }
}

/// One object a line: `timestamp` in seconds, `level`, `target`, `message`, and the event's fields.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = SystemClock::new().now().as_millis();
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), json!(now as f64 / 1000.0));
        object.insert("level".to_owned(), json!(event.metadata().level().as_str()));
        object.insert("target".to_owned(), json!(event.metadata().target()));
        event.record(&mut Fields(&mut object));
        writeln!(writer, "{}", Value::Object(object))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, json!(format!("{value:?}")));
    }
}
