//! `/system/events`: what happens in the gateway, as server-sent events.
//!
//! What is told, and to whom, is [`crate::events`]'s business; here it becomes bytes.
//! The stream has no end of its own: `server.write_timeout` bounds only how long a
//! caller may take nothing of it.

use std::fmt::{Display, Write as _};

use bytes::Bytes;
use chrono::Utc;
use futures_util::stream;
use poem::{
    Body,
    http::{HeaderMap, StatusCode},
};
use poem_openapi::{OpenApi, param::Query};

use super::{
    Tag,
    admitted::{Admitted, Live},
    error::{ApiError, Following},
    parameter::{Flag, Last, NameOrNone, Text, flag, text},
    payload::EventStream,
    target,
};
use crate::{
    events::{Subscription, Told, Unfollowed},
    metrics::query::mix_in,
    model::{ResetEvent, SnapshotEvent, Timestamp, to_json},
    problem::Problem,
    proxy::headers as names,
};

pub(super) struct EventsApi;

/// When somebody who found no place may try again.
const LATER: std::time::Duration = std::time::Duration::from_secs(5);

#[OpenApi(tag = "Tag::System")]
impl EventsApi {
    /// Follow what happens
    ///
    /// Server-sent events, as WHATWG's HTML standard writes them; `data` is one line of JSON with
    /// a `time`. Without a last event, or when what was missed is no longer kept (1024 events are),
    /// the stream begins with `reset` and `snapshot` (`functions` as `/system/functions` lists them,
    /// and `configuration` as `/system/config/status`). Then come `function` (`action` is `added`,
    /// `updated` or `removed`), `replicas`, `scaling` (with a change as `/system/scaling/{name}` has
    /// them), `async` (an asynchronous call's new `state`, or `counts` by state where there are more
    /// than ten in a second; with a queue in NATS, of the calls of all gateways),
    /// `configuration` (as in the snapshot, after each attempt to read it)
    /// and, every two seconds, `load`. A comment says every 15 seconds that nothing happened.
    /// Functions are compared while somebody follows: who comes back when nobody did gets what has
    /// become of them, not what came and went meanwhile.
    /// `load` is not kept: it has the id of the event before it. `reset` has none, so that whoever
    /// loses the connection before the `snapshot` gets both again. The header `Last-Event-ID`, which
    /// browsers send by themselves, says the same as `last_event_id`.
    #[oai(path = "/system/events", method = "get", operation_id = "streamEvents")]
    #[expect(clippy::unused_async, reason = "poem wants operations to be async")]
    async fn follow(
        &self,
        Admitted(snapshot): Admitted,
        live: Live,
        /// Only events of this namespace, and those of none; all when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
        /// The `id` of the last event that was read: the stream goes on after it. Overrides the
        /// header `Last-Event-ID`.
        last_event_id: Query<Option<Last<Text>>>,
        /// `false` ends the stream once everything that has happened is told.
        follow: Query<Option<Last<Flag>>>,
        // Not a parameter of the document: generators make one name of it and `last_event_id`.
        headers: &HeaderMap,
    ) -> Result<EventStream, ApiError<Following>> {
        let namespace = target::namespace(&[text(namespace.0).as_deref()])?;
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let sent = headers.get(names::LAST_EVENT_ID).and_then(|id| id.to_str().ok());
        let last = text(last_event_id.0)
            .or(sent.map(str::to_owned))
            .filter(|last| !last.is_empty());
        let subscription = snapshot.events.follow(last.as_deref(), namespace).map_err(refused)?;
        let feed = Feed {
            subscription,
            live,
            follows: follow.0.is_none() || flag(follow.0),
        };
        let chunks = stream::unfold(feed, |mut feed| async move {
            let chunk = feed.next().await?;
            Some((Ok::<_, std::io::Error>(chunk), feed))
        });
        Ok(EventStream(Body::from_bytes_stream(chunks)))
    }
}

fn refused(unfollowed: Unfollowed) -> Problem {
    let text = match unfollowed {
        Unfollowed::Full(most) => format!("{most} streams of events are read already, which is as many as may be"),
        Unfollowed::Stopping => "the gateway is stopping".to_owned(),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(LATER)
}

/// A stream of events and what its snapshots need.
struct Feed {
    subscription: Subscription,
    live: Live,
    follows: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        let told = if self.follows {
            self.subscription.next().await?
        } else {
            self.subscription.missed()?
        };
        Some(self.written(told).into())
    }

    fn written(&self, told: Told) -> String {
        let mut text = String::new();
        match told {
            Told::Nothing => text.push_str(": keep-alive\n\n"),
            Told::Events(events) => {
                for (id, event) in events {
                    write(&mut text, Some(&id), event.kind.as_str(), &event.data);
                }
            }
            Told::Load(id, load) => write(&mut text, Some(&id), "load", &to_json(&*load)),
            Told::Anew {
                reason,
                at,
                mut functions,
            } => {
                let snapshot = self.live.current.get();
                let time = Timestamp(Utc::now());
                let reset = ResetEvent {
                    time,
                    reason: reason.as_str().to_owned(),
                };
                write(&mut text, None, "reset", &to_json(&reset));
                // Prometheus, if that is where the list has its counts from, is not asked: it may take its time.
                mix_in(&mut functions, None, &snapshot.metrics);
                let whole = SnapshotEvent {
                    time,
                    functions,
                    configuration: snapshot.status(self.live.control.journal()),
                };
                write(&mut text, Some(&at), "snapshot", &to_json(&whole));
            }
        }
        text
    }
}

/// Writes an event; its data must be one line.
fn write(text: &mut String, id: Option<&dyn Display>, kind: &str, data: &str) {
    if let Some(id) = id {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {kind}\ndata: {data}\n\n");
}
