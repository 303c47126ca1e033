//! `portcullis schema`: what may stand in rules files, in scenarios and in `portcullis.toml`, for editors.

use std::io;

use portcullis::config;
use portcullis::rules::schema;

use super::{Exit, SchemaArgs, SchemaOf, Streams};

pub(super) fn run(args: SchemaArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let schema = match args.of {
        SchemaOf::Rules => schema::rules(),
        SchemaOf::Scenarios => schema::scenarios(),
        SchemaOf::Config => config::schema(),
    };
    writeln!(streams.out, "{schema:#}")?;
    Ok(Exit::Done)
}
