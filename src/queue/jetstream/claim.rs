//! Taking jobs, and noting how they went.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{self, AckKind, message::Acker},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{TryStreamExt, future::join_all};
use tokio_util::sync::CancellationToken;

use super::{
    Allowed, Claimed, Finished, LOOK, Lane, ObjectError, PutError, QueueError, Record, Running, Shared, State, Streams,
    TRIES, Then, UNKEPT, attempts, fields, held,
    keep::is_stray,
    message,
    step::{self, Received, Step},
    time, unavailable,
};

/// How long the server may take to say whether it has a job.
const ANSWER: Duration = Duration::from_secs(2);

/// Most jobs that are fetched at a time.
const AT_ONCE: usize = 16;

/// A job that was taken from the schedule, and runs nowhere yet; dropping it puts it
/// back, for who wanted it may have left.
struct Place<'s> {
    shared: &'s Shared,
    taken: Option<(String, Lane)>,
}

impl Place<'_> {
    fn put_back(&mut self, at: Option<DateTime<Utc>>) {
        if let Some((id, lane)) = self.taken.take() {
            let mut inner = self.shared.inner();
            inner.index.schedule.ended(&lane);
            inner.index.look_again(&id, Utc::now(), at);
        }
    }

    /// Keeps the place of a job that runs now.
    fn keep(mut self, id: &str) {
        let Some((wanted, lane)) = self.taken.take().filter(|(wanted, _)| wanted != id) else {
            return;
        };
        let (now, mut inner) = (Utc::now(), self.shared.inner());
        if is_stray(&wanted) {
            // There may be more.
            inner.index.schedule.add(&wanted, &lane, now);
        } else if !inner.running.contains_key(&wanted) {
            inner.index.look_again(&wanted, now, Some(now));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.put_back(Some(Utc::now()));
    }
}

/// A message that was handed to this gateway; dropping it hands it out again.
struct Delivery(Option<Acker>);

impl Delivery {
    fn keep(mut self) -> Option<Acker> {
        self.0.take()
    }

    async fn answer(mut self, kind: AckKind) {
        if let Some(acker) = self.0.take()
            && let Err(error) = acker.ack_with(kind).await
        {
            // It is handed out again later.
            tracing::debug!(%error, "message of an asynchronous call not acknowledged");
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(acker) = self.0.take() {
            #[expect(
                clippy::disallowed_methods,
                reason = "sends one message, and what is not let go of now is handed out later"
            )]
            tokio::spawn(async move { Self(Some(acker)).answer(AckKind::Nak(None)).await });
        }
    }
}

/// The next job that is due.
pub(super) async fn next(shared: &Arc<Shared>, allowed: &dyn Allowed) -> Claimed {
    loop {
        let now = Utc::now();
        let (ready, taken, due) = {
            let mut inner = shared.inner();
            // Its lane has counted it since it was claimed.
            let ready = if allowed.free() > 0 {
                inner.ready.pop_front()
            } else {
                None
            };
            let taken = match ready {
                Some(_) => None,
                None => inner.index.schedule.take(now, allowed),
            };
            (ready, taken, inner.index.schedule.next_due(now))
        };
        if let Some(ready) = ready {
            return ready;
        }
        let Some((id, lane)) = taken else {
            let wait = due.and_then(|due| (due - now).to_std().ok()).unwrap_or(LOOK).min(LOOK);
            // Only ends the wait sooner.
            let _ = tokio::time::timeout(wait, shared.changed.notified()).await;
            continue;
        };
        // The one that was taken counts already.
        let more = {
            let under_way = shared.inner().index.schedule.running(&lane);
            allowed.allowed(&lane).saturating_sub(under_way)
        };
        let most = 1 + more.min(allowed.free().saturating_sub(1)).min(AT_ONCE - 1);
        let place = Place {
            shared,
            taken: Some((id, lane.clone())),
        };
        take(shared, &lane, place, most).await;
    }
}

/// Fetches and claims up to `most` jobs of a lane, in the place of one that was
/// taken from the schedule.
async fn take(shared: &Arc<Shared>, lane: &Lane, mut place: Place<'_>, most: usize) {
    let messages = match fetch(shared, lane, most).await {
        Ok(messages) if messages.is_empty() => return place.put_back(None),
        Ok(messages) => messages,
        Err(error) => {
            tracing::debug!(%error, "no asynchronous calls taken; trying again");
            return place.put_back(Some(Utc::now() + LOOK));
        }
    };
    let claims = messages.into_iter().map(|message| claim(shared, lane, message));
    let (mut claimed, mut failed) = (None, false);
    for claim in join_all(claims).await {
        match claim {
            // The first one has the place; others take their own.
            Ok(Some(_)) if claimed.is_some() => shared.inner().index.schedule.begun(lane),
            Ok(Some(id)) => claimed = Some(id),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "asynchronous call not taken; trying again");
                failed = true;
            }
        }
    }
    match claimed {
        Some(id) => place.keep(&id),
        None if failed => place.put_back(Some(Utc::now() + UNKEPT)),
        None => place.put_back(Some(Utc::now())),
    }
}

/// Up to `most` messages of a lane, of those that are there.
async fn fetch(shared: &Shared, lane: &Lane, most: usize) -> Result<Vec<jetstream::Message>, QueueError> {
    let streams = shared.streams()?;
    let known = shared.inner().consumers.get(lane).cloned();
    let consumer = if let Some(consumer) = known {
        consumer
    } else {
        let consumer = streams.consumer(lane).await.map_err(unavailable)?;
        shared.inner().consumers.insert(lane.clone(), consumer.clone());
        consumer
    };
    let fetched = async {
        let messages = consumer.fetch().max_messages(most).messages().await;
        let messages = messages.map_err(|error| error.to_string())?;
        messages.try_collect().await.map_err(|error| error.to_string())
    };
    // Nobody answers a question that was under way when the connection was lost.
    let fetched = tokio::time::timeout(ANSWER, fetched).await;
    let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")));
    fetched.map_err(|error| {
        // It may be gone: the next time it is made anew.
        shared.inner().consumers.remove(lane);
        unavailable(error)
    })
}

/// Makes a message's job this gateway's, to be handed out next, and tells its id;
/// `None` where there is nothing to do for it now.
async fn claim(shared: &Arc<Shared>, lane: &Lane, message: jetstream::Message) -> Result<Option<String>, QueueError> {
    let streams = shared.streams()?;
    let (number, delivered) = {
        let info = message.info().map_err(|error| unavailable(error.to_string()))?;
        (info.stream_sequence, info.delivered)
    };
    let (message, acker) = message.split();
    let delivery = Delivery(Some(acker));
    let headers = message.headers.unwrap_or_default();
    let namespace = &shared.options.default_namespace;
    let (mut job, run) = match message::decode(Some(&headers), &message.payload, namespace, Utc::now()) {
        Ok(decoded) => decoded,
        Err(error) => {
            tracing::error!(number, %error, "message in the queue dropped");
            delivery.answer(AckKind::Term).await;
            return Ok(None);
        }
    };
    let received = Received {
        run,
        number,
        has_object: headers.get(message::OBJECT).is_some(),
        job: &job,
    };
    let mut known = shared.known(&streams, &job.id).await?;
    let mut body = None;
    for _ in 0..TRIES {
        let is = {
            let inner = shared.inner();
            (
                inner.index.grave(&job.id).is_some(),
                inner.running.contains_key(&job.id),
            )
        };
        let (record, revision) = match step::of(&received, known, is, Utc::now()) {
            Step::Make(record, revision) => (record, revision),
            Step::Nothing { archive } => {
                if archive {
                    let archived = shared.archive(&streams, &job.id, &headers, message.payload).await;
                    archived.map_err(unavailable)?;
                }
                delivery.answer(AckKind::Ack).await;
                return Ok(None);
            }
            Step::Later(wait) => {
                delivery.answer(AckKind::Nak(Some(wait))).await;
                return Ok(None);
            }
        };
        // Not before it is known that the job is to be made: what has ended has none.
        if received.has_object && body.is_none() {
            match streams.object(&Streams::body_object(&job.id)).await {
                Err(ObjectError::Unavailable(error)) => {
                    let pause = step::pause(delivered);
                    tracing::warn!(
                        id = job.id,
                        error,
                        ?pause,
                        "body of an asynchronous call not read; trying again"
                    );
                    delivery.answer(AckKind::Nak(Some(pause))).await;
                    return Ok(None);
                }
                found => body = Some(found),
            }
        }
        begin(shared, lane, (&job.id, record.run), &headers, &message.payload);
        match shared.write(&streams, &record, revision).await {
            Ok(()) => {
                job.created = time(record.created);
                if let Some(acker) = delivery.keep() {
                    hold(shared, &job.id, acker);
                }
                let lost = match body {
                    Some(Ok(body)) => {
                        job.body = body;
                        None
                    }
                    Some(Err(error)) => Some(format!("the body of the call is gone: {error}")),
                    None => None,
                };
                let id = job.id.clone();
                let tries = record.tries;
                shared.inner().ready.push_back(Claimed { job, tries, lost });
                return Ok(Some(id));
            }
            Err(error) => {
                shared.inner().running.remove(&job.id);
                match error {
                    PutError::Conflict => known = shared.reread(&streams, &job.id).await?,
                    PutError::Failed(error) => return Err(unavailable(error)),
                }
            }
        }
    }
    Err(unavailable(format!("too many gateways change call {}", job.id)))
}

/// Notes that a job runs here.
fn begin(shared: &Shared, lane: &Lane, (id, run): (&str, u32), headers: &HeaderMap, payload: &Bytes) {
    let running = Running {
        lane: lane.clone(),
        run,
        token: CancellationToken::new(),
        headers: headers.clone(),
        payload: payload.clone(),
        held: None,
    };
    shared.inner().running.insert(id.to_owned(), running);
}

/// Goes on saying that a job is worked on, until it does not run any more.
fn hold(shared: &Shared, id: &str, acker: Acker) {
    let acker = Arc::new(acker);
    let saying = Arc::clone(&acker);
    let pause = shared.options.ack_wait / 3;
    let lease = held(async move {
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = saying.ack_with(AckKind::Progress).await {
                tracing::debug!(%error, "message of an asynchronous call not held");
            }
        }
    });
    if let Some(running) = shared.inner().running.get_mut(id) {
        running.held = Some((acker, lease));
    }
}

/// Notes a try, and lets go of the job.
pub(super) async fn finish(shared: &Shared, id: &str, finished: Finished) -> Result<(), QueueError> {
    let kept = note(shared, id, &finished).await;
    let Some(running) = shared.inner().running.remove(id) else {
        return kept;
    };
    let kind = match (&kept, &finished.then) {
        (Err(_), _) => AckKind::Nak(Some(UNKEPT)),
        (Ok(()), Then::End(_)) => AckKind::Ack,
        (Ok(()), Then::Again(due)) => AckKind::Nak(Some((*due - Utc::now()).to_std().unwrap_or_default())),
    };
    if let Some((acker, _lease)) = &running.held
        && let Err(error) = acker.ack_with(kind).await
    {
        tracing::debug!(id, %error, "message of an asynchronous call not acknowledged; its record says how it went");
    }
    let mut inner = shared.inner();
    inner.index.schedule.ended(&running.lane);
    let now = Utc::now();
    if kept.is_err() {
        inner.index.look_again(id, now, Some(now + UNKEPT));
    } else if inner.index.get(id).is_some_and(|known| known.record.run != running.run) {
        // Another run began while this one ended.
        inner.index.look_again(id, now, None);
    }
    drop(inner);
    shared.changed.notify_one();
    kept
}

/// Writes how a try went, and all that its end gives rise to before it.
async fn note(shared: &Shared, id: &str, finished: &Finished) -> Result<(), QueueError> {
    let streams = shared.streams()?;
    let known = shared.known(&streams, id).await?;
    let run = shared.inner().running.get(id).map(|running| running.run);
    let is_of = |record: &Record| run.is_none_or(|run| run == record.run);
    if known.as_ref().is_some_and(|known| !is_of(&known.record)) {
        // It was taken back, and driven again before this run had ended.
        return Ok(());
    }
    let was_cancelled = known.is_none_or(|known| known.record.state() == State::Cancelled);
    let ended = match finished.then {
        _ if was_cancelled => Some(State::Cancelled),
        Then::End(state) => Some(state),
        Then::Again(_) => None,
    };
    if let Some(state) = ended {
        for job in finished.follow.iter().filter(|_| !was_cancelled) {
            shared.publish(job.clone()).await?;
        }
        if state != State::Succeeded {
            let sent = shared
                .inner()
                .running
                .get(id)
                .map(|running| (running.headers.clone(), running.payload.clone()));
            if let Some((headers, payload)) = sent {
                let archived = shared.archive(&streams, id, &headers, payload).await;
                archived.map_err(unavailable)?;
            }
        }
        if let Some(answer) = finished
            .answer
            .as_ref()
            .filter(|answer| !answer.body.is_empty() && !was_cancelled)
        {
            let subject = streams.answer_subject(id);
            let put = streams.put_large(subject, HeaderMap::new(), answer.body.clone()).await;
            put.map_err(unavailable)?;
        }
    }
    let noted = shared
        .change(&streams, id, |record| {
            if !is_of(record) {
                return Ok(None);
            }
            record.attempts = attempts::with(&record.attempts, &finished.attempt);
            record.tries += 1;
            if record.state() == State::Cancelled {
                return Ok(None);
            }
            record.answer = finished
                .answer
                .as_ref()
                .map(|answer| (answer.status, fields::text(&answer.headers), answer.truncated));
            match finished.then {
                Then::Again(due) => {
                    record.set_state(State::Retrying);
                    record.due = due.timestamp_micros();
                    Ok(None)
                }
                Then::End(state) => {
                    record.set_state(state);
                    record.finished = Some(Utc::now().timestamp_micros());
                    Ok((record.has_object && state == State::Succeeded).then_some(()))
                }
            }
        })
        .await;
    match noted {
        Ok(Some(())) => streams.erase_object(&Streams::body_object(id)).await,
        // Not found: purged while it ran, which can be when it was cancelled.
        Ok(None) | Err(QueueError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
