//! The live values of the status page, as server-sent events (HTML Standard, section 9.2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::page;
use crate::body::{Closed, PIPE_BYTES, PipeWriter, ResponseBody, pipe};
use crate::error::Problem;
use crate::report::StatsReport;

/// The most pages that are live at once; a further one shows what was when it was loaded.
const MAX_PAGES: usize = 16;
/// How often it is looked whether something has changed.
const EVERY: Duration = Duration::from_secs(2);

/// Set by a server for each request: cancelled when it stops, so that what has no end of its own
/// ends then.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// The places of live pages.
#[derive(Debug)]
pub(crate) struct LivePages(Arc<Semaphore>);

impl Default for LivePages {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_PAGES)))
    }
}

impl LivePages {
    /// An answer that has no end: the page of each report that differs from the one before, until
    /// the reader goes away or the server stops.
    pub(crate) fn open(
        &self,
        stop: Option<&Stopping>,
        report: impl Fn() -> StatsReport + Send + 'static,
    ) -> Result<Response<ResponseBody>, Problem> {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return Err(Problem::too_many_pages());
        };
        let stop = stop.map_or_else(CancellationToken::new, |stop| stop.0.clone());
        let (writer, reader) = pipe();
        tokio::spawn(async move {
            // An end, and no broken body: the reader asks again.
            if stop.run_until_cancelled(send(&writer, report)).await.is_none() {
                writer.finish();
            }
            drop(permit);
        });
        let mut response = Response::new(ResponseBody::pipe(reader));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

/// Sends until the reader is gone.
async fn send(writer: &PipeWriter, report: impl Fn() -> StatsReport) {
    let mut last = String::new();
    loop {
        let main = page::main(&report()).unwrap_or_default();
        // A comment finds out whether the reader is still there.
        let event = match main == last {
            true => ":\n\n".to_owned(),
            false => event(&main),
        };
        last = main;
        if let Err(Closed) = writer.push(Bytes::from(event), PIPE_BYTES).await {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The event of a page, as a string of JSON: that has no line break.
fn event(main: &str) -> String {
    let data = serde_json::Value::from(main);
    format!("event: main\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_one_line_of_data() {
        assert_eq!(event("<p>a\nb</p>"), "event: main\ndata: \"<p>a\\nb</p>\"\n\n");
    }
}
