//! As much of HTTP/1.1 as a scraper needs: one request on each connection, read within limits of size and time, by a thread
//! of its own. When many connections dawdle, the one that has done so for the longest has to go for a new one: with their
//! request, or with closing once they are answered.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::listen::Stream;

/// A request's length at most, its headers included.
const MAX_REQUEST: usize = 8 << 10;
const MAX_HEADERS: usize = 64;
/// How long a request may take to come, an answer to be taken, and the connection to be closed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections whose request has not come yet, or whose end.
const MAX_SILENT: usize = 32;
/// Connections together; more are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// What is read of a request that was answered early, so that closing does not take the answer away.
const MAX_REST: usize = 64 << 10;

pub(super) struct Server {
    collector: Arc<Collector>,
    connections: Arc<Connections>,
}

/// Those that are open.
#[derive(Default)]
struct Connections {
    count: AtomicUsize,
    /// Those that are silent, the oldest first, with a number each.
    silent: Mutex<VecDeque<(usize, Stream)>>,
    next: AtomicUsize,
}

impl Connections {
    fn silent(&self) -> MutexGuard<'_, VecDeque<(usize, Stream)>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until its end.
struct Connection {
    all: Arc<Connections>,
    number: usize,
}

impl Connection {
    fn open(all: &Arc<Connections>, stream: &Stream) -> io::Result<Self> {
        all.count.fetch_add(1, Relaxed);
        let connection = Connection { all: all.clone(), number: all.next.fetch_add(1, Relaxed) };
        connection.is_silent(stream)?;
        Ok(connection)
    }

    /// Something is awaited of it.
    fn is_silent(&self, stream: &Stream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        let mut waiting = self.all.silent();
        if waiting.len() >= MAX_SILENT
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.shutdown(Shutdown::Both);
        }
        waiting.push_back((self.number, stream));
        Ok(())
    }

    /// It has come, or never will.
    fn has_spoken(&self) {
        self.all.silent().retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.has_spoken();
        self.all.count.fetch_sub(1, Relaxed);
    }
}

impl Server {
    pub(super) fn new(collector: Arc<Collector>) -> Self {
        Server { collector, connections: Arc::default() }
    }

    /// Answers on `stream` and closes it.
    pub(super) fn take(&self, stream: Stream) {
        if self.connections.count.load(Relaxed) >= MAX_CONNECTIONS {
            return;
        }
        let Ok(connection) = Connection::open(&self.connections, &stream) else { return };
        let collector = self.collector.clone();
        // Without a thread there is no answer, and the next one may have more luck.
        let _ = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            let _ = answer(stream, &connection, &collector);
        });
    }
}

fn answer(mut stream: Stream, connection: &Connection, collector: &Collector) -> io::Result<()> {
    let request = read_request(&mut stream);
    connection.has_spoken();
    let (is_head, answer) = match request? {
        Ok(request) => (request.is_head, respond(&request, collector)),
        Err(refused) => (false, refused),
    };
    send(&mut stream, &answer.head(), Instant::now() + PATIENCE)?;
    if !is_head {
        send(&mut stream, answer.body.as_bytes(), Instant::now() + PATIENCE)?;
    }
    stream.shutdown(Shutdown::Write);
    connection.is_silent(&stream)?;
    await_end(&mut stream)
}

/// Closed with something unread, the answer may be taken back.
fn await_end(stream: &mut Stream) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let (mut rest, mut piece) = (MAX_REST, [0; 2048]);
    while rest > 0 {
        stream.set_patience(left(end)?)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => rest = rest.saturating_sub(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send(stream: &mut Stream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_patience(left(end)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    is_head: bool,
    is_get: bool,
    path: String,
    /// Whom the client thinks to speak with is not this machine.
    is_for_another: bool,
}

/// Reads a request up to its blank line.
fn read_request(stream: &mut Stream) -> io::Result<Result<Request, Answer>> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut piece = [0; 2048];
    loop {
        match parse(&bytes, stream.is_tcp()) {
            Ok(None) if bytes.len() > MAX_REQUEST => return Ok(Err(Answer::refusal(431))),
            Ok(None) => {}
            Ok(Some(request)) => return Ok(Ok(request)),
            Err(refused) => return Ok(Err(refused)),
        }
        stream.set_patience(left(end)?)?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => bytes.extend_from_slice(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The request in `bytes`; `None` while it has not come as a whole.
fn parse(bytes: &[u8], is_tcp: bool) -> Result<Option<Request>, Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Answer::refusal(431)),
        Err(_) => return Err(Answer::refusal(400)),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Answer::refusal(400));
    };
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    // A page in a browser may have its own name lead here, but cannot give it another one.
    let is_for_another = is_tcp && hosts.any(|host| !str::from_utf8(host.value).is_ok_and(is_loopback));
    Ok(Some(Request {
        is_head: method == "HEAD",
        is_get: method == "GET",
        path: target.split(['?', '#']).next().unwrap_or_default().to_owned(),
        is_for_another,
    }))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn respond(request: &Request, collector: &Collector) -> Answer {
    if !request.is_get && !request.is_head {
        Answer::refusal(405)
    } else if request.is_for_another {
        Answer::refusal(421)
    } else if request.path != "/metrics" {
        Answer::refusal(404)
    } else {
        collector.collect().map_or_else(
            |error| Answer { body: format!("{error}\n"), ..Answer::refusal(503) },
            |metrics| Answer { status: 200, content_type: CONTENT_TYPE, body: metrics },
        )
    }
}

/// What OpenMetrics 1.0 calls itself.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn refusal(status: u16) -> Self {
        let body = match status {
            404 => "ask for /metrics\n",
            405 => "only GET and HEAD are known\n",
            421 => "ask by a loopback address or localhost\n",
            431 => "the request is too long\n",
            _ => "this is no request\n",
        };
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    fn head(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        head.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Request>, u16> {
        parse(text.as_bytes(), true).map_err(|answer| answer.status)
    }

    #[test]
    fn requests_as_they_come() {
        let get = |path: &str| Request {
            is_head: false,
            is_get: true,
            path: path.to_owned(),
            is_for_another: false,
        };
        let whole = "GET /metrics?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9586\r\n\r\n";
        assert_eq!(parsed(whole), Ok(Some(get("/metrics"))));
        for end in 0..whole.len() {
            assert_eq!(parsed(&whole[..end]), Ok(None), "{end}");
        }
        assert_eq!(parsed("GET / HTTP/1.0\r\n\r\n"), Ok(Some(get("/"))));
        assert_eq!(parsed("\x16\x03\x01\x02\x00"), Err(400), "TLS");
        assert_eq!(parsed("GET /metrics\r\n\r\n"), Err(400));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parsed(&many), Err(431));
    }

    #[test]
    fn a_browsers_page_cannot_have_its_name_lead_here() {
        for (host, is_ours) in [
            ("localhost", true),
            ("LOCALHOST:9586", true),
            ("127.0.0.1", true),
            ("[::1]:9586", true),
            ("[::1]", true),
            ("evil.example:9586", false),
            ("192.0.2.1", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), is_ours, "{host}");
        }
    }
}
