//! Many connections, connections that go away, and several deliveries on one.

use super::support::{
    BODY, CHUNKED, SLOW, STACKS, Server, head, headers, memoryless, post, post_to, remembering,
    within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_connections_at_once_each_gets_its_own_answer() {
    for stack in STACKS {
        let server = std::sync::Arc::new(Server::http1(stack, memoryless()).await);
        let tasks: Vec<_> = (0..200_usize)
            .map(|index| {
                let server = server.clone();
                tokio::spawn(async move {
                    let body = format!("{{\"n\":{index}}}").repeat(index + 1).into_bytes();
                    let signed: &[u8] = if index % 3 == 0 { b"other" } else { &body };
                    let answer = server.send(post(&headers(signed), &body)).await;
                    if index % 3 == 0 {
                        assert_eq!((answer.status, answer.body.len()), (401, 0));
                    } else {
                        assert_eq!((answer.status, answer.body), (200, body));
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(server.handled(), 133);
    }
}

#[tokio::test]
async fn a_sender_that_leaves_in_mid_body_frees_what_it_held() {
    for stack in STACKS {
        let server = Server::http1(stack, remembering()).await;
        let begun = head("/hook", &headers(BODY), CHUNKED) + "3\r\n{\"a\r\n";
        for _ in 0..8 {
            let mut connection = server.connect().await;
            assert!(connection.write(&begun).await);
            drop(connection);
        }
        let answer = server.send(post(&headers(BODY), BODY)).await;
        assert_eq!(
            answer.status, 200,
            "{stack:?}: one permit is enough, and it is free"
        );
        assert_eq!(server.handled(), 1);
    }
}

#[tokio::test]
async fn a_sender_that_leaves_while_it_is_handled_gives_the_delivery_back() {
    for stack in STACKS {
        let mut server = Server::http1(stack, remembering()).await;
        let mut connection = server.connect().await;
        assert!(connection.write(post_to(SLOW, &headers(BODY), BODY)).await);
        within(server.begun.acquire()).await.unwrap().forget();
        assert_eq!(server.event().await, "webhook.validated");
        drop(connection);
        // The server sees the end of the connection sooner or later: until then a retry is
        // told to wait, after it the retry is handled.
        let retry = within(async {
            loop {
                let answer = server.send(post(&headers(BODY), BODY)).await;
                if answer.status != 409 {
                    break answer;
                }
                assert!(answer.head.contains("retry-after: 60"), "{}", answer.head);
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(retry.await.status, 200, "{stack:?}");
        assert_eq!(server.handled(), 2);
    }
}

#[tokio::test]
async fn copies_sent_at_once_are_handled_once() {
    let server = Server::http1(STACKS[0], remembering()).await;
    let mut first = server.connect().await;
    assert!(first.write(post_to(SLOW, &headers(BODY), BODY)).await);
    within(server.begun.acquire()).await.unwrap().forget();
    let second = server.send(post(&headers(BODY), BODY)).await;
    assert_eq!((second.status, second.body.len()), (409, 0));
    server.hold.add_permits(1);
    assert_eq!(first.answer().await.unwrap().body, BODY);
    let third = server.send(post(&headers(BODY), BODY)).await;
    assert_eq!((third.status, third.body.len()), (200, 0), "a duplicate");
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn a_refusal_does_not_disturb_the_next_delivery_on_the_same_connection() {
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        let mut connection = server.connect().await;
        let good = post(&headers(BODY), BODY);
        let forged = post(&headers(b"other"), BODY);
        let pipelined = [good.clone(), forged, good.clone(), good].concat();
        assert!(connection.write(pipelined).await);
        for expected in [200, 401, 200, 200] {
            assert_eq!(connection.answer().await.unwrap().status, expected);
        }
        assert_eq!(server.handled(), 3);
    }
}
