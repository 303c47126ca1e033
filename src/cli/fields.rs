//! `portcullis fields`: what rules may read, from the one table of the scheme.

use std::io;

use portcullis::rules::scheme::{Described, Field};

use super::{Exit, FieldsArgs, Format, Streams};

pub(super) fn run(args: &FieldsArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let all: Vec<Described> =
        Field::all().map(Field::describe).filter(|about| about.name.contains(&args.like)).collect();
    match args.format {
        Format::Human => {
            let wide = all.iter().map(|about| about.name.len()).max().unwrap_or(0);
            for about in &all {
                let (kind, phase) = (about.kind.word(), about.phase.word());
                let unknown = match about.unknown {
                    "never" => String::new(),
                    when => format!(" Unknown {when}."),
                };
                writeln!(streams.out, "{:wide$}  {kind:<8}  {phase:<8}  {}{unknown}", about.name, about.doc)?;
            }
        }
        Format::Json => {
            let list: Vec<_> = all.iter().map(as_json).collect();
            writeln!(streams.out, "{:#}", serde_json::Value::from(list))?;
        }
    }
    Ok(Exit::Done)
}

fn as_json(about: &Described) -> serde_json::Value {
    serde_json::json!({
        "name": about.name,
        "type": about.kind.word(),
        "phase": about.phase.word(),
        "doc": about.doc,
        "words": about.words,
        "unit": about.unit,
        "unknown": about.unknown,
        "example": about.example,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    #[test]
    fn every_field_is_told_with_its_type_and_meaning() {
        let (exit, out, _) = say(&["fields"]);
        assert_eq!(exit, Exit::Done);
        assert_eq!(out.lines().count(), Field::all().count());
        let (_, some, _) = say(&["fields", "changed."]);
        assert!(some.lines().all(|line| line.starts_with("changed.") && line.contains("bool")), "{some}");
        let (_, json, _) = say(&["fields", "client.os", "--format", "json"]);
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(list[0]["words"][0], "windows");
        assert_eq!(list[0]["example"], "client.os == \"android\"");
        let (_, size, _) = say(&["fields", "request.size"]);
        assert!(size.ends_with(" Unknown without `Content-Length`.\n"), "{size}");
    }
}
