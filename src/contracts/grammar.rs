//! What OpenAPI's objects are made of, as a table: which field is what. What is
//! not in it is no part of OpenAPI 3.0.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PathItem,
    Operation,
    Parameter,
    Header,
    RequestBody,
    Response,
    MediaType,
    Encoding,
    Example,
    Link,
    Callback,
    SecurityScheme,
    Schema,
    ExternalDocs,
}

/// What a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// An object.
    One(Kind),
    /// A list of them.
    List(Kind),
    /// Objects by name.
    Map(Kind),
    /// A schema, or whether there may be anything.
    SchemaOrFlag,
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// A list of texts.
    Texts,
    /// Whatever it is, it is taken as it is, and nothing in it has a meaning here.
    Data,
}

use Field::{Data, Flag, List, Map, Number, One, SchemaOrFlag, Text, Texts};

/// Methods that a path item has.
pub(super) const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl Kind {
    /// As errors call it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::PathItem => "a path item",
            Self::Operation => "an operation",
            Self::Parameter => "a parameter",
            Self::Header => "a header",
            Self::RequestBody => "a request body",
            Self::Response => "a response",
            Self::MediaType => "a media type",
            Self::Encoding => "an encoding",
            Self::Example => "an example",
            Self::Link => "a link",
            Self::Callback => "a callback",
            Self::SecurityScheme => "a security scheme",
            Self::Schema => "a schema",
            Self::ExternalDocs => "external documentation",
        }
    }

    /// Where `components` has them, for those that may be referred to.
    pub(super) fn section(self) -> Option<&'static str> {
        Some(match self {
            Self::Schema => "schemas",
            Self::Response => "responses",
            Self::Parameter => "parameters",
            Self::Example => "examples",
            Self::RequestBody => "requestBodies",
            Self::Header => "headers",
            Self::SecurityScheme => "securitySchemes",
            Self::Link => "links",
            Self::Callback => "callbacks",
            _ => return None,
        })
    }

    /// The kind that a section of `components` has.
    pub(super) fn of_section(section: &str) -> Option<Self> {
        let all = [
            Self::Schema,
            Self::Response,
            Self::Parameter,
            Self::Example,
            Self::RequestBody,
            Self::Header,
            Self::SecurityScheme,
            Self::Link,
            Self::Callback,
        ];
        all.into_iter().find(|kind| kind.section() == Some(section))
    }

    /// Fields that it cannot be without.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Parameter => &["name", "in"],
            Self::RequestBody => &["content"],
            Self::Response => &["description"],
            Self::SecurityScheme => &["type"],
            Self::ExternalDocs => &["url"],
            _ => &[],
        }
    }

    /// What a field of it has; `None` for what is no field of it.
    pub(super) fn field(self, name: &str) -> Option<Field> {
        match self {
            Self::PathItem if METHODS.contains(&name) => Some(One(Self::Operation)),
            Self::PathItem => match name {
                "summary" | "description" => Some(Text),
                "parameters" => Some(List(Self::Parameter)),
                _ => None,
            },
            Self::Operation => match name {
                "operationId" | "summary" | "description" => Some(Text),
                "deprecated" => Some(Flag),
                "parameters" => Some(List(Self::Parameter)),
                "requestBody" => Some(One(Self::RequestBody)),
                "responses" => Some(Map(Self::Response)),
                "callbacks" => Some(Map(Self::Callback)),
                "externalDocs" => Some(One(Self::ExternalDocs)),
                // Read, checked and written anew elsewhere.
                "security" | "tags" => Some(Data),
                _ => None,
            },
            Self::Parameter | Self::Header => match name {
                "name" | "in" if self == Self::Parameter => Some(Text),
                "description" | "style" => Some(Text),
                "required" | "deprecated" | "allowEmptyValue" | "explode" | "allowReserved" => Some(Flag),
                _ => content(name),
            },
            Self::RequestBody => match name {
                "description" => Some(Text),
                "required" => Some(Flag),
                "content" => Some(Map(Self::MediaType)),
                _ => None,
            },
            Self::Response => match name {
                "description" => Some(Text),
                "headers" => Some(Map(Self::Header)),
                "content" => Some(Map(Self::MediaType)),
                "links" => Some(Map(Self::Link)),
                _ => None,
            },
            Self::MediaType => match name {
                "encoding" => Some(Map(Self::Encoding)),
                "content" => None,
                _ => content(name),
            },
            Self::Encoding => match name {
                "contentType" | "style" => Some(Text),
                "headers" => Some(Map(Self::Header)),
                "explode" | "allowReserved" => Some(Flag),
                _ => None,
            },
            Self::Example => match name {
                "summary" | "description" | "externalValue" => Some(Text),
                "value" => Some(Data),
                _ => None,
            },
            Self::Link => match name {
                "operationId" | "operationRef" | "description" => Some(Text),
                "parameters" | "requestBody" => Some(Data),
                _ => None,
            },
            // By expressions, which are any text.
            Self::Callback => Some(One(Self::PathItem)),
            Self::SecurityScheme => match name {
                "type" | "description" | "name" | "in" | "scheme" | "bearerFormat" | "openIdConnectUrl" => Some(Text),
                "flows" => Some(Data),
                _ => None,
            },
            Self::ExternalDocs => matches!(name, "url" | "description").then_some(Text),
            Self::Schema => schema(name),
        }
    }
}

/// What parameters, headers and media types have of what they carry.
fn content(name: &str) -> Option<Field> {
    match name {
        "schema" => Some(One(Kind::Schema)),
        "content" => Some(Map(Kind::MediaType)),
        "example" => Some(Data),
        "examples" => Some(Map(Kind::Example)),
        _ => None,
    }
}

fn schema(name: &str) -> Option<Field> {
    match name {
        "properties" => Some(Map(Kind::Schema)),
        "items" | "not" => Some(One(Kind::Schema)),
        "allOf" | "anyOf" | "oneOf" => Some(List(Kind::Schema)),
        "additionalProperties" => Some(SchemaOrFlag),
        "type" | "format" | "title" | "description" | "pattern" => Some(Text),
        "required" => Some(Texts),
        "nullable" | "readOnly" | "writeOnly" | "deprecated" | "uniqueItems" | "exclusiveMinimum"
        | "exclusiveMaximum" => Some(Flag),
        "multipleOf" | "maximum" | "minimum" | "maxLength" | "minLength" | "maxItems" | "minItems"
        | "maxProperties" | "minProperties" => Some(Number),
        "externalDocs" => Some(One(Kind::ExternalDocs)),
        "default" | "enum" | "example" | "xml" | "discriminator" => Some(Data),
        _ => None,
    }
}
