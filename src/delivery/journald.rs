//! The journal of systemd, by its native protocol: datagrams of `FIELD=value` lines to a socket.

use std::path::PathBuf;

use tokio::net::UnixDatagram;

use super::stream::datagram;
use super::transport::{Failure, Item, Receipt, Transport};
use crate::event::Record;

/// Where it listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to it.
pub(super) struct Journald {
    socket: PathBuf,
    link: Option<UnixDatagram>,
    buffer: Vec<u8>,
}

impl Journald {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self { socket, link: None, buffer: Vec::new() }
    }
}

impl Transport for Journald {
    fn batch_max(&self) -> usize {
        // A batch that fails half way is sent again from its beginning.
        32
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let link = UnixDatagram::unbound().map_err(Failure::again)?;
                link.connect(&self.socket).map_err(Failure::again)?;
                link
            }
        };
        for item in items {
            self.buffer.clear();
            write(item, &mut self.buffer);
            link.send(&self.buffer).await.map_err(|why| datagram(&why))?;
        }
        self.link = Some(link);
        Ok(Receipt::Taken("the journal took it".to_owned()))
    }
}

/// The fields of an event: those that everybody looks for by, and the line as the message.
fn write(item: &Item, out: &mut Vec<u8>) {
    let Record { seq, ts, event, scene, .. } = &item.record;
    let mut field = |name: &str, value: &dyn std::fmt::Display| {
        let value = value.to_string();
        // A newline ends a field; nothing of ours has one.
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend(value.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        out.push(b'\n');
    };
    field("PRIORITY", &item.record.severity().syslog());
    field("SYSLOG_IDENTIFIER", &"portcullis");
    field("PORTCULLIS_EVENT", &event.kind());
    field("PORTCULLIS_SEQ", seq);
    field("PORTCULLIS_TS", ts);
    field("PORTCULLIS_ACTION", &scene.action);
    if let Some(session) = &scene.session {
        field("PORTCULLIS_SESSION", session);
    }
    if let Some(reference) = &scene.reference {
        field("PORTCULLIS_REF", reference);
    }
    out.extend_from_slice(b"MESSAGE=");
    out.extend_from_slice(&item.line);
    out.push(b'\n');
}
