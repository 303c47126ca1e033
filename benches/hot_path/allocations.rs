//! How often `admit` and `settle` allocate. A program of its own: counting would slow down what `hot_path` measures.
#![cfg(test)] // clippy then knows that this is no part of the program
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;

use stage::{Op, Stage};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests of each kind.
const COUNT: usize = 1000;

fn main() {
    let region = Region::new(ALLOCATOR);
    let mut stage = Stage::new(COUNT);
    stage.rest();
    let held = region.change();
    println!("| admit + settle | allocations | reallocations | bytes |");
    println!("|---|---|---|---|");
    for op in Op::ALL {
        if op == Op::Offered {
            stage.grow_old();
        }
        stage.check(op);
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
    let held = (held.bytes_allocated - held.bytes_deallocated) / COUNT;
    println!("\nheld for each of {COUNT} sessions: {} bytes", held - stage.kept_bytes());
}
