//! How often `admit` and `settle` allocate, and what a session holds. A program of its own: counting would slow down
//! what `hot_path` measures.
//!
//!     cargo bench --bench allocations [-- known]
#![cfg(test)] // clippy then knows that this is no part of the program

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;
use std::time::Duration;

use stage::{Op, Stage};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests of each kind.
const COUNT: usize = 1000;

/// Sessions more, to see what each holds beside what is there without any.
const MORE: usize = 10_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (mut stage, few) = held(COUNT);
    println!("| admit + settle | allocations | reallocations | bytes |");
    println!("|---|---|---|---|");
    for op in Op::ALL {
        if op == Op::Offered {
            stage.grow_old();
        }
        if wanted.is_empty() || wanted.iter().any(|word| word == op.word()) {
            measure(&mut stage, op);
        }
    }
    if wanted.is_empty() {
        let (stage, many) = held(COUNT + MORE);
        println!("\na session with a jar of 200 bytes holds {} bytes", (many - few) / MORE - stage.kept_bytes());
    }
}

/// A stage, and what it holds.
fn held(sessions: usize) -> (Stage, usize) {
    let region = Region::new(ALLOCATOR);
    let stage = Stage::new(sessions, Duration::from_millis(1));
    stage.rest();
    let change = region.change();
    (stage, change.bytes_allocated - change.bytes_deallocated)
}

fn measure(stage: &mut Stage, op: Op) {
    stage.check(op);
    // As in the course of a day: what a first request brings into being is there.
    for _ in 0..2 {
        for exchange in &mut stage.prepare(op, COUNT) {
            stage.run(exchange);
        }
    }
    let mut exchanges = stage.prepare(op, COUNT);
    // The writer of events allocates too: it is to have written all of them before we count.
    stage.rest();
    let region = Region::new(ALLOCATOR);
    for exchange in &mut exchanges {
        stage.run(exchange);
    }
    let change = region.change();
    let each = |total: usize| total as f64 / COUNT as f64;
    println!(
        "| {} ({}) | {:.2} | {:.2} | {:.0} |",
        op.word(),
        op.meaning(),
        each(change.allocations),
        each(change.reallocations),
        each(change.bytes_allocated),
    );
}
