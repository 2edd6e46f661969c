//! The replica gauges: what the provider says about its functions, read every
//! few seconds.
//!
//! The same reading tells which functions exist, and so which label values the
//! other metrics may have. This is a reading only: nothing is scaled here.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    metrics::Metrics,
    model::{
        FunctionRef, FunctionStatus,
        label::{SCALE_MIN, SCALE_TARGET, SCALE_TYPE},
    },
    provider::{Listing, Provider, ProviderError},
    shutdown::Stop,
};

/// What OpenFaaS assumes for functions that say nothing.
const DEFAULT_TARGET: f64 = 50.0;
const DEFAULT_TYPE: &str = "rps";
const DEFAULT_MIN: u64 = 1;

/// The gauges of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// `name.namespace`, or `name` when the provider gives no namespace.
    pub label: String,
    /// Desired replicas.
    pub desired: u64,
    /// Replicas that can take calls.
    pub ready: u64,
    /// Fewest replicas.
    pub min: u64,
    /// Load that one replica should take.
    pub target: f64,
    /// The kind of load that is meant.
    pub scaling_type: String,
}

/// The `function_name` of a function as its provider lists it.
pub fn label(function: &FunctionStatus) -> String {
    function.function().to_string()
}

/// The gauges of a listed function. Labels that are not numbers count as absent.
pub fn service(function: &FunctionStatus) -> Service {
    let text = |key: &str| function.labels.as_ref()?.get(key).map(|text| text.trim());
    Service {
        label: label(function),
        desired: function.replicas,
        ready: function.available_replicas,
        min: text(SCALE_MIN)
            .and_then(|text| text.parse().ok())
            .unwrap_or(DEFAULT_MIN),
        target: text(SCALE_TARGET)
            .and_then(|text| text.parse().ok())
            .filter(|target: &f64| target.is_finite())
            .unwrap_or(DEFAULT_TARGET),
        scaling_type: text(SCALE_TYPE)
            .filter(|text| !text.is_empty())
            .unwrap_or(DEFAULT_TYPE)
            .to_owned(),
    }
}

/// The functions that existed at the last reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(HashSet<String>);

impl Known {
    /// The functions of these lists.
    pub fn new<'a>(functions: impl IntoIterator<Item = &'a FunctionStatus>) -> Self {
        let mut labels = HashSet::new();
        for function in functions {
            labels.insert(label(function));
            // A call that names no namespace means the provider's default, which
            // an external provider does not tell: its bare name must do.
            labels.insert(function.name.clone());
        }
        Self(labels)
    }

    /// Whether a function exists; one without namespace does if any namespace
    /// has that name.
    pub fn contains(&self, function: &FunctionRef) -> bool {
        if function.namespace.is_empty() {
            self.has_label(&function.name)
        } else {
            self.has_label(&function.to_string())
        }
    }

    /// Whether `function_name` may have this value.
    pub fn has_label(&self, label: &str) -> bool {
        self.0.contains(label)
    }
}

/// Reads lists and remembers them, so that a provider that does not answer for
/// a while costs neither gauges nor counters.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last good list of each namespace.
    lists: BTreeMap<String, Listing>,
    /// All of them in one.
    all: Arc<[FunctionStatus]>,
    /// Which functions those are, once it was asked.
    known: Option<Arc<Known>>,
    /// The gauges that were written last.
    services: Vec<Service>,
    /// What failed at the last reading: `None` for the namespaces, else one of them.
    failing: BTreeSet<Option<String>>,
    /// Functions with metrics that the last complete reading did not have.
    missed: HashSet<String>,
}

impl Reader {
    /// Reads once; a failure keeps what was read before and is logged when it
    /// starts and when it ends.
    pub async fn read(&mut self, provider: &dyn Provider) {
        let namespaces = match provider.list_namespaces().await {
            Ok(namespaces) => {
                self.worked(None);
                namespaces
            }
            // Providers without namespaces say so in different ways.
            Err(ProviderError::NotFound(_) | ProviderError::Unsupported(_)) => {
                self.worked(None);
                Vec::new()
            }
            Err(error) => {
                self.failed(None, &error);
                self.lists.keys().cloned().collect()
            }
        };
        let namespaces = if namespaces.is_empty() {
            vec![provider.default_namespace().to_owned()]
        } else {
            namespaces
        };
        let mut before = std::mem::take(&mut self.lists);
        let count = before.len();
        let mut is_same = true;
        for namespace in namespaces {
            let known = before.remove(&namespace);
            let list = match provider
                .list_again(&namespace, &known.clone().unwrap_or_default())
                .await
            {
                Ok(list) => {
                    self.worked(Some(&namespace));
                    list
                }
                Err(error) => {
                    self.failed(Some(&namespace), &error);
                    let Some(list) = known else { continue };
                    self.lists.insert(namespace, list);
                    continue;
                }
            };
            is_same &= known.is_some_and(|known| Arc::ptr_eq(&known.functions, &list.functions));
            self.lists.insert(namespace, list);
        }
        if !is_same || self.lists.len() != count {
            self.join();
        }
    }

    /// Makes one list of all.
    fn join(&mut self) {
        let mut lists = self.lists.values().map(|list| &list.functions);
        self.all = match (lists.next(), lists.next()) {
            (Some(only), None) => Arc::clone(only),
            _ => self
                .lists
                .values()
                .flat_map(|list| list.functions.iter().cloned())
                .collect(),
        };
        self.known = None;
    }

    /// All functions of the last good lists: the same list as before where nothing
    /// has changed.
    pub fn functions(&self) -> &Arc<[FunctionStatus]> {
        &self.all
    }

    /// Which functions those are.
    fn known(&mut self) -> Arc<Known> {
        let known = self.known.get_or_insert_with(|| Arc::new(Known::new(&*self.all)));
        Arc::clone(known)
    }

    /// Whether every list of the last reading was good, so that a function
    /// missing from [`Reader::functions`] is really gone.
    pub fn is_complete(&self) -> bool {
        self.failing.is_empty()
    }

    fn failed(&mut self, namespace: Option<&str>, error: &ProviderError) {
        if self.failing.insert(namespace.map(str::to_owned)) {
            match namespace {
                None => tracing::warn!(%error, "namespaces cannot be listed; replica gauges may be out of date"),
                Some(namespace) => {
                    tracing::warn!(%error, namespace, "functions cannot be listed; replica gauges are out of date");
                }
            }
        }
    }

    fn worked(&mut self, namespace: Option<&str>) {
        if self.failing.remove(&namespace.map(str::to_owned)) {
            match namespace {
                None => tracing::info!("namespaces can be listed again"),
                Some(namespace) => tracing::info!(namespace, "functions can be listed again"),
            }
        }
    }
}

/// Writes the gauges of what was read, and drops the metrics of functions that
/// two complete readings in a row did not have. One is not enough: a function
/// may have been deployed and called while its list was on its way, and some
/// providers list from a cache.
pub fn publish(reader: &mut Reader, metrics: &Metrics, service: impl Fn(&FunctionStatus) -> Service) -> Arc<Known> {
    let known = reader.known();
    let services: Vec<Service> = reader.functions().iter().map(service).collect();
    // Nobody else writes them.
    if services != reader.services {
        metrics.set_services(&services);
        reader.services = services;
    }
    if reader.is_complete() {
        let mut missed = HashSet::new();
        for label in metrics.function_labels() {
            if known.has_label(&label) {
                continue;
            }
            if reader.missed.contains(&label) {
                metrics.forget_function(&label);
            } else {
                missed.insert(label);
            }
        }
        reader.missed = missed;
    }
    known
}

/// What a reading needs; taken anew for each.
#[derive(Clone)]
pub struct Source {
    /// Tells one snapshot from the next.
    pub generation: u64,
    /// Who knows the functions.
    pub provider: Arc<dyn Provider>,
    /// Where the gauges go.
    pub metrics: Arc<Metrics>,
    /// What the gauges of a function are: [`service`], or what is known better.
    pub service: Arc<dyn Fn(&FunctionStatus) -> Service + Send + Sync>,
    /// Pause until the next reading.
    pub interval: Duration,
}

/// How soon a new configuration is noticed between two readings.
const LOOK: Duration = Duration::from_secs(1);

/// Reads and publishes until `stop`, asking `source` for the newest snapshot's
/// parts each time and showing each reading to `read`. A new snapshot ends the pause: its provider may be another,
/// its interval shorter.
pub async fn refresh_forever(source: impl Fn() -> Source + Send, read: impl Fn(&Reader) + Send, stop: Stop) {
    let forever = async {
        let mut reader = Reader::default();
        let mut now = source();
        loop {
            reader.read(&*now.provider).await;
            publish(&mut reader, &now.metrics, &*now.service);
            read(&reader);
            let next_reading = Instant::now() + now.interval;
            let mut newest = source();
            while newest.generation == now.generation && Instant::now() < next_reading {
                tokio::time::sleep_until(next_reading.min(Instant::now() + LOOK)).await;
                newest = source();
            }
            if newest.generation != now.generation {
                // What failed belongs to the provider before, perhaps.
                reader.failing.clear();
            }
            now = newest;
        }
    };
    tokio::select! {
        () = forever => {}
        () = stop.cancelled() => {}
    }
}
