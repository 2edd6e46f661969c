//! `[queue]`: asynchronous calls, and where they are kept.

use std::{path::PathBuf, time::Duration};

use super::{
    secret::SecretFile,
    setting::{choice, section},
    size::Size,
};

section! {
    /// `[queue]`: asynchronous calls.
    pub struct Queue {
        /// What keeps them; unset, NATS where `nats_address` names it.
        pub kind: Option<QueueKind>,
        /// Directory of the embedded queue; by default `queue` in the state directory.
        pub path: Option<PathBuf>,
        /// Largest body of a call; larger ones get 413.
        pub max_body: Size,
        /// Most calls that have not ended; more get 503.
        pub max_jobs: u32,
        /// Most bytes of their bodies; more get 503.
        pub max_bytes: Size,
        /// Most calls under way at a time.
        pub concurrency: u32,
        /// Most calls of one function under way at a time.
        pub function_concurrency: u32,
        /// Most tries of a call, the first one included.
        pub attempts: u32,
        /// Statuses that are tried again.
        pub statuses: Vec<u16>,
        /// Wait before the second try; it doubles.
        pub min_wait: Duration,
        /// Longest wait before another try.
        pub max_wait: Duration,
        /// How these waits are spread.
        pub jitter: Jitter,
        /// How old a call gets before it is given up.
        pub max_age: Duration,
        /// Largest part of an answer's body that is kept.
        pub max_result: Size,
        /// How long calls that have ended are remembered.
        pub result_ttl: Duration,
        /// How long calls that were given up are remembered.
        pub dead_ttl: Duration,
        /// Take calls of functions that are not there.
        pub accept_unknown: bool,
        /// Addresses that callbacks may not go to.
        pub callback_deny: Option<Vec<String>>,
        /// What callbacks are signed with.
        pub callback_secret: Option<String>,
        /// File with the value of `callback_secret`, in its place.
        pub callback_secret_file: Option<SecretFile>,
        /// Host of the NATS server.
        pub nats_address: Option<String>,
        /// Port of the NATS server.
        pub nats_port: Option<u16>,
        /// Cluster name, for compatibility.
        pub nats_cluster_name: String,
        /// Channel (queue name).
        pub nats_channel: String,
        /// How many NATS servers keep each call.
        pub nats_replicas: u16,
        /// Order in which calls in NATS are made.
        pub nats_order: Order,
        /// How long a gateway may be silent before its calls are handed to others.
        pub ack_wait: Duration,
        /// Encrypt the connection to NATS.
        pub nats_tls: bool,
        /// Certificates of authorities for NATS, beside the system's.
        pub nats_ca_file: Option<PathBuf>,
        /// Certificate that NATS is shown.
        pub nats_cert_file: Option<PathBuf>,
        /// Its key.
        pub nats_key_file: Option<PathBuf>,
        /// File with a JWT and the seed of its key.
        pub nats_credentials_file: Option<PathBuf>,
        /// Name that NATS knows.
        pub nats_user: Option<String>,
        /// Its password.
        pub nats_password: Option<String>,
        /// File with the value of `nats_password`, in its place.
        pub nats_password_file: Option<SecretFile>,
    }
}

impl Queue {
    /// What keeps asynchronous calls.
    pub fn kept_by(&self) -> QueueKind {
        self.kind.unwrap_or(match self.nats_address {
            Some(_) => QueueKind::Nats,
            None => QueueKind::Embedded,
        })
    }
}

choice! {
    /// In which order calls in NATS are made.
    pub enum Order {
        /// Of each function, in the order in which they came; functions take turns.
        Function = "function",
        /// All, in the order in which they came.
        Shared = "shared",
    }
}

choice! {
    /// What keeps asynchronous calls.
    pub enum QueueKind {
        /// A database in the state directory.
        Embedded = "embedded",
        /// NATS JetStream, which gateways share.
        Nats = "nats",
        /// Nothing: they get 503.
        Off = "off",
    }
}

choice! {
    /// How waits are spread.
    pub enum Jitter {
        /// Not at all.
        None = "none",
        /// Over the whole wait.
        Full = "full",
        /// Over its second half.
        Equal = "equal",
    }
}

/// A key that stays as it is while the process runs: whether two queues differ in
/// it, and how one gets the other's value.
type Stays = (&'static str, fn(&Queue, &Queue) -> bool, fn(&mut Queue, &Queue));

macro_rules! stays {
    ($($key:literal $field:ident),* $(,)?) => {
        &[$(($key, |one, other| one.$field != other.$field, |one, other| one.$field.clone_from(&other.$field))),*]
    };
}

/// Where the kept calls are stays as it is: to change it is to leave them behind.
const EMBEDDED: &[Stays] = stays!["queue.path" path];
const NATS: &[Stays] = stays![
    "queue.nats_address" nats_address,
    "queue.nats_port" nats_port,
    "queue.nats_channel" nats_channel,
    "queue.nats_replicas" nats_replicas,
    "queue.nats_order" nats_order,
    "queue.ack_wait" ack_wait,
    "queue.nats_tls" nats_tls,
    "queue.nats_ca_file" nats_ca_file,
    "queue.nats_cert_file" nats_cert_file,
    "queue.nats_key_file" nats_key_file,
    "queue.nats_credentials_file" nats_credentials_file,
    "queue.nats_user" nats_user,
    "queue.nats_password" nats_password,
];

impl Queue {
    fn staying(&self) -> &'static [Stays] {
        match self.kept_by() {
            QueueKind::Embedded => EMBEDDED,
            QueueKind::Nats => NATS,
            QueueKind::Off => &[],
        }
    }

    /// Keys in which `next` differs from this one, which is in use, and which take
    /// effect at the next start.
    pub(super) fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let kind = (self.kept_by() != next.kept_by()).then_some(KIND);
        let others = self.staying().iter().filter(|(_, differ, _)| differ(self, next));
        kind.into_iter().chain(others.map(|(key, ..)| *key)).collect()
    }

    /// Takes such a key's value from the one that is in use.
    pub(super) fn keep(&mut self, key: &str, running: &Self) {
        if key == KIND {
            self.kind = Some(running.kept_by());
        }
        if let Some((.., keep)) = running.staying().iter().find(|(staying, ..)| *staying == key) {
            keep(self, running);
        }
    }
}

const KIND: &str = "queue.kind";
