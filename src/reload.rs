//! Replacing the configuration while the gateway runs.
//!
//! Every trigger (a file event, a poll, SIGHUP) is a request to one task, which
//! handles them one after the other: read, compare by content, parse, check,
//! build, swap, report. Any failure keeps what runs, whole. Requests that wait
//! while a reload runs are answered by the next one, together; of those that
//! expect a certain configuration to be live, each has a turn of its own.
//!
//! What "build and swap" means is behind [`Live`]; [`Snapshots`] is the gateway's
//! own. Reading and checking is [`crate::config`]'s part.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

use crate::{
    config::{Config, ConfigError, Loaded, Sources, Unusable},
    shutdown::Tasks,
    snapshot::{Current, Snapshot, Source},
    systemd,
    telemetry::Telemetry,
};

pub use crate::snapshot::control::{Ask, Caller, Journal, Outcome, Trigger, Verdict};

mod audit;
mod files;
mod transaction;

use transaction::{Asked, Transaction, ended};

/// Requests that may wait; each is answered by the next reload, so few are needed.
const WAITING: usize = 64;

/// What runs, and how to replace it.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// The configuration that is live.
    fn config(&self) -> Config;

    /// The generation that is live.
    fn generation(&self) -> u64;

    /// What the live configuration was read from.
    fn source(&self) -> Source;

    /// Builds everything from a checked configuration and makes it live.
    ///
    /// # Errors
    /// Something could not be built; what ran still runs, unchanged.
    async fn apply(&self, loaded: Loaded) -> Result<(), Vec<ConfigError>>;

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
    async fn build(&self, previous: Arc<Snapshot>, loaded: Loaded) -> Result<Snapshot, Vec<ConfigError>>;

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

    fn source(&self) -> Source {
        self.current.get().source.clone()
    }

    async fn apply(&self, loaded: Loaded) -> Result<(), Vec<ConfigError>> {
        let previous = self.current.get();
        let (logging, origins) = (loaded.config.logging.clone(), loaded.origins.clone());
        let generation = previous.generation + 1;
        let mut next = self.builder.build(previous, loaded).await?;
        next.generation = generation;
        let followed = self.telemetry.apply(&logging);
        followed.map_err(|error| vec![Unusable::new(&["logging.level"], error).at(&origins)])?;
        next.announce();
        let next = Arc::new(next);
        let previous = self.current.swap(Arc::clone(&next));
        self.builder.retired(previous, &next);
        Ok(())
    }

    fn report(&self, outcome: &Outcome) {
        self.builder.report(outcome);
        if let Some(exporter) = self.current.get().traces.exporter()
            && let Some(span) = audit::span(outcome, rand::random())
        {
            exporter.export(vec![span]);
        }
    }
}

/// Asks for reloads.
#[derive(Clone)]
pub struct Reloader {
    requests: mpsc::Sender<Request>,
    journal: watch::Receiver<Journal>,
    live: Arc<dyn Live>,
    sources: Arc<Sources>,
}

struct Request {
    ask: Ask,
    reply: oneshot::Sender<Outcome>,
}

impl Reloader {
    /// Starts the task. It ends with `tasks`, and finishes a reload it has begun.
    pub fn start(sources: Sources, live: Arc<dyn Live>, tasks: &Tasks) -> Self {
        let (requests, received) = mpsc::channel(WAITING);
        let (outcomes, journal) = watch::channel(Journal::default());
        let sources = Arc::new(sources);
        let transaction = Transaction::new(Arc::clone(&sources), Arc::clone(&live));
        tasks.spawn(serve(transaction, received, outcomes, tasks.clone()));
        Self {
            requests,
            journal,
            live,
            sources,
        }
    }

    /// Asks for a reload that sees everything written before this call, and
    /// waits for its outcome. Dropping the future does not stop the reload.
    pub async fn request(&self, ask: impl Into<Ask>) -> Outcome {
        let ask = ask.into();
        let trigger = ask.trigger;
        let (reply, outcome) = oneshot::channel();
        let sent = self.requests.send(Request { ask, reply }).await;
        if sent.is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        Outcome {
            errors: vec!["the gateway is stopping".to_owned()],
            ..ended(&*self.live, &trigger.into(), Verdict::Failed)
        }
    }

    /// What became of the reloads so far.
    pub fn journal(&self) -> Journal {
        self.journal.borrow().clone()
    }

    /// The same, and when there is another.
    pub fn outcomes(&self) -> watch::Receiver<Journal> {
        self.journal.clone()
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
    journal: watch::Sender<Journal>,
    tasks: Tasks,
) {
    let mut waiting = Vec::new();
    loop {
        if tasks.draining().is_cancelled() {
            return;
        }
        if waiting.is_empty() {
            tokio::select! {
                Some(request) = requests.recv() => waiting.push(request),
                () = tasks.draining().cancelled() => return,
            }
        }
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
        }
        let live = transaction.fingerprint();
        let (turn, superseded, later) = next_turn(waiting, |ask| ask.accepts(live));
        waiting = later;
        for request in superseded {
            let outcome = transaction.superseded(&Asked::by([&request.ask]));
            answer(request, outcome);
        }
        if turn.is_empty() {
            continue;
        }
        let asked = Asked::by(turn.iter().map(|request| &request.ask));
        let outcome = transaction.reload(&asked).await;
        journal.send_if_modified(|journal| {
            let failing = journal.is_failing();
            let news = journal.add(&outcome);
            if news {
                audit::log(&outcome, failing);
            }
            news
        });
        for request in turn {
            let trigger = request.ask.trigger;
            let outcome = Outcome {
                trigger,
                ..outcome.clone()
            };
            answer(request, outcome);
        }
    }
}

/// Splits requests into those for the next reload, those that what is live does
/// not suit, and those for a later turn. Two that each expect what is live now
/// are not served together: after the first it may be live no longer.
fn next_turn(waiting: Vec<Request>, accepts: impl Fn(&Ask) -> bool) -> (Vec<Request>, Vec<Request>, Vec<Request>) {
    let (suited, superseded): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|request| accepts(&request.ask));
    let mut conditional = false;
    let (turn, later) = suited
        .into_iter()
        .partition(|request| request.ask.expected.is_none() || !std::mem::replace(&mut conditional, true));
    (turn, superseded, later)
}

fn answer(request: Request, outcome: Outcome) {
    // A caller that stopped waiting needs no answer.
    let _gone = request.reply.send(outcome);
}

#[cfg(test)]
mod tests;
