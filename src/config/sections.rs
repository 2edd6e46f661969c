//! The tables of the configuration file. The comments of `config/gateway.toml`
//! are the manual; here each key has its type.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{
    secret::SecretFile,
    setting::{choice, section},
    size::Size,
};

/// Keys that users will find in descriptions of this gateway but that this
/// version does not have; `*` is any name. Saying so beats "unknown key".
const RESERVED: &[&[&str]] = &[&["stores"]];

/// Whether a key belongs to a later version.
pub(super) fn is_reserved(path: &[String]) -> bool {
    RESERVED.iter().any(|reserved| {
        reserved.len() == path.len() && reserved.iter().zip(path).all(|(part, key)| *part == "*" || part == key)
    })
}

section! {
    /// `[server]`: the listener of API, functions and portal.
    pub struct Server {
        /// Address of API, functions and portal; its default depends on the provider.
        pub listen: Option<SocketAddr>,
        /// Bound on receiving a request, and on waiting for the next one.
        pub read_timeout: Duration,
        /// Bound on sending a response, from the end of the request's head.
        pub write_timeout: Duration,
        /// Bound on a request's head.
        pub max_header_bytes: Size,
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
    /// `[scaling]`: starting functions that are at zero.
    pub struct Scaling {
        /// Start functions when they are called; by default only with the process provider.
        pub from_zero: Option<bool>,
        /// How often a starting function is looked at.
        pub poll_interval: Duration,
        /// How long a call waits for a replica.
        pub activation_timeout: Duration,
        /// How long a replica count is believed.
        pub cache_ttl: Duration,
    }
}

section! {
    /// `[queue]`: asynchronous calls.
    pub struct Queue {
        /// Host of the NATS server.
        pub nats_address: Option<String>,
        /// Port of the NATS server.
        pub nats_port: Option<u16>,
        /// Cluster name, for compatibility.
        pub nats_cluster_name: String,
        /// Channel (queue name).
        pub nats_channel: String,
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
        /// Add the upstream's address and path to the access line.
        pub upstream_uri: bool,
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
