//! `/system/alert` (compatibility.md section 3.2).

use http::Method;
use serde_json::json;

use super::{deploy, explain, replicas};
use crate::support::Gateway;

fn alert(status: &str, function: &str) -> serde_json::Value {
    json!({ "status": status, "labels": { "alertname": "APIHighInvocationRate", "function_name": function },
        "annotations": { "summary": "high" }, "startsAt": "2026-01-01T00:00:00Z" })
}

async fn report(gateway: &Gateway, alerts: &[serde_json::Value]) -> (u16, String) {
    // The envelope's own status counts for nothing.
    let body = json!({ "receiver": "scale-up", "status": "resolved", "alerts": alerts, "version": "4" });
    gateway.send(Method::POST, "/system/alert", &body).await
}

#[tokio::test]
async fn each_alert_counts_for_itself() {
    let gateway = Gateway::new().start().await;
    deploy(
        &gateway,
        "a",
        1,
        &json!({ "com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "50" }),
    )
    .await;
    deploy(&gateway, "b", 1, &json!({ "com.openfaas.scale.factor": "0" })).await;
    let up = alert("firing", "a.openfaas-fn");
    for (alerts, expected) in [
        (vec![up.clone()], (3, 1)),
        (
            vec![
                up.clone(),
                alert("firing", "b"),
                alert("firing", "nobody"),
                json!({ "status": "firing" }),
            ],
            (4, 1),
        ),
        (vec![up], (4, 1)),
        (vec![alert("resolved", "a")], (1, 1)),
        (vec![], (1, 1)),
    ] {
        let (status, text) = report(&gateway, &alerts).await;
        assert_eq!((status, &*text), (200, ""), "{alerts:?}");
        assert_eq!(
            (replicas(&gateway, "a").await, replicas(&gateway, "b").await),
            expected,
            "{alerts:?}"
        );
    }
    let changes = explain(&gateway, "a").await["changes"].clone();
    let told: Vec<_> = changes
        .as_array()
        .expect("a list")
        .iter()
        .map(|change| &change["reason"])
        .collect();
    assert_eq!(told, ["alert", "alert", "alert"]);
}

#[tokio::test]
async fn what_is_no_notification_is_refused() {
    let gateway = Gateway::new().start().await;
    for body in [json!("firing"), json!({ "alerts": 1 })] {
        let (status, text) = gateway.send(Method::POST, "/system/alert", &body).await;
        assert_eq!(status, 400, "{text}");
    }
    let answer = gateway.post("/system/alert").body("{").send().await.expect("an answer");
    assert_eq!(answer.status(), 400);
}
