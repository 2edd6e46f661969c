//! What the queue has in NATS, and how it is read and written:
//!
//! - the stream `OF_<queue>` of work: one message for each job that has not ended,
//!   under `<queue>.<namespace>.<name>`, or `<queue>.<host>` for what goes to a URL;
//!   others send to `<queue>` itself. An acknowledged message is gone.
//! - the stream `OF_<queue>_calls`, which keeps the last message of each subject:
//!   `state.call` (records), `state.paused`, `answer` (bodies of answers), `job`
//!   (messages of jobs that ended badly) and `key` (idempotency keys).
//! - the object store `OF_<queue>_bodies` for what no message can hold.
//!
//! Names are those of OpenFaaS's own streams where it has such (compatibility.md
//! section 5.3).

use std::{fmt::Write as _, time::Duration};

use async_nats::{
    Client, HeaderMap,
    connection::State as Connection,
    jetstream::{
        self, Context,
        consumer::{AckPolicy, PullConsumer, pull},
        context::PublishErrorKind,
        message::{PublishMessage, StreamMessage},
        object_store::{self, ObjectStore},
        stream::{self, DiscardPolicy, LastRawMessageErrorKind, RawMessageErrorKind, RetentionPolicy, Stream},
    },
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Options, message};
use crate::{
    model::FunctionRef,
    queue::{Job, Lane},
};

mod objects;

pub(super) use objects::ObjectError;

/// Room for header fields in a message.
const HEAD: usize = 16 * 1024;

/// How long the server is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Subjects of records and of what is paused.
const STATE: &str = "state";
const CALL: &str = "call";
const PAUSED: &str = "paused";
const ALL: &str = "all";

/// Why something was not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PutError {
    /// Somebody else wrote before.
    #[error("somebody else wrote before")]
    Conflict,
    /// In words.
    #[error("{0}")]
    Failed(String),
}

/// What a subject of the state is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    Call(String),
    /// All, or a function.
    Paused(Option<FunctionRef>),
}

/// A job that was sent.
pub(super) struct Receipt {
    /// The number of its message.
    pub(super) message: u64,
    /// Whether it was sent before.
    pub(super) is_duplicate: bool,
    pub(super) has_object: bool,
}

/// The streams of one queue.
#[derive(Clone)]
pub(super) struct Streams {
    client: Client,
    context: Context,
    pub(super) work: Stream,
    pub(super) calls: Stream,
    bodies: ObjectStore,
    /// What the object store is kept in.
    store: Stream,
    queue: String,
    ack_wait: Duration,
}

/// The object store of a queue.
fn bucket(queue: &str) -> String {
    format!("OF_{queue}_bodies")
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Streams {
    /// Makes what is not there yet.
    pub(super) async fn open(client: Client, options: &Options) -> Result<Self, String> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(TIMEOUT);
        let queue = options.queue.clone();
        let name = format!("OF_{queue}");
        let work = stream::Config {
            name: name.clone(),
            subjects: vec![queue.clone(), format!("{queue}.>")],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            num_replicas: options.replicas,
            ..stream::Config::default()
        };
        let calls = stream::Config {
            name: format!("{name}_calls"),
            subjects: vec![format!("{queue}_calls.>")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            num_replicas: options.replicas,
            ..stream::Config::default()
        };
        let bodies = object_store::Config {
            bucket: bucket(&queue),
            num_replicas: options.replicas,
            ..object_store::Config::default()
        };
        let store = format!("OBJ_{}", bodies.bucket);
        let bodies = match context.create_object_store(bodies.clone()).await {
            Ok(bodies) => bodies,
            // Where it is there, somebody may have made it otherwise.
            Err(error) => {
                let found = context.get_object_store(&bodies.bucket).await;
                found.map_err(|_| error.to_string())?
            }
        };
        Ok(Self {
            work: stream(&context, work).await?,
            calls: stream(&context, calls).await?,
            store: context.get_stream(&store).await.map_err(words)?,
            bodies,
            client,
            context,
            queue,
            ack_wait: options.ack_wait,
        })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == Connection::Connected
    }

    pub(super) fn call_subject(&self, id: &str) -> String {
        format!("{}_calls.{STATE}.{CALL}.{}", self.queue, token(id))
    }

    pub(super) fn answer_subject(&self, id: &str) -> String {
        format!("{}_calls.answer.{}", self.queue, token(id))
    }

    pub(super) fn job_subject(&self, id: &str) -> String {
        format!("{}_calls.job.{}", self.queue, token(id))
    }

    pub(super) fn key_subject(&self, function: &FunctionRef, key: &str) -> String {
        let mut digest = String::new();
        for byte in Sha256::digest(key) {
            let _ = write!(digest, "{byte:02x}");
        }
        let FunctionRef { name, namespace } = function;
        format!("{}_calls.key.{}.{}.{digest}", self.queue, token(namespace), token(name))
    }

    pub(super) fn paused_subject(&self, function: Option<&FunctionRef>) -> String {
        let what = function.map_or_else(
            || ALL.to_owned(),
            |function| format!("{}.{}", token(&function.namespace), token(&function.name)),
        );
        format!("{}_calls.{STATE}.{PAUSED}.{what}", self.queue)
    }

    /// All subjects of records and of what is paused.
    pub(super) fn state_filter(&self) -> String {
        format!("{}_calls.{STATE}.>", self.queue)
    }

    fn lane_subject(&self, lane: &Lane) -> String {
        match lane {
            Lane::Function(FunctionRef { name, namespace }) => {
                format!("{}.{}.{}", self.queue, token(namespace), token(name))
            }
            Lane::Host(host) => format!("{}.{}", self.queue, token(host)),
            Lane::All => format!("{}.>", self.queue),
        }
    }

    /// Writes the last message of a subject; with `expected`, only if the one that
    /// is there has that number, 0 for none. The number of the new one.
    pub(super) async fn put(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        expected: Option<u64>,
    ) -> Result<u64, PutError> {
        let failed = |error: async_nats::jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => PutError::Conflict,
            _ => PutError::Failed(error.to_string()),
        };
        let mut message = PublishMessage::build().headers(headers).payload(payload);
        if let Some(expected) = expected {
            message = message.expected_last_subject_sequence(expected);
        }
        let message = message.outbound_message(subject);
        let sent =
            self.context
                .publish_with_headers(message.subject, message.headers.unwrap_or_default(), message.payload);
        Ok(sent.await.map_err(failed)?.await.map_err(failed)?.sequence)
    }

    /// The last message of a subject.
    pub(super) async fn get(&self, subject: &str) -> Result<Option<StreamMessage>, String> {
        match self.calls.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(words(error)),
        }
    }

    /// Removes what subjects have.
    pub(super) async fn erase(&self, subject: &str) -> Result<(), String> {
        self.calls.purge().filter(subject).await.map(drop).map_err(words)
    }

    /// Sends a job's message.
    pub(super) async fn send(&self, job: &Job, run: u32) -> Result<Receipt, String> {
        // In base64, four bytes for three.
        let has_object = job.body.len() / 3 * 4 + 2 * HEAD > self.client.server_info().max_payload;
        let mut sent = message::encode(job, &self.queue, run, !has_object);
        if has_object {
            let name = Self::body_object(&job.id);
            self.put_object(&name, &job.body).await?;
            sent.headers.insert(message::OBJECT, &*name);
        }
        self.resend(&job.lane(), &job.id, run, sent.headers, sent.payload)
            .await
            .map(|receipt| Receipt { has_object, ..receipt })
    }

    /// Sends a message as it is.
    pub(super) async fn resend(
        &self,
        lane: &Lane,
        id: &str,
        run: u32,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Receipt, String> {
        headers.insert(message::RUN, run.to_string());
        headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{}#{run}", token(id)));
        let sent = self
            .context
            .publish_with_headers(self.lane_subject(lane), headers, payload)
            .await;
        let ack = sent.map_err(words)?.await.map_err(words)?;
        Ok(Receipt {
            message: ack.sequence,
            is_duplicate: ack.duplicate,
            has_object: false,
        })
    }

    /// A message of the stream of work by its number.
    pub(super) async fn message(&self, number: u64) -> Result<Option<StreamMessage>, String> {
        match self.work.get_raw_message(number).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(words(error)),
        }
    }

    /// The consumer of a lane, made where it is not there.
    pub(super) async fn consumer(&self, lane: &Lane) -> Result<PullConsumer, String> {
        self.consumer_of(consumer_name(lane), self.lane_subject(lane)).await
    }

    /// A consumer of what others send, which is to the queue's own name.
    pub(super) async fn open_consumer(&self) -> Result<PullConsumer, String> {
        self.consumer_of(OPEN.to_owned(), self.queue.clone()).await
    }

    async fn consumer_of(&self, name: String, filter_subject: String) -> Result<PullConsumer, String> {
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // How often is for us to decide, and what waits to be tried again is not
            // to keep others out.
            max_deliver: -1,
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        let made = self.work.create_consumer(config).await;
        match made {
            Ok(consumer) => Ok(consumer),
            // Another version may have made it otherwise.
            Err(error) => self.work.get_consumer(&name).await.map_err(|_| error.to_string()),
        }
    }

    /// Lanes that have messages.
    pub(super) async fn waiting_lanes(&self) -> Result<Vec<Lane>, String> {
        use futures_util::TryStreamExt;

        let found = self.work.info_with_subjects(self.lane_subject(&Lane::All)).await;
        let subjects: Vec<(String, usize)> = found.map_err(words)?.try_collect().await.map_err(words)?;
        Ok(subjects
            .iter()
            .filter_map(|(subject, _)| self.lane_of(subject))
            .collect())
    }

    /// The lane of a subject of the stream of work.
    fn lane_of(&self, subject: &str) -> Option<Lane> {
        let rest = subject.strip_prefix(&*self.queue)?.strip_prefix('.')?;
        Some(match rest.split_once('.') {
            Some((namespace, name)) => Lane::Function(FunctionRef::new(text(name), text(namespace))),
            None => Lane::Host(text(rest)),
        })
    }

    /// Removes the consumers of the other mode, which the server does not let be
    /// beside those of this one.
    pub(super) async fn remove_others(&self, is_shared: bool) -> Result<(), String> {
        use futures_util::TryStreamExt;

        let names: Vec<String> = self.work.consumer_names().try_collect().await.map_err(words)?;
        for name in names {
            let is_other = name != OPEN && (name == consumer_name(&Lane::All)) != is_shared;
            if is_other {
                self.work.delete_consumer(&name).await.map_err(words)?;
            }
        }
        Ok(())
    }

    /// Removes the consumer of a lane.
    pub(super) async fn remove_consumer(&self, lane: &Lane) -> Result<(), String> {
        self.work
            .delete_consumer(&consumer_name(lane))
            .await
            .map(drop)
            .map_err(words)
    }

    /// What a subject of the state is about.
    pub(super) fn about(&self, subject: &str) -> Option<About> {
        let rest = subject.strip_prefix(&*self.queue)?.strip_prefix("_calls.")?;
        let rest = rest.strip_prefix(STATE)?.strip_prefix('.')?;
        let (kind, rest) = rest.split_once('.')?;
        match (kind, rest.split_once('.')) {
            (CALL, None) => Some(About::Call(text(rest))),
            (PAUSED, None) => (rest == ALL).then_some(About::Paused(None)),
            (PAUSED, Some((namespace, name))) => {
                Some(About::Paused(Some(FunctionRef::new(text(name), text(namespace)))))
            }
            _ => None,
        }
    }
}

async fn stream(context: &Context, config: stream::Config) -> Result<Stream, String> {
    let name = config.name.clone();
    match context.create_stream(config).await {
        Ok(stream) => Ok(stream),
        // Where it is there, an operator may have made it otherwise.
        Err(error) => context
            .get_stream(&name)
            .await
            .map_err(|_| format!("stream {name}: {error}")),
    }
}

/// The consumer of what others send.
const OPEN: &str = "others";

fn consumer_name(lane: &Lane) -> String {
    match lane {
        Lane::Function(FunctionRef { name, namespace }) => format!("function-{}=-{}", token(namespace), token(name)),
        Lane::Host(host) => format!("host-{}", token(host)),
        Lane::All => "shared".to_owned(),
    }
}

/// Any text as one token of a subject: bytes that cannot be there are `=XX`, and
/// nothing is `=`.
fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(byte.into());
        } else {
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// The text of a token.
fn text(token: &str) -> String {
    if token == "=" {
        return String::new();
    }
    let escaped = token.replace('=', "%");
    percent_encoding::percent_decode_str(&escaped)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_token() {
        for (plain, expected) in [
            ("a-B_9", "a-B_9"),
            ("", "="),
            ("a.b*>", "a=2Eb=2A=3E"),
            ("\u{e4} =", "=C3=A4=20=3D"),
        ] {
            assert_eq!(token(plain), expected);
            assert_eq!(text(expected), plain);
        }
    }
}
