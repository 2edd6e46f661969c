//! What the bytes at the beginning of a connection, or behind its last request,
//! ask for: a plain call, or something for the base lane.
//!
//! Only what is known already counts here: nothing is asked, and nothing waited for.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use http::{Method, header};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    buffer::Buffer,
    call::{Call, FunctionPath, Request},
    exchange::Asked,
};
use crate::{
    problem::Form,
    proxy::{
        fast::{
            head::{self, Head, Read},
            write::{self, CallLine, MAX_CALL_ID, Told},
        },
        target,
    },
    routing::{self, Action, Route, RouteTable, host, path},
    server::{
        Reach, Service,
        access_log::{Kind, Record},
        limits,
        way::{self, Way},
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

/// The call that the head in `input` asks for, of a caller at this address, which
/// functions see in this form.
pub(super) fn plan(input: &Buffer, service: &Service, caller: (SocketAddr, &str)) -> Plan<Box<Call>> {
    read(input, |head| {
        call(head, called(head, service)?, caller, service.transport.proto())
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

/// Where a plain head leads.
struct Led {
    snapshot: Arc<Snapshot>,
    function: Arc<CalledFunction>,
    route: Option<Arc<Route>>,
    path: FunctionPath,
}

/// The function that a plain head leads to, if calls of it are plain too.
fn called(head: &Head<'_, '_>, service: &Service) -> Option<Led> {
    let snapshot = service.current.get();
    let long = head.call_id.is_some_and(|id| id.len() > MAX_CALL_ID);
    let server = &snapshot.config.server;
    // Refusals are written on the base lane.
    let too_much = limits::excess(server, head.field_count(), head.target.len()).is_some();
    if !server.fast_lane || !server.role.answers() || long || too_much {
        return None;
    }
    let own = |skip: usize| {
        let (name, _) = target::split(&head.path()[skip..])?;
        let path = FunctionPath::AsSent { skip, name: name.len() };
        // Names are compared as they are known, which is decoded.
        let function = snapshot.functions.get(name).filter(|_| !name.contains('%'))?;
        Some((function, None, path))
    };
    let (function, route, path) = if way::is_plain(&snapshot.routes) {
        own(0)?
    } else {
        match way_of(head, &snapshot.routes)? {
            Way::Own => own(0)?,
            Way::Below(path) => own(head.path().len() - path.len())?,
            Way::Route(route) => routed(head, &route, &snapshot)?,
            Way::Ambiguous(_) | Way::Method(_) | Way::Outside => return None,
        }
    };
    is_plain(&function, service.reach).then_some(Led {
        snapshot,
        function,
        route,
        path,
    })
}

/// The way of a request that asks no leave for another.
fn way_of<'b>(head: &Head<'_, 'b>, routes: &RouteTable) -> Option<Way<'b>> {
    let method = Method::from_bytes(head.method.as_bytes()).ok()?;
    if head.origin && method == Method::OPTIONS {
        return None;
    }
    let host = std::str::from_utf8(head.host).ok().and_then(host::plain);
    let asked = routing::Asked {
        host: host.as_deref(),
        path: head.path(),
        method: &method,
        preflight: None,
    };
    Some(way::decide(routes, asked, head.path()))
}

/// The function that a route leads to, where nothing but chance decides.
fn routed(
    head: &Head<'_, '_>,
    route: &Arc<Route>,
    snapshot: &Snapshot,
) -> Option<(Arc<CalledFunction>, Option<Arc<Route>>, FunctionPath)> {
    let Action::Call(split) = &route.action else {
        return None;
    };
    if split.sticky.is_some() || route.mirror.is_some() {
        return None;
    }
    let to = split.pick(rand::random())?;
    let function = snapshot.functions.get(&to.key)?;
    let rest = path::rewritten(head.path(), &route.path, route.rewrite.as_deref());
    let query = &head.target[head.path().len()..];
    let target = format!("{}{}{rest}{query}", target::FUNCTION_PREFIX, to.function);
    let name = to.function.len();
    Some((
        function,
        Some(Arc::clone(route)),
        FunctionPath::Rewritten { target, name },
    ))
}

fn call(head: &Head<'_, '_>, led: Led, caller: (SocketAddr, &str), proto: &str) -> Option<Box<Call>> {
    let Led {
        snapshot,
        function,
        route,
        path,
    } = led;
    let (peer, shown) = caller;
    let started = Instant::now();
    let line = if let Some(id) = head.call_id {
        CallLine::new(id, SystemTime::now())?
    } else {
        let mut text = Uuid::encode_buffer();
        let id = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        CallLine::new(id.as_bytes(), SystemTime::now())?
    };
    let mut record = Record::new(&snapshot, Kind::Function, head, peer, started);
    record.call_id(line.id());
    record.fast();
    if let Some(route) = &route {
        record.route(route);
    }
    record.function(&function);
    let mut fields = Vec::with_capacity(head.length + 256);
    let told = Told {
        call: &line,
        peer: shown,
        proto,
        prefix: route.as_ref().map_or("", |route| &route.path),
        trace: record.carried(),
    };
    write::fields(&mut fields, head, &told);
    Some(Box::new(Call {
        request: Request {
            method: head.method.len(),
            target: head.target.len(),
            host: head.host_place(),
            length: head.length,
            path,
            fields,
            body: head.body.clone(),
        },
        asked: Asked {
            line,
            called: started,
            is_head: head.method == "HEAD",
            repeatable: head.body.is_ended() && is_idempotent(head.method),
            close: head.close,
        },
        record,
        form: Form::of(head.values(header::ACCEPT.as_str())),
        function,
        snapshot,
    }))
}

/// Whether calls of a function need nothing that only the base lane has.
fn is_plain(function: &CalledFunction, reach: Reach) -> bool {
    let settings = &function.settings;
    function.metrics.is_some()
        && settings.retries.is_none()
        && !settings.may_be_http2()
        && settings.compression.is_none()
        && !(settings.internal && reach == Reach::Public)
        && function.policy.as_ref().is_none_or(|policy| policy.is_plain())
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"].contains(&method)
}
