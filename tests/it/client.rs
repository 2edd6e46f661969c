//! What people do with a gateway, done with the client that is generated from its
//! OpenAPI document: the answers are types of the document, and so are the errors.

use std::collections::HashMap;

use faas_gateway_client::{ByteStream, Client, Error, ResponseValue, types};
use futures_util::StreamExt as _;

use crate::support::{
    Gateway, eventually, fixture, soon,
    typed::{Called, done, refused, text},
};

const USER: &str = "admin";
const PASSWORD: &str = "correct horse";

/// A gateway that asks for credentials, which has them, and a client.
async fn signed_in(config: &str) -> (Gateway, Client) {
    let mut gateway = Gateway::new().config(config).basic_auth(USER, PASSWORD).start().await;
    gateway.sign_in(USER, PASSWORD);
    let client = gateway.client();
    (gateway, client)
}

/// A function that runs this command.
fn function(name: &str, command: &str) -> types::builder::FunctionDeployment {
    types::FunctionDeployment::builder()
        .service(name)
        .image("local".to_owned())
        .env_process(command.to_owned())
        // Fields of other providers: any are taken, so that progenitor wants to hear of none.
        .extra(serde_json::Map::new())
}

async fn deploy(gateway: &Gateway, client: &Client, name: &str, command: &str) {
    let answer = client.deploy_function().body(function(name, command)).send().await;
    assert_eq!(answer.expect("deployed").status(), 202);
    gateway.ready(name, "").await;
}

async fn replicas(client: &Client, name: &str, wanted: i64) {
    eventually(&format!("{wanted} replicas of {name}"), || async {
        let status = done(client.get_function().name(name).send().await);
        (status.replicas == wanted && status.available_replicas == wanted).then_some(())
    })
    .await;
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    pairs.collect()
}

/// The next line of a stream of JSON.
struct Lines {
    stream: ByteStream,
    read: Vec<u8>,
}

impl Lines {
    fn of(answer: ResponseValue<ByteStream>) -> Self {
        Self {
            stream: answer.into_inner(),
            read: Vec::new(),
        }
    }

    async fn next(&mut self) -> String {
        soon("a line", async {
            loop {
                if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.read.drain(..=end).collect();
                    return String::from_utf8(line).expect("text").trim_end().to_owned();
                }
                let chunk = self.stream.next().await.expect("the stream goes on");
                self.read.extend_from_slice(&chunk.expect("bytes"));
            }
        })
        .await
    }
}

#[tokio::test]
async fn who_has_no_or_wrong_credentials_is_refused_by_every_group() {
    let mut gateway = Gateway::new().basic_auth(USER, PASSWORD).start().await;
    let nobody = gateway.client();
    gateway.sign_in(USER, "wrong");
    let wrong = gateway.client();
    gateway.sign_in(USER, PASSWORD);
    let client = gateway.client();
    for client in [wrong, nobody] {
        for problem in [
            refused(client.list_functions().send().await),
            refused(client.deploy_function().body(function("cat", "cat")).send().await),
            refused(client.list_secrets().send().await),
            refused(client.list_namespaces().send().await),
            refused(client.list_async_calls().send().await),
            refused(client.get_config().send().await),
            refused(client.get_info().send().await),
            refused(client.list_store().send().await),
        ] {
            assert_eq!((problem.status, &*problem.title), (401, "Unauthorized"));
            assert_eq!(
                (&*problem.component, &*problem.detail),
                ("gateway", "invalid credentials")
            );
        }
        // Whether the gateway is well is no secret.
        assert_eq!(client.get_health().send().await.expect("well").status(), 200);
    }
    assert!(done(client.list_functions().send().await).is_empty());
}

#[tokio::test]
async fn the_life_of_a_function() {
    let (gateway, client) = signed_in("").await;
    let deployment = function("shout", "tr a-z A-Z").labels(labels(&[("team", "blue")]));
    let answer = client.deploy_function().body(deployment).send().await;
    assert_eq!(answer.expect("deployed").status(), 202);
    gateway.ready("shout", "").await;
    let called = Called::of(client.invoke_post().name("shout").body("hello").send().await).await;
    assert_eq!((called.status, &*called.body, called.by_gateway), (200, "HELLO", false));

    let listed = done(client.list_functions().send().await);
    assert_eq!(listed.len(), 1);
    assert_eq!((&*listed[0].name, listed[0].invocation_count), ("shout", Some(1.0)));
    assert_eq!(listed[0].labels["team"], "blue");

    gateway.scale("shout", 2).await;
    replicas(&client, "shout", 2).await;
    let told = done(client.explain_scaling().name("shout").send().await);
    assert_eq!((told.replicas, told.available_replicas), (2, 2));

    let deployment = function("shout", "rev").labels(labels(&[("team", "green")]));
    let answer = client.update_function().body(deployment).send().await;
    assert_eq!(answer.expect("updated").status(), 202);
    eventually("the other command", || async {
        let called = Called::of(client.invoke_post().name("shout").body("abc").send().await).await;
        (called.body.trim_end() == "cba").then_some(())
    })
    .await;
    let status = done(client.get_function().name("shout").send().await);
    assert_eq!(status.env_process.as_deref(), Some("rev"));
    assert_eq!(status.labels["team"], "green");
    assert!(status.created_at.timestamp() > 1_700_000_000);

    let gone = types::DeleteFunctionRequest::builder().function_name("shout");
    let answer = client.delete_function().body(gone.clone()).send().await;
    assert_eq!(answer.expect("deleted").status(), 202);
    eventually("the end of the function", || async {
        client.get_function().name("shout").send().await.is_err().then_some(())
    })
    .await;
    for problem in [
        refused(client.get_function().name("shout").send().await),
        refused(client.delete_function().body(gone).send().await),
        refused(client.update_function().body(function("shout", "rev")).send().await),
        refused(client.explain_scaling().name("shout").send().await),
        refused(client.get_logs().name("shout").send().await.map(|_| ())),
    ] {
        assert_eq!((problem.status, &*problem.component), (404, "provider"), "{problem:?}");
        assert!(problem.detail.contains("shout"), "{problem:?}");
    }
    let called = Called::of(client.invoke_post().name("shout").body("abc").send().await).await;
    assert_eq!((called.status, called.problem().status), (404, 404));
}

#[tokio::test]
async fn what_the_provider_refuses_is_a_problem_that_says_what_to_do() {
    let (gateway, client) = signed_in("").await;
    let deploying = |deployment| client.deploy_function().body(deployment).send();
    for (deployment, part) in [
        (function("ghost", "no-such-command --now"), "no-such-command"),
        (
            function("a", "cat").secrets(vec!["none".to_owned()]),
            "'none' does not exist",
        ),
        (
            function("a", "cat").limits(types::FunctionResources {
                memory: Some("much".to_owned()),
                ..types::FunctionResources::default()
            }),
            "limits.memory",
        ),
        (
            function("a", "cat").namespace("nowhere".parse::<types::FunctionDeploymentNamespace>().expect("a name")),
            "'nowhere' does not exist",
        ),
    ] {
        let problem = refused(deploying(deployment).await);
        assert_eq!(problem.status, 400, "{problem:?}");
        assert!(problem.detail.contains(part), "{problem:?}");
    }
    deploy(&gateway, &client, "cat", "cat").await;
    let many = types::ScaleServiceRequest::builder()
        .service_name("cat".to_owned())
        .replicas(5000);
    let problem = refused(client.scale_function().name("cat").body(many).send().await);
    assert_eq!(problem.status, 400);
    assert!(problem.detail.contains("5000"), "{problem:?}");
    let problem = refused(client.get_telemetry().send().await);
    assert_eq!((problem.status, &*problem.title), (501, "Not Implemented"));
    // What cannot be is not even sent.
    let sent = client.deploy_function().body(function("No Name", "cat")).send().await;
    assert!(matches!(&sent, Err(Error::InvalidRequest(_))), "{sent:?}");
}

#[tokio::test]
async fn an_error_of_a_function_is_its_own() {
    let (gateway, client) = signed_in("").await;
    let deployment = function("picky", &fixture("python3", "picky.py")).env_vars(labels(&[("mode", "http")]));
    done(client.deploy_function().body(deployment).send().await);
    gateway.ready("picky", "").await;
    for status in [400, 401, 404, 413, 418, 429, 500, 502, 503, 504] {
        let path = status.to_string();
        let called = Called::of(client.invoke_path_get().name("picky").path(path).send().await).await;
        assert_eq!(
            (called.status, called.by_gateway, &*called.body),
            (status, false, "[1]")
        );
    }
    let called = Called::of(client.invoke_get().name("nobody").send().await).await;
    let problem = called.problem();
    assert_eq!((problem.status, &*problem.title), (404, "Not Found"));
}

#[tokio::test]
async fn a_log_is_followed() {
    let (gateway, client) = signed_in("").await;
    deploy(&gateway, &client, "cat", "cat").await;
    let mut lines = Lines::of(client.get_logs().name("cat").follow(true).send().await.expect("a log"));
    Called::of(client.invoke_post().name("cat").body("hello").send().await).await;
    // The function writes while it is followed.
    loop {
        let line = lines.next().await;
        let message: types::LogMessage = serde_json::from_str(&line).expect("a message");
        assert_eq!((&*message.name, &*message.namespace), ("cat", "openfaas-fn"));
        if message.text.contains("Wrote 5 Bytes") {
            break;
        }
    }
    let tail = client.get_logs().name("cat").tail(1).send().await.expect("a log");
    assert_eq!(text(tail.into_inner()).await.lines().count(), 1);
}

#[tokio::test]
async fn the_life_of_a_secret() {
    let (gateway, client) = signed_in("").await;
    let secret = || types::Secret::builder().name("api-key");
    let names = async || -> Vec<String> {
        let listed = done(client.list_secrets().send().await);
        assert!(
            listed
                .iter()
                .all(|secret| secret.value.is_none() && secret.raw_value.is_none())
        );
        listed.iter().map(|secret| secret.name.to_string()).collect()
    };
    let answer = client
        .create_secret()
        .body(secret().value("one".to_owned()))
        .send()
        .await;
    assert_eq!(answer.expect("created").status(), 201);
    assert_eq!(names().await, ["api-key"]);
    let again = refused(
        client
            .create_secret()
            .body(secret().value("two".to_owned()))
            .send()
            .await,
    );
    assert_eq!((again.status, &*again.title), (409, "Conflict"));

    let reading = function("reads", "sh -c 'cat \"$FAAS_SECRETS_DIR/api-key\"'").secrets(vec!["api-key".to_owned()]);
    done(client.deploy_function().body(reading).send().await);
    gateway.ready("reads", "").await;
    let read = async || {
        Called::of(client.invoke_post().name("reads").body("").send().await)
            .await
            .body
    };
    assert_eq!(read().await, "one");
    // Bytes of any kind, in base64: "tw\0".
    done(
        client
            .update_secret()
            .body(secret().raw_value("dHcA".to_owned()))
            .send()
            .await,
    );
    eventually("the other value", || async { (read().await == "tw\0").then_some(()) }).await;

    gateway.remove("reads").await;
    done(client.delete_secret().body(secret()).send().await);
    assert!(names().await.is_empty());
    for problem in [
        refused(client.delete_secret().body(secret()).send().await),
        refused(client.update_secret().body(secret().value("x".to_owned())).send().await),
    ] {
        assert_eq!(problem.status, 404, "{problem:?}");
    }
}

#[tokio::test]
async fn the_life_of_a_namespace() {
    let (gateway, client) = signed_in("").await;
    let team = || types::FunctionNamespace::builder().name("team");
    let answer = client.create_named_namespace().name("team").body(team()).send().await;
    assert_eq!(answer.expect("created").status(), 201);
    let again = refused(client.create_namespace().body(team()).send().await);
    assert_eq!(again.status, 409);
    let labelled = team().labels(labels(&[("a", "b")]));
    done(client.update_namespace().name("team").body(labelled).send().await);
    let found = done(client.get_namespace().name("team").send().await);
    assert_eq!((&**found.name, found.labels), ("team", labels(&[("a", "b")])));
    assert_eq!(done(client.list_namespaces().send().await), ["openfaas-fn", "team"]);

    let there = function("cat", "cat").namespace("team".parse::<types::FunctionDeploymentNamespace>().expect("a name"));
    done(client.deploy_function().body(there).send().await);
    gateway.ready("cat", "team").await;
    let called = Called::of(client.invoke_post().name("cat.team").body("hi").send().await).await;
    assert_eq!((called.status, &*called.body), (200, "hi"));
    assert_eq!(done(client.list_functions().namespace("team").send().await).len(), 1);
    assert!(done(client.list_functions().send().await).is_empty());
    // Its functions go with it.
    done(client.delete_namespace().name("team").body(team()).send().await);
    eventually("the end of the function", || async {
        gateway.status("cat", "team").await.is_none().then_some(())
    })
    .await;
    assert_eq!(refused(client.get_namespace().name("team").send().await).status, 404);
}

#[tokio::test]
async fn an_asynchronous_call_is_kept_shown_and_its_result_is_there() {
    let (gateway, client) = signed_in("").await;
    deploy(&gateway, &client, "cat", "cat").await;
    let kept = client
        .invoke_path_async()
        .name("cat")
        .path("a")
        .body("later")
        .send()
        .await;
    let kept = kept.expect("kept");
    assert_eq!(kept.status(), 202);
    let id = kept.headers()["x-call-id"].to_str().expect("text").to_owned();
    let call = becomes(&client, &id, "succeeded").await;
    assert_eq!((&*call.function, &*call.path, call.attempts.len()), ("cat", "/a", 1));
    let result = call.result.expect("a result");
    assert_eq!((result.status, result.body.as_deref()), (200, Some("later")));
    let listed = done(
        client
            .list_async_calls()
            .function("cat")
            .state("succeeded")
            .send()
            .await,
    );
    assert_eq!(listed.calls.len(), 1);
    let status = done(client.get_async_status().send().await);
    assert_eq!(
        (status.paused, status.counts[0].calls, &*status.counts[0].state),
        (false, 1, "succeeded")
    );

    let late = refused(client.cancel_async_call().name(&id).send().await);
    assert_eq!((late.status, &*late.title), (409, "Conflict"));
    for problem in [
        refused(client.get_async_call().id("none").send().await),
        refused(client.redrive_async_call().id("none").send().await),
        refused(client.cancel_async_call().name("none").send().await),
        refused(client.invoke_async().name("nobody").body("").send().await),
    ] {
        assert_eq!(problem.status, 404, "{problem:?}");
    }
}

#[tokio::test]
async fn asynchronous_calls_are_held_cancelled_and_driven_again() {
    let (gateway, client) = signed_in("[queue]\nattempts = 1\n").await;
    deploy(&gateway, &client, "cat", "cat").await;
    deploy(&gateway, &client, "fails", "false").await;
    let keep = async |name: &str| {
        let kept = client.invoke_async().name(name).body("x").send().await.expect("kept");
        kept.headers()["x-call-id"].to_str().expect("text").to_owned()
    };
    done(client.pause_async_calls().function("cat").send().await);
    let id = keep("cat").await;
    let status = done(client.get_async_status().send().await);
    assert_eq!(status.paused_functions, ["cat.openfaas-fn"]);
    assert_eq!(done(client.get_async_call().id(&id).send().await).state, "queued");
    done(client.cancel_async_call().name(&id).send().await);
    becomes(&client, &id, "cancelled").await;
    done(client.resume_async_calls().function("cat").send().await);

    let id = keep("fails").await;
    let dead = becomes(&client, &id, "dead").await;
    assert_eq!(dead.attempts[0].status, Some(500));
    let again = function("fails", "cat");
    done(client.update_function().body(again).send().await);
    eventually("the command that works", || async {
        let called = Called::of(client.invoke_post().name("fails").body("x").send().await).await;
        (called.status == 200).then_some(())
    })
    .await;
    done(client.redrive_async_call().id(&id).send().await);
    let call = becomes(&client, &id, "succeeded").await;
    assert_eq!(call.result.expect("a result").body.as_deref(), Some("x"));
    let done_to = done(client.redrive_async_calls().state("dead").send().await);
    assert_eq!(done_to.calls, 0);
    let purged = done(client.purge_async_calls().state("succeeded").send().await);
    assert_eq!(purged.calls, 1);
    assert_eq!(refused(client.get_async_call().id(&id).send().await).status, 404);
}

async fn becomes(client: &Client, id: &str, state: &str) -> types::AsyncCall {
    eventually(&format!("call {id} {state}"), || async {
        let call = done(client.get_async_call().id(id).send().await);
        (call.state == state).then_some(call)
    })
    .await
}

#[tokio::test]
async fn a_configuration_is_shown_checked_compared_and_read_again() {
    let (gateway, client) = signed_in("reload.watch = \"off\"").await;
    let write = |toml: &str| std::fs::write(gateway.config_file(), toml).expect("written");
    let candidate = |content: &str| {
        let file = types::ConfigCandidateFile {
            name: "gateway.toml".parse().expect("a name"),
            content: content.parse().expect("a text"),
        };
        types::ConfigCandidate { files: vec![file] }
    };
    let first = done(client.get_config_status().send().await);
    assert_eq!((first.generation, &*first.last_attempt.result), (1, "applied"));
    let live = done(client.get_config().send().await);
    assert_eq!((live.generation, &live.hash), (1, &first.hash));
    assert!(
        live.values
            .iter()
            .any(|value| value.key == "server.read_timeout" && value.live)
    );

    let good = "reload.watch = \"off\"\n[server]\nread_timeout = \"7s\"\n";
    assert!(done(client.validate_config().body(candidate(good)).send().await).ok);
    let diff = done(client.diff_config().body(candidate(good)).send().await);
    assert_eq!(diff.changes.len(), 1);
    assert_eq!(
        (&*diff.changes[0].key, &*diff.changes[0].effect),
        ("server.read_timeout", "live")
    );
    let bad = "[server]\nread_timeout = \"soon\"\nlisen = \"x\"\n";
    for problem in [
        refused(client.validate_config().body(candidate(bad)).send().await),
        refused(client.diff_config().body(candidate(bad)).send().await),
    ] {
        assert_eq!((problem.status, problem.errors.len()), (422, 2), "{problem:?}");
    }

    write(bad);
    let problem = refused(client.reload_config().send().await);
    assert_eq!((problem.status, problem.errors.len()), (422, 2));
    write(good);
    let problem = refused(client.reload_config().if_match("\"another\"").send().await);
    assert_eq!((problem.status, &*problem.title), (412, "Precondition Failed"));
    let tag = format!("\"{}\"", first.hash);
    let outcome = done(client.reload_config().if_match(tag).send().await);
    assert_eq!((&*outcome.result, outcome.generation), ("applied", 2));
    assert_eq!(outcome.changed, ["server.read_timeout"]);
    let status = done(client.get_config_status().send().await);
    assert_eq!((status.generation, &status.hash), (2, &outcome.hash));
    assert_eq!(status.history.len(), 2, "{:?}", status.history);
}

#[tokio::test]
async fn a_gateway_says_what_it_is_and_what_could_run_on_it() {
    let (_gateway, client) = signed_in("").await;
    let info = done(client.get_info().send().await);
    assert_eq!(
        (&*info.provider.provider, info.version.release.is_empty()),
        ("faas-gateway-process", false)
    );
    let health = client.get_health().send().await.expect("well").into_inner();
    assert_eq!(text(health).await, "OK");

    let store = done(client.list_store().send().await);
    assert!(!store.functions.is_empty() && !store.stores.is_empty());
    let first = &store.functions[0];
    let found = done(client.list_store().search(&first.name).send().await);
    assert!(found.functions.iter().any(|function| function.name == first.name));
    let problem = refused(client.list_store().store("none").send().await);
    assert_eq!(problem.status, 404, "{problem:?}");
}

#[tokio::test]
async fn what_happens_is_followed() {
    let (gateway, client) = signed_in("").await;
    let mut lines = Lines::of(client.stream_events().send().await.expect("events"));
    let mut next = async |kind: &str, part: &str| loop {
        let line = lines.next().await;
        if line == format!("event: {kind}") {
            let data = loop {
                let line = lines.next().await;
                if let Some(data) = line.strip_prefix("data: ") {
                    break data.to_owned();
                }
            };
            if data.contains(part) {
                return data;
            }
        }
    };
    next("snapshot", "").await;
    deploy(&gateway, &client, "cat", "cat").await;
    next("function", "\"cat\"").await;
    // One look at what there is.
    let once = client.stream_events().follow(false).send().await.expect("events");
    assert!(text(once.into_inner()).await.contains("snapshot"));
}
