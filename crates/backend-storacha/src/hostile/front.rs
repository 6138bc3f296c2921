//! A server before the upload service that answers what a test wants to be answered.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::ucan::message::CONTENT_TYPE;

/// A request that arrived.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The head and so many bytes of the body, then the connection ends.
    Cut {
        body: Vec<u8>,
        at: usize,
    },
    /// Nothing, until the client gives up.
    Silence,
}

impl Told {
    pub(super) fn body(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub(super) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn redirect(status: u16, to: &str) -> Self {
        Self::Answer { status, headers: vec![("location".into(), to.into())], body: Vec::new() }
    }

    /// The body of an answer with success, changed.
    pub(super) fn map(self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        match self {
            Self::Answer { status: 200, headers, body } => {
                Self::Answer { status: 200, headers, body: change(body) }
            }
            other => other,
        }
    }
}

/// Makes of what the service answers what the client is told.
pub(super) type Lie = Arc<dyn Fn(&Asked, Told) -> Told + Send + Sync>;

struct State {
    service: SocketAddr,
    http: reqwest::Client,
    lie: Mutex<Option<Lie>>,
    asked: Mutex<Vec<Asked>>,
}

/// The server. It passes everything on until it is given a lie.
pub(super) struct Front {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Front {
    /// Listens on a free port, before `service`.
    pub(super) async fn start(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let state = Arc::new(State {
            service,
            http: http.build().unwrap(),
            lie: Mutex::default(),
            asked: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state, accepting: accepting.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set(&self, lie: Option<Lie>) {
        *self.state.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    /// What was asked since the last call.
    pub(super) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request of a connection; a client that hangs up ends it.
async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let Some(asked) = read(&mut stream).await else { return };
    state.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let truth = pass(&asked, &state).await;
    let lie = state.lie.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told = match lie {
        Some(lie) => lie(&asked, truth),
        None => truth,
    };
    let (head, body) = match told {
        Told::Answer { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} -\r\n{headers}content-length: {length}\r\n");
            (head, body)
        }
        Told::Cut { body, at } => {
            let head = format!("HTTP/1.1 200 -\r\ncontent-length: {}\r\n", body.len());
            (head, body[..at].to_vec())
        }
        Told::Silence => {
            let mut rest = [0];
            let _until_it_hangs_up = stream.read(&mut rest).await;
            return;
        }
    };
    let head = format!("{head}connection: close\r\n\r\n");
    if stream.write_all(&[head.into_bytes(), body].concat()).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = bytes.split_off(head + 4);
    while body.len() < length.unwrap_or_default() {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { method, path, body })
}

/// What the service itself answers.
async fn pass(asked: &Asked, state: &State) -> Told {
    let url = format!("http://{}{}", state.service, asked.path);
    let request = match asked.method.as_str() {
        "POST" => {
            let request = state.http.post(url).body(asked.body.clone());
            request.header("content-type", CONTENT_TYPE).header("accept", CONTENT_TYPE)
        }
        "PUT" => state.http.put(url).body(asked.body.clone()),
        _ => state.http.get(url),
    };
    // The service closes idle connections at times; asking twice is harmless.
    let again = request.try_clone();
    let mut answer = request.send().await;
    if let (Err(_), Some(again)) = (&answer, again) {
        answer = again.send().await;
    }
    match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let body = answer.bytes().await.map(|body| body.to_vec()).unwrap_or_default();
            Told::Answer { status, headers: Vec::new(), body }
        }
        Err(_) => Told::status(502),
    }
}
