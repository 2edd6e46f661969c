//! Connections to upstreams: how many there may be, who waits for one, and how
//! long they last.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::Response;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::{Gateway, Upstream, eventually, hold::Hold, soon, upstream::text, wire::Wire};

/// The gateway asks its provider nothing by itself, so that no other connection
/// is opened.
const QUIET: &str = "[reload]\nwatch = \"off\"\n[metrics]\nrefresh_interval = \"1h\"\n[invoke]\n";

async fn start(upstream: &Upstream, invoke: &str) -> Gateway {
    let config = format!("{QUIET}{invoke}");
    Gateway::before(&upstream.url()).config(&config).start().await
}

/// Makes these settings of `[invoke]` live.
async fn change(gateway: &Gateway, invoke: &str) {
    gateway.configure(&format!("{QUIET}{invoke}\n")).await;
}

async fn get(gateway: &Gateway, path: &str) -> Response {
    gateway.get(path).send().await.expect("an answer")
}

/// Calls, and waits until the call is under way or in the line. `base` asks for
/// what only the base lane has.
async fn call(gateway: &Gateway, path: &str, base: bool) -> JoinHandle<u16> {
    let before = under_way(gateway).await;
    let mut request = gateway.get(path);
    if base {
        request = request.header("te", "trailers");
    }
    let call = tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() });
    eventually("the call", || async {
        (under_way(gateway).await > before).then_some(())
    })
    .await;
    call
}

async fn under_way(gateway: &Gateway) -> Option<f64> {
    let series = "gateway_function_invocation_inflight{function_name=\"hold\"}";
    gateway.metric(series).await
}

/// Connections in use, and idle ones.
async fn open(gateway: &Gateway) -> (f64, f64) {
    let state = async |state| {
        let series = format!("gateway_upstream_connections{{state=\"{state}\"}}");
        gateway.metric(&series).await.expect("always there")
    };
    (state("active").await, state("idle").await)
}

/// A function that is known to the gateway, so that plain calls are plain.
async fn known(hold: &mut Hold, gateway: &Gateway) {
    hold.go.add_permits(1);
    assert_eq!(get(gateway, "/function/hold").await.status(), 200);
    hold.next().await;
}

async fn answered(call: JoinHandle<u16>) {
    assert_eq!(soon("an answer", call).await.expect("no panic"), 200);
}

#[tokio::test]
async fn calls_wait_in_order_for_the_connections_there_may_be_whatever_their_lane() {
    let mut hold = Hold::start().await;
    let gateway = start(&hold.upstream, "max_conns_per_host = 1\nconnect_timeout = \"1m\"").await;
    known(&mut hold, &gateway).await;
    assert_eq!(open(&gateway).await, (0.0, 1.0));
    let mut calls = Vec::new();
    for number in 0..6 {
        calls.push(call(&gateway, &format!("/function/hold/{number}"), number % 3 == 1).await);
    }
    assert_eq!(open(&gateway).await, (1.0, 0.0));
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(hold.next().await, format!("/function/hold/{number}"));
        hold.go.add_permits(1);
        answered(call).await;
        assert!(open(&gateway).await.0 <= 1.0);
    }
}

#[tokio::test]
async fn a_call_that_waits_in_vain_gets_503_and_counts_against_nobody() {
    let mut hold = Hold::start().await;
    let bounds = "max_conns_per_host = 2\nconnect_timeout = \"100ms\"\n\
                  [functions.\"*\"]\nbreaker = { failures = 1 }\nretries = { attempts = 3 }";
    for settings in [bounds, bounds.split_once("\nretries").expect("two").0] {
        let gateway = start(&hold.upstream, settings).await;
        known(&mut hold, &gateway).await;
        let calls = [
            call(&gateway, "/function/hold", false).await,
            call(&gateway, "/function/hold", true).await,
        ];
        for _ in 0..2 {
            hold.next().await;
        }
        for _ in 0..3 {
            let answer = get(&gateway, "/function/hold").await;
            let wait = answer.headers().get("retry-after").cloned();
            assert_eq!(
                (answer.status().as_u16(), wait),
                (503, Some("1".parse().expect("a value")))
            );
            let problem: Value = answer.json().await.expect("a problem");
            assert_eq!(problem["setting"], "invoke.max_conns_per_host", "{problem}");
            assert_eq!(problem["component"], "gateway", "{problem}");
        }
        hold.go.add_permits(2);
        for call in calls {
            answered(call).await;
        }
        known(&mut hold, &gateway).await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_gives_up_its_place_in_the_line() {
    let mut hold = Hold::start().await;
    let gateway = start(&hold.upstream, "max_conns_per_host = 1\nconnect_timeout = \"1m\"").await;
    known(&mut hold, &gateway).await;
    let first = call(&gateway, "/function/hold/first", false).await;
    hold.next().await;
    let mut leaving = Wire::connect(gateway.address()).await;
    leaving
        .send("GET /function/hold/leaving HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    eventually("its place", || async {
        (under_way(&gateway).await == Some(2.0)).then_some(())
    })
    .await;
    let third = call(&gateway, "/function/hold/third", false).await;
    drop(leaving);
    eventually("the caller gone", || async {
        (under_way(&gateway).await == Some(2.0)).then_some(())
    })
    .await;
    hold.go.add_permits(1);
    answered(first).await;
    assert_eq!(hold.next().await, "/function/hold/third");
    hold.go.add_permits(1);
    answered(third).await;
}

#[tokio::test]
async fn point_17_a_raised_bound_lets_waiting_calls_go_and_a_lowered_one_ends_none() {
    let mut hold = Hold::start().await;
    let bound = |most: usize| format!("max_conns_per_host = {most}\nconnect_timeout = \"1m\"");
    let gateway = start(&hold.upstream, &bound(1)).await;
    known(&mut hold, &gateway).await;
    let mut calls = Vec::new();
    for number in 0..4 {
        calls.push(call(&gateway, &format!("/function/hold/{number}"), number == 2).await);
    }
    hold.next().await;
    for (most, more) in [(3, 2), (0, 1), (1, 0)] {
        change(&gateway, &bound(most)).await;
        for _ in 0..more {
            hold.next().await;
        }
    }
    assert_eq!(open(&gateway).await, (4.0, 0.0), "under way");
    let last = call(&gateway, "/function/hold/last", false).await;
    hold.go.add_permits(4);
    for call in calls {
        answered(call).await;
    }
    assert_eq!(hold.next().await, "/function/hold/last");
    assert_eq!(open(&gateway).await, (1.0, 0.0));
    hold.go.add_permits(1);
    answered(last).await;
}

#[tokio::test]
async fn an_idle_connection_of_one_lane_gives_way_to_a_call_of_the_other() {
    let mut hold = Hold::start().await;
    let gateway = start(&hold.upstream, "max_conns_per_host = 1").await;
    known(&mut hold, &gateway).await;
    for base in [false, true, false, true] {
        hold.go.add_permits(1);
        let mut request = gateway.get("/function/hold");
        if base {
            request = request.header("te", "trailers");
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{base}");
        hold.next().await;
        eventually("one idle connection", || async {
            (open(&gateway).await == (0.0, 1.0)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_carries_calls_until_it_is_too_old_and_is_not_interrupted() {
    let mut hold = Hold::start().await;
    let connections = hold.upstream.clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    hold.upstream = hold.upstream.function("quick", move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { text(200, "done") }
    });
    let gateway = start(&hold.upstream, "").await;
    known(&mut hold, &gateway).await;
    // Once on each lane, which have connections of their own.
    for _ in 0..2 {
        get(&gateway, "/function/quick").await;
    }
    let before = connections.connections();
    for _ in 0..5 {
        get(&gateway, "/function/quick").await;
    }
    assert_eq!(connections.connections(), before, "as long as it stays open");
    change(&gateway, "max_conn_age = \"50ms\"").await;
    let long = call(&gateway, "/function/hold", false).await;
    hold.next().await;
    let opened = connections.connections();
    eventually("another connection", || async {
        get(&gateway, "/function/quick").await;
        (connections.connections() >= opened + 3).then_some(())
    })
    .await;
    assert!(calls.load(Ordering::Relaxed) > 5);
    hold.go.add_permits(1);
    answered(long).await;
    eventually("the old ones closed", || async {
        (open(&gateway).await.1 == 0.0).then_some(())
    })
    .await;
}
