//! Calls of functions at zero behind a provider of OpenFaaS, and what callers
//! are told when the provider is in trouble.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Gateway, eventually,
    gateway::field,
    provider::{Answer, Asked, ScriptedProvider},
    wire::Wire,
};

/// A provider with the function `f`, whose status and scaling the test answers.
async fn provider(script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> ScriptedProvider {
    ScriptedProvider::start(move |asked| {
        script(asked).unwrap_or_else(|| match asked.path.as_str() {
            "/function/f" => Answer::text(200, "called"),
            _ => Answer::text(404, "not found"),
        })
    })
    .await
}

fn status(replicas: u64, available: u64) -> Answer {
    let labels = json!({ "com.openfaas.scale.min": "2" });
    Answer::json(
        200,
        &json!({ "name": "f", "image": "i", "replicas": replicas, "availableReplicas": available, "labels": labels }),
    )
}

async fn gateway(provider: &ScriptedProvider) -> Gateway {
    Gateway::before(provider.url.as_str())
        .env("scale_from_zero", "true")
        .config("[scaling]\npoll_interval = \"20ms\"\nactivation_timeout = \"5s\"")
        .start()
        .await
}

fn count(provider: &ScriptedProvider, line: &str) -> usize {
    provider
        .asked()
        .iter()
        .filter(|asked| asked.line().starts_with(line))
        .count()
}

const STATUS: &str = "GET /system/function/f";
const SCALE: &str = "POST /system/scale-function/f";

#[tokio::test]
async fn many_calls_start_a_function_once() {
    let scaled = Arc::new(AtomicU32::new(0));
    let looks = Arc::clone(&scaled);
    let provider = provider(move |asked| match asked.line().as_str() {
        STATUS => {
            // Up three looks after it was scaled.
            let seen = looks.load(Ordering::SeqCst);
            if seen > 0 {
                looks.fetch_add(1, Ordering::SeqCst);
            }
            Some(status(u64::from(seen > 0) * 2, u64::from(seen > 3)))
        }
        SCALE => {
            looks.store(1, Ordering::SeqCst);
            Some(Answer::empty(202))
        }
        _ => None,
    })
    .await;
    let gateway = gateway(&provider).await;
    join_all((0..8).map(|_| gateway.invoke("/function/f", ""))).await;
    assert_eq!(count(&provider, SCALE), 1);
    let asked = provider.asked();
    let scale = asked.iter().find(|asked| asked.line() == SCALE).expect("scaled");
    assert_eq!(scale.json(), json!({ "serviceName": "f", "replicas": 2 }));
    let page = gateway.metrics().await;
    assert!(page.contains(r#"gateway_function_invocation_total{code="200",function_name="f"} 8"#));
}

/// A provider whose `f` is up once the test says so.
async fn provider_at_zero() -> (ScriptedProvider, Arc<AtomicU32>) {
    let up = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&up);
    let provider = provider(move |asked| match asked.line().as_str() {
        STATUS => Some(status(0, u64::from(seen.load(Ordering::SeqCst)))),
        SCALE => Some(Answer::empty(202)),
        _ => None,
    });
    (provider.await, up)
}

async fn scaled(provider: &ScriptedProvider) {
    eventually("the scaling", || async { (count(provider, SCALE) > 0).then_some(()) }).await;
}

#[tokio::test]
async fn each_call_waits_as_long_as_it_may_for_an_activation_they_share() {
    let (provider, up) = provider_at_zero().await;
    let gateway = Gateway::before(provider.url.as_str())
        .env("scale_from_zero", "true")
        .config(
            "[scaling]\npoll_interval = \"20ms\"\n[functions.f]\ntimeouts.activation = \"1m\"\n\
             [[routes]]\npath = \"/hasty\"\nfunction = \"f\"\ntimeouts = { activation = \"1s\" }",
        )
        .start()
        .await;
    let hasty = async {
        let refused = gateway.get("/hasty").send().await.expect("an answer");
        assert_eq!(refused.status(), 503);
        let text = refused.text().await.expect("text");
        assert!(text.contains("routes.timeouts.activation (1s)"), "{text}");
        up.store(1, Ordering::SeqCst);
    };
    let patient = async {
        scaled(&provider).await;
        assert_eq!(gateway.invoke("/function/f", "").await, "called");
    };
    tokio::join!(hasty, patient);
    assert_eq!(count(&provider, SCALE), 1);
}

#[tokio::test]
async fn an_activation_that_nobody_waits_for_ends() {
    let (provider, up) = provider_at_zero().await;
    let gateway = gateway(&provider).await;
    let mut leaving = Wire::connect(gateway.address()).await;
    leaving.send("GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n").await;
    scaled(&provider).await;
    drop(leaving);
    gateway
        .logged("its end", |line| {
            field(line, "message") == "function not activated while anybody waited for it"
        })
        .await;
    up.store(1, Ordering::SeqCst);
    assert_eq!(gateway.invoke("/function/f", "").await, "called");
}

#[tokio::test]
async fn a_warm_function_is_asked_about_once_for_many_calls() {
    let provider = provider(|asked| (asked.line() == STATUS).then(|| status(1, 1))).await;
    let gateway = Gateway::before(provider.url.as_str())
        .env("scale_from_zero", "true")
        .config("[scaling]\ncache_ttl = \"1m\"")
        .start()
        .await;
    for _ in 0..5 {
        gateway.invoke("/function/f", "").await;
    }
    assert_eq!(count(&provider, STATUS), 1);
}

#[tokio::test]
async fn without_a_cache_a_warm_function_is_asked_about_but_not_started() {
    let provider = provider(|asked| (asked.line() == STATUS).then(|| status(1, 1))).await;
    let gateway = Gateway::before(provider.url.as_str())
        .env("scale_from_zero", "true")
        .config("[scaling]\ncache_ttl = \"0s\"")
        .start()
        .await;
    for _ in 0..5 {
        gateway.invoke("/function/f", "").await;
    }
    // The first call finds out that the function exists, too.
    assert!(count(&provider, STATUS) <= 6, "{:?}", provider.asked());
}

#[tokio::test]
async fn a_refused_scaling_is_tried_again() {
    let tries = AtomicU32::new(0);
    let up = AtomicU32::new(0);
    let provider = provider(move |asked| match asked.line().as_str() {
        STATUS if up.load(Ordering::SeqCst) > 0 => Some(status(2, 2)),
        STATUS => Some(status(0, 0)),
        SCALE if tries.fetch_add(1, Ordering::SeqCst) < 2 => Some(Answer::text(500, "the object has been modified")),
        SCALE => {
            up.store(1, Ordering::SeqCst);
            Some(Answer::empty(202))
        }
        _ => None,
    })
    .await;
    assert_eq!(gateway(&provider).await.invoke("/function/f", "").await, "called");
    assert_eq!(count(&provider, SCALE), 3);
}

#[tokio::test]
async fn only_a_function_that_does_not_exist_is_not_found() {
    for (answer, expected) in [
        (Answer::text(404, "no such function"), 404),
        (Answer::text(401, "invalid credentials"), 502),
        (Answer::text(400, "bad"), 502),
        (Answer::text(500, "boom"), 502),
        (Answer::text(503, "wait"), 503),
        (Answer::text(200, "not JSON"), 500),
        (Answer::empty(200).broken(), 502),
    ] {
        let said = format!("{answer:?}");
        let provider = provider(move |asked| (asked.line() == STATUS).then(|| answer.clone())).await;
        let gateway = gateway(&provider).await;
        let response = gateway.get("/function/f").send().await.expect("an answer");
        assert_eq!(response.status(), expected, "{said}");
        assert_eq!(count(&provider, "GET /function/"), 0, "{said}");
        assert!(
            !gateway.metrics().await.contains("gateway_function_invocation_total"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_busy_provider_says_when_to_come_back() {
    let busy = |status, wait: Option<&str>| {
        let answer = Answer::text(status, "busy");
        wait.map_or(answer.clone(), |wait| answer.header("retry-after", wait))
    };
    for (answer, of_api, of_call, wait) in [
        (busy(503, Some("7")), 503, 503, "7"),
        (busy(503, None), 503, 503, "1"),
        (busy(429, Some("120")), 429, 503, "120"),
        (busy(429, Some("soon")), 429, 503, "1"),
    ] {
        let provider = provider(move |asked| asked.path.starts_with("/system/").then(|| answer.clone())).await;
        let gateway = gateway(&provider).await;
        for (path, status) in [("/system/function/f", of_api), ("/function/f", of_call)] {
            let answer = gateway.get(path).send().await.expect("an answer");
            let said = answer.headers()["retry-after"].to_str().expect("text");
            assert_eq!((answer.status().as_u16(), said), (status, wait), "{path}");
        }
    }
}

#[tokio::test]
async fn a_provider_in_trouble_does_not_stop_calls_when_nothing_is_started() {
    let provider = provider(|asked| (asked.line() == STATUS).then(|| Answer::text(500, "boom"))).await;
    let gateway = Gateway::before(provider.url.as_str()).start().await;
    assert_eq!(gateway.invoke("/function/f", "").await, "called");
}

#[tokio::test]
async fn a_function_that_went_away_loses_its_counters_and_finds_them_again() {
    let listed = Arc::new(AtomicU32::new(1));
    let lists = Arc::clone(&listed);
    let provider = provider(move |asked| match asked.line().as_str() {
        STATUS if lists.load(Ordering::SeqCst) > 0 => Some(status(1, 1)),
        "GET /system/functions" => {
            let functions: Vec<Value> = (0..lists.load(Ordering::SeqCst))
                .map(|_| json!({ "name": "f", "image": "i", "replicas": 1, "availableReplicas": 1 }))
                .collect();
            Some(Answer::json(200, &json!(functions)))
        }
        _ => None,
    })
    .await;
    let gateway = Gateway::before(provider.url.as_str())
        .config("[metrics]\nrefresh_interval = \"50ms\"")
        .start()
        .await;
    let series = r#"gateway_function_invocation_total{code="200",function_name="f"}"#;
    for _ in 0..2 {
        gateway.invoke("/function/f", "").await;
    }
    assert_eq!(gateway.metric(series).await, Some(2.0));
    listed.store(0, Ordering::SeqCst);
    eventually("the end of its series", || async {
        gateway.metric(series).await.is_none().then_some(())
    })
    .await;
    listed.store(1, Ordering::SeqCst);
    gateway.invoke("/function/f", "").await;
    assert_eq!(gateway.metric(series).await, Some(1.0));
}
