//! Spans as requests of the OpenTelemetry protocol. Pure.
//!
//! The messages are those that OpenTelemetry generates from its own
//! definitions. Its exporter is not used: it reads variables of the process's
//! environment on its own and above everything else, so that what it does could
//! not be checked, shown or changed while running.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{self as proto, ResourceSpans, ScopeSpans, Status, status::StatusCode},
};
use opentelemetry_semantic_conventions::attribute;
use prost::Message;

use crate::trace::{Span, SpanKind, Value};

/// Says in a span's flags that it is known whether its parent is of another
/// process, and that it is.
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Who the spans are of.
pub(super) fn resource<'a>(service: &str, others: impl Iterator<Item = (&'a String, &'a String)>) -> Resource {
    let mut attributes = vec![
        text(attribute::SERVICE_NAME, service),
        text(attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    for (name, value) in others {
        // What somebody wrote is better than what we know.
        attributes.retain(|known| known.key != *name);
        attributes.push(text(name, value));
    }
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// The request that exports these spans.
pub(super) fn request(resource: &Resource, spans: Vec<Span>) -> Vec<u8> {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: spans.into_iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// How many spans an answer says were not taken, and why. One that cannot be
/// read says nothing of it: the status has said that they were.
pub(super) fn rejected(answer: &[u8]) -> (u64, String) {
    let partial = ExportTraceServiceResponse::decode(answer).ok();
    let partial = partial.and_then(|answer| answer.partial_success).unwrap_or_default();
    (
        u64::try_from(partial.rejected_spans).unwrap_or_default(),
        partial.error_message,
    )
}

fn span(span: Span) -> proto::Span {
    let remote = span.kind == SpanKind::Server && span.parent.is_some();
    let status = Status {
        code: if span.failed {
            StatusCode::Error
        } else {
            StatusCode::Unset
        }
        .into(),
        ..Status::default()
    };
    proto::Span {
        trace_id: span.context.trace.as_bytes().to_vec(),
        span_id: span.context.span.as_bytes().to_vec(),
        parent_span_id: span.parent.map(|parent| parent.as_bytes().to_vec()).unwrap_or_default(),
        trace_state: span.state,
        flags: u32::from(span.context.flags()) | PARENT_IS_KNOWN | if remote { PARENT_IS_REMOTE } else { 0 },
        name: span.name,
        kind: match span.kind {
            SpanKind::Internal => proto::span::SpanKind::Internal,
            SpanKind::Server => proto::span::SpanKind::Server,
            SpanKind::Client => proto::span::SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: span
            .attributes
            .into_iter()
            .map(|(name, value)| match value {
                Value::Text(value) => text(name, value),
                Value::Number(number) => key_value(name, any_value::Value::IntValue(number)),
            })
            .collect(),
        status: Some(status),
        ..proto::Span::default()
    }
}

fn text(name: &str, value: impl Into<String>) -> KeyValue {
    key_value(name, any_value::Value::StringValue(value.into()))
}

fn key_value(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
