//! Times and numbers as Go writes them into JSON, for clients and scripts that
//! compare or cut text: times end in `Z`, and whole numbers have no fraction.
//!
//! poem writes `+00:00` and `1.0`, which mean the same but break `jq`'s
//! `fromdateiso8601` and shell arithmetic.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::{
    registry::MetaSchemaRef,
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

/// A moment, written as RFC 3339 in UTC with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub DateTime<Utc>);

/// A count or measure, written without a fraction when it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Amount(pub f64);

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl From<f64> for Amount {
    fn from(number: f64) -> Self {
        Self(number)
    }
}

impl ToJSON for Timestamp {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
    }
}

impl ToJSON for Amount {
    fn to_json(&self) -> Option<Value> {
        // Display leaves out a fraction of zero; what is no number becomes null.
        Some(serde_json::from_str(&self.0.to_string()).unwrap_or_default())
    }
}

macro_rules! like {
    ($($name:ident = $inner:ty;)*) => {$(
        impl Type for $name {
            const IS_REQUIRED: bool = true;

            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                <$inner>::name()
            }

            fn schema_ref() -> MetaSchemaRef {
                <$inner>::schema_ref()
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ParseFromJSON for $name {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                <$inner>::parse_from_json(value).map(Self).map_err(ParseError::propagate)
            }
        }
    )*};
}

like! {
    Timestamp = DateTime<Utc>;
    Amount = f64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{from_json, to_json};

    #[test]
    fn times_end_in_z() {
        for (read, written) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T14:00:00.5+02:00", "2026-01-31T12:00:00.500Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            let time: Timestamp = from_json(format!("\"{read}\"").as_bytes()).expect(read);
            assert_eq!(to_json(&time), format!("\"{written}\""));
        }
        assert!(from_json::<Timestamp>(b"\"\"").is_err());
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        for (number, written) in [
            (0.0, "0"),
            (1.0, "1"),
            (29_564_928.0, "29564928"),
            (0.25, "0.25"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(to_json(&Amount(number)), written);
        }
        assert_eq!(from_json::<Amount>(b"3"), Ok(Amount(3.0)));
    }
}
