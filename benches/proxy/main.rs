//! What a request costs: nginx, haproxy, bare hyper and this proxy with the guard off and on, in one run, in turn.
//!
//! The figure that repeats on a shared machine is CPU time per request of the proxy's processes; requests per second and
//! latency stand beside it. `benches/README.md` says how it is measured and what came out.
//!
//!     cargo bench --bench proxy -- instructions      of our own two, counted by valgrind: repeats exactly
//!     cargo bench --bench proxy -- --only journal,dead,live      events in a journal, and sinks behind it
//!     cargo bench --bench proxy -- [--rounds 3] [--seconds 8] [--warmup 2] [--only nginx,off,on] [--sessions 1000]
#![expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]
#![cfg(test)] // clippy then knows that this is no part of the program

mod bare;
mod contender;
mod instructions;
#[path = "../support/kept.rs"]
mod kept;
mod load;
mod process;
mod report;
mod serve;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use contender::{Contender, Kind};
use mimalloc::MiMalloc;
use report::Report;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How much is measured.
struct Plan {
    rounds: usize,
    seconds: u64,
    warmup: u64,
    only: Vec<Kind>,
    /// Sessions that the load goes through in turn.
    sessions: usize,
}

impl Plan {
    fn parse(arguments: &[String]) -> Self {
        let mut plan = Self { rounds: 3, seconds: 8, warmup: 2, only: Kind::USUAL.to_vec(), sessions: 1000 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => plan.rounds = value().parse().unwrap(),
                "--seconds" => plan.seconds = value().parse().unwrap(),
                "--warmup" => plan.warmup = value().parse().unwrap(),
                "--sessions" => plan.sessions = value().parse().unwrap(),
                "--only" => {
                    let names = value();
                    let wanted = |kind: &Kind| names.split(',').any(|name| name == kind.word());
                    plan.only = Kind::ALL.into_iter().filter(wanted).collect();
                }
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        plan
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        serve::serve(&arguments[1], &arguments[2]);
        return;
    }
    if arguments.iter().any(|argument| argument == "instructions") {
        return instructions::print();
    }
    run(&Plan::parse(&arguments));
}

/// How busy the machine is: figures of a machine that has other things to do are worth less.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn run(plan: &Plan) {
    let scratch = tempfile::tempdir().unwrap();
    let app = contender::app(scratch.path());
    let contenders: Vec<Contender> =
        plan.only.iter().map(|kind| Contender::start(*kind, scratch.path(), app.address())).collect();
    for contender in &contenders {
        contender.check();
    }
    let mut report = Report::default();
    let begin = load_average();
    for round in 1..=plan.rounds {
        for contender in &contenders {
            let load = contender.load(scratch.path(), plan.sessions);
            load.run(Duration::from_secs(plan.warmup));
            let before = contender.cpu();
            let score = load.run(Duration::from_secs(plan.seconds));
            let cpu = contender.cpu() - before;
            println!("round {round}: {}", report.add(contender.kind, &score, cpu));
        }
    }
    println!("\n{report}");
    println!("load average before and after (4 of it is ours): {begin}, {}", load_average());
}
