//! Heads that are too large, or nearly.

use std::time::Duration;

use http::HeaderMap;
use webhook_verify::{Signer, Verifier, clock::ManualWallClock, presets};

use super::support::{BODY, NOW, STACKS, Server, head, headers, memoryless, post, secret};

#[tokio::test]
async fn a_hundred_thousand_headers_are_refused_by_the_server_and_ninety_are_none_of_our_business()
{
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        for (count, expected) in [(90, 200), (101, 431), (100_000, 431)] {
            let many = "x: y\r\n".repeat(count) + "content-length: 7\r\n";
            let head = head("/hook", &headers(BODY), &many);
            let answer = server.send([head.as_bytes(), BODY].concat()).await;
            assert_eq!(answer.status, expected, "{count}");
        }
        assert_eq!(server.handled(), 1);
    }
}

/// Standard Webhooks, with this many signatures in a header of 64 KiB; the last is good.
fn signatures(count: usize) -> HeaderMap {
    let signer = Signer::new(presets::standard_webhooks(), secret());
    let mut headers = signer
        .sign_with_id("msg_1", Duration::from_secs(NOW), BODY)
        .unwrap();
    let good = headers["webhook-signature"].to_str().unwrap().to_owned();
    let wrong = format!("v1,{}=", "A".repeat(43));
    let mut all = vec![wrong; count - 2];
    let used: usize = all.iter().map(|one| one.len() + 1).sum();
    let rest = 64 * 1024 - used - good.len() - 1 - "v9,".len();
    all.push(format!("v9,{}", "A".repeat(rest)));
    all.push(good);
    let all = all.join(" ");
    assert_eq!(all.len(), 64 * 1024);
    headers.insert("webhook-signature", all.parse().unwrap());
    headers
}

#[tokio::test]
async fn sixteen_signatures_in_64_kib_are_tried_and_seventeen_are_not() {
    for stack in STACKS {
        let verifier = Verifier::builder(presets::standard_webhooks())
            .secret(secret())
            .clock(ManualWallClock::new(NOW));
        let mut server = Server::http1(stack, verifier).await;
        let sixteen = server.send(post(&signatures(16), BODY)).await;
        assert_eq!((sixteen.status, sixteen.body.as_slice()), (200, BODY));
        assert_eq!(server.event().await, "webhook.validated");
        let seventeen = server.send(post(&signatures(17), BODY)).await;
        assert_eq!((seventeen.status, seventeen.body.len()), (401, 0));
        assert_eq!(
            server.event().await,
            "webhook.rejected too many candidate signatures"
        );
    }
}

#[tokio::test]
async fn every_401_is_the_same_to_the_byte_on_the_wire() {
    let server = Server::http1(STACKS[0], memoryless()).await;
    let mut answers = std::collections::HashSet::new();
    for (name, value) in [
        ("x-webhook-signature", "zz"),
        ("x-webhook-signature", ""),
        ("x-webhook-timestamp", "1600000000"),
        ("x-webhook-timestamp", "1800000000"),
        ("x-webhook-timestamp", "now"),
    ] {
        let mut wrong = headers(BODY);
        wrong.insert(name, value.parse().unwrap());
        answers.insert(server.send(post(&wrong, BODY)).await);
        wrong.remove(name);
        answers.insert(server.send(post(&wrong, BODY)).await);
    }
    answers.insert(server.send(post(&headers(b"other"), BODY)).await);
    assert_eq!(answers.len(), 1, "{answers:?}");
    let only = answers.into_iter().next().unwrap();
    assert_eq!(
        only.head.trim_end(),
        "HTTP/1.1 401 Unauthorized\ncontent-length: 0"
    );
}

#[tokio::test]
async fn a_large_good_delivery_passes_whole() {
    let body = vec![b'a'; super::support::LIMIT];
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        let answer = server.send(post(&headers(&body), &body)).await;
        assert_eq!((answer.status, answer.body == body), (200, true));
        let more = [body.as_slice(), b"a"].concat();
        assert_eq!(server.send(post(&headers(&more), &more)).await.status, 413);
    }
}
