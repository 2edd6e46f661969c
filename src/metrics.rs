//! Every metric name, label and bucket, once.
//!
//! Names are an interface: dashboards, alert rules and autoscalers of OpenFaaS
//! read them (compatibility.md section 4). Each [`Metrics`] value has a
//! registry of its own, so tests run side by side and nothing is global.
//!
//! Label values are bounded by the callers: function names only for functions
//! that exist (see [`replicas`]), paths only as route templates. Nothing here
//! decides when something is counted.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, PullingGauge, Registry,
    TextEncoder, core::Collector,
};

use crate::{model::FunctionRef, policy::States, queue::cron::Shown, telemetry::Counts, upstream::Connections};

mod connections;
mod cron;
pub mod exporter;
mod function;
mod generation;
pub mod kept;
mod listener;
mod load;
mod names;
pub mod query;
pub mod replicas;
mod tally;
mod telemetry;
mod waiting;

pub use function::{Calls, FunctionMetrics, InFlight};
pub use generation::LiveGeneration;
pub use listener::ListenerMetrics;
pub use names::*;
pub use replicas::Service;
pub use tally::{Pace, Tally};
pub use waiting::{Depth, Waiting};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bucket bounds of both histograms, in seconds: the defaults of every
/// Prometheus client, which dashboards are drawn for.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Label of the function, as `name.namespace`.
pub const FUNCTION_NAME: &str = "function_name";
/// Its value where nobody vouches for the function.
const UNKNOWN: &str = "unknown";
const CODE: &str = "code";

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    family: function::Family,
    functions: RwLock<HashMap<String, Arc<FunctionMetrics>>>,
    service_count: IntGaugeVec,
    service_ready: IntGaugeVec,
    service_target: GaugeVec,
    service_min: IntGaugeVec,
    /// Label of each function with gauges, and the scaling type of its target.
    services: Mutex<BTreeMap<String, String>>,
    http_seconds: HistogramVec,
    http_total: IntCounterVec,
    connections_open: IntGaugeVec,
    connections_accepted: IntCounterVec,
    reload_successful: IntGauge,
    reload_time: Gauge,
    reloads: IntCounterVec,
    kept: kept::Kept,
    config_info: IntGaugeVec,
    config_generation: IntGauge,
    config_pending: IntGauge,
    config_alive: IntGauge,
    /// Label of the series of `config_info`.
    config_hash: Mutex<String>,
}

impl Metrics {
    /// Metrics without any value yet, except for the process's own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let add = Adder(&registry);
        let call = [FUNCTION_NAME, CODE];
        let request = ["method", "path", "status"];
        let family = function::Family {
            total: add.counters(INVOCATION_TOTAL, "Completed function calls by status code.", &call),
            seconds: add.histograms(
                FUNCTION_SECONDS,
                "Time of function calls, to the answer's last byte.",
                &call,
            ),
            started: add.counters(
                INVOCATION_STARTED,
                "Function calls that were sent on.",
                &[FUNCTION_NAME],
            ),
            in_flight: add.gauges(INVOCATION_INFLIGHT, "Function calls under way.", &[FUNCTION_NAME]),
            refused: add.counters(
                REFUSED_TOTAL,
                "Function calls that were not sent on, by reason.",
                &[FUNCTION_NAME, "reason"],
            ),
            retries: add.counters(FUNCTION_RETRIES, "Further tries of function calls.", &[FUNCTION_NAME]),
            decisions: add.counters(
                SCALING_DECISIONS,
                "Changes of a function's replicas, by direction and reason.",
                &[FUNCTION_NAME, "direction", "reason"],
            ),
            activation: add.histograms(
                ACTIVATION_SECONDS,
                "Time that calls waited for a replica, of those that did.",
                &[FUNCTION_NAME],
            ),
        };
        add.gauges(BUILD_INFO, "Always 1; the label tells the version.", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        #[cfg(target_os = "linux")]
        add.collector(prometheus::process_collector::ProcessCollector::for_self());
        Self {
            family,
            functions: RwLock::default(),
            service_count: add.gauges(SERVICE_COUNT, "Desired replicas of a function.", &[FUNCTION_NAME]),
            service_ready: add.gauges(
                SERVICE_READY_COUNT,
                "Replicas of a function that can take calls.",
                &[FUNCTION_NAME],
            ),
            service_target: add.metric(GaugeVec::new(
                Opts::new(SERVICE_TARGET_LOAD, "Load that one replica of a function should take."),
                &[FUNCTION_NAME, "scaling_type"],
            )),
            service_min: add.gauges(SERVICE_MIN, "Fewest replicas of a function.", &[FUNCTION_NAME]),
            services: Mutex::default(),
            http_seconds: add.histograms(HTTP_SECONDS, "Time of requests to the gateway's own routes.", &request),
            http_total: add.counters(HTTP_TOTAL, "Requests to the gateway's own routes.", &request),
            connections_open: add.gauges(CONNECTIONS_OPEN, "Open connections of callers.", &["listener"]),
            connections_accepted: add.counters(
                CONNECTIONS_ACCEPTED,
                "Connections of callers that were accepted.",
                &["listener"],
            ),
            reload_successful: add.metric(IntGauge::new(
                RELOAD_SUCCESSFUL,
                "1 if the last attempt to read the configuration succeeded, else 0.",
            )),
            reload_time: add.metric(Gauge::new(
                RELOAD_SUCCESS_TIME,
                "When the configuration was last read successfully, in seconds since 1970.",
            )),
            reloads: add.counters(
                RELOADS_TOTAL,
                "Attempts to read the configuration again.",
                &["trigger", "result"],
            ),
            kept: kept::Kept::new(&add),
            config_info: add.gauges(
                CONFIG_INFO,
                "Always 1; the label tells the fingerprint of the live configuration.",
                &["hash"],
            ),
            config_generation: add.metric(IntGauge::new(
                CONFIG_GENERATION,
                "Number of the live configuration, counted from 1 at the start.",
            )),
            config_pending: add.metric(IntGauge::new(
                CONFIG_PENDING,
                "Settings that keep their running value until a restart.",
            )),
            config_alive: add.metric(IntGauge::new(
                CONFIG_ALIVE,
                "Configurations in use: the live one, and older ones that requests under way began with.",
            )),
            config_hash: Mutex::default(),
            registry,
        }
    }

    /// The metrics of one function: resolve once, keep, and resolve again when
    /// [`FunctionMetrics::is_forgotten`]. `label` is `name.namespace`, or `name`
    /// where namespaces have no name.
    ///
    /// Creates the series, so ask only for functions that exist.
    pub fn function(&self, label: &str) -> Arc<FunctionMetrics> {
        if let Some(known) = self.functions.read().unwrap_or_else(PoisonError::into_inner).get(label) {
            return Arc::clone(known);
        }
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let created = functions
            .entry(label.to_owned())
            .or_insert_with(|| Arc::new(FunctionMetrics::new(label, &self.family)));
        Arc::clone(created)
    }

    /// Removes the series of a function that went away. Calls still under way
    /// end their counts unseen.
    pub fn forget_function(&self, label: &str) {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.remove(label) {
            // Under the lock, so that the same name asked for again gets new series.
            function.forget();
        }
    }

    /// Labels of the functions that have series, in no order.
    pub fn function_labels(&self) -> Vec<String> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.keys().cloned().collect()
    }

    /// Completed calls of a function that this process has seen; 0 for one
    /// that was not called.
    pub fn invocations(&self, label: &str) -> f64 {
        self.calls(label).completed as f64
    }

    /// What this process counts of a function's calls now; nothing of one that
    /// was not called.
    pub fn calls(&self, label: &str) -> Calls {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions
            .get(label)
            .map(|function| function.calls())
            .unwrap_or_default()
    }

    /// What this process counts of a function's calls now; `None` of one that was
    /// not called.
    pub fn tally(&self, label: &str) -> Option<Tally> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let function = functions.get(label).cloned();
        drop(functions);
        function.map(|function| function.tally())
    }

    /// Whether a function has series.
    pub fn has_function(&self, label: &str) -> bool {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.contains_key(label)
    }

    /// The label of a function that somebody named, and that may not exist: those
    /// that are neither listed nor were called share one.
    pub fn bounded_label(&self, function: &FunctionRef) -> String {
        let label = function.to_string();
        let is_listed = {
            let services = self.services();
            let beginning = format!("{label}.");
            let mut in_some_namespace = services.range(beginning.clone()..).take(1);
            services.contains_key(&label)
                || function.namespace.is_empty() && in_some_namespace.any(|(known, _)| known.starts_with(&beginning))
        };
        if is_listed || self.has_function(&label) {
            label
        } else {
            UNKNOWN.to_owned()
        }
    }

    /// Shows what limits and breakers come to. Call once.
    pub fn show_states(&self, states: Arc<States>) {
        Adder(&self.registry).collector(load::Loads::new(states));
    }

    /// Shows what the connections to upstreams come to. Call once.
    pub fn show_connections(&self, count: impl Fn() -> Connections + Send + Sync + 'static) {
        Adder(&self.registry).collector(connections::Gauges::new(count));
    }

    /// Shows what waits in the queue. Call once.
    pub fn show_waiting(&self, waiting: impl Fn() -> Waiting + Send + Sync + 'static) {
        Adder(&self.registry).collector(waiting::Gauges::new(waiting));
    }

    /// Shows what the clock calls. Call once.
    pub fn show_cron(&self, shown: impl Fn() -> Vec<Shown> + Send + Sync + 'static) {
        Adder(&self.registry).collector(cron::Gauges::new(shown));
    }

    /// Shows what was lost of log lines and spans. Call once.
    pub fn show_telemetry(&self, counts: Arc<Counts>) {
        Adder(&self.registry).collector(telemetry::Telling::new(counts));
    }

    /// Shows how many follow the events. Call once.
    pub fn show_event_readers(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        let gauge = PullingGauge::new(
            EVENT_READERS,
            "Streams of events that are read.",
            Box::new(move || count() as f64),
        );
        Adder(&self.registry).collector(gauge.expect("a valid name"));
    }

    /// Counts a request to one of the gateway's own routes. `path` is the
    /// route's template (`/system/function/{name}`), never the path received.
    pub fn api_request(&self, method: &http::Method, path: &str, status: u16, elapsed: Duration) {
        let labels = [bounded(method), path, &status.to_string()];
        self.http_total.with_label_values(&labels).inc();
        self.http_seconds
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// Those of asynchronous calls.
    pub fn kept(&self) -> &kept::Kept {
        &self.kept
    }

    /// The metrics of a listener; `name` is one of a few.
    pub fn listener(&self, name: &'static str) -> ListenerMetrics {
        ListenerMetrics {
            open: self.connections_open.with_label_values(&[name]),
            accepted: self.connections_accepted.with_label_values(&[name]),
        }
    }

    /// Replaces the replica gauges of all functions: those not given lose theirs.
    pub fn set_services(&self, services: &[Service]) {
        let mut known = self.services();
        let mut gone = std::mem::take(&mut *known);
        for service in services {
            let label = [service.label.as_str()];
            self.service_count.with_label_values(&label).set(clamp(service.desired));
            self.service_ready.with_label_values(&label).set(clamp(service.ready));
            self.service_min.with_label_values(&label).set(clamp(service.min));
            self.service_target
                .with_label_values(&[service.label.as_str(), service.scaling_type.as_str()])
                .set(service.target);
            if let Some(before) = gone.remove(&service.label)
                && before != service.scaling_type
            {
                self.remove_target(&service.label, &before);
            }
            known.insert(service.label.clone(), service.scaling_type.clone());
        }
        for (label, scaling_type) in gone {
            for gauge in [&self.service_count, &self.service_ready, &self.service_min] {
                // Fails only for a series that is not there, which is what we want.
                let _ = gauge.remove_label_values(&[&label]);
            }
            self.remove_target(&label, &scaling_type);
        }
    }

    /// Records an attempt to read the configuration.
    pub fn config_read(&self, successful: bool, now: SystemTime) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.reload_time.set(seconds.as_secs_f64());
        }
    }

    /// Counts a reload.
    pub fn config_reload(&self, trigger: &str, result: &str) {
        self.reloads.with_label_values(&[trigger, result]).inc();
    }

    /// Shows which configuration is live.
    pub fn config_live(&self, hash: &str, generation: u64, pending_restart: usize) {
        self.config_generation.set(clamp(generation));
        self.config_pending.set(clamp(pending_restart as u64));
        let mut known = self.config_hash.lock().unwrap_or_else(PoisonError::into_inner);
        self.config_info.with_label_values(&[hash]).set(1);
        let before = std::mem::replace(&mut *known, hash.to_owned());
        if before != hash && !before.is_empty() {
            // Fails only for a series that is not there, which is what we want.
            let _ = self.config_info.remove_label_values(&[&before]);
        }
    }

    /// Counts a generation for as long as the value exists.
    pub fn live_generation(&self) -> LiveGeneration {
        LiveGeneration::new(&self.config_alive)
    }

    /// How many generations are in use.
    pub fn live_generations(&self) -> u64 {
        u64::try_from(self.config_alive.get()).unwrap_or_default()
    }

    /// Everything in the text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }

    fn remove_target(&self, label: &str, scaling_type: &str) {
        // Fails only for a series that is not there, which is what we want.
        let _ = self.service_target.remove_label_values(&[label, scaling_type]);
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes metrics and puts them into a registry.
struct Adder<'a>(&'a Registry);

impl Adder<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.metric(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.metric(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.metric(HistogramVec::new(options, labels))
    }

    fn metric<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("metric names and labels are constants of this file");
        self.collector(metric.clone());
        metric
    }

    fn collector(&self, collector: impl Collector + 'static) {
        self.0
            .register(Box::new(collector))
            .expect("each name is registered once");
    }
}

/// Methods a client made up share one label value.
fn bounded(method: &http::Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "HEAD" | "OPTIONS") => known,
        _ => "OTHER",
    }
}

fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
