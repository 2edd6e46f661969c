//! Looks where something may have happened, for those who follow the events.
//!
//! What happens in the gateway tells itself; what happens to functions has to be
//! looked at. The list that [`follow`](super::follow) reads anyway shows everything
//! sooner or later; here it is sooner, where somebody knows that there is something
//! to see.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    events::Events,
    metrics::{Metrics, Pace, Tally, replicas::Reader},
    model::{FunctionLoad, FunctionRef, LoadEvent, Timestamp},
    provider::{Provider, ProviderError},
    reload::Journal,
    shutdown::Stop,
    snapshot::Current,
};

/// Time between two measurements of the load, while somebody follows.
const LOAD: Duration = Duration::from_secs(2);

/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(100);

/// How soon another provider is noticed; how often what was counted is told.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of functions, their load and the configuration, until it is to stop.
pub(super) async fn tell(current: Current, outcomes: watch::Receiver<Journal>, stop: Stop) {
    let telling = async {
        futures_util::join!(
            functions(&current),
            load(&current),
            counts(&current),
            configurations(&current, outcomes)
        )
    };
    tokio::select! {
        _ = telling => {}
        () = stop.cancelled() => {}
    }
}

/// Looks at functions when they were touched, or when their provider says so.
async fn functions(current: &Current) {
    let mut is_due = false;
    loop {
        let snapshot = current.get();
        let (provider, events) = (&*snapshot.provider, &*snapshot.events);
        let mut changed = provider.changed();
        // A future hears nothing before it is polled, and the change may come
        // while the functions are looked at.
        is_due |= changed.as_mut().now_or_never().is_some();
        if std::mem::take(&mut is_due) {
            list(provider, events).await;
        }
        let touched = tokio::select! {
            touched = events.touched() => touched,
            () = changed => {
                tokio::time::sleep(TOGETHER).await;
                is_due = true;
                continue;
            }
            () = tokio::time::sleep(LOOK) => continue,
        };
        if provider.tracks_replicas() {
            // A list costs as little as a look, and shows what came meanwhile.
            is_due = true;
            continue;
        }
        for function in touched {
            look(provider, events, &function).await;
        }
    }
}

async fn list(provider: &dyn Provider, events: &Events) {
    let since = events.version();
    let mut reader = Reader::default();
    reader.read(provider).await;
    events.list(Arc::clone(reader.functions()), reader.is_complete(), since, Utc::now());
}

async fn look(provider: &dyn Provider, events: &Events, function: &FunctionRef) {
    match provider.status(function, false).await {
        Ok(status) => events.look(function, Some(status), Utc::now()),
        Err(ProviderError::NotFound(_)) => events.look(function, None, Utc::now()),
        // The next list will tell.
        Err(error) => tracing::debug!(%function, %error, "function not looked at after a change"),
    }
}

/// Measures the load while somebody follows.
async fn load(current: &Current) {
    let mut ticks = tokio::time::interval(LOAD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, HashMap<FunctionRef, Tally>)> = None;
    loop {
        ticks.tick().await;
        let snapshot = current.get();
        if snapshot.events.readers() == 0 {
            before = None;
            continue;
        }
        let (now, tallies) = (Instant::now(), tallies(&snapshot.events, &snapshot.metrics));
        if let Some((then, before)) = &before {
            let functions = tallies
                .iter()
                .map(|(function, tally)| {
                    let then_tally = before.get(function).copied().unwrap_or_default();
                    described(function, tally, tally.since(&then_tally, now - *then))
                })
                .collect();
            snapshot.events.measured(LoadEvent {
                time: Timestamp(Utc::now()),
                functions,
            });
        }
        before = Some((now, tallies.into_iter().collect()));
    }
}

/// What is counted of each function that was called, by namespace and name.
fn tallies(events: &Events, metrics: &Metrics) -> Vec<(FunctionRef, Tally)> {
    let functions = events.functions().into_iter();
    functions
        .filter_map(|function| Some((metrics.tally(&function.to_string())?, function)))
        .map(|(tally, function)| (function, tally))
        .collect()
}

fn described(function: &FunctionRef, tally: &Tally, pace: Pace) -> FunctionLoad {
    let [p50, p95, p99] = pace
        .quantiles
        .map_or([None; 3], |quantiles| quantiles.map(|seconds| Some(seconds.into())));
    FunctionLoad {
        name: function.name.clone(),
        namespace: function.namespace.clone(),
        in_flight: tally.in_flight,
        calls: tally.calls,
        errors: tally.errors,
        rate: pace.rate.into(),
        error_rate: pace.error_rate.into(),
        p50,
        p95,
        p99,
    }
}

/// Tells of asynchronous calls that were too many to be told one by one.
async fn counts(current: &Current) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        current.get().events.tell_counts(Utc::now());
    }
}

/// Tells what became of each attempt to read the configuration.
async fn configurations(current: &Current, mut outcomes: watch::Receiver<Journal>) {
    while outcomes.changed().await.is_ok() {
        let journal = outcomes.borrow_and_update().clone();
        let snapshot = current.get();
        snapshot.events.configured(snapshot.status(journal), Utc::now());
    }
}
