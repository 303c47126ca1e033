//! The program: arguments, configuration, run, exit codes.

mod cli;

use std::io;
use std::process::ExitCode;

use cli::{Exit, Streams};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Not locked: the writer of events has standard output too.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut streams = Streams { out: &mut out, err: &mut err };
    let exit = cli::parse(std::env::args_os(), &mut streams).and_then(|parsed| match parsed {
        Ok(cli) => cli::perform(&cli, &mut streams),
        Err(exit) => Ok(exit),
    });
    // Nobody reads any more what was to be told, so there is nobody to tell that to.
    exit.unwrap_or(Exit::Runtime).into()
}
