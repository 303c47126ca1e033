//! The figures and the table made of them.

use std::fmt;
use std::time::Duration;

use super::contender::Kind;
use super::load::Score;

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

/// The figures of one round.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    kind: Kind,
    cpu_us: f64,
    per_second: f64,
    median_ms: f64,
    p99_ms: f64,
}

impl Report {
    pub(crate) fn add(&mut self, kind: Kind, score: &Score, cpu: Duration) -> Line {
        let requests = score.requests as f64;
        let line = Line {
            kind,
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
            per_second: requests / score.duration.as_secs_f64(),
            median_ms: score.median.as_secs_f64() * 1e3,
            p99_ms: score.p99.as_secs_f64() * 1e3,
        };
        self.lines.push(line);
        line
    }

    /// The median over the rounds, and how far the rounds lie apart.
    fn of(&self, kind: Kind, figure: fn(&Line) -> f64) -> Option<Spread> {
        let mut all: Vec<f64> = self.lines.iter().filter(|line| line.kind == kind).map(figure).collect();
        all.sort_by(f64::total_cmp);
        Some(Spread { least: *all.first()?, median: *all.get(all.len() / 2)?, most: *all.last()? })
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, cpu_us, per_second, median_ms, p99_ms } = self;
        let name = kind.word();
        write!(f, "{name:<8} {cpu_us:6.2} us CPU  {per_second:7.0} req/s  median {median_ms:.2} ms  p99 {p99_ms:.2} ms")
    }
}

/// Markdown, ready for the README.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nginx = self.of(Kind::Nginx, |line| line.cpu_us).map(|cpu| cpu.median);
        let ratio = |cpu: f64, to: Option<f64>| to.map_or_else(|| "-".to_owned(), |to| format!("{:.2}", cpu / to));
        writeln!(f, "| Contender | CPU us / request | least - most | ratio to nginx | req/s | median | p99 |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for kind in Kind::ALL {
            let Some(cpu) = self.of(kind, |line| line.cpu_us) else { continue };
            let median = |figure| self.of(kind, figure).map_or(0.0, |spread| spread.median);
            writeln!(
                f,
                "| {} | {:.2} | {:.2} - {:.2} | {} | {:.0}k | {:.2} ms | {:.2} ms |",
                kind.title(),
                cpu.median,
                cpu.least,
                cpu.most,
                ratio(cpu.median, nginx),
                median(|line| line.per_second) / 1e3,
                median(|line| line.median_ms),
                median(|line| line.p99_ms),
            )?;
        }
        let off = self.of(Kind::Off, |line| line.cpu_us);
        if let (Some(off), Some(on)) = (off, self.of(Kind::On, |line| line.cpu_us)) {
            writeln!(f, "| guard on / guard off | {} | | | | | |", ratio(on.median, Some(off.median)))?;
        }
        Ok(())
    }
}
