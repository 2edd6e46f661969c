//! Replacing the configuration while the gateway runs.
//!
//! Every trigger (a file event, a poll, SIGHUP) is a request to one task, which
//! handles them one after the other: read, compare by content, parse, check,
//! build, swap, report. Any failure keeps what runs, whole. Requests that wait
//! while a reload runs are answered by the next one, together.
//!
//! What "build and swap" means is behind [`Live`]; [`Snapshots`] is the gateway's
//! own. Reading and checking is [`crate::config`]'s part.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::Utc;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};
use tracing::{error, info, trace, warn};

use crate::{
    config::{self, Config, ConfigError, ConfigFile, Fingerprint, Loaded, Shadowed, Sources},
    shutdown::Tasks,
    snapshot::{Current, Snapshot},
    systemd,
    telemetry::Telemetry,
};

pub use crate::snapshot::control::{Outcome, Trigger, Verdict};

mod files;

/// How long a file that does not parse gets to be written to its end.
const SECOND_LOOK: Duration = Duration::from_millis(150);

/// Requests that may wait; each is answered by the next reload, so few are needed.
const WAITING: usize = 64;

/// What runs, and how to replace it.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// The configuration that is live.
    fn config(&self) -> Config;

    /// The generation that is live.
    fn generation(&self) -> u64;

    /// Keys of the live configuration's file that do not count.
    fn shadowed(&self) -> Vec<Shadowed> {
        Vec::new()
    }

    /// Builds everything from a checked configuration and makes it live.
    ///
    /// # Errors
    /// Something could not be built; what ran still runs, unchanged.
    async fn apply(&self, loaded: Loaded) -> Result<(), Vec<String>>;

    /// Told about every reload, for metrics. Called before the log line.
    fn report(&self, outcome: &Outcome);
}

/// Makes snapshots; the app's part, which start-up uses too.
#[async_trait]
pub trait Build: Send + Sync + 'static {
    /// Builds a snapshot, carrying over what did not change since `previous`.
    /// Its generation is set by the caller.
    ///
    /// # Errors
    /// Something could not be built; nothing of `previous` has changed.
    async fn build(&self, previous: Arc<Snapshot>, loaded: Loaded) -> Result<Snapshot, Vec<String>>;

    /// Gets the snapshot that was replaced, so that what it owned alone can be
    /// closed when its last request ends.
    fn retired(&self, previous: Arc<Snapshot>, next: &Arc<Snapshot>);

    /// Told about every reload, for metrics.
    fn report(&self, outcome: &Outcome);
}

/// [`Live`] for the gateway.
pub struct Snapshots {
    current: Current,
    telemetry: Telemetry,
    builder: Arc<dyn Build>,
}

impl Snapshots {
    /// Replaces what is in `current` by what `builder` builds.
    pub fn new(current: Current, telemetry: Telemetry, builder: Arc<dyn Build>) -> Self {
        Self {
            current,
            telemetry,
            builder,
        }
    }
}

#[async_trait]
impl Live for Snapshots {
    fn config(&self) -> Config {
        self.current.get().config.clone()
    }

    fn generation(&self) -> u64 {
        self.current.get().generation
    }

    fn shadowed(&self) -> Vec<Shadowed> {
        self.current.get().source.origins.shadowed()
    }

    async fn apply(&self, loaded: Loaded) -> Result<(), Vec<String>> {
        let previous = self.current.get();
        let logging = loaded.config.logging.clone();
        let generation = previous.generation + 1;
        let mut next = self.builder.build(previous, loaded).await?;
        next.generation = generation;
        self.telemetry.apply(&logging).map_err(|error| vec![error])?;
        next.announce();
        let next = Arc::new(next);
        let previous = self.current.swap(Arc::clone(&next));
        self.builder.retired(previous, &next);
        Ok(())
    }

    fn report(&self, outcome: &Outcome) {
        self.builder.report(outcome);
    }
}

/// Asks for reloads.
#[derive(Clone)]
pub struct Reloader {
    requests: mpsc::Sender<Request>,
    last: watch::Receiver<Option<Outcome>>,
    live: Arc<dyn Live>,
    sources: Arc<Sources>,
}

struct Request {
    trigger: Trigger,
    reply: oneshot::Sender<Outcome>,
}

impl Reloader {
    /// Starts the task. `fingerprint` is that of the configuration that is live.
    /// It ends with `tasks`, and finishes a reload it has begun.
    pub fn start(sources: Sources, fingerprint: Fingerprint, live: Arc<dyn Live>, tasks: &Tasks) -> Self {
        let (requests, received) = mpsc::channel(WAITING);
        let (outcomes, last) = watch::channel(None);
        let sources = Arc::new(sources);
        let transaction = Transaction {
            sources: Arc::clone(&sources),
            live: Arc::clone(&live),
            applied: fingerprint,
            pending: Vec::new(),
            failed: None,
        };
        tasks.spawn(serve(transaction, received, outcomes, tasks.clone()));
        Self {
            requests,
            last,
            live,
            sources,
        }
    }

    /// Asks for a reload that sees everything written before this call, and
    /// waits for its outcome. Dropping the future does not stop the reload.
    pub async fn request(&self, trigger: Trigger) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let sent = self.requests.send(Request { trigger, reply }).await;
        if sent.is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        Outcome {
            errors: vec!["the gateway is stopping".to_owned()],
            ..ended(&*self.live, trigger, Verdict::Failed)
        }
    }

    /// The newest outcome, apart from looks that found nothing new; `None`
    /// before the first.
    pub fn last(&self) -> Option<Outcome> {
        self.last.borrow().clone()
    }

    /// Reloads on SIGHUP, until `tasks` drain. From this call on the signal no
    /// longer ends the process.
    ///
    /// # Errors
    /// The signal cannot be listened for.
    pub fn on_hangup(&self, tasks: &Tasks) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (reloader, draining) = (self.clone(), tasks.draining().clone());
        tasks.spawn(async move {
            let forever = async {
                while hangup.recv().await.is_some() {
                    systemd::reloading();
                    reloader.request(Trigger::Signal).await;
                    systemd::ready();
                }
            };
            tokio::select! {
                () = forever => {}
                () = draining.cancelled() => {}
            }
        });
        Ok(())
    }
}

/// Answers requests, all that wait with one reload.
async fn serve(
    mut transaction: Transaction,
    mut requests: mpsc::Receiver<Request>,
    outcomes: watch::Sender<Option<Outcome>>,
    tasks: Tasks,
) {
    loop {
        let first = tokio::select! {
            request = requests.recv() => request,
            () = tasks.draining().cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut waiting = vec![first];
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
        }
        // Somebody who asked gets a real try, whoever asked first.
        let explicit = waiting.iter().find(|request| request.trigger.is_explicit());
        let trigger = explicit
            .or(waiting.first())
            .map_or(Trigger::Poll, |request| request.trigger);
        let outcome = transaction.reload(trigger).await;
        if outcome.is_news(outcomes.borrow().as_ref()) {
            outcomes.send_replace(Some(outcome.clone()));
        }
        for request in waiting {
            // A caller that stopped waiting needs no answer.
            let _gone = request.reply.send(Outcome {
                trigger: request.trigger,
                ..outcome.clone()
            });
        }
    }
}

struct Transaction {
    sources: Arc<Sources>,
    live: Arc<dyn Live>,
    /// Of the configuration that is live.
    applied: Fingerprint,
    /// Keys that wait for a restart since then.
    pending: Vec<&'static str>,
    failed: Option<Failure>,
}

/// The last reload, when it failed.
struct Failure {
    /// The files that what failed refers to: one of them may be what it lacked.
    files: Vec<PathBuf>,
    seen: Fingerprint,
    outcome: Outcome,
}

/// What was read: the files, or why they could not be.
type Content = Result<Vec<ConfigFile>, ConfigError>;

fn fingerprint_of(sources: &Sources, content: &Content, referenced: &[PathBuf]) -> Fingerprint {
    match content {
        Ok(files) => Fingerprint::of(sources, files, referenced),
        Err(error) => Fingerprint::of_failure(error),
    }
}

impl Transaction {
    async fn reload(&mut self, trigger: Trigger) -> Outcome {
        let live_files = self.live.config().referenced_files();
        let (mut content, mut seen) = self.look(live_files.clone()).await;
        if content.is_ok() && seen == self.applied {
            return self.unchanged(trigger);
        }
        if let Some(failed) = &self.failed
            && !trigger.is_explicit()
            && self.look(failed.files.clone()).await.1 == failed.seen
        {
            // Told already; the same files would fail the same way.
            return Outcome {
                trigger,
                ..failed.outcome.clone()
            };
        }
        let mut loaded = self.parse(&content);
        if loaded.is_err() {
            tokio::time::sleep(SECOND_LOOK).await;
            (content, seen) = self.look(live_files.clone()).await;
            if content.is_ok() && seen == self.applied {
                return self.unchanged(trigger);
            }
            loaded = self.parse(&content);
        }
        let kept = loaded.and_then(|loaded| config::keep_running(&self.live.config(), loaded));
        let (mut loaded, changes) = match kept {
            Ok(kept) => kept,
            Err(errors) => {
                let errors = errors.iter().map(ToString::to_string).collect();
                return self.refused(trigger, live_files, seen, errors);
            }
        };
        // Taken before building: credentials that change meanwhile are then
        // seen as a change by the next look.
        let files = loaded.config.referenced_files();
        let (sources, referenced) = (Arc::clone(&self.sources), files.clone());
        let (next, read) = blocking(move || {
            let read = config::source_files(content.as_deref().unwrap_or_default(), &referenced);
            (fingerprint_of(&sources, &content, &referenced), read)
        })
        .await;
        (loaded.fingerprint, loaded.files) = (next, read);
        let origins = loaded.origins.clone();
        let mut warnings = loaded.warnings.clone();
        let implausible = config::implausible(&self.live.config(), &loaded.config);
        warnings.extend(implausible.into_iter().map(|warning| origins.masked(warning)));
        let known = self.live.shadowed();
        let mut shadowed = loaded.origins.shadowed();
        shadowed.retain(|key| !known.contains(key));
        if let Err(errors) = self.live.apply(loaded).await {
            let errors = errors.into_iter().map(|error| origins.masked(error)).collect();
            return self.refused(trigger, files, next, errors);
        }
        self.applied = next;
        self.pending.clone_from(&changes.restart);
        self.failed = None;
        for warning in &warnings {
            warn!("{warning}");
        }
        for key in &changes.restart {
            warn!(key, "{key} changed but keeps its running value until a restart");
        }
        for Shadowed { key, by, .. } in &shadowed {
            warn!(key, by, "{key} changed to no effect: {by} overrides it");
        }
        let outcome = Outcome {
            warnings,
            changed: changes.keys,
            pending_restart: changes.restart,
            shadowed,
            ..ended(&*self.live, trigger, Verdict::Applied)
        };
        self.live.report(&outcome);
        info!(
            trigger = trigger.as_str(),
            generation = outcome.generation,
            changed = outcome.changed.join(", "),
            pending_restart = outcome.pending_restart.join(", "),
            "configuration reloaded"
        );
        outcome
    }

    /// Reads the files and those they refer to. A file that now refers to
    /// others differs by its own content.
    async fn look(&self, files: Vec<PathBuf>) -> (Content, Fingerprint) {
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            let content = sources.read();
            let fingerprint = fingerprint_of(&sources, &content, &files);
            (content, fingerprint)
        })
        .await
    }

    fn parse(&self, content: &Content) -> Result<Loaded, Vec<ConfigError>> {
        match content {
            Ok(files) => config::parse_files(files, &self.sources),
            Err(error) => Err(vec![error.clone()]),
        }
    }

    fn unchanged(&mut self, trigger: Trigger) -> Outcome {
        let recovered = self.failed.take().is_some();
        let outcome = Outcome {
            pending_restart: self.pending.clone(),
            ..ended(&*self.live, trigger, Verdict::Unchanged)
        };
        self.live.report(&outcome);
        let (explicit, trigger) = (trigger.is_explicit(), trigger.as_str());
        if recovered {
            info!(
                trigger,
                generation = outcome.generation,
                "configuration is the live one again"
            );
        } else if explicit {
            info!(trigger, generation = outcome.generation, "configuration unchanged");
        } else {
            // Below debug: a log file in the watched directory would otherwise
            // be the reason for its own next line.
            trace!(trigger, generation = outcome.generation, "configuration unchanged");
        }
        outcome
    }

    /// `seen` is the fingerprint of what failed, with `files`.
    fn refused(&mut self, trigger: Trigger, files: Vec<PathBuf>, seen: Fingerprint, errors: Vec<String>) -> Outcome {
        let outcome = Outcome {
            errors,
            pending_restart: self.pending.clone(),
            ..ended(&*self.live, trigger, Verdict::Failed)
        };
        self.failed = Some(Failure {
            files,
            seen,
            outcome: outcome.clone(),
        });
        self.live.report(&outcome);
        for error in &outcome.errors {
            error!("{error}");
        }
        error!(
            trigger = trigger.as_str(),
            generation = outcome.generation,
            errors = outcome.errors.len(),
            "configuration not reloaded; the old one stays"
        );
        outcome
    }
}

/// An outcome without details.
fn ended(live: &dyn Live, trigger: Trigger, verdict: Verdict) -> Outcome {
    Outcome {
        trigger,
        verdict,
        errors: Vec::new(),
        warnings: Vec::new(),
        generation: live.generation(),
        changed: Vec::new(),
        pending_restart: Vec::new(),
        shadowed: Vec::new(),
        at: Utc::now(),
    }
}

/// Runs file reads where they may block: a mounted file system can hang.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(read).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests;
