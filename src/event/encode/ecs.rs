//! Elastic Common Schema 9.4: nested objects under the names of the schema, and what it has no name for under `portcullis`.

use super::object::{Letters, Object};
use super::plain::Plain as _;
use super::privacy::{Shown, Veil};
use super::{Outcome, VERSION, country, outcome};
use crate::event::{ClientView, Kind, Record};
use crate::verdict::Text;

/// The version of the schema.
const SCHEMA: &str = "9.4.0";

pub(super) fn write(veil: &Veil, record: &Record, out: &mut Vec<u8>) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    let subject = scene.subject.as_ref().map(|subject| veil.subject(subject).unwrap_or_else(|| subject.to_string()));
    let ip = veil.shown(&scene.client);
    let mut line = Object::begin(out, Letters::All);
    line.word("@timestamp", record.ts);
    line.object("ecs", |ecs| ecs.text("version", SCHEMA));
    line.text("message", meta.doc);
    line.object("event", |event| self::event(event, record));
    line.object("log", |log| log.text("level", record.severity().ecs()));
    for key in ["source", "client"] {
        if scene.client != ClientView::default() {
            line.object(key, |source| end_point(source, &scene.client, ip.as_ref()));
        }
    }
    if let Some(subject) = &subject {
        let name = |user: &mut Object<'_>| user.text(if veil.hides_subjects() { "hash" } else { "name" }, subject);
        match record.event.kind() {
            // Whom an operator acted on.
            Kind::AdminAction => line.object("user", |user| user.object("target", name)),
            _ => line.object("user", name),
        }
    }
    agent(&mut line, &scene.client);
    if scene.method.is_some() || scene.status.is_some() {
        line.object("http", |http| {
            if let Some(method) = scene.method {
                http.object("request", |request| request.text("method", method));
            }
            if let Some(status) = scene.status {
                http.object("response", |response| response.number("status_code", status.into()));
            }
        });
    }
    if let Some(rule) = &scene.rule {
        let (set, name) = rule.as_str().rsplit_once('/').unwrap_or(("", rule.as_str()));
        line.object("rule", |about| {
            about.text("id", rule.as_str());
            about.text("name", name);
            about.maybe_text("ruleset", Some(set).filter(|set| !set.is_empty()));
        });
    }
    threat(&mut line, meta.attack);
    line.object("observer", |observer| {
        observer.text("type", "proxy");
        observer.text("vendor", "Portcullis");
        observer.text("product", "Portcullis");
        observer.text("version", VERSION);
        observer.maybe_text("name", record.node.as_ref().map(Text::as_str));
    });
    if let Some(trace) = scene.trace {
        line.object("trace", |about| about.word("id", trace));
    }
    related(&mut line, veil, record, ip.as_ref(), subject.as_deref());
    line.texts("tags", scene.tags.iter().map(Text::as_str));
    line.object("portcullis", |ours| self::ours(ours, veil, record));
    line.end();
}

fn event(event: &mut Object<'_>, record: &Record) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    event.text("kind", if is_alert(record) { "alert" } else { "event" });
    event.texts("category", meta.ecs.category.iter().copied());
    event.texts("type", meta.ecs.kind.iter().copied());
    event.text("action", meta.name);
    event.text("outcome", outcome_of(record));
    event.number("severity", record.severity().ocsf().into());
    if let Some(risk) = scene.risk {
        event.points("risk_score", risk);
    }
    event.text("module", "portcullis");
    event.text("dataset", "portcullis.audit");
    event.text("id", &record.id());
    event.number("sequence", record.seq);
    event.words("reason", scene.reasons.iter().map(|reason| reason.kind.as_str()));
}

/// Whether it is what a detection found.
fn is_alert(record: &Record) -> bool {
    record.event.kind().meta().ocsf.class == 2004
}

fn end_point(source: &mut Object<'_>, client: &ClientView, ip: Option<&Shown>) {
    if let Some(ip) = ip {
        source.text("address", &ip.text);
        source.maybe_text("ip", Some(ip.text.as_str()).filter(|_| ip.is_address));
    }
    if let Some(country) = country(client.country.as_ref()) {
        source.object("geo", |geo| geo.text("country_iso_code", country));
    }
    if let Some(asn) = client.asn {
        source.object("as", |network| network.number("number", asn.into()));
    }
}

fn agent(line: &mut Object<'_>, client: &ClientView) {
    if client.ua.is_none() && client.os.is_none() {
        return;
    }
    line.object("user_agent", |agent| {
        agent.maybe_text("name", client.ua.as_ref().map(Text::as_str));
        if let Some(os) = &client.os {
            agent.object("os", |about| about.text("name", os.as_str()));
        }
    });
}

/// What came of it for whoever tells it: a refusal that was carried out is a success of the guard. What a client tried and did not
/// manage is a failure where that is what is told.
fn outcome_of(record: &Record) -> &'static str {
    let kind = record.event.kind();
    let is_refusal = kind.meta().ecs.kind.contains(&"denied") && kind != Kind::AdminAction;
    match outcome(record) {
        Outcome::Failure
            if is_refusal && !matches!(kind, Kind::LoginFailed | Kind::LoginFailedMax | Kind::UpstreamTlsFailed) =>
        {
            "success"
        }
        other => other.ecs(),
    }
}

/// Techniques by number, and by those of what they are a part.
fn threat(line: &mut Object<'_>, attack: &[&str]) {
    if attack.is_empty() {
        return;
    }
    line.object("threat", |threat| {
        threat.text("framework", "MITRE ATT&CK");
        threat.object("technique", |technique| {
            let wholes = attack.iter().map(|id| id.split_once('.').map_or(*id, |(whole, _)| whole));
            let mut before = "";
            technique.texts("id", wholes.filter(|whole| std::mem::replace(&mut before, whole) != *whole));
            let parts = || attack.iter().filter(|id| id.contains('.')).copied();
            if parts().next().is_some() {
                technique.object("subtechnique", |part| part.texts("id", parts()));
            }
        });
    });
}

fn related(line: &mut Object<'_>, veil: &Veil, record: &Record, ip: Option<&Shown>, subject: Option<&str>) {
    let is_hidden = veil.hides_subjects();
    let scene = &record.scene;
    let session = scene.session.map(|session| {
        let mut text = Vec::with_capacity(36);
        session.put(&mut text);
        text
    });
    let session = session.as_deref().and_then(|text| std::str::from_utf8(text).ok());
    // Of what the session is bound to the network is known, which is no address of anybody.
    let ips = || ip.into_iter().filter(|ip| ip.is_address).map(|ip| ip.text.as_str());
    if ips().next().is_none() && subject.is_none() && session.is_none() {
        return;
    }
    line.object("related", |related| {
        related.texts("ip", ips());
        related.texts("user", subject.filter(|_| !is_hidden));
        related.texts("hash", session.into_iter().chain(subject.filter(|_| is_hidden)));
    });
}

/// What the schema has no name for.
fn ours(ours: &mut Object<'_>, veil: &Veil, record: &Record) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    ours.word("action", scene.action);
    ours.word("mode", scene.mode);
    if let Some(would) = scene.would {
        ours.word("would", would);
    }
    ours.maybe_number("policy", scene.policy);
    ours.maybe_text("route", scene.route.as_deref());
    ours.maybe_text("ja4", scene.client.ja4.as_ref().map(Text::as_str));
    if scene.session.is_some() || scene.reference.is_some() {
        ours.object("session", |session| {
            if let Some(hash) = scene.session {
                session.word("hash", hash);
            }
            if let Some(reference) = scene.reference {
                session.word("ref", reference);
            }
        });
    }
    if scene.bound != ClientView::default() {
        ours.object("bound", |bound| {
            let ip = veil.shown(&scene.bound);
            end_point(bound, &scene.bound, ip.as_ref());
            agent(bound, &scene.bound);
            bound.maybe_text("ja4", scene.bound.ja4.as_ref().map(Text::as_str));
        });
    }
    ours.texts("owasp", record.vocabulary().iter().copied());
    ours.texts("appsensor", meta.appsensor.iter().copied());
    ours.texts("cwe", meta.cwe.iter().copied());
    if !scene.reasons.is_empty() {
        ours.object("reasons", |reasons| {
            for reason in &scene.reasons {
                reasons.any_points(reason.kind.as_str(), reason.points);
            }
        });
    }
    ours.object("detail", |detail| detail.fields(&record.event));
}
