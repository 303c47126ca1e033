//! Reading Rust and Markdown just well enough for the rules: comments and literals out, paths spelled out, words found.

use super::Source;

/// Folders at the top: a word that begins with one of them is a path of ours.
const TOP_FOLDERS: &[&str] = &["src", "tests", "benches", "rules", "contrib", "examples", "schema", ".ci"];

/// Endings that make a word in backticks the name of a file.
const FILE_ENDINGS: &[&str] = &[
    ".rs", ".md", ".toml", ".json", ".jsonl", ".lock", ".py", ".js", ".sh", ".html", ".yml", ".yaml", ".service",
    ".socket",
];

// Reading Rust -------------------------------------------------------------------------------------------------------

/// The source with comments and the insides of literals blanked; lines keep their numbers.
pub(super) fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at + skipped(rest, out.last().copied());
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How many bytes at the front are a comment or a literal; 0 if the first one is code.
fn skipped(rest: &[u8], before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'r' | b'b' | b'c', ..] if !in_word => raw_string(rest).unwrap_or(0),
        // A lifetime is a quote, a name, and no second quote right after one character.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', first, ..] => {
            let width = match *first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
            }
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().take(2).take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let is_raw = rest[..prefix].contains(&b'r');
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') || (hashes > 0 && !is_raw) {
        return None;
    }
    if !is_raw {
        return Some(prefix + quoted(&rest[prefix..], b'"'));
    }
    let body = prefix + hashes + 1;
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| body + end + close.len()))
}

/// [`code`], with everything under `#[cfg(test)]` blanked too.
pub(super) fn code_without_tests(source: &str) -> String {
    let mut code = code(source).into_bytes();
    let mut from = 0;
    while let Some(found) = find(&code[from..], b"#[cfg(test)]").or_else(|| find(&code[from..], b"#[cfg(all(test")) {
        let start = from + found;
        let end = start + item_end(&code[start..]);
        for byte in &mut code[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Where the item ends that begins here: at the `;` or the closing brace that is outside all brackets.
fn item_end(code: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path with `::` in it, with the groups of `use` spelled out: `use a::{b, c::d}` is `a::b` and `a::c::d`.
pub(super) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut line = 1;
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' => current.push(c),
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                current.push_str("::");
            }
            '{' => {
                let is_group = current.ends_with("::");
                let outer = prefixes.last().cloned().unwrap_or_default();
                prefixes.push(if is_group { outer + &current } else { String::new() });
                current.clear();
            }
            '\n' | ' ' | '\t' if current.ends_with("::") => {}
            _ => {
                let prefix = prefixes.last().map_or("", String::as_str);
                let path = format!("{prefix}{current}");
                if !current.is_empty() && path.contains("::") {
                    found.push((line, path));
                }
                current.clear();
                if c == '}' {
                    prefixes.pop();
                }
            }
        }
        if c == '\n' {
            line += 1;
        }
    }
    found
}

/// Names of the functions that carry a test attribute.
pub(super) fn tests_in(source: &Source) -> Vec<String> {
    let code = code(&source.text);
    let mut is_test = false;
    let mut names = Vec::new();
    for line in code.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test {
                names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
            is_test = false;
        }
    }
    names
}

// Reading text -------------------------------------------------------------------------------------------------------

pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `word` stands in the line on its own, not as a part of a longer one.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let (_, after) = rest.split_at(word.len());
        !before.ends_with(is_part) && (word.ends_with('!') || !after.starts_with(is_part))
    })
}

/// Whether `home` begins a path in the line: `/var/home/x` and `https://example.com/home/` are others.
pub(super) fn starts_a_path(line: &str, home: &str) -> bool {
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '}');
    line.match_indices(home).any(|(at, _)| !line.split_at(at).0.ends_with(is_path))
}

/// `A stolen cookie, used abroad` is `a_stolen_cookie_used_abroad`.
pub(super) fn slug(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

/// Words in backticks and targets of links that look like a file of the repository; code blocks are skipped.
pub(super) fn words_that_name_files(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (line, text) in numbered(page) {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block || text.starts_with("    ") {
            continue;
        }
        let quoted = text.split('`').skip(1).step_by(2).filter(|word| is_file(word));
        found.extend(quoted.map(|word| (line, word.trim_end_matches('/').to_owned())));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let targets = targets.map(|target| target.split('#').next().unwrap_or(target));
        found.extend(targets.filter(|target| is_file(target)).map(|target| (line, target.to_owned())));
    }
    found
}

fn is_file(word: &str) -> bool {
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let first = word.split('/').next().unwrap_or(word);
    let ends_like_one = FILE_ENDINGS.iter().any(|ending| word.len() > ending.len() && word.ends_with(ending));
    is_plain && !word.starts_with('/') && (ends_like_one || (word.contains('/') && TOP_FOLDERS.contains(&first)))
}

#[test]
fn literals_and_comments_are_no_code() {
    let check = |source: &str, expected: &str| assert_eq!(code(source), expected, "of {source}");
    check("a // b\nc", "a     \nc");
    check("a /* b /* c */ d */ e", "a                   e");
    check(r#"f("x\"y", 'z', '\'', 'a)"#, "f(      ,    ,     , 'a)");
    check("r#\"a\"b\"# br\"c\" b\"d\" c\"e\" var\"f\"", &format!("{}var   ", " ".repeat(25)));
    check("<'a>(x: &'a str)", "<'a>(x: &'a str)");
    let lines: std::collections::BTreeMap<usize, String> =
        paths("use a::{b,\n c::d};\nx::y(z)\n").into_iter().collect();
    assert_eq!(
        lines,
        std::collections::BTreeMap::from([(1, "a::b".into()), (2, "a::c::d".into()), (3, "x::y".into())])
    );
}
