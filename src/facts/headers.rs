//! Facts read from request headers: navigation, passive, cross-site; what an upgrade asks for; what must not be passed on.
//!
//! A client may write anything here. Each fact is therefore used only where a lie costs the liar: to claim a prefetch
//! shortens one's own session, to claim a navigation gets one's own cookie renewed. What is absent or repeated is
//! unknown, never a guess.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, RANGE, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use smallvec::SmallVec;

use super::seen::SeenHeaders;

/// The value of a header that stands there exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The words of a comma-separated list over all lines of a header, without the empty ones.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).into_iter().flat_map(|line| words_of(line.as_bytes()))
}

/// As [`words`], of one line.
fn words_of(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// Who caused a request, seen from the site it goes to (`Sec-Fetch-Site`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SiteRelation {
    /// A page of the same scheme, host and port.
    SameOrigin,
    /// A page of another host below the same registrable domain.
    SameSite,
    /// Nobody's page: the address bar, a bookmark, a restored tab.
    None,
    /// A page of another site.
    CrossSite,
    /// Not said, said twice, or a word we do not know.
    Unknown,
}

/// How the request was started (`Sec-Fetch-Mode`), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchMode {
    /// Going to a page.
    Navigate,
    /// A WebSocket handshake. Chromium does not say so.
    WebSocket,
    /// A part of a page, or a script's own request.
    Other,
    /// Not said.
    Unknown,
}

/// What the answer is for (`Sec-Fetch-Dest`), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchDest {
    /// A page of its own.
    Document,
    /// A page within a page.
    Frame,
    /// What the browser fetches by itself, no page and no script asking: a service worker's script when it looks for an
    /// update, a web app's manifest, the delivery of a report.
    Background,
    /// Anything else, scripts' own requests (`empty`) among them.
    Other,
    /// Not said.
    Unknown,
}

/// Whether a page was fetched before anyone asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speculation {
    /// It was asked for.
    No,
    /// Fetched in advance (`Sec-Purpose: prefetch`, or its older spellings).
    Prefetch,
    /// Fetched and run in advance (`Sec-Purpose: prefetch;prerender`).
    Prerender,
}

/// What a browser says about a request of its own accord (Fetch Metadata); scripts cannot change it. It comes over TLS
/// and to loopback only, and browsers before 2023 may lack it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchMetadata {
    /// Who caused it.
    pub site: SiteRelation,
    /// How.
    pub mode: FetchMode,
    /// For what.
    pub dest: FetchDest,
    /// Whether ahead of time.
    pub speculation: Speculation,
}

impl FetchMetadata {
    /// Reads it once for a request.
    pub fn of(seen: &SeenHeaders<'_>) -> Self {
        let site = match seen.sec_fetch_site.single() {
            Some(b"same-origin") => SiteRelation::SameOrigin,
            Some(b"same-site") => SiteRelation::SameSite,
            Some(b"none") => SiteRelation::None,
            Some(b"cross-site") => SiteRelation::CrossSite,
            _ => SiteRelation::Unknown,
        };
        let mode = match seen.sec_fetch_mode.single() {
            Some(b"navigate") => FetchMode::Navigate,
            Some(b"websocket") => FetchMode::WebSocket,
            Some(_) => FetchMode::Other,
            None => FetchMode::Unknown,
        };
        let dest = match seen.sec_fetch_dest.single() {
            Some(b"document") => FetchDest::Document,
            Some(b"iframe" | b"frame" | b"fencedframe" | b"embed" | b"object") => FetchDest::Frame,
            Some(b"serviceworker" | b"manifest" | b"report") => FetchDest::Background,
            Some(_) => FetchDest::Other,
            None => FetchDest::Unknown,
        };
        Self { site, mode, dest, speculation: speculation(seen) }
    }
}

fn speculation(seen: &SeenHeaders<'_>) -> Speculation {
    if let Some(purpose) = seen.sec_purpose.first() {
        let mut parts = purpose.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        return match parts.next() {
            Some(b"prefetch") if parts.any(|part| part == b"prerender") => Speculation::Prerender,
            Some(b"prefetch") => Speculation::Prefetch,
            _ => Speculation::No,
        };
    }
    // Chrome before 2023 and Safari; Firefox before 2021.
    let prefetch = Some(&b"prefetch"[..]);
    if seen.purpose.first() == prefetch || seen.x_moz.first() == prefetch {
        Speculation::Prefetch
    } else {
        Speculation::No
    }
}

/// Whether a person goes to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Navigation {
    /// To a page of its own, by link, address bar or form.
    Document,
    /// Within a frame of a page.
    Frame,
    /// No navigation: part of a page, a script's request, a program.
    No,
}

/// Whether the request is a navigation. Without Fetch Metadata, a GET that names `text/html` among what it accepts and
/// does not come from a script library is taken for one.
pub fn navigation(method: &Method, headers: &HeaderMap, seen: &SeenHeaders<'_>, fetch: &FetchMetadata) -> Navigation {
    match (fetch.mode, fetch.dest) {
        (FetchMode::Navigate, FetchDest::Frame) => Navigation::Frame,
        // Safari of 2023 says the mode without the destination.
        (FetchMode::Navigate, FetchDest::Document | FetchDest::Unknown) => Navigation::Document,
        (FetchMode::Unknown, FetchDest::Unknown)
            if method == Method::GET && !seen.x_requested_with.is_present() && names_html(headers, seen) =>
        {
            Navigation::Document
        }
        _ => Navigation::No,
    }
}

fn names_html(headers: &HeaderMap, seen: &SeenHeaders<'_>) -> bool {
    let is_html = |word| media_type(word).eq_ignore_ascii_case(b"text/html");
    match seen.accept.single() {
        Some(line) => words_of(line).any(is_html),
        None => seen.accept.is_present() && words(headers, &ACCEPT).any(is_html),
    }
}

/// Whether a request shows that someone uses the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// It does, or may: it moves the idle deadline.
    Active,
    /// The browser sent it on its own.
    Passive,
}

/// Whether the request counts as use, by what the browser says. Routes that the policy lists as passive come on top.
///
/// Passive are a GET ahead of time and one whose destination no page asked for. A script's request is not: whole
/// applications live on them, and nothing in it tells a poll from a click. Neither is anything but a GET.
pub fn activity(method: &Method, fetch: &FetchMetadata) -> Activity {
    let unasked = fetch.speculation != Speculation::No || fetch.dest == FetchDest::Background;
    if method == Method::GET && unasked { Activity::Passive } else { Activity::Active }
}

/// Whether an answer is shown or saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// A page, a part of one, data for a script.
    Inline,
    /// A file, or a piece of one. Download programs take a snapshot of the cookies and show it for hours, so they get no
    /// successor to fall behind with.
    Download,
}

/// Whether the answer is a download: a piece was asked for, or it is sent as a file to keep.
pub fn delivery(request: &HeaderMap, response: &HeaderMap) -> Delivery {
    let starts = |name: &HeaderName, word: &[u8]| {
        let value = response.get(name).map(|value| value.as_bytes().trim_ascii_start());
        value.and_then(|value| value.get(..word.len())).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let saved = starts(&CONTENT_DISPOSITION, b"attachment") || starts(&CONTENT_TYPE, b"application/octet-stream");
    if request.contains_key(RANGE) || saved { Delivery::Download } else { Delivery::Inline }
}

/// In what form an answer of our own is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyForm {
    /// A small page.
    Html,
    /// `application/problem+json` (RFC 9457).
    Problem,
}

/// The form the client prefers by `Accept`: HTML only for one that names it and does not prefer JSON. What accepts
/// anything is a program.
pub fn reply_form(headers: &HeaderMap) -> ReplyForm {
    let (mut html, mut json) = (0, 0);
    for word in words(headers, &ACCEPT).take(32) {
        let media = media_type(word);
        if [&b"text/html"[..], b"application/xhtml+xml"].iter().any(|name| media.eq_ignore_ascii_case(name)) {
            html = html.max(quality(word));
        } else if [&b"application/json"[..], b"application/problem+json"]
            .iter()
            .any(|name| media.eq_ignore_ascii_case(name))
        {
            json = json.max(quality(word));
        }
    }
    if html > 0 && html >= json { ReplyForm::Html } else { ReplyForm::Problem }
}

/// The media type at the beginning of a word of `Accept`.
fn media_type(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end()
}

/// Its weight in thousandths; a malformed one counts as nothing.
fn quality(word: &[u8]) -> u16 {
    let parameters = word.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let Some(weight) = parameters.filter_map(|parameter| parameter.strip_prefix(b"q=")).next() else { return 1000 };
    match weight {
        [b'1', ..] => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(3);
            padded.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
        }
        _ => 0,
    }
}

/// What a request asks its connection to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing.
    No,
    /// A WebSocket, asked for as RFC 6455 wants it.
    WebSocket,
    /// A WebSocket, asked for wrongly: to be refused.
    Refused(UpgradeFault),
    /// Something else (`h2c`), several things, or in HTTP/1.0: the header is dropped and the request goes on as if it
    /// had none.
    Ignored,
}

/// What is wrong with a WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeFault {
    /// Not a GET.
    #[error("a WebSocket handshake must be a GET")]
    Method,
    /// A body is announced, which would be read as frames behind our back.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// `Connection` does not name `upgrade`.
    #[error("a WebSocket handshake needs `Connection: upgrade`")]
    Connection,
    /// The key is missing, repeated, or not 16 bytes in base64.
    #[error("the key of the WebSocket handshake is not 16 bytes in base64")]
    Key,
    /// Another version than 13, or none, or two.
    #[error("only version 13 of WebSocket is spoken here")]
    Version,
}

impl UpgradeFault {
    /// The status to refuse it with. To 426 belongs `Sec-WebSocket-Version: 13`.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method | Self::Body | Self::Connection | Self::Key => StatusCode::BAD_REQUEST,
        }
    }
}

/// What the request asks its connection to become (RFC 6455 section 4.2.1).
pub fn upgrade(method: &Method, version: Version, headers: &HeaderMap) -> Upgrade {
    if !headers.contains_key(UPGRADE) {
        return Upgrade::No;
    }
    let mut wanted = words(headers, &UPGRADE);
    let websocket = wanted.next().is_some_and(|word| word.eq_ignore_ascii_case(b"websocket"));
    if !websocket || wanted.next().is_some() || version != Version::HTTP_11 {
        return Upgrade::Ignored;
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24).map(|key| STANDARD.decode(key));
    let body =
        headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if method != Method::GET {
        Upgrade::Refused(UpgradeFault::Method)
    } else if body {
        Upgrade::Refused(UpgradeFault::Body)
    } else if !words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case(b"upgrade")) {
        Upgrade::Refused(UpgradeFault::Connection)
    } else if single(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        Upgrade::Refused(UpgradeFault::Version)
    } else if !key.is_some_and(|key| key.is_ok_and(|bytes| bytes.len() == 16)) {
        Upgrade::Refused(UpgradeFault::Key)
    } else {
        Upgrade::WebSocket
    }
}

/// How many names `Connection` may list.
pub const NOMINATED_MAX: usize = 16;

/// What is wrong with a `Connection` header: the request is refused, an answer thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionFault {
    /// It lists a header that is meant for the other end, to have us take it off.
    #[error("`Connection` lists `{0}`, which no hop may take off")]
    Protected(HeaderName),
    /// It lists something that is no header name.
    #[error("`Connection` lists something that is no header name")]
    Malformed,
    /// It lists more than [`NOMINATED_MAX`] names.
    #[error("`Connection` lists more than {NOMINATED_MAX} names")]
    TooMany,
}

/// Takes off the headers of this hop: the fixed set, and what `Connection` lists. Done before any header of ours is added.
/// Where a transfer coding stood, the length beside it goes too: only one of them can be true, and both are made anew.
///
/// # Errors
/// When `Connection` lists what it must not; nothing is taken off then.
pub fn hop_by_hop(headers: &mut HeaderMap) -> Result<(), ConnectionFault> {
    let mut gone: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    let is_coded = gone.contains(&TRANSFER_ENCODING);
    for (at, word) in words(headers, &CONNECTION).enumerate() {
        if at == NOMINATED_MAX {
            return Err(ConnectionFault::TooMany);
        }
        if word.eq_ignore_ascii_case(b"keep-alive") || word.eq_ignore_ascii_case(b"close") {
            continue;
        }
        let name = HeaderName::from_bytes(word).ok().ok_or(ConnectionFault::Malformed)?;
        if is_protected(name.as_str()) {
            return Err(ConnectionFault::Protected(name));
        }
        gone.push(name);
    }
    for name in &gone {
        headers.remove(name);
    }
    if is_coded {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// Whether a header of this (lower-case) name is for one hop, whatever `Connection` lists.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    // By length first: most names differ in it.
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade",
        10 => matches!(name, "connection" | "keep-alive"),
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        _ => false,
    }
}

/// Headers that reach the other end or end here, but are never taken off because somebody lists them. Sorted.
const PROTECTED: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "client-cert",
    "client-cert-chain",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "trailer",
    "true-client-ip",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
];

/// Beginnings of more such names.
const PROTECTED_BEGINNINGS: &[&str] =
    &["accept", "access-control-", "cf-", "content-", "if-", "portcullis-", "sec-", "x-forwarded"];

fn is_protected(name: &str) -> bool {
    PROTECTED.binary_search(&name).is_ok() || PROTECTED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether a header name is one that CGI, WSGI or PHP would fold into another's: `X_Real_IP` becomes the same variable as
/// `X-Real-IP`. Only letters, digits and `-` are safe.
pub fn is_alias(name: &HeaderName) -> bool {
    name.as_str().bytes().any(|byte| !byte.is_ascii_lowercase() && byte != b'-' && !byte.is_ascii_digit())
}

/// The first header name that another program could take for a second one.
pub fn first_alias(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| is_alias(name))
}

/// Takes off every header whose name could be taken for another's, and says how many names that were.
pub fn strip_aliases(headers: &mut HeaderMap) -> usize {
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_alias(name)).cloned().collect();
    for name in &found {
        headers.remove(name);
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    /// Header lines written `name: value`.
    fn headers(lines: &[&str]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            out.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
        }
        out
    }

    #[test]
    fn fetch_metadata_is_read_and_never_guessed() {
        let site = |lines: &[&str]| FetchMetadata::of(&SeenHeaders::of(&headers(lines))).site;
        assert_eq!(site(&["Sec-Fetch-Site: same-origin"]), SiteRelation::SameOrigin);
        assert_eq!(site(&["Sec-Fetch-Site: same-site"]), SiteRelation::SameSite);
        assert_eq!(site(&["Sec-Fetch-Site: none"]), SiteRelation::None);
        assert_eq!(site(&["Sec-Fetch-Site: cross-site"]), SiteRelation::CrossSite);
        for unknown in [&[][..], &["Sec-Fetch-Site: x"], &["Sec-Fetch-Site: none", "Sec-Fetch-Site: none"]] {
            assert_eq!(site(unknown), SiteRelation::Unknown);
        }
    }

    #[test]
    fn navigations_are_told_from_the_rest() {
        let check = |method: Method, lines: &[&str], expected| {
            let headers = headers(lines);
            let seen = SeenHeaders::of(&headers);
            assert_eq!(navigation(&method, &headers, &seen, &FetchMetadata::of(&seen)), expected, "{method} {lines:?}");
        };
        let html = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        check(Method::GET, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"], Navigation::Document);
        check(Method::POST, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"], Navigation::Document);
        check(Method::GET, &["Sec-Fetch-Mode: navigate"], Navigation::Document);
        check(Method::GET, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"], Navigation::Frame);
        check(Method::GET, &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", html], Navigation::No);
        check(Method::GET, &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"], Navigation::No);
        check(Method::GET, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: image"], Navigation::No);
        check(Method::GET, &[html], Navigation::Document);
        check(Method::GET, &["Accept: TEXT/HTML;q=0.5"], Navigation::Document);
        check(Method::POST, &[html], Navigation::No);
        check(Method::GET, &[html, "X-Requested-With: XMLHttpRequest"], Navigation::No);
        check(Method::GET, &["Accept: */*", html], Navigation::Document);
        check(Method::GET, &["Accept: */*"], Navigation::No);
        check(Method::GET, &[], Navigation::No);
    }

    #[test]
    fn what_a_browser_does_by_itself_is_passive() {
        let check = |method: Method, lines: &[&str], expected| {
            assert_eq!(
                activity(&method, &FetchMetadata::of(&SeenHeaders::of(&headers(lines)))),
                expected,
                "{method} {lines:?}"
            );
        };
        for passive in [
            "Sec-Purpose: prefetch",
            "Sec-Purpose: prefetch;prerender",
            "Sec-Purpose: prefetch; anonymous-client-ip",
            "Purpose: prefetch",
            "X-Moz: prefetch",
            "Sec-Fetch-Dest: serviceworker",
            "Sec-Fetch-Dest: manifest",
        ] {
            check(Method::GET, &[passive], Activity::Passive);
            check(Method::POST, &[passive], Activity::Active);
            check(Method::HEAD, &[passive], Activity::Active);
        }
        check(Method::GET, &[], Activity::Active);
        check(Method::GET, &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"], Activity::Active);
        check(Method::GET, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"], Activity::Active);
        check(Method::GET, &["Sec-Purpose: prefetching"], Activity::Active);
        check(Method::GET, &["Sec-Purpose: x", "Purpose: prefetch"], Activity::Active);
        let prerender = FetchMetadata::of(&SeenHeaders::of(&headers(&["Sec-Purpose: prefetch;prerender"])));
        assert_eq!(prerender.speculation, Speculation::Prerender);
    }

    #[test]
    fn downloads_are_known_from_either_side() {
        let check = |request: &[&str], response: &[&str], expected| {
            assert_eq!(delivery(&headers(request), &headers(response)), expected, "{request:?} {response:?}");
        };
        check(&[], &["Content-Type: text/html"], Delivery::Inline);
        check(&[], &["Content-Disposition: inline; filename=attachment"], Delivery::Inline);
        check(&[], &["Content-Disposition: Attachment; filename=a"], Delivery::Download);
        check(&[], &["Content-Type: application/octet-stream"], Delivery::Download);
        check(&["Range: bytes=0-"], &[], Delivery::Download);
    }

    #[test]
    fn replies_take_the_form_that_is_preferred() {
        let check = |lines: &[&str], expected| assert_eq!(reply_form(&headers(lines)), expected, "{lines:?}");
        check(&["Accept: text/html,application/xhtml+xml,*/*;q=0.8"], ReplyForm::Html);
        check(&["Accept: application/json", "Accept: text/html"], ReplyForm::Html);
        check(&["Accept: application/json, text/html;q=0.9"], ReplyForm::Problem);
        check(&["Accept: application/json;q=0.5, text/html;q=0.51"], ReplyForm::Html);
        check(&["Accept: application/problem+json;q=0.123, text/html;q=0.12"], ReplyForm::Problem);
        check(&["Accept: text/html;q=0"], ReplyForm::Problem);
        check(&["Accept: text/html;q=0.000"], ReplyForm::Problem);
        check(&["Accept: text/html;q=x"], ReplyForm::Problem);
        check(&["Accept: text/html; level=1; q=0.7, application/json;q=0.2"], ReplyForm::Html);
        check(&["Accept: */*"], ReplyForm::Problem);
        check(&["Accept: text/htmlx"], ReplyForm::Problem);
        check(&[], ReplyForm::Problem);
    }

    #[test]
    fn a_handshake_is_right_or_refused() {
        const GOOD: [&str; 4] = [
            "Upgrade: WebSocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ];
        let with = |method: Method, version, at: usize, lines: &[&str]| {
            let kept = GOOD.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, line)| *line);
            upgrade(&method, version, &headers(&kept.chain(lines.iter().copied()).collect::<Vec<_>>()))
        };
        let check = |at, lines: &[&str], expected| {
            assert_eq!(with(Method::GET, Version::HTTP_11, at, lines), expected, "{lines:?}");
        };
        check(9, &[], Upgrade::WebSocket);
        check(9, &["Content-Length: 0"], Upgrade::WebSocket);
        check(0, &[], Upgrade::No);
        for other in ["h2c", "websocket, h2c", "h2c, websocket", "", "websockets", "websocket/13"] {
            check(0, &[&format!("Upgrade: {other}")], Upgrade::Ignored);
        }
        check(9, &["Upgrade: websocket"], Upgrade::Ignored);
        check(1, &[], Upgrade::Refused(UpgradeFault::Connection));
        check(1, &["Connection: upgraded"], Upgrade::Refused(UpgradeFault::Connection));
        check(9, &["Content-Length: 5"], Upgrade::Refused(UpgradeFault::Body));
        check(9, &["Transfer-Encoding: chunked"], Upgrade::Refused(UpgradeFault::Body));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZWE=",
            "dGhlIHNhbXBsZSBub25j!Q==",
            "dGhlIHNhbXBsZSBub25jZR==",
        ] {
            check(2, &[&format!("Sec-WebSocket-Key: {key}")], Upgrade::Refused(UpgradeFault::Key));
        }
        check(2, &[], Upgrade::Refused(UpgradeFault::Key));
        check(9, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], Upgrade::Refused(UpgradeFault::Key));
        for lines in [&[][..], &["Sec-WebSocket-Version: 8"], &["Sec-WebSocket-Version: 13, 8"]] {
            check(3, lines, Upgrade::Refused(UpgradeFault::Version));
        }
        assert_eq!(with(Method::POST, Version::HTTP_11, 9, &[]), Upgrade::Refused(UpgradeFault::Method));
        assert_eq!(with(Method::GET, Version::HTTP_10, 9, &[]), Upgrade::Ignored);
        assert_eq!(UpgradeFault::Version.status(), 426);
        assert_eq!(UpgradeFault::Key.status(), 400);
    }

    #[test]
    fn headers_of_this_hop_are_taken_off() {
        let mut map = headers(&[
            "Host: a",
            "Connection: X-Hop, close",
            "Connection: , x-other ,TE,Upgrade",
            "X-Hop: 1",
            "X-Hop: 2",
            "X-Other: 1",
            "X-Kept: 1",
            "Keep-Alive: 5",
            "Proxy-Connection: x",
            "TE: trailers",
            "Transfer-Encoding: chunked",
            "Content-Length: 5",
            "Upgrade: h2c",
            "HTTP2-Settings: x",
            "Proxy-Authorization: x",
            "Trailer: x",
        ]);
        assert_eq!(hop_by_hop(&mut map), Ok(()));
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "trailer", "x-kept"]);

        let mut map = headers(&["Content-Length: 5", "Connection: keep-alive"]);
        assert_eq!(hop_by_hop(&mut map), Ok(()));
        assert_eq!(map.len(), 1, "a length alone stays");
    }

    #[test]
    fn nobody_has_a_protected_header_taken_off() {
        assert!(PROTECTED.is_sorted());
        for name in [
            "Cookie",
            "AUTHORIZATION",
            "Host",
            "Content-Length",
            "content-anything",
            "X-Forwarded-For",
            "Forwarded",
            "Portcullis-Subject",
            "Set-Cookie",
            "Sec-Fetch-Site",
            "Origin",
            "Via",
            "X-Real-IP",
            "www-authenticate",
            "accept",
        ] {
            let mut map = headers(&[&format!("Connection: close, {name}"), "Keep-Alive: 1"]);
            let before = map.clone();
            let expected = name.to_ascii_lowercase().parse().unwrap();
            assert_eq!(hop_by_hop(&mut map), Err(ConnectionFault::Protected(expected)));
            assert_eq!(map, before);
        }
        assert_eq!(hop_by_hop(&mut headers(&["Connection: a b"])), Err(ConnectionFault::Malformed));
        let many = |count: usize| headers(&[&format!("Connection: {}", vec!["x"; count].join(","))]);
        assert_eq!(hop_by_hop(&mut many(NOMINATED_MAX)), Ok(()));
        assert_eq!(hop_by_hop(&mut many(NOMINATED_MAX + 1)), Err(ConnectionFault::TooMany));
    }

    #[test]
    fn names_that_fold_into_others_are_found() {
        let mut map = headers(&["X-Real-IP: 1", "X_Real_IP: 2", "x.y: 3", "Cookie: a=b", "X~Y: 4"]);
        assert_eq!(first_alias(&map).map(HeaderName::as_str), Some("x_real_ip"));
        assert_eq!(strip_aliases(&mut map), 3);
        assert_eq!((map.len(), first_alias(&map)), (2, None));
    }

    proptest! {
        #[test]
        fn after_the_hop_nothing_of_it_is_left(
            nominated in proptest::collection::vec("[a-z-]{1,8}", 0..8), others in proptest::collection::vec("[a-z-]{1,8}", 0..8),
        ) {
            let mut map = headers(&[&format!("Connection: {}", nominated.join(" ,"))]);
            for name in nominated.iter().chain(&others) {
                map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
            }
            if hop_by_hop(&mut map).is_ok() {
                prop_assert!(nominated.iter().all(|name| !map.contains_key(name) || ["close", "keep-alive"].contains(&&**name)));
                let fixed = ["te", "upgrade", "connection"];
                prop_assert!(others.iter().all(|name| map.contains_key(name) || nominated.contains(name) || fixed.contains(&&**name)));
            }
        }

        #[test]
        fn no_header_value_causes_a_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut map = HeaderMap::new();
                for name in [ACCEPT, CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY, HeaderName::from_static("sec-purpose"), HeaderName::from_static("sec-fetch-mode")] {
                    map.append(name, value.clone());
                }
                let fetch = FetchMetadata::of(&SeenHeaders::of(&map));
                prop_assert_eq!(activity(&Method::POST, &fetch), Activity::Active);
                prop_assert_ne!(upgrade(&Method::GET, Version::HTTP_11, &map), Upgrade::WebSocket);
                // Reaching the end is what is checked of these.
                navigation(&Method::GET, &map, &SeenHeaders::of(&map), &fetch);
                reply_form(&map);
                let before = map.len();
                prop_assert!(hop_by_hop(&mut map).is_err() || map.len() < before);
            }
        }
    }
}
