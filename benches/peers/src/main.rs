//! What a session costs an app in Rust: Portcullis's layer beside `tower-sessions` and `session-guard`, all around the same
//! router of axum, called in process.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml                       everything
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- in-process 1000    stores in memory, so many sessions
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- remote 1000        Redis and PostgreSQL, so many sessions
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- memory 1000000     memory of a session of ours
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- loop ours 1000 10  ten seconds of reading, for a profiler
//!
//! Nanoseconds are those that the thread was running, by the clock of the system for it, which repeats on a machine that
//! others use too.

mod contender;
mod in_process;
mod memory;
mod pace;
mod relay;
mod remote;
mod servers;
mod visit;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How many sessions there are.
const SIZES: [usize; 4] = [1, 1000, 100_000, 1_000_000];

/// The same over a server. A million are begun in a quarter of an hour, and have to be asked for.
const REMOTE: [usize; 3] = [1, 1000, 100_000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            println!("load average {}\n", load());
            in_process::tables(&SIZES);
            remote::tables(&REMOTE);
            memory::table();
            println!("load average {}", load());
        }
        ["in-process"] => in_process::tables(&SIZES),
        ["in-process", ref sizes @ ..] => in_process::tables(&parsed(sizes)),
        ["remote"] => remote::tables(&REMOTE),
        ["remote", ref sizes @ ..] => remote::tables(&parsed(sizes)),
        ["memory"] => memory::table(),
        ["memory", sessions] => memory::row(sessions.parse().unwrap()),
        ["loop", name, sessions, seconds] => {
            in_process::repeat(name, sessions.parse().unwrap(), seconds.parse().unwrap());
        }
        _ => panic!("unknown arguments {arguments:?}"),
    }
}

fn parsed(sizes: &[&str]) -> Vec<usize> {
    sizes.iter().map(|size| size.parse().unwrap()).collect()
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().to_owned()
}
