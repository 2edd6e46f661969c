//! The provider's REST contract over a provider in memory: what comes in as a
//! request goes through the trait and back out as the contract has it.

use std::collections::BTreeMap;

use bytes::Bytes;
use faas_gateway::{
    model::{
        DeleteFunctionRequest, FunctionDeployment, FunctionNamespace, FunctionRef, LogMessage, LogQuery,
        ScaleServiceRequest, Secret, from_json, to_json,
    },
    problem::Problem,
    provider::{LogStream, Provider, ProviderError, Result, memory::MemoryProvider},
};
use futures_util::{StreamExt, stream};
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use poem_openapi::types::ParseFromJSON;

use super::{Answer, Asked, Reply, response};

/// The reply to one request.
pub(super) async fn reply(provider: &MemoryProvider, asked: &Asked) -> Reply {
    if asked.method == "GET" && asked.path == "/system/logs" {
        return match provider.logs(log_query(asked)).await {
            Ok(stream) => stream_reply(stream),
            Err(error) => response(refused(error)),
        };
    }
    response(answer(provider, asked).await.unwrap_or_else(refused))
}

async fn answer(provider: &MemoryProvider, asked: &Asked) -> Result<Answer> {
    let path: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    let namespace = asked.parameter("namespace").unwrap_or_default();
    let function = |name: &str| FunctionRef::new(name, &*namespace);
    let done = |(): ()| Answer::empty(202);
    let shown = |json: String| Answer::chunks(&[&json]);
    match (asked.method.as_str(), path.as_slice()) {
        (_, ["healthz"]) => provider.health().await.map(|()| Answer::text(200, "OK")),
        ("GET", ["system", "info"]) => provider.info().await.map(|info| shown(to_json(&info))),
        ("GET", ["system", "functions"]) => provider.list(&namespace).await.map(|list| shown(to_json(&list))),
        ("POST", ["system", "functions"]) => provider.deploy(body::<FunctionDeployment>(asked)?).await.map(done),
        ("PUT", ["system", "functions"]) => provider.update(body(asked)?).await.map(done),
        ("DELETE", ["system", "functions"]) => {
            let request: DeleteFunctionRequest = body(asked)?;
            provider.delete(&function(&request.function_name)).await.map(done)
        }
        ("GET", ["system", "function", name]) => {
            let usage = asked.parameter("usage").as_deref() == Some("1");
            let status = provider.status(&function(name), usage).await?;
            Ok(shown(to_json(&status)))
        }
        ("POST", ["system", "scale-function", name]) => {
            let request: ScaleServiceRequest = body(asked)?;
            provider.scale(&function(name), request.replicas).await.map(done)
        }
        ("GET", ["system", "secrets"]) => provider
            .list_secrets(&namespace)
            .await
            .map(|list| shown(to_json(&list))),
        ("POST", ["system", "secrets"]) => provider.create_secret(body(asked)?).await.map(done),
        ("PUT", ["system", "secrets"]) => provider.update_secret(body(asked)?).await.map(done),
        ("DELETE", ["system", "secrets"]) => {
            let secret: Secret = body(asked)?;
            provider.delete_secret(&secret.name, &namespace).await.map(done)
        }
        ("GET", ["system", "namespaces"]) => provider.list_namespaces().await.map(|list| shown(to_json(&list))),
        ("POST", ["system", "namespace", ""]) => provider.create_namespace(body(asked)?).await.map(done),
        ("GET", ["system", "namespace", name]) => {
            let namespace = provider.namespace(name).await?;
            Ok(shown(to_json(&namespace)))
        }
        ("PUT", ["system", "namespace", name]) => {
            let sent: FunctionNamespace = body(asked)?;
            let namespace = FunctionNamespace {
                name: (*name).to_owned(),
                ..sent
            };
            provider.update_namespace(namespace).await.map(done)
        }
        ("DELETE", ["system", "namespace", name]) => provider.delete_namespace(name).await.map(done),
        (_, ["function", ..]) => Ok(Answer::text(200, "called")),
        _ => Ok(Answer::text(404, "404 page not found\n")),
    }
}

fn body<T: ParseFromJSON>(asked: &Asked) -> Result<T> {
    from_json(&asked.body).map_err(ProviderError::Invalid)
}

fn refused(error: ProviderError) -> Answer {
    let problem = Problem::from(error);
    Answer::text(problem.status, &format!("{}\n", problem.detail))
}

fn log_query(asked: &Asked) -> LogQuery {
    let mut parameters: BTreeMap<String, String> = url::form_urlencoded::parse(asked.query.as_bytes())
        .into_owned()
        .collect();
    let mut take = |key: &str| parameters.remove(key);
    LogQuery {
        name: take("name").unwrap_or_default(),
        namespace: take("namespace").unwrap_or_default(),
        instance: take("instance"),
        since: take("since").map(|since| since.parse().expect("RFC 3339")),
        tail: take("tail").map(|tail| tail.parse().expect("a number")),
        follow: take("follow").as_deref() == Some("true"),
    }
}

fn stream_reply(messages: LogStream) -> Reply {
    let lines = messages.map(|message: Result<LogMessage>| {
        let line = message.map(|message| format!("{}\n", to_json(&message)));
        line.map(|line| Frame::data(Bytes::from(line)))
            .map_err(std::io::Error::other)
    });
    let head = stream::iter([Ok(Frame::data(Bytes::new()))]);
    let mut reply = Response::new(StreamBody::new(head.chain(lines).boxed()));
    reply
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/x-ndjson"));
    reply
}
