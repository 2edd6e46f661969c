//! What the process tells about itself while it runs: log lines, the access
//! log, and spans of traces. How they look, which are told, and that telling
//! them never holds up a call.
//!
//! Level, format and the export of traces can change while the gateway runs.
//! What is said is up to the modules; secrets are never handed to any of it.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::dynamic_filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, Logging};

mod access;
mod counts;
mod export;
mod lines;
mod otlp;

pub use access::{AccessLine, AccessLog};
pub use counts::{Counts, Lost};
pub use export::{Exporter, Traces};

use lines::Lines;

/// Changes the log of the process while it runs.
#[derive(Debug, Clone)]
pub struct Telemetry {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
}

/// What both kinds of log lines go by.
#[derive(Debug, Default)]
struct Shared {
    json: AtomicBool,
    colours: bool,
    /// Whether the filter lets access lines pass.
    access: AtomicBool,
    lines: Option<Lines>,
}

impl Telemetry {
    /// Starts logging to standard error; in colours on a terminal, unless they
    /// are not wanted.
    ///
    /// # Errors
    /// The level is not a filter, or the process has a log already.
    pub fn start(logging: &Logging, no_colours: bool) -> Result<Self, String> {
        let colours = io::stderr().is_terminal() && !no_colours;
        let (subscriber, telemetry) = build(logging, lines::to_stderr, colours)?;
        subscriber.try_init().map_err(|error| error.to_string())?;
        telemetry.look_at_filter();
        Ok(telemetry)
    }

    /// Logs nothing; for tests that run several gateways in one process.
    pub fn none() -> Self {
        Self {
            filter: None,
            shared: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// Makes level and format what the configuration says.
    ///
    /// # Errors
    /// The level is not a filter; nothing changed then.
    pub fn apply(&self, logging: &Logging) -> Result<(), String> {
        let filter = filter(&logging.level)?;
        if let Some(handle) = &self.filter {
            handle.reload(filter).map_err(|error| error.to_string())?;
            self.look_at_filter();
        }
        let json = logging.format == LogFormat::Json;
        self.shared.json.store(json, Ordering::Relaxed);
        Ok(())
    }

    /// Where requests are logged.
    pub fn access_log(&self) -> AccessLog {
        AccessLog(Arc::clone(&self.shared))
    }

    /// What got lost, and what did not.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Waits until every line so far is written, but no longer than `patience`:
    /// whoever reads them may have stopped.
    pub fn flush(&self, patience: Duration) -> bool {
        let lines = self.shared.lines.as_ref();
        lines.is_none_or(|lines| lines.flush(patience))
    }

    /// Asks the filter once, because asking it for each request costs as much
    /// as writing the line does.
    fn look_at_filter(&self) {
        let passes = tracing::enabled!(target: access::TARGET, tracing::Level::INFO);
        self.shared.access.store(passes, Ordering::Relaxed);
    }
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("'{level}' is not a log filter: {error}"))
}

/// Both formats are there all the time and one of them is silent. Exchanging
/// one layer for another would leave spans that began under the first without
/// the fields the second expects of them.
fn build(
    logging: &Logging,
    out: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync, Telemetry), String> {
    let (filter, handle) = reload::Layer::new(filter(&logging.level)?);
    let counts = Arc::new(Counts::default());
    let lines = Lines::start(out, Arc::clone(&counts)).map_err(|error| format!("cannot start the log: {error}"))?;
    let shared = Arc::new(Shared {
        json: AtomicBool::new(logging.format == LogFormat::Json),
        colours,
        access: AtomicBool::new(false),
        lines: Some(lines.clone()),
    });
    let subscriber = Registry::default()
        .with(filter)
        .with(only_when(Arc::clone(&shared), false, text(lines.clone(), colours)))
        .with(only_when(
            Arc::clone(&shared),
            true,
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(lines),
        ));
    let telemetry = Telemetry {
        filter: Some(handle),
        shared,
        counts,
    };
    Ok((subscriber, telemetry))
}

fn text<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fmt::layer().with_writer(writer).with_ansi(colours)
}

/// A layer that is silent unless the JSON switch is at `value`.
fn only_when<S, L>(shared: Arc<Shared>, value: bool, layer: L) -> impl Layer<S> + Send + Sync + use<S, L>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    L: Layer<S> + Send + Sync,
{
    layer.with_filter(dynamic_filter_fn(move |_, _| {
        shared.json.load(Ordering::Relaxed) == value
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was written, and a telemetry that writes there.
    struct Written {
        bytes: Arc<Mutex<Vec<u8>>>,
        telemetry: Telemetry,
    }

    impl Written {
        /// Runs `test` with a log of its own.
        fn by(logging: &Logging, colours: bool, test: impl FnOnce(&Self)) {
            let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
            let to = Arc::clone(&bytes);
            let out = move |bytes: &[u8]| {
                to.lock().expect("lock").extend_from_slice(bytes);
                Ok(())
            };
            let (subscriber, telemetry) = build(logging, out, colours).expect("valid filter");
            tracing::subscriber::with_default(subscriber, || {
                telemetry.look_at_filter();
                test(&Self { bytes, telemetry });
            });
        }

        fn take(&self) -> String {
            assert!(self.telemetry.flush(Duration::from_secs(10)), "the writer runs");
            String::from_utf8(std::mem::take(&mut *self.bytes.lock().expect("lock"))).expect("text")
        }
    }

    fn logging(level: &str, format: LogFormat) -> Logging {
        Logging {
            level: level.to_owned(),
            format,
            access: true,
            access_sample: crate::config::Ratio::ALL,
            upstream_uri: false,
        }
    }

    #[test]
    fn level_and_format_change_while_running() {
        Written::by(&logging("info", LogFormat::Text), false, |written| {
            // A span that outlives the change of format, as a request's would.
            let span = tracing::info_span!("request", call = "abc");
            let _entered = span.enter();
            tracing::debug!("hidden");
            tracing::info!(port = 8080, "shown");
            let text = written.take();
            assert!(!text.contains("hidden") && text.contains("shown port=8080"), "{text}");

            let apply = |level, format| written.telemetry.apply(&logging(level, format)).expect("valid filter");
            apply("debug", LogFormat::Json);
            tracing::debug!(port = 8081, "now shown");
            let line: serde_json::Value = serde_json::from_str(&written.take()).expect("one JSON object");
            assert_eq!((&line["message"], &line["port"]), (&"now shown".into(), &8081.into()));

            apply("error", LogFormat::Text);
            tracing::warn!("hidden again");
            assert_eq!(written.take(), "");
        });
    }

    #[test]
    fn a_wrong_level_changes_nothing() {
        Written::by(&logging("info", LogFormat::Text), false, |written| {
            let error = written
                .telemetry
                .apply(&logging("hyper=loud", LogFormat::Json))
                .expect_err("refused");
            assert!(error.contains("hyper=loud"), "{error}");
            tracing::info!("still text");
            assert!(written.take().contains("INFO"), "text format");
        });
    }

    fn line() -> AccessLine<'static> {
        AccessLine {
            kind: "function",
            lane: Some("fast"),
            method: "GET",
            path: "/function/echo/a%20b",
            route: None,
            status: 200,
            bytes: 17,
            took: Duration::from_micros(1250),
            peer: "127.0.0.1:5000".parse().expect("an address"),
            call_id: Some("b1f2"),
            upstream: None,
            retries: 0,
            aborted: false,
            trace_id: None,
        }
    }

    /// Without the time, which is no field of ours.
    fn untimed(line: &str) -> String {
        let at = line.find("20").expect("a time");
        let (before, rest) = line.split_at(at);
        let (time, after) = rest.split_at(27);
        let time = time.strip_suffix('Z').expect("a time in UTC");
        chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.6f").expect("a time");
        format!("{before}{after}")
    }

    /// What the library makes of the same fields.
    fn by_library(line: &AccessLine<'_>) {
        tracing::info!(
            target: "access",
            kind = line.kind,
            lane = line.lane,
            method = %line.method,
            path = %line.path,
            route = line.route,
            status = line.status,
            bytes = line.bytes,
            duration_ms = (line.took.as_secs_f64() * 1e6).round() / 1e3,
            peer = %line.peer,
            call_id = line.call_id,
            upstream = line.upstream,
            retries = (line.retries > 0).then_some(line.retries),
            aborted = line.aborted.then_some(true),
        );
    }

    #[test]
    fn access_lines_are_those_that_the_library_would_write() {
        let full = AccessLine {
            lane: None,
            path: "/ü\"'\\{}",
            route: Some("a \"quoted\" \\ name\n\u{1b}[31m"),
            bytes: u64::MAX,
            took: Duration::from_secs(100_000),
            peer: "[2001:db8::1]:443".parse().expect("an address"),
            call_id: Some("\u{fffd}\t\u{1}\u{7f}\u{9b}é𝄞"),
            upstream: Some("unix:/run/a b.sock/x"),
            retries: 3,
            aborted: true,
            ..line()
        };
        let odd = |nanos| AccessLine {
            took: Duration::from_nanos(nanos),
            ..line()
        };
        let lines = [
            line(),
            full,
            odd(0),
            odd(1499),
            odd(1500),
            odd(999_999_500),
            odd(120_000_000),
            odd(7_000),
        ];
        for (format, colours) in [
            (LogFormat::Text, false),
            (LogFormat::Text, true),
            (LogFormat::Json, false),
        ] {
            Written::by(&logging("info", format), colours, |written| {
                for line in &lines {
                    by_library(line);
                    // The library lets these through in JSON.
                    let expected = match format {
                        LogFormat::Json => written.take().replace('\u{7f}', "\\u007f").replace('\u{9b}', "\\u009b"),
                        LogFormat::Text => written.take(),
                    };
                    written.telemetry.access_log().write(line);
                    assert_eq!(untimed(&written.take()), untimed(&expected));
                }
            });
        }
    }

    #[test]
    fn nothing_that_a_caller_sends_leaves_its_field() {
        let evil = "a\nb\r\u{1b}]0;x\u{7}\u{0}\u{85}\u{2028}\u{202e} status=200\",\"status\":\"200";
        let line = AccessLine {
            path: evil,
            method: "G\nT",
            route: Some(evil),
            call_id: Some(evil),
            upstream: Some(evil),
            trace_id: Some(crate::trace::TraceId::new(10)),
            ..line()
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            Written::by(&logging("info", format), false, |written| {
                written.telemetry.access_log().write(&line);
                let text = written.take();
                let body = text.strip_suffix('\n').expect("a line");
                assert!(!body.chars().any(char::is_control), "{body:?}");
                if format == LogFormat::Json {
                    let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
                    for field in ["path", "route", "call_id", "upstream"] {
                        assert_eq!(json[field], evil);
                    }
                    assert_eq!(json["status"], 200);
                    assert_eq!(json["trace_id"], "0000000000000000000000000000000a");
                    assert_eq!(body.matches("\"status\":").count(), 1, "{body}");
                } else {
                    let fields = body.split(' ').filter(|part| part.starts_with("status="));
                    // In the quoted fields there are blanks; those are read to the closing quote.
                    assert!(
                        fields.count() >= 1 && body.contains("method=G\\nT path=a\\nb"),
                        "{body}"
                    );
                    assert!(!body.contains(['\u{2028}', '\u{202e}']), "{body:?}");
                }
            });
        }
    }

    #[test]
    fn the_filter_decides_about_access_lines_too() {
        Written::by(&logging("info", LogFormat::Text), false, |written| {
            let log = written.telemetry.access_log();
            for (level, passes) in [
                ("info", true),
                ("info,access=off", false),
                ("warn", false),
                ("warn,access=info", true),
                ("off", false),
                ("access=debug", true),
                ("info,access=warn", false),
            ] {
                written
                    .telemetry
                    .apply(&logging(level, LogFormat::Text))
                    .expect("valid filter");
                log.write(&line());
                assert_eq!(!written.take().is_empty(), passes, "{level}");
                assert_eq!(log.is_on(), passes, "{level}");
            }
        });
    }
}
