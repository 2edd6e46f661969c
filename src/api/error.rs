//! The error half of every operation: one shape, documented with the statuses
//! that the operation can have.
//!
//! Which failure has which status is [`crate::problem`]'s business. Here a
//! [`Problem`] travels as data of poem's error to [`crate::api`], which knows
//! the caller's `Accept` and writes it as JSON or text.

use std::marker::PhantomData;

use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};

use crate::{
    problem::{PROBLEM_JSON, Problem},
    provider::ProviderError,
    queue::QueueError,
};

/// A failed operation whose documented statuses are those of `C`.
pub(super) struct ApiError<C>(Problem, PhantomData<C>);

/// Statuses that a kind of operation documents.
pub(super) trait Cases: Send + Sync + 'static {
    /// In ascending order.
    const STATUSES: &'static [u16];
    /// Whether a provider's own status may be passed on.
    const PASSES_OTHERS: bool;
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident = $statuses:expr, $others:literal;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl Cases for $name {
                const STATUSES: &'static [u16] = &$statuses;
                const PASSES_OTHERS: bool = $others;
            }
        )*
    };
}

cases! {
    /// Reading a list or a document.
    Listing = [400, 401, 403, 500, 501, 502, 504], true;
    /// Reading one thing by name.
    Reading = [400, 401, 403, 404, 500, 501, 502, 504], true;
    /// Creating, changing or removing something.
    Changing = [400, 401, 403, 404, 409, 413, 500, 501, 502, 504], true;
    /// Reading logs.
    Logs = [400, 401, 403, 404, 422, 500, 501, 502, 504], true;
    /// Asking whether the provider works; needs no credentials.
    Health = [500, 502, 503, 504], true;
    /// The gateway's own information, which never depends on the provider.
    OwnInfo = [401, 403, 500], false;
    /// Looking at a candidate for the configuration.
    Candidate = [400, 401, 403, 413, 422, 500], false;
    /// Reading the configuration again.
    Reloading = [401, 403, 412, 422, 500, 503], false;
    /// Looking after asynchronous calls.
    Queueing = [400, 401, 403, 404, 409, 500, 503], false;
    /// Following what happens.
    Following = [400, 401, 403, 500, 503], false;
    /// Choosing from stores.
    Choosing = [400, 401, 403, 404, 500], false;
    /// Obeying alerts.
    Alerting = [400, 401, 403, 413, 500], false;
}

fn description(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed; the text says what and where.",
        401 => "Credentials are missing or wrong.",
        403 => "Whoever decides for the gateway (`auth.proxy_url`) does not allow it.",
        404 => "What the request names does not exist.",
        409 => "It exists already, or is in use.",
        413 => "The request body is larger than 1 MiB.",
        412 => "The live configuration is not the one that `If-Match` names.",
        422 => "What was sent cannot be used; the text says why.",
        501 => "The provider has no such operation.",
        502 => "The provider cannot be reached.",
        503 => "Not available now; `Retry-After` says when to try again.",
        504 => "The provider did not answer in time.",
        _ => "The gateway or the provider failed.",
    }
}

/// The two forms of a problem.
pub(super) fn problem_content() -> Vec<MetaMediaType> {
    vec![
        MetaMediaType {
            content_type: PROBLEM_JSON,
            schema: Problem::schema_ref(),
        },
        MetaMediaType {
            content_type: "text/plain",
            schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
        },
    ]
}

fn headers(status: u16) -> Vec<MetaHeader> {
    let header = |name: &str, description: &str, ty| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new(ty))),
    };
    match status {
        401 => vec![header("WWW-Authenticate", "Asks for basic credentials.", "string")],
        503 => vec![header("Retry-After", "Seconds after which to try again.", "integer")],
        _ => Vec::new(),
    }
}

impl<C: Cases> ApiResponse for ApiError<C> {
    fn meta() -> MetaResponses {
        let known = C::STATUSES.iter().map(|status| MetaResponse {
            description: description(*status),
            status: Some(*status),
            status_range: None,
            content: problem_content(),
            headers: headers(*status),
        });
        let others = C::PASSES_OTHERS.then(|| MetaResponse {
            description: "Any other status that the provider answered with.",
            status: None,
            status_range: None,
            content: problem_content(),
            headers: Vec::new(),
        });
        MetaResponses {
            responses: known.chain(others).collect(),
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

impl<C> From<Problem> for ApiError<C> {
    fn from(problem: Problem) -> Self {
        Self(problem, PhantomData)
    }
}

impl<C> From<QueueError> for ApiError<C> {
    fn from(error: QueueError) -> Self {
        Problem::from(error).into()
    }
}

impl<C> From<ProviderError> for ApiError<C> {
    fn from(error: ProviderError) -> Self {
        let mut problem = Problem::from(error);
        if problem.detail.is_empty() {
            // Providers answer with bare statuses too; an empty line explains nothing.
            problem.detail = format!("the provider answered {} {}", problem.status, problem.title);
        }
        problem.into()
    }
}

impl<C> From<ApiError<C>> for poem::Error {
    fn from(error: ApiError<C>) -> Self {
        carry(error.0)
    }
}

/// A poem error that carries a problem to where it is written.
pub(super) fn carry(problem: Problem) -> poem::Error {
    let mut error = poem::Error::from_status(problem.status_code());
    error.set_data(problem);
    error
}
