//! What a successful login looks like.

use std::borrow::Cow;

use http::header::LOCATION;
use http::response;

use super::cookies::Taken;
use crate::facts::route::{PathPattern, canonical_path};
use crate::rules::Success;

impl Success {
    pub(super) fn holds(&self, response: &response::Parts, taken: &Taken, asked: &str) -> bool {
        let status = response.status;
        let by_status = if self.status.is_empty() {
            !status.is_client_error() && !status.is_server_error()
        } else {
            self.status.contains(&status)
        };
        let location = response.headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let location = location.as_deref().map(|location| location_path(location, asked));
        // Where a success is told by where it leads to, a redirect that leads nowhere is none.
        if location.is_none() && !self.location_not.is_empty() && status.is_redirection() {
            return false;
        }
        let goes_to = |patterns: &[PathPattern]| {
            location.as_deref().is_some_and(|path| {
                let path = canonical_path(path);
                patterns.iter().any(|pattern| pattern.matches(&path.path))
            })
        };
        let by_cookie = self.sets_cookie.as_ref().is_none_or(|name| taken.sets(name, &response.headers));
        by_status && by_cookie && !goes_to(&self.location_not) && (self.location.is_empty() || goes_to(&self.location))
    }
}

/// The path of a `Location`, which may be relative to the path that was asked for (RFC 3986, section 5.2).
fn location_path<'l>(location: &'l str, asked: &str) -> Cow<'l, str> {
    // The query is the client's to choose, and may look like anything.
    let location = location.split(['?', '#']).next().unwrap_or(location);
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    };
    let absolute = location.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).map(|(_, rest)| rest);
    let path = match absolute.or_else(|| location.strip_prefix("//")) {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => location,
    };
    let path: Cow<'_, str> = match asked.rfind('/').and_then(|at| asked.get(..=at)) {
        _ if path.starts_with('/') => Cow::Borrowed(path),
        _ if path.is_empty() => Cow::Owned(asked.to_owned()),
        folder => Cow::Owned(format!("{}{path}", folder.unwrap_or("/"))),
    };
    // Java servers put the session into the path of a client without cookies.
    if path.contains(';') {
        let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
        return Cow::Owned(segments.join("/"));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_location_is_found_in_every_form() {
        let check = |location: &str, expected: &str| assert_eq!(location_path(location, "/app/login.php"), expected);
        check("/accounts/login/?next=/", "/accounts/login/");
        check("https://example.com/a/b#c", "/a/b");
        check("https://example.com", "/");
        check("login.php?error=1", "/app/login.php");
        check("?error=1", "/app/login.php");
        check("//example.com/a", "/a");
        check("/login?error=1&next=https://x/home", "/login");
        check("/login#://x/home", "/login");
        check("/login;jsessionid=1A2B?error", "/login");
        check("/go/a://b", "/go/a://b");
    }
}
