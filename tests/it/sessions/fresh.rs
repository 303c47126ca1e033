//! Routes that ask for a recent login.

use std::time::Duration;

use http::{Request, StatusCode};
use portcullis::layer::{NotFresh, RequireFreshLayer, Session};
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::world::{Always, Client, World, ok};

const QUARTER: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_recent_login_is_asked_for() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.require_fresh(QUARTER), Err(NotFresh { within: QUARTER }), "nobody has logged in");
            session.log_in("alice").unwrap();
            assert_eq!(session.require_fresh(QUARTER), Ok(()));
            ok()
        })
        .await;
    world.clock.advance(QUARTER - Duration::from_secs(1));
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.require_fresh(QUARTER), Ok(()));
            ok()
        })
        .await;
    world.clock.advance(Duration::from_secs(1));
    world
        .visit(&mut alice, async |session: Session| {
            assert!(session.require_fresh(QUARTER).is_err());
            session.reauthenticated();
            assert!(session.require_fresh(QUARTER).is_ok());
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert!(session.require_fresh(QUARTER).is_ok());
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_layer_sends_whoever_is_not_fresh_to_the_login() {
    let world = World::new();
    let mut alice = Client::at_home();
    let kept = world.keep_handle(&mut alice, |session| session.log_in("alice").unwrap()).await;
    let mut service = RequireFreshLayer::new(QUARTER).login_at("/login").layer(Always);
    let mut ask = async |session: Option<&Session>, accept: &str| {
        let mut request = Request::get("/account").header("accept", accept).body(()).unwrap();
        if let Some(session) = session {
            request.extensions_mut().insert(session.clone());
        }
        let response = service.call(request).await.unwrap();
        let told = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (response.status(), told("location"), told("www-authenticate"))
    };
    assert_eq!(ask(Some(&kept), "*/*").await.0, ok());
    world.clock.advance(QUARTER);
    let challenge = Some("Session realm=\"login\"".to_owned());
    assert_eq!(ask(Some(&kept), "*/*").await, (StatusCode::UNAUTHORIZED, None, challenge.clone()));
    assert_eq!(ask(Some(&kept), "text/html").await, (StatusCode::SEE_OTHER, Some("/login".to_owned()), None));
    assert_eq!(ask(None, "*/*").await, (StatusCode::UNAUTHORIZED, None, challenge), "without the guard nobody passes");
}
