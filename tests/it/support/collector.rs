//! An OTLP receiver for tests, which keeps the spans it is sent.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span as Proto, span::SpanKind, status::StatusCode},
};
use prost::Message;

use super::{
    eventually,
    provider::{Answer, Asked, ScriptedProvider},
};

/// A receiver on a port of its own; it ends when it is dropped.
pub(crate) struct Collector {
    server: ScriptedProvider,
}

/// A span as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for the first of a trace.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) failed: bool,
    pub(crate) took_nanos: u64,
    attributes: Vec<KeyValue>,
    resource: Vec<KeyValue>,
}

impl Collector {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        Self::answering(Answer::empty(200)).await
    }

    /// One that answers so.
    pub(crate) async fn answering(answer: Answer) -> Self {
        let server = ScriptedProvider::answering(answer).await;
        Self { server }
    }

    /// One that answers as `script` says.
    pub(crate) async fn scripted(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let server = ScriptedProvider::start(script).await;
        Self { server }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        self.server.url.to_string()
    }

    /// `[tracing]` with it, and with these further lines.
    pub(crate) fn config(&self, more: &str) -> String {
        format!("[tracing]\notlp_endpoint = \"{}\"\n{more}\n", self.server.url)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self
            .requests()
            .into_iter()
            .filter(|asked| asked.line() == "POST /v1/traces");
        let decoded = requests.flat_map(|asked| {
            assert_eq!(asked.header("content-type"), Some("application/x-protobuf"));
            ExportTraceServiceRequest::decode(asked.body)
                .expect("OTLP")
                .resource_spans
        });
        let spans = decoded.flat_map(|of| {
            let resource = of.resource.expect("a resource").attributes;
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans
                .map(move |span| Span::new(span, resource.clone()))
                .collect::<Vec<_>>()
        });
        spans.collect()
    }

    /// The spans of the trace whose first span here matches, as soon as there
    /// are so many.
    pub(crate) async fn trace(&self, count: usize, matches: impl Fn(&Span) -> bool) -> Vec<Span> {
        eventually(&format!("a trace of {count} spans"), || async {
            let spans = self.spans();
            let trace = spans.iter().find(|span| matches(span))?.trace.clone();
            let of: Vec<_> = spans.into_iter().filter(|span| span.trace == trace).collect();
            (of.len() >= count).then_some(of)
        })
        .await
    }
}

impl Span {
    fn new(span: Proto, resource: Vec<KeyValue>) -> Self {
        let hex = |bytes: &[u8]| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<Vec<_>>().concat()
        };
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            failed: span
                .status
                .as_ref()
                .is_some_and(|status| status.code() == StatusCode::Error),
            took_nanos: span.end_time_unix_nano - span.start_time_unix_nano,
            state: span.trace_state,
            name: span.name,
            attributes: span.attributes,
            resource,
        }
    }

    /// An attribute as text; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> String {
        find(&self.attributes, name)
    }

    /// An attribute of the resource.
    pub(crate) fn resource(&self, name: &str) -> String {
        find(&self.resource, name)
    }
}

fn find(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
