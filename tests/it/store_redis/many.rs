//! Several servers: a cluster, sentinels that put a replica in the place of a primary, and TLS.

use std::fs;
use std::process::Command;

use portcullis::store::conformance::{self, Case};
use tokio::time::Instant;

use super::*;
use crate::support::redis::{Watched, is_installed, until};
use crate::support::stored::free_port;

/// A cluster of three nodes, none of which knows where everything is but by asking.
fn cluster() -> [Redis; 3] {
    let nodes = [(); 3].map(|()| {
        let words = format!("--cluster-enabled yes --cluster-port {} --appendonly no", free_port());
        Redis::start_on_port(&words)
    });
    let addresses = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port()));
    let output = Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    for node in &nodes {
        node.wait_for("CLUSTER INFO", "cluster_state:ok");
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_conforms_by_whatever_node_it_is_reached() {
    if !is_installed() {
        return;
    }
    let nodes = cluster();
    let cases = [Case::Versions, Case::Fixed, Case::EndsAlso, Case::Evicts, Case::RevokesSubject, Case::Clears];
    let cases = cases.into_iter().chain([Case::Everything, Case::Windows, Case::EvictsAtOnce]);
    let mut keys = Vec::new();
    for (nth, case) in cases.enumerate() {
        // By another node each time, with another slot, and past one that is gone.
        let url = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", free_port(), nodes[nth % 3].port());
        let settings =
            Settings { timeout: Duration::from_secs(20), prefix: format!("case-{nth}"), ..Settings::default() };
        let store = RedisStore::connect(&url, settings, rows(&[1])).await.unwrap();
        conformance::run_case(case, store).await.unwrap();
        keys = nodes.each_ref().map(|node| node.ask("DBSIZE").parse::<u32>().unwrap()).to_vec();
    }
    assert!(keys.iter().filter(|keys| **keys > 0).count() > 1, "prefixes are on nodes of their own: {keys:?}");

    let url = format!("redis+cluster://127.0.0.1:{}", nodes[0].port());
    let store = RedisStore::connect(&url, Settings::default(), rows(&[1])).await.unwrap();
    let mut endings = store.endings();
    create(&store, session(1, "ann"), None).await;
    until("somebody listens", || nodes.iter().any(|node| node.ask("PUBSUB NUMSUB {portcullis}:ending").ends_with('1')));
    store.revoke(&digest(1), ENDING).await.unwrap();
    assert_eq!(next(&mut endings).await, digest(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_sentinels_name_another_primary_the_store_goes_there() {
    if !is_installed() {
        return;
    }
    let mut servers = Watched::start();
    let settings = Settings { timeout: Duration::from_secs(5), ..Settings::default() };
    let store = RedisStore::connect(&servers.url(), settings, rows(&[1])).await.unwrap();
    let mut endings = store.endings();
    create(&store, session(1, "ann"), None).await;
    servers.primary.wait_for("PUBSUB NUMSUB {portcullis}:ending", "1");
    servers.wait_until_alike();

    servers.primary.kill();
    let end = Instant::now() + PATIENCE;
    let mut failed = 0;
    let there = loop {
        assert!(Instant::now() < end, "no other primary was found");
        match store.load(&digest(1)).await {
            Ok(there) => break there,
            Err(error) => {
                assert!(matches!(error, StoreError::Io(_)), "{error}");
                failed += 1;
            }
        }
    };
    assert!(failed > 0, "it was away for a moment");
    assert_eq!(there.as_deref(), Some(&session(1, "ann")));
    servers.replica.wait_for("PUBSUB NUMSUB {portcullis}:ending", "1");
    assert!(store.revoke(&digest(1), ENDING).await.unwrap().is_some());
    assert_eq!(next(&mut endings).await, digest(1));
}

/// While the replica does not have it, an end may be lost with the primary, so nobody is told that it has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_acknowledged_when_a_replica_has_it_if_that_is_asked_for() {
    if !is_installed() {
        return;
    }
    let mut servers = Watched::start();
    let settings = Settings { timeout: Duration::from_secs(2), replicas: 1, ..Settings::default() };
    let store = RedisStore::connect(&servers.url(), settings, rows(&[1])).await.unwrap();
    for nth in 1..=3 {
        create(&store, session(nth, "ann"), None).await;
    }
    servers.replica.freeze();
    let error = store.revoke(&digest(1), ENDING).await.unwrap_err();
    assert!(error.to_string().contains("of 1 replicas of Redis that must have a change, 0 had it"), "{error}");
    // From then on nothing is given out that could be lost.
    let error = store.create(session(9, "ann"), None, NOW).await.unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    let (seen, noted) = (store.load(&digest(2)).await.unwrap().unwrap(), NOW.after(Duration::from_secs(60)));
    let touched = Record { last_seen: noted, ..(*seen).clone() };
    let answer = store.commit(touched, Durability::Durable).await;
    assert!(matches!(answer, Ok(Commit::Done(_))), "what takes nothing away waits for nobody: {answer:?}");
    let all = [digest(1), digest(2), digest(3)];
    let many = futures_util::future::join_all(all.iter().map(|digest| store.revoke(digest, ENDING))).await;
    assert!(many.iter().all(Result::is_err), "they may be lost: {many:?}");
    servers.replica.thaw();
    // Whoever asks again is told when it holds, though there is nothing left to end.
    let end = Instant::now() + PATIENCE;
    for digest in &all {
        while let Err(error) = store.revoke(digest, ENDING).await {
            assert!(Instant::now() < end, "{error}");
        }
    }
    while store.create(session(8, "ann"), None, NOW).await.is_err() {
        assert!(Instant::now() < end, "the replica is there again");
        tokio::task::yield_now().await;
    }
    servers.primary.kill();
    let end = Instant::now() + PATIENCE;
    let there = loop {
        assert!(Instant::now() < end, "no other primary was found");
        if let Ok(there) = store.load(&digest(1)).await {
            break there;
        }
    };
    assert!(there.unwrap().is_ended());
    assert_eq!(live(&store, "ann").await, [digest(8)]);
    // There is nobody left who could keep it, too.
    let error = store.revoke(&digest(8), ENDING).await.unwrap_err();
    assert!(error.to_string().contains("of 1 replicas"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_became_a_replica_is_left_without_an_error() {
    if !is_installed() {
        return;
    }
    let one = Redis::start_on_port("--appendonly no");
    let other = Redis::start_on_port(&format!("--appendonly no --replicaof 127.0.0.1 {}", one.port()));
    other.wait_for("INFO replication", "master_link_status:up");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.conf");
    fs::write(&file, format!("sentinel monitor shop 127.0.0.1 {} 1\n", one.port())).unwrap();
    let sentinel = Redis::start_sentinel(&file);
    sentinel.wait_for("SENTINEL REPLICAS shop", other.port());
    let settings = Settings { timeout: Duration::from_secs(10), ..Settings::default() };
    let url = format!("redis+sentinel://127.0.0.1:{}/shop", sentinel.port());
    let store = RedisStore::connect(&url, settings, rows(&[1])).await.unwrap();
    create(&store, session(1, "ann"), None).await;
    other.wait_for("DBSIZE", &one.ask("DBSIZE"));
    sentinel.wait_for("SENTINEL FAILOVER shop", "OK");
    sentinel.wait_for("SENTINEL GET-MASTER-ADDR-BY-NAME shop", other.port());
    one.wait_for("ROLE", "slave");
    // The old connection may still be open, and then the first answer is that this server takes no writes.
    create(&store, session(2, "ann"), None).await;
    assert_eq!(live(&store, "ann").await.len(), 2);
}

const TLS_CHILD: &str = "PORTCULLIS_REDIS_TLS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_only_a_server_that_somebody_vouches_for_is_trusted() {
    let try_it = async |url: &str| RedisStore::connect(url, Settings::default(), rows(&[1])).await;
    if let Some(url) = std::env::var_os(TLS_CHILD) {
        // Whom a process trusts is settled when it starts, so this half runs in one of its own.
        let store = try_it(url.to_str().unwrap()).await.unwrap();
        create(&store, session(1, "ann"), None).await;
        return;
    }
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(at("cert.pem"), made.cert.pem()).unwrap();
    fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let server = Redis::start_with(&format!(
        "--tls-port {port} --bind 127.0.0.1 --tls-cert-file {} --tls-key-file {} --tls-auth-clients no --appendonly no",
        at("cert.pem"),
        at("key.pem")
    ));
    let server = server.unwrap();
    let url = format!("rediss://127.0.0.1:{port}");
    let error = try_it(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::Link { source: LinkError::Failed(_), .. }), "{error}");
    let name = "store_redis::many::with_tls_only_a_server_that_somebody_vouches_for_is_trusted";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .envs([(TLS_CHILD, url.as_str()), ("SSL_CERT_FILE", &at("cert.pem"))])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_ne!(server.ask("DBSIZE"), "0", "the child was here");
}
