//! Reserved before the handler, committed or given back after it.

use std::{sync::atomic::Ordering, time::Duration};

use tower::{Layer, ServiceExt};
use webhook_verify::{clock::ManualWallClock, layer::WebhookLayer};

use super::support::{
    BODY, ERROR, NOW, PANIC, Store, Then, answer, frames, good, headers, inner, is_pending, layer,
    never, request, status, timestamped, verifier,
};

fn stored(store: &Store) -> WebhookLayer {
    WebhookLayer::new(timestamped().replay(store.clone()).build().unwrap())
}

#[tokio::test]
async fn a_replayed_delivery_is_acknowledged_without_effect() {
    // D.c3
    let (clock, inner) = (ManualWallClock::new(NOW), inner());
    let layer = WebhookLayer::new(verifier(&clock));
    assert_eq!(status(&layer, &inner, good()).await, 200);
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&layer, &inner, good()).await, 200);
    assert_eq!(inner.calls(), 1, "the replay must have no effect");
    clock.advance(Duration::from_secs(291));
    assert_eq!(status(&layer, &inner, good()).await, 401);
}

#[tokio::test]
async fn a_2xx_answer_commits_and_any_other_gives_the_delivery_back() {
    for code in [200, 201, 202, 204, 206, 299] {
        let (store, inner) = (Store::default(), inner());
        inner.answer(code);
        assert_eq!(status(&stored(&store), &inner, good()).await, code);
        assert_eq!(store.counts(), [1, 1, 0], "{code}");
    }
    for code in [
        300, 301, 302, 304, 307, 400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 502, 503, 599,
    ] {
        let (store, inner) = (Store::default(), inner());
        inner.answer(code);
        assert_eq!(status(&stored(&store), &inner, good()).await, code);
        assert_eq!(store.counts(), [1, 0, 1], "{code}");
    }
}

#[tokio::test]
async fn a_delivery_that_failed_is_handled_when_it_comes_again() {
    let (layer, inner) = (layer(), inner());
    for code in [500, 404, 302] {
        inner.answer(code);
        assert_eq!(status(&layer, &inner, good()).await, code);
    }
    inner.answer(ERROR);
    layer
        .layer(inner.clone())
        .oneshot(good())
        .await
        .unwrap_err();
    let (panics, service) = (inner.clone(), layer.layer(inner.clone()));
    panics.answer(PANIC);
    let task = tokio::spawn(service.oneshot(good()));
    assert!(task.await.unwrap_err().is_panic());
    // The panic was under the lock.
    inner.status.clear_poison();
    inner.answer(200);
    let (_, _, body) = answer(&layer, &inner, good()).await;
    assert_eq!((inner.calls(), body.as_ref()), (6, BODY));
}

#[tokio::test]
async fn an_error_or_a_panic_of_the_handler_releases_once() {
    for end in [ERROR, PANIC] {
        let (store, inner) = (Store::default(), inner());
        inner.answer(end);
        let service = stored(&store).layer(inner);
        let task = tokio::spawn(service.oneshot(good()));
        assert!(!matches!(task.await, Ok(Ok(_))));
        assert_eq!(store.counts(), [1, 0, 1]);
    }
}

#[tokio::test]
async fn a_delivery_in_flight_is_refused_with_retry_after() {
    let clock = ManualWallClock::new(NOW);
    let layer = WebhookLayer::new(verifier(&clock));
    let mut first = Box::pin(layer.layer(never()).oneshot(good()));
    assert!(is_pending(&mut first).await);
    let (code, headers, body) = answer(&layer, &inner(), good()).await;
    assert_eq!(
        (code, &headers["retry-after"]),
        (409, &"60".parse().unwrap())
    );
    assert_eq!((headers.len(), body.len()), (1, 0));
    clock.advance(Duration::from_millis(59_500));
    let (_, headers, _) = answer(&layer, &inner(), good()).await;
    assert_eq!(headers["retry-after"], "1", "never zero");
    drop(first);
    let retry = status(&layer, &inner(), good()).await;
    assert_eq!(retry, 200, "a drop gives the delivery back");
}

#[tokio::test]
async fn a_future_dropped_at_any_point_leaves_no_reservation() {
    let store = Store::default();
    let layer = stored(&store);
    drop(layer.layer(inner()).oneshot(good()));
    let slow = request(headers(BODY), frames(BODY, 1, Then::Hang));
    let mut reading = Box::pin(layer.layer(inner()).oneshot(slow));
    assert!(is_pending(&mut reading).await);
    drop(reading);
    assert_eq!(
        store.counts(),
        [0, 0, 0],
        "nothing is reserved before the end of the body"
    );
    let mut handling = Box::pin(layer.layer(never()).oneshot(good()));
    assert!(is_pending(&mut handling).await);
    assert_eq!(store.counts(), [1, 0, 0]);
    drop(handling);
    assert_eq!(store.counts(), [1, 0, 1]);
}

#[tokio::test]
async fn what_is_not_verified_never_reaches_the_store() {
    let store = Store::default();
    let forged = request(headers(b"other"), good().into_body());
    assert_eq!(status(&stored(&store), &inner(), forged).await, 401);
    assert_eq!(store.counts(), [0, 0, 0]);
}

#[tokio::test]
async fn a_store_that_is_full_or_out_of_order_refuses_for_now() {
    for (full, out_of_order) in [(true, false), (false, true)] {
        let (inner, store) = (
            inner(),
            Store {
                full,
                out_of_order,
                ..Store::default()
            },
        );
        let (code, headers, body) = answer(&stored(&store), &inner, good()).await;
        assert_eq!(
            (code, &headers["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        assert_eq!((headers.len(), body.len(), inner.calls()), (1, 0, 0));
    }
}

#[tokio::test]
async fn an_outage_passes_deliveries_only_when_told_to() {
    let store = Store {
        out_of_order: true,
        ..Store::default()
    };
    let open = timestamped()
        .replay(store.clone())
        .insecure_accept_on_replay_outage();
    let (layer, inner) = (WebhookLayer::new(open.build().unwrap()), inner());
    assert_eq!(status(&layer, &inner, good()).await, 200);
    assert_eq!((inner.calls(), store.counts()), (1, [1, 0, 0]));
    // A full store is in order.
    let store = Store {
        full: true,
        ..Store::default()
    };
    let open = timestamped()
        .replay(store)
        .insecure_accept_on_replay_outage();
    let layer = WebhookLayer::new(open.build().unwrap());
    assert_eq!(status(&layer, &inner, good()).await, 503);
}

#[tokio::test]
async fn the_handler_waits_for_the_store() {
    let (inner, store) = (
        inner(),
        Store {
            hangs: true,
            ..Store::default()
        },
    );
    let mut asking = Box::pin(stored(&store).layer(inner.clone()).oneshot(good()));
    assert!(is_pending(&mut asking).await);
    drop(asking);
    assert_eq!((inner.calls(), store.counts()), (0, [1, 0, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_copies_at_once_one_is_handled() {
    let (layer, inner) = (layer(), inner());
    let copies: Vec<_> = (0..64)
        .map(|_| tokio::spawn(layer.layer(inner.clone()).oneshot(good())))
        .collect();
    for copy in copies {
        let status = copy.await.unwrap().unwrap().status().as_u16();
        assert!(matches!(status, 200 | 409), "{status}");
    }
    assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
}
