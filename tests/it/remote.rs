//! The http provider against a scripted one: what goes over the wire for each
//! operation, and what each answer means.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use faas_gateway::{
    client,
    model::{FunctionDeployment, FunctionNamespace, FunctionRef, LogMessage, LogQuery, Secret, from_json},
    problem::Problem,
    provider::{
        Listing, Provider, ProviderError,
        remote::{RemoteProvider, Settings},
    },
    upstream::{PathForm, PoolLimits},
};
use futures_util::StreamExt;
use poem_openapi::types::Base64;
use serde_json::{Value, json};
use url::Url;

use crate::support::provider::{Answer, Asked, ScriptedProvider};

fn settings(url: &Url) -> Settings {
    Settings {
        url: url.clone(),
        logs_url: None,
        default_namespace: String::new(),
        direct_suffix: None,
        timeout: Duration::from_secs(10),
        pool: PoolLimits::default(),
        resolve_interval: Duration::ZERO,
    }
}

fn connect(provider: &ScriptedProvider) -> RemoteProvider {
    let credentials = Some(("admin".to_owned(), "p:ss".to_owned()));
    RemoteProvider::new(settings(&provider.url), credentials).expect("a provider")
}

fn function() -> FunctionRef {
    FunctionRef::new("figlet", "dev")
}

fn deployment() -> FunctionDeployment {
    from_json(
        br#"{"service":"figlet","image":"i:1","namespace":"dev","envProcess":"figlet","envVars":{"A":"b"},
            "labels":{"com.openfaas.scale.min":"2"},"limits":{"memory":"5Mi"},"tier":{"gold":1}}"#,
    )
    .expect("a deployment")
}

/// Runs one operation against a provider that gives one answer, and returns
/// what it was asked.
async fn wire<T>(
    answer: Answer,
    operation: impl AsyncFnOnce(RemoteProvider) -> Result<T, ProviderError>,
) -> (Asked, T) {
    let scripted = ScriptedProvider::answering(answer).await;
    let result = operation(connect(&scripted)).await.expect("success");
    let asked = scripted.only();
    // admin:p:ss
    assert_eq!(asked.header("authorization"), Some("Basic YWRtaW46cDpzcw=="));
    assert!(
        asked
            .header("accept")
            .is_some_and(|accept| accept.contains("application/json"))
    );
    assert_eq!(asked.header("user-agent"), Some(client::USER_AGENT));
    let json = (!asked.body.is_empty()).then_some("application/json");
    assert_eq!(asked.header("content-type"), json);
    (asked, result)
}

#[tokio::test]
async fn a_list_as_it_was_before_is_the_same_list() {
    let named = |name: &str| json!([{ "name": name, "image": "i" }]);
    let listed = Arc::new(Mutex::new(named("a")));
    let now = Arc::clone(&listed);
    let scripted = ScriptedProvider::start(move |_| Answer::json(200, &now.lock().expect("no panic"))).await;
    let provider = connect(&scripted);
    let list = async |before: &Listing| provider.list_again("", before).await.expect("a list");
    let first = list(&Listing::default()).await;
    assert_eq!((first.functions.len(), &*first.functions[0].name), (1, "a"));
    let again = list(&first).await;
    assert!(Arc::ptr_eq(&first.functions, &again.functions));
    *listed.lock().expect("no panic") = named("b");
    let changed = list(&again).await;
    assert_eq!(&*changed.functions[0].name, "b");
    *listed.lock().expect("no panic") = json!(null);
    assert!(list(&changed).await.functions.is_empty());
}

#[tokio::test]
async fn functions_on_the_wire() {
    let list = json!([{ "name": "b", "image": "i" }, { "name": "a", "image": "i" }]);
    let (asked, functions) = wire(Answer::json(200, &list), async |provider| provider.list("dev").await).await;
    assert_eq!(asked.line(), "GET /system/functions?namespace=dev");
    let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "in name order");

    let (asked, _) = wire(Answer::json(200, &json!(null)), async |provider| {
        provider.list("").await
    })
    .await;
    assert_eq!(asked.line(), "GET /system/functions");

    let status = json!({ "name": "figlet", "namespace": "dev", "image": "i", "usage": { "cpu": 2.0 } });
    let (asked, found) = wire(Answer::json(200, &status), async |provider| {
        provider.status(&function(), true).await
    })
    .await;
    assert_eq!(asked.line(), "GET /system/function/figlet?namespace=dev&usage=1");
    assert_eq!(found.usage.and_then(|usage| usage.cpu), Some(2.0.into()));
    let bare = FunctionRef::new("figlet", "");
    let (asked, _) = wire(Answer::json(200, &status), async |provider| {
        provider.status(&bare, false).await
    })
    .await;
    assert_eq!(asked.line(), "GET /system/function/figlet");

    // The statuses of faas-netes, faasd and the specification.
    for status in [200, 201, 202, 204] {
        let (asked, ()) = wire(Answer::empty(status), async |provider| {
            provider.deploy(deployment()).await
        })
        .await;
        assert_eq!(asked.line(), "POST /system/functions");
        assert_eq!(
            asked.json(),
            json!({ "service": "figlet", "image": "i:1", "namespace": "dev", "envProcess": "figlet",
                "envVars": { "A": "b" }, "labels": { "com.openfaas.scale.min": "2" },
                "limits": { "memory": "5Mi" }, "tier": { "gold": 1 } })
        );
    }
    let (asked, ()) = wire(Answer::empty(202), async |provider| provider.update(deployment()).await).await;
    assert_eq!(asked.line(), "PUT /system/functions");
    assert_eq!(asked.json()["service"], "figlet");

    let (asked, ()) = wire(Answer::text(202, "ok"), async |provider| {
        provider.delete(&function()).await
    })
    .await;
    assert_eq!(asked.line(), "DELETE /system/functions?namespace=dev");
    assert_eq!(asked.json(), json!({ "functionName": "figlet", "namespace": "dev" }));
    let (asked, ()) = wire(Answer::empty(200), async |provider| provider.delete(&bare).await).await;
    assert_eq!(
        (asked.line().as_str(), asked.json()),
        ("DELETE /system/functions", json!({ "functionName": "figlet" }))
    );

    let (asked, ()) = wire(Answer::empty(202), async |provider| {
        provider.scale(&function(), 0).await
    })
    .await;
    assert_eq!(asked.line(), "POST /system/scale-function/figlet?namespace=dev");
    assert_eq!(
        asked.json(),
        json!({ "serviceName": "figlet", "replicas": 0, "namespace": "dev" })
    );
}

#[tokio::test]
async fn secrets_on_the_wire() {
    let list = json!([{ "name": "b" }, { "name": "a", "namespace": "dev", "value": "leaked" }]);
    let (asked, secrets) = wire(Answer::json(202, &list), async |provider| {
        provider.list_secrets("dev").await
    })
    .await;
    assert_eq!(asked.line(), "GET /system/secrets?namespace=dev");
    assert_eq!(secrets, [Secret::named("a", "dev"), Secret::named("b", "")]);

    let text = || Secret {
        value: Some("v".to_owned()),
        ..Secret::named("s", "dev")
    };
    let (asked, ()) = wire(Answer::empty(201), async |provider| {
        provider.create_secret(text()).await
    })
    .await;
    assert_eq!(asked.line(), "POST /system/secrets?namespace=dev");
    assert_eq!(asked.json(), json!({ "name": "s", "namespace": "dev", "value": "v" }));

    let both = Secret {
        value: Some("v".to_owned()),
        raw_value: Some(Base64(vec![0xff, 0, 1])),
        ..Secret::named("s", "")
    };
    let (asked, ()) = wire(Answer::empty(200), async |provider| provider.update_secret(both).await).await;
    assert_eq!(asked.line(), "PUT /system/secrets");
    assert_eq!(asked.json(), json!({ "name": "s", "value": "v", "rawValue": "/wAB" }));

    let (asked, ()) = wire(Answer::empty(204), async |provider| {
        provider.delete_secret("s", "dev").await
    })
    .await;
    assert_eq!(asked.line(), "DELETE /system/secrets?namespace=dev");
    assert_eq!(asked.json(), json!({ "name": "s", "namespace": "dev" }));
}

#[tokio::test]
async fn namespaces_on_the_wire() {
    let (asked, names) = wire(Answer::json(200, &json!(["b", "a"])), async |provider| {
        provider.list_namespaces().await
    })
    .await;
    assert_eq!(asked.line(), "GET /system/namespaces");
    assert_eq!(names, ["a", "b"]);
    for none in [
        Answer::text(404, "404 page not found\n"),
        Answer::json(200, &json!(null)),
    ] {
        let (_, names) = wire(none, async |provider| provider.list_namespaces().await).await;
        assert!(names.is_empty());
    }

    let (asked, found) = wire(
        Answer::json(200, &json!({ "labels": { "a": "b" } })),
        async |provider| provider.namespace("dev").await,
    )
    .await;
    assert_eq!(asked.line(), "GET /system/namespace/dev");
    assert_eq!(
        (found.name.as_str(), found.labels.map(|labels| labels.len())),
        ("dev", Some(1))
    );

    let dev = || FunctionNamespace {
        name: "dev".to_owned(),
        ..FunctionNamespace::default()
    };
    let (asked, ()) = wire(Answer::empty(201), async |provider| {
        provider.create_namespace(dev()).await
    })
    .await;
    assert_eq!(
        (asked.line().as_str(), asked.json()),
        ("POST /system/namespace/", json!({ "name": "dev" }))
    );
    let (asked, ()) = wire(Answer::empty(202), async |provider| {
        provider.update_namespace(dev()).await
    })
    .await;
    assert_eq!(
        (asked.line().as_str(), asked.json()),
        ("PUT /system/namespace/dev", json!({ "name": "dev" }))
    );
    let (asked, ()) = wire(Answer::empty(202), async |provider| {
        provider.delete_namespace("dev").await
    })
    .await;
    assert_eq!(asked.line(), "DELETE /system/namespace/dev");
    assert_eq!(asked.json()["name"], "dev");
    assert_eq!(
        asked.json()["labels"],
        json!({ "openfaas": "1" }),
        "faasd wants its mark"
    );
}

#[tokio::test]
async fn info_health_and_telemetry_on_the_wire() {
    let netes = json!({ "provider": "faas-netes-ce", "orchestration": "kubernetes", "version": { "sha": "1", "release": "2" } });
    let gateway = json!({ "provider": netes, "version": { "sha": "3", "release": "4" }, "arch": "amd64" });
    for answer in [&netes, &gateway] {
        let (asked, info) = wire(Answer::json(200, answer), async |provider| provider.info().await).await;
        assert_eq!(asked.line(), "GET /system/info");
        assert_eq!(
            (info.provider.as_str(), info.version.release.as_str()),
            ("faas-netes-ce", "2")
        );
    }
    let nothing = json!({ "provider": null, "version": null });
    let (_, info) = wire(Answer::json(200, &nothing), async |provider| provider.info().await).await;
    assert_eq!(info.provider, "");

    let (asked, ()) = wire(Answer::text(200, "OK"), async |provider| provider.health().await).await;
    assert_eq!(asked.line(), "GET /healthz");

    let (asked, telemetry) = wire(Answer::json(200, &json!({ "a": [1] })), async |provider| {
        provider.telemetry().await
    })
    .await;
    assert_eq!(
        (asked.line().as_str(), telemetry),
        ("GET /system/telemetry", json!({ "a": [1] }))
    );
}

#[tokio::test]
async fn a_default_namespace_is_sent_in_place_of_none() {
    let scripted = ScriptedProvider::answering(Answer::json(200, &json!([]))).await;
    let provider = RemoteProvider::new(
        Settings {
            default_namespace: "home".to_owned(),
            ..settings(&scripted.url)
        },
        None,
    )
    .expect("a provider");
    provider.list("").await.expect("a list");
    provider.list("other").await.expect("a list");
    let homeless = FunctionDeployment {
        namespace: Some(String::new()),
        ..deployment()
    };
    provider.deploy(homeless).await.expect("success");
    let asked = scripted.asked();
    assert_eq!(asked[0].line(), "GET /system/functions?namespace=home");
    assert_eq!(asked[1].line(), "GET /system/functions?namespace=other");
    assert_eq!(asked[2].json()["namespace"], "home");
    assert_eq!(asked[0].header("authorization"), None, "no credentials, no header");
    assert_eq!(provider.default_namespace(), "home");
}

#[tokio::test]
async fn a_base_path_stays_in_front() {
    let scripted = ScriptedProvider::answering(Answer::json(200, &json!([]))).await;
    let provider =
        RemoteProvider::new(settings(&scripted.url.join("base/path").expect("a URL")), None).expect("a provider");
    provider.list("").await.expect("a list");
    assert_eq!(scripted.only().path, "/base/path/system/functions");
    let upstream = provider.upstream(&function()).expect("an upstream");
    assert_eq!(
        upstream.path,
        PathForm::Full {
            base: "/base/path".into()
        }
    );
}

/// Variant, status that the API will answer, text.
fn seen(error: ProviderError) -> (String, u16, String) {
    let debug = format!("{error:?}");
    let variant = debug.split([' ', '(']).next().unwrap_or_default().to_owned();
    let problem = Problem::from(error);
    (variant, problem.status, problem.detail)
}

#[tokio::test]
async fn each_refusal_has_its_meaning() {
    for (answer, variant, status, text) in [
        (
            Answer::text(404, "function figlet not found\n"),
            "NotFound",
            404,
            "function figlet not found",
        ),
        // faas-netes says nothing.
        (Answer::empty(404), "NotFound", 404, "function figlet.dev not found"),
        (
            Answer::problem(404, "no such function"),
            "NotFound",
            404,
            "no such function",
        ),
        (Answer::text(409, "exists"), "Conflict", 409, "exists"),
        (
            Answer::text(400, "validation failed: x\n"),
            "Invalid",
            400,
            "validation failed: x",
        ),
        (Answer::text(422, "could not parse"), "Invalid", 400, "could not parse"),
        (
            Answer::empty(405),
            "Unsupported",
            501,
            "the provider cannot do this with function figlet.dev",
        ),
        (
            Answer::text(501, "Feature not implemented"),
            "Unsupported",
            501,
            "Feature not implemented",
        ),
        (Answer::text(500, "boom\n"), "Answered", 500, "boom"),
        (Answer::problem(503, "no replica"), "Answered", 503, "no replica"),
        (
            Answer::empty(504),
            "Answered",
            504,
            "the provider answered 504 Gateway Timeout about function figlet.dev",
        ),
        (
            Answer::text(401, "invalid credentials"),
            "Answered",
            401,
            "the provider refused the gateway's credentials: invalid credentials",
        ),
        (
            Answer::empty(301).header("location", "/elsewhere"),
            "Answered",
            502,
            "the provider answered 301 Moved Permanently with a redirect to '/elsewhere'; check provider.url",
        ),
        (
            Answer::text(200, "<html>"),
            "Internal",
            500,
            "cannot read the provider's answer to GET system/function/figlet: invalid JSON: expected value at line 1 column 1",
        ),
    ] {
        let scripted = ScriptedProvider::answering(answer).await;
        let error = connect(&scripted).status(&function(), false).await.expect_err(text);
        assert_eq!(seen(error), (variant.to_owned(), status, text.to_owned()));
    }
}

#[tokio::test]
async fn a_provider_without_telemetry() {
    let scripted = ScriptedProvider::answering(Answer::text(404, "404 page not found\n")).await;
    let error = connect(&scripted).telemetry().await.expect_err("none");
    assert_eq!(seen(error).1, 501);
}

#[tokio::test]
async fn a_provider_that_is_not_there() {
    let scripted = ScriptedProvider::answering(Answer::empty(200)).await;
    let provider = connect(&scripted);
    provider.health().await.expect("it is there");
    drop(scripted);
    // The listener closes when its task ends, a moment after the drop.
    let gone = async {
        while provider.health().await.is_ok() {
            tokio::task::yield_now().await;
        }
        provider.health().await.expect_err("it is gone")
    };
    let error = tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it goes");
    let (variant, status, text) = seen(error);
    assert_eq!((variant.as_str(), status), ("Unreachable", 502));
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_provider_that_does_not_answer() {
    for (silence, what) in [
        (Answer::silence(), "no head"),
        (Answer::text(200, "[").open(), "no end"),
    ] {
        let scripted = ScriptedProvider::answering(silence).await;
        let provider = RemoteProvider::new(
            Settings {
                timeout: Duration::from_millis(50),
                ..settings(&scripted.url)
            },
            None,
        )
        .expect("a provider");
        let error = provider.list("").await.expect_err(what);
        let problem = Problem::from(error);
        assert_eq!(
            (problem.status, problem.setting.as_deref()),
            (504, Some("invoke.upstream_timeout")),
            "{what}"
        );
    }
    let scripted = ScriptedProvider::answering(Answer::silence()).await;
    let provider = RemoteProvider::new(
        Settings {
            timeout: Duration::from_millis(50),
            ..settings(&scripted.url)
        },
        None,
    )
    .expect("a provider");
    let error = provider.logs(LogQuery::default()).await.err().expect("no head");
    assert_eq!(Problem::from(error).setting.as_deref(), Some("invoke.upstream_timeout"));
}

#[tokio::test]
async fn bounds_change_and_the_provider_stays() {
    let scripted = ScriptedProvider::answering(Answer::silence()).await;
    let patient = settings(&scripted.url);
    let provider = RemoteProvider::new(patient.clone(), None).expect("a provider");
    let hasty = Settings {
        timeout: Duration::from_millis(50),
        pool: PoolLimits {
            max_idle: 1,
            ..PoolLimits::default()
        },
        ..patient.clone()
    };
    assert!(patient.is_same_provider(&hasty));
    let elsewhere = Settings {
        direct_suffix: Some("svc".to_owned()),
        ..hasty.clone()
    };
    assert!(!patient.is_same_provider(&elsewhere));
    let before = provider.upstream(&function()).expect("an upstream");
    provider.reconfigure(&hasty);
    let after = provider.upstream(&function()).expect("an upstream");
    assert!(Arc::ptr_eq(&before.endpoint, &after.endpoint), "its connections stay");
    let error = tokio::time::timeout(Duration::from_secs(5), provider.list("")).await;
    let error = error.expect("the new bound").expect_err("no answer");
    assert_eq!(Problem::from(error).setting.as_deref(), Some("invoke.upstream_timeout"));
}

#[tokio::test]
async fn what_the_url_holds_is_in_no_error_and_no_debug_text() {
    let url = Url::parse("http://127.0.0.1:1/hunter2/").expect("a URL");
    let provider = RemoteProvider::new(settings(&url), None).expect("a provider");
    let error = provider.list("").await.expect_err("nothing listens there");
    let said = format!("{error} {error:?} {provider:?} {:?}", settings(&url));
    assert!(
        !said.contains("hunter2") && said.contains("cannot be reached"),
        "{said}"
    );
}

#[tokio::test]
async fn what_faas_netes_and_faasd_leave_out() {
    // faas-netes: no envVars; faasd: no availableReplicas; Go: null for empty maps, no zeros.
    let status = json!({ "name": "figlet", "image": "i", "namespace": "dev", "replicas": 1, "labels": null, "annotations": null });
    let (_, found) = wire(
        Answer::json(200, &status).header("x-openfaas-eula", "openfaas-ce"),
        async |provider| provider.status(&function(), false).await,
    )
    .await;
    assert_eq!((found.replicas, found.available_replicas), (1, 0));
    assert_eq!((found.labels, found.env_vars), (None, None));
    assert_eq!(found.created_at.0.to_rfc3339(), "0001-01-01T00:00:00+00:00");
}

fn line(text: &str) -> Value {
    json!({ "name": "figlet", "namespace": "dev", "instance": "1", "timestamp": "2024-05-06T07:08:09.5Z", "text": text })
}

fn query() -> LogQuery {
    LogQuery {
        name: "figlet".to_owned(),
        namespace: "dev".to_owned(),
        ..LogQuery::default()
    }
}

async fn read(provider: &RemoteProvider) -> Vec<Result<String, ProviderError>> {
    let stream = provider.logs(query()).await.expect("a stream");
    stream
        .map(|item| item.map(|message: LogMessage| message.text))
        .collect()
        .await
}

#[tokio::test]
async fn logs_on_the_wire() {
    let all = LogQuery {
        instance: Some("pod 1".to_owned()),
        since: Some("2024-05-06T07:08:09.5Z".parse::<DateTime<Utc>>().expect("a time")),
        tail: Some(10),
        follow: true,
        ..query()
    };
    let whole = Answer::chunks(&[&format!("{}\n", line("a"))]);
    let (asked, stream) = wire(whole, async |provider| provider.logs(all).await).await;
    assert_eq!(asked.path, "/system/logs");
    for (key, value) in [
        ("name", "figlet"),
        ("namespace", "dev"),
        ("instance", "pod 1"),
        ("since", "2024-05-06T07:08:09.500Z"),
        ("tail", "10"),
        ("follow", "true"),
    ] {
        assert_eq!(asked.parameter(key).as_deref(), Some(value), "{key}");
    }
    let messages: Vec<_> = stream.collect().await;
    let message = messages.into_iter().next().expect("one line").expect("a message");
    assert_eq!((message.text.as_str(), message.instance.as_str()), ("a", "1"));

    let (asked, _) = wire(Answer::chunks(&[]), async |provider| provider.logs(query()).await).await;
    assert_eq!(asked.line(), "GET /system/logs?name=figlet&namespace=dev&follow=false");
}

#[tokio::test]
async fn log_lines_do_not_depend_on_chunks() {
    let text = format!("{}\n\n{}\n{}", line("one"), line("zwei äöü"), line("three"));
    let bytes = text.as_bytes();
    let whole = Answer::chunks(&[&text]);
    // Cut at characters; the splitter itself is tested on bytes.
    let parts: Vec<String> = text
        .chars()
        .collect::<Vec<_>>()
        .chunks(7)
        .map(|part| part.iter().collect())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    assert!(bytes.len() > parts.len());
    for answer in [whole, Answer::chunks(&parts)] {
        let scripted = ScriptedProvider::answering(answer).await;
        let texts: Vec<String> = read(&connect(&scripted))
            .await
            .into_iter()
            .map(|line| line.expect("a message"))
            .collect();
        assert_eq!(texts, ["one", "zwei äöü", "three"]);
    }
}

#[tokio::test]
async fn followed_logs_arrive_while_the_stream_is_open() {
    let scripted = ScriptedProvider::answering(Answer::chunks(&[&format!("{}\n", line("now"))]).open()).await;
    // The bound on REST calls does not end a stream.
    let provider = RemoteProvider::new(
        Settings {
            timeout: Duration::from_millis(300),
            ..settings(&scripted.url)
        },
        None,
    )
    .expect("a provider");
    let mut stream = provider.logs(query()).await.expect("a stream");
    let first = tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("in time");
    assert_eq!(first.expect("an item").expect("a message").text, "now");
    let more = tokio::time::timeout(Duration::from_millis(600), stream.next()).await;
    assert!(more.is_err(), "still open: {more:?}");
}

#[tokio::test]
async fn lines_that_cannot_be_read_and_streams_that_break() {
    let bad = Answer::chunks(&["{}\n", &format!("{}\n", line("good"))]);
    let scripted = ScriptedProvider::answering(bad).await;
    let items = read(&connect(&scripted)).await;
    assert!(matches!(items[0], Err(ProviderError::Internal(_))), "{items:?}");
    assert_eq!(items[1].as_deref().ok(), Some("good"));

    let broken = Answer::chunks(&[&format!("{}\n", line("good"))]).broken();
    let scripted = ScriptedProvider::answering(broken).await;
    let items = read(&connect(&scripted)).await;
    assert_eq!(items.len(), 2, "{items:?}");
    assert!(matches!(items[1], Err(ProviderError::Unreachable(_))), "{items:?}");
}

#[tokio::test]
async fn logs_that_are_refused() {
    for (answer, variant) in [
        (Answer::text(404, "404 page not found\n"), "Unsupported"),
        (Answer::empty(501), "Unsupported"),
        (Answer::text(404, "function figlet not found"), "NotFound"),
        (Answer::text(422, "could not parse the log request"), "Invalid"),
        (Answer::text(500, "function log request failed"), "Answered"),
    ] {
        let scripted = ScriptedProvider::answering(answer).await;
        let error = connect(&scripted).logs(query()).await.err().expect(variant);
        assert_eq!(seen(error).0, variant);
    }
}

#[tokio::test]
async fn logs_have_a_place_of_their_own() {
    let logs = ScriptedProvider::answering(Answer::chunks(&[])).await;
    let scripted = ScriptedProvider::answering(Answer::empty(500)).await;
    let provider = RemoteProvider::new(
        Settings {
            logs_url: Some(logs.url.join("logging/").expect("a URL")),
            ..settings(&scripted.url)
        },
        None,
    )
    .expect("a provider");
    assert!(read(&provider).await.is_empty());
    assert_eq!(logs.only().path, "/logging/system/logs");
    assert!(scripted.asked().is_empty());
}

#[tokio::test]
async fn calls_go_straight_to_functions_when_told() {
    let scripted = ScriptedProvider::answering(Answer::empty(200)).await;
    let provider = RemoteProvider::new(
        Settings {
            default_namespace: "openfaas-fn".to_owned(),
            direct_suffix: Some("openfaas-fn.svc.cluster.local".to_owned()),
            ..settings(&scripted.url)
        },
        None,
    )
    .expect("a provider");
    let upstream = provider.upstream(&function()).expect("an upstream");
    assert_eq!(
        upstream.endpoint.address().to_string(),
        "http://figlet.dev.svc.cluster.local:8080"
    );
    assert_eq!(upstream.path, PathForm::Trimmed);
}
