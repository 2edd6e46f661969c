//! Log lines of functions and the query that selects them.

use chrono::{DateTime, Utc};
use poem_openapi::Object;

use super::wire::Timestamp;

/// One line a replica wrote.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "LogMessage")]
pub struct LogMessage {
    /// Name of the function, without its namespace.
    pub name: String,
    /// Namespace of the function.
    pub namespace: String,
    /// The replica that wrote the line.
    pub instance: String,
    /// When the line was written.
    pub timestamp: Timestamp,
    /// The line, without its newline.
    pub text: String,
}

/// Which log lines are wanted (compatibility.md section 6.4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Function name, without namespace.
    pub name: String,
    /// Namespace; empty means the provider's default.
    pub namespace: String,
    /// Only this replica.
    pub instance: Option<String>,
    /// Only lines at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only the last so many lines; `None` for all.
    pub tail: Option<usize>,
    /// Keep the stream open and send new lines as they are written.
    pub follow: bool,
}

impl LogQuery {
    /// Whether a line is asked for by its replica and time; `tail` counts lines
    /// and is not for one to say.
    pub fn wants(&self, line: &LogMessage) -> bool {
        self.instance.as_ref().is_none_or(|instance| *instance == line.instance)
            && self.since.is_none_or(|since| line.timestamp.0 >= since)
    }
}
