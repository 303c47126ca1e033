//! Conditions as they are written here: what other languages spell otherwise, and the blanks between words. Everything else
//! in a file, comments too, stays as it is.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Faults;
use super::expression::Expression;
use super::file::{Whose, read};
use super::lex::{Token, lex};
use super::page::Source;
use super::parse::parse;

/// The text of a rules file with its conditions in one spelling.
///
/// # Errors
/// When the file is no TOML, or a condition can not be read.
pub fn conditions(path: &Path, text: &str) -> Result<String, Faults> {
    let source = Source::new(&path.to_string_lossy(), text);
    let nothing = |_: &Path| Err(io::Error::other("not opened"));
    let (file, faults) = read(&source, Whose::User, path.parent().unwrap_or(Path::new("")), &mut Vec::new(), &nothing);
    // What names and sets are wrong is for `check` to tell; here only what can not be read stands in the way.
    let rules = file.rules.iter().filter_map(|rule| rule.when.as_ref());
    let tunes = file.tunes.iter().filter_map(|tune| tune.unless.as_ref());
    let lets = file.scope.lets.values().map(|named| &named.expression);
    let all: Vec<&Arc<Expression>> = rules.chain(tunes).chain(lets).collect();
    if all.is_empty() && !faults.is_empty() {
        return Err(Faults::sorted(faults.into_told()));
    }
    let mut patches = Vec::new();
    let mut wrong = Vec::new();
    for expression in all {
        match parse(&expression.text) {
            Ok(parsed) => {
                patches.extend(respelled(expression, &parsed.respelled).into_iter().chain(spaced(expression)))
            }
            Err(problem) => wrong.push(expression.fault(super::diagnostic::Level::Fault, problem)),
        }
    }
    if !wrong.is_empty() {
        return Err(Faults::sorted(wrong));
    }
    Ok(patched(text, patches))
}

type Patch = (std::ops::Range<usize>, String);

fn respelled(expression: &Expression, spellings: &[(super::lex::Span, String)]) -> Vec<Patch> {
    spellings.iter().map(|(span, here)| (expression.raw(span), expression.as_written(here))).collect()
}

/// One blank between words, none inside parentheses. Lines stay as they are.
fn spaced(expression: &Expression) -> Vec<Patch> {
    let Ok(tokens) = lex(&expression.text) else { return Vec::new() };
    let mut patches = Vec::new();
    for (before, after) in tokens.iter().zip(tokens.iter().skip(1)) {
        let gap = before.1.end..after.1.start;
        let found = expression.text.get(gap.clone()).unwrap_or_default();
        let is_word = expression.text.get(before.1.clone()) == Some("not");
        let tight = matches!(before.0, Token::Open | Token::OpenList)
            || matches!(after.0, Token::Close | Token::CloseList | Token::Comma)
            || (before.0 == Token::Not && !is_word)
            || (matches!(before.0, Token::Known | Token::Name(_)) && after.0 == Token::Open);
        let wanted = if tight { "" } else { " " };
        if found != wanted && !found.contains('\n') && expression.is_exact(&gap) {
            patches.push((expression.raw(&gap), wanted.to_owned()));
        }
    }
    patches
}

/// The text with all patches; of two that overlap, the wider one counts.
fn patched(text: &str, mut patches: Vec<Patch>) -> String {
    patches.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut out = String::new();
    let mut at = 0;
    for (span, here) in patches {
        if span.start < at {
            continue;
        }
        out.push_str(text.get(at..span.start).unwrap_or_default());
        out.push_str(&here);
        at = span.end;
    }
    out + text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str) {
        let whole = |when: &str| {
            format!("version = 1 # one\nname = 'a'\n[[rule]]\nid = 'x' # two\nwhen = {when} # three\nthen = 'deny'\n")
        };
        let found = conditions(Path::new("a.toml"), &whole(before)).unwrap();
        assert_eq!(found, whole(after));
        assert_eq!(conditions(Path::new("a.toml"), &found).unwrap(), found, "twice is as good as once");
    }

    #[test]
    fn spellings_and_blanks_are_ours_and_comments_stay() {
        check(r#"'request.path.startsWith("/a")'"#, r#"'request.path starts_with "/a"'"#);
        check(r#""request.path.startsWith(\"/a\")""#, r#""request.path starts_with \"/a\"""#);
        check("'client.asn not in [1,2]  &&   (  session.exists )'", "'client.asn not_in [1, 2] && (session.exists)'");
        check("'not session.exists or ! client.is_tor'", "'not session.exists or !client.is_tor'");
        check("'''session.exists\n   &&  client.is_tor'''", "'''session.exists\n   && client.is_tor'''");
        check("'known( client.country )&&client.asn>5'", "'known(client.country) && client.asn > 5'");
    }

    #[test]
    fn what_can_not_be_read_is_told_and_left() {
        let text = "version = 1\nname = 'a'\n[[rule]]\nid = 'x'\nwhen = 'a ='\nthen = 'deny'\n";
        let told = conditions(Path::new("a.toml"), text).unwrap_err().to_string();
        assert!(told.contains("a single `=`"), "{told}");
        assert!(conditions(Path::new("a.toml"), "version = [").is_err());
    }
}
