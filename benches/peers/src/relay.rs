//! A relay between a client and a server that counts round trips: how often the client speaks after the server has.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A relay to a port of this machine. It goes on until the program ends.
pub struct Relay {
    pub port: u16,
    trips: Arc<AtomicU64>,
}

impl Relay {
    pub fn new(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let trips = Arc::<AtomicU64>::default();
        let counted = trips.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                relay(client, server, &counted);
            }
        });
        Self { port, trips }
    }

    /// Round trips so far, of all connections.
    pub fn trips(&self) -> u64 {
        self.trips.load(Ordering::SeqCst)
    }
}

fn relay(client: TcpStream, server: TcpStream, trips: &Arc<AtomicU64>) {
    let server_spoke = Arc::new(AtomicBool::new(true));
    let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
    let (trips, spoke) = (trips.clone(), server_spoke.clone());
    thread::spawn(move || {
        pass(up, || {
            if spoke.swap(false, Ordering::SeqCst) {
                trips.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    thread::spawn(move || pass(down, || server_spoke.store(true, Ordering::SeqCst)));
}

/// Hands on what comes, one way, until there is nothing more.
fn pass((mut from, mut to): (TcpStream, TcpStream), heard: impl Fn()) {
    to.set_nodelay(true).unwrap();
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        heard();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    drop(to.shutdown(Shutdown::Write));
}
