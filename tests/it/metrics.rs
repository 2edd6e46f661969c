//! The names that dashboards read, the listener they are read from, and the
//! gauges that follow the provider.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use chrono::DateTime;
use faas_gateway::shutdown::Stop;
use faas_gateway::{
    client,
    config::{self, Sources},
    metrics::{
        self, Metrics, Service, Waiting, exporter,
        kept::UnderWay,
        query::Prometheus,
        replicas::{self, Known, Source},
    },
    model::{FunctionRef, FunctionStatus, from_json},
    policy::{Policy, Standing, States, Subject},
    provider::{
        Provider,
        remote::{RemoteProvider, Settings},
    },
    queue::cron::Shown,
    shutdown::Tasks,
    upstream::Connections,
};
use http::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::provider::{Answer, ScriptedProvider};

/// Everything that has a value once, as `name{labels}` without label values.
fn series(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("process_"))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| {
            let Some((name, labels)) = series.split_once('{') else {
                return series.to_owned();
            };
            let keys: Vec<&str> = labels.split(',').filter_map(|label| label.split('=').next()).collect();
            format!("{name}{{{}}}", keys.join(","))
        })
        .collect()
}

fn called(metrics: &Metrics, label: &str, status: u16) {
    let function = metrics.function(label);
    function.started();
    let under_way = function.in_flight();
    function.completed(status, Duration::from_millis(30));
    drop(under_way);
}

/// Every series, with its labels.
const SERIES: [&str; 54] = [
    "gateway_function_invocation_total{code,function_name}",
    "gateway_functions_seconds_bucket{code,function_name,le}",
    "gateway_functions_seconds_count{code,function_name}",
    "gateway_functions_seconds_sum{code,function_name}",
    "gateway_function_invocation_started{function_name}",
    "gateway_function_invocation_inflight{function_name}",
    "gateway_function_refused_total{function_name,reason}",
    "gateway_function_queued{function_name}",
    "gateway_function_breaker_open{function_name}",
    "gateway_function_retries_total{function_name}",
    "gateway_scaling_decisions_total{direction,function_name,reason}",
    "gateway_function_activation_seconds_bucket{function_name,le}",
    "gateway_function_activation_seconds_count{function_name}",
    "gateway_function_activation_seconds_sum{function_name}",
    "gateway_async_calls_total{state}",
    "gateway_async_call_seconds_bucket{le}",
    "gateway_async_call_seconds_count",
    "gateway_async_call_seconds_sum",
    "gateway_async_enqueue_seconds_bucket{le}",
    "gateway_async_enqueue_seconds_count",
    "gateway_async_enqueue_seconds_sum",
    "gateway_async_callbacks_total{result}",
    "gateway_async_loops_refused_total",
    "queue_worker_pending_messages{function_name,queue_name}",
    "gateway_async_oldest_seconds{function_name}",
    "gateway_nats_reconnect_total",
    "queue_worker_nats_reconnect_total",
    "queue_worker_function_invocation_inflight{function_name,queue_name}",
    "queue_worker_messages_processed_total{kubernetes_pod_name,queue_name}",
    "queue_worker_messages_submitted_total{kubernetes_pod_name,queue_name}",
    "gateway_async_jobs{function_name,state}",
    "gateway_cron_next_timestamp_seconds{function_name}",
    "gateway_cron_mistakes{function_name}",
    "gateway_cron_calls_total{result}",
    "gateway_service_count{function_name}",
    "gateway_service_ready_count{function_name}",
    "gateway_service_target_load{function_name,scaling_type}",
    "gateway_service_min{function_name}",
    "http_request_duration_seconds_bucket{method,path,status,le}",
    "http_request_duration_seconds_count{method,path,status}",
    "http_request_duration_seconds_sum{method,path,status}",
    "http_requests_total{method,path,status}",
    "gateway_connections_open{listener}",
    "gateway_connections_accepted_total{listener}",
    "gateway_config_last_reload_successful",
    "gateway_config_last_reload_success_timestamp_seconds",
    "gateway_config_reloads_total{result,trigger}",
    "gateway_config_info{hash}",
    "gateway_config_generation",
    "gateway_config_pending_restart",
    "gateway_config_live_generations",
    "gateway_event_readers",
    "gateway_build_info{version}",
    "gateway_upstream_connections{state}",
];

/// Something of everything that has a series.
fn feed<'m>(metrics: &'m Metrics, states: &Arc<States>) -> UnderWay<'m> {
    called(metrics, "figlet.openfaas-fn", 200);
    let figlet = metrics.function("figlet.openfaas-fn");
    figlet.refused("rate_limit");
    figlet.scaled("up", "load");
    figlet.activated(Duration::from_millis(20));
    metrics
        .kept()
        .tried("faas-request", "succeeded", Duration::from_millis(20));
    metrics.kept().submitted("faas-request");
    metrics.kept().refused();
    let figlet = || "figlet.openfaas-fn".to_owned();
    metrics.kept().count([((figlet(), "dead"), 1)].into());
    metrics.show_waiting(move || Waiting {
        queue: "faas-request".to_owned(),
        functions: [(figlet(), metrics::Depth::default())].into(),
        reconnects: Some(2),
    });
    metrics.kept().enqueued(Duration::from_millis(2));
    metrics.kept().callback("sent");
    metrics.kept().by_the_clock("kept");
    metrics.show_cron(|| {
        vec![Shown {
            function: FunctionRef::new("figlet", "openfaas-fn"),
            next: Some(DateTime::UNIX_EPOCH),
            mistakes: 1,
        }]
    });
    metrics.show_states(Arc::clone(states));
    metrics.show_connections(Connections::default);
    metrics.show_event_readers(|| 0);
    let limited = "provider.kind = \"memory\"\n[functions.\"*\"]\nmax_in_flight = 1\nbreaker = { failures = 1 }\n";
    let limited = config::parse(Some(limited), &Sources::default()).expect("valid").config;
    let figlet = FunctionRef::new("figlet", "openfaas-fn");
    let subject = Subject {
        function: &figlet,
        limits: &figlet,
        standing: Standing::Exists,
    };
    Policy::new(subject, &limited.function(&figlet), states, 1).expect("limits");
    metrics.set_services(&[replicas::service(&status("figlet", "openfaas-fn"))]);
    metrics.api_request(&Method::GET, "/system/functions", 200, Duration::from_millis(1));
    metrics.config_read(true, SystemTime::UNIX_EPOCH + Duration::from_secs(12));
    metrics.config_reload("api", "applied");
    metrics.config_live("aaaa", 1, 0);
    metrics.config_live("bbbb", 2, 3);
    let listener = metrics.listener("main");
    for _ in 0..2 {
        listener.accepted();
    }
    listener.closed();
    metrics.kept().begins("faas-request", "figlet.openfaas-fn".to_owned())
}

#[test]
fn names_labels_and_types_are_those_of_openfaas() {
    let (metrics, states) = (Metrics::new(), Arc::new(States::default()));
    let under_way = feed(&metrics, &states);
    let in_use = [metrics.live_generation(), metrics.live_generation()];
    let text = metrics.render();

    let expected: BTreeSet<String> = SERIES.map(str::to_owned).into();
    assert_eq!(series(&text), expected);
    drop(under_way);
    assert!(
        !metrics.render().contains(metrics::WORKER_INFLIGHT),
        "what has ended is not under way"
    );

    for line in [
        "# TYPE gateway_function_invocation_total counter",
        "# TYPE gateway_functions_seconds histogram",
        "# TYPE gateway_function_invocation_started counter",
        "# TYPE gateway_function_invocation_inflight gauge",
        "# TYPE gateway_function_refused_total counter",
        "# TYPE gateway_function_queued gauge",
        "# TYPE gateway_function_breaker_open gauge",
        "# TYPE gateway_service_count gauge",
        "# TYPE http_requests_total counter",
        "# TYPE gateway_connections_open gauge",
        "# TYPE gateway_connections_accepted_total counter",
        r#"gateway_connections_open{listener="main"} 1"#,
        r#"gateway_connections_accepted_total{listener="main"} 2"#,
        "# TYPE http_request_duration_seconds histogram",
        r#"gateway_function_invocation_total{code="200",function_name="figlet.openfaas-fn"} 1"#,
        r#"gateway_function_invocation_started{function_name="figlet.openfaas-fn"} 1"#,
        r#"gateway_function_invocation_inflight{function_name="figlet.openfaas-fn"} 0"#,
        r#"gateway_function_refused_total{function_name="figlet.openfaas-fn",reason="rate_limit"} 1"#,
        r#"gateway_function_queued{function_name="figlet.openfaas-fn"} 0"#,
        r#"gateway_function_breaker_open{function_name="figlet.openfaas-fn"} 0"#,
        r#"gateway_service_target_load{function_name="figlet.openfaas-fn",scaling_type="rps"} 50"#,
        r#"gateway_service_min{function_name="figlet.openfaas-fn"} 1"#,
        "gateway_config_last_reload_successful 1",
        "gateway_config_last_reload_success_timestamp_seconds 12",
        r#"gateway_config_reloads_total{result="applied",trigger="api"} 1"#,
        r#"gateway_config_info{hash="bbbb"} 1"#,
        "gateway_config_generation 2",
        "gateway_config_pending_restart 3",
        "gateway_config_live_generations 2",
        concat!("gateway_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    states.retain(|_| false);
    metrics.forget_function("figlet.openfaas-fn");
    let text = metrics.render();
    for gone in [
        metrics::REFUSED_TOTAL,
        metrics::QUEUED,
        metrics::BREAKER_OPEN,
        metrics::SCALING_DECISIONS,
        metrics::ACTIVATION_SECONDS,
    ] {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
    assert!(!text.contains("aaaa"), "only the live configuration has a series");
    drop(in_use);
    assert_eq!(metrics.live_generations(), 0);
    #[cfg(target_os = "linux")]
    assert!(
        text.contains("process_resident_memory_bytes"),
        "process metrics are there"
    );
}

#[test]
fn what_is_lost_of_the_gateways_own_accounts_has_a_series_from_the_start() {
    let metrics = Metrics::new();
    metrics.show_telemetry(Arc::default());
    let text = metrics.render();
    for name in [
        "gateway_access_log_dropped_total",
        "gateway_log_dropped_total",
        "gateway_traces_exported_total",
        "gateway_traces_export_failures_total",
        r#"gateway_traces_dropped_total{reason="queue_full"}"#,
        r#"gateway_traces_dropped_total{reason="export_failed"}"#,
        r#"gateway_traces_dropped_total{reason="rejected"}"#,
    ] {
        assert!(
            text.lines().any(|line| line == format!("{name} 0")),
            "{name} is not in\n{text}"
        );
    }
    assert!(
        text.contains("# TYPE gateway_access_log_dropped_total counter"),
        "{text}"
    );
}

#[test]
fn buckets_are_those_of_every_client() {
    let metrics = Metrics::new();
    called(&metrics, "figlet", 200);
    let text = metrics.render();
    let bounds: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("gateway_functions_seconds_bucket"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(
        bounds,
        [
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"
        ]
    );
}

#[test]
fn calls_are_counted_by_code() {
    let metrics = Metrics::new();
    let function = metrics.function("figlet");
    // More codes than are found without a lock.
    for status in [200, 200, 404, 500, 502, 503, 504, 418, 429, 418] {
        function.completed(status, Duration::ZERO);
    }
    assert_eq!(function.invocations(), 10);
    assert!((metrics.invocations("figlet") - 10.0).abs() < f64::EPSILON);
    assert!(metrics.invocations("other").abs() < f64::EPSILON);
    let text = metrics.render();
    for (code, count) in [(200, 2), (404, 1), (418, 2), (429, 1)] {
        let line = format!(r#"gateway_function_invocation_total{{code="{code}",function_name="figlet"}} {count}"#);
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let one = function.in_flight();
    let two = function.in_flight();
    assert!(
        metrics
            .render()
            .contains(r#"gateway_function_invocation_inflight{function_name="figlet"} 2"#)
    );
    drop((one, two));
}

#[test]
fn many_threads_count_every_call() {
    let metrics = Metrics::new();
    let function = metrics.function("figlet");
    std::thread::scope(|scope| {
        for thread in 0..8_u16 {
            let function = &function;
            scope.spawn(move || {
                for call in 0..500_u16 {
                    function.completed(200 + (thread + call) % 12, Duration::from_millis(1));
                }
            });
        }
    });
    assert_eq!(function.invocations(), 4000);
}

#[test]
fn a_function_that_went_away_leaves_no_series() {
    let metrics = Metrics::new();
    called(&metrics, "gone", 200);
    called(&metrics, "kept", 200);
    let late = metrics.function("gone");
    let under_way = late.in_flight();
    metrics.forget_function("gone");
    assert!(late.is_forgotten());
    // A call that was under way ends now, with a code that was not seen before.
    late.completed(504, Duration::from_secs(1));
    drop(under_way);
    let text = metrics.render();
    assert!(!text.contains("gone"), "{text}");
    assert!(text.contains("kept"), "{text}");

    called(&metrics, "gone", 200);
    let text = metrics.render();
    assert!(text.contains(r#"gateway_function_invocation_total{code="200",function_name="gone"} 1"#));
    assert!(text.contains(r#"gateway_function_invocation_inflight{function_name="gone"} 0"#));
}

#[test]
fn methods_that_clients_make_up_are_one() {
    let metrics = Metrics::new();
    for method in ["BREW", "WHEN"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        metrics.api_request(&method, "/system/info", 405, Duration::ZERO);
    }
    let line = r#"http_requests_total{method="OTHER",path="/system/info",status="405"} 2"#;
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

fn status(name: &str, namespace: &str) -> FunctionStatus {
    let text = json!({ "name": name, "namespace": namespace, "image": "i", "replicas": 3, "availableReplicas": 2 });
    from_json(text.to_string().as_bytes()).expect("a status")
}

#[test]
fn gauges_come_from_labels_and_their_defaults() {
    let plain = replicas::service(&status("figlet", ""));
    assert_eq!(
        plain,
        Service {
            label: "figlet".to_owned(),
            desired: 3,
            ready: 2,
            min: 1,
            target: 50.0,
            scaling_type: "rps".to_owned()
        }
    );
    for (labels, min, target, scaling_type) in [
        (json!({ "com.openfaas.scale.min": "4" }), 4, 50.0, "rps"),
        (
            json!({ "com.openfaas.scale.target": "12.5", "com.openfaas.scale.type": "cpu" }),
            1,
            12.5,
            "cpu",
        ),
        (
            json!({ "com.openfaas.scale.min": "-1", "com.openfaas.scale.target": "NaN", "com.openfaas.scale.type": "" }),
            1,
            50.0,
            "rps",
        ),
        (json!(null), 1, 50.0, "rps"),
    ] {
        let text = json!({ "name": "a", "namespace": "n", "image": "i", "labels": labels }).to_string();
        let found = replicas::service(&from_json(text.as_bytes()).expect("a status"));
        assert_eq!(found.label, "a.n");
        assert_eq!(
            (found.min, found.target.to_bits(), found.scaling_type.as_str()),
            (min, f64::to_bits(target), scaling_type),
            "{labels}"
        );
    }
}

#[test]
fn gauges_of_functions_that_are_gone_go_too() {
    let metrics = Metrics::new();
    let mut service = replicas::service(&status("figlet", "fn"));
    metrics.set_services(&[service.clone(), replicas::service(&status("other", "fn"))]);
    "capacity".clone_into(&mut service.scaling_type);
    metrics.set_services(&[service]);
    let text = metrics.render();
    assert!(!text.contains("other.fn") && !text.contains("\"rps\""), "{text}");
    assert!(text.contains(r#"gateway_service_target_load{function_name="figlet.fn",scaling_type="capacity"} 50"#));
    metrics.set_services(&[]);
    assert!(!metrics.render().contains("figlet"), "{}", metrics.render());
}

#[test]
fn label_values_are_for_functions_that_exist() {
    let known = Known::new(&[status("figlet", "fn"), status("bare", "")]);
    for (name, namespace, exists) in [
        ("figlet", "fn", true),
        ("figlet", "", true),
        ("figlet", "other", false),
        ("bare", "", true),
        ("made-up", "", false),
    ] {
        assert_eq!(
            known.contains(&FunctionRef::new(name, namespace)),
            exists,
            "{name}.{namespace}"
        );
    }
}

fn remote(provider: &ScriptedProvider) -> Arc<dyn Provider> {
    let sources = Sources {
        overrides: vec![("provider.url".to_owned(), provider.url.to_string())],
        ..Sources::default()
    };
    let config = config::load(&sources).expect("a configuration").config;
    let settings = Settings::new(&config.provider, &config.invoke).expect("settings");
    Arc::new(RemoteProvider::new(settings, None).expect("a provider"))
}

#[tokio::test]
async fn a_reading_asks_for_every_namespace() {
    let provider = ScriptedProvider::start(|asked| match asked.line().as_str() {
        "GET /system/namespaces" => Answer::json(200, &json!(["a", "b"])),
        "GET /system/functions?namespace=a" => Answer::json(
            200,
            &json!([{ "name": "one", "namespace": "a", "image": "i", "replicas": 2 }]),
        ),
        "GET /system/functions?namespace=b" => {
            Answer::json(200, &json!([{ "name": "two", "namespace": "b", "image": "i" }]))
        }
        other => panic!("unexpected {other}"),
    })
    .await;
    let metrics = Metrics::new();
    let mut reader = replicas::Reader::default();
    reader.read(&*remote(&provider)).await;
    let known = replicas::publish(&mut reader, &metrics, replicas::service);
    assert!(known.contains(&FunctionRef::new("one", "a")) && known.contains(&FunctionRef::new("two", "b")));
    let text = metrics.render();
    assert!(
        text.contains(r#"gateway_service_count{function_name="one.a"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"gateway_service_count{function_name="two.b"} 0"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_provider_without_namespaces_is_asked_once() {
    for namespaces in [
        Answer::text(404, "404 page not found\n"),
        Answer::json(200, &json!([])),
        Answer::text(500, "no"),
    ] {
        let provider = ScriptedProvider::start(move |asked| match asked.line().as_str() {
            "GET /system/namespaces" => namespaces.clone(),
            "GET /system/functions" => Answer::json(200, &json!([{ "name": "one", "image": "i", "replicas": 1 }])),
            other => panic!("unexpected {other}"),
        })
        .await;
        let metrics = Metrics::new();
        let mut reader = replicas::Reader::default();
        reader.read(&*remote(&provider)).await;
        replicas::publish(&mut reader, &metrics, replicas::service);
        assert_eq!(provider.asked().len(), 2);
        assert!(
            metrics
                .render()
                .contains(r#"gateway_service_count{function_name="one"} 1"#)
        );
    }
}

#[tokio::test]
async fn a_provider_that_fails_costs_no_counters() {
    let down = Arc::new(AtomicBool::new(false));
    let provider = ScriptedProvider::start({
        let down = Arc::clone(&down);
        move |asked| match asked.path.as_str() {
            _ if down.load(Ordering::SeqCst) => Answer::text(503, "down"),
            "/system/namespaces" => Answer::json(200, &json!(["fn"])),
            _ => Answer::json(
                200,
                &json!([{ "name": "one", "namespace": "fn", "image": "i", "replicas": 1 }]),
            ),
        }
    })
    .await;
    let client = remote(&provider);
    let metrics = Metrics::new();
    let mut reader = replicas::Reader::default();
    reader.read(&*client).await;
    replicas::publish(&mut reader, &metrics, replicas::service);
    called(&metrics, "one.fn", 200);
    called(&metrics, "gone.fn", 200);

    down.store(true, Ordering::SeqCst);
    reader.read(&*client).await;
    assert!(!reader.is_complete());
    let known = replicas::publish(&mut reader, &metrics, replicas::service);
    assert!(known.has_label("one.fn"));
    let text = metrics.render();
    assert!(
        text.contains(r#"gateway_service_count{function_name="one.fn"} 1"#) && text.contains("gone.fn"),
        "{text}"
    );

    down.store(false, Ordering::SeqCst);
    reader.read(&*client).await;
    assert!(reader.is_complete());
    replicas::publish(&mut reader, &metrics, replicas::service);
    assert!(
        metrics.render().contains("gone.fn"),
        "one list may be older than the function"
    );
    reader.read(&*client).await;
    replicas::publish(&mut reader, &metrics, replicas::service);
    let text = metrics.render();
    assert!(!text.contains("gone.fn"), "{text}");
    assert!(
        text.contains(r#"gateway_function_invocation_total{code="200",function_name="one.fn"} 1"#),
        "{text}"
    );
}

/// How long it took until the provider was asked for its list so many times.
/// After the first time, another configuration is live if `next` is its interval.
async fn until_asked(times: usize, interval: Duration, next: Option<Duration>) -> Duration {
    let provider = ScriptedProvider::answering(Answer::json(200, &json!([]))).await;
    let source = |generation, interval| Source {
        generation,
        provider: remote(&provider),
        metrics: Arc::new(Metrics::new()),
        service: Arc::new(replicas::service),
        interval,
    };
    let asked = || {
        provider
            .asked()
            .iter()
            .filter(|asked| asked.path == "/system/functions")
            .count()
    };
    let stop = Stop::new();
    let started = tokio::time::Instant::now();
    let newest = || match next {
        Some(interval) if asked() > 0 => source(2, interval),
        _ => source(1, interval),
    };
    let enough = async {
        while asked() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
        started.elapsed()
    };
    let forever = replicas::refresh_forever(newest, |_| {}, stop.clone());
    let (took, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(enough, forever) })
        .await
        .expect("it stops");
    took
}

#[tokio::test]
async fn readings_repeat_until_stopped() {
    let interval = Duration::from_millis(20);
    assert!(until_asked(3, interval, None).await >= interval * 2);
}

#[tokio::test]
async fn point_19_the_gauges_follow_a_new_configuration_without_waiting_for_the_old_interval() {
    let hour = Duration::from_secs(3600);
    until_asked(4, hour, Some(Duration::from_millis(1))).await;
}

#[tokio::test]
async fn the_exporter_serves_two_paths() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let (tasks, stop, metrics) = (Tasks::new(), Stop::new(), Arc::new(Metrics::new()));
    let ready = Arc::new(AtomicBool::new(true));
    called(&metrics, "figlet", 200);
    tasks.spawn(exporter::serve(
        Arc::new(listener),
        Arc::clone(&metrics),
        tasks.clone(),
        {
            let ready = Arc::clone(&ready);
            move || ready.load(Ordering::SeqCst)
        },
        stop.clone(),
    ));
    let client = client::build(Duration::from_secs(5));
    let ask = async |method: Method, path: &str| {
        let response = client
            .request(method, format!("{base}{path}"))
            .send()
            .await
            .expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.text().await.expect("a body"))
    };

    for method in [Method::GET, Method::POST] {
        let (status, headers, body) = ask(method, "/metrics").await;
        assert_eq!(
            (status, headers["content-type"].to_str().ok()),
            (200, Some(metrics::CONTENT_TYPE))
        );
        assert!(body.contains("gateway_function_invocation_total"), "{body}");
    }
    let (status, _, body) = ask(Method::GET, "/healthz").await;
    assert_eq!((status, body.as_str()), (200, "OK"));
    let (status, _, body) = ask(Method::POST, "/healthz").await;
    assert_eq!((status, body.as_str()), (405, ""));
    assert_eq!(ask(Method::GET, "/elsewhere").await.0, 404);
    ready.store(false, Ordering::SeqCst);
    let (status, headers, _) = ask(Method::GET, "/healthz").await;
    assert_eq!(status, 503);
    assert_eq!(headers["retry-after"], "1");

    // Draining alone does not stop it; its own token does, idle connections included.
    tasks.drain();
    assert_eq!(ask(Method::GET, "/metrics").await.0, 200);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), tasks.ended())
        .await
        .expect("it ends");
}

#[tokio::test]
async fn counts_come_from_prometheus() {
    let server = ScriptedProvider::start(|asked| match asked.parameter("query") {
        Some(query) if query.contains(r"\\.fn") => Answer::json(
            200,
            &json!({ "status": "success", "data": { "resultType": "vector", "result": [
                { "metric": { "function_name": "figlet.fn" }, "value": [1_700_000_000.5, "42"] } ] } }),
        ),
        _ => Answer::text(503, "not now"),
    })
    .await;
    let settings = config::Prometheus {
        host: server.url.host_str().map(str::to_owned),
        port: server.url.port().expect("a port"),
    };
    let prometheus = Prometheus::new(&settings).expect("valid").expect("configured");
    let counts = prometheus.invocations("fn").await.expect("an answer");
    assert_eq!(counts.get("figlet.fn"), Some(&42.0));
    assert_eq!(server.only().path, "/api/v1/query");
    assert_eq!(server.only().header("user-agent"), Some(client::USER_AGENT));
    assert_eq!(prometheus.invocations("other").await, None);

    let off = config::Prometheus { host: None, port: 9090 };
    assert!(Prometheus::new(&off).expect("valid").is_none());
}
