//! A known session, with the stores in a server on this machine.
//!
//! The server's own time is not counted: it is the thread of the app that is looked at. `tower-sessions` 0.15 has no store
//! for either that was made for it: `tower-sessions-redis-store` 0.16 and `tower-sessions-sqlx-store` 0.15, the newest, are
//! for 0.14.

use std::sync::Arc;

use axum::http::StatusCode;
use portcullis::entropy::OsEntropy;
use portcullis::store::cached::{self, CachedStore};
use portcullis::store::kv::{self, RedisStore};
use portcullis::store::row::Rows;
use portcullis::store::sql::{self, SqlStore};
use session_guard::{PgStore, ValkeyStore};
use sqlx::PgPool;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower_service::Service;

use crate::contender::{self, Contender, Kind};
use crate::in_process::{best_and_median, runtime};
use crate::pace::{Pace, running};
use crate::relay::Relay;
use crate::servers::{self, postgres_url, redis_url};
use crate::visit;

/// Up to so many sessions round trips are counted too: more change nothing about them.
const COUNTED_MAX: usize = 1000;
const ROUNDS: usize = 9;
/// Requests of a contender in each round.
const REQUESTS: usize = 3000;
/// How many requests are under way: one, for what a request costs alone, or some.
const AT_ONCE: [usize; 2] = [1, 16];

const CACHED: &str = "Portcullis, its cache before the store";

/// Each size over a server of its own, that is empty when it begins.
pub fn tables(sizes: &[usize]) {
    for sessions in sizes {
        match servers::redis() {
            Some(server) => table("Redis", *sessions, server.port, redis_contenders),
            None => println!("skipped: redis-server is not installed\n"),
        }
    }
    for sessions in sizes {
        match servers::postgres() {
            Some(server) => table("PostgreSQL", *sessions, server.port, postgres_contenders),
            None => println!("skipped: PostgreSQL is not installed\n"),
        }
    }
}

type Make = fn(&Runtime, &Arc<Pace>, u16) -> Vec<Contender>;

fn table(name: &str, sessions: usize, port: u16, make: Make) {
    let runtime = runtime();
    let pace = Pace::new();
    let counted = (sessions <= COUNTED_MAX).then(|| trips(&runtime, &pace, port, sessions, make));
    let mut contenders = enrolled(&runtime, &pace, port, sessions, make);
    let trips = counted.map_or_else(
        || vec!["-".to_owned(); contenders.len()],
        |trips| trips.iter().map(|trips| format!("{trips:.3}")).collect(),
    );
    let mut nanos = vec![[const { Vec::new() }; AT_ONCE.len()]; contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, nanos) in contenders.iter_mut().zip(&mut nanos) {
            for (at_once, nanos) in AT_ONCE.into_iter().zip(nanos) {
                nanos.push(runtime.block_on(round(contender, at_once)));
                pace.passed(REQUESTS);
            }
        }
    }
    let heads = AT_ONCE.map(|at_once| format!("CPU ns of a request, {at_once} at once: best and median"));
    println!("| {name}, {sessions} sessions, one value read | round trips | {} |", heads.join(" | "));
    println!("|---|---|{}", "---|".repeat(AT_ONCE.len()));
    for ((contender, trips), nanos) in contenders.iter().zip(trips).zip(nanos) {
        let cells = nanos.map(|nanos| {
            let (best, median) = best_and_median(nanos);
            format!("{best:.0}, {median:.0}")
        });
        println!("| {} | {trips} | {} |", contender.name, cells.join(" | "));
    }
    println!();
}

fn enrolled(runtime: &Runtime, pace: &Arc<Pace>, port: u16, sessions: usize, make: Make) -> Vec<Contender> {
    let mut contenders = make(runtime, pace, port);
    for contender in &mut contenders {
        runtime.block_on(contender.enrol_at_once(pace, sessions));
    }
    contenders
}

/// Round trips of a request, by a relay before the server.
fn trips(runtime: &Runtime, pace: &Arc<Pace>, port: u16, sessions: usize, make: Make) -> Vec<f64> {
    let relay = Relay::new(port);
    let mut contenders = enrolled(runtime, pace, relay.port, sessions, make);
    let mut count = |contender: &mut Contender| {
        let before = relay.trips();
        runtime.block_on(round(contender, 1));
        (relay.trips() - before) as f64 / REQUESTS as f64
    };
    contenders.iter_mut().map(&mut count).collect()
}

/// Nanoseconds that a request keeps the thread running.
async fn round(contender: &mut Contender, at_once: usize) -> f64 {
    let sessions = contender.cookies.len();
    let order = visit::shuffled(sessions);
    let mut shares: Vec<_> = (0..at_once).map(|_| Vec::new()).collect();
    for at in 0..REQUESTS {
        shares[at % at_once].push(contender.request(Kind::Read, order[at % sessions] as usize));
    }
    let begin = running();
    let mut tasks = JoinSet::new();
    for share in shares {
        let mut app = contender.app.clone();
        tasks.spawn(async move {
            for request in share {
                let mut answer = app.call(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
                visit::text(&mut answer);
            }
        });
    }
    tasks.join_all().await;
    running().saturating_sub(begin).as_nanos() as f64 / REQUESTS as f64
}

fn rows() -> Rows {
    Rows::new(contender::keys(), Arc::new(OsEntropy))
}

fn redis_contenders(runtime: &Runtime, pace: &Arc<Pace>, port: u16) -> Vec<Contender> {
    runtime.block_on(async {
        let url = redis_url(port);
        let store = async || RedisStore::connect(&url, kv::Settings::default(), rows()).await.unwrap();
        vec![
            contender::bare(),
            contender::ours(contender::OURS, store().await, pace),
            contender::ours(CACHED, cached_store(store().await, pace), pace),
            contender::session_guard(ValkeyStore::connect(&url).await.unwrap(), pace),
        ]
    })
}

fn postgres_contenders(runtime: &Runtime, pace: &Arc<Pace>, port: u16) -> Vec<Contender> {
    runtime.block_on(async {
        let url = postgres_url(port);
        let store = async || SqlStore::connect(&url, sql::Settings::default(), rows()).await.unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        vec![
            contender::bare(),
            contender::ours(contender::OURS, store().await, pace),
            contender::ours(CACHED, cached_store(store().await, pace), pace),
            contender::session_guard(PgStore::migrated(pool).await.unwrap(), pace),
        ]
    })
}

fn cached_store<S>(store: S, pace: &Arc<Pace>) -> CachedStore<S> {
    CachedStore::new(store, cached::Settings::default(), pace.clone())
}
