//! A client that writes exactly the octets it is given and reads with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use tokio::time::Instant;

pub(crate) use super::stored::PATIENCE;

/// A raw connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One response, as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The one value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there more than once: {all:?}");
        all.first().copied()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Writes; a peer that has closed already is not the test's failure.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        drop(self.stream.write_all(octets.as_ref()));
        self
    }

    pub(crate) fn finish(&mut self) -> &mut Self {
        drop(self.stream.shutdown(Shutdown::Write));
        self
    }

    /// Reads more. `None`: closed; panics when nothing comes.
    fn more(&mut self, until: Instant) -> Option<usize> {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing more came; so far: {:?}", String::from_utf8_lossy(&self.unread));
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Some(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing more came; so far: {:?}", String::from_utf8_lossy(&self.unread))
            }
            Err(_) => None,
        }
    }

    /// The head of the next response alone.
    pub(crate) fn head(&mut self) -> Reply {
        let until = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.more(until).is_some(),
                "closed before a head was there: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: Vec::new() }
    }

    /// The next response with its body, decoded. For an answer to HEAD use [`Self::head`].
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        let until = Instant::now() + PATIENCE;
        if reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.line(until);
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    while self.line(until) != "\r\n" {}
                    break;
                }
                let data = self.exactly(size + 2, until);
                reply.body.extend_from_slice(&data[..size]);
            }
        } else if let Some(length) = reply.header("content-length") {
            reply.body = self.exactly(length.parse().unwrap(), until);
        } else if !matches!(reply.status, 204 | 304 | 101) {
            while self.more(until).is_some() {}
            reply.body = std::mem::take(&mut self.unread);
        }
        reply
    }

    pub(crate) fn line(&mut self, until: Instant) -> String {
        loop {
            if let Some(at) = self.unread.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more(until).is_some(), "closed inside a line");
        }
    }

    pub(crate) fn exactly(&mut self, count: usize, until: Instant) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more(until).is_some(), "closed {} octets early", count - self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        while self.more(until).is_some() {}
        std::mem::take(&mut self.unread)
    }

    /// Panics unless the other side closes without another octet.
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came before the end: {:?}", String::from_utf8_lossy(&rest));
    }
}
