//! The command line: one file per subcommand; the clap types stay here.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about = "A session guard in front of a web app")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A weak sample app, the guard in front of it, and attacks against both
    Demo(demo::Options),
}

/// Does what the command line asks for.
pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
    }
}
