//! The command line.

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use portcullis::config;

#[derive(Debug, Parser)]
enum Cli {
    /// Run the guard in front of an app.
    Run {
        /// The configuration.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

pub(crate) fn main() -> ExitCode {
    let Cli::Run { config } = Cli::parse();
    let request = config::Request { file: config, preset: None, overrides: config::resolve::Overrides::default() };
    match run::run(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            use std::io::Write;
            drop(writeln!(std::io::stderr(), "{error}"));
            ExitCode::from(1)
        }
    }
}
