//! `[[listen]]` and `[client]`.

use std::net::SocketAddr;

use http::HeaderName;

use crate::config::{Client, Http2, Listen, ProxyProtocol, TlsFiles, UnderscoreHeaders};
use crate::net::IpPrefix;
use crate::proxy::RelayRtt;
use crate::rules::page::{Reader, Value, set};

pub(super) fn listen(reader: &Reader<'_>, listen: &mut Vec<Listen>) {
    let read = reader.tables("listen", |reader| {
        let address = match reader.value("address") {
            Some(value) => address(&value),
            None => {
                reader.missing("address", "such as address = \"127.0.0.1:8080\"");
                None
            }
        };
        let tls = reader.table("tls", tls).flatten();
        let http2 = reader.flag("http2").map(|on| if on { Http2::On } else { Http2::Off });
        // Over TLS the client says what it speaks; on a plain port HTTP/2 would have to be meant.
        let http2 = http2.unwrap_or(if tls.is_some() { Http2::On } else { Http2::Off });
        let words = [("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required)];
        let proxy_protocol = reader.word("proxy_protocol", &words).unwrap_or(ProxyProtocol::Off);
        Some(Listen { address: address?, tls, http2, proxy_protocol })
    });
    set(listen, read.filter(|read| !read.is_empty()));
}

fn tls(reader: &Reader<'_>) -> Option<TlsFiles> {
    let (cert, key) = (reader.path("cert"), reader.path("key"));
    for (there, name) in [(cert.is_some(), "cert"), (key.is_some(), "key")] {
        if !there {
            reader.missing(name, "TLS needs both: tls = { cert = \"cert.pem\", key = \"key.pem\" }");
        }
    }
    Some(TlsFiles { cert: cert?, key: key? })
}

/// An address and a port to listen on.
pub(super) fn address(value: &Value<'_>) -> Option<SocketAddr> {
    value.parsed("an address and a port, such as \"127.0.0.1:8080\"", |text| {
        text.parse().ok().ok_or_else(|| {
            let hint = match text.strip_prefix("localhost:") {
                Some(port) => format!("; a name can not be listened on, write \"127.0.0.1:{port}\""),
                None => String::new(),
            };
            format!("expected an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8443\"{hint}")
        })
    })
}

/// A program that can not measure says so.
fn relay_rtt(value: &Value<'_>) -> Option<RelayRtt> {
    match value.flag()? {
        false => Some(RelayRtt::Off),
        #[cfg(all(feature = "relay-rtt", target_os = "linux"))]
        true => Some(RelayRtt::Measured),
        #[cfg(not(all(feature = "relay-rtt", target_os = "linux")))]
        true => {
            value.fault(
                "this program can not measure it: on Linux, build one with `cargo build --release --features relay-rtt`",
                None,
            );
            None
        }
    }
}

pub(super) fn client(reader: &Reader<'_>, client: &mut Client) {
    if let Some(value) = reader.value("trusted_proxies") {
        let expected = "a list of networks, such as [\"10.0.0.0/8\"]";
        let read =
            value.list(expected, |value| value.parsed("a network such as \"10.0.0.0/8\"", str::parse::<IpPrefix>));
        set(&mut client.trusted_proxies, read);
    }
    if let Some(value) = reader.value("ja4_header") {
        let expected = "the name of a header, such as \"CloudFront-Viewer-JA4-Fingerprint\"";
        let name =
            |text: &str| HeaderName::from_bytes(text.as_bytes()).ok().ok_or_else(|| format!("expected {expected}"));
        client.ja4_header = value.parsed(expected, name);
    }
    if let Some(value) = reader.value("relay_rtt") {
        set(&mut client.relay_rtt, relay_rtt(&value));
    }
    set(&mut client.header_bytes_max, reader.size("header_bytes_max", 1024..=1 << 20));
    set(&mut client.headers_max, reader.whole("headers_max", 8..=1000));
    set(&mut client.uri_bytes_max, reader.size("uri_bytes_max", 256..=64 << 10));
    let words = [("drop", UnderscoreHeaders::Drop), ("reject", UnderscoreHeaders::Reject)];
    set(&mut client.underscore_headers, reader.word("underscore_headers", &words));
    set(&mut client.header_timeout, reader.some_time("header_timeout"));
    set(&mut client.body_timeout, reader.some_time("body_timeout"));
    set(&mut client.body_rate_min, reader.size("body_rate_min", 0..=1 << 20));
    set(&mut client.connections_max, reader.whole("connections_max", 1..=10_000_000));
    set(&mut client.idle_connection, reader.some_time("idle_connection"));
    set(&mut client.tunnel_idle, reader.some_time("tunnel_idle"));
    set(&mut client.drain_timeout, reader.duration("drain_timeout"));
    set(&mut client.http2_streams_max, reader.whole("http2_streams_max", 1..=10_000));
    set(&mut client.http2_glitches_max, reader.whole("http2_glitches_max", 1..=1_000_000));
}

/// The name of an environment variable.
pub(super) fn variable(value: &Value<'_>) -> Option<String> {
    value.parsed("the name of an environment variable", |text| {
        let is_name = !text.is_empty() && !text.contains(['=', '\0']);
        if is_name { Ok(text.to_owned()) } else { Err("an environment variable has another name".to_owned()) }
    })
}
