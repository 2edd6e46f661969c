//! One reading of the provider's functions for all that need it, so that the
//! provider is asked once.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use futures_util::future::OptionFuture;
use tokio::sync::watch;

use super::{contracts, cron::Clock};
use crate::{
    config::Config,
    events,
    metrics::replicas,
    model::FunctionStatus,
    policy::States,
    provider::Provider,
    scaling::{
        autoscaler::View,
        rules::{self, Above, FunctionRules},
    },
    shutdown::Tasks,
    snapshot::Current,
};

/// Reads the provider's functions again and again: for the gauges, for what calls
/// and the autoscaler know of them, and so that what is kept of those that went
/// away or were changed elsewhere is let go.
pub(super) async fn functions(current: Current, states: Arc<States>, clock: Option<Clock>, background: Tasks) {
    let (listed, mut read) = watch::channel(Listed::default());
    let version = Arc::new(AtomicU64::new(0));
    let view = current.clone();
    let before = Arc::clone(&version);
    let unlisted = Arc::new(Mutex::new(events::Version::default()));
    let seen = Arc::clone(&unlisted);
    let source = move || {
        let snapshot = view.get();
        // With their series, one reading later.
        states.retain(|function| snapshot.metrics.has_function(&function.to_string()));
        before.store(snapshot.scaling.version(), Ordering::SeqCst);
        *unlisted.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.events.version();
        replicas::Source {
            generation: snapshot.generation,
            provider: Arc::clone(&snapshot.provider),
            metrics: Arc::clone(&snapshot.metrics),
            interval: pause(&snapshot.config),
            service: Arc::new(move |status| service(&snapshot.config, status)),
        }
    };
    let view = current.clone();
    let compare = move |reader: &replicas::Reader| {
        let snapshot = view.get();
        snapshot.functions.compare(reader.functions().iter());
        let since = *seen.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot
            .events
            .list(Arc::clone(reader.functions()), reader.is_complete(), since, Utc::now());
        if reader.is_complete() {
            snapshot.scaling.learn_all(
                reader.functions().iter(),
                snapshot.provider.default_namespace(),
                version.load(Ordering::SeqCst),
                // The next reading may take its time.
                pause(&snapshot.config) * 2 + Duration::from_secs(1),
            );
        }
        listed.send_replace(Listed {
            provider: Some(Arc::downgrade(&snapshot.provider)),
            functions: Arc::clone(reader.functions()),
            is_complete: reader.is_complete(),
        });
    };
    let reading = replicas::refresh_forever(source, compare, background.draining().clone());
    let by_the_clock = OptionFuture::from(clock.map(|clock| clock.run(current.clone(), read.clone())));
    let answers = current.get().config.server.role.answers();
    let contracts = OptionFuture::from(answers.then(|| contracts::follow(current.clone(), read.clone())));
    let scaling = async {
        while read.changed().await.is_ok() {
            let listed = read.borrow_and_update().clone();
            let snapshot = current.get();
            let Some(functions) = listed.of(&snapshot.provider) else {
                continue;
            };
            let view = View {
                config: &snapshot.config,
                provider: &snapshot.provider,
                scaling: &snapshot.scaling,
                metrics: &snapshot.metrics,
                states: &snapshot.states,
                queue: &*snapshot.queue,
                prometheus: snapshot.prometheus.as_ref(),
                lease: &*snapshot.lease,
            };
            snapshot.autoscaler.tick(&view, functions).await;
        }
    };
    futures_util::join!(reading, scaling, by_the_clock, contracts);
}

/// The gauges of a function: its labels, and above them what the file says.
fn service(config: &Config, status: &FunctionStatus) -> replicas::Service {
    let above = Above::new(config, &status.function(), Utc::now());
    let service = replicas::service(status);
    if above.table.is_none() && above.scheduled.is_none() {
        return service;
    }
    let FunctionRules { rules, target, .. } = rules::of(status.labels.as_ref(), &above, &config.scaling);
    replicas::Service {
        min: rules.min,
        target,
        scaling_type: rules.signal.as_str().to_owned(),
        ..service
    }
}

/// What a reading found, and of whom; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Listed {
    provider: Option<Weak<dyn Provider>>,
    functions: Arc<[FunctionStatus]>,
    is_complete: bool,
}

impl Listed {
    /// The functions, where they are those of this provider.
    pub(super) fn of(&self, provider: &Arc<dyn Provider>) -> Option<&[FunctionStatus]> {
        let listed = self.provider.as_ref()?.upgrade()?;
        Arc::ptr_eq(&listed, provider).then_some(&*self.functions)
    }

    /// Whether what is not among the functions is gone.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// Pause between two readings of all functions.
fn pause(config: &Config) -> Duration {
    if config.scaling.autoscale {
        config.metrics.refresh_interval.min(config.scaling.interval)
    } else {
        config.metrics.refresh_interval
    }
}
