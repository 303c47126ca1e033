//! Every kind of event, written once: its struct, its name, how bad it is, and what other vocabularies call it.
//!
//! The enum, the names, the tables of the encoders, the metrics and the manual all come from the one list below. A kind
//! says only what is special to it; whose session and which request it was stands in the [`Scene`](super::Scene).

use std::fmt;
use std::str::FromStr;

use super::field::{
    AtLimit, Cause, ClientText, Context, Dependency, Ending, Field, LimitKey, Release, Revoker, Rotation, Sign, Value,
    WriteRefusal,
};
pub use super::meta::{Ecs, Meta, Ocsf, VOCABULARY_EXTENSIONS};
use super::scene::SessionHash;
use super::severity::Severity;
use crate::clock::Timestamp;
use crate::verdict::Text;

macro_rules! events {
    ($(
        #[doc = $doc:literal]
        $kind:ident = $name:literal
        { $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty),* $(,)? }
        $severity:ident $vocabulary:tt $appsensor:tt $attack:tt [$($cwe:literal),*]
        ($class:literal/$activity:literal $action:literal/$disposition:literal)
        $category:tt/$ecs_type:tt;
    )*) => {
        $(
            #[doc = $doc]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $kind {
                $($(#[doc = $field_doc])+ pub $field: $type,)*
            }

            impl From<$kind> for Event {
                fn from(event: $kind) -> Self {
                    Self::$kind(event)
                }
            }
        )*

        /// What happened.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $(#[doc = $doc] $kind($kind),)*
        }

        /// The kinds of events: an [`Event`] without what it says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $kind,)*
        }

        impl Kind {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// What is known of this kind.
            pub const fn meta(self) -> &'static Meta {
                match self {
                    $(Self::$kind => const { &Meta {
                        name: $name,
                        doc: $doc.trim_ascii(),
                        severity: Severity::$severity,
                        vocabulary: &$vocabulary,
                        appsensor: &$appsensor,
                        attack: &$attack,
                        cwe: &[$(concat!("CWE-", $cwe)),*],
                        ocsf: Ocsf {
                            class: $class,
                            activity: $activity,
                            action: $action,
                            disposition: $disposition,
                        },
                        ecs: Ecs { category: &$category, kind: &$ecs_type },
                        fields: &[$((stringify!($field), concat!($($field_doc),+))),*],
                    } },)*
                }
            }
        }

        impl Event {
            /// Which kind it is.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Calls `each` with the name and value of every field that is present, in their order.
            pub fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
                match self {
                    $(Self::$kind(_event) => {
                        $(if let Some(value) = _event.$field.value() {
                            each(stringify!($field), value);
                        })*
                    })*
                }
            }

            /// Reads the fields of a kind back, out of what JSON made of them; nothing if one is missing or can not be that.
            pub(super) fn read(kind: Kind, own: &std::collections::BTreeMap<String, serde_json::Value>) -> Option<Self> {
                Some(match kind {
                    $(Kind::$kind => Self::$kind($kind {
                        $($field: Field::read(own.get(stringify!($field)))?,)*
                    }),)*
                })
            }

            /// One of every kind, for the golden files.
            #[cfg(test)]
            pub(super) fn samples() -> Vec<Self> {
                vec![$(Self::$kind($kind { $($field: Field::sample()),* })),*]
            }
        }
    };
}

// Doc line, name, own fields; then severity, vocabulary, AppSensor, ATT&CK, CWE, OCSF (class/activity action/disposition),
// ECS category/type.
events! {
    // A session's life.

    /// A new session was given to a client.
    SessionCreated = "session.created" {}
    Info ["session_created"] [] [] [] (3002/1 0/0) ["session"]/["start"];

    /// Someone logged in, and the session is theirs now.
    SessionAuthenticated = "session.authenticated" {
        /// How the login was recognised.
        sign: Sign,
        /// Failed attempts just before it.
        failures: Option<u32>,
    }
    Info ["authn_login_success"] [] [] [] (3002/1 0/0) ["authentication", "session"]/["start"];

    /// The session got a new id or a new tag.
    SessionRotated = "session.rotated" {
        /// Why.
        why: Rotation,
        /// The session under its id before, if the id changed.
        previous: Option<SessionHash>,
    }
    Info ["authn_token_created"] [] [] [384] (3002/99 0/0) ["session"]/["info"];

    /// The session's deadlines were extended.
    SessionRenewed = "session.renewed" {}
    Info ["session_renewed"] [] [] [] (3002/99 0/0) ["session"]/["info"];

    /// An app cookie from before the guard was taken over into a new session.
    SessionAdopted = "session.adopted" {
        /// The cookie's name.
        cookie: Text,
    }
    Notice ["authn_token_created"] [] [] [] (3002/99 0/0) ["session"]/["start"];

    /// An answer was replaced by 409: what the app wrote into its session could not be kept.
    SessionWriteRefused = "session.write_refused" {
        /// Why.
        why: WriteRefusal,
    }
    Info ["session_write_refused"] [] [] [] (3002/99 0/0) ["session"]/["info"];

    /// The session ended because it was not used.
    SessionExpiredIdle = "session.expired.idle" {
        /// How long it was not used, in milliseconds.
        idle_ms: u64,
    }
    Info ["session_expired"] [] [] [613] (3002/2 0/0) ["session"]/["end"];

    /// The session ended because its authentication was too long ago.
    SessionExpiredAbsolute = "session.expired.absolute" {
        /// How long ago it was, in milliseconds.
        age_ms: u64,
    }
    Info ["session_expired"] [] [] [613] (3002/2 0/0) ["session"]/["end"];

    /// The subject logged out.
    SessionLogout = "session.logout" {
        /// How the logout was recognised.
        sign: Sign,
    }
    Info ["session_logout"] [] [] [] (3002/2 0/0) ["session"]/["end"];

    /// The session was ended by decision.
    SessionRevoked = "session.revoked" {
        /// Whose decision.
        by: Revoker,
    }
    Info ["session_expired", "authn_token_revoked"] ["ASR-J"] [] [] (3002/2 2/24) ["session"]/["end"];

    /// A verdict ended the session.
    SessionTerminated = "session.terminated" {
        /// Why.
        why: Cause,
    }
    Warn ["session_expired", "authn_token_revoked"] ["ASR-J"] ["T1550.004"] [294] (3002/2 2/24) ["session"]/["end"];

    /// The client was put into quarantine: the app sees a stranger until it logs in again.
    SessionQuarantined = "session.quarantined" {
        /// Why.
        why: Cause,
    }
    Warn ["session_quarantined"] ["ASR-H"] ["T1550.004"] [294] (4002/0 4/23) ["session"]/["info"];

    /// A quarantine ended.
    SessionReleased = "session.released" {
        /// How.
        how: Release,
    }
    Notice ["session_released"] [] [] [] (3002/99 0/0) ["session"]/["info"];

    /// A subject reached its limit of sessions.
    SessionConcurrentLimit = "session.concurrent_limit" {
        /// How many he may have.
        max: u32,
        /// What was done.
        done: AtLimit,
    }
    Warn ["excess_sessions_exceeded"] [] ["T1078"] [] (4002/0 2/2) ["session"]/["info"];

    // Ids and tags.

    /// A session that had ended was used again.
    SessionUseAfterExpire = "session.use_after_expire" {
        /// How it had ended.
        ended: Ending,
        /// How long ago, in milliseconds.
        ago_ms: u64,
    }
    Critical ["session_use_after_expire"] ["SE4"] ["T1550.004"] [613] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// An id that a new one had replaced was used again.
    SessionRotatedIdReuse = "session.rotated_id_reuse" {
        /// How long ago it was replaced, in milliseconds.
        ago_ms: u64,
    }
    Critical ["authn_token_reuse"] ["SE4"] ["T1550.004"] [294] (2004/1 2/24)
    ["session", "intrusion_detection"]/["denied"];

    /// A well-formed id that the guard does not know.
    SessionUnknownId = "session.unknown_id" {}
    Warn ["session_unknown_id"] ["SE2"] ["T1550.004"] [384] (2004/1 4/25) ["session", "intrusion_detection"]/["denied"];

    /// One client tried many ids.
    SessionIdBruteforce = "session.id_bruteforce" {
        /// How many.
        count: u32,
    }
    Critical ["malicious_direct_reference"] ["SE1", "UT2"] ["T1110"] [330, 334] (2004/1 2/2)
    ["session", "intrusion_detection"]/["denied"];

    /// One network asked for more new sessions than it may have.
    SessionIdHarvest = "session.id_harvest" {
        /// How many.
        count: u32,
    }
    Warn ["excess_rate_limit_exceeded"] ["UT2"] ["T1595"] [799] (4002/0 2/2) ["intrusion_detection"]/["denied"];

    /// A tag was used long after another had taken its place.
    SessionTagStale = "session.tag_stale" {
        /// How long after, in milliseconds; unknown for one from before those that are kept.
        age_ms: Option<u64>,
        /// What its presenter has in common with the holder of the session, if it was compared.
        context: Option<Context>,
    }
    Warn ["session_tag_stale"] ["SE4"] ["T1550.004"] [294] (2004/1 3/15) ["session", "intrusion_detection"]/["info"];

    /// Two stale tags in turn: two clients use the session at the same time.
    SessionTagFork = "session.tag_fork" {
        /// How many forks this session had, this one included.
        count: u32,
        /// What its presenter has in common with the holder of the session, if it was compared.
        context: Option<Context>,
    }
    Critical ["authn_token_reuse"] ["SE4"] ["T1539", "T1550.004"] [294] (2004/1 2/24)
    ["session", "intrusion_detection"]/["denied"];

    /// A tag that was never issued for this id.
    SessionTagForged = "session.tag_forged" {}
    Warn ["crypt_decrypt_fail", "session_cookie_tampered"] ["SE1"] ["T1606.001"] [565] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// A genuine tag from beyond the stored head: the store lost a write. It was adopted.
    SessionTagAhead = "session.tag_ahead" {
        /// By how many generations, if that was worked out.
        generations: Option<u32>,
    }
    Warn ["sys_monitor_disabled"] [] [] [] (6008/1 0/0) ["web"]/["error"];

    /// The evidence reached quarantine: someone else is probably using this session.
    SessionHijackSuspected = "session.hijack_suspected" {}
    Critical ["session_hijack_suspected", "authn_token_reuse"] ["SE4", "SE5", "SE6"] ["T1539", "T1550.004"] [294]
    (2004/1 3/19) ["session", "intrusion_detection"]/["info"];

    /// The session moved faster than a person can.
    SessionImpossibleTravel = "session.impossible_travel" {
        /// The distance, in kilometres.
        km: u32,
        /// The time it took, in minutes.
        minutes: u32,
    }
    Critical ["authn_impossible_travel"] ["SE5", "AE13"] ["T1550.004", "T1078"] [294] (2004/1 3/15) ["session"]/["info"];

    // Cookies.

    /// A cookie of the guard was changed.
    CookieTampered = "cookie.tampered" {
        /// What was wrong with it.
        fault: Text,
    }
    Warn ["crypt_decrypt_fail", "session_cookie_tampered"] ["SE1"] ["T1606.001"] [565] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// The guard's cookie came more than once.
    CookieDuplicate = "cookie.duplicate" {
        /// How often.
        count: u32,
    }
    Critical ["malicious_extraneous"] ["SE2", "RE5"] ["T1550.004"] [384, 436] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// A cookie whose name some parser would take for the guard's.
    CookiePrefixVariant = "cookie.prefix_variant" {
        /// Its name.
        name: ClientText,
    }
    Critical ["malicious_extraneous"] ["SE2", "RE5"] ["T1550.004"] [384, 436] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// Cookie syntax that parsers read differently (`$Version`, quoted pairs, no name).
    CookieLegacySyntax = "cookie.legacy_syntax" {
        /// What was wrong with it.
        fault: Text,
    }
    Critical ["malicious_extraneous"] ["SE2", "RE5"] ["T1550.004"] [384, 436] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// A bound cookie came without the guard's, or the guard's without it.
    CookieMissingCompanion = "cookie.missing_companion" {
        /// The bound cookie's name.
        cookie: Text,
    }
    Warn ["input_validation_fail"] ["SE3"] [] [565] (2004/1 3/15) ["session"]/["info"];

    /// A bound cookie of another session.
    CookieBoundElsewhere = "cookie.bound_elsewhere" {
        /// The cookie's name.
        cookie: Text,
    }
    Warn ["session_binding_mismatch"] ["SE4"] ["T1550.004"] [565] (2004/1 2/25)
    ["session", "intrusion_detection"]/["denied"];

    /// The client sent a cookie that the guard keeps for it; it was dropped.
    CookieShielded = "cookie.shielded" {
        /// The cookie's name.
        cookie: Text,
    }
    Notice ["input_validation_fail"] ["SE2"] [] [565] (2004/1 2/25) ["session"]/["info"];

    // The client.

    /// The user agent is not the one the session is bound to.
    BindingMismatchUa = "binding.mismatch.ua" {}
    Warn ["session_binding_mismatch"] ["SE6"] ["T1550.004"] [294] (2004/1 3/15) ["session"]/["info"];

    /// The address is not in the prefix the session is bound to.
    BindingMismatchIp = "binding.mismatch.ip" {}
    Warn ["session_binding_mismatch"] ["SE5"] ["T1550.004"] [290, 291] (2004/1 3/15) ["session"]/["info"];

    /// The network is not the one the session is bound to.
    BindingMismatchAsn = "binding.mismatch.asn" {}
    Warn ["session_binding_mismatch"] ["SE5"] ["T1550.004"] [290, 291] (2004/1 3/15) ["session"]/["info"];

    /// The country is not the one the session is bound to.
    BindingMismatchCountry = "binding.mismatch.country" {}
    Warn ["session_binding_mismatch"] ["SE5"] ["T1550.004"] [290, 291] (2004/1 3/15) ["session"]/["info"];

    /// TLS, HTTP/2 or TCP are spoken in another way than by the client the session is bound to.
    BindingMismatchTls = "binding.mismatch.tls" {}
    Warn ["session_binding_mismatch"] ["SE6"] ["T1550.004"] [294] (2004/1 3/15) ["session"]/["info"];

    /// The proof of a key is missing or by another key.
    BindingKeyMismatch = "binding.key_mismatch" {
        /// What was wrong with it.
        fault: Text,
    }
    Critical ["session_binding_mismatch"] ["SE4"] ["T1550.004"] [294] (2004/1 2/24)
    ["session", "intrusion_detection"]/["denied"];

    // Logins, limits, rights.

    /// A login attempt failed.
    LoginFailed = "login.failed" {}
    Warn ["authn_login_fail"] ["AE2"] ["T1110"] [307] (3002/1 0/0) ["authentication"]/["start"];

    /// Too many login attempts failed.
    LoginFailedMax = "login.failed_max" {
        /// What they were counted by.
        key: LimitKey,
        /// How long the next one has to wait, in milliseconds.
        delay_ms: u64,
    }
    Warn ["authn_login_fail_max"] ["AE2", "AE3"] ["T1110.001", "T1110.003", "T1110.004"] [307] (2004/1 2/2)
    ["authentication"]/["info"];

    /// One client tried many user names.
    LoginManyUsernames = "login.many_usernames" {
        /// How many.
        count: u32,
    }
    Critical ["malicious_attack_tool", "session_many_usernames"] ["AE1"] ["T1110.003", "T1110.004"] [307] (2004/1 2/2)
    ["authentication"]/["info"];

    /// A login by a `[[login]]` route from a country that its subject has not logged in from for thirty days, though it has from another.
    LoginGeoDeviation = "login.geo_deviation" {}
    Warn ["session_geo_deviation"] ["AE13"] ["T1078"] [] (2004/1 3/15) ["authentication"]/["info"];

    /// A login request names its subject more than once, or beyond what is looked at: the subject is unknown.
    LoginSubjectUnclear = "login.subject_unclear" {
        /// What was wrong with it.
        fault: Text,
    }
    Warn ["input_validation_fail"] ["RE5"] [] [436] (4002/0 3/15) ["authentication"]/["info"];

    /// A request above a limit.
    RateLimited = "rate.limited" {
        /// The limit's name.
        limit: Text,
        /// What it counts by.
        key: LimitKey,
        /// When to come again, in milliseconds.
        retry_after_ms: u64,
    }
    Warn ["excess_rate_limit_exceeded"] ["UT2", "UT4", "AE3"] ["T1499.003"] [770, 799] (4002/0 2/2)
    ["intrusion_detection"]/["denied"];

    /// A rule refused the request.
    AuthzDenied = "authz.denied" {}
    Critical ["authz_fail"] ["ACE3"] [] [862, 863] (4002/0 2/26) ["intrusion_detection"]/["denied"];

    /// A rule matched and asked for something.
    RuleMatched = "rule.matched" {}
    Warn ["session_rule_matched"] [] [] [] (2004/1 0/0) ["intrusion_detection"]/["info"];

    /// The subject has to prove itself again before this request.
    StepupRequired = "stepup.required" {
        /// Why.
        why: Cause,
    }
    Info ["session_stepup_required"] ["ASR-H"] [] [] (4002/0 0/23) ["session"]/["info"];

    // Requests.

    /// A request forged by another site.
    CsrfBlocked = "csrf.blocked" {
        /// What was wrong with it.
        fault: Text,
    }
    Warn ["malicious_csrf"] [] [] [352] (4002/0 2/2) ["intrusion_detection"]/["denied"];

    /// A request from an origin that may not make it.
    OriginBlocked = "origin.blocked" {
        /// The origin, if the request names one.
        origin: Option<ClientText>,
    }
    Critical ["malicious_cors"] [] [] [346, 1385] (4002/0 2/2) ["intrusion_detection"]/["denied"];

    /// A request that two servers would read as different requests.
    HttpSmuggling = "http.smuggling" {
        /// What was wrong with it.
        fault: Text,
    }
    Critical ["malicious_extraneous"] ["RE5"] ["T1190"] [444] (4002/0 2/25) ["intrusion_detection"]/["denied"];

    /// A request that breaks the rules of HTTP or a limit on its size.
    HttpMalformed = "http.malformed" {
        /// What was wrong with it.
        fault: Text,
    }
    Warn ["malicious_extraneous"] ["RE5", "RE8", "CIE4"] ["T1190"] [444] (4002/0 2/25) ["intrusion_detection"]/["denied"];

    /// A header that only the guard may set; it was dropped.
    HeaderSpoofed = "header.spoofed" {
        /// Its name.
        header: ClientText,
    }
    Critical ["malicious_extraneous"] ["RE5"] ["T1190"] [348, 290] (4002/0 4/11) ["intrusion_detection"]/["denied"];

    /// A method that is not allowed here.
    MethodBlocked = "method.blocked" {
        /// The method as it was sent.
        sent: ClientText,
    }
    Warn ["session_method_blocked"] ["RE1", "RE2", "RE3", "RE4"] ["T1595"] [] (4002/0 2/25)
    ["intrusion_detection"]/["denied"];

    /// The app marked an answer cacheable that carries a session; it became `no-store`.
    ResponseCacheable = "response.cacheable" {}
    Notice ["session_advice"] [] [] [524, 525] (4002/0 4/11) ["web"]/["info"];

    // Wider patterns.

    /// One client asked for many things that do not exist.
    Probe404Burst = "probe.404_burst" {
        /// How many.
        count: u32,
    }
    Warn ["malicious_excess_404"] ["ACE3"] ["T1595.003"] [] (2004/1 3/15) ["intrusion_detection"]/["info"];

    /// A known attack tool.
    ToolDetected = "tool.detected" {
        /// Which.
        tool: Text,
    }
    Critical ["malicious_attack_tool"] ["RP1", "UT2"] ["T1595.002"] [] (2004/1 3/15) ["intrusion_detection"]/["info"];

    /// Someone touched what no honest client can know.
    HoneypotHit = "honeypot.hit" {
        /// Which trap.
        trap: Text,
    }
    Critical ["session_honeypot_hit"] ["HT1", "HT2", "HT3"] ["T1595"] [] (2004/1 3/19) ["intrusion_detection"]/["info"];

    /// The address is on a list.
    ReputationHit = "reputation.hit" {
        /// Which list.
        list: Text,
    }
    Warn ["session_reputation_hit"] ["RP1"] ["T1090.003"] [] (2004/1 3/15) ["intrusion_detection"]/["info"];

    /// The whole site is used in an unusual way.
    SiteTrend = "site.trend" {
        /// What there is more of.
        what: Text,
        /// By how many percent.
        percent: u32,
    }
    Warn ["session_site_trend"] ["STE1", "STE2", "STE3"] [] [] (2004/1 3/15) ["intrusion_detection"]/["info"];

    // The guard itself.

    /// An operator used the admin interface.
    AdminAction = "admin.action" {
        /// What for.
        verb: Text,
        /// On which session, by its public name; a subject is that of the event.
        target: Option<ClientText>,
    }
    Warn ["authz_admin"] [] [] [] (6003/0 0/0) ["configuration", "iam"]/["change"];

    /// A new policy is in force.
    PolicyReloaded = "policy.reloaded" {
        /// Its revision.
        revision: u64,
        /// How many of its rules are in force.
        rules: u32,
        /// What that means: which rules came, went, and ask for more or less.
        changes: Text,
    }
    Warn ["sys_restart"] ["RP4"] [] [] (6002/8 0/0) ["configuration"]/["change"];

    /// A new policy was refused; the old one stays in force.
    PolicyReloadFailed = "policy.reload_failed" {
        /// The first fault.
        fault: Text,
    }
    Warn ["sys_monitor_disabled"] ["RP4"] [] [] (6002/8 0/0) ["configuration"]/["change"];

    /// A login over plain http: anyone on the way can read the session.
    ConfigInsecureTransport = "config.insecure_transport" {
        /// What to change.
        fix: Text,
    }
    Warn ["session_advice"] [] ["T1557"] [319, 614] (6002/99 0/0) ["configuration"]/["info"];

    /// A private peer that is no trusted proxy sends forwarding headers: it probably is one.
    ConfigUntrustedProxy = "config.untrusted_proxy" {
        /// What to change.
        fix: Text,
    }
    Warn ["session_advice"] [] [] [348] (6002/99 0/0) ["configuration"]/["info"];

    /// A trusted proxy names clients in a way that can not be read, so that it counts as the client of all its requests.
    ConfigProxyHeader = "config.proxy_header" {
        /// What to change.
        fix: Text,
    }
    Warn ["session_advice"] [] [] [348] (6002/99 0/0) ["configuration"]/["info"];

    /// Two programs share the sessions of many users, on one network each: perhaps the parts of one app.
    ConfigCompanions = "config.companions" {
        /// What to set if they are.
        fix: Text,
    }
    Warn ["session_advice"] [] [] [348] (6002/99 0/0) ["configuration"]/["info"];

    /// Settings have changed that count from the next start on.
    ConfigNeedsRestart = "config.needs_restart" {
        /// The sections, separated by spaces.
        sections: Text,
    }
    Notice ["session_advice"] [] [] [] (6002/99 0/0) ["configuration"]/["info"];

    /// The app's session cookie may be read by scripts (no `HttpOnly`), and the guard hides it from them.
    ConfigScriptCookie = "config.script_cookie" {
        /// The cookie's name.
        cookie: Text,
    }
    Warn ["session_advice"] [] ["T1539"] [1004] (6002/99 0/0) ["configuration"]/["info"];

    /// A cookie that the app hides from scripts (`HttpOnly`) is neither shielded nor bound. Told once for each name.
    ConfigUnguardedCookie = "config.unguarded_cookie" {
        /// The cookie's name.
        cookie: Text,
    }
    Warn ["session_advice"] [] ["T1539"] [1004] (6002/99 0/0) ["configuration"]/["info"];

    /// The guard started.
    GuardStarted = "guard.started" {
        /// Its version.
        version: Text,
        /// Where it listens, separated by spaces.
        listen: Text,
    }
    Warn ["sys_startup"] [] [] [] (6002/3 0/0) []/[];

    /// The guard stopped.
    GuardStopped = "guard.stopped" {}
    Warn ["sys_shutdown"] [] [] [] (6002/4 0/0) []/[];

    /// A part of the guard panicked; the request was refused.
    GuardPanic = "guard.panic" {
        /// Where in the source.
        place: Text,
    }
    Warn ["sys_crash"] [] [] [755] (6008/1 0/0) ["web"]/["error"];

    /// Something the guard depends on failed.
    DependencyFailed = "dependency.failed" {
        /// What.
        what: Dependency,
        /// How.
        fault: Text,
    }
    Warn ["sys_monitor_disabled"] [] [] [636] (6008/1 0/0) ["web"]/["error"];

    /// Something that had failed works again.
    DependencyRestored = "dependency.restored" {
        /// What.
        what: Dependency,
        /// Which one.
        which: Text,
        /// For how long it did not, in milliseconds.
        after_ms: u64,
    }
    Notice ["sys_monitor_enabled"] [] [] [] (6002/99 0/0) ["web"]/["info"];

    /// The app's certificate was not accepted.
    UpstreamTlsFailed = "upstream.tls_failed" {
        /// Why.
        fault: Text,
    }
    Warn ["session_upstream_tls_failed"] [] ["T1557"] [295] (6008/1 0/0) ["network"]/["denied"];

    /// The queue was full and events were dropped.
    EventsDropped = "events.dropped" {
        /// How many of low severity.
        bulk: u64,
        /// How many of high severity.
        high: u64,
        /// How many of each kind.
        kinds: Text,
    }
    Warn ["session_events_lost"] ["IE6"] [] [778] (6008/1 0/0) ["web"]/["error"];

    /// A sink missed events: it fell behind, or could not write them.
    EventsGap = "events.gap" {
        /// Which sink.
        sink: Text,
        /// The first one missed.
        from_seq: u64,
        /// The last one missed.
        to_seq: u64,
    }
    Warn ["session_events_lost"] ["IE6"] [] [778] (6008/1 0/0) ["web"]/["error"];

    /// What a crash left of an event was taken off the journal.
    EventsCut = "events.cut" {
        /// How much.
        bytes: u64,
        /// The last event before it.
        after_seq: u64,
    }
    Warn ["session_events_lost"] ["IE6"] [] [778] (6008/1 0/0) ["web"]/["error"];

    /// All events of the journal so far were sealed.
    EventsSealed = "events.sealed" {
        /// The number of the seal.
        seal: u64,
        /// The first event that it is over: the seal before it.
        from_seq: u64,
        /// The last event that it is over.
        head_seq: u64,
        /// The hash of that.
        head: Text,
        /// The seal.
        mac: Text,
    }
    Info ["session_events_sealed"] [] [] [] (6002/99 0/0) ["web"]/["info"];

    /// An operator tried a sink: nothing happened.
    EventsTest = "events.test" {
        /// Which sink.
        sink: Text,
        /// A word to find it by.
        word: Text,
    }
    Info ["session_events_test"] [] [] [] (6002/99 0/0) ["web"]/["info"];

    /// More of the same: events that were counted and not written one by one.
    EventsRepeated = "events.repeated" {
        /// Their kind.
        of: Kind,
        /// How many.
        count: u64,
        /// When the first of all of them happened, those written included.
        first: Timestamp,
        /// When the last one happened.
        last: Timestamp,
        /// From how many addresses, as far as they are told apart.
        clients: u32,
    }
    Warn ["session_events_repeated"] [] [] [] (2004/2 3/20) []/[];
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its name: `session.created`.
    pub const fn as_str(self) -> &'static str {
        self.meta().name
    }

    /// Its place in a table of [`Kind::COUNT`] places.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether every single one is written, however many there are: what an audit counts on.
    pub const fn is_audited(self) -> bool {
        matches!(
            self,
            Self::SessionCreated
                | Self::SessionAuthenticated
                | Self::SessionRotated
                | Self::SessionRenewed
                | Self::SessionExpiredIdle
                | Self::SessionExpiredAbsolute
                | Self::SessionLogout
                | Self::SessionRevoked
                | Self::SessionTerminated
                | Self::SessionQuarantined
                | Self::SessionReleased
                | Self::AdminAction
                | Self::PolicyReloaded
                | Self::GuardStarted
                | Self::GuardStopped
                | Self::EventsDropped
                | Self::EventsGap
                | Self::EventsCut
                | Self::EventsSealed
                | Self::EventsRepeated
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name is not that of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an event")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name).ok_or(UnknownKind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 16 of the standards page and decision 22.
    const PROMISED: &str = "session.created session.authenticated session.rotated session.renewed \
        session.expired.idle session.expired.absolute session.logout session.revoked session.use_after_expire \
        session.rotated_id_reuse session.unknown_id session.id_bruteforce session.id_harvest cookie.tampered \
        cookie.duplicate cookie.prefix_variant cookie.legacy_syntax cookie.missing_companion binding.mismatch.ua \
        binding.mismatch.ip binding.mismatch.asn binding.mismatch.country binding.mismatch.tls binding.key_mismatch \
        session.impossible_travel session.concurrent_limit rate.limited login.failed login.failed_max \
        login.many_usernames login.geo_deviation authz.denied stepup.required csrf.blocked origin.blocked \
        http.smuggling http.malformed header.spoofed method.blocked probe.404_burst tool.detected honeypot.hit \
        reputation.hit site.trend admin.action guard.started guard.stopped guard.panic dependency.failed \
        upstream.tls_failed session.hijack_suspected session.tag_stale session.tag_fork session.tag_forged \
        session.quarantined session.released session.terminated policy.reloaded policy.reload_failed events.dropped \
        events.gap config.insecure_transport";

    /// Section 4 of the standards page: the names of the OWASP logging vocabulary that a guard can use.
    const VOCABULARY: &str = "authn_login_success authn_login_successafterfail authn_login_fail authn_login_fail_max \
        authn_login_lock authn_password_change authn_password_change_fail authn_impossible_travel authn_token_created \
        authn_token_revoked authn_token_reuse authn_token_delete authz_fail authz_change authz_admin \
        crypt_decrypt_fail crypt_encrypt_fail excess_rate_limit_exceeded excess_sessions_exceeded \
        input_validation_fail input_validation_discrete_fail malicious_excess_404 malicious_extraneous \
        malicious_attack_tool malicious_sqli malicious_cors malicious_direct_reference malicious_csrf \
        malicious_csp_violation privilege_permissions_changed sequence_fail session_created session_renewed \
        session_expired session_logout session_use_after_expire sys_startup sys_shutdown sys_restart sys_crash \
        sys_monitor_disabled sys_monitor_enabled user_created user_updated user_archived user_deleted";

    /// A store that takes the type of a field from the first line that has it does not take the others.
    #[test]
    fn fields_of_one_name_are_of_one_type_in_all_kinds() {
        let mut types = std::collections::BTreeMap::new();
        for event in Event::samples() {
            event.fields(&mut |name, value| {
                let is = match value {
                    Value::Number(_) => "a whole number",
                    Value::Points(_) => "points",
                    Value::Time(_) => "a time",
                    Value::Word(_) | Value::Client(_) | Value::Session(_) => "a text",
                };
                let (kind, before) = *types.entry(name).or_insert((event.kind(), is));
                assert_eq!(is, before, "{name} of {} and of {kind}", event.kind());
            });
        }
        assert!(types.len() > 30, "{types:?}");
    }

    #[test]
    fn every_promised_event_is_there() {
        for name in PROMISED.split_whitespace() {
            assert!(name.parse::<Kind>().is_ok(), "{name}");
        }
        assert_eq!("config.reloaded".parse::<Kind>(), Err(UnknownKind));
    }

    #[test]
    fn names_are_unique_and_fit_a_label() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::COUNT);
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), index);
            let name = kind.as_str();
            // 32 characters is what the MSGID of syslog holds.
            assert!(name.len() <= 32 && name.contains('.'), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b)), "{name}");
        }
    }

    #[test]
    fn every_vocabulary_name_is_a_standard_one_or_a_named_extension() {
        let standard: Vec<_> = VOCABULARY.split_whitespace().collect();
        for kind in Kind::ALL {
            let meta = kind.meta();
            assert!(!meta.vocabulary.is_empty(), "{kind}");
            for name in meta.vocabulary {
                let extension = VOCABULARY_EXTENSIONS.contains(name);
                assert!(standard.contains(name) != extension, "{kind}: {name}");
            }
        }
        for name in VOCABULARY_EXTENSIONS {
            assert!(name.starts_with("session_"), "{name}");
            assert!(Kind::ALL.iter().any(|kind| kind.meta().vocabulary.contains(name)), "{name} is not used");
        }
    }

    #[test]
    fn the_ids_of_other_tables_are_well_formed() {
        let classes = [2004, 3001, 3002, 3003, 4002, 6002, 6003, 6008];
        let categories = ["session", "intrusion_detection", "authentication", "configuration", "iam", "web", "network"];
        let types = ["start", "end", "info", "denied", "change", "error"];
        for kind in Kind::ALL {
            let meta = kind.meta();
            assert!(meta.doc.ends_with('.') && !meta.doc.starts_with(' '), "{kind}: {}", meta.doc);
            assert!(classes.contains(&meta.ocsf.class), "{kind}");
            assert!(meta.ecs.category.iter().all(|word| categories.contains(word)), "{kind}");
            assert!(meta.ecs.kind.iter().all(|word| types.contains(word)), "{kind}");
            assert!(meta.attack.iter().all(|id| id.starts_with('T') && id.len() >= 5), "{kind}");
            assert_eq!(meta.fields.is_empty(), fields_of(*kind) == 0, "{kind}");
            assert_eq!(meta.fields.len(), fields_of(*kind), "{kind}");
        }
    }

    fn fields_of(kind: Kind) -> usize {
        let event = Event::samples().into_iter().find(|event| event.kind() == kind).unwrap();
        let mut count = 0;
        event.fields(&mut |_, _| count += 1);
        count
    }
}
