//! A repository that can be read page by page and commented on, in the shapes of GitHub's API.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Issues of the repository, and how many a page has.
const ISSUES: usize = 5;

#[derive(Debug, Default)]
struct State {
    /// Method, target and status of every answer.
    log: Vec<String>,
    comments: Vec<String>,
}

/// An origin that listens until the process ends.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { url, state }
    }

    /// What was answered since the last look: `GET /path 200`.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

struct Request {
    method: String,
    target: String,
    token: String,
    condition: String,
    body: Vec<u8>,
}

/// Answers one request; the connection ends with it.
fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        token: String::new(),
        condition: String::new(),
        body: Vec::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.token = value,
            "if-none-match" => request.condition = value,
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    let answer = answer(&request, &mut state.lock().unwrap());
    reader.into_inner().write_all(answer.as_bytes())
}

fn answer(request: &Request, state: &mut State) -> String {
    let path = request.target.split('?').next().unwrap_or_default();
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let parameter = |name: &str| {
        query.split('&').find_map(|one| one.strip_prefix(&format!("{name}="))?.parse::<usize>().ok())
    };
    let api = "https://api.github.com";
    let mut link = String::new();
    let (mut status, body) = match (request.method.as_str(), path) {
        ("GET", "/repos/o/r") => (
            200,
            format!(
                r#"{{"id":1,"name":"r","full_name":"o/r","private":true,"url":"{api}/repos/o/r","issues_url":"{api}/repos/o/r/issues{{/number}}"}}"#
            ),
        ),
        ("GET", "/repos/o/r/issues" | "/repositories/1/issues") => {
            let (each, page) = (parameter("per_page").unwrap_or(30), parameter("page").unwrap_or(1));
            let first = (page - 1) * each;
            let numbers: Vec<usize> = (1..=ISSUES).skip(first).take(each).collect();
            if first + each < ISSUES {
                let next = page + 1;
                let last = ISSUES.div_ceil(each);
                let at = format!("{api}/repositories/1/issues?per_page={each}&page=");
                link = format!("Link: <{at}{next}>; rel=\"next\", <{at}{last}>; rel=\"last\"\r\n");
            }
            let list = numbers
                .iter()
                .map(|number| format!(r#"{{"number":{number},"url":"{api}/repos/o/r/issues/{number}"}}"#));
            (200, format!("[{}]", list.collect::<Vec<_>>().join(",")))
        }
        ("GET", "/repos/o/r/issues/1/comments") => {
            let list = state.comments.iter().map(|text| format!(r#"{{"body":{text}}}"#));
            (200, format!("[{}]", list.collect::<Vec<_>>().join(",")))
        }
        ("POST", "/repos/o/r/issues/1/comments") => {
            let sent: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let text = sent["body"].to_string();
            state.comments.push(text.clone());
            (201, format!(r#"{{"id":9,"body":{text}}}"#))
        }
        ("POST", "/graphql") => (200, r#"{"data":{"viewer":{"login":"octocat"}}}"#.to_owned()),
        _ => (
            404,
            r#"{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}"#
                .to_owned(),
        ),
    };
    // As GitHub's, it depends on the token; by no rule that anybody could know.
    let sum = body
        .bytes()
        .chain(request.token.bytes())
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let tag = format!("\"{sum:016x}\"");
    let is_read = request.method == "GET" && status == 200;
    if is_read && request.condition.contains(&tag) {
        status = 304;
    }
    state.log.push(format!("{} {} {status}", request.method, request.target));
    let mut answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if is_read {
        write!(answer, "ETag: {tag}\r\nCache-Control: private, max-age=60, s-maxage=60\r\n").unwrap();
        write!(answer, "Vary: Accept, Authorization, Cookie, X-GitHub-OTP\r\n").unwrap();
    }
    if status == 304 {
        return answer + "\r\n";
    }
    write!(
        answer,
        "{link}Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    answer
}
