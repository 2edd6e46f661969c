//! `async`: asynchronous calls of a gateway.

use clap::Subcommand;
use reqwest::Method;

use super::{
    Answer,
    gateway::{Failure, Gateway, part, query},
    table::{One, Shown, columns, time},
};
use crate::model::{AsyncCall, AsyncCalls, AsyncDone, AsyncStatus, ToWire, to_pretty_json};

#[derive(Debug, Subcommand)]
pub(super) enum Async {
    /// List calls, the newest first
    #[command(visible_alias = "list")]
    Ls {
        /// Calls of this function only, `name` or `name.namespace`
        #[arg(long)]
        function: Option<String>,
        /// Calls in this state only: queued, running, retrying, succeeded, failed, cancelled or dead
        #[arg(long)]
        state: Option<String>,
        /// How many
        #[arg(long)]
        limit: Option<u32>,
        /// Where the part before ended
        #[arg(long)]
        after: Option<String>,
    },
    /// Show a call with its result
    Show {
        /// The call id
        id: String,
    },
    /// Count calls by function and state
    Status,
    /// Make calls again that have come to nothing
    Redrive {
        /// The call id
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All that are dead, or in the state of --state
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// With --all: calls of this function only
        #[arg(long, requires = "all")]
        function: Option<String>,
        /// With --all: calls in this state
        #[arg(long, requires = "all")]
        state: Option<String>,
    },
    /// Take calls back
    Cancel {
        /// The call ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Make no calls, of a function or at all; they are still taken
    Pause {
        /// `name` or `name.namespace`; all functions without it
        function: Option<String>,
    },
    /// Make calls again that were paused
    Resume {
        /// `name` or `name.namespace`; all functions without it
        function: Option<String>,
    },
}

/// Nothing to send.
const NOTHING: Option<&String> = None;

impl Async {
    pub(super) async fn run(self, gateway: &Gateway) -> Result<Answer, Failure> {
        match self {
            Self::Ls {
                function,
                state,
                limit,
                after,
            } => {
                let limit = limit.map(|limit| limit.to_string());
                let query = query(&[
                    ("function", function.as_deref()),
                    ("state", state.as_deref()),
                    ("limit", limit.as_deref()),
                    ("after", after.as_deref()),
                ]);
                let calls: AsyncCalls = gateway.get(&format!("/system/async{query}")).await?;
                Ok(Answer::of(Written(calls, list)))
            }
            Self::Show { id } => Ok(Answer::of(One {
                value: gateway
                    .get::<AsyncCall>(&format!("/system/async/{}", part(&id)))
                    .await?,
                fields,
            })),
            Self::Status => {
                let status: AsyncStatus = gateway.get("/system/async-status").await?;
                Ok(Answer::of(Written(status, counts)))
            }
            Self::Redrive { id: Some(id), .. } => {
                let path = format!("/system/async/{}/redrive", part(&id));
                gateway.done(Method::POST, &path, NOTHING).await?;
                Ok(Answer::Done(format!("{id} is made again")))
            }
            Self::Redrive { function, state, .. } => {
                let query = query(&[("function", function.as_deref()), ("state", state.as_deref())]);
                let done: AsyncDone = gateway.post(&format!("/system/async-redrive{query}")).await?;
                Ok(Answer::of(Written(done, |done| {
                    format!("{} calls are made again", done.calls)
                })))
            }
            Self::Cancel { ids } => {
                for id in &ids {
                    let path = format!("/async-function/{}", part(id));
                    gateway.done(Method::DELETE, &path, NOTHING).await?;
                }
                Ok(Answer::Done(format!("{} taken back", ids.join(", "))))
            }
            Self::Pause { function } => steer(gateway, "pause", function.as_deref(), "paused").await,
            Self::Resume { function } => steer(gateway, "resume", function.as_deref(), "resumed").await,
        }
    }
}

async fn steer(gateway: &Gateway, verb: &str, function: Option<&str>, done: &str) -> Result<Answer, Failure> {
    let path = format!("/system/async-{verb}{}", query(&[("function", function)]));
    gateway.done(Method::POST, &path, NOTHING).await?;
    Ok(Answer::Done(format!(
        "calls of {} are {done}",
        function.unwrap_or("all functions")
    )))
}

/// An answer with a table of its own.
struct Written<T>(T, fn(&T) -> String);

impl<T: ToWire> Shown for Written<T> {
    fn table(&self) -> String {
        (self.1)(&self.0)
    }

    fn json(&self) -> String {
        to_pretty_json(&self.0)
    }
}

fn list(list: &AsyncCalls) -> String {
    let rows = list.calls.iter().map(|call| {
        let status = call.attempts.last().and_then(|attempt| attempt.status);
        vec![
            call.id.clone(),
            format!("{}.{}", call.function, call.namespace),
            call.state.clone(),
            call.attempts.len().to_string(),
            status.map_or_else(String::new, |status| status.to_string()),
            time(call.created),
        ]
    });
    let mut table = columns(&["ID", "FUNCTION", "STATE", "TRIES", "STATUS", "CREATED"], rows);
    if let Some(next) = &list.next {
        table = format!("{table}\nThere are more: --after {next}");
    }
    table
}

fn counts(status: &AsyncStatus) -> String {
    let rows = status.counts.iter().map(|count| {
        let function = format!("{}.{}", count.function, count.namespace);
        vec![function, count.state.clone(), count.calls.to_string()]
    });
    let mut table = columns(&["FUNCTION", "STATE", "CALLS"], rows);
    if status.paused {
        table.push_str("\nAll calls are paused.");
    }
    for function in &status.paused_functions {
        table = format!("{table}\nCalls of {function} are paused.");
    }
    table
}

fn fields(call: &AsyncCall) -> Vec<(&'static str, String)> {
    let attempts = call.attempts.iter().map(|attempt| {
        let status = attempt
            .status
            .map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let error = attempt
            .error
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error}"));
        format!(
            "{} {:.3} s {status}{error}",
            time(attempt.started),
            attempt.duration_seconds.0
        )
    });
    let result = call.result.as_ref();
    vec![
        ("Id", call.id.clone()),
        ("Function", format!("{}.{}", call.function, call.namespace)),
        ("State", call.state.clone()),
        ("Path", call.path.clone()),
        ("Query", call.query.clone()),
        ("Created", time(call.created)),
        ("Due", call.due.map(time).unwrap_or_default()),
        ("Finished", call.finished.map(time).unwrap_or_default()),
        ("Callback", call.callback_url.clone().unwrap_or_default()),
        ("Target", call.target_url.clone().unwrap_or_default()),
        ("Tries", attempts.collect::<Vec<_>>().join("\n")),
        (
            "Status",
            result.map_or_else(String::new, |result| result.status.to_string()),
        ),
        (
            "Body",
            result.and_then(|result| result.body.clone()).unwrap_or_default(),
        ),
        (
            "Body in base64",
            result.and_then(|result| result.body_base64.clone()).unwrap_or_default(),
        ),
    ]
}
