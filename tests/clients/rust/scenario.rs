//! What a user of the generated client does, from the first refusal to the last 404.

use std::{
    collections::HashMap,
    env,
    fmt::Debug,
    process::exit,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use faas_gateway_client::{ByteStream, Client, Error, ResponseValue, Sender, types};
use futures::StreamExt as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

const NAME: &str = "scenario";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn signed_in(user: &str, password: &str) -> Client {
    let token = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let value = HeaderValue::try_from(format!("Basic {token}")).expect("base64");
    connected(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn connected(headers: HeaderMap) -> Client {
    let client = reqwest::Client::builder().default_headers(headers).build();
    Client::new_with_client(&variable("GATEWAY_URL"), client.expect("a client"), Sender::default())
}

fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, found {found:?}").into())
}

async fn eventually<T: PartialEq + Debug>(what: &str, look: impl AsyncFn() -> Result<T>, expected: T) -> Result {
    let until = Instant::now() + Duration::from_secs(20);
    let mut found = look().await?;
    while found != expected && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = look().await?;
    }
    expect(what, found, expected)
}

/// The problem that a call ends with.
fn problem<T: Debug>(result: std::result::Result<T, Error<types::Problem>>) -> Result<types::Problem> {
    match result {
        Err(Error::ErrorResponse(response)) => Ok(response.into_inner()),
        other => Err(format!("expected a problem, found {other:?}").into()),
    }
}

/// An error of a call, whoever it is from.
fn own(result: std::result::Result<ResponseValue<ByteStream>, Error<ByteStream>>) -> Result<ResponseValue<ByteStream>> {
    match result {
        Err(Error::ErrorResponse(response)) => Ok(response),
        Err(other) => Err(format!("expected an answer, found {other:?}").into()),
        Ok(answer) => Err(format!("expected an error, found {}", answer.status()).into()),
    }
}

async fn text(mut stream: ByteStream) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(bytes)?)
}

struct Scenario {
    client: Client,
}

impl Scenario {
    async fn step(&self, name: &str) -> Result {
        match name {
            "refused without credentials" => refused(&connected(HeaderMap::new())).await,
            "refused with wrong credentials" => refused(&signed_in(&variable("GATEWAY_USER"), "wrong")).await,
            "deploy" => self.deploy().await,
            "ready" => eventually("available replicas", async || self.available().await, 1).await,
            "invoke" => self.invoke().await,
            "errors of calls" => self.errors_of_calls().await,
            "scale" => self.scale().await,
            "logs" => self.logs().await,
            "secrets" => self.secrets().await,
            "namespaces" => self.namespaces().await,
            "asynchronous call" => self.asynchronous_call().await,
            "config status" => self.config_status().await,
            "delete" => self.delete().await,
            _ => Err("there is no such step".into()),
        }
    }

    async fn status(&self) -> Result<types::FunctionStatus> {
        Ok(self.client.get_function().name(NAME).send().await?.into_inner())
    }

    async fn available(&self) -> Result<i64> {
        Ok(self.status().await?.available_replicas)
    }

    async fn deploy(&self) -> Result {
        let labels = [("scenario".to_owned(), "yes".to_owned())];
        let body = types::FunctionDeployment::builder()
            .service(NAME)
            .image("local")
            .env_process("cat".to_owned())
            .labels(HashMap::from(labels))
            // Fields of other providers: any are taken, and progenitor wants to be told that there are none.
            .extra(serde_json::Map::new());
        let answer = self.client.deploy_function().body(body).send().await?;
        expect("status", answer.status().as_u16(), 202)?;
        let functions = self.client.list_functions().send().await?.into_inner();
        expect("functions", functions.len(), 1)?;
        let found = (
            functions[0].name.as_str(),
            functions[0].env_process.as_deref(),
            functions[0].labels.get("scenario").map(String::as_str),
        );
        expect("function", found, (NAME, Some("cat"), Some("yes")))
    }

    async fn invoke(&self) -> Result {
        let answer = self.client.invoke_post().name(NAME).body("héllo\n").send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        expect("status", answer.status().as_u16(), 200)?;
        expect("body", text(answer.into_inner()).await?.as_str(), "héllo\n")
    }

    async fn errors_of_calls(&self) -> Result {
        let body = types::FunctionDeployment::builder()
            .service("picky")
            .image("local")
            .env_process(variable("PICKY"))
            .env_vars(HashMap::from([("mode".to_owned(), "http".to_owned())]))
            .extra(serde_json::Map::new());
        self.client.deploy_function().body(body).send().await?;
        let available = async || {
            let status = self.client.get_function().name("picky").send().await?;
            Ok(status.available_replicas)
        };
        eventually("available replicas", available, 1).await?;
        // The function's own: bytes.
        let own = own(self.client.invoke_path_get().name("picky").path("404").send().await)?;
        let is_of_gateway = own.headers().contains_key("x-openfaas-internal");
        let found = (own.status().as_u16(), is_of_gateway, text(own.into_inner()).await?);
        expect("own", found, (404, false, "[1]".to_owned()))?;
        let body = types::DeleteFunctionRequest::builder().function_name("picky");
        self.client.delete_function().body(body).send().await?;
        // The gateway's, with its header.
        let answer = self::own(self.client.invoke_get().name("nobody").send().await)?;
        let is_of_gateway = answer.headers().contains_key("x-openfaas-internal");
        let problem: types::Problem = serde_json::from_str(&text(answer.into_inner()).await?)?;
        expect("problem", (is_of_gateway, problem.status), (true, 404))
    }

    async fn scale(&self) -> Result {
        let body = types::ScaleServiceRequest::builder()
            .service_name(NAME.to_owned())
            .replicas(2);
        let answer = self.client.scale_function().name(NAME).body(body).send().await?;
        expect("status", answer.status().as_u16(), 202)?;
        eventually("available replicas", async || self.available().await, 2).await?;
        expect("replicas", self.status().await?.replicas, 2)
    }

    /// A stream: followed, and left after its first entry.
    async fn logs(&self) -> Result {
        let answer = self.client.get_logs().name(NAME).follow(true).send().await?;
        expect("status", answer.status().as_u16(), 200)?;
        let mut stream = answer.into_inner();
        let mut bytes = Vec::new();
        while !bytes.contains(&b'\n') {
            bytes.extend_from_slice(&stream.next().await.ok_or("the log ended")??);
        }
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let entry: types::LogMessage = serde_json::from_slice(line)?;
        expect(
            "entry",
            (entry.name.as_str(), entry.text.as_str()),
            (NAME, "Forking fprocess."),
        )?;
        let age = (chrono::Utc::now() - entry.timestamp).abs();
        expect("recent", age < chrono::TimeDelta::minutes(2), true)
    }

    async fn secret_names(&self) -> Result<Vec<String>> {
        let secrets = self.client.list_secrets().send().await?.into_inner();
        Ok(secrets.into_iter().map(|secret| secret.name.to_string()).collect())
    }

    async fn secrets(&self) -> Result {
        let secret = || types::Secret::builder().name("token");
        let created = self
            .client
            .create_secret()
            .body(secret().value("one".to_owned()))
            .send()
            .await?;
        expect("created", created.status().as_u16(), 201)?;
        expect("names", self.secret_names().await?, vec!["token".to_owned()])?;
        let raw = BASE64_STANDARD.encode("two");
        let updated = self.client.update_secret().body(secret().raw_value(raw)).send().await?;
        expect("updated", updated.status().as_u16(), 202)?;
        let deleted = self.client.delete_secret().body(secret()).send().await?;
        expect("deleted", deleted.status().as_u16(), 202)?;
        expect("names", self.secret_names().await?, vec![])
    }

    async fn namespaces(&self) -> Result {
        let team = || types::FunctionNamespace::builder().name("team");
        let created = self
            .client
            .create_named_namespace()
            .name("team")
            .body(team())
            .send()
            .await?;
        expect("created", created.status().as_u16(), 201)?;
        let labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let labelled = team().labels(labels.clone());
        let updated = self
            .client
            .update_namespace()
            .name("team")
            .body(labelled)
            .send()
            .await?;
        expect("updated", updated.status().as_u16(), 202)?;
        let found = self.client.get_namespace().name("team").send().await?.into_inner();
        expect("labels", found.labels, labels)?;
        let names = self.client.list_namespaces().send().await?.into_inner();
        expect("listed", names.iter().any(|name| name == "team"), true)?;
        let deleted = self.client.delete_namespace().name("team").body(team()).send().await?;
        expect("deleted", deleted.status().as_u16(), 202)?;
        let gone = problem(self.client.get_namespace().name("team").send().await)?;
        expect("gone", gone.status, 404)
    }

    async fn asynchronous_call(&self) -> Result {
        let answer = self.client.invoke_async().name(NAME).body("later").send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        expect("status", answer.status().as_u16(), 202)?;
        let id = answer.headers()["x-call-id"].to_str()?;
        let call =
            async || -> Result<types::AsyncCall> { Ok(self.client.get_async_call().id(id).send().await?.into_inner()) };
        eventually("state", async || Ok(call().await?.state), "succeeded".to_owned()).await?;
        let result = call().await?.result.ok_or("there is no result")?;
        expect("result", (result.status, result.body.as_deref()), (200, Some("later")))
    }

    async fn config_status(&self) -> Result {
        let found = self.client.get_config_status().send().await?.into_inner();
        let status = (
            found.generation,
            found.last_attempt.result.as_str(),
            found.pending_restart.len(),
        );
        expect("status", status, (1, "applied", 0))
    }

    async fn delete(&self) -> Result {
        let body = types::DeleteFunctionRequest::builder().function_name(NAME);
        let answer = self.client.delete_function().body(body).send().await?;
        expect("status", answer.status().as_u16(), 202)?;
        let look = async || Ok(self.client.get_function().name(NAME).send().await.is_err());
        eventually("the function is gone", look, true).await?;
        let gone = problem(self.client.get_function().name(NAME).send().await)?;
        expect("problem", (gone.status, gone.title.as_str()), (404, "Not Found"))
    }
}

async fn refused(client: &Client) -> Result {
    let problem = problem(client.list_functions().send().await)?;
    let found = (problem.status, problem.component.as_str(), problem.detail.as_str());
    expect("problem", found, (401, "gateway", "invalid credentials"))
}

const STEPS: [&str; 13] = [
    "refused without credentials",
    "refused with wrong credentials",
    "deploy",
    "ready",
    "invoke",
    "errors of calls",
    "scale",
    "logs",
    "secrets",
    "namespaces",
    "asynchronous call",
    "config status",
    "delete",
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = signed_in(&variable("GATEWAY_USER"), &variable("GATEWAY_PASSWORD"));
    let scenario = Scenario { client };
    for name in STEPS {
        if let Err(failure) = scenario.step(name).await {
            println!("FAILED {name}: {failure}");
            exit(1);
        }
        println!("ok {name}");
    }
}
