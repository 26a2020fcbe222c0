//! What an instance is put together of; who hears what is tested beside the listeners.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::connect_info::MockConnectInfo,
    http::{Request, StatusCode},
};
use nestcms::{
    app::{App, Deps},
    settings::Settings,
};
use resilience_core::clock::SharedClock;
use tower::ServiceExt;
use webhook_verify::clock::ManualWallClock;

/// B.c1, together with the table in `events_listeners.rs`.
#[tokio::test]
async fn an_instance_subscribes_each_listener_once() {
    let mut settings = Settings::demo();
    settings.auth.bcrypt_cost = 4;
    let deps = Deps {
        clock: SharedClock::std(),
        wall: Arc::new(ManualWallClock::new(1_767_323_045)),
        ..Deps::default()
    };
    let app = App::build(settings, deps).await.expect("builds");
    let stats = app.state().bus().stats();
    let mut names: Vec<_> = stats.iter().map(|s| s.name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "alert",
            "analytics",
            "audit",
            "cache",
            "logging",
            "notification"
        ]
    );
}

#[tokio::test]
async fn the_status_page_is_there_only_when_asked_for() {
    for (enabled, wanted) in [(false, StatusCode::NOT_FOUND), (true, StatusCode::OK)] {
        let mut settings = Settings::demo();
        settings.auth.bcrypt_cost = 4;
        settings.status.enabled = enabled;
        let app = App::build(settings, Deps::default()).await.expect("builds");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let router = app.router().layer(MockConnectInfo(peer));
        let request = Request::get("/status").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), wanted);
    }
}
