//! `GET /system/store`: what there is to choose from, where it comes from, and what of
//! it can be deployed here.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use faas_gateway_client::types;
use http::{Method, Response, header};
use serde_json::{Value, json};

use crate::support::{
    Gateway, Upstream, eventually, soon,
    typed::done,
    upstream::{Body, text},
};

const STORE: &str = "/system/store";

async fn listed(gateway: &Gateway, query: &str) -> Value {
    let path = format!("{STORE}{query}");
    let answer = soon("the list", gateway.get(&path).send()).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

/// The store of a name.
fn store<'l>(list: &'l Value, name: &str) -> &'l Value {
    let stores = list["stores"].as_array().expect("stores");
    stores
        .iter()
        .find(|store| store["name"] == name)
        .unwrap_or_else(|| panic!("{name} is not in {stores:?}"))
}

/// Names of the functions, with their stores where that is asked for.
fn names(list: &Value, of: &str) -> Vec<String> {
    let functions = list["functions"].as_array().expect("functions").iter();
    functions
        .filter(|function| function["store"] == of)
        .map(|function| function["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// A list with entries of these names.
fn list(names: &[&str]) -> String {
    let functions: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "title": name, "images": { "x86_64": format!("ghcr.io/x/{name}:1"), "arm64": "ghcr.io/x/arm:1" } }))
        .collect();
    json!({ "version": "0.2.0", "functions": functions }).to_string()
}

/// What a server answers now.
type Script = Arc<Mutex<Box<dyn Fn(Option<&str>) -> Response<Body> + Send>>>;

/// A server of one list, whose answer depends on `If-None-Match`; how often it was asked.
async fn server(
    answer: impl Fn(Option<&str>) -> Response<Body> + Send + 'static,
) -> (Upstream, Script, Arc<AtomicUsize>) {
    let script: Script = Arc::new(Mutex::new(Box::new(answer)));
    let asked = Arc::new(AtomicUsize::new(0));
    let (now, count) = (Arc::clone(&script), Arc::clone(&asked));
    let upstream = Upstream::start().await.function("store", move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let tag = request.headers().get(header::IF_NONE_MATCH);
        let answer = now.lock().expect("no panic")(tag.and_then(|tag| tag.to_str().ok()));
        async move { answer }
    });
    (upstream, script, asked)
}

fn config(name: &str, url: &str, more: &str) -> String {
    format!("[[stores]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n")
}

/// On this machine, and old at once.
const HERE: &str = "allow_private = true\nttl = \"1ms\"";

fn url_of(upstream: &Upstream) -> String {
    format!("{}/function/store", upstream.url())
}

/// Deploys an entry as a client does.
async fn deploy(gateway: &Gateway, entry: &types::StoreFunction) {
    let deployment = types::FunctionDeployment::builder()
        .service(&*entry.name)
        .image(entry.image.clone().expect("an image"))
        .env_process(entry.fprocess.clone())
        .env_vars(entry.environment.clone())
        .labels(entry.labels.clone())
        .extra(serde_json::Map::new());
    done(gateway.client().deploy_function().body(deployment).send().await);
    gateway.ready(&entry.name, "").await;
}

/// Calls an embedded function and looks at the answer.
async fn check(gateway: &Gateway, name: &str) {
    let call = async |body: &'static str| gateway.invoke(&format!("/function/{name}"), body).await;
    match name {
        "echo" => assert_eq!(call("hello\n").await, "hello\n"),
        "env-report" => {
            let text = call("").await;
            assert!(
                text.contains("greeting=change me") && text.contains("Http_Method=POST"),
                "{text}"
            );
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with("Http_")).collect();
            assert!(lines.len() > 1, "{text}");
        }
        "word-count" => {
            let counted: Value = serde_json::from_str(&call("one two\nthree\n").await).expect("JSON");
            assert_eq!(counted, json!({ "lines": 2, "words": 3 }));
        }
        "upper" => assert_eq!(call("shout").await, "SHOUT"),
        "sha256" => assert_eq!(
            call("abc").await.trim(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ),
        "json-pretty" => assert_eq!(call(r#"{"a":[1]}"#).await, "{\n    \"a\": [\n        1\n    ]\n}\n"),
        "clock" => {
            let mut answer = gateway.post("/function/clock").send().await.expect("an answer");
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            let first = soon("a tick", answer.chunk()).await.expect("a chunk").expect("no end");
            assert!(first.starts_with(b"event: tick\ndata: 2"), "{first:?}");
        }
        "slow" => assert_eq!(call("0").await, "slept for 0 s\n"),
        "hello-page" => {
            let answer = gateway.get("/function/hello-page/a&b").send().await.expect("an answer");
            assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
            let page = answer.text().await.expect("a page");
            assert!(page.contains("<code>/a&amp;b</code>"), "{page}");
        }
        "webhook-log" => {
            assert_eq!(call("a payload").await, "accepted\n");
            eventually("the payload in the log", || async {
                let log = gateway.get("/system/logs?name=webhook-log").send().await.ok()?;
                let log = log.text().await.ok()?;
                (log.contains("POST /") && log.contains("a payload")).then_some(())
            })
            .await;
        }
        other => panic!("nobody knows what {other} answers"),
    }
}

#[tokio::test]
async fn every_embedded_function_deploys_and_answers() {
    let gateway = Gateway::new().start().await;
    let list = done(gateway.client().list_store().send().await);
    assert_eq!(list.version, "0.2.0");
    let [embedded] = &list.stores[..] else {
        panic!("{:?}", list.stores);
    };
    assert_eq!(
        (&*embedded.name, &*embedded.kind, &*embedded.state),
        ("embedded", "embedded", "fresh")
    );
    assert!(list.functions.len() >= 8, "{}", list.functions.len());
    for entry in &list.functions {
        let name = &*entry.name;
        assert_eq!(
            (&*entry.store, entry.image.as_deref()),
            ("embedded", Some("local")),
            "{name}"
        );
        if !entry.deployable {
            let (needs, reason) = (&entry.requires[0], entry.reason.as_ref().expect("a reason"));
            assert!(reason.contains(needs), "{name}: {reason}");
            continue;
        }
        deploy(&gateway, entry).await;
        check(&gateway, name).await;
    }
}

#[tokio::test]
async fn what_cannot_be_deployed_here_says_why() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), list(&["figlet"])).expect("written");
    let path = format!("[[stores]]\nname = \"ours\"\npath = \"{}\"\n", file.path().display());
    let local = Gateway::new().config(&path).start().await;
    let found = listed(&local, "?store=ours&architecture=x86_64").await;
    let figlet = &found["functions"][0];
    assert_eq!(
        (&figlet["deployable"], &figlet["image"]),
        (&json!(false), &json!("ghcr.io/x/figlet:1"))
    );
    let reason = figlet["reason"].as_str().expect("a reason");
    assert!(reason.contains("container image"), "{reason}");

    let upstream = Upstream::start().await;
    let remote = Gateway::before(&upstream.url()).config(&path).start().await;
    let found = listed(&remote, "?architecture=arm64").await;
    for entry in found["functions"].as_array().expect("functions") {
        let is_ours = entry["store"] == "ours";
        assert_eq!(entry["deployable"], is_ours, "{entry}");
        assert_eq!(entry["reason"].is_null(), is_ours, "{entry}");
    }
    assert_eq!(names(&found, "ours"), ["figlet"]);
    let found = listed(&remote, "?store=ours&architecture=armhf").await;
    let figlet = &found["functions"][0];
    assert_eq!(
        (figlet.get("image"), &figlet["reason"]),
        (None, &json!("there is no image for armhf"))
    );

    for (query, status) in [("?store=none", 404), ("?architecture=vax", 400)] {
        let answer = remote.get(&format!("{STORE}{query}")).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{query}");
    }
    let found = listed(&remote, "?search=count%20WORDS").await;
    assert_eq!(names(&found, "embedded"), ["word-count"]);
}

#[tokio::test]
async fn a_list_is_asked_for_by_its_tag_and_stays_when_it_cannot_be_had() {
    let first = |tag: Option<&str>| {
        if tag == Some("\"one\"") {
            return text(304, "");
        }
        let mut answer = text(200, &list(&["figlet", "cows"]));
        answer
            .headers_mut()
            .insert(header::ETAG, "\"one\"".parse().expect("a value"));
        answer
    };
    let (upstream, script, asked) = server(first).await;
    let gateway = Gateway::new()
        .config(&config("theirs", &url_of(&upstream), HERE))
        .start()
        .await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody has looked");
    let found = listed(&gateway, "").await;
    assert_eq!(names(&found, "theirs"), ["figlet", "cows"]);
    assert_eq!(store(&found, "theirs")["kind"], "url");
    eventually("it is asked for again", || async {
        listed(&gateway, "").await;
        (asked.load(Ordering::SeqCst) > 2).then_some(())
    })
    .await;
    let found = listed(&gateway, "").await;
    assert_eq!(names(&found, "theirs"), ["figlet", "cows"]);
    assert!(store(&found, "theirs").get("error").is_none(), "{found}");

    for (answer, error) in [
        ((500, "oops".to_owned()), "the answer was 500"),
        ((200, "{".to_owned()), "the list is not JSON"),
        ((200, "[]".to_owned()), "the list is not a store's"),
        ((200, " ".repeat((4 << 20) + 1)), "the list is larger than"),
    ] {
        let (status, body) = answer;
        *script.lock().expect("no panic") = Box::new(move |_| text(status, &body));
        let found = eventually(error, || async {
            let found = listed(&gateway, "").await;
            let told = store(&found, "theirs")["error"].as_str().unwrap_or_default().to_owned();
            told.starts_with(error).then_some(found)
        })
        .await;
        assert_eq!(store(&found, "theirs")["state"], "stale", "{error}");
        assert_eq!(names(&found, "theirs"), ["figlet", "cows"], "{error}");
    }

    let one_bad = json!({ "functions": [
        { "name": "Bad Name", "images": { "x86_64": "a" } },
        { "name": "good", "images": { "x86_64": "a" } },
    ] });
    *script.lock().expect("no panic") = Box::new(move |_| text(200, &one_bad.to_string()));
    let found = eventually("the new list", || async {
        let found = listed(&gateway, "").await;
        (names(&found, "theirs") == ["good"]).then_some(found)
    })
    .await;
    let theirs = store(&found, "theirs");
    assert!(theirs.get("error").is_none(), "{theirs}");
    assert_eq!(theirs["refused"][0]["entry"], "0");
    assert!(
        theirs["refused"][0]["reason"]
            .as_str()
            .expect("a reason")
            .contains("`name`")
    );
}

#[tokio::test]
async fn urls_lead_to_this_machine_only_where_that_is_permitted_and_redirects_never() {
    let (target, _, asked) = server(|_| text(200, &list(&["secret"]))).await;
    let to = url_of(&target);
    let (redirecting, _, _) = server(move |_| {
        let mut answer = text(302, "");
        answer
            .headers_mut()
            .insert(header::LOCATION, to.parse().expect("a value"));
        answer
    })
    .await;
    let by_name = url_of(&target).replace("127.0.0.1", "localhost");
    let stores = [
        config("plain", &url_of(&target), ""),
        config("by-name", &by_name, ""),
        config("redirected", &url_of(&redirecting), HERE),
        config("permitted", &by_name, HERE),
    ];
    let gateway = Gateway::new().config(&stores[..3].concat()).start().await;
    let found = listed(&gateway, "").await;
    for name in ["plain", "by-name", "redirected"] {
        let refused = store(&found, name);
        assert_eq!(refused["state"], "failed", "{refused}");
        let error = refused["error"].as_str().expect("an error");
        assert!(error.contains("not of the public internet"), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    gateway.configure(&stores[3]).await;
    assert_eq!(names(&listed(&gateway, "").await, "permitted"), ["secret"]);
}

#[tokio::test]
async fn reloads_add_order_and_remove_stores_and_files_are_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("store.json");
    std::fs::write(&file, list(&["echo", "a"])).expect("written");
    let gateway = Gateway::new().config("logging.level = \"info\"").start().await;
    let order = |found: &Value| -> Vec<String> {
        let stores = found["stores"].as_array().expect("stores").iter();
        stores
            .map(|store| store["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(order(&listed(&gateway, "").await), ["embedded"]);
    let reload = async |content: String| {
        gateway.configure(&content).await;
    };
    let ours = format!(
        "[[stores]]\nname = \"ours\"\npath = \"{}\"\nttl = \"1ms\"\npriority = 5\n",
        file.display()
    );
    reload(ours.clone()).await;
    let found = listed(&gateway, "").await;
    assert_eq!(order(&found), ["ours", "embedded"]);
    let first: Vec<_> = found["functions"].as_array().expect("functions")[..2]
        .iter()
        .map(|function| (function["store"].clone(), function["name"].clone()))
        .collect();
    assert_eq!(first, [(json!("ours"), json!("echo")), (json!("ours"), json!("a"))]);
    assert!(names(&found, "embedded").contains(&"echo".to_owned()), "both are there");

    std::fs::write(&file, list(&["another"])).expect("written");
    eventually("the file's new list", || async {
        (names(&listed(&gateway, "").await, "ours") == ["another"]).then_some(())
    })
    .await;
    std::fs::remove_file(&file).expect("removed");
    let found = eventually("the file is missed", || async {
        let found = listed(&gateway, "").await;
        store(&found, "ours").get("error").is_some().then_some(found)
    })
    .await;
    assert_eq!(
        (&store(&found, "ours")["state"], names(&found, "ours")),
        (&json!("stale"), vec!["another".to_owned()])
    );

    reload(format!("{ours}[[stores]]\nname = \"embedded\"\nenabled = false\n")).await;
    assert_eq!(order(&listed(&gateway, "").await), ["ours"]);
    reload("logging.level = \"info\"".to_owned()).await;
    assert_eq!(order(&listed(&gateway, "").await), ["embedded"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_nobody_up() {
    let silent = Upstream::start().await.function("store", |_| std::future::pending());
    let gateway = Gateway::new()
        .config(&config("theirs", &url_of(&silent), HERE))
        .start()
        .await;
    let found = listed(&gateway, "").await;
    assert_eq!(store(&found, "theirs")["state"], "pending");
    assert!(!names(&found, "embedded").is_empty());
    eventually("it is given up", || async {
        let found = listed(&gateway, "").await;
        let theirs = store(&found, "theirs");
        let error = theirs["error"].as_str()?;
        assert!(error.contains("within 10s"), "{error}");
        (theirs["state"] == "failed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn clients_of_openfaas_read_it_as_a_store() {
    let gateway = Gateway::new().start().await;
    let found = listed(&gateway, "").await;
    // What faas-cli's types demand: texts, maps of texts, and a bool.
    for function in found["functions"].as_array().expect("functions") {
        let is_text = |key: &str| function.get(key).is_none_or(Value::is_string);
        assert!(
            [
                "title",
                "name",
                "description",
                "icon",
                "fprocess",
                "network",
                "repo_url"
            ]
            .into_iter()
            .all(is_text)
        );
        for key in ["images", "environment", "labels", "annotations"] {
            let texts = function
                .get(key)
                .is_none_or(|map| map.as_object().is_some_and(|map| map.values().all(Value::is_string)));
            assert!(texts, "{key} of {function}");
        }
        let architectures: BTreeSet<_> = function["images"].as_object().expect("images").keys().collect();
        assert!(architectures.contains(&"x86_64".to_owned()));
    }
    let (status, _) = gateway.send(Method::POST, STORE, &json!({})).await;
    assert_eq!(status, 405);
}
