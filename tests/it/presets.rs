//! Every spelling of a login or logout that reaches a framework's handler is one for the guard too.
//!
//! A spelling that the guard misses is a login that it does not see: no new session id, no limit on guesses.

use http::Method;
use portcullis::clock::Timestamp;
use portcullis::config::Preset;
use portcullis::config::resolve::{Input, Overrides, resolve};
use portcullis::facts::readings::{Readings, readings};
use portcullis::facts::route::canonical_path;
use portcullis::rules::Policy;

fn policy(preset: Preset) -> Policy {
    let overrides = Overrides { upstream: Some("unix:/x".parse().unwrap()), ..Overrides::default() };
    let input = Input { file: None, preset: Some(preset), overrides: Some(&overrides) };
    let settings = resolve(&input, Timestamp::from_secs(1_795_257_972)).unwrap().settings;
    settings.policy(1, &portcullis::config::Rulebook::packs_of(&settings)).unwrap()
}

/// What the guard takes a request for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Login,
    Logout,
    /// It may be one of them, so it is refused.
    Refused,
    Neither,
}
use Taken::{Login, Logout, Neither, Refused};

fn taken(policy: &Policy, method: &Method, raw: &str) -> Taken {
    let read = canonical_path(raw);
    let lists = |path: &str| policy.login(method, path).is_some() || policy.is_logout(method, path);
    if let Some(trick) = read.hostile {
        let refused = lists(&read.path)
            || match readings(raw, trick) {
                Readings::These(all) => all.iter().any(|path| lists(path)),
                Readings::Any => true,
            };
        if refused {
            return Refused;
        }
    }
    if policy.login(method, &read.path).is_some() {
        Login
    } else if policy.is_logout(method, &read.path) {
        Logout
    } else {
        Neither
    }
}

fn check(preset: Preset, table: &[(Taken, &str, &[&str])]) {
    let policy = policy(preset);
    for (expected, method, paths) in table {
        let method: Method = method.parse().unwrap();
        for path in *paths {
            assert_eq!(taken(&policy, &method, path), *expected, "{preset}: {method} {path}");
        }
    }
}

#[test]
fn django() {
    check(
        Preset::Django,
        &[
            (Login, "POST", &["/accounts/login/", "/accounts/login"]),
            (Login, "POST", &["/admin/login/", "/admin/login", "/admin/%6cogin/", "/admin//login/"]),
            // `$` of a regular expression lets a line feed stand behind it.
            (
                Refused,
                "POST",
                &["/accounts/login/%0a", "/x/../accounts/login/", "/accounts/login/;x", "//accounts/login/"],
            ),
            (Logout, "POST", &["/accounts/logout/", "/admin/logout", "/admin/logout/"]),
            (Neither, "POST", &["/accounts/loginx/", "/accounts/", "/accounts/login/x"]),
            (Neither, "GET", &["/accounts/login/", "/admin/logout/"]),
        ],
    );
}

#[test]
fn rails() {
    check(
        Preset::Rails,
        &[
            (
                Login,
                "POST",
                &[
                    "/users/sign_in",
                    "/users/sign_in/",
                    "/users/sign_in.html",
                    "/users/sign_in.json",
                    "/users/sign_in.turbo_stream",
                    "/users/sign_in.json/",
                    "/users//sign_in",
                    "/users/sign%5fin%2ejson",
                    "/session",
                    "/session.json",
                    "/session/",
                ],
            ),
            (Logout, "DELETE", &["/users/sign_out", "/users/sign_out.json", "/session", "/session.html"]),
            (Logout, "POST", &["/users/sign_out", "/users/sign_out.html/"]),
            (Logout, "GET", &["/users/sign_out", "/users/sign_out.json"]),
            (Logout, "HEAD", &["/users/sign_out"]),
            (Refused, "POST", &["/users/sign_in;x", "/users/sign_in%2f", "/users/./sign_in.json"]),
            (Neither, "POST", &["/users/sign_in_with", "/sessions", "/session/new", "/users"]),
        ],
    );
}

#[test]
fn laravel() {
    check(
        Preset::Laravel,
        &[
            (
                Login,
                "POST",
                &["/login", "/login/", "/%6cogin", "/index.php/login", "/index.php/login/", "/index.php//login"],
            ),
            (Login, "POST", &["/two-factor-challenge/", "/index.php/two-factor-challenge"]),
            (Logout, "POST", &["/logout", "/logout/", "/index.php/logout"]),
            (Refused, "POST", &["/login;x", "/login%2f", "/index.php/x/../login"]),
            (Neither, "POST", &["/login/x", "/index.php", "/index.php/index.php/login", "/api/login"]),
        ],
    );
}

#[test]
fn express() {
    check(
        Preset::Express,
        &[
            (Login, "POST", &["/login", "/login/", "/LOGIN", "/Login/", "/logi%6e"]),
            (Logout, "POST", &["/logout", "/Logout/"]),
            (Logout, "GET", &["/logout", "/LOGOUT/"]),
            (Logout, "HEAD", &["/logout"]),
            (Refused, "POST", &["/login;x", "/login%00", "//login"]),
            (Neither, "POST", &["/login/x", "/loginx"]),
        ],
    );
}

#[test]
fn spring() {
    check(
        Preset::Spring,
        &[
            (Login, "POST", &["/login", "/login/", "/login.html", "/login.json", "/lo%67in"]),
            (Logout, "POST", &["/logout", "/logout/", "/logout.do"]),
            (
                Refused,
                "POST",
                &["/login;x", "/login;jsessionid=1", "/;x/login", "/login%3bx", "/x/..;/login", "/login%2f"],
            ),
            (Neither, "POST", &["/login/x", "/loginx"]),
            (Neither, "GET", &["/logout"]),
        ],
    );
}

#[test]
fn aspnet() {
    check(
        Preset::AspNet,
        &[
            (
                Login,
                "POST",
                &[
                    "/Identity/Account/Login",
                    "/identity/account/LOGIN",
                    "/Identity/Account/Login/",
                    "/Identity/Account/Login.",
                    "/Identity/Account/Login%20",
                    "/Identity/Account/Login%20.%20/",
                    "/Identity/Account/LoginWith2fa",
                    "/Identity/Account/LoginWithRecoveryCode/",
                    "/Account/Login",
                    "/account/login/7",
                    "/Account/Login.aspx",
                    "/Account/Login.aspx/x/y",
                    "/Account/VerifyCode",
                ],
            ),
            (
                Logout,
                "POST",
                &["/Identity/Account/Logout", "/identity/account/logout/", "/Account/Logout.", "/Account/LogOff/7"],
            ),
            (Refused, "POST", &["/Identity\\Account\\Login", "/Identity%5cAccount/Login", "/Identity/Account/Login;x"]),
            (Refused, "POST", &["/Identity/Account/Login%00", "/Identity/Account/%u004cogin"]),
            (Neither, "POST", &["/Identity/Account/Register", "/Identity/Login", "/Account"]),
        ],
    );
}

#[test]
fn php() {
    check(
        Preset::Php,
        &[
            (Login, "POST", &["/login.php", "/login.php/", "/login.php/x", "/login.php/x/y.css", "/Login.PHP"]),
            (Login, "POST", &["/login.php.", "/login.php%20", "/login.php::$DATA", "/login%2Ephp/x"]),
            (Logout, "GET", &["/logout.php", "/logout.php/x", "/logout.php."]),
            (Logout, "POST", &["/logout.php/x"]),
            (Refused, "POST", &["/login.php;x", "/login.php%00.css", "/x/../login.php/y"]),
            (Neither, "POST", &["/login", "/x/login.php", "/login.html"]),
        ],
    );
}

#[test]
fn wordpress() {
    check(
        Preset::WordPress,
        &[
            (Login, "POST", &["/wp-login.php", "/wp-login.php/", "/wp-login.php/x", "/WP-login.php/x/y.css"]),
            (Login, "POST", &["/wp-login.php.", "/wp-login.php%20", "/my-account/", "/index.php/my-account"]),
            (Refused, "POST", &["/wp-login.php;x", "//wp-login.php", "/wp-admin/../wp-login.php", "/wp-login.php%00"]),
            (Neither, "POST", &["/wp-admin/", "/my-account/edit-account/"]),
        ],
    );
}

/// Where a failed login leads is told from where a successful one does in every spelling too: the answer to a wrong
/// password that leads to `/index.php/login` is no login.
#[test]
fn a_failure_is_one_in_every_spelling() {
    let check = |preset: Preset, attempt: &str, back: &[&str]| {
        let policy = policy(preset);
        let login = policy.login(&Method::POST, attempt).unwrap();
        for path in back {
            assert!(login.success.location_not.iter().any(|form| form.matches(path)), "{preset}: {path}");
        }
    };
    check(Preset::Django, "/admin/login/", &["/admin/login/", "/admin/login"]);
    check(Preset::Rails, "/users/sign_in.html", &["/users/sign_in", "/users/sign_in.html"]);
    check(Preset::Rails, "/session", &["/session/new", "/session/new.html"]);
    check(Preset::Laravel, "/index.php/login", &["/login", "/index.php/login", "/login/"]);
    check(Preset::Express, "/LOGIN/", &["/login", "/login/"]);
    check(Preset::Spring, "/login", &["/login", "/login.html"]);
    check(Preset::AspNet, "/account/login", &["/Account/LoginWith2fa", "/Account/Lockout", "/Account/Login.aspx"]);
    check(Preset::Php, "/login.php/x", &["/login.php", "/login.php/x"]);
    check(Preset::WordPress, "/wp-login.php/x", &["/wp-login.php", "/wp-login.php/x"]);
}
