//! A small shop in axum: a cart that survives the login, a login, a page of devices, a password that asks for a recent login.
//!
//!     cargo run --features axum --example shop
//!
//! and then <http://127.0.0.1:3000>. Anybody may log in with the password `open sesame`.
#![cfg_attr(not(test), expect(clippy::print_stdout, clippy::print_stderr, reason = "an example has no log"))]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Form};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use portcullis::engine::Guard;
use portcullis::layer::{Current, Fresh, GuardBuilder, GuardLayer, Level, Session, tend};
use portcullis::session::id::Ref;
use portcullis::store::memory::MemoryStore;
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Over plain http, for a look at it. In earnest the cookie is Secure, and the guard is built without this.
    let guard = Arc::new(GuardBuilder::in_memory().insecure_http().build()?);
    tokio::spawn(tend(&guard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app(guard).into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// The shop behind a guard.
pub fn app(guard: Arc<Guard<MemoryStore>>) -> Router {
    let guarded = GuardLayer::new(guard)
        .with_client(|parts| parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));
    Router::new()
        .route("/", get(home))
        .route("/cart", post(add_to_cart))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/devices", get(devices).post(end_device))
        .route("/password", post(new_password))
        .layer(guarded)
}

/// What somebody wants to buy: how many of what.
#[derive(Default, Serialize, Deserialize)]
struct Cart(BTreeMap<String, u32>);

async fn home(session: Session) -> Result<Html<String>, Failure> {
    let mut page = String::new();
    for message in session.take_messages()? {
        page.push_str(&format!("<p><em>{}</em></p>", escaped(&message.text)));
    }
    match session.subject() {
        Some(name) => page.push_str(&format!("<p>Good day, {}.</p>", escaped(&name))),
        None => page.push_str("<p>Good day. <a href=\"/login\">Log in</a></p>"),
    }
    let cart: Cart = session.get("cart")?.unwrap_or_default();
    page.push_str("<ul>");
    for (item, number) in &cart.0 {
        page.push_str(&format!("<li>{number} {}</li>", escaped(item)));
    }
    page.push_str("</ul>");
    Ok(Html(page))
}

#[derive(Deserialize)]
struct Item {
    item: String,
}

async fn add_to_cart(session: Session, Form(Item { item }): Form<Item>) -> Result<Redirect, Failure> {
    // Done again over what another tab added meanwhile, so neither is lost.
    session.update("cart", move |cart: &mut Cart| *cart.0.entry(item.clone()).or_default() += 1)?;
    session.push_message(Level::Success, "It is in your cart.")?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

async fn login_page() -> Html<&'static str> {
    Html(
        "<form method=\"post\"><input name=\"name\"> <input name=\"password\" type=\"password\"> \
         <button>Log in</button></form>",
    )
}

async fn login(session: Session, Form(credentials): Form<Credentials>) -> Result<Response, Failure> {
    if credentials.password != "open sesame" {
        return Ok((StatusCode::UNAUTHORIZED, "Name or password are wrong.").into_response());
    }
    // A new id with this answer; what the visitor had in his cart stays.
    session.log_in(&credentials.name)?;
    Ok(Redirect::to("/").into_response())
}

async fn logout(session: Session) -> Redirect {
    session.log_out();
    Redirect::to("/")
}

async fn devices(session: Session) -> Result<Html<String>, Failure> {
    let mut page = String::from("<ul>");
    for device in session.devices().await? {
        let agent = device.agent.map_or("something", |agent| agent.name());
        let os = device.os.map_or("unknown", |os| os.name());
        let here = if device.current == Current::Yes { ", this one" } else { "" };
        page.push_str(&format!(
            "<li>{agent} on {os}, last used {}{here} <form method=\"post\"><button name=\"which\" \
             value=\"{}\">end</button></form></li>",
            device.last_use, device.reference
        ));
    }
    page.push_str("</ul>");
    Ok(Html(page))
}

#[derive(Deserialize)]
struct Which {
    which: String,
}

async fn end_device(session: Session, Form(Which { which }): Form<Which>) -> Result<Response, Failure> {
    let Some(which) = Ref::parse(&which) else { return Ok(StatusCode::BAD_REQUEST.into_response()) };
    session.end_device(which).await?;
    Ok(Redirect::to("/devices").into_response())
}

/// Only for whoever has logged in within a quarter of an hour.
async fn new_password(Fresh(session): Fresh<900>) -> Result<Redirect, Failure> {
    // ... the new password is stored here ...
    session.log_out_others();
    session.reauthenticated();
    session.push_message(Level::Success, "Your password was changed, and you are logged out everywhere else.")?;
    Ok(Redirect::to("/"))
}

/// What went wrong is for the log, and not for the visitor.
struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
