//! The pages of the sample app: plain HTML, no script.

use super::users::User;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;color:#1d2733;background:#eef1f5;margin:0}\
main{max-width:26rem;margin:8vh auto;background:#fff;border-radius:12px;padding:2rem;box-shadow:0 2px 12px #0002}\
h1{font-size:1.3rem;margin:0 0 1rem}\
nav{margin-bottom:1.2rem}nav a{margin-right:1rem;color:#2257b5}\
label{display:block;margin:.6rem 0}\
input{display:block;width:100%;box-sizing:border-box;padding:.5rem;font:inherit;border:1px solid #b9c2cd;border-radius:6px}\
button{margin-top:.6rem;padding:.5rem 1.2rem;font:inherit;color:#fff;background:#2257b5;border:0;border-radius:6px}\
output{display:block;font-size:2.2rem;font-weight:600}\
.note{color:#a03020}\
footer{margin-top:1.5rem;font-size:.8rem;color:#68727e}";

/// What to say above the form.
#[derive(Clone, Copy)]
pub(super) enum Note {
    /// Nothing.
    None,
    /// This.
    Say(&'static str),
}

/// The words by which a client knows that it sees somebody's account.
pub(super) fn account_heading(name: &str) -> String {
    format!("Balance of {name}")
}

pub(super) fn home(user: Option<&User>) -> String {
    let text = match user {
        Some(user) => format!("<p>Good to see you, {}.</p>", user.name),
        None => "<p>The bank that trusts everybody.</p>".to_owned(),
    };
    page("Gullible Savings", user, &text)
}

pub(super) fn login(note: Note) -> String {
    let form = form("/login", &[("user", "Name", "text"), ("password", "Password", "password")], "Log in");
    page("Log in", None, &format!("{}{form}", paragraph(note)))
}

pub(super) fn account(user: &User) -> String {
    let text = format!("<p>{}</p><output>{}</output>", account_heading(user.name), user.balance);
    page("Your account", Some(user), &text)
}

pub(super) fn password(user: &User, note: Note) -> String {
    let form = form("/password", &[("new", "New password", "password")], "Change it");
    page("Change your password", Some(user), &format!("{}{form}", paragraph(note)))
}

pub(super) fn not_found() -> String {
    page("There is no such page", None, "")
}

fn page(title: &str, user: Option<&User>, content: &str) -> String {
    let links = match user {
        Some(_) => "<a href=\"/account\">Account</a><a href=\"/password\">Password</a>",
        None => "<a href=\"/login\">Log in</a>",
    };
    let leave = match user {
        Some(_) => "<form method=\"post\" action=\"/logout\"><button>Log out</button></form>",
        None => "",
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\n\
         <main><nav><a href=\"/\">Home</a>{links}</nav>\n<h1>{title}</h1>\n{content}\n{leave}\n\
         <footer>A sample app that is weak on purpose. Nothing here is real.</footer></main></html>\n"
    )
}

fn paragraph(note: Note) -> String {
    match note {
        Note::None => String::new(),
        Note::Say(text) => format!("<p class=\"note\">{text}</p>"),
    }
}

fn form(action: &str, fields: &[(&str, &str, &str)], button: &str) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, label, kind)| format!("<label>{label}<input name=\"{name}\" type=\"{kind}\" required></label>"))
        .collect();
    format!("<form method=\"post\" action=\"{action}\">{fields}<button>{button}</button></form>")
}
