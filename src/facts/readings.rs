//! The paths that lenient apps might make of one path.
//!
//! Where a spelling can be read in two ways, policy must hold for both: `/static/..;/admin` is `/admin` to a server that
//! cuts parameters off its segments. A spelling with so many readings that they can not be listed has [`Readings::Any`].

use super::route::PathTrick;

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

/// The readings of a path as it was sent, for the trick that was found in it.
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
    let mut all = Vec::new();
    let mut text = raw.to_owned();
    for _ in 0..=ROUNDS_MAX {
        for slashes in [text.clone(), text.replace('\\', "/")] {
            for cut in [slashes.clone(), without_parameters(&slashes)] {
                push(&mut all, resolve(&cut));
                push(&mut all, merge(&cut));
                // `//host/path` is a URL without a scheme to some parsers.
                if let Some((_, path)) = cut.strip_prefix("//").and_then(|rest| rest.split_once('/')) {
                    push(&mut all, resolve(&format!("/{path}")));
                }
            }
        }
        let Ok(decoded) = percent_encoding::percent_decode_str(&text).decode_utf8() else { return Readings::Any };
        if decoded == text {
            return Readings::These(all);
        }
        text = decoded.into_owned();
    }
    Readings::Any
}

fn push(all: &mut Vec<String>, path: String) {
    if !all.contains(&path) {
        all.push(path);
    }
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

    #[test]
    fn an_ordinary_parameter_stays_where_it_is() {
        let Readings::These(all) = readings("/shop/item;color=red", PathTrick::Parameter) else {
            panic!("has readings")
        };
        assert_eq!(all, ["/shop/item;color=red", "/shop/item"]);
    }
}
