//! Syslog (RFC 5424): a header that every receiver reads. The JSON line as the message is in ASCII alone.
//!
//! The structured data are those that IANA knows; a `name@number` of our own would need a number that we do not have. The
//! message is not marked as UTF-8 (no BOM), which many receivers show as three odd letters: what is not of ASCII is spelled
//! in it as JSON spells it.

use super::plain::Plain as _;
use crate::event::Record;
use crate::verdict::Text;

/// Where messages belong where nobody says so: `authpriv`, which ordinary receivers keep apart and unread by others.
pub const FACILITY_DEFAULT: u8 = 10;

/// Letters of a host name (RFC 5424, section 6).
const HOST_MAX: usize = 255;

/// Who wrote it, behind the number of the message.
const ORIGIN: &str = concat!("\"][origin software=\"Portcullis\" swVersion=\"", env!("CARGO_PKG_VERSION"), "\"] ");

pub(super) fn head(facility: u8, record: &Record, out: &mut Vec<u8>) {
    let priority = u32::from(facility) * 8 + u32::from(record.severity().syslog());
    out.push(b'<');
    u64::from(priority).put(out);
    out.extend_from_slice(b">1 ");
    record.ts.put(out);
    out.push(b' ');
    let host = record.node.as_ref().map_or("-", Text::as_str);
    let host = if host.is_empty() { "-" } else { host };
    out.extend(host.bytes().take(HOST_MAX).map(|byte| if byte.is_ascii_graphic() { byte } else { b'_' }));
    // It counts from 1 to 2^31 - 1 and begins again (section 7.3.1).
    let sequence = record.seq.saturating_sub(1) % 0x7fff_ffff + 1;
    out.extend_from_slice(b" portcullis - ");
    record.event.kind().put(out);
    out.extend_from_slice(b" [meta sequenceId=\"");
    sequence.put(out);
    out.extend_from_slice(ORIGIN.as_bytes());
}
