//! Bodies of the typed API: JSON that does not insist on its `Content-Type`,
//! statuses without a body, and lines of JSON.
//!
//! poem's own JSON payload answers 415 to `curl -d`, which sends a form type;
//! OpenFaaS never looked (poem-and-friends.md, trap 5).

use poem::{
    Body, IntoResponse, Request, RequestBody, Response,
    error::ReadBodyError,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    payload::Payload,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde_json::Value;

use super::{Endless, error::carry, explain, pattern};
use crate::{
    model::{ConfigCandidate, ConfigCandidateFile, LogMessage},
    problem::Problem,
};

const JSON: &str = "application/json";

/// Most bytes of a JSON request body.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;

/// A JSON body, whatever `Content-Type` it came with.
pub(super) struct Json<T>(pub T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ToJSON> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::builder().content_type(JSON).body(self.0.to_json_string())
    }
}

impl<T: ToJSON> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The answer.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: JSON,
                    schema: T::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for Json<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    const PARAM_IS_REQUIRED: bool = T::IS_REQUIRED;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema: T::schema_ref(),
            }],
            required: T::IS_REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read(request, body.take()?).await.map_err(carry)?;
        parse(&bytes).map(Self).map_err(carry)
    }
}

/// What may become the configuration: a TOML document, whatever `Content-Type`
/// it came with, or several files as JSON that says so.
pub(super) struct Documents(pub Vec<ConfigCandidateFile>);

/// What errors call a document that came without a name.
const UNNAMED: &str = "candidate";

/// Most characters of a file's name.
pub(super) const FILE_NAME_LEN: usize = 1024;

impl<'a> ApiExtractor<'a> for Documents {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    const PARAM_IS_REQUIRED: bool = true;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        ConfigCandidate::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![
                MetaMediaType {
                    content_type: "application/toml",
                    schema: MetaSchemaRef::Inline(Box::new(MetaSchema {
                        pattern: Some(pattern::NOT_BLANK.to_owned()),
                        ..MetaSchema::new("string")
                    })),
                },
                MetaMediaType {
                    content_type: JSON,
                    schema: ConfigCandidate::schema_ref(),
                },
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read(request, body.take()?).await.map_err(carry)?;
        let media = request.content_type().and_then(|text| text.split(';').next());
        let files = match media {
            Some(media) if media.trim().eq_ignore_ascii_case(JSON) => {
                parse::<ConfigCandidate>(&bytes).and_then(|candidate| checked(candidate.files))
            }
            _ => document(bytes.into()),
        };
        files.map(Self).map_err(carry)
    }
}

fn document(bytes: Vec<u8>) -> Result<Vec<ConfigCandidateFile>, Problem> {
    let wrong = |text: &str| Problem::new(StatusCode::BAD_REQUEST, text);
    let content = String::from_utf8(bytes).map_err(|_| wrong("the request body is not UTF-8 text"))?;
    if content.trim().is_empty() {
        return Err(wrong("the request body is empty; a TOML document is needed"));
    }
    let name = UNNAMED.to_owned();
    Ok(vec![ConfigCandidateFile { name, content }])
}

/// The files, if each has a name of its own that fits on a line and a content.
fn checked(files: Vec<ConfigCandidateFile>) -> Result<Vec<ConfigCandidateFile>, Problem> {
    let wrong = |text: String| Err(Problem::new(StatusCode::BAD_REQUEST, text));
    if files.is_empty() {
        return wrong("field `files` is empty; at least one file is needed".to_owned());
    }
    for (index, file) in files.iter().enumerate() {
        let name = &file.name;
        if name.is_empty() || name.chars().count() > FILE_NAME_LEN || name.contains(char::is_control) {
            return wrong(format!(
                "field `files[{index}].name` must be 1 to {FILE_NAME_LEN} characters without control characters"
            ));
        }
        if files.iter().take(index).any(|earlier| earlier.name == *name) {
            return wrong(format!("field `files[{index}].name` is the name of an earlier file"));
        }
        if file.content.trim().is_empty() {
            return wrong(format!(
                "field `files[{index}].content` is empty; a TOML document is needed"
            ));
        }
    }
    Ok(files)
}

/// The whole body, if it is not longer than [`BODY_LIMIT`].
async fn read(request: &Request, body: Body) -> Result<bytes::Bytes, Problem> {
    let announced = request
        .header(header::CONTENT_LENGTH)
        .and_then(|length| length.parse::<usize>().ok());
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request body is larger than {BODY_LIMIT} bytes"),
        )
    };
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(too_large());
    }
    body.into_bytes_limit(BODY_LIMIT).await.map_err(|error| match error {
        ReadBodyError::PayloadTooLarge => too_large(),
        error => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the request body cannot be read: {error}"),
        ),
    })
}

fn parse<T: ParseFromJSON>(bytes: &[u8]) -> Result<T, Problem> {
    let wrong = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let value = if bytes.trim_ascii().is_empty() {
        if T::IS_REQUIRED {
            return Err(wrong(format!(
                "the request body is empty; a JSON object ({}) is needed",
                T::name()
            )));
        }
        Value::Null
    } else {
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("the request body is not valid JSON: {error}")))?
    };
    // Before poem's parser, which names no field, and reads numbers and `true` as text:
    // what is no text would become the name of something.
    let is_absent = value.is_null() && !T::IS_REQUIRED;
    if let Some(mismatch) = explain::mismatch::<T>(&value).filter(|_| !is_absent) {
        return Err(wrong(mismatch));
    }
    T::parse_from_json(Some(value)).map_err(|error| wrong(error.into_message()))
}

/// The change was accepted.
#[derive(ApiResponse)]
pub(super) enum Accepted {
    /// The change was accepted.
    #[oai(status = 202)]
    Accepted,
}

/// It was done.
#[derive(ApiResponse)]
pub(super) enum Done {
    /// It was done.
    #[oai(status = 200)]
    Done,
}

/// It was created.
#[derive(ApiResponse)]
pub(super) enum Created {
    /// It was created.
    #[oai(status = 201)]
    Created,
}

/// Log messages, one JSON object a line, each sent as soon as it is there.
pub(super) struct LogLines(pub Body);

impl IntoResponse for LogLines {
    fn into_response(self) -> Response {
        Response::builder().content_type("application/x-ndjson").body(self.0)
    }
}

impl ApiResponse for LogLines {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Log messages, one JSON object a line.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/x-ndjson",
                    schema: LogMessage::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        LogMessage::register(registry);
    }
}

/// Server-sent events, each sent as soon as it is there.
pub(super) struct EventStream(pub Body);

const EVENT_STREAM: &str = "text/event-stream";

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let mut response = Response::builder()
            .content_type(EVENT_STREAM)
            .header(header::CACHE_CONTROL, "no-store")
            // nginx would wait for a buffer to fill.
            .header("X-Accel-Buffering", "no")
            .body(self.0);
        response.set_data(Endless);
        response
    }
}

impl ApiResponse for EventStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Events, each of some lines and an empty one.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: EVENT_STREAM,
                    schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FunctionDeployment, FunctionNamespace, ScaleServiceRequest, Secret};

    fn refused<T: ParseFromJSON>(body: &str) -> String {
        match parse::<T>(body.as_bytes()) {
            Ok(_) => panic!("{body} was accepted"),
            Err(problem) => problem.detail,
        }
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, text) in [
            (
                "",
                "the request body is empty; a JSON object (FunctionDeployment) is needed",
            ),
            ("[]", "expected a JSON object, found an array"),
            (r#"{"service":7}"#, "field `service` must be a string, not 7"),
            ("{}", "missing field `service`"),
            (r#"{"service":null}"#, "missing field `service`"),
            (r#"{"service":{}}"#, "field `service` must be a string, not an object"),
            (
                r#"{"service":"a","labels":[]}"#,
                "field `labels` must be an object, not an array",
            ),
            (
                r#"{"service":"a","envVars":{"A":[]}}"#,
                "field `envVars.A` must be a string, not an array",
            ),
            (
                r#"{"service":"a","secrets":[{}]}"#,
                "field `secrets[0]` must be a string, not an object",
            ),
            (
                r#"{"service":"a","limits":{"memory":{}}}"#,
                "field `limits.memory` must be a string, not an object",
            ),
            (
                r#"{"service":"a","readOnlyRootFilesystem":"yes"}"#,
                "field `readOnlyRootFilesystem` must be true or false, not a string",
            ),
        ] {
            assert_eq!(refused::<FunctionDeployment>(body), text, "{body}");
        }
        assert_eq!(
            refused::<Secret>(r#"{"name":"a","rawValue":"?"}"#),
            "field `rawValue` must be base64 text, not a string"
        );
        assert!(refused::<FunctionDeployment>("{").starts_with("the request body is not valid JSON: EOF"));
        for replicas in ["-1", "1.5", "\"3\"", "[]"] {
            let text = refused::<ScaleServiceRequest>(&format!(r#"{{"replicas":{replicas}}}"#));
            assert!(text.starts_with("field `replicas` must be a whole number"), "{text}");
        }
    }

    #[test]
    fn candidates_of_several_files_have_names_and_contents() {
        let file = |name: &str, content: &str| ConfigCandidateFile {
            name: name.to_owned(),
            content: content.to_owned(),
        };
        let good = vec![file("a.toml", "x = 1"), file("b.toml", "x = 1")];
        assert_eq!(checked(good.clone()).expect("fine"), good);
        for (files, part) in [
            (vec![], "field `files` is empty"),
            (
                vec![file("a", "x = 1"), file("", "x = 1")],
                "field `files[1].name` must be 1 to",
            ),
            (vec![file("a\nb", "x = 1")], "field `files[0].name` must be 1 to"),
            (
                vec![file(&"x".repeat(1025), "x = 1")],
                "field `files[0].name` must be 1 to",
            ),
            (
                vec![file("a", "x = 1"), file("a", "x = 1")],
                "field `files[1].name` is the name of",
            ),
            (vec![file("a", " \n")], "field `files[0].content` is empty"),
        ] {
            let refused = checked(files).expect_err(part).detail;
            assert!(refused.starts_with(part), "{refused}");
        }
    }

    #[test]
    fn an_optional_body_may_be_empty() {
        assert_eq!(parse::<Option<FunctionNamespace>>(b" \n").expect("accepted"), None);
    }
}
