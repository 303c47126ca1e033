//! `portcullis simulate`: how often a policy troubles honest people, and which thefts it catches.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;

use portcullis::simulate::{Checks, Life, Row, Sees, Simulated, Simulation, Theft, World, simulate};
use serde_json::{Value, json};

use super::explain::settled;
use super::{Exit, Format, SimulateArgs, Streams};

/// Stories of each theft, if nobody says: a hundredth of the sessions, but at least so many.
const THEFTS_MIN: usize = 100;

pub(super) fn run(args: &SimulateArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let (settings, rules) = match settled(args.policy.as_deref()) {
        Ok(found) => found,
        Err(trouble) => return trouble.tell(streams),
    };
    let simulation = Simulation {
        seed: args.seed,
        sessions: args.sessions,
        thefts: args.thefts.unwrap_or((args.sessions / 100).max(THEFTS_MIN)),
        world: if args.rough { World::Rough } else { World::Usual },
        sees: match args.sees {
            super::Sees::Everything => Sees::Everything,
            super::Sees::BehindCdn => Sees::BehindCdn,
            super::Sees::NoGeo => Sees::NoGeo,
            super::Sees::RelayRtt => Sees::RelayRtt,
        },
        checks: if args.alone { Checks::None } else { Checks::Beside },
    };
    let shown = io::stderr().is_terminal();
    let last = Mutex::new(0);
    let tell = |done: usize, of: usize| {
        let percent = done * 100 / of.max(1);
        let is_newer = last.lock().is_ok_and(|mut last| std::mem::replace(&mut *last, percent) != percent);
        if shown && is_newer {
            // Nobody is there to be told that nobody is there.
            drop(write!(io::stderr(), "\r{percent} %"));
        }
    };
    let found = simulate(&settings, &rules, &simulation, &tell);
    if shown {
        write!(streams.err, "\r      \r")?;
    }
    match found {
        Ok(found) => {
            match args.format {
                Format::Human => human(&found, &simulation, streams.out)?,
                Format::Json => writeln!(streams.out, "{:#}", as_json(&found, &simulation))?,
            }
            Ok(Exit::Done)
        }
        Err(why) => {
            writeln!(streams.err, "portcullis: {why}")?;
            Ok(Exit::Runtime)
        }
    }
}

fn human(found: &Simulated, simulation: &Simulation, out: &mut dyn Write) -> io::Result<()> {
    let Simulation { seed, .. } = simulation;
    writeln!(out, "{} honest sessions, {} thefts of each kind, seed {seed}\n", found.sessions, found.thefts)?;
    writeln!(out, "Honest sessions: % ended, (+ % asked to log in again)\n")?;
    let names: Vec<&str> = Life::ALL.iter().map(|life| life.name()).collect();
    writeln!(out, "| | {} | ended / 10k | asked / 10k |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(names.len() + 2))?;
    for row in &found.rows {
        let cells: Vec<String> = row.lives.iter().map(|life| cell(life.ended, life.asked, life.sessions)).collect();
        let (ended, asked) = (row.ended(), row.asked());
        writeln!(
            out,
            "| {} | {} | **{:.1}** (<= {:.1}) | **{:.1}** (<= {:.1}) |",
            row.name,
            cells.join(" | "),
            ended.per_10k(),
            ended.at_most * 1e4,
            asked.per_10k(),
            asked.at_most * 1e4
        )?;
    }
    writeln!(out, "\nThefts: % noticed @ requests of the thief / seconds, in the median\n")?;
    let names: Vec<&str> = Theft::ALL.iter().map(|theft| theft.name()).collect();
    writeln!(out, "| | {} |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(names.len()))?;
    for row in &found.rows {
        writeln!(out, "| {} | {} |", row.name, thefts(row).join(" | "))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn cell(ended: usize, asked: usize, sessions: usize) -> String {
    let percent = |count: usize| {
        let share = 100.0 * count as f64 / sessions.max(1) as f64;
        if share == 0.0 || share >= 10.0 { format!("{share:.0}") } else { format!("{share:.2}") }
    };
    if asked == 0 { percent(ended) } else { format!("{} (+{})", percent(ended), percent(asked)) }
}

fn thefts(row: &Row) -> Vec<String> {
    let told = row.thefts.iter().map(|theft| {
        let share = 100.0 * theft.rate();
        let share = if share > 0.0 && share < 99.95 { format!("{share:.1}") } else { format!("{share:.0}") };
        match (theft.median_requests(), theft.median_seconds()) {
            (Some(requests), Some(seconds)) if seconds >= 0.5 => format!("{share} @ {requests} / {}", span(seconds)),
            (Some(requests), _) => format!("{share} @ {requests}"),
            _ => share,
        }
    });
    told.collect()
}

fn span(seconds: f64) -> String {
    if seconds < 3600.0 { format!("{seconds:.0} s") } else { format!("{:.1} h", seconds / 3600.0) }
}

fn as_json(found: &Simulated, simulation: &Simulation) -> Value {
    let rows: Vec<Value> = found.rows.iter().map(row_as_json).collect();
    json!({ "seed": simulation.seed, "sessions": found.sessions, "thefts": found.thefts, "rows": rows })
}

fn row_as_json(row: &Row) -> Value {
    let rate =
        |rate: portcullis::simulate::Rate| json!({ "per_10k": rate.per_10k(), "at_most_per_10k": rate.at_most * 1e4 });
    let lives = row.lives.iter().map(|life| {
        let (ended, asked) = (life.ended, life.asked);
        json!({ "life": life.life.name(), "sessions": life.sessions, "ended": ended, "asked": asked })
    });
    let thefts = row.thefts.iter().map(|theft| {
        json!({
            "theft": theft.theft.name(), "stories": theft.stories, "caught": theft.caught,
            "median_requests": theft.median_requests(), "median_seconds": theft.median_seconds(),
            "seconds_of_95_percent": theft.most_seconds(),
        })
    });
    json!({
        "name": row.name, "ended": rate(row.ended()), "asked": rate(row.asked()),
        "honest": lives.collect::<Vec<_>>(), "thefts": thefts.collect::<Vec<_>>(),
    })
}
