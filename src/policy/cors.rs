//! Calls from web pages of other origins (WHATWG Fetch, section 3.3).
//!
//! The gateway answers preflight requests and writes the answers' headers; the
//! function's own `Access-Control-*` headers are replaced. Whether a page may
//! read an answer is the browser's decision: calls are never refused here.
//! Pure functions of headers.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::CorsSettings;

const PREFIX: &str = "access-control-";

/// What a function's answers say to browsers.
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    /// `None` is the one asked for.
    methods: Option<HeaderValue>,
    /// `None` is those asked for.
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

#[derive(Debug)]
enum Origins {
    /// `*`.
    Any,
    These(Vec<Pattern>),
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// What is before and behind the `*` that stands for one label or more.
    Below(String, String),
}

impl Cors {
    /// Prepares the headers.
    pub fn new(settings: &CorsSettings) -> Self {
        let origins = if settings.origins.iter().any(|origin| origin == "*") {
            Origins::Any
        } else {
            Origins::These(settings.origins.iter().map(|origin| Pattern::new(origin)).collect())
        };
        let names = |names: &[HeaderName]| list(names.iter().map(HeaderName::as_str));
        Self {
            // Browsers refuse the two together, and everyone with credentials is nobody's wish.
            credentials: settings.credentials && !matches!(origins, Origins::Any),
            origins,
            methods: settings
                .methods
                .as_ref()
                .map(|methods| list(methods.iter().map(Method::as_str))),
            headers: settings.headers.as_deref().map(names),
            expose: Some(names(&settings.expose)).filter(|expose| !expose.is_empty()),
            max_age: settings.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// The headers of the 204 that answers a preflight request; `None` for any
    /// other request. An origin or method that may not call gets an answer
    /// without permission.
    pub fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = request.get(header::ORIGIN)?;
        if method != Method::OPTIONS {
            return None;
        }
        let mut answer = HeaderMap::new();
        vary(&mut answer, &header::ORIGIN);
        vary(&mut answer, &header::ACCESS_CONTROL_REQUEST_METHOD);
        vary(&mut answer, &header::ACCESS_CONTROL_REQUEST_HEADERS);
        if !self.allow(Some(origin), &mut answer) {
            return Some(answer);
        }
        let methods = self.methods.as_ref().unwrap_or(asked);
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        let asked = || request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(headers) = self.headers.as_ref().or_else(asked).filter(|names| !names.is_empty()) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        if let Some(age) = &self.max_age {
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        Some(answer)
    }

    /// Replaces what an answer says to browsers, for a request from `origin`.
    pub fn answer(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        let own: Vec<HeaderName> = answer
            .keys()
            .filter(|name| name.as_str().starts_with(PREFIX))
            .cloned()
            .collect();
        for name in own {
            answer.remove(name);
        }
        if matches!(self.origins, Origins::These(_)) {
            vary(answer, &header::ORIGIN);
        }
        if self.allow(origin, answer)
            && let Some(expose) = &self.expose
        {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// Whether the origin may call; says so.
    fn allow(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) -> bool {
        let Some(origin) = origin else { return false };
        let allowed = match &self.origins {
            Origins::Any => HeaderValue::from_static("*"),
            Origins::These(patterns) if patterns.iter().any(|pattern| pattern.matches(origin)) => origin.clone(),
            Origins::These(_) => return false,
        };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        true
    }
}

impl Pattern {
    /// Browsers write origins in small letters and without a final slash.
    fn new(origin: &str) -> Self {
        let origin = origin.trim_end_matches('/').to_ascii_lowercase();
        match origin.split_once('*') {
            Some((before, behind)) => Self::Below(before.to_owned(), behind.to_owned()),
            None => Self::Exact(origin),
        }
    }

    fn matches(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        // Pages without an origin of their own, such as sandboxed frames, are everybody.
        if origin == "null" {
            return false;
        }
        match self {
            Self::Exact(exact) => origin == exact,
            Self::Below(before, behind) => origin
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(behind.as_str()))
                .is_some_and(|labels| {
                    let ends = |at: Option<char>| at.is_some_and(|end| end != '.');
                    ends(labels.chars().next())
                        && ends(labels.chars().next_back())
                        && labels
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                }),
        }
    }
}

/// Says that the answer depends on this request header.
fn vary(answer: &mut HeaderMap, name: &HeaderName) {
    let said = answer.get_all(header::VARY).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|said| {
                let said = said.trim();
                said == "*" || said.eq_ignore_ascii_case(name.as_str())
            })
        })
    });
    if !said {
        answer.append(header::VARY, HeaderValue::from(name.clone()));
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> HeaderValue {
    let names: Vec<&str> = names.collect();
    // Names of headers and methods are tokens, which are header values.
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::headers::map;

    fn settings(origins: &[&str]) -> CorsSettings {
        CorsSettings {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            methods: None,
            headers: None,
            expose: Vec::new(),
            credentials: false,
            max_age: None,
        }
    }

    #[test]
    fn which_origins_may_call() {
        for (origins, origin, allowed) in [
            (&["https://app.example"][..], "https://app.example", true),
            (&["https://APP.example/"], "https://app.example", true),
            (&["https://app.example"], "http://app.example", false),
            (&["https://app.example"], "https://app.example:8443", false),
            (&["https://app.example"], "https://app.example.evil", false),
            (&["https://a", "https://b"], "https://b", true),
            (&["https://*.example"], "https://a.example", true),
            (&["https://*.example"], "https://a.b.example", true),
            (&["https://*.example"], "https://example", false),
            (&["https://*.example"], "https://.example", false),
            (&["https://*.example"], "https://..example", false),
            (&["https://*.example"], "https://evil/.example", false),
            (&["https://*.example"], "https://evil:1.example", false),
            (&["https://*.example"], "https://me@a.example", false),
            (&["https://*.example"], "https://aexample", false),
            (&["https://*.example"], "https://a.example:81", false),
            (&["https://*.example:81"], "https://a.example:81", true),
            (&["https://*.example"], "null", false),
            (&["null"], "null", false),
        ] {
            let cors = Cors::new(&settings(origins));
            let mut answer = map(&[("access-control-allow-origin", "*")]);
            cors.answer(Some(&HeaderValue::from_static(origin)), &mut answer);
            let found = answer
                .get("access-control-allow-origin")
                .and_then(|value| value.to_str().ok());
            assert_eq!(found, allowed.then_some(origin), "{origins:?} {origin}");
            assert_eq!(answer["vary"], "origin", "whether or not it may");
        }
    }

    #[test]
    fn everyone_without_credentials() {
        let cors = Cors::new(&CorsSettings {
            credentials: true,
            ..settings(&["https://a", "*"])
        });
        for origin in ["https://b", "null"] {
            let mut answer = HeaderMap::new();
            cors.answer(Some(&HeaderValue::from_static(origin)), &mut answer);
            assert_eq!(answer, map(&[("access-control-allow-origin", "*")]), "{origin}");
        }
    }

    #[test]
    fn preflights_are_answered() {
        let plain = settings(&["https://a"]);
        let full = CorsSettings {
            methods: Some(vec![Method::GET, Method::PUT]),
            headers: Some(vec![header::CONTENT_TYPE, header::ACCEPT]),
            expose: vec![header::ETAG],
            credentials: true,
            max_age: Some(Duration::from_secs(600)),
            ..plain.clone()
        };
        let vary = "origin; access-control-request-method; access-control-request-headers";
        for (settings, origin, asked, expected) in [
            (
                &plain,
                "https://a",
                Some("x-one, x-two"),
                &[
                    ("allow-origin", "https://a"),
                    ("allow-methods", "PATCH"),
                    ("allow-headers", "x-one, x-two"),
                ][..],
            ),
            (
                &plain,
                "https://a",
                None,
                &[("allow-origin", "https://a"), ("allow-methods", "PATCH")],
            ),
            (
                &full,
                "https://a",
                Some("x-one"),
                &[
                    ("allow-origin", "https://a"),
                    ("allow-credentials", "true"),
                    ("allow-methods", "GET, PUT"),
                    ("allow-headers", "content-type, accept"),
                    ("max-age", "600"),
                ],
            ),
            (&full, "https://b", None, &[]),
        ] {
            let mut request = map(&[("access-control-request-method", "PATCH")]);
            request.insert("origin", HeaderValue::from_static(origin));
            if let Some(asked) = asked {
                request.insert("access-control-request-headers", HeaderValue::from_static(asked));
            }
            let mut answer = Cors::new(settings)
                .preflight(&Method::OPTIONS, &request)
                .expect("a preflight");
            let varies: Vec<_> = answer
                .get_all("vary")
                .iter()
                .map(|value| value.to_str().expect("text"))
                .collect();
            assert_eq!(varies.join("; "), vary);
            answer.remove("vary");
            let mut found: Vec<(String, &str)> = answer
                .iter()
                .map(|(name, value)| (name.as_str().replace(PREFIX, ""), value.to_str().expect("text")))
                .collect();
            found.sort();
            let mut expected: Vec<(String, &str)> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect();
            expected.sort();
            assert_eq!(found, expected, "{origin} {asked:?}");
        }
    }

    #[test]
    fn other_requests_are_no_preflights() {
        let cors = Cors::new(&settings(&["*"]));
        let preflight = [("origin", "https://a"), ("access-control-request-method", "GET")];
        for (method, request) in [
            (Method::GET, &preflight[..]),
            (Method::OPTIONS, &preflight[..1]),
            (Method::OPTIONS, &preflight[1..]),
        ] {
            assert!(cors.preflight(&method, &map(request)).is_none(), "{method} {request:?}");
        }
    }

    #[test]
    fn the_functions_own_word_is_replaced_and_its_vary_kept() {
        let cors = Cors::new(&CorsSettings {
            expose: vec![header::ETAG],
            ..settings(&["https://a"])
        });
        let own = [
            ("access-control-allow-origin", "https://evil"),
            ("access-control-allow-credentials", "true"),
            ("vary", "Accept"),
        ];
        let answered = |origin: Option<&'static str>, given: &[(&'static str, &'static str)]| {
            let mut answer = map(given);
            cors.answer(origin.map(HeaderValue::from_static).as_ref(), &mut answer);
            answer
        };
        assert_eq!(
            answered(Some("https://a"), &own),
            map(&[
                ("vary", "Accept"),
                ("vary", "origin"),
                ("access-control-allow-origin", "https://a"),
                ("access-control-expose-headers", "etag"),
            ])
        );
        let neutral = map(&[("vary", "Accept"), ("vary", "origin")]);
        assert_eq!(answered(Some("https://b"), &own), neutral);
        assert_eq!(answered(None, &own), neutral);
        for said in ["*", "Accept, ORIGIN"] {
            assert_eq!(answered(None, &[("vary", said)]), map(&[("vary", said)]));
        }
    }
}
