//! A small blocking HTTP/1.1 client: one connection, from a source address of choice.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, body and all.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Every value of a header, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// This answer, if it has this status.
    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "headers {:?}\n{}", self.headers, self.text());
        self
    }
}

/// One connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// Whether the last answer leaves it fit for another request.
    pub(crate) is_reusable: bool,
    /// Whether anything of the answer to the last request has come.
    pub(crate) has_begun: bool,
}

impl Connection {
    /// Connects from one loopback address to another; each `127.x.y.z` is a network of its own to the server.
    pub(crate) fn open(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), is_reusable: true, has_begun: false })
    }

    /// Waits no longer than this for anything more.
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        self.stream.get_ref().set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends the octets of one request.
    pub(crate) fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.has_begun = false;
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()
    }

    /// Sends octets after an upgrade.
    pub(crate) fn send_octets(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// Reads a head, and leaves the body to be read.
    pub(crate) fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let status_line = self.line()?;
            let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status: u16 = status.ok_or_else(|| malformed(&status_line))?;
            let mut headers = Vec::new();
            loop {
                let line = self.line()?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
            if status >= 200 || status == 101 {
                return Ok(Response { status, headers, body: Vec::new() });
            }
        }
    }

    /// Reads a whole answer to a request that was not HEAD.
    pub(crate) fn read(&mut self) -> io::Result<Response> {
        let mut response = self.read_head()?;
        let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.is_reusable = !closes;
        if matches!(response.status, 101 | 204 | 304) {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some() {
            response.body = self.chunks()?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().ok().ok_or_else(|| malformed(length))?;
            response.body = self.exactly(length)?;
        } else {
            self.is_reusable = false;
            self.stream.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    /// The next line without its end; an error at the end of the stream.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.has_begun = true;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next `count` octets.
    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or_else(|| malformed(&line))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
    }
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed: {line:?}"))
}
