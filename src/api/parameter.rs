//! Query parameters as Go's servers read them: the last value wins, and a
//! value that does not fit is the handler's to judge, not a 400 of the
//! framework. The document still shows the real type.

use std::{borrow::Cow, marker::PhantomData};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseFromParameter, ParseResult, Type},
};

use super::{pattern, store::ARCHITECTURES};
use crate::queue::State;

/// Most entries of one part of a list.
pub(super) const MOST: u32 = 500;

/// The last value of a query parameter, documented as `S`.
pub(super) struct Last<S>(pub String, PhantomData<S>);

/// What the document says about a parameter.
pub(super) trait Shape: Send + Sync + 'static {
    /// Its schema.
    fn schema() -> MetaSchema;
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $($(#[$doc])* pub(super) struct $name; impl Shape for $name { fn schema() -> MetaSchema { $schema } })*
    };
}

fn format(ty: &'static str, format: &'static str) -> MetaSchema {
    MetaSchema {
        format: Some(format),
        ..MetaSchema::new(ty)
    }
}

shapes! {
    /// Any text.
    Text = MetaSchema::new("string");
    /// The name of a function, with or without its namespace.
    Name = MetaSchema {
        pattern: Some(pattern::NAME.to_owned()),
        max_length: Some(pattern::NAME_LEN),
        ..MetaSchema::new("string")
    };
    /// The same, or nothing, which is as good as absent: also for a namespace.
    NameOrNone = MetaSchema {
        pattern: Some(pattern::NAME_OR_EMPTY.to_owned()),
        max_length: Some(pattern::NAME_LEN),
        ..MetaSchema::new("string")
    };
    /// The state of an asynchronous call.
    CallState = MetaSchema {
        enum_items: State::ALL.into_iter().map(|state| state.as_str().into()).collect(),
        ..MetaSchema::new("string")
    };
    /// What an image is for.
    Architecture = MetaSchema {
        enum_items: ARCHITECTURES.into_iter().map(Into::into).collect(),
        ..MetaSchema::new("string")
    };
    /// `true` or `1`.
    Flag = MetaSchema::new("boolean");
    /// A whole number.
    Whole = format("integer", "int64");
    /// How many entries of a list.
    Limit = MetaSchema {
        minimum: Some(1.0),
        maximum: Some(f64::from(MOST)),
        ..format("integer", "int32")
    };
    /// An RFC 3339 time.
    Time = format("string", "date-time");
}

impl<S: Shape> Type for Last<S> {
    const IS_REQUIRED: bool = true;

    type RawValueType = String;
    type RawElementValueType = String;

    fn name() -> Cow<'static, str> {
        S::schema().ty.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(S::schema()))
    }

    fn as_raw_value(&self) -> Option<&String> {
        Some(&self.0)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a String> + 'a> {
        Box::new(std::iter::once(&self.0))
    }
}

impl<S: Shape> ParseFromParameter for Last<S> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Ok(Self(value.to_owned(), PhantomData))
    }

    /// A required parameter that is absent reads as empty, for its handler to
    /// refuse in words of its own.
    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(values: I) -> ParseResult<Self> {
        let last = values.into_iter().last();
        Self::parse_from_parameter(last.as_ref().map_or("", AsRef::as_ref))
    }
}

/// The text of an optional parameter; an empty one counts as absent.
pub(super) fn text<S>(parameter: Option<Last<S>>) -> Option<String> {
    parameter.map(|last| last.0).filter(|text| !text.is_empty())
}

/// A boolean as Go reads one; anything else is `false`.
pub(super) fn flag(parameter: Option<Last<Flag>>) -> bool {
    parameter.is_some_and(|last| matches!(last.0.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}
