//! The paths that lenient apps might make of one path.
//!
//! Where a spelling can be read in two ways, policy must hold for both: `/static/..;/admin` is `/admin` to a server that
//! cuts parameters off its segments. A spelling with so many readings that they can not be listed has [`Readings::Any`].

use super::route::{PathTrick, is_lookalike};

/// What an app might make of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readings {
    /// One of these.
    These(Vec<String>),
    /// Who knows.
    Any,
}

/// How often a path is decoded: apps behind two proxies that each decode once were seen, never more.
const ROUNDS_MAX: usize = 3;

/// How many forms of one path are followed, and how many octets they may have together: what a request may cost.
const FORMS_MAX: usize = 64;
const FORM_BYTES_MAX: usize = 64 * 1024;

/// The readings of a path as it was sent, for the trick that was found in it.
///
/// The programs in a row each do some of the steps, in an order of their own: `/x/../admin%2f..` is `/admin/..` to an app
/// behind a proxy that resolves dots and does not decode. So every form goes through every step until nothing new comes.
pub fn readings(raw: &str, trick: PathTrick) -> Readings {
    match trick {
        PathTrick::Nul
        | PathTrick::Control
        | PathTrick::BadEncoding
        | PathTrick::NotUtf8
        | PathTrick::Lookalike
        | PathTrick::NotAbsolute => return Readings::Any,
        PathTrick::LeadingSlashes
        | PathTrick::DotSegment
        | PathTrick::Parameter
        | PathTrick::Backslash
        | PathTrick::EncodedBackslash
        | PathTrick::EncodedSlash
        | PathTrick::DoubleEncoding => {}
    }
    match Forms::of(raw) {
        Some(forms) => Readings::These(forms.merged()),
        None => Readings::Any,
    }
}

/// A path in every form that was reached so far, and how often it was decoded on the way.
struct Forms {
    all: Vec<(String, usize)>,
    bytes: usize,
}

impl Forms {
    /// Every form of the path; none if there are too many, or one that can not be read for certain.
    fn of(raw: &str) -> Option<Self> {
        let mut forms = Self { all: Vec::new(), bytes: 0 };
        if holds_bad_escape(raw) {
            return None;
        }
        forms.add(raw.to_owned(), 0)?;
        let mut at = 0;
        while let Some((form, rounds)) = forms.all.get(at).cloned() {
            at += 1;
            forms.add(without_parameters(&form), rounds)?;
            forms.add(form.replace('\\', "/"), rounds)?;
            forms.add(resolve(&form), rounds)?;
            // `//host/path` is a URL without a scheme to some parsers.
            if let Some((_, path)) = form.strip_prefix("//").and_then(|rest| rest.split_once('/')) {
                forms.add(format!("/{path}"), rounds)?;
            }
            let decoded = percent_encoding::percent_decode_str(&form).decode_utf8().ok()?;
            if decoded != form {
                forms.add(decoded.into_owned(), rounds + 1)?;
            }
        }
        Some(forms)
    }

    fn add(&mut self, form: String, rounds: usize) -> Option<()> {
        if self.all.iter().any(|(other, _)| *other == form) {
            return Some(());
        }
        self.bytes += form.len();
        // The trick that was told is the first one of the path; worse ones may stand behind it.
        let unclear = form.chars().any(|letter| letter.is_ascii_control() || is_lookalike(letter))
            || form.contains("%u")
            || form.contains("%U");
        if unclear || rounds > ROUNDS_MAX || self.all.len() >= FORMS_MAX || self.bytes > FORM_BYTES_MAX {
            return None;
        }
        self.all.push((form, rounds));
        Some(())
    }

    /// The forms as a router splits them, each once.
    fn merged(self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for path in self.all.iter().map(|(form, _)| merge(form)) {
            if !all.contains(&path) {
                all.push(path);
            }
        }
        all
    }
}

/// Whether a `%` stands in it that begins no escape. Decoded, it may well do so.
fn holds_bad_escape(raw: &str) -> bool {
    raw.split('%')
        .skip(1)
        .any(|rest| !matches!(rest.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    segments.join("/")
}

/// Dots resolved and slashes merged.
fn resolve(path: &str) -> String {
    let mut open: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." => {}
            ".." => {
                open.pop();
            }
            other => open.push(other),
        }
    }
    format!("/{}", open.join("/"))
}

/// Slashes merged, dots left as they are.
fn merge(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::route::canonical_path;

    #[test]
    fn every_known_way_to_hide_a_path_is_read() {
        for raw in [
            "/static/..;/admin",
            "/admin;x=1",
            "/x\\..\\admin",
            "/%2fadmin",
            "/x/%2e%2e/admin",
            "/x%2f..%2fadmin",
            "/x/..%252fadmin",
            "//host/admin",
            "/admin/../static",
            "/x%5c..%5cadmin",
            "/x/;y/../admin",
        ] {
            let trick = canonical_path(raw).hostile.unwrap_or_else(|| panic!("{raw} is not told as hostile"));
            let Readings::These(all) = readings(raw, trick) else { panic!("{raw} has readings") };
            assert!(all.iter().any(|path| path.starts_with("/admin")), "{raw}: {all:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_for_certain_could_be_anything() {
        for raw in ["/a%00b", "/%", "/%c0%af", "/a%252525252fb"] {
            let trick = canonical_path(raw).hostile.unwrap_or_else(|| panic!("{raw} is not told as hostile"));
            assert_eq!(readings(raw, trick), Readings::Any, "{raw}");
        }
    }

    /// `/x/../admin%2f..` went past `/admin/**`: dots were resolved only after decoding, while a proxy in front of the app
    /// may do so before it.
    #[test]
    fn the_steps_are_taken_in_every_order() {
        for raw in ["/x/../admin%2f..", "/x/..;/%61dmin%2f../x/", "/x/../admin\\..", "/x/..%2f%2e%2e/admin%252f../y"] {
            let trick = canonical_path(raw).hostile.unwrap_or_else(|| panic!("{raw} is not told as hostile"));
            let Readings::These(all) = readings(raw, trick) else { panic!("{raw} has readings") };
            assert!(all.iter().any(|path| path.starts_with("/admin/")), "{raw}: {all:?}");
        }
    }

    /// `/x/../admin%00y` went past `/admin/**`: only the first trick of a path is told, and behind it stood one that
    /// makes a path anything.
    #[test]
    fn a_worse_trick_behind_another_is_seen() {
        for raw in
            ["/x/../admin%00y", "/;/\u{ff0f}admin", "/;/%u002fadmin", "/;/%2e%0d", "/a;%", "/a;%c0%af", "/;%25u002f"]
        {
            let trick = canonical_path(raw).hostile.unwrap_or_else(|| panic!("{raw} is not told as hostile"));
            assert!(trick != PathTrick::Nul && trick != PathTrick::Lookalike, "{raw}: {trick:?}");
            assert_eq!(readings(raw, trick), Readings::Any, "{raw}");
        }
    }

    #[test]
    fn a_path_may_cost_so_much_and_no_more() {
        let long = format!("/;{}", "x/".repeat(FORM_BYTES_MAX / 4));
        assert_eq!(readings(&long, PathTrick::Parameter), Readings::Any);
        let many = "/a;%5c..//".repeat(20);
        if let Readings::These(all) = readings(&many, PathTrick::Parameter) {
            assert!(all.len() <= FORMS_MAX);
        }
        assert!(matches!(readings("/100%25;x", PathTrick::Parameter), Readings::These(_)));
    }

    #[test]
    fn an_ordinary_parameter_stays_where_it_is() {
        let Readings::These(all) = readings("/shop/item;color=red", PathTrick::Parameter) else {
            panic!("has readings")
        };
        assert_eq!(all, ["/shop/item;color=red", "/shop/item"]);
    }
}
