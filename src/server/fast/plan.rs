//! What the bytes at the beginning of a connection, or behind its last request,
//! ask for: a plain call, or something for the base lane.
//!
//! Only what is known already counts here: nothing is asked, and nothing waited for.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use http::{Method, header};
use tokio::time::Instant;
use uuid::Uuid;

use super::{buffer::Buffer, call::Call, exchange::Asked};
use crate::{
    problem::Form,
    proxy::{
        fast::{
            head::{self, Head, Read},
            write::{CallLine, MAX_CALL_ID},
        },
        target,
    },
    server::{
        Reach, Service,
        access_log::{Kind, Record},
    },
    snapshot::{CalledFunction, Snapshot},
};

/// What is to be done with the bytes that came.
pub(super) enum Plan<C> {
    /// Wait for more.
    Partial,
    /// Hand them to the base lane.
    Base,
    /// Call a function.
    Call(C),
}

/// The call that the head in `input` asks for.
pub(super) fn plan(input: &Buffer, service: &Service, peer: SocketAddr) -> Plan<Box<Call>> {
    read(input, |head| {
        let (snapshot, function) = called(head, service)?;
        call(head, snapshot, function, peer).map(Box::new)
    })
}

/// Whether the head in `input` asks for a call.
pub(super) fn look(input: &Buffer, service: &Service) -> Plan<()> {
    read(input, |head| called(head, service).map(drop))
}

fn read<C>(input: &Buffer, plain: impl FnOnce(&Head<'_, '_>) -> Option<C>) -> Plan<C> {
    let mut storage = head::storage();
    match head::read(&mut storage, input.unread()) {
        Read::Partial if input.is_full() => Plan::Base,
        Read::Partial => Plan::Partial,
        Read::Doubtful => Plan::Base,
        Read::Plain(head) => plain(&head).map_or(Plan::Base, Plan::Call),
    }
}

/// The function that a plain head leads to, if calls of it are plain too.
fn called(head: &Head<'_, '_>, service: &Service) -> Option<(Arc<Snapshot>, Arc<CalledFunction>)> {
    let snapshot = service.current.get();
    // Routes and a base path are looked up on the base lane.
    if !snapshot.config.server.fast_lane || !snapshot.routes.is_empty() || !snapshot.routes.base_path().is_empty() {
        return None;
    }
    let (name, _) = target::split(head.path())?;
    let long = head.call_id.is_some_and(|id| id.len() > MAX_CALL_ID);
    if name.contains('%') || long {
        return None;
    }
    let function = snapshot.functions.get(name)?;
    is_plain(&function, service.reach).then_some((snapshot, function))
}

fn call(head: &Head<'_, '_>, snapshot: Arc<Snapshot>, function: Arc<CalledFunction>, peer: SocketAddr) -> Option<Call> {
    let started = Instant::now();
    let line = if let Some(id) = head.call_id {
        CallLine::new(id, SystemTime::now())?
    } else {
        let mut text = Uuid::encode_buffer();
        let id = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        CallLine::new(id.as_bytes(), SystemTime::now())?
    };
    let mut record = Record::of(
        &snapshot,
        Kind::Function,
        || {
            let method = Method::from_bytes(head.method.as_bytes()).unwrap_or_default();
            (method, head.path().to_owned())
        },
        peer,
        started,
    );
    record.call_id(line.id());
    record.fast();
    Some(Call {
        asked: Asked {
            line,
            called: started,
            is_head: head.method == "HEAD",
            repeatable: head.body.is_ended() && is_idempotent(head.method),
            close: head.close,
        },
        record,
        body: head.body.clone(),
        length: head.length,
        form: Form::of(head.values(header::ACCEPT.as_str())),
        function,
        snapshot,
    })
}

/// Whether calls of a function need nothing that only the base lane has.
fn is_plain(function: &CalledFunction, reach: Reach) -> bool {
    let settings = &function.settings;
    function.metrics.is_some()
        && settings.retries.is_none()
        && !(settings.internal && reach == Reach::Public)
        && function.policy.as_ref().is_none_or(|policy| policy.is_plain())
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"].contains(&method)
}
