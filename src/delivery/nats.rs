//! NATS with JetStream: a message for each event, which counts as taken when the server says that a stream has it.
//!
//! Without JetStream nobody would say so, and what is published while nobody listens would be gone. `Nats-Msg-Id` lets a stream
//! leave out what it was sent twice, within its `duplicate_window`.

use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr};

use super::server::{Credentials, Nats, Servers};
use super::transport::{Failure, Item, Receipt, Transport};

/// What a file with credentials of a user begins with.
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----";
/// What the seed of a user's key begins with.
const SEED: &str = "SU";

/// A way to a stream.
pub(super) struct Publish {
    nats: Nats,
    open: Option<(Client, Context)>,
}

impl Publish {
    pub(super) fn new(nats: &Nats) -> Result<Self, String> {
        nats.servers.tls.connector(&[])?;
        Ok(Self { nats: nats.clone(), open: None })
    }

    async fn connect(&self) -> Result<(Client, Context), Failure> {
        let Servers { at, tls, is_tls, credentials } = &self.nats.servers;
        let mut options = ConnectOptions::new()
            .name("portcullis")
            .connection_timeout(self.nats.timeout)
            .request_timeout(Some(self.nats.timeout))
            // A connection that ends is begun anew by whoever sends, with pauses.
            .max_reconnects(1);
        if *is_tls {
            options = options.require_tls(true).tls_client_config(tls.config(&[]).map_err(Failure::again)?);
        }
        options = match credentials {
            None => options,
            Some(Credentials { user: Some(user), secret }) => {
                options.user_and_password(user.clone(), secret.expose().clone())
            }
            Some(Credentials { user: None, secret }) => match secret.expose() {
                text if text.contains(CREDENTIALS) => options.credentials(text).map_err(Failure::again)?,
                text if text.starts_with(SEED) => options.nkey(text.clone()),
                text => options.token(text.clone()),
            },
        };
        let scheme = if *is_tls { "tls" } else { "nats" };
        let address = |(host, port): &(String, u16)| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            format!("{scheme}://{host}:{port}").parse::<ServerAddr>().map_err(Failure::again)
        };
        let servers = at.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let client = options.connect(servers).await.map_err(Failure::again)?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(self.nats.timeout);
        Ok((client, context))
    }

    async fn publish(&self, context: &Context, item: &Item) -> Result<PublishAckFuture, Failure> {
        let subject = format!("{}.{}", self.nats.subject, item.record.event.kind());
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, item.record.id());
        context.publish_with_headers(subject, headers, item.line.clone().into()).await.map_err(|why| failed(&why))
    }
}

fn failed(why: &PublishError) -> Failure {
    match why.kind() {
        PublishErrorKind::MaxPayloadExceeded => Failure::Refused { why: why.to_string() },
        PublishErrorKind::StreamNotFound => Failure::again("no stream of JetStream takes messages of this subject"),
        _ => Failure::again(why),
    }
}

impl Transport for Publish {
    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        // One that failed, or was left in the middle, is not used again.
        let is_open = |(client, _): &(Client, Context)| client.connection_state() == State::Connected;
        let (client, context) = match self.open.take().filter(is_open) {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut waiting = Vec::with_capacity(items.len());
        for item in items {
            waiting.push(self.publish(&context, item).await?);
        }
        let mut told = String::new();
        for taken in waiting {
            let taken = taken.await.map_err(|why| failed(&why))?;
            told = format!("it is number {} in the stream {}", taken.sequence, taken.stream);
        }
        self.open = Some((client, context));
        Ok(Receipt::Taken(told))
    }
}
