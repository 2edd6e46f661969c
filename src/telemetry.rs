//! Log lines: where they go, how they look and which are written.
//!
//! Both the level and the format can change while the gateway runs. What is
//! logged is up to the modules; secrets are never handed to a log line.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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

/// Changes the log of the process while it runs.
#[derive(Debug, Clone)]
pub struct Telemetry {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    json: Arc<AtomicBool>,
}

impl Telemetry {
    /// Starts logging to standard error.
    ///
    /// # Errors
    /// The level is not a filter, or the process has a log already.
    pub fn start(logging: &Logging) -> Result<Self, String> {
        let (subscriber, telemetry) = build(logging, std::io::stderr, std::io::stderr().is_terminal())?;
        subscriber.try_init().map_err(|error| error.to_string())?;
        Ok(telemetry)
    }

    /// Logs nothing; for tests that run several gateways in one process.
    pub fn none() -> Self {
        Self {
            filter: None,
            json: Arc::default(),
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
        }
        self.json.store(logging.format == LogFormat::Json, Ordering::Relaxed);
        Ok(())
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
fn build<W>(logging: &Logging, writer: W, colours: bool) -> Result<(impl Subscriber + Send + Sync, Telemetry), String>
where
    W: for<'w> MakeWriter<'w> + Clone + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&logging.level)?);
    let json = Arc::new(AtomicBool::new(logging.format == LogFormat::Json));
    let subscriber = Registry::default()
        .with(filter)
        .with(only_when(Arc::clone(&json), false, text(writer.clone(), colours)))
        .with(only_when(
            Arc::clone(&json),
            true,
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(writer),
        ));
    let telemetry = Telemetry {
        filter: Some(handle),
        json,
    };
    Ok((subscriber, telemetry))
}

fn text<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    // On a terminal the library's own choice stays, which respects NO_COLOR.
    if colours { layer } else { layer.with_ansi(false) }
}

/// A layer that is silent unless the JSON switch is at `value`.
fn only_when<S, L>(json: Arc<AtomicBool>, value: bool, layer: L) -> impl Layer<S> + Send + Sync + use<S, L>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    L: Layer<S> + Send + Sync,
{
    layer.with_filter(dynamic_filter_fn(move |_, _| json.load(Ordering::Relaxed) == value))
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().expect("lock"))).expect("text")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Lines {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    fn logging(level: &str, format: LogFormat) -> Logging {
        Logging {
            level: level.to_owned(),
            format,
            access: true,
            upstream_uri: false,
        }
    }

    #[test]
    fn level_and_format_change_while_running() {
        let lines = Lines::default();
        let (subscriber, telemetry) =
            build(&logging("info", LogFormat::Text), lines.clone(), false).expect("valid filter");
        tracing::subscriber::with_default(subscriber, || {
            // A span that outlives the change of format, as a request's would.
            let span = tracing::info_span!("request", call = "abc");
            let _entered = span.enter();
            tracing::debug!("hidden");
            tracing::info!(port = 8080, "shown");
            let text = lines.take();
            assert!(!text.contains("hidden") && text.contains("shown port=8080"), "{text}");

            telemetry
                .apply(&logging("debug", LogFormat::Json))
                .expect("valid filter");
            tracing::debug!(port = 8081, "now shown");
            let line: serde_json::Value = serde_json::from_str(&lines.take()).expect("one JSON object");
            assert_eq!((&line["message"], &line["port"]), (&"now shown".into(), &8081.into()));

            telemetry
                .apply(&logging("error", LogFormat::Text))
                .expect("valid filter");
            tracing::warn!("hidden again");
            assert_eq!(lines.take(), "");
        });
    }

    #[test]
    fn a_wrong_level_changes_nothing() {
        let lines = Lines::default();
        let (subscriber, telemetry) =
            build(&logging("info", LogFormat::Text), lines.clone(), false).expect("valid filter");
        tracing::subscriber::with_default(subscriber, || {
            let error = telemetry
                .apply(&logging("hyper=loud", LogFormat::Json))
                .expect_err("refused");
            assert!(error.contains("hyper=loud"), "{error}");
            tracing::info!("still text");
            assert!(lines.take().contains("INFO"), "text format");
        });
    }
}
