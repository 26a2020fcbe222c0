use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_core::clock::{ManualClock, SharedClock};
use tokio::time::Instant;

use super::worker::{Exporter, Failed, LONGEST_PAUSE, TRIES};
use super::*;

/// An answer, or none at all.
type Told = Option<Result<usize, Failed>>;
type Batch = (Instant, Vec<Span>);

/// Answers as it is told, and then takes everything.
#[derive(Clone, Default)]
struct Memory {
    answers: Arc<Mutex<VecDeque<Told>>>,
    batches: Arc<Mutex<Vec<Batch>>>,
}

impl Memory {
    fn answering(answers: impl IntoIterator<Item = Told>) -> Self {
        let memory = Self::default();
        memory.answers.lock().extend(answers);
        memory
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches
            .lock()
            .iter()
            .map(|(_, one)| one.len())
            .collect()
    }

    fn times(&self) -> Vec<Instant> {
        self.batches.lock().iter().map(|(at, _)| *at).collect()
    }
}

impl Exporter for Memory {
    fn export<'s>(&'s self, spans: &'s [Span]) -> BoxFuture<'s, Result<usize, Failed>> {
        let answer = self.answers.lock().pop_front().unwrap_or(Some(Ok(0)));
        self.batches.lock().push((Instant::now(), spans.to_vec()));
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

fn again(after: Option<u64>) -> Told {
    let after = after.map(Duration::from_secs);
    Some(Err(Failed::ForNow("not now".to_owned(), after)))
}

fn span(name: &str) -> Span {
    Span {
        trace: [1; 16],
        id: [2; 8],
        parent: None,
        remote: false,
        state: None,
        kind: Kind::Server,
        name: name.to_owned(),
        start: 1,
        end: 2,
        attributes: Vec::new(),
        failed: false,
    }
}

fn export(memory: &Memory, max_queue: usize) -> (Export, Shared) {
    let shared = Shared::new(SharedClock::new(ManualClock::new()));
    let config = OtelConfig {
        max_queue,
        ..OtelConfig::default()
    };
    let export = Export::new(&config, memory.clone(), &shared.metrics);
    (export, shared)
}

fn counted(shared: &Shared, series: &str) -> u64 {
    let text = shared.metrics.render(std::iter::empty());
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

fn dropped(shared: &Shared, reason: &str) -> u64 {
    let series = format!("otel_spans_dropped_total{{reason=\"{reason}\"}}");
    counted(shared, &series)
}

const EXPORTED: &str = "otel_spans_exported_total";

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_or_its_time_is_over() {
    let memory = Memory::default();
    let (export, shared) = export(&memory, 2048);
    let begin = Instant::now();
    export.take(vec![span("a")]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    export.take(vec![span("b")]);
    assert!(memory.sizes().is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(memory.sizes(), [2]);
    assert_eq!(memory.times()[0] - begin, Duration::from_secs(5));
    for _ in 0..513 {
        export.take(vec![span("c")]);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(memory.sizes(), [2, 512]);
    // What is left goes when nobody can give more.
    drop(export);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(memory.sizes(), [2, 512, 1]);
    assert_eq!(counted(&shared, EXPORTED), 515);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_again_when_it_was_asked_for_and_no_more_than_five_times() {
    let memory = Memory::answering([again(Some(7)), again(Some(3600)), again(None), None]);
    let (export, shared) = export(&memory, 16);
    export.take(vec![span("a")]);
    export.flush().await;
    assert_eq!(memory.sizes(), [1; 5]);
    let times = memory.times();
    let pauses: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses[0], Duration::from_secs(7));
    assert_eq!(pauses[1], LONGEST_PAUSE);
    // Its own: half of 4 s, and up to as much again.
    let own = Duration::from_secs(2)..=Duration::from_secs(4);
    assert!(own.contains(&pauses[2]), "{pauses:?}");
    // The time for an answer, and half of 8 s or more.
    let own = Duration::from_secs(14)..=Duration::from_secs(18);
    assert!(own.contains(&pauses[3]), "{pauses:?}");
    assert_eq!(counted(&shared, EXPORTED), 1);

    memory
        .answers
        .lock()
        .extend((0..TRIES).map(|_| again(Some(0))));
    export.take(vec![span("b"), span("c")]);
    export.flush().await;
    assert_eq!(memory.sizes().len(), 10);
    assert_eq!(dropped(&shared, "failed"), 2);
    // The next ones have their own chance.
    export.take(vec![span("d")]);
    export.flush().await;
    assert_eq!(counted(&shared, EXPORTED), 2);
}

/// RFC 9110, sections 10.2.3 and 5.6.7: seconds, or a date in any of three forms.
#[test]
fn a_collector_asks_to_be_left_alone_for_seconds_or_until_a_date() {
    // Sun, 06 Nov 1994 08:49:37 GMT.
    let now = std::time::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let mut shared = Shared::new(SharedClock::new(ManualClock::new()));
    shared.wall = crate::wall::WallClock::new(move || now);
    let collector = http::Collector::new(&OtelConfig::default(), &shared).unwrap();
    for (text, seconds) in [
        ("120", Some(120)),
        ("0", Some(0)),
        ("Sun, 06 Nov 1994 08:49:44 GMT", Some(7)),
        ("Sunday, 06-Nov-94 08:49:44 GMT", Some(7)),
        ("Sun Nov  6 08:49:44 1994", Some(7)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("99999999999999999999999", None),
        ("", None),
    ] {
        let mut headers = ::http::HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static(text));
        let after = collector.after(&headers).map(|after| after.as_secs());
        assert_eq!(after, seconds, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again_and_counted() {
    let refused = Some(Err(Failed::ForGood("status 400".to_owned())));
    let memory = Memory::answering([refused, Some(Ok(1))]);
    let (export, shared) = export(&memory, 16);
    export.take(vec![span("a"), span("b")]);
    export.flush().await;
    assert_eq!((memory.sizes(), dropped(&shared, "rejected")), (vec![2], 2));
    // A part of a batch.
    export.take(vec![span("a"), span("b")]);
    export.flush().await;
    assert_eq!(dropped(&shared, "rejected"), 3);
    assert_eq!(counted(&shared, EXPORTED), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_all_spans_of_a_request() {
    let memory = Memory::answering([None]);
    let (export, shared) = export(&memory, 16);
    for _ in 0..8 {
        export.take(vec![span("a"), span("b")]);
    }
    export.take(vec![span("c")]);
    assert_eq!(dropped(&shared, "queue_full"), 1);
    export.flush().await;
    for _ in 0..5 {
        export.take(vec![span("a"), span("b"), span("c")]);
    }
    export.take(vec![span("d"), span("e")]);
    assert_eq!(dropped(&shared, "queue_full"), 3);
    export.take(vec![span("f")]);
    export.flush().await;
    assert_eq!(counted(&shared, EXPORTED), 32);
}

#[test]
fn spans_are_written_as_the_specification_has_them() {
    let mut one = span("GET /a\"\\\n\u{1}");
    one.start = u64::MAX;
    one.parent = Some([0xab; 8]);
    one.remote = true;
    one.failed = true;
    one.state = Some(HeaderValue::from_static("a=1"));
    one.attributes = vec![("n", Value::Number(503)), ("t", Value::from("\"\r\n"))];
    let text = json::encode("s\"\n", &[one, span("b")]);
    let message: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let resource = &message["resourceSpans"][0];
    let service = &resource["resource"]["attributes"][0];
    assert_eq!(service["key"], "service.name");
    assert_eq!(service["value"]["stringValue"], "s\"\n");
    assert_eq!(
        resource["scopeSpans"][0]["spans"],
        serde_json::json!([
            {
                "traceId": "01".repeat(16),
                "spanId": "02".repeat(8),
                "parentSpanId": "ab".repeat(8),
                "traceState": "a=1",
                "flags": 0x301,
                "name": "GET /a\"\\\n\u{1}",
                "kind": 2,
                "startTimeUnixNano": "18446744073709551615",
                "endTimeUnixNano": "2",
                "attributes": [
                    { "key": "n", "value": { "intValue": "503" } },
                    { "key": "t", "value": { "stringValue": "\"\r\n" } },
                ],
                "status": { "code": 2 },
            },
            {
                "traceId": "01".repeat(16),
                "spanId": "02".repeat(8),
                "flags": 0x101,
                "name": "b",
                "kind": 2,
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "2",
                "attributes": [],
                "status": {},
            },
        ])
    );
}
