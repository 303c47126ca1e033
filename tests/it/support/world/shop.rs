//! A small shop: an app with sessions of its own, as Django or Express keep them. A new value at login, gone at logout.

use std::collections::HashMap;

use http::request;

use super::{AppAnswer, Body};

/// `POST /login` with `username` and the password `pw-<username>-secret`, `POST /logout`, `/account` for users, `/cart` for
/// everybody (it begins a session), and pages that need nothing.
pub(super) fn shop() -> impl FnMut(&request::Parts) -> AppAnswer {
    let mut sessions: HashMap<String, Option<String>> = HashMap::new();
    let mut issued = 0_u32;
    move |request| {
        let shown = cookie(request, "sessionid");
        let user = shown.as_ref().and_then(|value| sessions.get(value).cloned().flatten());
        let mut begin = |sessions: &mut HashMap<String, Option<String>>, user: Option<String>| {
            issued += 1;
            let value = format!("app-session-{issued:04}");
            sessions.insert(value.clone(), user);
            format!("sessionid={value}; Path=/; HttpOnly; SameSite=Lax")
        };
        let answer = match (request.method.as_str(), request.uri.path()) {
            ("POST", "/login") => match right_login(request) {
                Some(name) => {
                    shown.inspect(|old| drop(sessions.remove(old)));
                    AppAnswer::redirect("/account").set_cookie(&begin(&mut sessions, Some(name)))
                }
                None => AppAnswer::ok(),
            },
            ("POST", "/logout") => {
                shown.inspect(|old| drop(sessions.remove(old)));
                AppAnswer::redirect("/").set_cookie("sessionid=; Path=/; Max-Age=0")
            }
            (_, "/cart") if shown.is_none_or(|value| !sessions.contains_key(&value)) => {
                AppAnswer::ok().set_cookie(&begin(&mut sessions, None))
            }
            (_, "/account") if user.is_none() => AppAnswer::redirect("/login"),
            _ => AppAnswer::ok(),
        };
        answer.serving(user.as_deref())
    }
}

/// The value of a cookie as the app reads it.
pub(super) fn cookie(request: &request::Parts, name: &str) -> Option<String> {
    let line = request.headers.get("cookie")?.to_str().ok()?;
    line.split("; ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(Into::into))
}

fn right_login(request: &request::Parts) -> Option<String> {
    let Body(body) = request.extensions.get::<Body>()?;
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let user = field("username")?;
    (field("password")? == format!("pw-{user}-secret")).then(|| user.to_owned())
}
