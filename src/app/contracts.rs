//! Asks functions for their contracts: what [`Contracts`] says is due, along the
//! way that calls go, but without what makes a call of it. Nothing is started for
//! it, counted, or takes another's turn, so a function that nobody calls goes to
//! zero as before. What they answer is kept in the state directory, where there is
//! one.

use std::{
    collections::{HashMap, HashSet},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use tokio::{sync::watch, time::Instant};

mod kept;

use self::kept::Kept;
use super::follow::Listed;
use crate::{
    client,
    config::{self, CallAnnotations, Config},
    contracts::{self, Asked, Build, Contract, Contracts, Saved, Seen, Source, Wrong},
    model::{FunctionRef, FunctionStatus},
    provider::Provider,
    proxy::{body, protocol, target},
    snapshot::{Current, Snapshot},
};

/// Documents that are asked for at a time; further ones wait.
const AT_A_TIME: usize = 8;

/// A wait that is never over before something is learned.
const NEVER: Duration = Duration::from_secs(3600);

/// Follows the functions that somebody lists, as long as he does.
pub(super) async fn follow(current: Current, mut listed: watch::Receiver<Listed>) {
    let contracts = Arc::clone(&current.get().contracts);
    let mut shelf = Shelf::open(&current.get().config, &contracts).await;
    let mut functions = HashMap::new();
    let mut waiting: Vec<Asked> = Vec::new();
    let mut asking = FuturesUnordered::new();
    loop {
        waiting.extend(contracts.due(Instant::now().into_std()));
        while asking.len() < AT_A_TIME
            && let Some(asked) = waiting.pop()
        {
            let status: Option<Arc<FunctionStatus>> = functions.get(&asked.function).cloned();
            asking.push(ask(current.get(), asked, status));
        }
        let wait = contracts.wait(Instant::now().into_std()).unwrap_or(NEVER);
        tokio::select! {
            changed = listed.changed() => {
                if changed.is_err() {
                    return;
                }
                let snapshot = current.get();
                let listed = listed.borrow_and_update().clone();
                if let Some(all) = listed.of(&snapshot.provider) {
                    let served;
                    (functions, served) = learn(&contracts, &snapshot, all);
                    if listed.is_complete() {
                        contracts.remember(Vec::new());
                        shelf.tidy(served).await;
                    }
                }
            }
            Some((asked, answer)) = asking.next() => {
                let ttl = current.get().config.openapi.ttl;
                let answer = match answer {
                    Ok((contract, text)) => {
                        shelf.put(&asked, text).await;
                        Ok(contract)
                    }
                    Err(wrong) => Err(wrong),
                };
                let wrong = contracts.answered(&asked, answer, Instant::now().into_std(), ttl);
                if let Some(error) = wrong {
                    complain(&asked.function, &error);
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The directory with what was fetched; without one, or while it cannot be used,
/// what is fetched is forgotten with the process.
struct Shelf {
    kept: Option<Kept>,
    /// Whether something could not be written, which is told once.
    is_failing: bool,
}

impl Shelf {
    /// Has [`Contracts`] remember what is kept.
    async fn open(config: &Config, contracts: &Contracts) -> Self {
        let largest = config.openapi.max_size.as_usize();
        let mut shelf = Self {
            kept: None,
            is_failing: false,
        };
        if let Some(state) = &config.provider.process.state_dir {
            let folder = state.join("contracts");
            match config::blocking(move || Kept::open(folder, largest)).await {
                Ok((kept, saved)) => {
                    contracts.remember(saved);
                    shelf.kept = Some(kept);
                }
                Err(error) => shelf.failed(&error),
            }
        }
        shelf
    }

    async fn put(&mut self, asked: &Asked, text: BytesMut) {
        let saved = Saved {
            function: asked.function.clone(),
            path: asked.path.clone(),
            text: String::from_utf8_lossy(&text).into_owned(),
        };
        self.change(move |kept| kept.put(saved)).await;
    }

    /// Forgets what is of no function that serves one.
    async fn tidy(&mut self, served: HashSet<FunctionRef>) {
        let wanted = move |function: &FunctionRef| served.contains(function);
        if self.kept.as_ref().is_some_and(|kept| !kept.is_all(&wanted)) {
            self.change(move |kept| kept.retain(wanted)).await;
        }
    }

    async fn change(&mut self, change: impl FnOnce(&mut Kept) -> io::Result<()> + Send + 'static) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let (kept, done) = config::blocking(move || {
            let done = change(&mut kept);
            (kept, done)
        })
        .await;
        self.kept = Some(kept);
        match done {
            Ok(()) => self.is_failing = false,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, "the functions' OpenAPI documents cannot be kept; after a restart they are asked again");
        }
    }
}

/// Functions that have a contract.
type Having = HashMap<FunctionRef, Arc<FunctionStatus>>;

/// Tells [`Contracts`] of the functions that have one. Returns these, and which of
/// them serve it.
fn learn(contracts: &Contracts, snapshot: &Snapshot, all: &[FunctionStatus]) -> (Having, HashSet<FunctionRef>) {
    let provider = &*snapshot.provider;
    let most = snapshot.config.openapi.max_size.as_usize();
    let with_one = all
        .iter()
        .filter_map(|status| Some((status, seen(status, provider, most)?)));
    let (functions, seen): (HashMap<_, _>, Vec<_>) = with_one
        .map(|(status, seen)| ((seen.function.clone(), Arc::new(status.clone())), seen))
        .unzip();
    let serving = seen.iter().filter(|seen| matches!(seen.source, Source::Path(_)));
    let served = serving.map(|seen| seen.function.clone()).collect();
    for (function, error) in contracts.learn(seen, Instant::now().into_std()) {
        complain(&function, &error);
    }
    (functions, served)
}

fn complain(function: &FunctionRef, error: &str) {
    tracing::warn!(%function, error, "the function's OpenAPI document is not shown");
}

/// A function as far as its contract goes, if it has one.
fn seen(status: &FunctionStatus, provider: &dyn Provider, most: usize) -> Option<Seen> {
    let text = contracts::annotation(status.annotations.as_ref())?;
    let function = status.function();
    Some(Seen {
        label: contracts::label(&function, provider.default_namespace()),
        source: Source::of(text, most),
        build: Build {
            image: status.image.clone(),
            process: status.env_process.clone(),
            variables: status.env_vars.clone(),
            created: Some(status.created_at),
        },
        ready: status.available_replicas > 0,
        function,
    })
}

async fn ask(
    snapshot: Arc<Snapshot>,
    asked: Asked,
    status: Option<Arc<FunctionStatus>>,
) -> (Asked, Result<(Contract, BytesMut), Wrong>) {
    let after = snapshot.config.openapi.fetch_timeout;
    let fetching = fetch(&snapshot, &asked, status.as_deref());
    let fetched = tokio::time::timeout(after, fetching).await.unwrap_or_else(|_| {
        let text = format!("the function did not answer within openapi.fetch_timeout ({after:?})");
        Err(Wrong::Unavailable(text))
    });
    let contract = fetched.and_then(|text| Ok((Contract::read(&text, &asked.label)?, text)));
    (asked, contract)
}

/// The document's text, from a replica that is ready.
async fn fetch(snapshot: &Snapshot, asked: &Asked, status: Option<&FunctionStatus>) -> Result<BytesMut, Wrong> {
    let function = &asked.function;
    let unavailable = Wrong::Unavailable;
    let upstream = snapshot
        .provider
        .upstream(function)
        .map_err(|error| unavailable(error.to_string()))?;
    let uri: Uri = format!("{}{function}{}", target::FUNCTION_PREFIX, asked.path)
        .parse()
        .map_err(|_| Wrong::Invalid(format!("`{}` is no path", asked.path.escape_debug())))?;
    let rest = target::split(uri.path()).map_or("", |(_, rest)| rest);
    let uri = target::upstream_uri(&upstream.path, &uri, rest).map_err(|error| unavailable(error.to_string()))?;
    let mut settings = snapshot.config.function(function);
    // Its protocol may be among them; mistakes are told by calls.
    let _mistakes = settings.annotate(&CallAnnotations::of(
        status.and_then(|status| status.annotations.as_ref()),
    ));
    let mut request = Request::new(body::empty());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::HOST, upstream.endpoint.host().clone());
    headers.insert(header::USER_AGENT, HeaderValue::from_static(client::USER_AGENT));
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("application/json, application/yaml;q=0.9, */*;q=0.1"),
    );
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));

    let _in_flight = upstream.endpoint.begin();
    let protocol = protocol::of(&upstream, &settings);
    let answer = upstream.endpoint.send(Box::new(request), protocol).await;
    let answer = answer.map_err(|failure| unavailable(failure.error.to_string()))?;
    if answer.status() != StatusCode::OK {
        return Err(unavailable(format!("the function answered {}", answer.status())));
    }
    if answer.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(unavailable(
            "the function compressed it, which it was asked not to".to_owned(),
        ));
    }
    let most = snapshot.config.openapi.max_size;
    let mut text = BytesMut::new();
    let mut answer = pin!(answer.into_body());
    while let Some(frame) = answer.frame().await {
        let frame = frame.map_err(|error| unavailable(format!("the answer broke off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            if text.len() + data.len() > most.as_usize() {
                return Err(Wrong::Invalid(format!(
                    "the document is larger than openapi.max_size ({most})"
                )));
            }
            text.extend_from_slice(data);
        }
    }
    Ok(text)
}
