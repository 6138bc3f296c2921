//! A store for unit tests, in memory and on loopback: it can ignore conditions, and answer as it is
//! told.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What the store does with its next request instead of serving it.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// It answers with this status, error code and header.
    Answer(u16, &'static str, Option<(&'static str, String)>),
    /// It serves it and loses the answer: the connection ends.
    ServeAndHangUp,
    /// It says nothing.
    Hang,
    /// It serves it at this many bytes per 10 ms.
    Trickle(usize),
    /// Another client writes this object before the request is served.
    Race(Bytes),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: HashMap<String, Bytes>,
    /// Method, condition, status.
    pub(crate) log: Vec<(Method, String, u16)>,
    pub(crate) next: VecDeque<Told>,
    /// Every write is answered with `AccessDenied`.
    pub(crate) read_only: bool,
    pub(crate) ignores_conditions: bool,
}

impl State {
    /// The requests since the last call, in short.
    pub(crate) fn take_log(&mut self) -> String {
        let shown =
            self.log.drain(..).map(|(method, condition, status)| format!("{method}{condition} {status}"));
        shown.collect::<Vec<_>>().join(", ")
    }

    fn serve(
        &mut self,
        method: &Method,
        path: &str,
        condition: &Condition,
        body: Bytes,
    ) -> (u16, &'static str, Bytes) {
        let held = self.objects.get(path).cloned();
        let fails = match condition {
            _ if self.ignores_conditions => false,
            Condition::None => false,
            Condition::Absent => held.is_some(),
            Condition::Matches(etag) => match &held {
                None => return (404, "NoSuchKey", Bytes::new()),
                Some(held) => etag_of(held) != *etag,
            },
        };
        match *method {
            Method::GET => match held {
                Some(held) => (200, "", held),
                None => (404, "NoSuchKey", Bytes::new()),
            },
            Method::PUT if self.read_only => (403, "AccessDenied", Bytes::new()),
            Method::PUT if fails => (412, "PreconditionFailed", Bytes::new()),
            Method::PUT => {
                self.objects.insert(path.to_owned(), body.clone());
                (200, "", body)
            }
            _ => (501, "NotImplemented", Bytes::new()),
        }
    }
}

enum Condition {
    None,
    Absent,
    Matches(String),
}

pub(crate) fn etag_of(body: &Bytes) -> String {
    // Any function of the content will do.
    format!(
        "\"{:016x}\"",
        body.iter().fold(body.len() as u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
    )
}

#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    // It ends with an error whenever a test makes it hang up.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn next(&self, told: Told) {
        self.state().next.push_back(told);
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, HungUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| HungUp)?.to_bytes();
    let path = head.uri.path().to_owned();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (condition, shown) = match (header("if-none-match"), header("if-match")) {
        (Some(any), _) if any == "*" => (Condition::Absent, "(absent)"),
        (_, Some(etag)) => (Condition::Matches(etag), "(match)"),
        _ => (Condition::None, ""),
    };
    let told = state.lock().unwrap().next.pop_front();
    let pace = if let Some(Told::Trickle(bytes)) = told { Some(bytes) } else { None };
    let log = |status| state.lock().unwrap().log.push((head.method.clone(), shown.to_owned(), status));
    let (status, code, content, extra) = match told {
        Some(Told::Hang) => {
            log(0);
            std::future::pending::<Infallible>().await;
            return Err(HungUp);
        }
        Some(Told::Answer(status, code, extra)) => (status, code, Bytes::new(), extra),
        Some(Told::ServeAndHangUp) => {
            let (status, ..) = state.lock().unwrap().serve(&head.method, &path, &condition, body);
            log(status);
            return Err(HungUp);
        }
        other => {
            let mut state = state.lock().unwrap();
            if let Some(Told::Race(theirs)) = other {
                state.objects.insert(path.clone(), theirs);
            }
            let (status, code, content) = state.serve(&head.method, &path, &condition, body);
            (status, code, content, None)
        }
    };
    log(status);
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = extra {
        response = response.header(name, value);
    }
    if status == 200 {
        response = response.header("etag", etag_of(&content));
        let content = if head.method == Method::GET { content } else { Bytes::new() };
        response = response.header("content-length", content.len());
        return Ok(response.body(paced(content, pace)).unwrap());
    }
    let text = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told so; the region is wrong; expecting 'eu-west-7'</Message></Error>"
    );
    Ok(response.header("content-type", "application/xml").body(Full::new(text.into()).boxed()).unwrap())
}

fn paced(content: Bytes, pace: Option<usize>) -> BoxBody<Bytes, Infallible> {
    let Some(pace) = pace else { return Full::new(content).boxed() };
    let parts: Vec<Bytes> = content.chunks(pace).map(Bytes::copy_from_slice).collect();
    let stream = futures_util::stream::iter(parts).then(|part| async move {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        Ok(hyper::body::Frame::data(part))
    });
    BodyExt::boxed(StreamBody::new(stream))
}

#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the store hangs up")
    }
}

impl std::error::Error for HungUp {}
