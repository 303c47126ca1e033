//! `[upstream]`: the app.

use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;

use crate::config::{Balance, Health, Location, Upstream};
use crate::rules::page::{Reader, set};

pub(super) fn read(reader: &Reader<'_>, upstream: &mut Upstream) {
    if let Some(value) = reader.value("url") {
        let expected = "an address such as \"http://127.0.0.1:8000\", or a list of them";
        let base = value.base();
        let locations = value.one_or_more(expected, |text| text.parse().map(|location| under(base, location)));
        if locations.as_ref().is_some_and(Vec::is_empty) && !value.is_table() {
            value.fault("expected at least one address", None);
        }
        set(&mut upstream.locations, locations);
    }
    set(&mut upstream.ca, reader.path("ca").map(Some));
    let words = [("least_busy", Balance::LeastBusy), ("round_robin", Balance::RoundRobin)];
    set(&mut upstream.balance, reader.word("balance", &words));
    if let Some(value) = reader.value("host") {
        let host = value.parsed("\"pass\" or a host name", |text| match text {
            "pass" => Ok(None),
            _ => authority(text)
                .map(|()| Some(text.to_owned()))
                .ok_or("expected \"pass\" or a host name, with a port if any"),
        });
        set(&mut upstream.host, host);
    }
    set(&mut upstream.connect_timeout, reader.some_time("connect_timeout"));
    set(&mut upstream.response_timeout, reader.some_time("response_timeout"));
    set(&mut upstream.connections_max, reader.whole("connections_max", 1..=1_000_000));
    set(&mut upstream.queue_timeout, reader.duration("queue_timeout"));
    set(&mut upstream.idle_timeout, reader.some_time("idle_timeout"));
    set(&mut upstream.header_bytes_max, reader.size("header_bytes_max", 1024..=1 << 20));
    set(&mut upstream.health, reader.table("health", health).flatten().map(Some));
}

fn health(reader: &Reader<'_>) -> Option<Health> {
    let path = match reader.value("path") {
        Some(value) => value.parsed("a path such as \"/healthz\"", |text| {
            let plain = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            plain.then(|| text.to_owned()).ok_or("expected a path such as \"/healthz\"")
        }),
        None => {
            reader.missing("path", "such as health = { path = \"/healthz\", every = \"5s\" }");
            None
        }
    };
    let every = reader.some_time("every").unwrap_or(std::time::Duration::from_secs(5));
    Some(Health { path: path?, every })
}

fn under(base: &std::path::Path, location: Location) -> Location {
    match location {
        Location::Unix(path) => Location::Unix(base.join(path)),
        other => other,
    }
}

fn authority(text: &str) -> Option<()> {
    let authority: http::uri::Authority = text.parse().ok()?;
    (!text.contains('@') && !authority.host().is_empty()).then_some(())
}

/// Why a text is no address of an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not one of the three forms.
    #[error("expected \"http://HOST:PORT\", \"https://HOST:PORT\" or \"unix:/PATH\"")]
    Shape,
    /// A host alone.
    #[error("a scheme is missing: expected \"http://{0}\" or \"https://{0}\"")]
    Scheme(String),
    /// Requests keep their own path, so there is no place for another.
    #[error("an upstream has no path of its own: requests keep the path they came with, so leave out \"{0}\"")]
    Path(String),
    /// A name and password.
    #[error("an upstream has no user and no password")]
    UserInfo,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let good = !path.is_empty() && !path.contains('\0');
            return if good { Ok(Self::Unix(PathBuf::from(path))) } else { Err(LocationError::Shape) };
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(match authority(text) {
                Some(()) => LocationError::Scheme(text.to_owned()),
                None => LocationError::Shape,
            });
        };
        if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(LocationError::UserInfo);
        }
        let uri: Uri = text.parse().ok().ok_or(LocationError::Shape)?;
        let beyond = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if beyond != "/" || text.contains('#') {
            return Err(LocationError::Path(beyond.to_owned()));
        }
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let host = host.filter(|host| !host.is_empty()).ok_or(LocationError::Shape)?;
        let port = match uri.authority().and_then(|authority| authority.as_str().rsplit_once(':')) {
            Some((_, digits)) if !digits.ends_with(']') => {
                Some(uri.port_u16().filter(|port| *port != 0).ok_or(LocationError::Shape)?)
            }
            _ => None,
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Tcp { host, port: port.unwrap_or(80) }),
            "https" => Ok(Self::Tls { host, port: port.unwrap_or(443) }),
            _ => Err(LocationError::Shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Result<Location, LocationError> {
        Ok(Location::Tcp { host: host.to_owned(), port })
    }

    #[test]
    fn an_upstream_is_http_https_or_a_socket() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Location>(), expected, "{text}");
        check("http://127.0.0.1:8000", tcp("127.0.0.1", 8000));
        check("http://127.0.0.1:8000/", tcp("127.0.0.1", 8000));
        check("http://app", tcp("app", 80));
        check("HTTP://app:81", tcp("app", 81));
        check("http://[::1]:8000", tcp("::1", 8000));
        check("http://[::1]", tcp("::1", 80));
        check("https://app.example", Ok(Location::Tls { host: "app.example".to_owned(), port: 443 }));
        check("unix:/run/app.sock", Ok(Location::Unix("/run/app.sock".into())));
        check("unix:///run/app.sock", Ok(Location::Unix("/run/app.sock".into())));
        check("127.0.0.1:8000", Err(LocationError::Scheme("127.0.0.1:8000".to_owned())));
        check("localhost", Err(LocationError::Scheme("localhost".to_owned())));
        check("http://app/base", Err(LocationError::Path("/base".to_owned())));
        check("http://app?x", Err(LocationError::Path("?x".to_owned())));
        check("http://user:pass@app", Err(LocationError::UserInfo));
        for text in [
            "",
            "http://",
            "http://:80",
            "http://app:0",
            "http://app:99999",
            "http://app:x",
            "ftp://app",
            "unix:",
            "a b",
        ] {
            check(text, Err(LocationError::Shape));
        }
    }
}
