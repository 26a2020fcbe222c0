//! What observers and logs are told, and what they are not.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use tracing_subscriber::fmt::MakeWriter;
use webhook_verify::{
    Reason,
    layer::{Event, WebhookLayer},
    replay::StoreError,
};

use super::support::{
    BODY, NOW, Store, good, headers, inner, layer, request, signed_at, status, timestamped,
};

type Log = Arc<Mutex<Vec<String>>>;

fn logged(layer: WebhookLayer) -> (WebhookLayer, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let layer = layer.on_event(move |event| {
        let told = match event {
            Event::Validated { verified } => verified.key_id().to_owned(),
            Event::Rejected { error, .. } => error.step().to_string(),
            Event::Repeated { error, .. } => error.reason().to_string(),
            Event::Unguarded { verified } => verified.scheme().to_owned(),
            Event::NotRemembered { error, .. } => {
                assert_eq!(*error, StoreError::Outage);
                error.to_string()
            }
            _ => String::new(),
        };
        seen.lock()
            .unwrap()
            .push(format!("{} {told}", event.name()));
    });
    (layer, log)
}

#[tokio::test]
async fn every_decision_is_one_event() {
    let (layer, log) = logged(layer());
    for request in [good(), good(), request(headers(b"other"), Full::from(BODY))] {
        status(&layer, &inner(), request).await;
    }
    assert_eq!(
        *log.lock().unwrap(),
        [
            "webhook.validated k1",
            "webhook.repeated delivery seen before",
            "webhook.rejected signature",
        ]
    );
}

#[tokio::test]
async fn an_answer_that_could_not_be_remembered_stands_and_is_told() {
    let store = Store {
        forgets: true,
        ..Store::default()
    };
    let verifier = timestamped().replay(store.clone()).build().unwrap();
    let (layer, log) = logged(WebhookLayer::new(verifier));
    assert_eq!(status(&layer, &inner(), good()).await, 200);
    assert_eq!(store.counts(), [1, 1, 0]);
    let log = log.lock().unwrap();
    assert_eq!(
        *log,
        [
            "webhook.validated k1",
            "webhook.not_remembered replay store is out of order"
        ]
    );
}

#[tokio::test]
async fn a_store_out_of_order_is_a_rejection_at_the_replay_step() {
    let store = Store {
        out_of_order: true,
        ..Store::default()
    };
    let verifier = timestamped().replay(store).build().unwrap();
    let (layer, log) = logged(WebhookLayer::new(verifier));
    assert_eq!(status(&layer, &inner(), good()).await, 503);
    assert_eq!(*log.lock().unwrap(), ["webhook.rejected replay"]);
}

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_and_events_name_step_and_reason_but_nothing_the_sender_wrote() {
    let written = Written::default();
    let logs = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(written.clone())
        .finish();
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(logs);
    let debug = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&debug);
    let layer = layer().on_event(move |event| {
        seen.lock().unwrap().push_str(&format!("{event:?}"));
    });
    let marker = "5ec2e7";
    let body = br#"{"card":"5ec2e7"}"#.as_slice();
    let mut wrong = headers(body);
    wrong.insert("x-webhook-signature", marker.repeat(8).parse().unwrap());
    wrong.insert("x-note", marker.parse().unwrap());
    let mut time = headers(body);
    time.insert("x-webhook-timestamp", marker.parse().unwrap());
    let mut source = headers(body);
    source.insert("x-forwarded-for", marker.parse().unwrap());
    let stale = signed_at(NOW - 400, body);
    for headers in [
        wrong,
        time,
        source.clone(),
        source,
        stale,
        headers(b"other"),
    ] {
        status(&layer, &inner(), request(headers, Full::from(body))).await;
    }
    let logs = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    for told in [
        "webhook rejected",
        "webhook validated",
        "webhook repeated",
        r#"step="timestamp""#,
        "timestamp too old by 100 s",
        "header `x-webhook-signature` is malformed",
        r#"scheme="timestamped""#,
    ] {
        assert!(logs.contains(told), "`{told}` is not in\n{logs}");
    }
    let debug = debug.lock().unwrap();
    assert!(debug.contains("SignatureMismatch"));
    for (name, text) in [("logs", &logs), ("events", &*debug)] {
        assert!(!text.contains(marker), "{name}: {text}");
    }
}

#[tokio::test]
async fn the_reason_is_for_the_observer_and_never_in_the_answer() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reasons);
    let layer = layer().on_event(move |event| {
        if let Event::Rejected { error, .. } = event {
            seen.lock().unwrap().push(error.reason().clone());
        }
    });
    let stale = request(signed_at(NOW - 301, BODY), Full::from(BODY));
    let (code, headers, body) = super::support::answer(&layer, &inner(), stale).await;
    assert_eq!((code, headers.len(), body.len()), (401, 0, 0));
    assert_eq!(*reasons.lock().unwrap(), [Reason::TooOld { by_seconds: 1 }]);
}

#[tokio::test]
async fn a_delivery_that_no_store_guards_is_told_of() {
    let store = Store {
        out_of_order: true,
        ..Store::default()
    };
    let open = timestamped()
        .replay(store)
        .insecure_accept_on_replay_outage();
    let (layer, log) = logged(WebhookLayer::new(open.build().unwrap()));
    assert_eq!(status(&layer, &inner(), good()).await, 200);
    let told = log.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], "webhook.unguarded timestamped");
    assert!(told[1].starts_with("webhook.validated"), "{told:?}");
}
