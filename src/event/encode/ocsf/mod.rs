//! Open Cybersecurity Schema Framework 1.8: one object of the class of its kind, the rest of it under `unmapped`.

mod unmapped;

use super::object::{Letters, Object};
use super::privacy::{Shown, Veil};
use super::{Outcome, VERSION, country, outcome};
use crate::event::{ClientView, Event, Kind, Record, Scene, Severity};
use crate::verdict::{Action, Text};

/// The version of the schema.
const SCHEMA: &str = "1.8.0";

/// Points above this are written as this: the schema wants a whole number, and readers keep it in 32 bits.
const RISK_MAX: f32 = 1_000_000.0;

/// Classes by their numbers.
const FINDING: u16 = 2004;
const AUTHENTICATION: u16 = 3002;
const HTTP: u16 = 4002;
const API: u16 = 6003;

/// `activity_id` of the end of a session.
const LOGOFF: u8 = 2;

/// `disposition_id` of what ended a session.
const ACCESS_REVOKED: u8 = 24;

pub(super) fn write(veil: &Veil, record: &Record, out: &mut Vec<u8>) {
    let seen = Seen::new(veil, record);
    let mut line = Object::begin(out, Letters::All);
    classes(&mut line, record);
    line.text("message", record.event.kind().meta().doc);
    status(&mut line, record);
    line.object("metadata", |about| metadata(about, &seen));
    repeats(&mut line, record);
    control(&mut line, record);
    match seen.class {
        FINDING => finding(&mut line, &seen),
        AUTHENTICATION => authentication(&mut line, &seen),
        HTTP => http_activity(&mut line, &seen),
        API => api_activity(&mut line, &seen),
        _ => application(&mut line, &seen),
    }
    observables(&mut line, &seen);
    line.object("unmapped", |ours| unmapped::ours(ours, veil, &seen));
    line.end();
}

/// A record and what may be shown of it.
struct Seen<'a> {
    record: &'a Record,
    class: u16,
    subject: Option<String>,
    is_hashed: bool,
    ip: Option<Shown>,
    id: String,
}

impl<'a> Seen<'a> {
    fn new(veil: &Veil, record: &'a Record) -> Self {
        // A client may try to log in as nobody, and the schema wants users to have names.
        let subject = record.scene.subject.as_ref().filter(|subject| !subject.is_empty());
        Self {
            record,
            class: record.event.kind().meta().ocsf.class,
            subject: subject.map(|subject| veil.subject(subject).unwrap_or_else(|| subject.to_string())),
            is_hashed: veil.hides_subjects(),
            ip: veil.shown(&record.scene.client),
            id: record.id(),
        }
    }

    /// Whether something is known of where the client is.
    const fn has_endpoint(&self) -> bool {
        let client = &self.record.scene.client;
        self.ip.is_some() || client.asn.is_some() || client.country.is_some() || client.os.is_some()
    }

    const fn has_session(&self) -> bool {
        self.record.scene.session.is_some() || self.record.scene.reference.is_some()
    }

    /// Whether there is something that the schema takes for evidence.
    const fn has_evidence(&self) -> bool {
        self.has_endpoint() || self.has_session() || self.subject.is_some()
    }

    /// Whether there is an actor, in a class that knows actors only by the profile of hosts.
    const fn has_host_actor(&self) -> bool {
        !matches!(self.class, FINDING | AUTHENTICATION | API) && (self.has_session() || self.subject.is_some())
    }

    /// Whether the request has a place of its own.
    const fn has_request(&self) -> bool {
        match self.class {
            FINDING => self.has_evidence(),
            class => matches!(class, AUTHENTICATION | HTTP | API),
        }
    }

    /// Whether fingerprints of TLS have a place of their own.
    const fn has_prints(&self) -> bool {
        match self.class {
            FINDING => self.has_evidence(),
            class => class == HTTP,
        }
    }

    /// The method, if it is one that the schema knows.
    fn method(&self) -> Option<&'static str> {
        self.record.scene.method.filter(|method| *method != "_OTHER")
    }
}

/// When, of which class, and how bad.
fn classes(line: &mut Object<'_>, record: &Record) {
    let class = record.event.kind().meta().ocsf.class;
    let (activity, name) = activity(record);
    line.number("time", record.ts.as_millis());
    line.number("category_uid", u64::from(class / 1000));
    line.number("class_uid", class.into());
    line.number("activity_id", activity.into());
    line.maybe_text("activity_name", name);
    line.number("type_uid", u64::from(class) * 100 + u64::from(activity));
    line.number("severity_id", record.severity().ocsf().into());
}

/// What was going on, and our word for it where the schema has none.
fn activity(record: &Record) -> (u8, Option<&str>) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    let (id, word) = match (&record.event, meta.ocsf.class) {
        // A session that would have ended has not ended.
        (_, AUTHENTICATION) if meta.ocsf.disposition == ACCESS_REVOKED && is_watched(scene) => (99, meta.name),
        (_, HTTP) => (method_activity(scene.method), scene.method.unwrap_or_default()),
        (Event::AdminAction(event), _) => (verb_activity(event.verb.as_str()), event.verb.as_str()),
        _ => (meta.ocsf.activity, meta.name),
    };
    (id, Some(word).filter(|_| id == 99))
}

/// Whether something would have been done and was not.
fn is_watched(scene: &Scene) -> bool {
    scene.would > Some(Action::Allow)
}

fn method_activity(method: Option<&str>) -> u8 {
    match method {
        None => 0,
        Some("CONNECT") => 1,
        Some("DELETE") => 2,
        Some("GET") => 3,
        Some("HEAD") => 4,
        Some("OPTIONS") => 5,
        Some("POST") => 6,
        Some("PUT") => 7,
        Some("TRACE") => 8,
        Some("PATCH") => 9,
        Some(_) => 99,
    }
}

/// What a verb of the admin interface does: reads, deletes, or something else.
fn verb_activity(verb: &str) -> u8 {
    match verb {
        "sessions.list" | "sessions.show" | "sessions.stats" => 2,
        "sessions.revoke" | "sessions.revoke_subject" | "sessions.revoke_all" | "sessions.clear_expired" => 4,
        _ => 99,
    }
}

/// What came of it. A finding is new, and of what would only have been done nobody knows.
fn status(line: &mut Object<'_>, record: &Record) {
    let (id, word) = match (record.event.kind().meta().ocsf.class, outcome(record)) {
        (FINDING, _) => (1, "New"),
        _ if is_watched(&record.scene) => (0, "Unknown"),
        (_, Outcome::Success) => (1, "Success"),
        (_, Outcome::Failure) => (2, "Failure"),
        (_, Outcome::Unknown) => (0, "Unknown"),
    };
    line.number("status_id", id);
    line.text("status", word);
    line.words("status_detail", record.scene.reasons.iter().map(|reason| reason.kind.as_str()));
}

fn metadata(about: &mut Object<'_>, seen: &Seen<'_>) {
    let record = seen.record;
    about.text("version", SCHEMA);
    about.object("product", product);
    about.texts("profiles", profiles(seen));
    about.text("uid", &seen.id);
    about.number("sequence", record.seq);
    about.text("event_code", record.event.kind().meta().name);
    about.text("log_name", "portcullis.audit");
    if let Some(trace) = record.scene.trace {
        about.word("correlation_uid", trace);
    }
    if let Some(node) = &record.node {
        about.object("reporter", |reporter| reporter.text("name", node.as_str()));
    }
    about.texts("labels", record.scene.tags.iter().map(Text::as_str));
}

fn product(product: &mut Object<'_>) {
    product.text("name", "Portcullis");
    product.text("vendor_name", "Portcullis");
    product.text("version", VERSION);
}

/// The profiles of whose attributes at least one is there.
fn profiles(seen: &Seen<'_>) -> impl Iterator<Item = &'static str> {
    let (meta, scene) = (seen.record.event.kind().meta(), &seen.record.scene);
    let is_ruled = seen.class != FINDING && (scene.rule.is_some() || scene.risk.is_some());
    let is_control = is_ruled || !meta.attack.is_empty() || done(seen.record) != (0, 0);
    let control = is_control.then_some("security_control");
    control.into_iter().chain(seen.has_host_actor().then_some("host"))
}

/// How many events this one stands for, and from when to when.
fn repeats(line: &mut Object<'_>, record: &Record) {
    if let Event::EventsRepeated(event) = &record.event {
        line.number("count", event.count);
        line.number("start_time", event.first.as_millis());
        line.number("end_time", event.last.as_millis());
    }
}

/// What the guard did about it, and why.
fn control(line: &mut Object<'_>, record: &Record) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    let (action, disposition) = done(record);
    line.maybe_number("action_id", Some(action.into()).filter(|id| *id != 0));
    line.maybe_number("disposition_id", Some(disposition.into()).filter(|id| *id != 0));
    if meta.ocsf.class == FINDING {
        if record.severity() >= Severity::Warn {
            line.key("is_alert");
            line.out.extend_from_slice(b"true");
        }
    } else if let Some(rule) = &scene.rule {
        line.object("firewall_rule", |about| self::rule(about, rule));
    }
    if let Some(risk) = scene.risk {
        line.number("risk_score", whole(risk));
    }
    attacks(line, meta.attack);
}

/// `action_id` and `disposition_id`: those of the table, unless the scene knows better.
fn done(record: &Record) -> (u8, u8) {
    let (ocsf, scene) = (record.event.kind().meta().ocsf, &record.scene);
    let usual = (ocsf.action, ocsf.disposition);
    let is_open = ocsf.class == FINDING && ocsf.activity == 1 && matches!(ocsf.action, 0 | 3);
    match scene.action {
        // It would have been done: it was detected, and no more.
        _ if is_watched(scene) && (is_open || usual != (0, 0)) => (3, 15),
        // Something was noticed, and what was done about it stands in the scene.
        Action::Observe if is_open && ocsf.action == 0 => (3, 17),
        Action::Rotate if is_open => (4, 11),
        Action::Quarantine if is_open => (4, 23),
        Action::Challenge if is_open => (2, 23),
        Action::Terminate if is_open => (2, ACCESS_REVOKED),
        Action::Throttle | Action::Deny if is_open => (2, 2),
        _ => usual,
    }
}

/// A rule by its whole name, its own, and that of its set.
fn rule(about: &mut Object<'_>, rule: &Text) {
    let (set, name) = rule.as_str().rsplit_once('/').unwrap_or(("", rule.as_str()));
    about.text("uid", rule.as_str());
    about.text("name", name);
    about.maybe_text("category", Some(set).filter(|set| !set.is_empty()));
}

/// Techniques by number, and those of what they are a part.
fn attacks(line: &mut Object<'_>, attacks: &[&str]) {
    if attacks.is_empty() {
        return;
    }
    objects(line, "attacks", attacks, |attack, id| {
        let whole = id.split_once('.').map_or(*id, |(whole, _)| whole);
        attack.object("technique", |technique| technique.text("uid", whole));
        if whole != *id {
            attack.object("sub_technique", |part| part.text("uid", id));
        }
    });
}

fn finding(line: &mut Object<'_>, seen: &Seen<'_>) {
    let (meta, scene) = (seen.record.event.kind().meta(), &seen.record.scene);
    line.object("finding_info", |info| {
        info.text("uid", &seen.id);
        info.text("title", meta.doc);
        info.texts("types", [meta.name]);
        info.object("analytic", |analytic| match &scene.rule {
            Some(rule) => {
                analytic.number("type_id", 1);
                self::rule(analytic, rule);
            }
            None => {
                analytic.number("type_id", analytic_type(seen.record.event.kind()));
                analytic.text("uid", meta.name);
            }
        });
        attacks(info, meta.attack);
    });
    if seen.has_evidence() {
        objects(line, "evidences", [seen], evidence);
    }
}

/// How it was found where no rule of an operator did: by a fixed condition (1), by how someone behaves (2), by counting
/// (3), or by what a client looks like (5).
const fn analytic_type(kind: Kind) -> u64 {
    match kind {
        Kind::SessionHijackSuspected
        | Kind::SessionImpossibleTravel
        | Kind::LoginGeoDeviation
        | Kind::BindingMismatchIp
        | Kind::BindingMismatchAsn
        | Kind::BindingMismatchCountry => 2,
        Kind::SessionIdBruteforce
        | Kind::LoginFailedMax
        | Kind::LoginManyUsernames
        | Kind::Probe404Burst
        | Kind::SiteTrend
        | Kind::EventsRepeated => 3,
        Kind::BindingMismatchUa | Kind::BindingMismatchTls | Kind::ToolDetected => 5,
        _ => 1,
    }
}

/// Who had a part in it. The subject may be the one who was wronged, so it is no actor.
fn evidence(evidence: &mut Object<'_>, seen: &Seen<'_>) {
    endpoint(evidence, seen);
    if let Some(subject) = &seen.subject {
        evidence.object("user", |user| self::user(user, subject, seen.is_hashed));
    }
    if seen.has_session() {
        evidence.object("actor", |actor| session(actor, seen.record, None));
    }
    request(evidence, seen);
    prints(evidence, &seen.record.scene.client);
}

fn authentication(line: &mut Object<'_>, seen: &Seen<'_>) {
    // The last part of the name of an end says why: `idle`, `logout`.
    let is_end = activity(seen.record).0 == LOGOFF;
    let ending = seen.record.event.kind().as_str().rsplit('.').next().filter(|_| is_end);
    line.object("user", |user| someone(user, seen));
    session(line, seen.record, ending);
    line.object("service", |service| {
        service.text("name", "Portcullis");
        service.text("version", VERSION);
    });
    endpoint(line, seen);
    request(line, seen);
}

fn http_activity(line: &mut Object<'_>, seen: &Seen<'_>) {
    host_actor(line, seen);
    endpoint(line, seen);
    // The class wants a request or an answer even where nothing is known of either.
    if seen.method().is_none() && seen.record.scene.status.is_none() {
        line.object("http_request", |_| {});
    }
    request(line, seen);
    prints(line, &seen.record.scene.client);
}

fn api_activity(line: &mut Object<'_>, seen: &Seen<'_>) {
    let operation = match &seen.record.event {
        Event::AdminAction(event) => event.verb.as_str(),
        event => event.kind().as_str(),
    };
    line.object("api", |api| api.text("operation", operation));
    // The token of the interface names nobody.
    line.object("actor", |actor| {
        actor.object("user", |user| {
            user.number("type_id", 0);
            user.text("uid", "unknown");
        });
    });
    if seen.has_endpoint() {
        endpoint(line, seen);
    } else {
        line.object("src_endpoint", |source| source.text("name", "unknown"));
    }
    request(line, seen);
}

fn application(line: &mut Object<'_>, seen: &Seen<'_>) {
    if seen.class == 6002 {
        line.object("app", product);
    }
    host_actor(line, seen);
}

/// The actor of a class that knows actors by the profile of hosts.
fn host_actor(line: &mut Object<'_>, seen: &Seen<'_>) {
    if seen.has_host_actor() {
        line.object("actor", |actor| {
            if let Some(subject) = &seen.subject {
                actor.object("user", |user| self::user(user, subject, seen.is_hashed));
            }
            session(actor, seen.record, None);
        });
    }
}

fn user(user: &mut Object<'_>, subject: &str, is_hashed: bool) {
    user.number("type_id", 1);
    user.text(if is_hashed { "uid" } else { "name" }, subject);
}

/// The user where there must be one. Of whom nothing is known is known by the session.
fn someone(user: &mut Object<'_>, seen: &Seen<'_>) {
    match (&seen.subject, seen.record.scene.session) {
        (Some(subject), _) => self::user(user, subject, seen.is_hashed),
        (None, session) => {
            user.number("type_id", 0);
            match session {
                Some(hash) => user.word("uid", hash),
                None => user.text("uid", "unknown"),
            }
        }
    }
}

fn session(line: &mut Object<'_>, record: &Record, ending: Option<&str>) {
    let (hash, reference) = (record.scene.session, record.scene.reference);
    if hash.is_none() && reference.is_none() {
        return;
    }
    line.object("session", |session| {
        if let Some(hash) = hash {
            session.word("uid", hash);
        }
        if let Some(reference) = reference {
            session.word("uid_alt", reference);
        }
        session.maybe_text("expiration_reason", ending);
    });
}

/// The client. What stands for an address is no address, and so is only a name of the endpoint.
fn endpoint(line: &mut Object<'_>, seen: &Seen<'_>) {
    let client = &seen.record.scene.client;
    if !seen.has_endpoint() {
        return;
    }
    line.object("src_endpoint", |source| {
        match &seen.ip {
            Some(ip) => source.text(if ip.is_address { "ip" } else { "uid" }, &ip.text),
            None => source.text("name", "unknown"),
        }
        if let Some(country) = country(client.country.as_ref()) {
            source.object("location", |place| place.text("country", country));
        }
        if let Some(asn) = client.asn {
            source.object("autonomous_system", |network| network.number("number", asn.into()));
        }
        if let Some(os) = &client.os {
            source.object("os", |about| self::os(about, os.as_str()));
        }
    });
}

fn os(about: &mut Object<'_>, name: &str) {
    let known = [("unknown", 0), ("windows", 100), ("linux", 200), ("android", 201), ("macos", 300), ("ios", 301)];
    let begins = |start: &str| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    let id = known.iter().find(|(start, _)| begins(start)).map_or(99, |(_, id)| *id);
    about.number("type_id", id);
    about.maybe_text("type", Some(name).filter(|_| id == 99));
    about.text("name", name);
}

fn request(line: &mut Object<'_>, seen: &Seen<'_>) {
    if let Some(method) = seen.method() {
        line.object("http_request", |request| request.text("http_method", method));
    }
    if let Some(status) = seen.record.scene.status {
        line.object("http_response", |response| response.number("code", status.into()));
    }
}

fn prints(line: &mut Object<'_>, client: &ClientView) {
    if let Some(ja4) = &client.ja4 {
        objects(line, "ja4_fingerprint_list", [ja4], |print, ja4| {
            print.number("type_id", 1);
            print.text("value", ja4.as_str());
        });
    }
}

/// Where in the event a reader finds what it searches for: addresses and users.
fn observables(line: &mut Object<'_>, seen: &Seen<'_>) {
    let (ip_at, uid_at) = match seen.class {
        FINDING => ("evidences[0].src_endpoint.ip", "evidences[0].src_endpoint.uid"),
        _ => ("src_endpoint.ip", "src_endpoint.uid"),
    };
    let (name_at, hash_at) = match seen.class {
        FINDING => ("evidences[0].user.name", "evidences[0].user.uid"),
        AUTHENTICATION => ("user.name", "user.uid"),
        _ => ("actor.user.name", "actor.user.uid"),
    };
    let has_endpoint = matches!(seen.class, FINDING | AUTHENTICATION | HTTP | API);
    let ip = seen.ip.as_ref().filter(|_| has_endpoint);
    let ip = ip.map(|ip| if ip.is_address { (ip_at, 2, &ip.text) } else { (uid_at, 48, &ip.text) });
    let user = seen.subject.as_ref().filter(|_| seen.class != API);
    let user = user.map(|subject| if seen.is_hashed { (hash_at, 31, subject) } else { (name_at, 4, subject) });
    if ip.is_some() || user.is_some() {
        objects(line, "observables", ip.into_iter().chain(user), |observable, (name, kind, value)| {
            observable.text("name", name);
            observable.number("type_id", kind);
            observable.text("value", value);
        });
    }
}

/// An array of objects. Nothing is no array: whoever calls has at least one.
fn objects<T>(
    line: &mut Object<'_>,
    key: &'static str,
    items: impl IntoIterator<Item = T>,
    fill: impl Fn(&mut Object<'_>, T),
) {
    line.key(key);
    line.out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at != 0 {
            line.out.push(b',');
        }
        let mut object = Object::begin(line.out, Letters::All);
        fill(&mut object, item);
        object.end();
    }
    line.out.push(b']');
}

/// Points as a whole number, and 0 for what is none.
fn whole(points: f32) -> u64 {
    let points = if points > 0.0 { points.min(RISK_MAX) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to RISK_MAX")]
    let whole = points.round_ties_even() as u64;
    whole
}
