//! Asking a running `peercache serve`.

use std::time::Duration;

use serde_json::Value;

use crate::cli::ServerArgs;
use crate::exit::Failure;
use crate::http;

const DEFAULT_URL: &str = "http://127.0.0.1:9180";
const PATH: &str = "/-/peercache/stats";
const WITHIN: Duration = Duration::from_secs(10);
/// The most that a stats answer may have, in bytes. A real one has a few KiB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The statistics of the server that `args` name, or of the one at the usual address.
pub(crate) async fn server(args: &ServerArgs) -> Result<Value, Failure> {
    let socket = args.socket.as_deref();
    let base = args.url.as_deref().unwrap_or(DEFAULT_URL).trim_end_matches('/');
    if !base.starts_with("http://") {
        return Err(Failure::config(format!("--url {base}: give a URL such as {DEFAULT_URL}")));
    }
    let asked = socket.map_or_else(|| base.to_owned(), |path| path.display().to_string());
    let client = http::client(|client| match socket {
        Some(path) => client.timeout(WITHIN).unix_socket(path),
        None => client.timeout(WITHIN),
    })?;
    // Over a socket the host only has to be none of GitHub's.
    let url = if socket.is_some() { format!("http://peercache{PATH}") } else { format!("{base}{PATH}") };
    let response = client.get(url).send().await.map_err(|error| {
        if error.is_builder() {
            return Failure::config(format!("--url {base}: this is not a URL; give one such as {DEFAULT_URL}"));
        }
        Failure::failed(format!(
            "no peercache answers at {asked}; start one with `peercache serve`, or name another with --url or --socket"
        ))
    })?;
    if !response.status().is_success() {
        return Err(Failure::failed(format!(
            "{asked} answered {}; is that a peercache?",
            response.status().as_u16()
        )));
    }
    let body = bounded(response).await.ok_or_else(|| {
        Failure::failed(format!("{asked} did not give a whole answer of at most {MAX_ANSWER_BYTES} bytes"))
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::failed(format!("{asked} did not answer with JSON ({error}); is that a peercache?"))
    })
}

async fn bounded(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}
