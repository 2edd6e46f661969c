//! The plain values of the configuration: text, numbers, switches, durations,
//! sizes, shares, addresses, URLs. Each reads text as well as its TOML form,
//! because the environment has only text.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use figment::value::Value;
use serde_json::{Value as Json, json};
use url::Url;

use super::{
    duration,
    entry::{Entry, MASK, mask_url, one_line, toml_text},
    ratio::Ratio,
    schema,
    setting::{Reader, Setting, entry},
    size::Size,
};

/// Text of a scalar: numbers and booleans read as they were written.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(..) => value
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| value.to_u128().map(|number| number.to_string()))
            .or_else(|| value.to_f64().map(|number| number.to_string())),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Char(_, character) => Some(character.to_string()),
        Value::Dict(..) | Value::Array(..) | Value::Empty(..) => None,
    }
}

/// Reads a scalar with a parser, naming what was expected.
pub(super) fn scalar<T>(
    value: &Value,
    reader: &mut Reader,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let written = text(value);
    let read = written.as_deref().and_then(parse);
    if read.is_none() {
        let found = written.map_or_else(
            || "a table or list".to_owned(),
            |text| {
                let secret = reader.is_secret(value);
                let shown = if secret {
                    MASK.to_owned()
                } else {
                    // What is no value of its key may be one of another key.
                    one_line(&mask_url(&text))
                };
                format!("'{shown}'")
            },
        );
        reader.fail(value, format!("expected {expected}, found {found}"));
    }
    read
}

impl Setting for bool {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "true or false", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, self.to_string(), out);
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
                let expected = format!("a whole number up to {}", <$type>::MAX);
                scalar(value, reader, &expected, |text| text.parse().ok())
            }

            fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
                entry(path, self.to_string(), out);
            }

            fn schema() -> Json {
                json!({ "type": "integer", "minimum": 0, "maximum": <$type>::MAX })
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl Setting for String {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "text", |text| Some(text.to_owned()))
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(self), out);
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Setting for PathBuf {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "a path", |text| {
            (!text.is_empty()).then(|| Self::from(text))
        })
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(&self.to_string_lossy()), out);
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Setting for Duration {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(
            value,
            reader,
            "a duration such as 60, \"60s\" or \"1m30s\"",
            duration::parse,
        )
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(&duration::format(*self)), out);
    }

    fn schema() -> Json {
        json!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^(\d+|\+?0|\+?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$",
            "examples": ["60s", "1m30s", "250ms", 60],
        })
    }
}

impl Setting for Size {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "a size such as 4096 or \"64KiB\"", Self::parse)
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(&self.to_string()), out);
    }

    fn schema() -> Json {
        json!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\d+\s*([bBkK]|[kK]B|[KMGT]i?B?)?\s*$",
            "examples": ["64KiB", "1MiB", 4096],
        })
    }
}

impl Setting for SocketAddr {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "an address such as 127.0.0.1:8080", |text| {
            let text = text
                .strip_prefix(':')
                .map_or_else(|| text.to_owned(), |port| format!("0.0.0.0:{port}"));
            text.parse().ok().or_else(|| {
                text.starts_with("localhost:")
                    .then(|| text.to_socket_addrs().ok()?.next())?
            })
        })
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(&self.to_string()), out);
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r":\d+$", "examples": ["127.0.0.1:8080"] })
    }
}

impl Setting for Url {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "an http or https URL", |text| {
            let url = Self::parse(text).ok()?;
            (matches!(url.scheme(), "http" | "https") && url.host().is_some()).then_some(url)
        })
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, toml_text(self.as_str()), out);
    }

    fn schema() -> Json {
        json!({
            "type": "string",
            "format": schema::URL,
            "pattern": "^[hH][tT][tT][pP][sS]?:",
            "examples": ["http://127.0.0.1:8081/"],
        })
    }
}

impl Setting for Ratio {
    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        scalar(value, reader, "a share such as 0.2 or \"20%\"", Self::parse)
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        entry(path, self.to_string(), out);
    }

    fn schema() -> Json {
        json!({ "type": ["number", "string"], "minimum": 0, "maximum": 1, "pattern": r"^[\d.]+\s*%?$", "examples": [0.2, "20%"] })
    }
}
