//! Mode `static`: files of a directory, `index.html` for directories.
//!
//! poem does the work, including types, ranges, conditional requests and the
//! refusal of paths that lead out of the directory.

use std::path::Path;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use poem::{Endpoint, endpoint::StaticFilesEndpoint};

use super::answer;
use crate::upstream::Body;

/// The files of `directory`.
pub(super) fn files(directory: &Path) -> StaticFilesEndpoint {
    StaticFilesEndpoint::new(directory).index_file("index.html")
}

/// Answers a call with a file.
pub(super) async fn call(request: Request<Body>, files: &StaticFilesEndpoint) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let head = parts.method == Method::HEAD;
    if !head && parts.method != Method::GET {
        return answer::method_not_allowed("GET, HEAD");
    }
    let mut asked = poem::Request::builder().method(Method::GET).uri(parts.uri).finish();
    *asked.headers_mut() = parts.headers;
    let response: poem::Response = match files.call(asked).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    // For HEAD the server leaves the body out and keeps its length.
    Response::from(response).map(|body| body.map_err(Into::into).boxed_unsync())
}
