//! The way of log lines to whoever reads them: a buffer for each thread that
//! logs, and one thread that writes what is in them.
//!
//! Who logs does not wait for who reads. A line goes into the buffer of its
//! thread, whose lock nobody else takes but the writer, for an exchange. The
//! buffers are bounded, and what does not fit is counted and told about. The
//! first line after a silence is written at once, those that follow it together;
//! lines that are not the access log's never wait for others.
//!
//! Lines of one thread stay in their order. Those of several are put in the
//! order of their times as far as they are written together. Nothing here knows
//! what a line says.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant, SystemTime},
};

use thread_local::ThreadLocal;
use tracing_subscriber::fmt::MakeWriter;

use super::{
    access::Stamp,
    counts::{Class, Counts},
};

/// Most bytes of access lines that wait in one thread's buffer: the lines of
/// 70 ms at the highest rate a core can reach.
const LIMIT: usize = 1024 * 1024;

/// What other lines may fill beyond that, so that they are the last to be lost.
const RESERVE: usize = 256 * 1024;

/// How full a buffer may be before the writer is called early.
const EARLY: usize = LIMIT / 2;

/// How long lines are collected after some were written.
const PAUSE: Duration = Duration::from_millis(20);

/// Shortest time between two lines about lines that were lost.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);

/// How long the reader's end may be full when it does not let the writer wait.
const FULL: Duration = Duration::from_millis(5);

/// What a buffer keeps when it had to grow once.
const KEPT: usize = 64 * 1024;

/// Takes lines; the last one of these to be dropped ends the writer.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    writer: Thread,
}

#[derive(Debug)]
struct Shared {
    buffers: ThreadLocal<Mutex<Buffer>>,
    counts: Arc<Counts>,
    /// Whether the writer sleeps until it is called.
    idle: AtomicBool,
    ended: AtomicBool,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

/// Requests to write everything, numbered.
#[derive(Debug, Default)]
struct Flushes {
    asked: u64,
    done: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    stamp: Stamp,
}

/// Where a line ends in its buffer, and what is known of it.
#[derive(Debug, Clone, Copy)]
struct Line {
    at: Duration,
    end: usize,
    class: Class,
}

impl Lines {
    /// Starts the writer, which hands whole lines to `out`.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn start(
        out: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: ThreadLocal::new(),
            counts,
            idle: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            out,
            batches: Vec::new(),
            order: Vec::new(),
            merged: Vec::new(),
            told: (0, 0),
            told_at: None,
            read: true,
        };
        // A thread and no task: standard error blocks, and must not block calls.
        let writer = thread::Builder::new().name("log".to_owned()).spawn(|| writer.run())?;
        Ok(Self(Arc::new(Owner {
            shared,
            writer: writer.thread().clone(),
        })))
    }

    /// Adds a line, which `write` puts behind what is there, line end included.
    /// It is not asked where there is no room.
    pub(super) fn push(&self, class: Class, write: impl FnOnce(&mut Vec<u8>, &mut Stamp, Duration)) {
        let Owner { shared, writer } = &*self.0;
        let limit = match class {
            Class::Access => LIMIT,
            Class::Other => LIMIT + RESERVE,
        };
        let known = shared.buffers.get();
        let (before, after) = {
            let mut guard = lock(known.unwrap_or_else(|| shared.buffers.get_or_default()));
            let buffer = &mut *guard;
            let before = buffer.bytes.len();
            if before >= limit {
                drop(guard);
                return shared.counts.line_dropped(class);
            }
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            // Never before the line above it, whatever is done to the clock.
            let last = buffer.lines.last().map_or(Duration::ZERO, |line| line.at);
            let at = now.unwrap_or_default().max(last);
            write(&mut buffer.bytes, &mut buffer.stamp, at);
            let end = buffer.bytes.len();
            buffer.lines.push(Line { at, end, class });
            (before, end)
        };
        let filling = before < EARLY && after >= EARLY;
        // The writer may have looked for buffers before this one was among them.
        let urgent = class == Class::Other || known.is_none() || filling;
        if urgent || (shared.idle.load(Ordering::Relaxed) && shared.idle.swap(false, Ordering::Relaxed)) {
            writer.unpark();
        }
    }

    /// Waits until all lines so far are written, or for as long as `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let Owner { shared, writer } = &*self.0;
        let mut flushes = lock(&shared.flushes);
        flushes.asked += 1;
        let asked = flushes.asked;
        writer.unpark();
        let waited = shared
            .flushed
            .wait_timeout_while(flushes, patience, |flushes| flushes.done < asked);
        let (flushes, _) = waited.unwrap_or_else(PoisonError::into_inner);
        flushes.done >= asked
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

/// Takes the lines that tracing made, each in one piece.
#[derive(Debug)]
pub(super) struct Other<'l>(&'l Lines);

impl Write for Other<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(Class::Other, |out, _, _| out.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Other<'l>;

    fn make_writer(&'l self) -> Other<'l> {
        Other(self)
    }
}

/// Writes whole lines to standard error; what else is printed there, such as
/// the words of a panic, comes between lines and not into one.
pub(super) fn to_stderr(bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    let mut stderr = io::stderr().lock();
    while !rest.is_empty() {
        match stderr.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            // Whoever started us may have made it one that does not wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The thread that writes.
struct Writer<O> {
    shared: Arc<Shared>,
    out: O,
    /// Exchanged with the buffers; empty between two rounds.
    batches: Vec<Buffer>,
    order: Vec<(Duration, usize, usize, usize)>,
    merged: Vec<u8>,
    /// How many lost lines of both kinds were told about, and when.
    told: (u64, u64),
    told_at: Option<Instant>,
    /// Whether there is a reader, as far as is known.
    read: bool,
}

impl<O: FnMut(&[u8]) -> io::Result<()>> Writer<O> {
    fn run(mut self) {
        loop {
            let ended = self.shared.ended.load(Ordering::Acquire);
            let asked = lock(&self.shared.flushes).asked;
            let collected = self.collect();
            if collected {
                self.write();
            }
            lock(&self.shared.flushes).done = asked;
            self.shared.flushed.notify_all();
            if ended {
                return;
            }
            self.tell();
            if collected {
                thread::park_timeout(PAUSE);
            } else {
                self.rest(asked);
            }
        }
    }

    /// Takes what is in the buffers.
    fn collect(&mut self) -> bool {
        let mut any = false;
        for (index, buffer) in self.shared.buffers.iter().enumerate() {
            if self.batches.len() == index {
                self.batches.push(Buffer::default());
            }
            let batch = &mut self.batches[index];
            let mut buffer = lock(buffer);
            if !buffer.lines.is_empty() {
                std::mem::swap(&mut buffer.bytes, &mut batch.bytes);
                std::mem::swap(&mut buffer.lines, &mut batch.lines);
                any = true;
            }
        }
        any
    }

    /// Writes what was taken.
    fn write(&mut self) {
        let mut full = self.batches.iter().filter(|batch| !batch.lines.is_empty());
        let written = if let (Some(only), None) = (full.next(), full.next()) {
            (self.out)(&only.bytes)
        } else {
            self.merge();
            (self.out)(&self.merged)
        };
        self.read = written.is_ok();
        for batch in &mut self.batches {
            if !self.read {
                for line in &batch.lines {
                    self.shared.counts.line_dropped(line.class);
                }
            }
            batch.lines.clear();
            let_go(&mut batch.bytes);
        }
        let_go(&mut self.merged);
    }

    /// Puts the lines of all batches in the order of their times.
    fn merge(&mut self) {
        self.order.clear();
        for (index, batch) in self.batches.iter().enumerate() {
            let mut start = 0;
            for line in &batch.lines {
                self.order.push((line.at, index, start, line.end));
                start = line.end;
            }
        }
        // Stable, and quick where there are a few runs that are in order.
        self.order.sort_by_key(|(at, ..)| *at);
        for &(_, index, start, end) in &self.order {
            self.merged.extend_from_slice(&self.batches[index].bytes[start..end]);
        }
    }

    /// Tells how many lines were lost, now and then.
    fn tell(&mut self) {
        let (access, other) = self.lost();
        if (access, other) == self.told || !self.read || !self.may_tell() {
            return;
        }
        tracing::warn!(
            access_lines = access - self.told.0,
            other_lines = other - self.told.1,
            "log lines were dropped: they came faster than they were read"
        );
        self.told = (access, other);
        self.told_at = Some(Instant::now());
    }

    fn lost(&self) -> (u64, u64) {
        let counts = &self.shared.counts;
        (counts.access_lines_dropped(), counts.other_lines_dropped())
    }

    fn may_tell(&self) -> bool {
        self.told_at.is_none_or(|at| at.elapsed() >= BETWEEN_WARNINGS)
    }

    /// Sleeps until there is something to do.
    fn rest(&self, asked: u64) {
        let shared = &self.shared;
        // Who logs from here on calls; what was there before is seen now: the
        // lock of its buffer puts one before the other.
        shared.idle.store(true, Ordering::Relaxed);
        let empty = shared.buffers.iter().all(|buffer| lock(buffer).lines.is_empty());
        if empty && lock(&shared.flushes).asked == asked {
            if self.lost() != self.told && self.read {
                thread::park_timeout(BETWEEN_WARNINGS);
            } else {
                thread::park();
            }
        }
        shared.idle.store(false, Ordering::Relaxed);
    }
}

/// Empties a buffer, and lets most of it go when it is far too large.
fn let_go(bytes: &mut Vec<u8>) {
    let used = bytes.len();
    bytes.clear();
    if bytes.capacity() > KEPT && used < bytes.capacity() / 4 {
        bytes.shrink_to(KEPT);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn say(lines: &Lines, class: Class, text: &str) {
        lines.push(class, |out, _, _| {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        });
    }

    /// Lines whose writer hands everything over and waits for leave to go on.
    fn held() -> (Lines, Arc<Counts>, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let counts = Arc::new(Counts::default());
        let (written, reader) = mpsc::channel();
        let (leave, left) = mpsc::channel();
        let out = move |bytes: &[u8]| {
            let _ = written.send(String::from_utf8_lossy(bytes).into_owned());
            left.recv().map_err(io::Error::other)
        };
        (
            Lines::start(out, Arc::clone(&counts)).expect("a thread"),
            counts,
            reader,
            leave,
        )
    }

    #[test]
    fn what_waits_is_written_in_the_order_of_time_and_all_of_it_at_the_end() {
        let (lines, _, reader, leave) = held();
        say(&lines, Class::Access, "first");
        assert_eq!(reader.recv_timeout(PATIENCE).expect("at once"), "first\n");
        // The writer is held up, so that these wait together.
        for number in 0..6 {
            let lines = lines.clone();
            thread::spawn(move || say(&lines, Class::Access, &number.to_string()))
                .join()
                .expect("no panic");
        }
        say(&lines, Class::Other, "last");
        leave.send(()).expect("the writer waits");
        assert_eq!(
            reader.recv_timeout(PATIENCE).expect("later"),
            "0\n1\n2\n3\n4\n5\nlast\n"
        );
        assert!(!lines.flush(Duration::from_millis(1)), "the writer is held up");
        leave.send(()).expect("the writer waits");
        assert!(lines.flush(PATIENCE));
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_others_last() {
        let (lines, counts, reader, leave) = held();
        say(&lines, Class::Access, "taken");
        reader.recv_timeout(PATIENCE).expect("at once");
        let large = "x".repeat(LIMIT);
        for _ in 0..3 {
            say(&lines, Class::Access, &large);
        }
        say(&lines, Class::Other, "important");
        assert_eq!((counts.access_lines_dropped(), counts.other_lines_dropped()), (2, 0));
        say(&lines, Class::Other, &large);
        say(&lines, Class::Other, "too much");
        assert_eq!((counts.access_lines_dropped(), counts.other_lines_dropped()), (2, 1));
        leave.send(()).expect("the writer waits");
        let rest = reader.recv_timeout(PATIENCE).expect("later");
        assert!(rest.contains("important\n") && !rest.contains("too much"));
        // The reader goes away.
        drop(leave);
        assert!(lines.flush(PATIENCE));
        assert_eq!((counts.access_lines_dropped(), counts.other_lines_dropped()), (3, 3));
    }

    #[test]
    fn the_writer_ends_when_nobody_can_log_any_more() {
        let (lines, _, reader, leave) = held();
        say(&lines, Class::Other, "a");
        drop((lines, leave));
        assert_eq!(reader.recv_timeout(PATIENCE).expect("written"), "a\n");
        // Its end of the channel goes with it.
        assert_eq!(reader.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
