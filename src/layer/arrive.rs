//! A request as it comes from the host, made into one that the engine may see: what the proxy does on its data path.

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, request};

use super::GuardLayer;
use crate::connection::Scheme;
use crate::connection::print::Print;
use crate::engine::{Client, ClientStanding, control};
use crate::event::{ClientText, kinds as event};
use crate::facts::client_ip::{self, UntrustedForwarding};
use crate::facts::seen;
use crate::net::canonical;
use crate::store::Store;
use crate::verdict::Text;

impl<S: Store> GuardLayer<S> {
    /// Cleans the head of a request and finds out who asks.
    ///
    /// # Errors
    /// The status to answer with.
    pub(super) fn arrive(&self, parts: &mut request::Parts) -> Result<Client, StatusCode> {
        let Some(peer) = (self.options.client)(parts).map(canonical) else {
            tracing::error!(
                "a request came without the address of its client and was refused: set the `ClientAddr` extension, or \
                 say where the address is found with `GuardLayer::with_client`"
            );
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        };
        for name in take_ours(&mut parts.headers) {
            self.guard.report(Some(peer), event::HeaderSpoofed { header: ClientText::new(name.as_str()) });
        }
        if settle_host(parts).is_none() {
            self.guard.report(Some(peer), event::HttpMalformed { fault: Text::of("host") });
            return Err(StatusCode::BAD_REQUEST);
        }
        let policy = self.guard.policy_now();
        let trusted = &policy.trusted_proxies;
        let standing = match client_ip::untrusted_forwarding(peer, &parts.headers, trusted) {
            UntrustedForwarding::Yes => {
                self.guard.advise_proxy(peer);
                ClientStanding::LooksLikeProxy
            }
            UntrustedForwarding::No => ClientStanding::Own,
        };
        let scheme = client_ip::stated_scheme(peer, &parts.headers, trusted).unwrap_or_else(|| self.scheme_of(parts));
        let client = client_ip::resolve(peer, &parts.headers, trusted);
        if let Some(junk) = client.junk {
            self.guard.advise_proxy_header(peer, junk);
        }
        Ok(Client {
            ip: client.ip,
            scheme,
            standing,
            print: Print::default(),
            order: None,
            connection: None,
            located: None,
        })
    }

    fn scheme_of(&self, parts: &request::Parts) -> Scheme {
        match parts.uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => self.options.scheme,
        }
    }
}

/// Removes the headers that only the guard may write, and gives their names.
fn take_ours(headers: &mut HeaderMap) -> Vec<HeaderName> {
    let ours: Vec<HeaderName> = headers.keys().filter(|name| control::is_ours(name.as_str())).cloned().collect();
    for name in &ours {
        headers.remove(name);
    }
    ours
}

/// Leaves at most one host, the one that the target names; none if there are two that differ. A request without any is
/// left alone: it did not come over HTTP/1.1.
fn settle_host(parts: &mut request::Parts) -> Option<()> {
    let (first, second) = {
        let mut hosts = seen::lines(&parts.headers, &HOST);
        (hosts.next(), hosts.next())
    };
    match (first, second, parts.uri.authority()) {
        (_, Some(_), _) => None,
        (Some(host), None, Some(authority)) => {
            host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()).then_some(())
        }
        (None, None, Some(authority)) => {
            let host = HeaderValue::from_str(authority.as_str()).ok()?;
            parts.headers.insert(HOST, host);
            Some(())
        }
        (_, None, None) => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn there_is_one_host_or_none() {
        let check = |target: &str, hosts: &[&str], expected: Option<Option<&str>>| {
            let mut request = Request::get(target);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let settled = settle_host(&mut parts);
            let host = parts.headers.get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(settled.map(|()| host), expected, "{target} {hosts:?}");
        };
        check("/", &[], Some(None));
        check("/", &["a.example"], Some(Some("a.example")));
        check("/", &["a.example", "a.example"], None);
        check("https://a.example/", &[], Some(Some("a.example")));
        check("https://a.example/", &["A.example"], Some(Some("A.example")));
        check("https://a.example/", &["b.example"], None);
    }

    #[test]
    fn headers_of_ours_are_taken_in_both_spellings() {
        let (mut parts, ()) = Request::get("/")
            .header("portcullis-subject", "root")
            .header("portcullis-subject", "admin")
            .header("Portcullis_Ref", "1")
            .header("x-portcullis-subject", "left")
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(take_ours(&mut parts.headers).len(), 2);
        assert_eq!(parts.headers.len(), 1);
    }
}
