//! What the data path refuses or drops, by type: the gate makes events of it.

/// Something that a well-behaved client does not do, or a limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The request line is not `method SP target SP HTTP/1.x`, or holds octets that have no place there.
    RequestLine,
    /// A header or trailer line breaks the grammar: bare CR, LF or NUL, a folded line, a space before the colon.
    HeaderLine,
    /// Content-Length is not a number, or is there twice with different numbers.
    ContentLength,
    /// Transfer-Encoding beside Content-Length, on HTTP/1.0, twice, or not ending in `chunked`.
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    UnsupportedCoding,
    /// A chunk line, the end of a chunk or a trailer section breaks the grammar.
    Chunk,
    /// The head, one of its counts, or the trailers are larger than allowed.
    HeadersTooLarge,
    /// The request target is longer than allowed.
    UriTooLong,
    /// The head was not finished in time.
    HeaderTimeout,
    /// The body stalled, or came slower than the minimum rate.
    BodyTimeout,
    /// The client stopped reading its answer.
    WriteTimeout,
    /// Octets after the head of an upgrade request, before the upgrade was agreed.
    EarlyData,
    /// More HTTP/2 control frames than any client needs.
    Http2Flood,
    /// Frames that break the rules of HTTP/2: the connection ended.
    Http2Protocol,
    /// A request that the parser of HTTP/2 refused by itself: it was malformed, its headers came to more than twice what is
    /// allowed, or there were too many at once.
    Http2Refused,
    /// The TLS handshake failed or was not finished in time.
    TlsHandshake,
    /// The PROXY protocol header is missing, malformed, late or from a peer that may not send one.
    ProxyProtocol,
    /// Host is missing, there twice, or not a host; or it differs from the authority of the request target.
    Host,
    /// The host differs from the name that the TLS handshake asked for.
    Misdirected,
    /// CONNECT, TRACE, or `*` with another method than OPTIONS.
    Method,
    /// An expectation other than `100-continue`.
    Expectation,
    /// `Connection` names a field that is not hop-by-hop (`Cookie`, `Host`, ...).
    Nominated,
    /// A header whose name holds `_` or another character that servers fold into `-`: dropped.
    HeaderName,
    /// A `Portcullis-*` header from the client: dropped.
    ForgedHeader,
    /// The request came through this proxy before.
    Loop,
    /// A handshake for an upgrade that is not a valid WebSocket one: the upgrade was dropped or refused.
    Upgrade,
    /// There are as many connections as allowed; this one was closed.
    ConnectionsFull,
    /// The beginnings of bodies that are waited for take all the room there is; this request was refused.
    PeeksFull,
    /// The app's answer breaks HTTP: answered with 502.
    Response,
    /// The app could not be found or reached.
    AppUnreachable,
    /// The app's certificate was not accepted.
    AppCertificate,
    /// TLS with the app failed in another way.
    AppTls,
    /// Every place at the app was taken for as long as a request may wait for one.
    AppFull,
    /// The app did not answer in time.
    AppSilent,
    /// The app closed the connection before it had answered.
    AppBrokeOff,
    /// A bug of ours ended this connection.
    Panic,
}

impl Fault {
    /// A short fixed name, fit for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::HeaderLine => "header_line",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::Chunk => "chunk",
            Self::HeadersTooLarge => "headers_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::EarlyData => "early_data",
            Self::Http2Flood => "http2_flood",
            Self::Http2Protocol => "http2_protocol",
            Self::Http2Refused => "http2_refused",
            Self::TlsHandshake => "tls_handshake",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Host => "host",
            Self::Misdirected => "misdirected",
            Self::Method => "method",
            Self::Expectation => "expectation",
            Self::Nominated => "nominated",
            Self::HeaderName => "header_name",
            Self::ForgedHeader => "forged_header",
            Self::Loop => "loop",
            Self::Upgrade => "upgrade",
            Self::ConnectionsFull => "connections_full",
            Self::PeeksFull => "peeks_full",
            Self::Response => "response",
            Self::AppUnreachable => "app_unreachable",
            Self::AppCertificate => "app_certificate",
            Self::AppTls => "app_tls",
            Self::AppFull => "app_full",
            Self::AppSilent => "app_silent",
            Self::AppBrokeOff => "app_broke_off",
            Self::Panic => "panic",
        }
    }
}
