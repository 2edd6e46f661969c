//! A lease that is a key of a NATS key-value bucket whose values end by
//! themselves. Creating the key gets the lease, updating it at the revision that
//! one knows renews it, and both fail when somebody else was first.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{self, kv, stream};
use tokio::time::{Instant, MissedTickBehavior};

use super::Lease;
use crate::{nats::Server, shutdown::Tasks};

/// How long the lease lasts without being renewed.
const LASTS: Duration = Duration::from_secs(9);

/// How often it is renewed, or asked for.
const RENEWED: Duration = Duration::from_secs(2);

/// How long before its end the holder stops acting on it: clocks differ in speed,
/// and what was decided needs time to be done.
const MARGIN: Duration = Duration::from_secs(3);

const BUCKET: &str = "faas-gateway-leases";
const KEY: &str = "autoscaler";

/// The lease, or the wish for it. Dropping it gives it back.
pub struct NatsLease {
    state: Arc<Mutex<State>>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct State {
    held_until: Option<Instant>,
    holder: Option<String>,
}

impl NatsLease {
    /// Asks for the lease at a NATS server, again and again; `name` is how others
    /// know this gateway.
    pub fn start(server: Server, name: String) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let tasks = Tasks::new();
        tasks.spawn(keep(server, name, Arc::clone(&state), tasks.clone()));
        Self { state, tasks }
    }
}

impl std::fmt::Debug for NatsLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NatsLease({:?})", self.holder())
    }
}

impl Drop for NatsLease {
    fn drop(&mut self) {
        self.tasks.drain();
    }
}

impl Lease for NatsLease {
    fn is_held(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held_until.is_some_and(|until| Instant::now() < until)
    }

    fn holder(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.holder.clone()
    }
}

async fn keep(server: Server, name: String, state: Arc<Mutex<State>>, tasks: Tasks) {
    let stop = tasks.draining().clone();
    let mut held = None;
    let mut bucket = None;
    let mut failing = false;
    let mut turns = tokio::time::interval(RENEWED);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = stop.cancelled() => break,
        }
        // From before the question: the server counts from a later time.
        let asked = Instant::now();
        let turn = async {
            if bucket.is_none() {
                bucket = Some(open(&server, &name).await?);
            }
            let bucket = bucket.as_ref().expect("it was opened");
            turn(bucket, &name, held).await
        };
        let told = tokio::time::timeout(RENEWED, turn).await;
        let told = told.unwrap_or_else(|_| Err(format!("no answer within {RENEWED:?}")));
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Ok((revision, holder)) => {
                if revision.is_some() != held.is_some() {
                    tracing::info!(
                        holder,
                        "this gateway {} scaling",
                        if revision.is_some() { "does the" } else { "leaves" }
                    );
                }
                if failing {
                    tracing::info!("the lease for scaling can be asked for again");
                }
                failing = false;
                held = revision;
                state.held_until = held.map(|_| asked + LASTS - MARGIN);
                state.holder = holder;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the lease for scaling cannot be asked for");
                }
                failing = true;
                // What was held is held until it ends.
                bucket = bucket.filter(|_| error != LOST);
                state.holder = None;
            }
        }
    }
    if let (Some(bucket), Some(revision)) = (bucket, held) {
        // Whoever is next need not wait for its end. It ends by itself anyway.
        let given = bucket.delete_expect_revision(KEY, Some(revision));
        if let Ok(Err(error)) = tokio::time::timeout(RENEWED, given).await {
            tracing::debug!(%error, "lease not given back");
        }
    }
}

/// The bucket is not there any more.
const LOST: &str = "the bucket is gone";

async fn open(server: &Server, name: &str) -> Result<kv::Store, String> {
    let client = server.connect(name).await?;
    let jetstream = jetstream::new(client);
    // As a bucket is made; the crate's own way asks servers for more than those
    // before 2.10 say.
    let config = stream::Config {
        name: format!("KV_{BUCKET}"),
        description: Some("Which gateway scales".to_owned()),
        subjects: vec![format!("$KV.{BUCKET}.>")],
        max_messages_per_subject: 1,
        max_age: LASTS,
        discard: stream::DiscardPolicy::New,
        num_replicas: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    };
    let created = jetstream.create_stream(config).await;
    // Where it is there, another version may have made it with other bounds.
    let bucket = jetstream.get_key_value(BUCKET).await;
    bucket.map_err(|error| {
        created
            .err()
            .map_or_else(|| error.to_string(), |error| error.to_string())
    })
}

/// Renews the lease, or asks for it: the revision where it is held, and who has it.
async fn turn(bucket: &kv::Store, name: &str, held: Option<u64>) -> Result<(Option<u64>, Option<String>), String> {
    let value = name.to_owned().into_bytes();
    let ours = |revision| Ok((Some(revision), Some(name.to_owned())));
    if let Some(revision) = held
        && let Ok(revision) = bucket.update(KEY, value.clone().into(), revision).await
    {
        return ours(revision);
    }
    match bucket.create(KEY, value.into()).await {
        Ok(revision) => ours(revision),
        Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {
            let holder = bucket.get(KEY).await.map_err(|error| error.to_string())?;
            Ok((None, holder.map(|holder| String::from_utf8_lossy(&holder).into_owned())))
        }
        Err(error) => {
            let missing = bucket.status().await.is_err();
            Err(if missing { LOST.to_owned() } else { error.to_string() })
        }
    }
}
