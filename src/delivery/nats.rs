//! NATS with JetStream: a message for each event, which counts as taken when the server says that a stream has it.
//!
//! Without JetStream nobody would say so, and what is published while nobody listens would be gone. `Nats-Msg-Id` lets a stream
//! leave out what it was sent twice, within its `duplicate_window`.
//!
//! The client believes what a server says of itself before TLS begins, and connects again by itself. So it is told of one server, is
//! not asked for others, and a connection that is not its first is not used.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerAddr};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::aside::Aside;
use super::server::{Credentials, Nats, Servers};
use super::transport::{Failure, Item, Receipt, Transport, plainly};

/// What a file with credentials of a user begins with.
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----";
/// Octets of a line from which on it may be too long; no server takes less.
const LINE_LONG: usize = 64 * 1024;
/// Octets that a server may say while it is asked nothing: pings, and now and then what has changed in its cluster.
const UNASKED_MAX: u64 = 1 << 20;
/// How often that is looked at. The client keeps a line until it ends, and takes ever longer to look for that.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A way to a stream.
pub(super) struct Publish {
    nats: Arc<Nats>,
    open: Option<Open>,
}

struct Open {
    client: Client,
    context: Context,
    /// What the server complained of last.
    said: Arc<Mutex<Option<String>>>,
    /// Octets that had come when the last answer had.
    heard: u64,
    aside: Aside,
}

impl Open {
    /// It is the first connection, and still there.
    fn is_good(&self) -> bool {
        self.client.connection_state() == State::Connected
            && self.client.statistics().connects.load(Ordering::Relaxed) == 1
    }

    /// Octets that came so far.
    fn came(&self) -> u64 {
        self.client.statistics().in_bytes.load(Ordering::Relaxed)
    }
}

impl Publish {
    pub(super) fn new(nats: &Nats) -> Result<Self, String> {
        let Servers { tls, is_tls, credentials, .. } = &nats.servers;
        if *is_tls {
            tls.connector(&[])?;
        }
        let is_plain = |credentials: &Credentials| {
            credentials.user.is_some()
                || !(is_seed(credentials.secret.expose()) || is_file(credentials.secret.expose()))
        };
        if !is_tls && credentials.as_ref().is_some_and(is_plain) {
            return Err("a password or a token is not sent without TLS: put tls:// in front of the servers".to_owned());
        }
        Ok(Self { nats: Arc::new(nats.clone()), open: None })
    }

    /// The first server that answers.
    async fn connect(&self) -> Result<Open, Failure> {
        let mut last = Failure::again("there is no server");
        for address in &self.nats.servers.at {
            let (aside, said, nats) = (Aside::new()?, Arc::default(), self.nats.clone());
            let (address, told) = (address.clone(), Arc::clone(&said));
            match aside.run(async move { connect(&nats, &address, told).await }).await {
                Ok((client, context)) => return Ok(Open { client, context, said, heard: 0, aside }),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

/// The seed of a user's key: 58 letters of base32.
fn is_seed(secret: &str) -> bool {
    secret.starts_with("SU")
        && secret.len() == 58
        && secret.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
}

/// What stands in a `.creds` file.
fn is_file(secret: &str) -> bool {
    secret.contains(CREDENTIALS)
}

async fn connect(
    nats: &Nats,
    (host, port): &(String, u16),
    said: Arc<Mutex<Option<String>>>,
) -> Result<(Client, Context), Failure> {
    let Servers { tls, is_tls, credentials, .. } = &nats.servers;
    // Of the time that there is some is left for the next server, and for telling why.
    let patience = nats.timeout / 4;
    let mut options = ConnectOptions::new()
        .name("portcullis")
        .connection_timeout(patience)
        .request_timeout(Some(patience))
        .ignore_discovered_servers()
        .max_reconnects(1)
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                *said.lock() = Some(plainly(error.to_string()));
            }
            std::future::ready(())
        });
    // Where there is none it would make one of its own.
    match tls.config(&[]) {
        Ok(config) => options = options.tls_client_config(config),
        Err(why) if *is_tls => return Err(Failure::again(why)),
        Err(_) => {}
    }
    options = match credentials {
        None => options,
        Some(Credentials { user: Some(user), secret }) => {
            options.user_and_password(user.clone(), secret.expose().clone())
        }
        Some(Credentials { user: None, secret }) => match secret.expose() {
            // Its last line has to end.
            text if is_file(text) => options.credentials(&format!("{text}\n")).map_err(Failure::again)?,
            text if is_seed(text) => options.nkey(text.clone()),
            text => options.token(text.clone()),
        },
    };
    let scheme = if *is_tls { "tls" } else { "nats" };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let address = format!("{scheme}://{host}:{port}").parse::<ServerAddr>().map_err(Failure::again)?;
    let client = options.require_tls(*is_tls).connect(address).await;
    let client = client.map_err(|why| Failure::again(plainly(why.to_string())))?;
    let mut context = jetstream::new(client.clone());
    context.set_timeout(nats.timeout / 2);
    Ok((client, context))
}

/// Publishes all of them, and waits until the stream has them.
async fn publish(context: &Context, messages: Vec<Message>) -> Result<String, PublishError> {
    let mut waiting = Vec::with_capacity(messages.len());
    for Message { subject, id, line } in messages {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        waiting.push(context.publish_with_headers(subject, headers, line.into()).await?);
    }
    let mut told = String::new();
    for taken in waiting {
        let taken = taken.await?;
        told = format!("it is number {} in the stream {}", taken.sequence, plainly(taken.stream));
    }
    Ok(told)
}

struct Message {
    subject: String,
    id: String,
    line: Vec<u8>,
}

fn failed(why: &PublishError, longest: usize, said: Option<String>) -> Failure {
    let code =
        why.source().and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
    let told = plainly(why.to_string());
    match why.kind() {
        // How much a server takes it says before TLS begins: somebody in between could say that it takes nothing.
        PublishErrorKind::MaxPayloadExceeded if longest >= LINE_LONG => Failure::Refused { why: told },
        _ if code == Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Failure::Refused { why: told },
        PublishErrorKind::StreamNotFound => Failure::again("no stream of JetStream takes messages of this subject"),
        _ => Failure::again(said.map_or_else(|| told.clone(), |said| format!("{told}; the server said: {said}"))),
    }
}

impl Transport for Publish {
    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        // One that failed, was left in the middle, or has connected again by itself, is not used again.
        let mut open = match self.open.take().filter(Open::is_good) {
            Some(open) => open,
            None => self.connect().await?,
        };
        let message = |item: &Item| Message {
            subject: format!("{}.{}", self.nats.subject, item.record.event.kind()),
            id: item.record.id(),
            line: item.line.clone(),
        };
        let messages: Vec<_> = items.iter().map(message).collect();
        let longest = items.iter().map(|item| item.line.len()).max().unwrap_or(0);
        let (context, said) = (open.context.clone(), open.said.clone());
        let work = async move {
            let sent = publish(&context, messages).await;
            sent.map_err(|why| failed(&why, longest, said.lock().take()))
        };
        let told = open.aside.run(work).await?;
        if !open.is_good() {
            return Err(Failure::again("the connection was lost meanwhile"));
        }
        open.heard = open.came();
        self.open = Some(open);
        Ok(Receipt::Taken(told))
    }

    async fn lost(&mut self) -> Failure {
        while self.open.as_ref().is_some_and(|open| open.came() <= open.heard + UNASKED_MAX) {
            sleep(LOOK_EVERY).await;
        }
        match self.open.take() {
            Some(_) => Failure::again("it said more than there was to say"),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::clock::Timestamp;
    use crate::delivery::Tls;
    use crate::event::encode::Encoder;
    use crate::event::journal::Position;
    use crate::event::{GuardStopped, Record, Scene};

    const INFO: &str =
        "INFO {\"server_id\":\"a\",\"version\":\"2.9.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n";

    /// The failure of a way to a server that says this as soon as somebody signs in.
    async fn failure_of(complaint: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(INFO.as_bytes()).await.unwrap();
            stream.read_line(&mut String::new()).await.unwrap();
            stream.write_all(complaint.as_bytes()).await.unwrap();
            // Until the client goes.
            while stream.read_line(&mut String::new()).await.is_ok_and(|read| read > 0) {}
        };
        let publish = way_to(address);
        let (opened, ()) = tokio::join!(publish.connect(), server);
        opened.err().unwrap().to_string()
    }

    fn way_to(address: SocketAddr) -> Publish {
        let servers = Servers {
            at: vec![(address.ip().to_string(), address.port())],
            is_tls: false,
            tls: Tls::default(),
            credentials: None,
        };
        let nats = Nats { servers, subject: "portcullis".to_owned(), timeout: Duration::from_secs(20) };
        Publish::new(&nats).unwrap()
    }

    /// A server that is whatever it should be until the first message is in its stream. Gives the connection.
    async fn one_message(listener: TcpListener) -> BufReader<TcpStream> {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(INFO.as_bytes()).await.unwrap();
        let mut inbox = String::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["PING"] => stream.write_all(b"PONG\r\n").await.unwrap(),
                ["SUB", _, id] => id.clone_into(&mut inbox),
                ["HPUB", _, answer_to, _, length] => {
                    let mut message = vec![0; length.parse::<usize>().unwrap() + 2];
                    stream.read_exact(&mut message).await.unwrap();
                    let taken = "{\"stream\":\"GUARDS\",\"seq\":1}";
                    let answer = format!("MSG {answer_to} {inbox} {}\r\n{taken}\r\n", taken.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return stream;
                }
                _ => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_talks_without_end_is_not_listened_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut publish = way_to(listener.local_addr().unwrap());
        let record = Record::new(Timestamp::EPOCH, Scene::default(), GuardStopped {}.into());
        let items = [Item::new(record, &Encoder::default(), Position::of(0))];
        let (taken, mut server) = tokio::join!(publish.send(&items), one_message(listener));
        assert!(matches!(taken, Ok(Receipt::Taken(told)) if told == "it is number 1 in the stream GUARDS"));
        // A ping now and then is nothing.
        server.write_all(b"PING\r\n").await.unwrap();
        let mut said = String::new();
        // It may ask whether the server is there, too.
        while !said.ends_with("PONG\r\n") {
            assert!(server.read_line(&mut said).await.unwrap() > 0, "{said}");
        }
        assert!(said.lines().all(|line| ["PING", "PONG"].contains(&line)), "{said}");
        tokio::select! {
            why = publish.lost() => panic!("{why}"),
            () = sleep(Duration::from_secs(3600)) => {}
        }
        let flood = async move {
            let mut sent = 0;
            while server.write_all(&[b'A'; 64 * 1024]).await.is_ok() {
                sent += 64 * 1024;
            }
            sent
        };
        let (why, sent) = tokio::join!(publish.lost(), flood);
        assert!(why.to_string().contains("more than there was to say"), "{why}");
        assert!(sent < 64 << 20, "{sent} octets");
        assert!(publish.open.is_none());
    }

    #[tokio::test]
    async fn what_a_hostile_server_says_is_told_plainly_and_does_not_break_anything() {
        let why = failure_of("-ERR 'no\u{1b}[2J \u{202e}room'\r\n").await;
        assert!(why.contains("no[2J room"), "{why}");
        // Its client panics over this one.
        failure_of("-ERR\r\n").await;
        failure_of("MSG a b c d e f\r\n").await;
    }
}
