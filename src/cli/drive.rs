//! `portcullis drive`: the engine on standard input, one JSON object a line.

use std::io::{self, BufRead, Read as _};

use portcullis::drive::protocol::Play;

use super::explain::settled;
use super::{DriveArgs, Exit, Streams};

/// Bytes of the longest line that is read: a request has a few thousand.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn run(args: &DriveArgs, input: &mut dyn BufRead, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let (settings, rules) = match settled(args.policy.as_deref()) {
        Ok(found) => found,
        Err(trouble) => return trouble.tell(streams),
    };
    let mut play = match Play::new(&settings, &rules, args.seed) {
        Ok(play) => play,
        Err(why) => {
            writeln!(streams.err, "portcullis: {why}")?;
            return Ok(Exit::Runtime);
        }
    };
    let mut exit = Exit::Done;
    let mut bytes = Vec::new();
    let mut number = 0_u64;
    loop {
        bytes.clear();
        if (&mut *input).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(exit);
        }
        number += 1;
        let whole = bytes.ends_with(b"\n") || u64::try_from(bytes.len()).is_ok_and(|length| length < LINE_BYTES_MAX);
        if !whole {
            input.skip_until(b'\n')?;
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        if text.is_empty() && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match play.line(text) {
            Ok(None) => {}
            Ok(Some(answer)) => writeln!(streams.out, "{answer}")?,
            // Told in its place, so that whoever counts answers does not get out of step.
            Err(why) => {
                exit = Exit::Runtime;
                let error = serde_json::json!({ "error": why.to_string(), "line": number });
                writeln!(streams.out, "{error}")?;
            }
        }
        streams.out.flush()?;
    }
}
