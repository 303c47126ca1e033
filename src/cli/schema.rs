//! `portcullis schema`: what may stand in rules files and in scenarios, for editors.

use std::io;

use portcullis::rules::schema;

use super::{Exit, SchemaArgs, SchemaOf, Streams};

pub(super) fn run(args: SchemaArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let schema = match args.of {
        SchemaOf::Rules => schema::rules(),
        SchemaOf::Scenarios => schema::scenarios(),
    };
    writeln!(streams.out, "{schema:#}")?;
    Ok(Exit::Done)
}
