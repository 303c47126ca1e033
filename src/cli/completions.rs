//! `portcullis completions`: what a shell completes.

use std::io;

use clap::CommandFactory as _;

use super::{Cli, CompletionsArgs, Exit, Streams};

pub(super) fn run(args: &CompletionsArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    // Into memory first: the generator does not survive a pipe that is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portcullis", &mut script);
    streams.out.write_all(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let (exit, out, err) = say(&["completions", shell]);
            assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{shell}");
            assert!(out.contains("keygen") && out.contains("deny-warnings"), "{shell}");
        }
    }
}
