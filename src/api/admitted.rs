//! What a handler gets of its request's surroundings: the snapshot, and with
//! it the proof that the caller was let in.
//!
//! [`crate::api`] takes one snapshot for each request, checks the caller before
//! anything is routed and before any body is read, and leaves the result in
//! the request. A protected operation takes [`Admitted`] as its first argument;
//! that also puts the security requirement into the document. An operation
//! that is open takes [`View`]. Handlers have no other way to the snapshot, so
//! one that forgot to ask for admission would have nothing to work with.

use std::sync::Arc;

use poem::{FromRequest, Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use super::error::carry;
use crate::{
    problem::Problem,
    snapshot::{Current, Snapshot, control::Control},
};

/// Name of the security scheme in the document.
pub(super) const SCHEME: &str = "basicAuth";

/// The snapshot of a request whose caller was let in.
#[derive(Clone)]
pub(super) struct Admitted(pub Arc<Snapshot>);

/// The snapshot of any request.
#[derive(Clone)]
pub(super) struct View(pub Arc<Snapshot>);

impl<'a> ApiExtractor<'a> for Admitted {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "User and password of `basic-auth-user` and `basic-auth-password`, where `auth.basic` is on.",
                ),
                name: None,
                key_in: None,
                scheme: Some("basic"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        request.data::<Self>().cloned().ok_or_else(not_routed)
    }
}

impl<'a> FromRequest<'a> for View {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        request.data::<Self>().cloned().ok_or_else(not_routed)
    }
}

/// The newest snapshot and how to replace it; for operations on the
/// configuration itself.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) current: Current,
    pub(super) control: Arc<dyn Control>,
}

impl<'a> FromRequest<'a> for Live {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        request.data::<Self>().cloned().ok_or_else(not_routed)
    }
}

fn not_routed() -> poem::Error {
    carry(Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the request did not come through the gateway's routing",
    ))
}
