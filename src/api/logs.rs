//! `/system/logs`: what a function's replicas wrote, as a stream of lines.

use std::{io, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use poem::{Body, http::StatusCode};
use poem_openapi::{OpenApi, param::Query};

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Logs},
    parameter::{Flag, Last, Name, NameOrNone, Text, Time, Whole, flag, text},
    payload::LogLines,
    target,
};
use crate::{
    model::{FunctionRef, LogQuery, to_json},
    problem::Problem,
    provider::LogStream,
};

pub(super) struct LogsApi;

#[OpenApi(tag = "Tag::Functions")]
impl LogsApi {
    /// Logs of a function
    ///
    /// With `follow` the stream stays open for new lines, at most for
    /// `server.write_timeout`.
    #[oai(path = "/system/logs", method = "get", operation_id = "getLogs")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each query parameter")]
    async fn logs(
        &self,
        Admitted(snapshot): Admitted,
        /// Name of the function, `name` or `name.namespace`.
        name: Query<Last<Name>>,
        /// Namespace; the provider's default when absent.
        namespace: Query<Option<Last<NameOrNone>>>,
        /// Only this replica.
        instance: Query<Option<Last<Text>>>,
        /// Only lines at or after this time.
        since: Query<Option<Last<Time>>>,
        /// Only the last so many lines; zero or less for all.
        tail: Query<Option<Last<Whole>>>,
        /// Keep the stream open for new lines.
        follow: Query<Option<Last<Flag>>>,
    ) -> Result<LogLines, ApiError<Logs>> {
        let Some(name) = text(Some(name.0)) else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the query parameter `name` is missing").into());
        };
        let default = snapshot.provider.default_namespace();
        let function = target::in_path(&name, &[text(namespace.0).as_deref()], default)?;
        let query = LogQuery {
            instance: text(instance.0),
            since: text(since.0).as_deref().map(read_since).transpose()?,
            tail: text(tail.0).as_deref().map(read_tail).transpose()?.flatten(),
            follow: flag(follow.0),
            name: function.name.clone(),
            namespace: function.namespace.clone(),
        };
        let stream = snapshot.provider.logs(query).await?;
        let bound = stream_bound(snapshot.config.server.write_timeout);
        Ok(LogLines(lines(stream, function, bound)))
    }
}

/// One chunk a message, until the stream or the time is over. A failure on the
/// way breaks the response off, so that it does not look complete.
fn lines(stream: LogStream, function: FunctionRef, bound: Duration) -> Body {
    let chunks = stream
        .map_ok(|message| {
            let mut line = to_json(&message);
            line.push('\n');
            Bytes::from(line)
        })
        .map_err(move |error| {
            tracing::warn!(%error, %function, "a log stream broke off");
            io::Error::other(error)
        })
        .take_until(tokio::time::sleep(bound));
    Body::from_bytes_stream(chunks)
}

/// A little less than the server's bound on responses, which would cut the
/// stream off where this ends it properly.
fn stream_bound(write_timeout: Duration) -> Duration {
    write_timeout.saturating_sub((write_timeout / 10).min(Duration::from_secs(1)))
}

fn read_since(text: &str) -> Result<DateTime<Utc>, Problem> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|error| {
            unreadable(&format!(
                "`since` must be an RFC 3339 time such as 2026-01-31T12:00:00Z: {error}"
            ))
        })
}

/// Number of lines; `None` for all of them.
fn read_tail(text: &str) -> Result<Option<usize>, Problem> {
    let lines: i64 = text
        .parse()
        .map_err(|error| unreadable(&format!("`tail` must be a whole number: {error}")))?;
    Ok(usize::try_from(lines).ok().filter(|lines| *lines > 0))
}

fn unreadable(text: &str) -> Problem {
    let text = format!("could not parse the log request: {text}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_and_since_as_clients_send_them() {
        for (text, tail) in [("-1", None), ("0", None), ("5", Some(5)), ("+5", Some(5))] {
            assert_eq!(read_tail(text).expect(text), tail, "{text}");
        }
        assert_eq!(read_tail("five").expect_err("words").status, 422);
        assert!(read_since("2026-01-31T12:00:00.123456789+02:00").is_ok());
        assert_eq!(read_since("yesterday").expect_err("words").status, 422);
    }
}
