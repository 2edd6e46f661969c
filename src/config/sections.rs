//! The tables of the configuration file. The comments of `config/gateway.toml`
//! are the manual; here each key has its type.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{
    ratio::Ratio,
    role::Role,
    secret::SecretFile,
    setting::{choice, section},
    size::Size,
};

section! {
    /// `[server]`: the listener of API, functions and portal.
    pub struct Server {
        /// Which part of the work this process does.
        pub role: Role,
        /// Address of API, functions and portal; its default depends on the provider.
        pub listen: Option<SocketAddr>,
        /// Bound on receiving a request, and on waiting for the next one.
        pub read_timeout: Duration,
        /// Bound on sending a response, from the end of the request's head.
        pub write_timeout: Duration,
        /// Bound on waiting for the next request of a kept-alive connection; by default `read_timeout`. 0 is none.
        pub idle_timeout: Option<Duration>,
        /// Bound on receiving a request's head; by default `read_timeout`. 0 is none.
        pub header_timeout: Option<Duration>,
        /// Bound on a request's head.
        pub max_header_bytes: Size,
        /// Most header fields of a request; more get 431. 0 is any number.
        pub max_headers: u32,
        /// Longest request target; longer ones get 414. 0 is any length.
        pub max_uri_bytes: Size,
        /// Most open connections of each listener; more wait to be accepted. 0 is any number.
        pub max_connections: u32,
        /// Most requests of one connection; it is closed after the last. 0 is any number.
        pub max_requests_per_connection: u32,
        /// Pause between readiness off and no longer accepting.
        pub drain_delay: Duration,
        /// Bound on waiting for calls in flight at shutdown.
        pub drain_timeout: Duration,
        /// Second address of functions and API, where internal functions can be called too.
        pub internal_listen: Option<SocketAddr>,
        /// Path that everything is below, such as `/faas`; empty is none.
        pub base_path: String,
        /// Take plain calls from bytes to bytes; without it all go through the HTTP library.
        pub fast_lane: bool,
        /// Permit a public listener without authentication with the process provider.
        pub allow_unauthenticated_public: bool,
        /// Connections of HTTP/2.
        pub http2: Http2,
        /// Certificates of the listeners.
        pub tls: Tls,
    }
}

section! {
    /// `[server.http2]`: connections of HTTP/2.
    pub struct Http2 {
        /// Most requests under way on one connection.
        pub max_concurrent_streams: u32,
        /// How much of a request's body a caller may send ahead of its function.
        pub stream_window: Size,
        /// How often a connection is asked whether it is alive; by default `read_timeout`. 0 is never.
        pub keep_alive_interval: Option<Duration>,
        /// Bound on the answer to that.
        pub keep_alive_timeout: Duration,
    }
}

choice! {
    /// Whether callers show certificates.
    pub enum ClientAuth {
        /// They are not asked.
        Off = "off",
        /// They are asked, and those without one are let in.
        Optional = "optional",
        /// Those without one are not let in.
        Required = "required",
    }
}

section! {
    /// `[server.tls]`: certificates of the main and the internal listener.
    pub struct Tls {
        /// The certificate and those between it and its root, as PEM; turns TLS on.
        pub cert_file: Option<PathBuf>,
        /// The certificate's private key, as PEM.
        pub key_file: Option<PathBuf>,
        /// Certificates, as PEM, that those of callers must lead to.
        pub client_ca_file: Option<PathBuf>,
        /// Whether callers show certificates; by default `required` with `client_ca_file`, else `off`.
        pub client_auth: Option<ClientAuth>,
    }
}

impl Tls {
    /// The files that are read.
    pub fn certificates(&self) -> impl Iterator<Item = &PathBuf> {
        let authorities = self
            .client_ca_file
            .as_ref()
            .filter(|_| self.client_auth() != ClientAuth::Off);
        let on = self.cert_file.is_some();
        [self.cert_file.as_ref(), self.key_file.as_ref(), authorities]
            .into_iter()
            .flatten()
            .filter(move |_| on)
    }

    /// Whether callers show certificates.
    pub fn client_auth(&self) -> ClientAuth {
        self.client_auth.unwrap_or(match self.client_ca_file {
            Some(_) => ClientAuth::Required,
            None => ClientAuth::Off,
        })
    }
}

section! {
    /// `[metrics]`: the metrics listener and the replica gauges.
    pub struct Metrics {
        /// Address; by default port 8082 on the host of `server.listen`.
        pub listen: Option<SocketAddr>,
        /// How often gauges are read from the provider.
        pub refresh_interval: Duration,
    }
}

choice! {
    /// What runs the functions.
    pub enum ProviderKind {
        /// Supervised commands of this machine.
        Process = "process",
        /// An OpenFaaS provider over REST.
        Http = "http",
        /// Nothing runs; state is kept in memory. For tests.
        Memory = "memory",
    }
}

section! {
    /// `[provider]`: what runs the functions and where it is.
    pub struct Provider {
        /// Kind; by default `http` when `url` is set, else `process`.
        pub kind: Option<ProviderKind>,
        /// Base URL of the http provider, ending in a slash.
        pub url: Option<Url>,
        /// File with the value of `url`, in its place.
        pub url_file: Option<SecretFile>,
        /// Base URL for logs when it is not `url`, ending in a slash.
        pub logs_url: Option<Url>,
        /// File with the value of `logs_url`, in its place.
        pub logs_url_file: Option<SecretFile>,
        /// Namespace of functions named without one.
        pub default_namespace: Option<String>,
        /// Call functions directly rather than through the http provider.
        pub direct_functions: bool,
        /// Host suffix of direct calls.
        pub direct_functions_suffix: String,
        /// Settings of the process provider.
        pub process: ProcessProvider,
    }
}

section! {
    /// `[provider.process]`: functions as local processes.
    pub struct ProcessProvider {
        /// Where state is kept; by default in the user's state directory.
        pub state_dir: Option<PathBuf>,
        /// Bound on the log kept for a replica.
        pub log_size: Size,
        /// First wait before a dead replica is started again.
        pub restart_backoff: Duration,
        /// Longest wait before a dead replica is started again.
        pub restart_backoff_max: Duration,
        /// How long calls of a replica that is stopped may take to end.
        pub stop_timeout: Duration,
        /// What to run for an image name.
        pub images: BTreeMap<String, Image>,
    }
}

section! {
    /// `[provider.process.images."NAME"]`: the command behind an image name.
    pub struct Image {
        /// Command, quoted as in a shell; empty with mode `static`.
        pub command: String,
        /// Working directory.
        pub directory: Option<PathBuf>,
        /// Watchdog mode, when the deployment sets none.
        pub mode: Option<String>,
        /// Environment, beneath the deployment's own.
        pub environment: BTreeMap<String, String>,
    }
}

section! {
    /// `[invoke]`: calls to functions.
    pub struct Invoke {
        /// Bound on a function's whole answer.
        pub upstream_timeout: Duration,
        /// Bound on connecting to a function.
        pub connect_timeout: Duration,
        /// Lowers `max_idle_conns_per_host`, as OpenFaaS's one upstream has it.
        pub max_idle_conns: usize,
        /// Idle connections kept for one upstream.
        pub max_idle_conns_per_host: usize,
        /// How long an idle connection is kept.
        pub idle_conn_timeout: Duration,
        /// Connections open at a time to one upstream; 0 is any number.
        pub max_conns_per_host: usize,
        /// How long a connection carries calls; 0 is as long as it stays open.
        pub max_conn_age: Duration,
        /// How often the addresses of a directly called function are looked up; 0 is with each connection.
        pub resolve_interval: Duration,
    }
}

section! {
    /// `[auth]`: who may use the API and the portal.
    pub struct Auth {
        /// Basic authentication on or off.
        pub basic: bool,
        /// Directory of the credential files.
        pub secret_path: PathBuf,
        /// External decision about each protected request.
        pub proxy_url: Option<Url>,
        /// File with the value of `proxy_url`, in its place.
        pub proxy_url_file: Option<SecretFile>,
        /// Accepted for compatibility; OpenFaaS never sent the body either.
        pub proxy_pass_body: bool,
    }
}

section! {
    /// `[scaling]`: how many replicas functions have.
    pub struct Scaling {
        /// Start functions when they are called; by default only with the process provider.
        pub from_zero: Option<bool>,
        /// How often a starting function is looked at.
        pub poll_interval: Duration,
        /// How long a call waits for a replica.
        pub activation_timeout: Duration,
        /// How long a replica count is believed.
        pub cache_ttl: Duration,
        /// Most calls that wait for one function's replicas; more get 503. 0 is any number.
        pub max_held: u32,
        /// Scale functions that ask for it by their load.
        pub autoscale: bool,
        /// Pause between two decisions about a function.
        pub interval: Duration,
        /// Where the load of functions is read.
        pub signals: Signals,
        /// Which gateway scales, of several.
        pub leader: Leader,
        /// Load of one replica, where nothing says otherwise.
        pub target: u32,
        /// Most replicas, where nothing says otherwise.
        pub max: u32,
        /// How long a function is unused before it goes to zero, where nothing says otherwise.
        pub zero_duration: Duration,
        /// How long a number of replicas that was needed holds against a smaller one, where nothing says otherwise.
        pub down_window: Duration,
        /// Over how long the load is taken.
        pub stable_window: Duration,
        /// Over how long a sudden rise is taken.
        pub panic_window: Duration,
        /// Queries to Prometheus by the name that `com.openfaas.scale.type` gives.
        pub queries: BTreeMap<String, String>,
    }
}

choice! {
    /// Where the load of functions is read.
    pub enum Signals {
        /// From this gateway's own counters.
        Gateway = "gateway",
        /// From Prometheus, which adds up several gateways.
        Prometheus = "prometheus",
    }
}

choice! {
    /// Which gateway scales, of several.
    pub enum Leader {
        /// This one always does.
        Always = "always",
        /// Whichever holds the lease in NATS.
        Nats = "nats",
    }
}

section! {
    /// `[prometheus]`: where invocation counts come from.
    pub struct Prometheus {
        /// Host; without it counts come from this gateway.
        pub host: Option<String>,
        /// Port.
        pub port: u16,
    }
}

section! {
    /// `[ui]`: portal and API reference.
    pub struct Ui {
        /// Serve them.
        pub enabled: bool,
    }
}

choice! {
    /// How log lines are written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

section! {
    /// `[logging]`: what is logged, and how.
    pub struct Logging {
        /// Level or filter directives.
        pub level: String,
        /// Text or JSON.
        pub format: LogFormat,
        /// One line for each request.
        pub access: bool,
        /// Which share of those lines is written; requests that failed always have theirs.
        pub access_sample: Ratio,
        /// Add the upstream's address and path to the access line.
        pub upstream_uri: bool,
    }
}

section! {
    /// `[tracing]`: W3C Trace Context, and spans for OpenTelemetry.
    pub struct Tracing {
        /// Base URL of an OTLP receiver; without it no spans are recorded.
        pub otlp_endpoint: Option<Url>,
        /// Headers of requests to it; the values are secrets.
        pub headers: BTreeMap<String, String>,
        /// Files with the values of such headers.
        pub headers_file: BTreeMap<String, SecretFile>,
        /// Begin traces for requests that belong to none even if no spans are recorded.
        pub propagate: bool,
        /// Which share of the traces that begin here is sampled.
        pub sample: Ratio,
        /// Name of this gateway in traces.
        pub service_name: String,
        /// What else is said of this gateway in traces.
        pub resource: BTreeMap<String, String>,
        /// Bound on a request to the receiver.
        pub timeout: Duration,
        /// Spans that may wait to be sent.
        pub queue_size: usize,
    }
}

choice! {
    /// How changes of the configuration's files are noticed.
    pub enum WatchMode {
        /// Directory watch, and a poll beneath it.
        Auto = "auto",
        /// Poll only.
        Poll = "poll",
        /// Not at all; a reload has to be asked for.
        Off = "off",
    }
}

section! {
    /// `[reload]`: when the configuration's files are read again.
    pub struct Reload {
        /// What notices changes.
        pub watch: WatchMode,
        /// Time between polls.
        pub poll_interval: Duration,
        /// Silence that ends a burst of file events.
        pub debounce: Duration,
        /// Longest wait for that silence.
        pub debounce_max: Duration,
        /// Refuse a reload that changes a key which needs a restart.
        pub strict: bool,
    }
}
