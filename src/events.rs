//! What happens in the gateway, told to whoever follows it (`GET /system/events`).
//!
//! One [`Events`] for the process keeps the latest of them and the functions as they
//! were seen last, under one lock, so that a snapshot is of a certain event. A
//! [`Subscription`] is a position in what is kept: a reader that is too slow is not
//! waited for and costs no memory; it begins anew once what it missed is gone.
//!
//! The load of functions is not kept: only the newest counts. Nothing here looks at
//! functions or measures anything; `app` does, and hands it in.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use crate::{
    model::{
        AsyncEvent, ConfigStatus, ConfigurationEvent, FunctionEvent, FunctionRef, FunctionStatus, LoadEvent,
        ReplicasEvent, ScalingChange, ScalingEvent, Timestamp, to_json,
    },
    shutdown::{Cancelled, Stop},
};

mod calls;
mod known;
mod ring;

pub use known::Version;
pub use ring::{Event, Id, Kind, Reset};

use calls::Calls;
use known::{Known, List, News};
use ring::{Position, Ring};

/// Events that are kept for readers that come back.
const KEPT: usize = 1024;

/// Most readers at a time.
const READERS: usize = 256;

/// Most events that a reader gets at once.
const AT_ONCE: usize = 64;

/// How long nothing is said at most, lest somebody in between takes it for the end.
const SILENCE: Duration = Duration::from_secs(15);

/// What happened, and who follows it.
#[derive(Debug)]
pub struct Events {
    state: Mutex<State>,
    newest: watch::Sender<()>,
    load: watch::Sender<Option<Arc<LoadEvent>>>,
    touched: Notify,
    places: Arc<Semaphore>,
    stop: Stop,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    known: Known,
    calls: Calls,
}

/// Why somebody cannot follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfollowed {
    /// As many do as may.
    Full(usize),
    /// The process is about to end.
    Stopping,
}

impl Events {
    /// Nothing has happened. `epoch` tells this process's events from others';
    /// readers are let go at `stop`.
    pub fn new(epoch: u32, stop: Stop) -> Self {
        Self {
            state: Mutex::new(State {
                ring: Ring::new(epoch, KEPT),
                known: Known::default(),
                calls: Calls::default(),
            }),
            newest: watch::Sender::default(),
            load: watch::Sender::default(),
            touched: Notify::new(),
            places: Arc::new(Semaphore::new(READERS)),
            stop,
        }
    }

    /// How many follow.
    pub fn readers(&self) -> usize {
        READERS - self.places.available_permits()
    }

    /// Follows from after the event with id `last` on, or from now. Only events of
    /// functions in `namespace` are told, where one is given, and those of none.
    ///
    /// # Errors
    /// There is no place, now.
    pub fn follow(self: &Arc<Self>, last: Option<&str>, namespace: Option<String>) -> Result<Subscription, Unfollowed> {
        if self.stop.is_cancelled() {
            return Err(Unfollowed::Stopping);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Unfollowed::Full(READERS))?;
        let mut state = self.state();
        let news = state.known.take_up();
        self.tell(state, news);
        let (position, reset) = match self.state().ring.resume(last) {
            Ok(position) => (position, None),
            Err(reset) => (Position::default(), Some(reset)),
        };
        let mut silence = tokio::time::interval_at(Instant::now() + SILENCE, SILENCE);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Subscription {
            newest: self.newest.subscribe(),
            load: self.load.subscribe(),
            stopped: self.stop.cancelled(),
            events: Arc::clone(self),
            position,
            reset,
            namespace,
            silence,
            _place: place,
        })
    }

    /// A function was changed by this process: it is looked at soon.
    pub fn touch(&self, function: &FunctionRef) {
        self.state().known.touch(function);
        self.touched.notify_one();
    }

    /// Waits until functions were touched, and says which. For one task only.
    pub async fn touched(&self) -> BTreeSet<FunctionRef> {
        loop {
            let touched = self.state().known.take_touched();
            if !touched.is_empty() {
                return touched;
            }
            self.touched.notified().await;
        }
    }

    /// Takes a look at one function; `None` says that there is none.
    pub fn look(&self, function: &FunctionRef, status: Option<FunctionStatus>, now: DateTime<Utc>) {
        let mut state = self.state();
        let news = state.known.look(function, status);
        self.publish(state, news.map(|news| told(news, now)));
    }

    /// What [`Events::list`] must be given; taken before the list is read.
    pub fn version(&self) -> Version {
        self.state().known.version()
    }

    /// Takes a list of all functions that began to be read at `since`. Those that it
    /// does not have are gone, if it is complete. While nobody follows it is only put
    /// aside, which costs nothing.
    pub fn list(&self, functions: Arc<[FunctionStatus]>, is_complete: bool, since: Version, now: DateTime<Utc>) {
        let list = List {
            functions,
            is_complete,
            since,
            at: now,
        };
        let mut state = self.state();
        // With the state locked: who comes has a place first, and takes it up then.
        let news = if self.readers() == 0 {
            state.known.put_aside(list)
        } else {
            let before = state.known.take_up();
            let before = before.into_iter().flat_map(|(news, _)| news);
            Some((before.chain(state.known.list(&list)).collect(), now))
        };
        self.tell(state, news);
    }

    fn tell(&self, state: MutexGuard<'_, State>, news: Option<(Vec<News>, DateTime<Utc>)>) {
        let (news, at) = news.unwrap_or_default();
        self.publish(state, news.into_iter().map(|news| told(news, at)));
    }

    /// The functions as they were seen last.
    pub fn functions(&self) -> Vec<FunctionRef> {
        self.state().known.functions().map(FunctionStatus::function).collect()
    }

    /// A function was scaled, or was to be.
    pub fn scaled(&self, function: &FunctionRef, change: ScalingChange) {
        let event = ScalingEvent {
            time: change.at,
            name: function.name.clone(),
            namespace: function.namespace.clone(),
            change,
        };
        self.publish(
            self.state(),
            [event_of(Kind::Scaling, &function.namespace, to_json(&event))],
        );
    }

    /// An asynchronous call got into another state, at its so many-th try.
    pub fn call_changed(
        &self,
        (id, function): (&str, &FunctionRef),
        state: &'static str,
        attempts: u32,
        now: DateTime<Utc>,
    ) {
        let mut locked = self.state();
        if !locked.calls.changed(state, now) {
            return;
        }
        let event = AsyncEvent {
            time: Timestamp(now),
            id: Some(id.to_owned()),
            name: Some(function.name.clone()),
            namespace: Some(function.namespace.clone()),
            state: Some(state.to_owned()),
            attempts: Some(attempts),
            counts: None,
        };
        self.publish(locked, [event_of(Kind::Async, &function.namespace, to_json(&event))]);
    }

    /// Tells how many asynchronous calls got into each state, of those that were not
    /// told one by one. To be called once in a while.
    pub fn tell_counts(&self, now: DateTime<Utc>) {
        let mut state = self.state();
        let counts = state.calls.take(now);
        let event = counts.map(|counts| AsyncEvent {
            time: Timestamp(now),
            id: None,
            name: None,
            namespace: None,
            state: None,
            attempts: None,
            counts: Some(counts),
        });
        self.publish(state, event.map(|event| event_of(Kind::Async, "", to_json(&event))));
    }

    /// The configuration was read, with this result.
    pub fn configured(&self, status: ConfigStatus, now: DateTime<Utc>) {
        let event = ConfigurationEvent {
            time: Timestamp(now),
            status,
        };
        self.publish(self.state(), [event_of(Kind::Configuration, "", to_json(&event))]);
    }

    /// The load was measured.
    pub fn measured(&self, load: LoadEvent) {
        self.load.send_replace(Some(Arc::new(load)));
    }

    fn publish(&self, mut state: MutexGuard<'_, State>, events: impl IntoIterator<Item = Event>) {
        let before = state.ring.end();
        for event in events {
            state.ring.push(event);
        }
        let is_new = state.ring.end() != before;
        drop(state);
        if is_new {
            self.newest.send_replace(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn event_of(kind: Kind, namespace: &str, data: String) -> Event {
    Event {
        kind,
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        data,
    }
}

fn told(news: News, now: DateTime<Utc>) -> Event {
    let (action, function, status) = match news {
        News::Replicas(status) => {
            let FunctionRef { name, namespace } = status.function();
            let event = ReplicasEvent {
                time: Timestamp(now),
                name,
                namespace,
                replicas: status.replicas,
                available_replicas: status.available_replicas,
            };
            return event_of(Kind::Replicas, &event.namespace, to_json(&event));
        }
        News::Added(status) => ("added", status.function(), Some(status)),
        News::Updated(status) => ("updated", status.function(), Some(status)),
        News::Removed(function) => ("removed", function, None),
    };
    let event = FunctionEvent {
        time: Timestamp(now),
        action: action.to_owned(),
        name: function.name,
        namespace: function.namespace,
        function: status,
    };
    event_of(Kind::Function, &event.namespace, to_json(&event))
}

/// What a reader is told next.
#[derive(Debug)]
pub enum Told {
    /// To begin anew, with these functions.
    Anew {
        /// Why.
        reason: Reset,
        /// After which event they looked so.
        at: Id,
        /// All that the reader follows, by namespace and name.
        functions: Vec<FunctionStatus>,
    },
    /// What happened.
    Events(Vec<(Id, Arc<Event>)>),
    /// The load, and the last event that was told.
    Load(Id, Arc<LoadEvent>),
    /// Nothing, for a while.
    Nothing,
}

/// Somebody who follows; gives up the place when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    events: Arc<Events>,
    position: Position,
    /// Why it is to begin anew, before anything else.
    reset: Option<Reset>,
    namespace: Option<String>,
    newest: watch::Receiver<()>,
    load: watch::Receiver<Option<Arc<LoadEvent>>>,
    silence: Interval,
    stopped: Cancelled,
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    /// What comes next; waits for it. `None` when the process is about to end. To be
    /// polled by one task only; dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if self.events.stop.is_cancelled() {
                return None;
            }
            if let Some(told) = self.told() {
                self.silence.reset();
                return Some(told);
            }
            tokio::select! {
                _ = self.newest.changed() => {}
                _ = self.load.changed() => self.load.mark_changed(),
                _ = self.silence.tick() => return Some(Told::Nothing),
                () = &mut self.stopped => {}
            }
        }
    }

    /// What comes next, if it has happened: then this is what [`Subscription::next`]
    /// would return at once.
    pub fn missed(&mut self) -> Option<Told> {
        self.told()
    }

    /// What there is to tell now.
    fn told(&mut self) -> Option<Told> {
        if let Some(reason) = self.reset.take() {
            return Some(self.anew(reason));
        }
        if self.load.has_changed().unwrap_or_default() {
            let load = self.load.borrow_and_update().clone();
            if let Some(load) = load {
                let at = self.events.state().ring.id(self.position);
                return Some(Told::Load(at, self.of_load(load)));
            }
        }
        // Before the look, so that what comes after it is noticed.
        self.newest.mark_unchanged();
        let mut wanted = Vec::new();
        loop {
            let state = self.events.state();
            let events = match state.ring.after(self.position, AT_ONCE) {
                Ok(events) => events,
                Err(reason) => {
                    drop(state);
                    return Some(self.anew(reason));
                }
            };
            self.position = events.last()?.0;
            wanted.extend(
                events
                    .into_iter()
                    .filter(|(_, event)| self.wants(event.namespace.as_deref().unwrap_or_default()))
                    .map(|(position, event)| (state.ring.id(position), event)),
            );
            drop(state);
            if !wanted.is_empty() {
                return Some(Told::Events(wanted));
            }
        }
    }

    fn anew(&mut self, reason: Reset) -> Told {
        let state = self.events.state();
        self.position = state.ring.end();
        Told::Anew {
            reason,
            at: state.ring.id(self.position),
            functions: state
                .known
                .functions()
                .filter(|status| self.wants(status.namespace.as_deref().unwrap_or_default()))
                .cloned()
                .collect(),
        }
    }

    /// Whether it follows what happens in a namespace; an empty one says that there
    /// are none.
    fn wants(&self, namespace: &str) -> bool {
        namespace.is_empty() || self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    }

    fn of_load(&self, load: Arc<LoadEvent>) -> Arc<LoadEvent> {
        if self.namespace.is_none() {
            return load;
        }
        let functions = load.functions.iter();
        Arc::new(LoadEvent {
            time: load.time,
            functions: functions.filter(|load| self.wants(&load.namespace)).cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::from_json;

    fn status(name: &str, namespace: &str) -> FunctionStatus {
        let json = format!(r#"{{"name":"{name}","namespace":"{namespace}","image":"i"}}"#);
        from_json(json.as_bytes()).expect("a status")
    }

    fn add(events: &Events, name: &str, namespace: &str) {
        let status = status(name, namespace);
        events.look(&status.function(), Some(status), Utc::now());
    }

    /// What is told, in short, and the id of the last of it.
    fn short(told: Told) -> (Vec<String>, Option<Id>) {
        let namespaced = |event: &Event| event.namespace.clone().unwrap_or_default();
        match told {
            Told::Nothing => (vec!["nothing".to_owned()], None),
            Told::Load(id, load) => (vec![format!("load of {}", load.functions.len())], Some(id)),
            Told::Anew { reason, at, functions } => {
                let names = functions.iter().map(|status| status.name.clone());
                let told = [reason.as_str().to_owned()].into_iter().chain(names);
                (told.collect(), Some(at))
            }
            Told::Events(events) => {
                let told = events
                    .iter()
                    .map(|(_, event)| format!("{} in {}", event.kind.as_str(), namespaced(event)));
                (told.collect(), events.last().map(|(id, _)| *id))
            }
        }
    }

    fn missed(subscription: &mut Subscription) -> Vec<String> {
        let told = std::iter::from_fn(|| subscription.missed());
        told.flat_map(|told| short(told).0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn readers_begin_with_everything_and_go_on_where_they_were() {
        let events = Arc::new(Events::new(7, Stop::new()));
        add(&events, "a", "fn");
        let mut first = events.follow(None, None).expect("a place");
        let (told, at) = short(first.next().await.expect("told"));
        assert_eq!(told, ["connected", "a"]);
        assert_eq!(at.expect("an id").to_string(), "00000007-1");
        assert!(matches!(first.next().await, Some(Told::Nothing)), "after a while");

        add(&events, "b", "dev");
        let (told, at) = short(first.next().await.expect("told"));
        assert_eq!(told, ["function in dev"]);
        drop(first);
        add(&events, "c", "fn");
        let last = at.map(|at| at.to_string());
        let mut second = events.follow(last.as_deref(), None).expect("a place");
        assert_eq!(missed(&mut second), ["function in fn"]);
        let mut third = events
            .follow(Some("00000006-1"), Some("dev".to_owned()))
            .expect("a place");
        assert_eq!(missed(&mut third), ["unknown_id", "b"]);
        add(&events, "d", "fn");
        add(&events, "e", "dev");
        assert_eq!(missed(&mut third), ["function in dev"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_waited_for_and_begins_anew() {
        let events = Arc::new(Events::new(7, Stop::new()));
        let mut reader = events.follow(None, None).expect("a place");
        assert_eq!(missed(&mut reader), ["connected"]);
        for _ in 0..=KEPT / 2 {
            add(&events, "a", "fn");
            events.look(&FunctionRef::new("a", "fn"), None, Utc::now());
        }
        assert_eq!(missed(&mut reader), ["too_old"]);
        let load = |names: &[(&str, &str)]| LoadEvent {
            time: Timestamp(Utc::now()),
            functions: names
                .iter()
                .map(|(name, namespace)| crate::model::FunctionLoad {
                    name: (*name).to_owned(),
                    namespace: (*namespace).to_owned(),
                    ..Default::default()
                })
                .collect(),
        };
        let mut of_one = events.follow(None, Some("dev".to_owned())).expect("a place");
        assert_eq!(missed(&mut of_one), ["connected"]);
        events.measured(load(&[]));
        events.measured(load(&[("a", "fn"), ("b", "dev")]));
        assert_eq!(missed(&mut reader), ["load of 2"], "the newest only");
        assert_eq!(missed(&mut of_one), ["load of 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_and_free_again_and_the_end_is_the_end() {
        let stop = Stop::new();
        let events = Arc::new(Events::new(7, stop.clone()));
        let mut readers: Vec<_> = (0..READERS)
            .map(|_| events.follow(None, None).expect("a place"))
            .collect();
        assert_eq!(events.follow(None, None).err(), Some(Unfollowed::Full(READERS)));
        let mut last = readers.pop().expect("a reader");
        readers.pop();
        assert_eq!(events.readers(), READERS - 1);
        assert!(events.follow(None, None).is_ok());
        assert!(matches!(last.next().await, Some(Told::Anew { .. })));
        stop.cancel();
        assert!(last.next().await.is_none());
        assert_eq!(events.follow(None, None).err(), Some(Unfollowed::Stopping));
    }

    #[tokio::test]
    async fn many_calls_are_counted() {
        let events = Arc::new(Events::new(7, Stop::new()));
        let (function, now) = (FunctionRef::new("f", "fn"), Utc::now());
        let mut reader = events.follow(Some("00000007-0"), None).expect("a place");
        for _ in 0..calls::ONE_BY_ONE + 5 {
            events.call_changed(("id", &function), "queued", 0, now);
        }
        assert_eq!(missed(&mut reader).len(), calls::ONE_BY_ONE as usize);
        events.tell_counts(now + calls::SPAN);
        let Some(Told::Events(told)) = reader.missed() else {
            panic!("nothing is told");
        };
        let data = &told[0].1.data;
        assert!(data.contains(r#""counts":{"queued":5}"#), "{data}");
        events.tell_counts(now + calls::SPAN * 2);
        assert!(reader.missed().is_none());
    }
}
