//! What a route does with a request: redirects it, or turns it into a call of
//! one of its functions.
//!
//! Such a call goes on as `/function/NAME/rest`, with the route's settings in
//! place of the function's.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use uuid::Uuid;

use super::{
    invoke::{ByRoute, Called},
    way,
};
use crate::{
    problem::Problem,
    proxy::{body, headers, target},
    routing::{
        Action, Route,
        path::rewritten,
        redirect::Redirect,
        split::{Split, Target},
        sticky::{self, Sticky},
    },
    upstream::Body,
};

/// What came of a request on a route.
pub(super) enum Turned {
    /// It is a call now, and the answer gets this cookie.
    Call(Called, Option<HeaderValue>),
    /// It is answered.
    Answer(Response<Body>),
}

/// Does what `route` says, with chance for what is left to chance.
pub(super) fn turn<B>(route: &Arc<Route>, request: &mut Request<B>) -> Result<Turned, Problem> {
    match &route.action {
        Action::Redirect(redirect) => redirected(route, redirect, request).map(Turned::Answer),
        Action::Call(split) => {
            let (target, cookie) = choose(route, split, request);
            let target = target.ok_or_else(|| misconfigured(route, "none of its functions has a share"))?;
            let called = call(route, target, request)?;
            Ok(Turned::Call(called, cookie))
        }
    }
}

/// Says what is wrong with a path that might be read as another route's.
pub(super) fn ambiguous(route: &Route) -> Problem {
    let text = format!(
        "the path could be read in two ways, and not only as one of route {}: send it without dot segments, \
         doubled slashes and needless %-encoding",
        route.name
    );
    Problem::new(StatusCode::BAD_REQUEST, text)
}

fn redirected<B>(route: &Route, redirect: &Redirect, request: &Request<B>) -> Result<Response<Body>, Problem> {
    let uri = request.uri();
    let location = redirect
        .location(uri.path(), &route.path, uri.query())
        .ok_or_else(|| misconfigured(route, "redirect.to is no header text"))?;
    let mut response = Response::new(body::empty());
    if let Some(permission) = redirect.answers.preflight(request.method(), request.headers()) {
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = permission;
        return Ok(response);
    }
    *response.status_mut() = redirect.status;
    let origin = request.headers().get(header::ORIGIN);
    redirect.answers.answer(origin, response.headers_mut());
    // Last, for without it there is no redirect.
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The function of a caller, and the cookie that a caller without one gets.
fn choose<'s, B>(route: &Route, split: &'s Split, request: &Request<B>) -> (Option<&'s Target>, Option<HeaderValue>) {
    let Some(sticky) = &split.sticky else {
        return (split.pick(rand::random()), None);
    };
    if let Some(value) = sticky.value(request.headers()) {
        return (split.stick(value), None);
    }
    match sticky {
        Sticky::Header(_) => (split.pick(rand::random()), None),
        Sticky::Cookie(name) => {
            let id = Uuid::new_v4().simple().to_string();
            let cookie = sticky::set_cookie(name, &id, &route.path, headers::came_by_https(request.headers()));
            (split.stick(id.as_bytes()), cookie)
        }
    }
}

/// Gives the request the path that calls of the function have.
fn call<B>(route: &Arc<Route>, target: &Target, request: &mut Request<B>) -> Result<Called, Problem> {
    let rest = rewritten(request.uri().path(), &route.path, route.rewrite.as_deref());
    let path = format!("{}{}{rest}", target::FUNCTION_PREFIX, target.function);
    *request.uri_mut() = way::with_path(request.uri(), &path)
        .ok_or_else(|| misconfigured(route, "its function and rewrite make no path"))?;
    headers::set_forwarded_prefix(request.headers_mut(), &route.path);
    Ok(Called::ByRoute(ByRoute {
        route: Arc::clone(route),
        key: Arc::clone(&target.key),
    }))
}

fn misconfigured(route: &Route, what: &str) -> Problem {
    let text = format!("route {} leads nowhere: {what}", route.name);
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text).setting("routes")
}
