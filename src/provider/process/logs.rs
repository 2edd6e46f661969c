//! What the replicas of one function wrote: kept on disk within bounds, and
//! handed to those who follow.
//!
//! Each replica has two files of JSON lines: `INSTANCE.log` is written,
//! `INSTANCE.old` is the half before. When the first is full it becomes the
//! second, so that the older half is dropped. Logs of replicas that are gone
//! stay, the newest few of them.
//!
//! Lines are not flushed to the medium: after a power cut the last ones may be
//! missing, or one may be cut short; such a line is skipped.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::{Mutex, broadcast},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{FunctionRef, LogMessage, LogQuery},
    provider::{LogStream, ProviderError},
    state::make_directory,
};

/// Logs of so many gone replicas of a function are kept.
const KEEP_GONE: usize = 10;
/// A follower this many lines behind skips to the present.
const FOLLOW_BUFFER: usize = 1024;
/// Instance of the lines that the gateway adds for a follower.
const GATEWAY: &str = "gateway";

/// Logs of one incarnation of a function.
#[derive(Debug)]
pub(super) struct Logs {
    function: FunctionRef,
    folder: PathBuf,
    live: broadcast::Sender<LogMessage>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Replicas that exist, by instance.
    open: BTreeMap<String, Writer>,
    /// Replicas that are gone, oldest first.
    gone: VecDeque<String>,
    /// Whether the last write failed, so that a full disk is reported once.
    failed: bool,
}

#[derive(Debug)]
struct Writer {
    file: File,
    written: u64,
}

/// A line in a file.
#[derive(Serialize, Deserialize)]
struct Line {
    timestamp: DateTime<Utc>,
    instance: String,
    text: String,
}

impl Logs {
    /// Opens the logs below `folder`; what is there belongs to replicas that
    /// are gone. Blocking.
    pub(super) fn open(function: FunctionRef, folder: PathBuf) -> io::Result<Self> {
        make_directory(&folder)?;
        let mut gone = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(instance) = name.strip_suffix(".log") {
                gone.push((entry.metadata()?.modified()?, instance.to_owned()));
            }
        }
        gone.sort();
        let files = Files {
            gone: gone.into_iter().map(|(_, instance)| instance).collect(),
            ..Default::default()
        };
        Ok(Self {
            function,
            folder,
            live: broadcast::channel(FOLLOW_BUFFER).0,
            files: Mutex::new(files),
        })
    }

    /// Keeps lines of a replica, at most `log_size` bytes of them, and hands
    /// them to followers. A disk that cannot be written costs the lines, not the function.
    pub(super) async fn append(&self, instance: &str, lines: Vec<String>, now: DateTime<Utc>, log_size: u64) {
        if lines.is_empty() {
            return;
        }
        let mut files = self.files.lock().await;
        let kept = self.write(&mut files, instance, &lines, now, log_size).await;
        match &kept {
            Err(error) if !files.failed => {
                tracing::warn!(function = %self.function, folder = %self.folder.display(), %error, "cannot keep log lines");
            }
            _ => {}
        }
        files.failed = kept.is_err();
        for text in lines {
            // Nobody may be following.
            drop(self.live.send(self.message(instance, now, text)));
        }
    }

    fn message(&self, instance: &str, timestamp: DateTime<Utc>, text: String) -> LogMessage {
        LogMessage {
            name: self.function.name.clone(),
            namespace: self.function.namespace.clone(),
            instance: instance.to_owned(),
            timestamp: timestamp.into(),
            text,
        }
    }

    async fn write(
        &self,
        files: &mut Files,
        instance: &str,
        lines: &[String],
        now: DateTime<Utc>,
        log_size: u64,
    ) -> io::Result<()> {
        // Output that came so late has no file to go to: it may be removed already.
        if files.gone.iter().any(|gone| gone == instance) {
            return Ok(());
        }
        let half = log_size / 2;
        let mut pending = Vec::new();
        for text in lines {
            let line = Line {
                timestamp: now,
                instance: instance.to_owned(),
                text: text.clone(),
            };
            let mut json = serde_json::to_vec(&line)?;
            json.push(b'\n');
            let writer = self.writer(files, instance).await?;
            let size = writer.written + (pending.len() + json.len()) as u64;
            if size > half && size > json.len() as u64 {
                writer.file.write_all(&std::mem::take(&mut pending)).await?;
                writer.file.flush().await?;
                files.open.remove(instance);
                tokio::fs::rename(self.path(instance, "log"), self.path(instance, "old")).await?;
            }
            pending.extend(json);
        }
        let writer = self.writer(files, instance).await?;
        writer.file.write_all(&pending).await?;
        writer.file.flush().await?;
        writer.written += pending.len() as u64;
        Ok(())
    }

    /// The file to append to, opened on first use.
    async fn writer<'a>(&self, files: &'a mut Files, instance: &str) -> io::Result<&'a mut Writer> {
        // Two look-ups, because an entry would need an owned key for every chunk.
        if !files.open.contains_key(instance) {
            let path = self.path(instance, "log");
            let file = File::options()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .await?;
            let written = file.metadata().await?.len();
            files.open.insert(instance.to_owned(), Writer { file, written });
        }
        files
            .open
            .get_mut(instance)
            .ok_or_else(|| io::Error::other("the log file was closed"))
    }

    fn path(&self, instance: &str, half: &str) -> PathBuf {
        self.folder.join(format!("{instance}.{half}"))
    }

    /// Says that a replica is gone for good; the oldest gone ones lose their logs.
    pub(super) async fn retire(&self, instance: &str) {
        let mut files = self.files.lock().await;
        files.open.remove(instance);
        files.gone.push_back(instance.to_owned());
        while files.gone.len() > KEEP_GONE {
            let Some(oldest) = files.gone.pop_front() else { break };
            for half in ["old", "log"] {
                let path = self.path(&oldest, half);
                match tokio::fs::remove_file(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "cannot remove an old log");
                    }
                    _ => {}
                }
            }
        }
    }

    /// Answers a query: what is kept, merged by time, then, with `follow`,
    /// every new line once, until `closing` or the function is gone. A follower
    /// that is too slow is told how many lines it missed.
    pub(super) async fn query(&self, query: LogQuery, closing: CancellationToken) -> Result<LogStream, ProviderError> {
        let failed =
            |error: io::Error| ProviderError::Internal(format!("cannot read the logs of {}: {error}", self.function));
        // No line is written between subscribing and opening, so none is lost or repeated.
        let files = self.files.lock().await;
        let live = query.follow.then(|| self.live.subscribe());
        let mut opened = Vec::new();
        for instance in files.gone.iter().chain(files.open.keys()) {
            if query.instance.as_ref().is_some_and(|wanted| wanted != instance) {
                continue;
            }
            let old = open(&self.path(instance, "old")).await.map_err(failed)?;
            let new = open(&self.path(instance, "log")).await.map_err(failed)?;
            opened.push([old, new]);
        }
        drop(files);

        let (since, tail) = (query.since, query.tail);
        let lines = tokio::task::spawn_blocking(move || read(opened, since, tail))
            .await
            .map_err(|error| ProviderError::Internal(format!("reading logs was interrupted: {error}")))?
            .map_err(failed)?;
        let kept: Vec<_> = lines
            .into_iter()
            .map(|line| Ok(self.message(&line.instance, line.timestamp, line.text)))
            .collect();
        let kept = stream::iter(kept);
        Ok(match live {
            None => kept.boxed(),
            Some(live) => kept.chain(follow(live, query, self.function.clone(), closing)).boxed(),
        })
    }
}

/// Lines as they are written.
fn follow(
    live: broadcast::Receiver<LogMessage>,
    query: LogQuery,
    function: FunctionRef,
    closing: CancellationToken,
) -> impl futures_util::Stream<Item = Result<LogMessage, ProviderError>> {
    stream::unfold(
        (live, closing, query, function),
        async |(mut live, closing, query, function)| {
            loop {
                let received = tokio::select! {
                    received = live.recv() => received,
                    () = closing.cancelled() => return None,
                };
                let message = match received {
                    Ok(message) if query.wants(&message) => message,
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Closed) => return None,
                    Err(broadcast::error::RecvError::Lagged(missed)) => LogMessage {
                        name: function.name.clone(),
                        namespace: function.namespace.clone(),
                        instance: GATEWAY.to_owned(),
                        timestamp: Utc::now().into(),
                        text: format!("{missed} lines were skipped because they were read too slowly"),
                    },
                };
                return Some((Ok(message), (live, closing, query, function)));
            }
        },
    )
}

/// Opens a log file for reading up to its present length; `None` when there is none.
async fn open(path: &Path) -> io::Result<Option<io::Take<std::fs::File>>> {
    match File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await?.len();
            Ok(Some(file.into_std().await.take(length)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads and merges the files of several replicas. Each replica's lines are in
/// order of time, so none needs more than its last `tail`.
fn read(
    replicas: Vec<[Option<io::Take<std::fs::File>>; 2]>,
    since: Option<DateTime<Utc>>,
    tail: Option<usize>,
) -> io::Result<Vec<Line>> {
    let most = tail.unwrap_or(usize::MAX);
    let mut merged = Vec::new();
    for files in replicas {
        let mut lines = VecDeque::new();
        for file in files.into_iter().flatten() {
            for json in io::BufReader::new(file).split(b'\n') {
                let Ok(line) = serde_json::from_slice::<Line>(&json?) else {
                    continue;
                };
                if since.is_none_or(|since| line.timestamp >= since) {
                    lines.push_back(line);
                    if lines.len() > most {
                        lines.pop_front();
                    }
                }
            }
        }
        merged.extend(lines);
    }
    merged.sort_by_key(|line| line.timestamp);
    let surplus = merged.len().saturating_sub(most);
    merged.drain(..surplus);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn logs(folder: &Path) -> Logs {
        Logs::open(FunctionRef::new("f", "ns"), folder.join("logs")).expect("opens")
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("valid")
    }

    fn query() -> LogQuery {
        LogQuery {
            name: "f".to_owned(),
            ..Default::default()
        }
    }

    async fn texts(logs: &Logs, query: LogQuery) -> Vec<String> {
        let stream = logs.query(query, CancellationToken::new()).await.expect("answers");
        stream.map(|message| message.expect("line").text).collect().await
    }

    async fn append(logs: &Logs, instance: &str, second: i64, text: &str) {
        logs.append(instance, vec![text.to_owned()], at(second), 1 << 20).await;
    }

    #[tokio::test]
    async fn replicas_are_merged_by_time_and_filtered() {
        let folder = tempfile::tempdir().expect("temp dir");
        let logs = logs(folder.path());
        append(&logs, "f-a", 1, "1").await;
        append(&logs, "f-b", 2, "2").await;
        append(&logs, "f-a", 3, "3").await;
        logs.retire("f-b").await;
        assert_eq!(texts(&logs, query()).await, ["1", "2", "3"]);
        let since = LogQuery {
            since: Some(at(2)),
            ..query()
        };
        assert_eq!(texts(&logs, since).await, ["2", "3"]);
        let tail = LogQuery {
            tail: Some(2),
            ..query()
        };
        assert_eq!(texts(&logs, tail).await, ["2", "3"]);
        let instance = LogQuery {
            instance: Some("f-b".to_owned()),
            ..query()
        };
        assert_eq!(texts(&logs, instance).await, ["2"]);
    }

    #[tokio::test]
    async fn logs_are_bounded_on_disk_and_the_newest_lines_stay() {
        let folder = tempfile::tempdir().expect("temp dir");
        let logs = logs(folder.path());
        for number in 0..500 {
            logs.append("f-a", vec![format!("line {number}")], at(number), 4096)
                .await;
        }
        logs.append(
            "f-a",
            (500..1000).map(|number| format!("line {number}")).collect(),
            at(500),
            4096,
        )
        .await;
        let size: u64 = std::fs::read_dir(folder.path().join("logs"))
            .expect("lists")
            .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
            .sum();
        assert!((2048..=4096).contains(&size), "{size}");
        let texts = texts(&logs, query()).await;
        assert_eq!(texts.last().map(String::as_str), Some("line 999"));
        assert!(texts.len() > 10, "{}", texts.len());
    }

    #[tokio::test]
    async fn only_the_newest_gone_replicas_keep_their_logs() {
        let folder = tempfile::tempdir().expect("temp dir");
        {
            let logs = logs(folder.path());
            for number in 0..15 {
                let instance = format!("f-{number}");
                append(&logs, &instance, number, &number.to_string()).await;
                logs.retire(&instance).await;
            }
            assert_eq!(texts(&logs, query()).await.len(), KEEP_GONE);
        }
        let again = logs(folder.path());
        assert_eq!(texts(&again, query()).await.last().map(String::as_str), Some("14"));
    }

    #[tokio::test]
    async fn followers_see_what_is_kept_and_then_what_is_new() {
        let folder = tempfile::tempdir().expect("temp dir");
        let logs = logs(folder.path());
        append(&logs, "f-a", 1, "kept").await;
        let closing = CancellationToken::new();
        let follow = LogQuery {
            follow: true,
            ..query()
        };
        let mut stream = logs.query(follow, closing.clone()).await.expect("answers");
        append(&logs, "f-b", 2, "new").await;
        for expected in ["kept", "new"] {
            let next = tokio::time::timeout(Duration::from_secs(5), stream.next())
                .await
                .expect("in time");
            assert_eq!(next.expect("open").expect("line").text, expected);
        }
        closing.cancel();
        assert!(stream.next().await.is_none(), "ends at shutdown");
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_what_it_missed() {
        let folder = tempfile::tempdir().expect("temp dir");
        let logs = logs(folder.path());
        let follow = LogQuery {
            follow: true,
            ..query()
        };
        let mut stream = logs.query(follow, CancellationToken::new()).await.expect("answers");
        let lines = (0..FOLLOW_BUFFER + 100).map(|number| number.to_string()).collect();
        logs.append("f-a", lines, at(1), 1 << 20).await;
        let first = stream.next().await.expect("open").expect("line");
        assert_eq!(
            (first.instance.as_str(), first.text.starts_with("100 lines")),
            (GATEWAY, true),
            "{first:?}"
        );
        assert_eq!(stream.next().await.expect("open").expect("line").text, "100");
    }
}
