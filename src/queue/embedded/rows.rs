//! Jobs as rows. Times are microseconds since 1970; header fields and tries are
//! JSON, the bytes of values as the characters with those numbers, so that any
//! value comes back as it was.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::{
    model::FunctionRef,
    queue::{
        Answer, Count, Entry, Filter, Finished, Job, Lane, Page, Published, State, Target, Then, attempts, fields, time,
    },
};

/// Name of the database in its directory.
pub(super) const FILE: &str = "queue.sqlite3";

/// Rows that are removed at once, so that others need not wait long.
const AT_ONCE: u32 = 2000;

/// Bodies are by themselves, for each step writes the whole row of its job, and are
/// gone once nobody can want them again.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    path TEXT NOT NULL,
    query TEXT NOT NULL,
    headers TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    url TEXT,
    callback TEXT,
    idempotency_key TEXT,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    attempts TEXT NOT NULL DEFAULT '[]',
    finished INTEGER,
    answer_status INTEGER,
    answer_headers TEXT,
    answer_body BLOB,
    answer_truncated INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, finished);
CREATE INDEX IF NOT EXISTS jobs_by_function ON jobs (name, namespace, state);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_once ON jobs (name, namespace, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS jobs_gone AFTER DELETE ON jobs BEGIN DELETE FROM bodies WHERE seq = OLD.seq; END;
CREATE TABLE IF NOT EXISTS paused (name TEXT NOT NULL, namespace TEXT NOT NULL, PRIMARY KEY (name, namespace)) STRICT;
";

/// All columns of an entry, and the number of its tries at the end.
const COLUMNS: &str = "id, name, namespace, path, query, headers, \
                       (SELECT body FROM bodies WHERE bodies.seq = jobs.seq), callback, idempotency_key, created, due, state, \
                       attempts, finished, answer_status, answer_headers, answer_body, answer_truncated, tries, seq, url";

/// The same without bodies.
const LISTED: &str = "id, name, namespace, path, query, headers, x'', callback, idempotency_key, created, due, state, \
                      attempts, finished, answer_status, answer_headers, x'', answer_truncated, tries, seq, url";

/// What [`finish`] found.
pub(super) struct Found {
    /// Of the job's body.
    pub(super) bytes: u64,
    /// It was taken back, whatever became of it since.
    pub(super) was_cancelled: bool,
}

pub(super) fn open(directory: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(directory.join(FILE))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Undoes what a write did that failed half-way.
pub(super) fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT one")?;
    let worked = work(connection);
    let end = if worked.is_ok() {
        "RELEASE one"
    } else {
        "ROLLBACK TO one; RELEASE one"
    };
    connection.execute_batch(end)?;
    worked
}

/// Lets jobs that ran wait again, and tells of all that wait: id, function, when
/// due, bytes.
pub(super) fn recover(
    connection: &Connection,
    mut tell: impl FnMut(&str, &Lane, DateTime<Utc>, u64),
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE jobs SET state = iif(tries = 0, 'queued', 'retrying') WHERE state = 'running'",
        [],
    )?;
    let mut waiting = connection.prepare(
        "SELECT id, name, namespace, due, bytes, url FROM jobs WHERE state IN ('queued', 'retrying')
         ORDER BY seq",
    )?;
    let mut rows = waiting.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let url: Option<String> = row.get(5)?;
        let lane = match &url {
            None => Lane::Function(function(row, 1)?),
            Some(url) => Lane::to_url(url),
        };
        tell(&id, &lane, time(row.get(3)?), size(row, 4)?);
    }
    Ok(())
}

pub(super) fn insert(connection: &Connection, job: &Job) -> rusqlite::Result<Published> {
    if let Some(key) = &job.idempotency_key {
        let known = connection
            .prepare_cached("SELECT id FROM jobs WHERE name = ?1 AND namespace = ?2 AND idempotency_key = ?3")?
            .query_row(params![job.function.name, job.function.namespace, key], |row| {
                row.get(0)
            })
            .optional()?;
        if let Some(id) = known {
            return Ok(Published { id, is_new: false });
        }
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO jobs (id, name, namespace, path, query, headers, bytes, callback, idempotency_key, created, due, state, url)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'queued', ?12) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            job.id,
            job.function.name,
            job.function.namespace,
            job.path,
            job.query,
            fields::text(&job.headers),
            i64::try_from(job.body.len()).unwrap_or(i64::MAX),
            job.callback,
            job.idempotency_key,
            job.created.timestamp_micros(),
            job.due.timestamp_micros(),
            match &job.target {
                Target::Function => None,
                Target::Url(url) => Some(url),
            },
        ])?;
    if inserted > 0 && !job.body.is_empty() {
        connection
            .prepare_cached("INSERT INTO bodies (seq, body) VALUES (?1, ?2)")?
            .execute(params![connection.last_insert_rowid(), &*job.body])?;
    }
    // A caller that chose the id of another job means that job.
    Ok(Published {
        id: job.id.clone(),
        is_new: inserted > 0,
    })
}

/// An entry and the number of its tries.
pub(super) fn get(connection: &Connection, id: &str) -> rusqlite::Result<Option<(Entry, u32)>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?
        .query_row([id], |row| Ok((entry(row)?, row.get(18)?)))
        .optional()
}

pub(super) fn finish(connection: &Connection, id: &str, finished: &Finished) -> rusqlite::Result<Option<Found>> {
    let found = connection
        .prepare_cached("SELECT bytes, state, attempts, seq FROM jobs WHERE id = ?1")?
        .query_row([id], |row| {
            let found = Found {
                bytes: size(row, 0)?,
                was_cancelled: row.get::<_, String>(1)? == State::Cancelled.as_str(),
            };
            Ok((found, row.get::<_, String>(2)?, row.get::<_, i64>(3)?))
        })
        .optional()?;
    let Some((found, attempts, seq)) = found else {
        return Ok(None);
    };
    if finished.then == Then::End(State::Cancelled) && !found.was_cancelled {
        // It was driven again before the run that was taken back had ended.
        return Ok(Some(Found {
            was_cancelled: true,
            ..found
        }));
    }
    let attempts = attempts::with(&attempts, &finished.attempt);
    if found.was_cancelled {
        connection.execute(
            "UPDATE jobs SET attempts = ?2, tries = tries + 1 WHERE id = ?1",
            params![id, attempts],
        )?;
        return Ok(Some(found));
    }
    for job in &finished.follow {
        insert(connection, job)?;
    }
    let answer = finished.answer.as_ref();
    let (state, due, ended) = match &finished.then {
        Then::Again(due) => (State::Retrying, Some(due.timestamp_micros()), None),
        Then::End(state) => (*state, None, Some(Utc::now().timestamp_micros())),
    };
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, due = coalesce(?3, due), finished = ?4, attempts = ?5, tries = tries + 1,
             answer_status = ?6, answer_headers = ?7, answer_body = ?8, answer_truncated = ?9 WHERE id = ?1",
        )?
        .execute(params![
            id,
            state.as_str(),
            due,
            ended,
            attempts,
            answer.map(|answer| answer.status),
            answer.map(|answer| fields::text(&answer.headers)),
            answer.map(|answer| &*answer.body),
            answer.map(|answer| answer.truncated),
        ])?;
    if finished.then == Then::End(State::Succeeded) {
        connection
            .prepare_cached("DELETE FROM bodies WHERE seq = ?1")?
            .execute([seq])?;
    }
    Ok(Some(found))
}

/// Notes that a job runs, unless it has ended.
pub(super) fn run(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE jobs SET state = 'running' WHERE id = ?1 AND state IN ('queued', 'retrying')")?
        .execute([id])
        .map(drop)
}

/// Gives the log's room back after a write that failed, maybe for want of it.
pub(super) fn make_room(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::debug!(%error, "the queue's log was not emptied");
    }
}

/// Takes a job back: whether it was there and had not ended, and its state and the
/// bytes of its body now.
pub(super) fn cancel(
    connection: &Connection,
    id: &str,
    now: DateTime<Utc>,
) -> rusqlite::Result<(bool, Option<(String, u64)>)> {
    let changed = connection.execute(
        "UPDATE jobs SET state = 'cancelled', finished = ?2
         WHERE id = ?1 AND state IN ('queued', 'retrying', 'running')",
        params![id, now.timestamp_micros()],
    )?;
    let row = connection.query_row("SELECT state, bytes FROM jobs WHERE id = ?1", [id], |row| {
        Ok((row.get(0)?, size(row, 1)?))
    });
    Ok((changed > 0, row.optional()?))
}

/// Whether it was in a state in which it can run again.
pub(super) fn redrive(connection: &Connection, id: &str, now: DateTime<Utc>) -> rusqlite::Result<bool> {
    let changed = connection.execute(
        "UPDATE jobs SET state = 'queued', due = ?2, created = ?2, tries = 0, attempts = '[]', finished = NULL,
         answer_status = NULL, answer_headers = NULL, answer_body = NULL, answer_truncated = NULL
         WHERE id = ?1 AND state IN ('dead', 'failed', 'cancelled')",
        params![id, now.timestamp_micros()],
    )?;
    Ok(changed > 0)
}

/// A condition and its values.
fn condition(filter: &Filter) -> (String, Vec<Box<dyn ToSql>>) {
    let mut text = String::from("1");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(function) = &filter.function {
        text.push_str(" AND name = ? AND namespace = ?");
        values.push(Box::new(function.name.clone()));
        values.push(Box::new(function.namespace.clone()));
    }
    if let Some(state) = filter.state {
        text.push_str(" AND state = ?");
        values.push(Box::new(state.as_str()));
    }
    (text, values)
}

pub(super) fn list(connection: &Connection, filter: &Filter, after: i64, limit: u32) -> rusqlite::Result<Page> {
    let (condition, mut values) = condition(filter);
    values.push(Box::new(after));
    values.push(Box::new(limit));
    let text = format!("SELECT {LISTED} FROM jobs WHERE {condition} AND seq < ? ORDER BY seq DESC LIMIT ?");
    let mut statement = connection.prepare_cached(&text)?;
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    let rows = statement.query_map(&*values, |row| Ok((entry(row)?, row.get::<_, i64>(19)?)))?;
    let found: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let next = found
        .last()
        .filter(|_| found.len() == limit as usize)
        .map(|(_, seq)| seq.to_string());
    let entries = found.into_iter().map(|(entry, _)| entry).collect();
    Ok(Page { entries, next })
}

pub(super) fn ids(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<String>> {
    let (condition, values) = condition(filter);
    let mut statement = connection.prepare(&format!("SELECT id FROM jobs WHERE {condition} ORDER BY seq"))?;
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    statement.query_map(&*values, |row| row.get(0))?.collect()
}

pub(super) fn purge(connection: &Connection, filter: &Filter) -> rusqlite::Result<u64> {
    let (condition, values) = condition(filter);
    let text = format!("DELETE FROM jobs WHERE {condition} AND state IN ('succeeded', 'failed', 'cancelled', 'dead')");
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection.execute(&text, &*values).map(|count| count as u64)
}

pub(super) fn forget(
    connection: &Connection,
    ended_before: DateTime<Utc>,
    dead_before: DateTime<Utc>,
) -> rusqlite::Result<u64> {
    let count = connection.execute(
        "DELETE FROM jobs WHERE seq IN (
            SELECT seq FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled') AND finished < ?1
            UNION ALL SELECT seq FROM jobs WHERE state = 'dead' AND finished < ?2 LIMIT ?3)",
        params![ended_before.timestamp_micros(), dead_before.timestamp_micros(), AT_ONCE],
    )?;
    Ok(count as u64)
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Vec<Count>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, namespace, state, count(*) FROM jobs GROUP BY name, namespace, state ORDER BY 1, 2, 3",
    )?;
    let rows = statement.query_map([], |row| {
        let state: String = row.get(2)?;
        Ok(State::of(&state).map(|state| (function(row, 0), state, size(row, 3))))
    })?;
    let mut counts = Vec::new();
    for row in rows {
        if let Some((function, state, jobs)) = row? {
            counts.push(Count {
                function: function?,
                state,
                jobs: jobs?,
            });
        }
    }
    Ok(counts)
}

/// What is paused; `None` is everything.
pub(super) fn paused(connection: &Connection) -> rusqlite::Result<Vec<Option<FunctionRef>>> {
    let mut statement = connection.prepare("SELECT name, namespace FROM paused")?;
    let rows = statement.query_map([], |row| function(row, 0))?;
    rows.map(|function| Ok(function.map(Some)?.filter(|function| !function.name.is_empty())))
        .collect()
}

pub(super) fn pause(connection: &Connection, function: Option<&FunctionRef>, paused: bool) -> rusqlite::Result<()> {
    let (name, namespace) = function.map_or(("", ""), |function| (&*function.name, &*function.namespace));
    let text = if paused {
        "INSERT INTO paused (name, namespace) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM paused WHERE name = ?1 AND namespace = ?2"
    };
    connection.execute(text, [name, namespace]).map(drop)
}

fn function(row: &Row<'_>, at: usize) -> rusqlite::Result<FunctionRef> {
    Ok(FunctionRef::new(
        row.get::<_, String>(at)?,
        row.get::<_, String>(at + 1)?,
    ))
}

/// A count or a length, which is never negative.
pub(super) fn size(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or_default())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let status: Option<u16> = row.get(14)?;
    let answer = match status {
        None => None,
        Some(status) => Some(Answer {
            status,
            headers: fields::parse(&row.get::<_, Option<String>>(15)?.unwrap_or_default()),
            body: Bytes::from(row.get::<_, Option<Vec<u8>>>(16)?.unwrap_or_default()),
            truncated: row.get::<_, Option<bool>>(17)?.unwrap_or(false),
        }),
    };
    Ok(Entry {
        job: Job {
            id: row.get(0)?,
            function: function(row, 1)?,
            target: row.get::<_, Option<String>>(20)?.map_or(Target::Function, Target::Url),
            path: row.get(3)?,
            query: row.get(4)?,
            headers: fields::parse(&row.get::<_, String>(5)?),
            body: Bytes::from(row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default()),
            callback: row.get(7)?,
            idempotency_key: row.get(8)?,
            created: time(row.get(9)?),
            due: time(row.get(10)?),
        },
        state: State::of(&row.get::<_, String>(11)?).unwrap_or(State::Failed),
        attempts: attempts::parse(&row.get::<_, String>(12)?),
        finished: row.get::<_, Option<i64>>(13)?.map(time),
        answer,
    })
}
