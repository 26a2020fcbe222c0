//! The OpenAPI document and the operations are the same set.

use std::collections::BTreeSet;

use super::{get, start};
use crate::support::{nobody, routed};

const METHODS: [&str; 6] = ["get", "put", "post", "patch", "delete", "options"];

#[tokio::test]
async fn every_operation_is_in_the_document_and_everything_in_it_is_one() {
    let gateway = start(&routed(&[nobody().await])).await;
    let document = get("/admin/openapi.json").of(&gateway).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (path, methods) in paths {
        let filled = path
            .replace("{service}", "shop")
            .replace("{address}", "1.2.3.4:5");
        let methods = methods.as_object().unwrap();
        let mut allowed: BTreeSet<String> = BTreeSet::new();
        for method in METHODS {
            let name = method.to_ascii_uppercase();
            let answer = super::Ask {
                method: &name,
                ..get(&filled)
            }
            .of(&gateway)
            .await;
            let described = methods.get(method);
            assert_eq!(answer.status == 405, described.is_none(), "{method} {path}");
            let Some(described) = described else {
                let allow = answer.header("allow").unwrap().split(", ");
                allowed.extend(
                    allow
                        .filter(|name| *name != "HEAD")
                        .map(str::to_ascii_lowercase),
                );
                continue;
            };
            assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()));
            // What was answered is told of.
            let status = answer.status.to_string();
            assert!(
                described["responses"].get(&status).is_some(),
                "{status} {method} {path}"
            );
            assert!(described["responses"].get("401").is_some());
            if method != "get" {
                assert!(described["responses"].get("409").is_some());
            }
        }
        let there: BTreeSet<String> = methods.keys().cloned().collect();
        assert_eq!(allowed, there, "{path}");
    }
    assert!(ids.len() > 12, "{ids:?}");
    // References lead somewhere.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name}"
        );
    }
    for name in ["Problem", "Endpoint", "SetWeight", "Status"] {
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name}"
        );
    }
}
