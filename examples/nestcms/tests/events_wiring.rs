//! The application has every listener; who hears what is tested beside the listeners.

use std::sync::Arc;

use nestcms::{
    app::{App, Deps},
    settings::Settings,
};
use resilience_core::clock::SharedClock;
use webhook_verify::clock::ManualWallClock;

/// B.c1, together with the table in `events_listeners.rs`.
#[tokio::test]
async fn an_instance_subscribes_each_listener_once() {
    let mut settings = Settings::demo();
    settings.auth.bcrypt_cost = 4;
    let deps = Deps {
        clock: SharedClock::std(),
        wall: Arc::new(ManualWallClock::new(1_767_323_045)),
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
