//! The cookie jar of one browser that knows one host.
//!
//! As RFC 6265 has it, but for two things no story needs: domains, and the date in `Expires` beyond "long ago or not".

use std::fmt::Write;

/// One cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    path: String,
}

/// All cookies of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jar(Vec<Kept>);

impl Jar {
    /// Puts a cookie for every path, as a script or a neighbouring host could.
    pub(crate) fn plant(&mut self, name: &str, value: &str) {
        self.keep(Kept { name: name.into(), value: value.into(), path: "/".into() });
    }

    /// The value of a cookie, whatever its path.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|kept| kept.name == name).map(|kept| kept.value.as_str())
    }

    /// Names, in the order they came.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|kept| kept.name.as_str()).collect()
    }

    /// Does what one `Set-Cookie` line says, on the answer to a request for `path`.
    pub(crate) fn take(&mut self, set_cookie: &str, request_path: &str) {
        let mut parts = set_cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let mut path = default_path(request_path).to_owned();
        let mut is_over = false;
        let mut has_max_age = false;
        for (key, value) in parts.map(|part| part.split_once('=').unwrap_or((part, ""))) {
            match key.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => value.clone_into(&mut path),
                "max-age" => {
                    has_max_age = true;
                    is_over = value.parse::<i64>().is_ok_and(|seconds| seconds <= 0);
                }
                "expires" if !has_max_age => is_over = value.contains(" 1970 ") || value.contains("-1970 "),
                _ => {}
            }
        }
        if is_over {
            self.0.retain(|kept| kept.name != name || kept.path != path);
        } else {
            self.keep(Kept { name: name.into(), value: value.into(), path });
        }
    }

    /// The `Cookie` header for a path; none if nothing fits.
    pub(crate) fn header(&self, request_path: &str) -> Option<String> {
        let mut fitting: Vec<&Kept> = self.0.iter().filter(|kept| path_fits(request_path, &kept.path)).collect();
        fitting.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let mut header = String::new();
        for Kept { name, value, .. } in fitting {
            let separator = if header.is_empty() { "" } else { "; " };
            write!(header, "{separator}{name}={value}").unwrap();
        }
        (!header.is_empty()).then_some(header)
    }

    fn keep(&mut self, new: Kept) {
        match self.0.iter_mut().find(|kept| kept.name == new.name && kept.path == new.path) {
            Some(old) => *old = new,
            None => self.0.push(new),
        }
    }
}

fn default_path(request_path: &str) -> &str {
    match request_path.rsplit_once('/') {
        Some((folder, _)) if !folder.is_empty() => folder,
        _ => "/",
    }
}

fn path_fits(request_path: &str, cookie_path: &str) -> bool {
    request_path
        .strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie_path.ends_with('/'))
}

#[test]
fn a_jar_does_what_browsers_do() {
    let mut jar = Jar::default();
    jar.take("a=1; Path=/; HttpOnly", "/x/y");
    jar.take("b=2", "/x/y");
    jar.take("c=3; Path=/x/yy", "/");
    assert_eq!(jar.header("/x/z").as_deref(), Some("b=2; a=1"));
    assert_eq!(jar.header("/xx").as_deref(), Some("a=1"));
    jar.take("a=4; path=/; max-age=60; expires=Thu, 01 Jan 1970 00:00:00 GMT", "/");
    assert_eq!(jar.get("a"), Some("4"));
    jar.take("a=; Path=/; Max-Age=0", "/");
    jar.take("b=; Path=/x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "/");
    assert_eq!(jar.names(), ["c"]);
    assert_eq!(jar.header("/"), None);
}
