//! Whose print a request goes by: that of the connection, or what a proxy before us says of its client.
//!
//! Behind a trusted proxy the connection is the proxy's own. Its TLS and its HTTP/2 say nothing of the client, and would be
//! another print whenever the proxy is renewed, so they are left out.

use http::HeaderMap;

use crate::connection::print::{Ja4, TlsPrint};
use crate::connection::{Connection, Print, Proxied};
use crate::proxy::Client;

/// The print of the client of this request.
///
/// A JA4 that a header states counts only from a trusted proxy, and only if it is the one there is: which of several the
/// proxy wrote nobody knows. A balancer that named nobody in its PROXY header passes on what clients write (as in
/// `client_ip::of`), so none is believed. The header itself stays on the request.
pub(super) fn print(connection: &Connection, headers: &HeaderMap, client: &Client) -> Print {
    if !client.trusted_proxies.contains(connection.peer_ip()) {
        return connection.print();
    }
    let stated = client.ja4_header.as_ref().filter(|_| connection.proxied() != Proxied::Unstated).and_then(|name| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        TlsPrint::of_ja4(Ja4::parse(line.to_str().ok()?.trim())?)
    });
    Print { tls: stated, ..Print::default() }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::connection::{ConnectionId, Endpoints, Http2Print, Peer, Transport};

    const NAME: HeaderName = HeaderName::from_static("cloudfront-viewer-ja4-fingerprint");
    const JA4: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";

    fn connection(proxied: Proxied) -> Connection {
        let peer = Peer::Ip("10.0.0.1:4000".parse().unwrap());
        let own = Print { http2: Some(Http2Print::of_text("own")), ..Print::default() };
        Connection::new(ConnectionId(1), peer, None, Transport::Plain, proxied).with_print(own)
    }

    fn trusting(networks: &[&str]) -> Client {
        let trusted_proxies = networks.iter().map(|network| network.parse().unwrap()).collect();
        Client { trusted_proxies, ja4_header: Some(NAME), ..Client::default() }
    }

    fn stating(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (NAME, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_trusted_proxy_speaks_of_its_client_and_never_of_itself() {
        let stated = TlsPrint::of_ja4(Ja4::parse(JA4).unwrap());
        let check = |proxied, values: &[&'static str], tls| {
            let print = print(&connection(proxied), &stating(values), &trusting(&["10.0.0.0/8"]));
            assert_eq!(print, Print { tls, ..Print::default() }, "{values:?}");
        };
        check(Proxied::No, &[JA4], stated);
        check(
            Proxied::No,
            &[" t13i1516h1_8daaf6152771_000000000000 "],
            TlsPrint { ja4: Ja4::parse("t13i1516h1_8daaf6152771_000000000000"), ..stated.unwrap() }.into(),
        );
        check(Proxied::No, &[], None);
        check(Proxied::No, &["unknown"], None);
        check(Proxied::No, &[JA4, JA4], None);
        check(Proxied::No, &["q13d0312h3_55b375c5d22e_06cda9e17597"], None);
        check(Proxied::Unstated, &[JA4], None);
    }

    #[test]
    fn anybody_else_has_the_print_of_the_connection() {
        let own = connection(Proxied::No).print();
        assert_eq!(print(&connection(Proxied::No), &stating(&[JA4]), &trusting(&["192.0.2.0/24"])), own);
        assert_eq!(print(&connection(Proxied::No), &stating(&[JA4]), &trusting(&[])), own);
        // A balancer below HTTP named its client, whose TLS ends here.
        let ends =
            Endpoints { source: "192.0.2.7:5000".parse().unwrap(), destination: "192.0.2.9:443".parse().unwrap() };
        assert_eq!(print(&connection(Proxied::Stated(ends)), &stating(&[JA4]), &trusting(&["10.0.0.0/8"])), own);
    }
}
