//! What is known of a kind of event before any happened: its names elsewhere, and how bad it is.

use super::severity::Severity;

/// What is known of a kind of event before any happened. An empty list means: none fits.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// The name in every format: `session.created`.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// How bad it is, unless the event itself knows better.
    pub severity: Severity,
    /// Names of the OWASP logging vocabulary, the nearest one first; those of [`VOCABULARY_EXTENSIONS`] are ours.
    pub vocabulary: &'static [&'static str],
    /// Detection points (or responses, `ASR-..`) of OWASP AppSensor.
    pub appsensor: &'static [&'static str],
    /// Techniques of MITRE ATT&CK.
    pub attack: &'static [&'static str],
    /// Weaknesses: `CWE-384`.
    pub cwe: &'static [&'static str],
    /// Its place in OCSF 1.8.
    pub ocsf: Ocsf,
    /// `event.category` and `event.type` of ECS 9.4.
    pub ecs: Ecs,
    /// The names and meanings of its own fields.
    pub fields: &'static [(&'static str, &'static str)],
}

/// The place of a kind in OCSF. An activity of 0 follows from the request's method; an action or disposition of 0 is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ocsf {
    /// `class_uid`.
    pub class: u16,
    /// `activity_id`.
    pub activity: u8,
    /// `action_id`.
    pub action: u8,
    /// `disposition_id`.
    pub disposition: u8,
}

/// The place of a kind in ECS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecs {
    /// `event.category`.
    pub category: &'static [&'static str],
    /// `event.type`.
    pub kind: &'static [&'static str],
}

/// Names we add to the OWASP vocabulary where it has no word.
pub const VOCABULARY_EXTENSIONS: &[&str] = &[
    "session_advice",
    "session_binding_mismatch",
    "session_cookie_tampered",
    "session_events_lost",
    "session_events_repeated",
    "session_events_sealed",
    "session_events_test",
    "session_geo_deviation",
    "session_hijack_suspected",
    "session_honeypot_hit",
    "session_many_usernames",
    "session_method_blocked",
    "session_quarantined",
    "session_released",
    "session_reputation_hit",
    "session_rule_matched",
    "session_site_trend",
    "session_stepup_required",
    "session_tag_stale",
    "session_unknown_id",
    "session_upstream_tls_failed",
    "session_write_refused",
];
